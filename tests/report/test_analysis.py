"""The report's sentences under made-up results: never longer, and never bolder, than the numbers allow."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from stages.lib.report import findings
from stages.lib.report.findings import Finding, Findings


def made_up(
    accuracies: dict[str, float],
    *,
    outcomes: dict[str, str] | None = None,
    against_single: str = "not decided",
    beats_prior: bool = True,
    mean_below_prior: bool = True,
    num_seeds: int = 10,
    split: str = "test",
    ignores: dict[str, list[str]] | None = None,
    sizes_m: dict[str, float] | None = None,
) -> Findings:
    """Findings in which the most accurate fusion is the reference; what is not named is not decided."""
    kinds = {
        "rgb": "unimodal",
        "lidar": "unimodal",
        "late": "late",
        "late_mean": "late",
        "late_finetuned": "late",
        "early": "early",
        "prior": "baseline",
        "return_count": "baseline",
    }
    fusions = [name for name in accuracies if kinds.get(name) not in ("unimodal", "baseline")]
    reference = max(fusions, key=lambda name: accuracies[name])
    single = max(("rgb", "lidar"), key=lambda name: accuracies[name])
    models = {
        name: Finding(
            name=name,
            kind=kinds.get(name, "intermediate"),
            parameters_m=None
            if name == "prior"
            else (sizes_m or {"late": 26.3, "late_mean": 26.3, "rgb": 13.1, "lidar": 13.1}).get(name, 6.6),
            trained={"prior": None, "late": 41, "late_mean": 0}.get(name, 6_600_000),
            loss=2 * (1 - accuracy),
            balanced_accuracy=accuracy,
            beats_prior=None if name == "prior" else beats_prior,
            mean_below_prior=mean_below_prior,
            outcome=None
            if name == reference or kinds.get(name) == "baseline"
            else (outcomes or {}).get(name, "not decided"),
            against_single=against_single if name in fusions else None,
            ignores=(ignores or {}).get(name, []),
        )
        for name, accuracy in accuracies.items()
    }
    return Findings(models, reference, single, split, num_seeds, 8, 0.01)


WINNER = {"rgb": 0.8, "lidar": 0.85, "concatenation": 0.95, "addition": 0.9, "late": 0.88, "prior": 0.5}
TIED = {"rgb": 0.9, "lidar": 0.9, "concatenation": 0.9, "addition": 0.9, "late": 0.9, "prior": 0.5}
UNIMODAL_AHEAD = {**WINNER, "lidar": 0.97}
MANY = {**WINNER, **{f"operator_{i}": 0.85 for i in range(14)}}
WORSE = dict.fromkeys(("rgb", "lidar", "addition", "late"), "worse")
CASES = {
    "one clear winner": made_up(WINNER, outcomes=WORSE, against_single="better"),
    "all tied": made_up(TIED, outcomes=dict.fromkeys(WORSE, "tied"), against_single="tied"),
    "nothing decided": made_up(TIED),
    "no better than the prior": made_up(TIED, beats_prior=False),
    "one seed": made_up(WINNER, num_seeds=1),
    "fusion worse than unimodal": made_up(
        UNIMODAL_AHEAD, outcomes={"lidar": "better"}, against_single="worse"
    ),
    "no test split": made_up(WINNER, split="validation"),
    "many fusions": made_up(MANY),
    "late wins": made_up({**WINNER, "late": 0.97}, num_seeds=4),
    "a rival is better on test": made_up(WINNER, outcomes={"addition": "better"}),
    "the mean of both nets wins": made_up(
        {**WINNER, "late_mean": 0.97}, outcomes=WORSE, against_single="better"
    ),
    "unfrozen nets win": made_up({**WINNER, "late_finetuned": 0.97}, outcomes=WORSE, against_single="better"),
    "early wins": made_up({**WINNER, "early": 0.97}, outcomes=WORSE, against_single="better"),
    "equal sizes": made_up(WINNER, sizes_m={"rgb": 3.3, "lidar": 3.3}),
    "one fusion": made_up({"rgb": 0.8, "lidar": 0.85, "maximum": 0.85, "prior": 0.5}),
    "two fusions": made_up({"rgb": 0.8, "lidar": 0.85, "maximum": 0.85, "late": 0.9, "prior": 0.5}),
}


def text_of(found: Findings) -> str:
    return "\n\n".join(findings.written_analysis(found))


@pytest.mark.parametrize("case", CASES)
def test_length(case: str) -> None:
    assert 200 <= len(text_of(CASES[case]).split()) <= 400


def test_a_clear_winner_is_named_with_its_numbers() -> None:
    found = CASES["one clear winner"]
    lines = " ".join(findings.answer(found))
    assert "**concatenation**" in lines and "significantly better than addition and late" in lines
    assert "fusing paid, significantly" in lines
    assert "0.950" in text_of(found) and "a significant difference in its favour" in text_of(found)
    assert "A plausible reason" in text_of(found)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("late wins", "which opinion to trust"),
        ("the mean of both nets wins", "err on different samples"),
        ("unfrozen nets win", "what the other one misses"),
        ("early wins", "a single encoder reads both"),
        ("one clear winner", "sees both sensors' feature maps"),
    ],
)
def test_reasons_fit_the_kind_of_fusion(case: str, reason: str) -> None:
    found = replace(CASES[case], num_seeds=10)
    assert reason in text_of(replace(found, models=with_best_better(found)))


def with_best_better(found: Findings) -> dict[str, Finding]:
    """The same models, and the reference significantly better than the better single sensor."""
    return found.models | {found.reference: replace(found.best, against_single="better")}


def test_equal_sizes_explain_nothing() -> None:
    for case, told in (("equal sizes", "size explains none"), ("one fusion", "the only fusion here")):
        text = text_of(CASES[case])
        assert told in text and "Of the largest fusions" not in text
    assert "Of the largest fusions" in text_of(CASES["one clear winner"])


def test_ties_are_called_ties() -> None:
    lines = " ".join(findings.answer(CASES["all tied"]))
    assert "tied with addition and late: they differ by less than 0.01" in lines
    assert "fusing made no difference that matters" in lines
    assert "count as tied" in text_of(CASES["all tied"])


def test_what_is_open_is_not_decided() -> None:
    lines = " ".join(findings.answer(CASES["nothing decided"]))
    assert "significantly" not in lines and "tied" not in lines
    assert "Against addition and late it is not decided" in lines
    assert "whether fusing pays is not decided" in lines
    assert "may well be noise" in text_of(CASES["nothing decided"])


def test_models_that_learned_nothing_are_not_ranked() -> None:
    found = CASES["no better than the prior"]
    assert "No answer yet" in findings.answer(found)[0]
    assert "is not shown to beat the class prior" in text_of(found)
    hopeless = made_up(TIED, beats_prior=False, mean_below_prior=False)
    assert "is no better than always predicting" in findings.answer(hopeless)[0]
    assert "does not beat the class prior" in text_of(hopeless)
    assert "plausible reason" not in text_of(found)


def test_few_seeds_are_said_to_be_few() -> None:
    lines = " ".join(findings.answer(CASES["one seed"]))
    assert "With one seed no difference of this family can be significant" in lines
    assert "run at least 8 seeds" in text_of(CASES["one seed"])
    assert "cannot tell from noise" in text_of(CASES["one seed"])


def test_fusion_that_harms_is_called_so() -> None:
    found = CASES["fusion worse than unimodal"]
    assert (
        "LiDAR alone, the more accurate sensor on validation, has a balanced accuracy of 0.970"
        in " ".join(findings.answer(found))
    )
    assert "fusing harmed, significantly" in " ".join(findings.answer(found))
    assert "the second sensor has done harm" in text_of(found)


def test_a_better_rival_is_named() -> None:
    lines = " ".join(findings.answer(CASES["a rival is better on test"]))
    assert "On the test split it is significantly worse than addition" in lines


def test_an_ignored_sensor_is_named() -> None:
    found = made_up(WINNER, ignores={"addition": ["lidar"]})
    assert "addition ignores LiDAR" in " ".join(findings.answer(found))
    assert "ignores" not in " ".join(findings.answer(CASES["one clear winner"]))


def test_narrow_intervals_are_warned_of() -> None:
    few = {
        "num_scenes": 50,
        "seeds": [1, 2, 3],
        "models": {"a": {"seed_share": 0.8}, "b": {"seed_share": None}},
    }
    assert "a single scene" in (findings.narrow_intervals(few | {"num_scenes": 1, "split": "test"}) or "")
    assert "too narrow" in (findings.narrow_intervals(few) or "")
    assert findings.narrow_intervals(few | {"seeds": list(range(10))}) is None
    assert findings.narrow_intervals(few | {"models": {"a": {"seed_share": 0.1}}}) is None


def test_a_missing_test_split_is_said() -> None:
    assert "they flatter every model" in " ".join(findings.answer(CASES["no test split"]))
    assert "On the validation split" in text_of(CASES["no test split"])


UNDECIDED = [
    case
    for case, found in CASES.items()
    if not {model.outcome for model in found.models.values()} & {"better", "worse"}
]


@pytest.mark.parametrize("case", UNDECIDED)
def test_nothing_undecided_is_called_significant(case: str) -> None:
    for text in (text_of(CASES[case]), " ".join(findings.answer(CASES[case]))):
        assert "significantly" not in text
        assert "a significant difference" not in text and "is significant" not in text


@pytest.mark.parametrize("case", CASES)
def test_every_number_of_the_text_is_one_of_the_findings(case: str) -> None:
    found = CASES[case]
    known = {f"{found.margin:g}", str(found.num_seeds), str(found.seeds_needed)}
    known |= {str(model.trained) for model in found.models.values()}
    for model in found.models.values():
        known |= {f"{model.loss:.3f}", f"{model.balanced_accuracy:.3f}", f"{model.parameters_m or 0:.3g}"}
    text = " ".join([text_of(found), *findings.answer(found)])
    numbers = set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)", text))
    assert numbers and numbers <= known


@pytest.mark.parametrize(
    ("accuracy", "beats_prior", "warned"),
    [(0.945, True, True), (0.945, False, False), (0.75, True, False)],
)
def test_a_trivial_task_is_called_so(accuracy: float, beats_prior: bool, warned: bool) -> None:
    """Only where the scan's size alone tells the classes about as well as the best fusion."""
    found = made_up({**WINNER, "return_count": accuracy}, beats_prior=beats_prior)
    sentence = findings.trivial_task(found)
    assert (sentence is not None) == warned
    if sentence:
        assert "0.945" in sentence and "concatenation reaches 0.950" in sentence
