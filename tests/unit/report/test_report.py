from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from synthetic_report import make_report

import ungan_dist.report
from ungan_dist.attack.evidence import ForgetExample, Normality, Report
from ungan_dist.report import render
from ungan_dist.report.cells import format_gap, format_signed
from ungan_dist.report.conclusions import MEANINGS, list_caveats
from ungan_dist.report.html import TEMPLATES, make_policy, read_script
from ungan_dist.runs.snapshot import from_plain, to_plain

SCHEMA = json.loads((Path(ungan_dist.report.__file__).parent / "table.schema.json").read_text())
HOSTILE = '<script>alert("x")</script> & $\\frac | `rm` [a](http://evil.example)'
TWO = ("original", "retrain")
THREE = ("original", "retrain", "ungan")
VOID = {"meta", "br", "img", "input"}


@pytest.fixture(scope="module")
def three() -> tuple[Report, dict[str, bytes]]:
    report = make_report(3, methods=THREE)
    return report, render(report)


@pytest.fixture(scope="module")
def partial() -> tuple[Report, dict[str, bytes]]:
    report = make_report(1, status="PARTIAL", missing=["shadow unit 7", "ungan <seed 2>"], methods=TWO)
    return report, render(report)


@pytest.fixture(scope="module")
def hostile() -> dict[str, bytes]:
    report = make_report(1, title=HOSTILE, methods=TWO)
    rows = [dataclasses.replace(row, title=f"{row.title} {HOSTILE}") for row in report.rows]
    evidence = [dataclasses.replace(e, curves={HOSTILE: [2.0, 1.0]}) for e in report.evidence]
    return render(
        dataclasses.replace(
            report,
            rows=rows,
            evidence=evidence,
            recipe=HOSTILE,
            config={"identity": {HOSTILE: HOSTILE}},
            resolved={HOSTILE: [HOSTILE]},
            versions={HOSTILE: HOSTILE},
            shadow_quality={HOSTILE: 0.5},
            forget_files=[HOSTILE],
            status="PARTIAL",
            missing=[HOSTILE],
        )
    )


