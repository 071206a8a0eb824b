"""Every command of the documentation, and what is changed to run it here: each change has a reason."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    *("README.md", "docs/getting-started.md", "docs/audit.md", "docs/methods.md", "docs/own-method.md"),
    "docs/own-model.md",
    *(
        "docs/notebook.md",
        "docs/performance.md",
        "docs/benchmarks.md",
        "docs/scenarios.md",
        "docs/kernels.md",
        "docs/results.md",
        "docs/findings.md",
        "docs/glossary.md",
        "docs/comparison.md",
    ),
    *("docs/index.md", "docs/clusters.md", "cluster/README.md", "CONTRIBUTING.md", "SECURITY.md"),
    *("docs/api/index.md", "docs/api/attack.md", "docs/api/config.md", "docs/api/kernels.md"),
    *("docs/changelog.md", "docs/contributing.md", "docs/security.md", "docs/promises.md"),
)
"""In the order in which their commands run: a page uses what the pages before it have made."""
MANIFESTS = sorted(path for path in (ROOT / "cluster/manifests").rglob("*") if path.is_file())


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A change of the commands that a pattern finds."""

    pattern: str
    reason: str
    replacement: str = ""


LEFT_OUT = {
    "make setup": "made the environment of these tests",
    "make services": "a step of .ci/run",
    "make demo": "is `ungan-dist run digits`, which runs here",
    "make check": "a step of .ci/run",
    "make check-old-triton": "makes a second environment of several GB",
    "make test": "a step of .ci/run",
    "make test-all": "the two steps of .ci/run that run tests",
    "make docs": "a part of make check",
    "make reproduce BUDGET=2h": "takes two hours; test_reproduce.py walks its steps",
    "make bench": "takes minutes and needs an idle machine; test_benchmarks.py runs its suites at small sizes",
    "ungan-dist bench scoring counts --output NEW": "needs an idle machine; test_benchmarks.py runs both",
    "make bench-cluster": "needs a cluster and an idle machine; test_bench.py runs what it refuses",
    "make reproduce": "takes two hours; test_reproduce.py walks its steps",
    **{
        f"{place}/.venv/bin/ungan-dist bench {words}": "needs two clones; test_benchmarks.py measures and compares one"
        for place, words in (
            ("A", "counts scoring --output RESULTS-A"),
            ("B", "counts scoring --output RESULTS-B"),
            ("B", "compare RESULTS-A RESULTS-B"),
        )
    },
    "ungan-dist bench compare benchmarks/results NEW": "compares what the line before has measured",
    "ungan-dist run digits --split.forget hardest=50 --given.scores runs/digits-…": (
        "runs in test_few_and_hard.py: the run that it names has been purged here"
    ),
    "ungan-dist bench rivals": "needs an idle machine; test_benchmarks.py runs it at a small size in make chaos",
    "ungan-dist bench rivals storage-large simulated-fleets": (
        "needs an idle machine; test_benchmarks.py runs them at small sizes"
    ),
    "ungan-dist bench storage-large": "needs an idle machine; test_benchmarks.py runs it at a small size",
    "ungan-dist run cifar100 --source.kind cifar20 --split.forget subclass=maple_tree": "downloads CIFAR-100",
    "make kernels": "a part of make check, and one of make test",
    "make mutants": "takes ten minutes; test_mutants.py applies the mutants",
    "make soak": "takes two hours; test_soak.py runs its parts",
    "make chaos": "takes ten minutes or more",
    "make lock": "changes the lock files by what a package index has today",
    "cluster → ungan_dist → kernels → torch": "a diagram",
    "ungan-dist run custom --model timm:test_vit --source.path pictures --forget forget.csv --train.function mine:fit "
    "--train.augment.factory mine:augment --methods original,retrain,mine:blend --blend.share 0.3 --cluster auto": (
        "runs on two nodes in test_own_code.py"
    ),
    "ungan-dist audit --unlearned FILE": "a short form of the command in a block of docs/own-model.md, which runs here",
    "ungan-dist plan custom": "takes the options of `ungan-dist run custom`, which runs here",
    "ungan-dist run RECIPE --cluster …": "stands for the commands of its page, which run here",
    "ungan-dist run digits --tracking mlflow": "MLflow is not installed; test_libraries.py runs it where it is",
    "ungan-dist run digits --tracking wandb": "W&B is not installed; test_libraries.py runs it where it is",
    **{
        f". ~/.ray/tls/environment && {command}": "needs the address 10.0.0.1; test_tls.py runs it on hosts"
        for command in (
            "RAY_AUTH_MODE=token ray start --head",
            "RAY_AUTH_MODE=token ray start --address=10.0.0.1:6379",
            "ungan-dist run digits --cluster 10.0.0.1:6379 --output /shared/runs",
        )
    },
    "ray up cluster/manifests/launcher/aws.yaml": "rents machines; test_launcher.py checks the file",
    "ray attach cluster/manifests/launcher/aws.yaml --port-forward 8265": "needs rented machines",
    "ray down cluster/manifests/launcher/aws.yaml": "needs rented machines",
    "prometheus --config.file=cluster/manifests/monitoring/prometheus.yaml --web.listen-address=127.0.0.1:9090": (
        "a server that does not end; test_prometheus.py runs it"
    ),
    "srun --jobid=ID --overlap --nodes=1 --ntasks=1 --nodelist=NODE prometheus "
    "--config.file=cluster/manifests/monitoring/prometheus.yaml --web.listen-address=127.0.0.1:9090 "
    "--storage.tsdb.path=/shared/prometheus": "needs a job of Slurm that runs; test_prometheus.py runs the server",
    "promtool check rules cluster/manifests/monitoring/alerts.yaml": "test_prometheus.py runs promtool, if it is there",
}
"""Every line that does not run here, with the reason."""
STUBS = {
    "docker": "builds an image of several GB and pushes it to somebody's registry",
    "kubectl": "needs Kubernetes",
    "scp": "needs a second machine",
    "ssh": "needs a second machine",
    "sbatch": "needs Slurm, which test_real_slurm.py has",
}
"""Programs without a service here. A stub prints the input of a pipe; that of sbatch runs the batch file."""
SUBSTITUTIONS = (
    Rule(
        pattern=r"(?<=[ =])/(data|results)\b(?!.*\| kubectl)",
        replacement=r"$PLACE/\1",
        reason="a test makes no folders at the root",
    ),
    Rule(pattern=r"runs/digits-…|\bRUN\b", replacement="$(ls -d runs/digits-* | head -1)", reason="a placeholder"),
    Rule(pattern=r"(runs --remove \S+)", replacement=r"\1 --yes", reason="no terminal answers its question"),
    Rule(pattern=r"(?<!/)digits-…", replacement="$(ls runs | grep -m1 ^digits-)", reason="a placeholder"),
    Rule(pattern=r"paper-0123abcd", replacement="$(ls ~/.cache/ungan_dist/* | grep ^paper-)", reason="a placeholder"),
    Rule(pattern=r"\bID\b", replacement="$ID", reason="a placeholder: the job that was submitted last"),
    Rule(pattern=r"\bRECIPE\b", replacement="digits", reason="a placeholder"),
)
_TINY = (
    "--split.train 200 --split.shadow-pool 200 --split.unseen 50 --split.forget-fraction 0.2 --model.width 4 "
    "--train.epochs 1 --shadows.num-models 4 --attack.num-resamples 100 --methods original,retrain --num-seeds 1 "
    "--execution.num-processes 1 --fleet.num-workers 1"
)
ADDITIONS = (
    Rule(pattern=r"(ungan.dist plan \w+)", replacement=rf"\1 --seconds 0.1 {_TINY}", reason="a probe takes seconds"),
    Rule(
        pattern=r"(ungan.dist (?:run|targets|submit|prepare) digits(?:-table)?)(?! --help)(?!.*--split.forget )",
        replacement=rf"\1 {_TINY}",
        reason="the recipe takes minutes; documented options come later and win",
    ),
    Rule(
        pattern=r"(ungan.dist run digits)(?=.*--split.forget )",
        replacement=rf"\1 {_TINY.replace('--split.forget-fraction 0.2 ', '')}",
        reason="the recipe takes minutes; a forget set of another rule has no fraction",
    ),
    Rule(
        pattern=r"(--attack.unlearned-shadows)",
        replacement=r"--shadows.num-models 6 --methods original,retrain,scrub,ungan \1",
        reason="U-LiRA needs six shadow models, and the methods that are named",
    ),
    Rule(
        pattern=r"(ungan.dist (?:run|submit) (?:paper|fidelity|cifar10-tiny|cifar10-small))",
        replacement=rf"\1 {_TINY} --model.name small_cnn --train.batch-size 50",
        reason="the recipes take hours on a GPU",
    ),
    Rule(
        pattern=r"(ungan.dist (?:run custom|audit(?= --unlearned unl)))",
        replacement=r"\1 --attack.num-resamples 100 --train.epochs 1 --shadows.num-models 4 "
        "--execution.num-processes 1",
        reason="128 shadow models take minutes",
    ),
    Rule(
        pattern=r"(ungan.dist run custom)", replacement=r"\1 --methods original,retrain", reason="for the same reason"
    ),
    Rule(
        pattern=r"(ungan.dist run digits .*--cluster auto)",
        replacement=r"\1 --output $(mktemp -d -p ~)",
        reason="in one folder, a run that is finished would only be printed",
    ),
)
PROGRAMS = (
    r"ungan-dist|ray|torchrun|python|ssh|scp|rm|docker|kubectl|sbatch|prometheus|promtool|export|\(umask|\.|"
    r"RAY_\w+=\w+"
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command as it is written, without its comment."""

    page: str
    text: str

    @property
    def needs_cluster(self) -> bool:
        """Whether it needs Ray, object storage, or a program of a cluster."""
        on_page = self.page == "docs/clusters.md" or self.page.startswith("cluster/")
        return on_page or bool(re.search(r"--cluster|s3://|submit|sbatch|manifest|\bray\b|ssh|~/\.ray", self.text))

    @property
    def left_out(self) -> str:
        """Reason for not running it, or an empty text."""
        return LEFT_OUT.get(self.text, "")

    @property
    def executed(self) -> str:
        """The text with its additions and substitutions."""
        text = self.text
        for rule in (*ADDITIONS, *SUBSTITUTIONS):
            text = re.sub(rule.pattern, rule.replacement, text)
        return text


def list_commands() -> list[Command]:
    """List the commands of the pages and of the manifests' comments, each text once, in order."""
    found: dict[str, Command] = {}
    for page in PAGES:
        for text in _of_page((ROOT / page).read_text()):
            found.setdefault(text, Command(page=page, text=text))
    for manifest in MANIFESTS:
        for line in re.findall(rf"^#  +((?:{PROGRAMS}) .*)$", manifest.read_text(), flags=re.M):
            text = _without_comment(line)
            found.setdefault(text, Command(page=str(manifest.relative_to(ROOT)), text=text))
    return list(found.values())


def _of_page(page: str) -> list[str]:
    found: list[str] = []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```|`([^`]+)`", page, flags=re.S | re.M):
        if match[3]:
            text = " ".join(match[3].split())
            # two words name a command, they are no example of it
            if re.match(rf"(?:{PROGRAMS}) ", text) and len(text.split()) > 2:
                found.append(text)
        elif not match[1]:
            lines = match[2].replace("\\\n", " ").splitlines()
            found += [text for line in lines if (text := _without_comment(line))]
    return found


def _without_comment(line: str) -> str:
    return " ".join(re.sub(r"(^|\s+)# .*$", "", line).replace(" [OPTIONS]", "").split())
