"""The text above a recipe's options: the few that most people need, examples and exit codes."""

from __future__ import annotations

import textwrap

_OWN = {
    "--model MODULE:FUNCTION": "the function that returns your nn.Module, found from the current folder",
    "--source.path PATH": "your pictures or table: folders, Parquet or .npz",
    "--forget LIST": "the examples to forget, one id or index per line",
    "--original WEIGHTS": "the trained weights; without them, the original is trained here",
    "--members LIST": "the examples that the original was trained on",
    "--train.epochs N": "with --train.batch-size and --train.learning-rate: as the original was trained",
    "--source.mean M M M": "with --source.std: the normalisation that the original was trained with",
    "--source.resize N": "bring pictures of different sizes to one",
}
_EVERY = {
    "--methods NAME,NAME,…": "rows of the table, for example original,retrain,ungan",
    "--num-seeds N": "audit seeds; more of them narrow the intervals",
    "--until decided": "add seeds until all is decided",
    "--shadows.num-models N": "shadow models; more of them make the attack stronger",
    "--attack.delta D": "the margin within which a method counts as equivalent to Retrain",
    "--output DIR": "folder of the runs, or object storage",
    "--cluster auto": "use your Ray cluster on this machine, or start one",
    "--execution.progress KIND": "auto, rich, plain, json or none",
}
_EXAMPLES = {
    "custom": (
        "ungan-dist plan custom --model models:build --source.path pictures",
        "ungan-dist run custom --model models:build --original weights.safetensors "
        "--source.path pictures --forget forget.csv --members trained_on.csv",
        "ungan-dist run custom --model models:build --source.path pictures --methods original,retrain,ungan",
    ),
}
EXIT_CODES = {
    0: "complete",
    3: "partial or interrupted; run the same command again",
    4: "complete, but what is listed as failed would fail again",
    2: "wrong config or input",
    1: "internal error",
}


def write_overview(recipe: str, width: int) -> str:
    """Write the text for a recipe, with its lines broken at a width."""
    heading = "Trains, unlearns, attacks and reports. The same command continues a run, and a larger one extends it."
    own = " This recipe audits your own model and data." if recipe == "custom" else ""
    examples = _EXAMPLES.get(
        recipe,
        (f"ungan-dist plan {recipe}", f"ungan-dist run {recipe} --num-seeds 3 --methods original,retrain,ungan"),
    )
    options = {**(_OWN if recipe == "custom" else {}), **_EVERY}
    sections = [
        # the help joins lines that are not indented
        textwrap.fill(heading + own, width, subsequent_indent="  "),
        "\n".join(["options that most people need:", *_list(options, width)]),
        "\n".join(["examples:", *(line for command in examples for line in _break_command(command, width))]),
        "\n".join(["exit codes:", *(f"  {code}  {meaning}" for code, meaning in EXIT_CODES.items())]),
        f"all options, with the defaults of the recipe {recipe!r}:",
    ]
    return "\n\n".join(sections)


def _list(options: dict[str, str], width: int) -> list[str]:
    column = max(map(len, options)) + 4
    return [
        line
        for option, meaning in options.items()
        for line in textwrap.wrap(
            f"  {option}".ljust(column) + meaning, width, subsequent_indent=" " * column, break_long_words=False
        )
    ]


def _break_command(command: str, width: int) -> list[str]:
    lines = textwrap.wrap(
        command,
        width - 4,
        initial_indent="  ",
        subsequent_indent="      ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]
