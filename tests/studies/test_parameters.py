"""A study's settings together with the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.studies import notebook, parameters, runs
from scripts.studies.learning_curve import study as learning_curve
from scripts.studies.runs import Run
from scripts.studies.tune import study as tune
from scripts.studies.zoo import study as zoo
from stages.lib.core.errors import UserError


def test_the_headline_fusion_follows_a_narrower_set() -> None:
    own = ["fusion=concatenation", "intermediate=[addition,film,concatenation]", "late=[late]"]
    assert parameters.combine(own, ["seeds=[1]"]) == [*own, "seeds=[1]"]
    assert parameters.combine(own, ["intermediate=[film]"])[-1] == "fusion=film"
    assert parameters.combine(own, ["fusion=addition", "intermediate=[film]"])[-1] == "intermediate=[film]"
    with pytest.raises(UserError, match=r"^params\.yaml with SET: 'intermediate' is empty"):
        parameters.combine(own, ["intermediate=[]"])


def test_every_study_takes_a_narrower_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class EnoughKnownError(Exception):
        pass

    planned: list[Run] = []

    def only_plan(name: str, dataset: Path, found: list[Run]) -> None:
        planned.extend(found)
        raise EnoughKnownError

    monkeypatch.setattr(runs, "run_all", only_plan)
    monkeypatch.setattr(zoo, "main_settings", lambda: ["late=[late]"])
    monkeypatch.setattr(tune, "main_settings", lambda name: ["late=[late]"])
    given = ["intermediate=[addition,film]"]
    for study in (zoo, notebook):
        with pytest.raises(EnoughKnownError):
            study.conduct(Path("data/synthetic"), given)
    planned += learning_curve.planned(given).values()
    planned.append(Run("tune", tuple(tune.default_settings(given))))
    assert len(planned) == 4 + 1 + 3 + 1
    for run in planned:
        settings = parameters.resolved(run.settings)
        assert settings.fusion in settings.fusion_names(), run
