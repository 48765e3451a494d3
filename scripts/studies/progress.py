"""How far a study is, and about how long the rest will take: from the stages that it has finished.

.studies/STUDY/plan.json    the stages of every run
.studies/STUDY/times.json   by run, the stages that are done and their seconds; null where DVC had nothing to run, or
                            where an earlier command had begun the stage
.studies/STUDY/begun.json   by run, the stage that runs
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stages.lib.core import console

_PLAN, _TIMES, _BEGUN = "plan.json", "times.json", "begun.json"


@dataclass(frozen=True)
class Plan:
    """What a study has to do."""

    study: str
    stages: dict[str, list[str]]  # by run, in the order of the runs

    def write(self, home: Path) -> None:
        _replace(home / _PLAN, json.dumps(asdict(self)))


@dataclass
class Progress:
    """The progress of one run, and of the study around it."""

    home: Path  # the study's folder
    run: str
    plan: Plan
    times: dict[str, dict[str, float | None]]  # by run and stage that is done; None where they say nothing
    begun: dict[str, str]  # by run, the stage that runs, or ran when an earlier command ended
    seen: list[str] = field(default_factory=list)  # stages of this run so far
    begun_s: float | None = None  # when the last of them began; None where it did not run as a whole

    @classmethod
    def read(cls, home: Path, run: str) -> Progress:
        times, begun = (
            json.loads(path.read_text()) if path.is_file() else {} for path in (home / _TIMES, home / _BEGUN)
        )
        return cls(home, run, Plan(**json.loads((home / _PLAN).read_text())), times, begun)

    def begin(self, stage: str) -> None:
        """A stage starts; all before it have ended."""
        self.finish()
        self.seen.append(stage)
        # A stage that an earlier command began trains only what is left, which says little about others of its kind.
        self.begun_s = None if self.begun.get(self.run) == stage else time.monotonic()
        self.begun[self.run] = stage
        _replace(self.home / _BEGUN, json.dumps(self.begun))
        runs, stages = list(self.plan.stages), self.plan.stages[self.run]
        console.report_line(
            f"{self.plan.study}: run {runs.index(self.run) + 1} of {len(runs)} ({self.run}), "
            f"stage {len(self.seen)} of {len(stages)}{self._left_words()}"
        )

    def skip(self, stage: str) -> None:
        """A stage has nothing to run: nothing changed, or its results are in DVC's cache."""
        self.finish()
        self.seen.append(stage)

    def finish(self) -> None:
        """The last stage has ended; keeps its time."""
        if not self.seen:
            return
        times = self.times.setdefault(self.run, {})
        if self.begun_s is None:
            times.setdefault(self.seen[-1], None)
        else:
            times[self.seen[-1]] = time.monotonic() - self.begun_s
        self.begun_s = None
        if self.begun.get(self.run) == self.seen[-1]:
            del self.begun[self.run]
        _replace(self.home / _TIMES, json.dumps(self.times))
        _replace(self.home / _BEGUN, json.dumps(self.begun))

    def done_words(self) -> str:
        """What of the study is done."""
        runs = list(self.plan.stages)
        stages = self.plan.stages[self.run]
        done = len(set(stages) & self.times.get(self.run, {}).keys())
        place = f"run {runs.index(self.run) + 1} of {len(runs)} ({self.run})"
        return f"in {place} with {done} of {len(stages)} stages done"

    def left_s(self) -> float | None:
        """Seconds that the rest of the study will take, about; None before a model has been trained."""
        finished = [(name, s) for run in self.times.values() for name, s in run.items() if s is not None]
        if not any(_purpose(name) == "train" for name, _ in finished):
            return None
        runs = list(self.plan.stages)
        rest = [
            stage
            for run in runs[runs.index(self.run) :]
            for stage in self.plan.stages[run]
            if stage not in self.times.get(run, {}) or (run == self.run and stage in self.seen[-1:])
        ]
        return sum(_usual_s(stage, finished) for stage in rest)

    def _left_words(self) -> str:
        left_s = self.left_s()
        return "" if left_s is None else f", about {duration(left_s)} left"


def _usual_s(stage: str, finished: list[tuple[str, float]]) -> float:
    """Mean time of the same stage in other runs; else of its kind; else of its purpose; 0 while none has ended."""
    for likeness in (str, _kind, _purpose):
        alike = [seconds for name, seconds in finished if likeness(name) == likeness(stage)]
        if alike:
            return statistics.mean(alike)
    return 0.0


def _kind(stage: str) -> str:
    """`train_late` of `train_late@late`."""
    return stage.split("@")[0]


def _purpose(stage: str) -> str:
    """`train` of `train_late@late`."""
    return _kind(stage).split("_")[0]


def duration(seconds: float) -> str:
    """Minutes, or hours where they are many."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _replace(path: Path, text: str) -> None:
    """Writes a file so that a killed process leaves either the old or the new one."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)
