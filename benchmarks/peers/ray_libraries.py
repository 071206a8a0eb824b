"""Ways in which Ray and its libraries run independent jobs, each as its documentation recommends.

Nothing here imports the project. Each function calls ``function(*job)`` for every job, and returns the results in
order.
"""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray

Job = tuple[Any, ...]


def sleep(seconds: float) -> None:
    """Sleep; Ray takes no function of C, as ``time.sleep`` is."""
    time.sleep(seconds)


def run_tasks(function: Callable[..., Any], jobs: Sequence[Job], num_cpus: float) -> list[Any]:
    """Run jobs as plain tasks, whose processes Ray keeps."""
    task = ray.remote(num_cpus=num_cpus)(function)
    return ray.get([task.remote(*job) for job in jobs])


def run_tune(function: Callable[..., Any], jobs: Sequence[Job], num_cpus: float) -> list[Any]:
    """Run jobs as the trials of a grid search by Ray Tune, which start in processes that are used again."""
    from ray import tune

    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        results.mkdir()

        def train(config: dict[str, Any], jobs: Sequence[Job]) -> None:
            number = config["job"]
            (results / str(number)).write_bytes(pickle.dumps(function(*jobs[number])))
            tune.report({"job": number})

        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(train, jobs=jobs), {"cpu": num_cpus}),
            param_space={"job": tune.grid_search(list(range(len(jobs))))},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        failed = tuner.fit().num_errors
        if failed:
            raise RuntimeError(f"{failed} trials of Ray Tune have failed")
        return [pickle.loads((results / str(number)).read_bytes()) for number in range(len(jobs))]


def run_data(function: Callable[..., Any], jobs: Sequence[Job], num_cpus: float, num_actors: int) -> list[Any]:
    """Run jobs as rows of a data set of Ray Data, mapped by actors."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    shared = ray.put(list(jobs))

    class Call:
        def __init__(self) -> None:
            self.jobs = ray.get(shared)

        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return {"job": row["job"], "result": pickle.dumps(function(*self.jobs[row["job"]]))}

    rows = ray.data.from_items([{"job": number} for number in range(len(jobs))], override_num_blocks=len(jobs))
    pool = ray.data.ActorPoolStrategy(size=num_actors)
    found = rows.map(Call, num_cpus=num_cpus, compute=pool).take_all()
    return [pickle.loads(row["result"]) for row in sorted(found, key=lambda row: row["job"])]
