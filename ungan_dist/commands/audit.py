"""``ungan-dist audit``: audit a model that was unlearned elsewhere."""

from __future__ import annotations

from ungan_dist.commands.options import recipe_config
from ungan_dist.errors import ConfigError

USAGE = """\
usage: ungan-dist audit --unlearned WEIGHTS --model MODULE:FUNCTION --original WEIGHTS --source.path DATA --forget LIST
                        [--members LIST] [--retrained WEIGHTS] [--attack.quick] [OPTIONS]

Audits a model that was unlearned elsewhere; no unlearning method runs. The table has the original and the given model.
--retrained WEIGHTS adds Retrain, the reference of the verdict, from your file; --methods original,retrain,unlearned
trains it here. Without it the reference is AUC .5.
Shadow models are trained once: the next forget request on the same data and members trains none.

--attack.quick trains no shadow model, and takes about a minute for given models. Its attacks look at the outputs of
these models alone: loss, entropy, modified entropy, and with Retrain the calibrated loss. It finds gross leaks. It
misses leaks of hard examples, calls no model equivalent, and finds a trace only against Retrain.

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
        names = [argument.partition("=")[0] for argument in arguments]
        has_retrained = "--retrained" in names or "--given.retrained" in names
        rows = "original,retrain,unlearned" if has_retrained else "original,unlearned"
        arguments = ["--methods", rows, *arguments]
    # as `run`, whose --help lists the options; that of `audit` is short
    config = recipe_config(["custom", *arguments], command="run")
    if "unlearned" not in config.methods:
        raise ConfigError(
            f"--methods {','.join(config.methods)} leaves out the row unlearned, the subject of the audit: add it"
        )
    return run(["custom", *arguments])
