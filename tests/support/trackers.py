"""Reads back what trackers have written, each from the tracker's own files."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EPOCH_KEYS = {"epoch", "learning_rate", "train_loss", "valid_loss"}


@dataclass
class Logged:
    """One run as its tracker shows it."""

    config: dict[str, Any] = field(default_factory=dict)
    model: str = ""  # by which the tracker groups runs
    epochs: list[dict[str, float]] = field(default_factory=list)
    summary: dict[str, float] = field(default_factory=dict)


def read(backend: str, project: Path) -> dict[str, Logged]:
    """All runs of a project by their id."""
    return {"wandb": read_wandb, "mlflow": read_mlflow, "tensorboard": read_tensorboard}[backend](project)


def read_tensorboard(project: Path) -> dict[str, Logged]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs = {}
    for folder in project.glob("tracking/tensorboard/*/*"):
        events = EventAccumulator(str(folder)).Reload()
        run = runs[folder.name] = Logged(model=folder.parent.name)
        scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
        rows = zip(*(scalars[tag] for tag in sorted(EPOCH_KEYS)), strict=True)
        for row in rows:
            assert len({point.step for point in row}) == 1
            run.epochs.append({tag: point.value for tag, point in zip(sorted(EPOCH_KEYS), row, strict=True)})
        for tag in scalars.keys() - EPOCH_KEYS:
            (point,) = scalars[tag]
            run.summary[tag] = point.value
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        hparams = HParamsPluginData.FromString(content).session_start_info.hparams
        run.config = {key: getattr(value, value.WhichOneof("kind")) for key, value in hparams.items()}
    return runs


def read_mlflow(project: Path, uri: str | None = None) -> dict[str, Logged]:
    from mlflow import MlflowClient

    client = MlflowClient(uri or f"sqlite:///{project.resolve()}/tracking/mlflow/mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name != "Default"]
    runs = {}
    for each in client.search_runs([experiment.experiment_id]):
        assert each.info.status == "FINISHED"
        run = runs[each.data.tags["run_id"]] = Logged(dict(each.data.params), each.data.tags["model"])
        by_step: dict[int, dict[str, float]] = {}
        for key in EPOCH_KEYS:
            for metric in client.get_metric_history(each.info.run_id, key):
                values = by_step.setdefault(metric.step, {})
                assert key not in values, f"{key} of step {metric.step} is there twice"
                values[key] = metric.value
        run.epochs = [values for _, values in sorted(by_step.items())]
        run.summary = {key: value for key, value in each.data.metrics.items() if key not in EPOCH_KEYS}
    return runs


def read_wandb(project: Path) -> dict[str, Logged]:
    """From the files that W&B writes offline: a later file of the same run goes on where its server will."""
    from wandb.proto.wandb_internal_pb2 import Record

    runs: dict[str, Logged] = {}
    for path in sorted(project.glob("tracking/wandb/offline-run-*/*.wandb")):
        run, steps = Logged(), {}
        for data in _wandb_records(path.read_bytes()):
            record = Record.FromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run = runs.setdefault(record.run.run_id, Logged(model=record.run.run_group))
                run.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
                assert run.model in record.run.tags
            elif kind == "history":
                values = {_key(item): json.loads(item.value_json) for item in record.history.item}
                assert values.keys() - EPOCH_KEYS == {"_step", "_runtime", "_timestamp"}
                steps[values["_step"]] = {key: values[key] for key in EPOCH_KEYS}
            elif kind == "summary":
                found = {_key(item): json.loads(item.value_json) for item in record.summary.update}
                run.summary |= {key: value for key, value in found.items() if key.startswith("test_")}
        if steps:
            run.epochs = [values for _, values in sorted(steps.items())]
    return runs


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, after a header of seven bytes."""
    assert content[:4] == b":W&B"
    place, record = 7, b""
    while place + 7 <= len(content):
        left_in_block = 32768 - place % 32768
        if left_in_block < 7:
            place += left_in_block
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield record
            record = b""