class Elements(HTMLParser):
    """Every start tag with its attributes; unbalanced tags fail."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.text = ""
        self.feed(page.decode())
        assert not self.stack, self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_same_report_same_bytes(three: tuple[Report, dict[str, bytes]]) -> None:
    assert render(make_report(3, methods=THREE)) == three[1]


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_table_json_follows_its_schema(num_seeds: int, three: tuple, partial: tuple) -> None:
    report, files = three if num_seeds == 3 else partial
    table = json.loads(files["table.json"])
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(table, SCHEMA)
    assert [row["method"] for row in table["rows"]] == [row.method for row in report.rows]
    for shown, row in zip(table["rows"], report.rows, strict=True):
        assert shown["auc"]["mean"] == pytest.approx(row.auc.mean, abs=5e-7)
        assert shown["tpr_at_fpr"]["0.001"] == "n/a (needs ≥ 1,000 never-seen examples)"


def test_schema_refuses_a_missing_or_unknown_field(partial: tuple) -> None:
    table = json.loads(partial[1]["table.json"])
    for wrong in ({**table, "more": 1}, {key: value for key, value in table.items() if key != "rows"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)


def test_table_json_does_not_depend_on_the_machine(three: tuple) -> None:
    report, files = three
    changed = dataclasses.replace(
        report,
        versions={"torch": "0"},
        resolved={},
        forget_files=["elsewhere"],
        evidence=[dataclasses.replace(e, unlearning_seconds=e.unlearning_seconds + 1) for e in report.evidence],
        shadow_quality={key: value + 1e-12 for key, value in report.shadow_quality.items()},
    )
    from ungan_dist.report.table_json import build_table, to_json

    assert to_json(build_table(changed)) == files["table.json"]


def test_json_is_sorted_finite_and_without_negative_zero() -> None:
    from ungan_dist.report.table_json import to_json

    written = to_json({"b": [-1e-9, 0.12345649, float("nan")], "a": np.float64(0.5), "δ": 1})
    assert written.decode() == '{\n  "a": 0.5,\n  "b": [\n    0.0,\n    0.123456,\n    null\n  ],\n  "δ": 1\n}\n'


def test_timings_are_in_a_separate_file(three: tuple) -> None:
    report, files = three
    timings = json.loads(files["timings.json"])
    seconds = [e.unlearning_seconds for e in report.evidence if e.method == "ungan"]
    shown = timings["methods"]["ungan"]
    assert shown["per_seed"] == {str(seed): pytest.approx(value, abs=1e-6) for seed, value in enumerate(seconds)}
    assert shown["mean"] == pytest.approx(np.mean(seconds), abs=1e-6)
    assert b"second" not in files["table.json"]


def test_page_loads_nothing_and_is_balanced(three: tuple, hostile: dict[str, bytes]) -> None:
    for page in (three[1]["report.html"], hostile["report.html"]):
        elements = Elements(page)
        assert ("meta", {"http-equiv": "Content-Security-Policy", "content": make_policy()}) in elements.found
        assert [attributes for tag, attributes in elements.found if tag == "script"] == [{}]
        [script] = re.findall(r"<script>(.*?)</script>", page.decode(), flags=re.DOTALL)
        assert script == (TEMPLATES / "report.js").read_text() == read_script()
        for tag, attributes in elements.found:
            assert tag not in {"img", "link", "iframe", "object", "base"}
            for name, value in attributes.items():
                assert not name.startswith("on"), (tag, name)
                if name.endswith("href") or name == "src":
                    assert value is not None
                    assert value.startswith("#"), (tag, value)
        assert not re.search(rb"@import|url\((?!#)", page)


def test_ids_on_the_page_are_unique_and_referred_to(three: tuple) -> None:
    elements = Elements(three[1]["report.html"])
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = set(re.findall(rb'(?:href="|url\()#([^")]+)', three[1]["report.html"]))
    assert references
    assert {reference.decode() for reference in references} <= set(ids)


def test_the_policy_allows_the_own_script_alone() -> None:
    digest = base64.b64encode(hashlib.sha256(read_script().encode()).digest()).decode()
    directives = dict(part.strip().split(" ", 1) for part in make_policy().split(";"))
    assert directives.pop("default-src") == "'none'"
    assert directives.pop("script-src") == f"'sha256-{digest}'"
    assert directives == {"style-src": "'unsafe-inline'", "img-src": "data:"}
    assert "</" not in read_script()


def test_a_row_links_to_its_own_section_with_its_figures(three: tuple) -> None:
    report, files = three
    page = files["report.html"].decode()
    for row in report.rows:
        assert f'<a class="value" href="#method-{row.method}">{row.title}</a>' in page
        [section] = re.findall(rf'<details [^>]*id="method-{row.method}">.*?</details>', page, flags=re.DOTALL)
        assert section.count("<svg ") == 2 + len({loss for e in report.evidence for loss in e.curves
                                                  if e.method == row.method})  # fmt: skip
        assert f"The attack&#39;s AUC is {row.auc.mean:.3f}" in section
        if row.verdict.gap is not None:
            side = "above" if row.verdict.gap.mean >= 0 else "below"
            assert f"{abs(row.verdict.gap.mean):.3f} {side} Retrain&#39;s" in section
            gap = f"{format_signed(row.verdict.gap.mean)} {format_gap(row.verdict.gap)}"
            assert re.search(rf"Gap in AUC, 90 % interval</th><td>{re.escape(gap)}</td>", section)


def test_the_band_of_a_roc_is_the_range_over_the_seeds(three: tuple, partial: tuple) -> None:
    # one seed has no band
    for files, num_bands in ((three[1], 2), (partial[1], 0)):
        svg = files["figures/roc_of_retrain.svg"].decode()
        assert svg.count("fill-opacity: 0.16") == num_bands


def test_names_of_points_do_not_overlap() -> None:
    from ungan_dist.report.overview_figures import spread

    rng = np.random.default_rng(3)
    for count in (1, 2, 7, 18):
        wanted = np.sort(rng.choice([0.0, 0.01, 5.0], count))
        heights = spread(wanted.tolist(), -1.0, 6.0)
        assert len(heights) == count
        assert -1 < heights[0] <= heights[-1] < 6
        assert np.all(np.diff(heights) >= min(0.055, 1 / (count + 1)) * 7 - 1e-9)


def test_the_largest_page_stays_below_its_limit(three: tuple) -> None:
    # the largest recipe has 19 rows
    assert 19 / 3 * len(three[1]["report.html"]) < 1.5e6


def test_hostile_text_is_escaped(hostile: dict[str, bytes]) -> None:
    elements = Elements(hostile["report.html"])
    assert elements.text.count('<script>alert("x")</script>') > 10
    markdown = hostile["table.md"].decode()
    assert "<script" not in markdown
    for line in markdown.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", _header_line(markdown)))
    for name, content in hostile.items():
        if name.endswith(".svg"):
            assert re.fullmatch(r"figures/[A-Za-z0-9_]+\.svg", name)
            assert not [e for e in ElementTree.fromstring(content).iter() if e.tag.endswith("script")]


def test_hostile_names_of_examples_are_escaped() -> None:
    quoted = f'"><b onclick="x">{HOSTILE}'
    example = ForgetExample(id=3, label=quoted, png=b"png", scores={quoted: 1.0})
    report = dataclasses.replace(make_report(1, methods=TWO), examples=[example], run_hash=quoted)
    elements = Elements(render(report)["report.html"])
    assert elements.text.count(quoted) == 3
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert ("code", {"title": quoted}) in elements.found


def test_normality_and_sensitivity_are_on_the_page_and_in_the_table() -> None:
    report = dataclasses.replace(
        make_report(1, methods=TWO),
        normality=Normality(rejected_in=0.311, rejected_out=0.06, num_tested=800),
        sensitivity={"original": {16: 0.61, 32: 0.65, 64: 0.7004}, "retrain": {16: 0.5, 32: 0.51, 64: 0.5}},
    )
    files = render(report)
    table = json.loads(files["table.json"])
    jsonschema.validate(table, SCHEMA)
    assert table["normality"]["rejected_in"] == 0.311
    assert table["sensitivity"]["original"] == {"16": 0.61, "32": 0.65, "64": 0.7004}
    text = " ".join(Elements(files["report.html"]).text.split())
    for words in ("finds 31 % of the IN and 6 % of the OUT log-odds not Gaussian", "LiRA may therefore be weaker"):
        assert words in text
        assert words in files["table.md"].decode()
    assert "16 shadow models32 shadow models64 shadow models" in text
    assert "Original0.6100.6500.700" in text
    restored = from_plain(json.loads(json.dumps(to_plain(report))))
    assert restored.normality == report.normality
    assert list_caveats(restored)[0] == list_caveats(report)[0]
    few = dataclasses.replace(report, normality=dataclasses.replace(report.normality, rejected_in=0.08))
    assert not any("may therefore be weaker" in text for text in list_caveats(few))


def test_a_section_shows_all_attacks_side_by_side(three: tuple) -> None:
    report, files = three
    page = files["report.html"].decode()
    for row in report.rows:
        region = re.search(rf'aria-label="Attacks on {row.title}".*?</div>', page, re.DOTALL)
        assert region is not None
        lines = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', region[0])
        assert [name.removesuffix(", decides") for name, _ in lines] == ["LiRA", "RMIA", "loss"]
        for (name, cells), found in zip(lines, row.attacks.values(), strict=True):
            assert f"<td>{found.auc.mean:.3f} [" in cells
            if found.corrected_gap is not None:
                assert f"at {100 * found.corrected_gap.level:.4g} %" in cells
            assert name.endswith(", decides") == (
                row.verdict.outcome not in ("reference",) and found is row.attacks[row.verdict.attack]
            )


def test_every_verdict_word_is_explained_on_the_page(three: tuple) -> None:
    text = Elements(three[1]["report.html"]).text
    outcomes = {row.verdict.outcome for row in three[0].rows}
    assert len(outcomes) > 2
    for outcome in outcomes:
        assert text.count(MEANINGS[outcome]) == 1, outcome


def _header_line(markdown: str) -> str:
    return next(line for line in markdown.splitlines() if line.startswith("| Method"))


def test_every_figure_is_a_file_and_on_the_page(three: tuple) -> None:
    report, files = three
    names = {name for name in files if name.startswith("figures/")}
    assert {"figures/roc_a.svg", "figures/roc_b.svg", "figures/roc_b_flipped.svg"} <= names
    assert {f"figures/log_odds_{row.method}.svg" for row in report.rows} <= names
    losses = {(e.method, loss) for e in report.evidence for loss in e.curves}
    assert sum(name.startswith("figures/curve_") for name in names) == len(losses)
    for name in names:
        assert ElementTree.fromstring(files[name]).tag.endswith("svg")
        assert b"<dc:date>" not in files[name]
    assert files["report.html"].count(b"<svg ") == len(names)


def test_the_first_figures_are_gaps_beside_accuracies_and_losses_against_gaps(three: tuple) -> None:
    report, files = three
    page = Elements(files["report.html"]).text
    assert page.index("A good method is in the band and on the line") < page.index(
        "A good method is in the band and below"
    )
    assert page.index("A good method is in the band and below") < page.index("Verdict, from (b) alone")
    forest, utility = (files[f"figures/{name}.svg"].decode() for name in ("forest", "utility"))
    for row in report.rows:
        assert row.title in forest
        assert (row.title in utility) == bool(row.loss)
    # with another gap, figures move
    [*others, last] = report.rows
    gap = last.verdict.gap
    moved = dataclasses.replace(last.verdict, gap=dataclasses.replace(gap, mean=gap.mean + 0.01))
    changed = render(dataclasses.replace(report, rows=[*others, dataclasses.replace(last, verdict=moved)]))
    assert changed["figures/forest.svg"].decode() != forest
    assert changed["figures/utility.svg"].decode() != utility


def test_a_partial_report_lists_missing_units(partial: tuple, three: tuple) -> None:
    files = partial[1]
    page = Elements(files["report.html"]).text
    assert page.index("PARTIAL") < page.index("Verdict, from (b) alone") < page.index("What may be concluded")
    assert "ungan <seed 2>" in page
    assert "> - ungan &lt;seed 2&gt;" in files["table.md"].decode()
    assert json.loads(files["table.json"])["missing"] == ["shadow unit 7", "ungan <seed 2>"]
    assert b"PARTIAL" not in b"".join(three[1].values())


def test_a_report_without_results_renders() -> None:
    files = render(make_report(1, status="PARTIAL", methods=()))
    assert b"No method has been scored yet" in files["report.html"]
    assert b"No method has been scored yet" in files["table.md"]
    jsonschema.validate(json.loads(files["table.json"]), SCHEMA)
    assert not any(name.startswith("figures/") for name in files)


def test_no_file_names_an_example(partial: tuple) -> None:
    # moving all positions would change any file that contains one
    report, files = partial
    moved = []
    for e in report.evidence:
        padded = np.zeros(987_000)
        far = {name: getattr(e, name) + 986_000 for name in ("retain", "forget", "non_members")}
        log_odds = np.zeros((987_000, 2), dtype=np.float32)
        padded[986_000 : 986_000 + len(e.scores)] = e.scores
        log_odds[986_000 : 986_000 + len(e.scores)] = e.log_odds
        moved.append(dataclasses.replace(e, scores=padded, log_odds=log_odds, further_scores={}, **far))
    assert render(dataclasses.replace(report, evidence=moved)) == files


def test_forget_files_are_listed(three: tuple) -> None:
    report, files = three
    for name in report.forget_files:
        assert name in Elements(files["report.html"]).text
        assert name.split("/")[-1].split("_")[0] in files["table.md"].decode()
    assert "data/digits/images.npy</code>: the images</li>" in files["report.html"].decode()


def test_every_file_that_a_run_lists_has_a_meaning_and_is_that_of_security(finished_run: Path) -> None:
    page = (finished_run / "run/report.html").read_text()
    section = page.split("Files that still hold forget data</h2>")[1].split("</section>")[0]
    items = re.findall(r"<li><code>(.+?)</code>(.*?)</li>", section)
    assert all(": " in meaning for _, meaning in items)
    there = {path.relative_to(finished_run).as_posix() for path in finished_run.rglob("*") if path.is_file()}
    listed = {path for pattern, _ in items for path in map(str, finished_run.glob(pattern))}
    listed |= {str(finished_run / "run/report.html")} if any(name == "report.html" for name, _ in items) else set()
    # a purge removes exactly these files, and what names nobody
    personal = [name for name in there if name.endswith((".npy", ".safetensors", ".html", ".beton"))]
    assert {str(finished_run / name) for name in personal} <= listed


def test_importing_the_package_does_not_import_matplotlib() -> None:
    code = (
        "import sys, ungan_dist, ungan_dist.report, ungan_dist.report.html, ungan_dist.report.terminal;"
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_global_state_is_unchanged() -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 31, "axes.grid": False}):
        before = {key: mpl.rcParams[key] for key in mpl.rcParams if key != "backend"}
        files = render(make_report(1, methods=("original",)))
        assert {key: mpl.rcParams[key] for key in before} == before
    # the user's settings do not affect the figures
    assert render(make_report(1, methods=("original",))) == files
    assert "matplotlib.pyplot" not in sys.modules


def test_the_page_begins_with_verdict_counts_and_provenance(three: tuple) -> None:
    page = Elements(three[1]["report.html"]).text
    head = " ".join(page[: page.index("Verdict, from (b) alone")].split())
    assert "Of 1 unlearning method, 1 matches retraining (equivalent)." in head
    assert "δ = 0.05. Power: " in head
    assert "torch 2.14.0" in head


def test_the_attacks_own_check_is_explained_with_a_real_superscript() -> None:
    report = make_report(1, methods=TWO)
    report = dataclasses.replace(report, shadow_quality={"LiRA AUC of the original, D against D^s": 0.622})
    page = render(report)["report.html"].decode()
    assert "D against D<sup>s</sup>: 0.622" in page
    assert ".5 is chance" in page


def test_curves_are_labelled_in_words_without_an_offset() -> None:
    report = make_report(1, methods=("retrain", "ungan"))
    flat = [1.0 + 1e-6 * step for step in range(12)]
    evidence = [dataclasses.replace(e, curves={"fine_tuning": flat, "critic": flat}) for e in report.evidence]
    files = render(dataclasses.replace(report, evidence=evidence))
    svg = files["figures/curve_ungan_fine_tuning.svg"].decode()
    assert "fine tuning loss" in svg
    for name, title in (("ungan_critic", "UnGAN"), ("retrain_critic", "Retrain")):
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", files[f"figures/curve_{name}.svg"].decode())
        assert texts[-2:] == [title, "critic loss"]
    assert not re.search(r">\s*(\+1|1e)", svg)


def test_every_row_of_the_largest_recipe_has_its_own_colour() -> None:
    from ungan_dist.config.recipes import digits
    from ungan_dist.report.figures import COLOURS

    assert len(set(COLOURS)) == len(COLOURS) >= len(digits().methods)
