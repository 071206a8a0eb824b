"""The sentences of SECURITY.md, and the table of ``docs/promises.md`` that names the tests of each promise."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECURITY = ROOT / "SECURITY.md"
TABLE = ROOT / "docs/promises.md"


def list_sentences(page: str) -> list[str]:
    """List the sentences, list items and table rows of a page, without its headings and blocks of code."""
    found: list[str] = []
    paragraph: list[str] = []
    is_code = False

    def end_paragraph() -> None:
        text = " ".join(paragraph)
        found.extend(filter(None, re.split(r"(?:(?<=[.:])|(?<=[.:]\*\*)) +(?=[A-Z`*])", text)))
        paragraph.clear()

    for line in page.splitlines():
        is_code ^= line.startswith("```")
        is_end = is_code or not line.strip() or line.startswith(("#", "```", "- ", "|"))
        if is_end:
            end_paragraph()
        if line.startswith("|"):
            found.append(line.strip("| "))
        elif not (is_code or line.startswith(("#", "```"))):
            paragraph.append(line.strip().removeprefix("- ").strip())
    end_paragraph()
    return [" ".join(text.replace("**", "").split()) for text in found if not re.fullmatch(r"[-| ]*", text)]


def read_table(page: str) -> dict[str, list[str]]:
    """Return the tests, by node id, of each promise in the tables of a page."""
    found: dict[str, list[str]] = {}
    for promise, tests in re.findall(r"^\| (.+) \| ([^|]+) \|$", page, re.MULTILINE):
        if ids := re.findall(r"`(tests/[^`]+::[^`]+)`", tests):
            # a row of a table in SECURITY.md has a bar of its own
            found[promise.replace(r"\|", "|")] = ids
    return found


NO_PROMISE = {
    "a lead-in or a heading": (
        "reach a tracker.",
        *("This page describes", "Therefore:", "protection | how", "What a token grants.", "What a token does not"),
        *("`ungan-dist tls` sets up Ray's TLS:", "Ray's TLS leaves out", "what crosses the network in plain text |"),
        *("Ray keeps an existing file:", "An output folder contains:", "where | what it reveals", "These stay:"),
        *("the aggregates:", "It is also 3 if", "`purge` cannot", "clean other runs.", "recognise a person"),
        *(
            "wipe a disk.",
            "reach object storage.",
            "reach a cluster's memory",
            "make a published aggregate private.",
        ),
    ),
    "describes Ray, attackers, people or data": (
        *("Two things here are worth stealing", "A Ray cluster executes code", "It has no users and no roles"),
        *("Attackers have taken over", "*Separation.*", "*The metrics port.*", "*Expiry.*", "Ray's object store ends"),
        *("A run of your own model names", "A run has to hold what it audits.", "Prepared data and the log-odds"),
        *(
            "The same images may have been prepared",
            "Aggregates over fewer than 10",
            "A method, a training function or an augmentation",
        ),
        "Commands that take a recipe's options import it",
    ),
    "warns of what is possible": (
        *("Its holder may run any code", "*Secrecy.*", "They find accidents.", "Recipes and models of other people"),
        *("`data/` | their images", "`RUN/models/<seed>/original", "`RUN/log_odds/`", "`RUN/membership.npy`"),
        *("`RUN/models/<seed>/<method>", "An original that another run trained", "Images are compared pixel by pixel"),
        *("the dashboard and its Jobs API:", "the metrics of Prometheus:", "`--train.num-workers` and `torchrun`:"),
        *("object storage with `scheme=http` |", "the shared folder:"),
        *("It deletes files.", "Disk blocks, snapshots", "reach the source of the data", "Messages about lists"),
    ),
    "advises the reader": (
        *("The date is that of the signer's clock", "What MLflow and W&B keep"),
        *("Between machines, use a tunnel", "For traffic between nodes", "People who must not see"),
        *("Whoever has `authority.key`", "After a renewal, restart Ray", "There is no list of revoked certificates"),
        *("When somebody leaves", "Never put it into a repository", "Python itself does", "An author who changes"),
        *("An output folder therefore", "The reliable way is", "With an `s3://` output", "Its session folder ("),
        *("Accuracies and rates over", "Use the repository's private advisories"),
    ),
    "is kept by people, not by code": ("A confirmed vulnerability is fixed",),
}
"""The beginnings of all other sentences, by the reason for which no test can show them."""
