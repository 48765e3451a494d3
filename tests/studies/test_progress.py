"""What a study tells of its progress."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.studies import progress
from scripts.studies.progress import Plan, Progress

STAGES = ["check", "train_unimodal@rgb", "train_late@late", "evaluate_late@late"]


def test_stages_and_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 10.0, 100.0, 100.0, 400.0, 400.0, 430.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    Plan("zoo", {"main": STAGES, "matched": STAGES}).write(tmp_path)
    first = Progress.read(tmp_path, "main")
    for stage in STAGES:
        first.begin(stage)
    first.finish()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "zoo: run 1 of 2 (main), stage 1 of 4", "nothing is known yet"
    assert lines[1] == "zoo: run 1 of 2 (main), stage 2 of 4"
    # 90 s for each train stage, known from the first: two more here, in the next run two and a check.
    assert lines[2] == f"zoo: run 1 of 2 (main), stage 3 of 4, about {round((3 * 90 + 10) / 60)} min left"
    assert first.done_words() == "in run 1 of 2 (main) with 4 of 4 stages done"

    second = Progress.read(tmp_path, "matched")
    assert second.left_s() == 10 + 90 + 300 + 30
    second.skip("check")
    second.skip("train_unimodal@rgb")
    second.finish()
    again = Progress.read(tmp_path, "matched")
    assert again.left_s() == 300 + 30
    assert again.done_words() == "in run 2 of 2 (matched) with 2 of 4 stages done"


def test_a_stage_in_two_pieces_says_nothing_about_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 60.0, 60.0, 1000.0, 1005.0, 1005.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stages = ["train_unimodal@rgb", "train_unimodal@lidar", "train_intermediate@addition"]
    Plan("zoo", {"main": stages}).write(tmp_path)
    first = Progress.read(tmp_path, "main")
    first.begin(stages[0])
    first.begin(stages[1])  # and the command ends
    second = Progress.read(tmp_path, "main")
    second.skip(stages[0])
    second.begin(stages[1])
    assert second.left_s() == 60 + 60
    second.begin(stages[2])
    assert second.left_s() == 60
    second.finish()
    assert Progress.read(tmp_path, "main").times["main"] == dict(zip(stages, (60.0, None, 5.0), strict=True))


@pytest.mark.parametrize(
    ("seconds", "words"), [(5.0, "1 min"), (300.0, "5 min"), (7100.0, "118 min"), (9000.0, "2.5 h")]
)
def test_durations(seconds: float, words: str) -> None:
    assert progress.duration(seconds) == words
