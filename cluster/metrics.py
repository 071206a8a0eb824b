"""Export a fleet's metrics to Prometheus; Ray adds the prefix ``ray_``."""

from __future__ import annotations

import time

from ray.util.metrics import Counter, Gauge, Histogram


class Metrics:
    """Hold the counters and gauges of one fleet, in the driver's process.

    Ray forgets a gauge that was not set for two export intervals, which are 20 s. ``export_gauges`` therefore sets
    all of them again, and the dispatcher calls it every second.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._num_models = 0
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
        self._values: dict[Gauge, float] = {
            self._retries: 0,
            self._quarantined: 0,
            self._workers: 0,
            self._models_per_hour: 0,
        }
        self._gpu_memory_bytes: dict[str, int] = {}
        """By node."""
        self.export_gauges(0.0)

    def record_unit(self, num_models: int, seconds: float) -> None:
        self._num_models += num_models
        self._units_done.inc()
        self._models_done.inc(num_models)
        self._unit_seconds.observe(seconds)
        hours = max(time.monotonic() - self._start, 1e-9) / 3600
        self._values[self._models_per_hour] = self._num_models / hours

    def record_retries(self, num_calls: int) -> None:
        self._values[self._retries] += num_calls

    def record_quarantine(self) -> None:
        self._values[self._quarantined] += 1

    def record_workers(self, num_ready: int) -> None:
        self._values[self._workers] = num_ready

    def record_gpu_memory(self, node: str, num_bytes: int) -> None:
        if num_bytes:
            self._gpu_memory_bytes[node] = num_bytes

    def export_gauges(self, seconds_without_progress: float) -> None:
        """Set every gauge to its present value."""
        for gauge, value in self._values.items():
            gauge.set(value)
        self._silence.set(seconds_without_progress)
        for node, num_bytes in self._gpu_memory_bytes.items():
            self._gpu_memory.set(num_bytes, tags={"node": node})
