"""Export a fleet's metrics to Prometheus; Ray adds the prefix ``ray_``."""

from __future__ import annotations

import time

from ray.util.metrics import Counter, Gauge, Histogram


class Metrics:
    """Hold the counters and gauges of one fleet, in the driver's process."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._num_models = self._num_retries = self._num_quarantined = 0
        self._units_done = Counter("ungan_units_done", "Units whose result is committed.")
        self._models_done = Counter("ungan_models_done", "Models trained or unlearned in those units.")
        # gauges: Ray does not export a counter before its first increment, and the dashboard would show "no data"
        self._retries = Gauge("ungan_retries", "Repeated calls in this run.")
        self._quarantined = Gauge("ungan_quarantined", "Units given up in this run.")
        self._workers = Gauge("ungan_workers", "Workers that are ready.")
        self._models_per_hour = Gauge("ungan_models_per_hour", "Models per hour since the start of the fleet.")
        self._silence = Gauge("ungan_seconds_without_progress", "Seconds since a unit ended or progressed.")
        self._gpu_memory = Gauge("ungan_gpu_memory_bytes", "Peak GPU memory of a worker.", ("node",))
        self._unit_seconds = Histogram(
            "ungan_unit_seconds", "Seconds from a unit's start to its commit.", [1, 3, 10, 30, 100, 300, 1000, 3000]
        )
        self._retries.set(0)
        self._quarantined.set(0)
        self._silence.set(0)

    def record_unit(self, num_models: int, seconds: float) -> None:
        self._num_models += num_models
        self._units_done.inc()
        self._models_done.inc(num_models)
        self._unit_seconds.observe(seconds)
        self._models_per_hour.set(self._num_models / max(time.monotonic() - self._start, 1e-9) * 3600)

    def record_retries(self, num_calls: int) -> None:
        if num_calls:
            self._num_retries += num_calls
            self._retries.set(self._num_retries)

    def record_quarantine(self) -> None:
        self._num_quarantined += 1
        self._quarantined.set(self._num_quarantined)

    def record_workers(self, num_ready: int) -> None:
        self._workers.set(num_ready)

    def record_silence(self, seconds: float) -> None:
        self._silence.set(seconds)

    def record_gpu_memory(self, node: str, num_bytes: int) -> None:
        if num_bytes:
            self._gpu_memory.set(num_bytes, tags={"node": node})
