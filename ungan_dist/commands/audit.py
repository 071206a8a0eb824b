"""``ungan-dist audit``: audit a model that was unlearned elsewhere."""

from __future__ import annotations

from ungan_dist.commands.options import recipe_config
from ungan_dist.errors import ConfigError

USAGE = """\
usage: ungan-dist audit --unlearned WEIGHTS --model MODULE:FUNCTION --original WEIGHTS --source.path DATA --forget LIST
                        [--members LIST] [OPTIONS]

Audits a model that was unlearned elsewhere; no unlearning method runs. The table has the original and the given model.
--methods original,retrain,unlearned adds Retrain, the reference of the verdict; without it the reference is AUC .5.
Shadow models are trained once: the next forget request on the same data and members trains none.

Equal to `run custom` with these rows. Options: ungan-dist run custom --help
"""


def main(arguments: list[str]) -> int:
    """Run the recipe ``custom`` with the given model as a row."""
    if not any(argument.partition("=")[0] in ("--unlearned", "--given.unlearned") for argument in arguments):
        raise ConfigError(
            "audit needs the weights of the unlearned model: --unlearned FILE (see ungan-dist audit --help)"
        )
    from ungan_dist.commands.run import main as run

    if "--methods" not in [argument.partition("=")[0] for argument in arguments]:
        arguments = ["--methods", "original,unlearned", *arguments]
    config = recipe_config(["custom", *arguments], command="audit")
    if "unlearned" not in config.methods:
        raise ConfigError(
            f"--methods {','.join(config.methods)} leaves out the row unlearned, the subject of the audit: add it"
        )
    return run(["custom", *arguments])
