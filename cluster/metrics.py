"""Export a fleet's metrics to Prometheus; Ray adds the prefix ``ray_``."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ray.util.metrics import Counter, Gauge, Histogram

EXPORT_SECONDS = 1.0
"""Ray forgets a gauge that was not set for two of its export intervals, which are 10 s and may be one."""
DISK_SECONDS = 10.0


class Metrics:
    """Hold the counters and gauges of one fleet, in the driver's process, and export them in the ``with`` block.

    A thread sets all gauges every second, also while the driver scores or waits for a disk. Another looks at the
    disk of the output, because a shared disk may not answer.
    """

    def __init__(self, output: Path | None = None) -> None:
        """Create the metrics.

        Args:
            output: folder whose disk is watched; need not exist yet.
        """
        self._start = time.monotonic()
        self._output = output
        self._num_models = 0
        self._units_done = Counter("ungan_units_done", "Units whose result is committed.")
        self._models_done = Counter("ungan_models_done", "Models trained or unlearned in those units.")
        # gauges: Ray does not export a counter before its first increment, and the dashboard would show "no data"
        self._retries = Gauge("ungan_retries", "Repeated calls in this run.")
        self._quarantined = Gauge("ungan_quarantined", "Units given up in this run.")
        self._workers = Gauge("ungan_workers", "Workers that are ready.")
        self._models_per_hour = Gauge("ungan_models_per_hour", "Models per hour since the start of the fleet.")
        self._silence = Gauge("ungan_seconds_without_progress", "Seconds since a unit ended or progressed.")
        self._output_free = Gauge("ungan_output_free_bytes", "Free on the disk of the output.")
        self._output_size = Gauge("ungan_output_size_bytes", "Size of the disk of the output.")
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
        self._last_progress: float | None = None
        """None while no unit is computed."""
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(self._export, EXPORT_SECONDS), daemon=True),
            threading.Thread(target=self._repeat, args=(self._measure_disk, DISK_SECONDS), daemon=True),
        ]

    def __enter__(self) -> Metrics:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        self._threads[0].join()

    def record_unit(self, num_models: int, seconds: float) -> None:
        self._num_models += num_models
        self._units_done.inc()
        self._models_done.inc(num_models)
        self._unit_seconds.observe(seconds)
        hours = max(time.monotonic() - self._start, 1e-9) / 3600
        self._values[self._models_per_hour] = self._num_models / hours

    def record_progress(self) -> None:
        """Note that units are computed, and that one has just ended or progressed, or that they begin."""
        self._last_progress = time.monotonic()

    def record_idle(self) -> None:
        """Note that no unit is computed."""
        self._last_progress = None

    def record_retries(self, num_calls: int) -> None:
        self._values[self._retries] += num_calls

    def record_quarantine(self) -> None:
        self._values[self._quarantined] += 1

    def record_workers(self, num_ready: int) -> None:
        self._values[self._workers] = num_ready

    def record_gpu_memory(self, node: str, num_bytes: int) -> None:
        if num_bytes:
            self._gpu_memory_bytes[node] = num_bytes

    def _repeat(self, step: Callable[[], None], seconds: float) -> None:
        while True:
            step()
            if self._closed.wait(seconds):
                return

    def _export(self) -> None:
        """Set every gauge to its present value."""
        last = self._last_progress
        self._silence.set(0.0 if last is None else time.monotonic() - last)
        for gauge, value in list(self._values.items()):
            gauge.set(value)
        for node, num_bytes in list(self._gpu_memory_bytes.items()):
            self._gpu_memory.set(num_bytes, tags={"node": node})

    def _measure_disk(self) -> None:
        if self._output is None:
            return
        try:
            folder = next(folder for folder in (self._output, *self._output.parents) if folder.exists())
            usage = shutil.disk_usage(folder)
        except OSError:
            for gauge in (self._output_free, self._output_size):
                self._values.pop(gauge, None)
            return
        self._values |= {self._output_free: usage.free, self._output_size: usage.total}
