"""What was measured with a clock, from reports/timing/: no repetition gives the same numbers."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from stages.lib.core.names import SENSORS
from stages.lib.models import records


@dataclass(frozen=True)
class MeasuredCost:
    """Seconds, memory and latency of one model."""

    epoch_s: float  # median over all epochs of all seeds; of a late fusion, of its own training
    epoch_with_nets_s: float | None  # of a late fusion: mean over all its epochs and both its nets'
    peak_memory_mib: float
    latency_ms: float  # of one sample, median
    latency_p95_ms: float  # 95th percentile
    latency_32_ms: float  # of 32 samples at once, median
    latency_32_p95_ms: float
    training_s: float  # all epochs of a seed, mean over seeds; of a late fusion, its nets' too


def read(name: str, kind: str) -> MeasuredCost:
    """The measured costs of one model.

    Raises:
        UserError: when a timing file is missing.
    """
    training = records.read_timing(f"train-{name}")
    latency = records.read_timing(f"evaluate-{name}")
    own = records.epoch_times(name)
    of_nets = [seconds for sensor in SENSORS for seconds in records.epoch_times(sensor)]
    all_times = [*own, *of_nets] if kind == "late" else own
    return MeasuredCost(
        epoch_s=statistics.median(own),
        # As the notebook has it: all time spent on the three trainings over all their epochs.
        epoch_with_nets_s=statistics.fmean(all_times) if kind == "late" else None,
        peak_memory_mib=max(seed["peak_memory_mib"] for seed in training["seeds"].values()),
        latency_ms=latency["latency_ms"],
        latency_p95_ms=latency["latency_p95_ms"],
        latency_32_ms=latency["latency_32_ms"],
        latency_32_p95_ms=latency["latency_32_p95_ms"],
        training_s=sum(all_times) / len(training["seeds"]),
    )
