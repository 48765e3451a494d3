"""The report's sentences under made-up results: never longer, and never bolder, than the numbers allow."""

from __future__ import annotations

import pytest

from stages.lib import analysis
from stages.lib.analysis import Finding, Findings


def made_up(
    losses: dict[str, float],
    *,
    decided: tuple[str, ...] = (),
    beats_prior: bool = True,
    num_seeds: int = 10,
    split: str = "test",
) -> Findings:
    kinds = {
        "rgb": "unimodal",
        "lidar": "unimodal",
        "late": "late",
        "prior": "baseline",
        "return_count": "baseline",
    }
    models = {
        name: Finding(
            name=name,
            kind=kinds.get(name, "intermediate"),
            parameters_m=None
            if name == "prior"
            else {"late": 26.3, "rgb": 13.1, "lidar": 13.1}.get(name, 6.6),
            loss=loss,
            balanced_accuracy=1 - loss / 2,
            beats_prior=None if name == "prior" else beats_prior,
            mean_below_prior=loss < losses.get("prior", 1),
            decided=name in decided,
        )
        for name, loss in losses.items()
    }
    fusions = [name for name, model in models.items() if model.kind in ("intermediate", "late")]
    reference = min(fusions, key=lambda name: losses[name])
    return Findings(models, reference, split, num_seeds, 8)


WINNER = {"rgb": 0.4, "lidar": 0.3, "concatenation": 0.1, "addition": 0.2, "late": 0.25, "prior": 0.69}
TIED = {"rgb": 0.2, "lidar": 0.2, "concatenation": 0.2, "addition": 0.2, "late": 0.2, "prior": 0.69}
UNIMODAL_AHEAD = {
    "rgb": 0.4,
    "lidar": 0.05,
    "concatenation": 0.1,
    "addition": 0.2,
    "late": 0.25,
    "prior": 0.69,
}
MANY = {**WINNER, **{f"operator_{i}": 0.3 for i in range(14)}}
CASES = {
    "one clear winner": made_up(WINNER, decided=("rgb", "lidar", "addition", "late")),
    "all tied": made_up(TIED),
    "no better than the prior": made_up(TIED, beats_prior=False),
    "one seed": made_up(WINNER, num_seeds=1),
    "fusion worse than unimodal": made_up(UNIMODAL_AHEAD, decided=("lidar",)),
    "no test split": made_up(WINNER, split="validation"),
    "many fusions": made_up(MANY),
    "late wins": made_up({**WINNER, "late": 0.05}, num_seeds=4),
    "two fusions": made_up({"rgb": 0.4, "lidar": 0.3, "maximum": 0.3, "late": 0.2, "prior": 0.69}),
}


def text_of(found: Findings) -> str:
    return "\n\n".join(analysis.written_analysis(found))


@pytest.mark.parametrize("case", CASES)
def test_length(case: str) -> None:
    assert 200 <= len(text_of(CASES[case]).split()) <= 400


def test_a_clear_winner_is_named_with_its_numbers() -> None:
    found = CASES["one clear winner"]
    lines = " ".join(analysis.answer(found))
    assert "**concatenation**" in lines and "significantly better than addition and late" in lines
    assert "0.100" in text_of(found) and "a significant difference in its favour" in text_of(found)


def test_ties_are_not_decided() -> None:
    lines = " ".join(analysis.answer(CASES["all tied"]))
    assert "significantly" not in lines
    assert "Against addition and late it is not decided" in lines
    assert "may well be noise" in text_of(CASES["all tied"])


def test_models_that_learned_nothing_are_not_ranked() -> None:
    found = CASES["no better than the prior"]
    assert "No answer yet" in analysis.answer(found)[0]
    assert "is not shown to beat the class prior" in text_of(found)
    hopeless = made_up({**TIED, "prior": 0.1}, beats_prior=False)
    assert "is no better than always predicting" in analysis.answer(hopeless)[0]
    assert "does not beat the class prior" in text_of(hopeless)
    assert "plausible reason" not in text_of(found)


def test_few_seeds_are_said_to_be_few() -> None:
    lines = " ".join(analysis.answer(CASES["one seed"]))
    assert "With one seed no difference of this family can be significant" in lines
    assert "run at least 8 seeds" in text_of(CASES["one seed"])
    assert "cannot tell from noise" in text_of(CASES["one seed"])


def test_fusion_that_does_not_pay_is_called_so() -> None:
    found = CASES["fusion worse than unimodal"]
    assert "Fusing did not pay: lidar alone" in " ".join(analysis.answer(found))
    assert "the second sensor has not paid" in text_of(found)


def test_a_missing_test_split_is_said() -> None:
    assert "they flatter every model" in " ".join(analysis.answer(CASES["no test split"]))
    assert "On the validation split" in text_of(CASES["no test split"])


@pytest.mark.parametrize("case", [name for name in CASES if name != "one clear winner"])
def test_nothing_undecided_is_called_significant(case: str) -> None:
    found = CASES[case]
    if not any(model.decided for model in found.models.values()):
        for text in (text_of(found), " ".join(analysis.answer(found))):
            assert "significantly" not in text
            assert "a significant difference" not in text and "is significant" not in text


@pytest.mark.parametrize(
    ("loss", "beats_prior", "warned"), [(0.11, True, True), (0.11, False, False), (0.5, True, False)]
)
def test_a_trivial_task_is_called_so(loss: float, beats_prior: bool, warned: bool) -> None:
    """Only where the scan's size alone tells the classes about as well as the best fusion."""
    found = made_up({**WINNER, "prior": 1.0, "return_count": loss}, beats_prior=beats_prior)
    sentence = analysis.trivial_task(found)
    assert (sentence is not None) == warned
    if sentence:
        assert "0.945" in sentence and "concatenation reaches 0.950" in sentence
