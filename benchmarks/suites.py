"""List the suites of ``ungan-dist bench``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A module whose function, called with whether it is quick, yields rows."""

    module: str
    function: str = "measure"
    title: str
    limit_s: float
    """Seconds after which the suite is ended."""
    by_default: bool = True
    is_timed: bool = True
    """Whether it measures seconds. Counts may be taken on a busy machine."""
    has_quick_size: bool = True
    """Whether it measures less if it is quick."""
    has_daemons: bool = False
    """Whether its processes outlive it for a moment, so that their CPU time cannot be told from that of others."""
    needs_cluster: bool = False
    """Whether it measures the cluster that RAY_ADDRESS names."""


SUITES = {
    "kernels": Suite(module="kernels", title="launches, operations and bytes of the fused kernels", limit_s=600,
                     is_timed=False, has_quick_size=False),
    "counts": Suite(module="counts", title="operations of a step, imports, bytes shipped to Ray, files and requests",
                    limit_s=600, is_timed=False, has_quick_size=False),
    "start-up": Suite(module="start_up", title="seconds of commands that compute nothing", limit_s=120),
    "methods": Suite(module="methods", title="T_U of every method, on the digits", limit_s=300),
    "rivals": Suite(module="rivals", title="training of shadow models and scheduling, against scripts, joblib and Ray",
                    limit_s=900, by_default=False, has_daemons=True),
    "audit": Suite(module="audit_profile", title="a whole audit of the digits, and what its time is spent on",
                   limit_s=300),
    "storage": Suite(module="storage", title="the driver's work on stored results, with 20,000 units", limit_s=300),
    "storage-large": Suite(module="storage", function="measure_large", title="the suite storage with 100,000 units",
                           limit_s=900, by_default=False),
    "fleet": Suite(module="fleet", title="scheduling of sleeping units on Ray", limit_s=300, has_daemons=True),
    "simulated-fleets": Suite(module="simulated_fleets", title="fleets past this machine, at the costs of fleet",
                              limit_s=300, is_timed=False, by_default=False),
    "cluster": Suite(module="fleet", function="measure_cluster", title="the suite fleet on the cluster of RAY_ADDRESS",
                     limit_s=600, by_default=False, has_daemons=True, needs_cluster=True),
    "scoring": Suite(module="scoring", title="LiRA at 512 shadow models, against a loop over examples", limit_s=180),
}  # fmt: skip
