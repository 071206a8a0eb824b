"""What a fleet tells Prometheus through Ray: exported with the prefix ``ray_``."""

from __future__ import annotations

import time

from ray.util.metrics import Counter, Gauge, Histogram


class Metrics:
    """Counters and gauges of one fleet; they live in the driver's process."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._models = 0
        self._units_done = Counter("ungan_units_done", "Units whose result is committed.")
        self._models_done = Counter("ungan_models_done", "Models trained or unlearned in those units.")
        # gauges, since a counter that was never raised is not exported: a dashboard would say "no data" for "none"
        self._num_retries = self._num_quarantined = 0
        self._retries = Gauge("ungan_retries", "Calls that had to be made again, in this run.")
        self._quarantined = Gauge("ungan_quarantined", "Units given up, in this run.")
        self._workers = Gauge("ungan_workers", "Workers that are up.")
        self._models_per_hour = Gauge("ungan_models_per_hour", "Models an hour since the fleet began.")
        self._gpu_memory = Gauge("ungan_gpu_memory_bytes", "Most memory a worker has held on its GPU.", ("node",))
        self._unit_seconds = Histogram(
            "ungan_unit_seconds", "Seconds from a unit's start to its commit.", [1, 3, 10, 30, 100, 300, 1000, 3000]
        )
        self._retries.set(0)
        self._quarantined.set(0)

    def done(self, num_models: int, seconds: float) -> None:
        self._models += num_models
        self._units_done.inc()
        self._models_done.inc(num_models)
        self._unit_seconds.observe(seconds)
        self._models_per_hour.set(self._models / max(time.monotonic() - self._start, 1e-9) * 3600)

    def retried(self, calls: int) -> None:
        if calls:
            self._num_retries += calls
            self._retries.set(self._num_retries)

    def quarantined(self) -> None:
        self._num_quarantined += 1
        self._quarantined.set(self._num_quarantined)

    def workers(self, up: int) -> None:
        self._workers.set(up)

    def gpu_memory(self, node: str, num_bytes: int) -> None:
        if num_bytes:
            self._gpu_memory.set(num_bytes, tags={"node": node})
