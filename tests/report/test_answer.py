"""The report's sentences under made-up results: never longer, and never bolder, than the numbers allow."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support.comparisons import comparison, model_result

from stages.lib.comparison.results import Comparison, ConditionValue, SensorUse, Summary
from stages.lib.report import analysis, answer, format, gains
from stages.lib.statistics.results import Contrast, Interval, Plan

KINDS = {
    "rgb": "unimodal",
    "lidar": "unimodal",
    "late": "late",
    "late_mean": "late",
    "late_finetuned": "late",
    "early": "early",
    "prior": "baseline",
    "return_count": "baseline",
}
TRAINED = {"late": 41, "late_mean": 0}


def contrast(model: str, against: str, difference: float, outcome: str, num_seeds: int) -> Contrast:
    interval = (difference - 0.02, difference + 0.02) if num_seeds > 1 else None
    plan = Plan(seeds=3, scenes=900) if outcome == "not decided" and num_seeds > 2 else None
    return Contrast(
        model, against, difference, interval, 0.01, 3.0, 0.2, 0.5, abs(difference) + 0.018, 0.4, outcome, plan
    )


def summary(mean: float) -> Summary:
    return Summary([mean], mean, None, mean - 0.02, mean + 0.02, None, None)


def made_up(
    accuracies: dict[str, float],
    *,
    outcomes: dict[str, str] | None = None,
    against_single: str = "not decided",
    beats_prior: bool = True,
    mean_below_prior: bool = True,
    num_seeds: int = 10,
    num_scenes: int = 245,
    split: str = "test",
    ignores: dict[str, list[str]] | None = None,
    failed: dict[str, list[int]] | None = None,
    sizes_m: dict[str, float] | None = None,
) -> Comparison:
    """Results in which the most accurate fusion is the reference; what is not named is not decided."""
    fusions = [name for name in accuracies if KINDS.get(name) not in ("unimodal", "baseline")]
    reference = max(fusions, key=lambda name: accuracies[name])
    single = max(("rgb", "lidar"), key=lambda name: accuracies[name])
    sizes = sizes_m or {"late": 26.3, "late_mean": 26.3, "rgb": 13.1, "lidar": 13.1}
    models = {}
    for name, accuracy in {"return_count": 0.5, **accuracies}.items():
        kind = KINDS.get(name, "intermediate")
        size = None if kind == "baseline" else round(1e6 * sizes.get(name, 6.6))
        is_fusion = name in fusions
        outcome = (outcomes or {}).get(name, "not decided")
        nothing = Interval(0.0, None, None)
        use = {
            sensor: SensorUse(nothing, nothing, nothing, sensor in (ignores or {}).get(name, []), True)
            for sensor in ("rgb", "lidar")
        }
        models[name] = model_result(
            kind=kind,
            parameters=size,
            trainable_parameters=TRAINED.get(name, size),
            metrics={
                split: {"loss": summary(2 * (1 - accuracy)), "balanced_accuracy": summary(accuracy)},
            },
            beats_prior=None if name == "prior" else beats_prior,
            mean_below_prior=mean_below_prior,
            contrast=(
                contrast(name, reference, accuracy - accuracies[reference], outcome, num_seeds)
                if is_fusion and name != reference
                else None
            ),
            single=(
                contrast(name, single, accuracy - accuracies[single], against_single, num_seeds)
                if is_fusion
                else None
            ),
            failed_seeds=(failed or {}).get(name, []),
            sensor_use=use if is_fusion else None,
        )
    return comparison(
        split=split,
        reference=reference,
        single=single,
        seeds=list(range(num_seeds)),
        num_scenes=num_scenes,
        rarest_class="spheres",
        models=models,
    )


WINNER = {"rgb": 0.8, "lidar": 0.85, "concatenation": 0.95, "addition": 0.9, "late": 0.88, "prior": 0.5}
TIED = {"rgb": 0.9, "lidar": 0.9, "concatenation": 0.9, "addition": 0.9, "late": 0.9, "prior": 0.5}
UNIMODAL_AHEAD = {**WINNER, "lidar": 0.97}
MANY = {**WINNER, **{f"operator_{i}": 0.85 for i in range(14)}}
WORSE = dict.fromkeys(("addition", "late", "concatenation"), "worse")
CASES = {
    "one clear winner": made_up(WINNER, outcomes=WORSE, against_single="better"),
    "all tied": made_up(TIED, outcomes=dict.fromkeys(WORSE, "tied"), against_single="tied"),
    "nothing decided": made_up(TIED),
    "no better than the prior": made_up(TIED, beats_prior=False),
    "one seed": made_up(WINNER, num_seeds=1),
    "two seeds": made_up(WINNER, num_seeds=2),
    "one scene": made_up(WINNER, num_scenes=1),
    "all others did not train": made_up(
        WINNER, num_seeds=2, failed={name: [0, 1] for name in ("addition", "late")}
    ),
    "a seed did not train": made_up(WINNER, failed={"addition": [52]}),
    "fusion worse than unimodal": made_up(UNIMODAL_AHEAD, against_single="worse"),
    "no test split": made_up(WINNER, split="validation"),
    "many fusions": made_up(MANY, outcomes=dict.fromkeys(list(MANY)[-8:], "worse")),
    "late wins": made_up({**WINNER, "late": 0.97}, num_seeds=4, against_single="better"),
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


def analysis_of(case: str) -> str:
    return "\n\n".join(analysis.written_analysis(CASES[case]))


def answer_of(case: str) -> str:
    return " ".join(answer.answer(CASES[case]))


@pytest.mark.parametrize("case", CASES)
def test_length(case: str) -> None:
    assert 200 <= len(analysis_of(case).split()) <= 400
    assert len(answer.answer(CASES[case])) <= 5


def test_a_clear_winner_is_named_with_its_numbers() -> None:
    text = answer_of("one clear winner")
    assert "**concatenation is the best fusion.** It has a balanced accuracy of 0.950" in text
    assert (
        "All other fusions are significantly worse; the nearest is addition, {m}5.0 points ({m}7.0 to {m}3.0)".format(
            m="\N{MINUS SIGN}"
        )
        in text
    )
    assert "**This dataset needs both sensors.**" in text and "+10.0 points" in text
    assert "So are all other fusions." in text and "To decide" not in text
    assert "addition has the highest, 0.900; the difference is significant" in analysis_of("one clear winner")


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("late wins", "which of the two to trust"),
        ("the mean of both nets wins", "make their errors on different samples"),
        ("unfrozen nets win", "what the other one misses"),
        ("early wins", "one encoder sees both sensors"),
        ("one clear winner", "sees the feature maps of both sensors"),
    ],
)
def test_reasons_fit_the_kind_of_fusion(case: str, reason: str) -> None:
    assert reason in analysis_of(case)


def test_equal_sizes_explain_nothing() -> None:
    for case, told in (("equal sizes", "size explains none"), ("one fusion", "the only fusion here")):
        text = analysis_of(case)
        assert told in text and "Of the largest fusions" not in text
    assert "Of the largest fusions" in analysis_of("one clear winner")


def test_ties_are_called_ties() -> None:
    text = answer_of("all tied")
    assert "**In front: concatenation, addition and late.**" in text
    assert "Tied with concatenation, within 3 points: addition" in text
    assert "**LiDAR alone does as well.**" in text or "**RGB alone does as well.**" in text
    assert "the two are tied" in analysis_of("all tied")


def test_the_same_decisions_are_not_called_open() -> None:
    compared = made_up(TIED, outcomes={"addition": "tied"})
    late = compared.models["late"]
    assert late.contrast is not None
    nothing_to_test = replace(
        late.contrast, difference=0.0, interval=None, se=None, p=None, p_holm=None, plan=None
    )
    compared.models["late"] = replace(late, contrast=nothing_to_test)
    text = answer.answer(compared)[0]
    assert "As accurate as concatenation on every scene, so there is nothing to test: late." in text
    assert "Not separated" not in text


def test_what_is_open_is_said_to_be_open_and_what_would_decide_it() -> None:
    text = answer_of("nothing decided")
    assert "significantly" not in text.lower() and "tied" not in text.lower()
    assert "Not separated from concatenation by this run: addition" in text
    assert "Whether two sensors beat one is open" in text
    assert "about 900 more test scenes or 3 more seeds" in text
    assert "does not decide whether the two differ" in analysis_of("nothing decided")


def test_models_that_learned_nothing_are_not_ranked() -> None:
    assert "No answer yet" in answer_of("no better than the prior")
    assert "is not shown to beat the class prior" in analysis_of("no better than the prior")
    hopeless = made_up(TIED, beats_prior=False, mean_below_prior=False)
    assert "although" not in answer.answer(hopeless)[0]
    assert "does not beat the class prior" in "".join(analysis.written_analysis(hopeless))
    assert "plausible reason" not in analysis_of("no better than the prior")


@pytest.mark.parametrize(("case", "count"), [("one seed", "1 seed"), ("two seeds", "2 seeds")])
def test_few_seeds_claim_nothing_and_are_told_why(case: str, count: str) -> None:
    text = answer_of(case)
    assert f"**Nothing can be claimed with {count}:** a claim takes at least 3" in text
    assert "In front" not in text
    assert "more test scenes" not in text


def test_one_scene_claims_nothing() -> None:
    assert "holds a single scene" in answer_of("one scene")


def test_a_seed_that_did_not_train_is_named() -> None:
    assert "**Seeds that did not train:** addition (52)." in answer_of("a seed did not train")


def test_fusion_that_harms_is_called_so() -> None:
    text = answer_of("fusion worse than unimodal")
    assert "**LiDAR alone does better.**" in text and "has 0.970" in text
    assert "the second sensor does harm" in analysis_of("fusion worse than unimodal")


def test_a_better_rival_is_named() -> None:
    text = answer_of("a rival is better on test")
    assert "Significantly better than concatenation on the test split: addition" in text


def test_many_fusions_make_a_sentence_without_their_numbers() -> None:
    text = answer_of("many fusions")
    assert "operator 13" in text and text.count("points (") < 8


def test_an_ignored_sensor_is_named() -> None:
    found = made_up(WINNER, ignores={"addition": ["lidar"]})
    assert "addition ignores LiDAR" in " ".join(answer.answer(found))
    assert "ignores" not in answer_of("one clear winner")


def test_a_missing_test_split_is_said() -> None:
    assert "numbers are too optimistic" in answer_of("no test split")
    assert "On the validation split" in analysis_of("no test split")


def is_undecided(compared: Comparison) -> bool:
    contrasts = [part for model in compared.models.values() for part in (model.contrast, model.single)]
    return not {part.outcome for part in contrasts if part is not None} & {"better", "worse"}


@pytest.mark.parametrize("case", [case for case, compared in CASES.items() if is_undecided(compared)])
def test_nothing_undecided_is_called_significant(case: str) -> None:
    for text in (analysis_of(case), answer_of(case)):
        assert "significant" not in text.lower()
        assert "needs both sensors" not in text and "is the best fusion" not in text


@pytest.mark.parametrize("case", CASES)
def test_every_number_of_the_text_is_one_of_the_results(case: str) -> None:
    compared = CASES[case]
    # 0.1 of chance, 3 seeds of a claim, 5 % of nothing; what a plan says; counts of fusions.
    known = {"0.1", "3", "900", str(len(compared.seeds)), str(len(compared.fusions) - 1)}
    known |= {str(len(compared.fusions) - 1 - count) for count in range(3)}
    for name, model in compared.models.items():
        known |= {
            f"{compared.loss(name):.3f}",
            f"{compared.accuracy(name):.3f}",
            str(model.trainable_parameters),
        }
        known |= {f"{(model.parameters or 0) / 1e6:.3g}", *map(str, model.failed_seeds)}
        for part in (model.contrast, model.single):
            if part is not None:
                known |= {f"{100 * abs(value):.1f}" for value in (part.difference, *(part.interval or ()))}
    numbers = set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)", analysis_of(case) + " " + answer_of(case)))
    names = set(re.findall(r"operator (\d+)", answer_of(case)))
    assert numbers and numbers - names <= known


@pytest.mark.parametrize(
    ("accuracy", "beats_prior", "warned"),
    [(0.945, True, True), (0.945, False, False), (0.75, True, False)],
)
def test_a_trivial_task_is_called_so(accuracy: float, beats_prior: bool, warned: bool) -> None:
    """Only where the scan's size alone tells the classes about as well as the best fusion."""
    compared = made_up({**WINNER, "return_count": accuracy}, beats_prior=beats_prior)
    sentence = answer.trivial_task(compared)
    assert (sentence is not None) == warned
    if sentence:
        assert "0.945" in sentence and "concatenation has 0.950" in sentence


def test_few_scenes_are_warned_of() -> None:
    assert "only 12 scenes" in " ".join(answer.answer(replace(CASES["nothing decided"], num_scenes=12)))


def by_weather(outcomes: dict[str, dict[str, str]]) -> Comparison:
    """Late fusion is the reference and LiDAR the better sensor; outcomes by weather and fusion."""
    compared = CASES["late wins"]
    conditions = []
    for place, (weather, of_fusions) in enumerate(outcomes.items()):
        sign = {"worse": -1}
        gains = {
            name: contrast(name, "lidar", sign.get(outcome, 1) * (0.1 + place / 100), outcome, 4)
            for name, outcome in of_fusions.items()
        }
        accuracies = {name: Interval(0.8, 0.7, 0.9) for name in compared.models}
        conditions.append(ConditionValue("weather", weather, 50, 25, None, accuracies, gains))
    return replace(compared, conditions=conditions)


def test_gains_by_condition_are_said_with_their_numbers() -> None:
    compared = by_weather(
        {
            "sun": {"late": "tied", "addition": "worse"},
            "rain": {"late": "better", "addition": "better"},
            "f|og": {"late": "better", "addition": "not decided"},
        }
    )
    text = gains.where_fusing_helps(compared)
    assert text is not None and text in answer.answer(compared)
    assert text.startswith(
        "**Where fusing helps:** late is significantly better than LiDAR alone in 2 of 3 conditions"
    )
    assert (
        "but RGB alone is as good there or better, most in "
        r"weather: f\|og, +12.0 points (+10.0 to +14.0), where RGB alone has 0.800 and late" in text
    )
    assert "So is 1 other fusion in at least one." in text
    assert (
        "Significantly worse than LiDAR alone in at least one: addition: weather: sun, {m}10.0".format(
            m="\N{MINUS SIGN}"
        )
        in text
    )


def test_a_gain_over_one_sensor_alone_is_called_so() -> None:
    compared = by_weather({"rain": {"late": "better"}, "fog": {"late": "better"}, "snow": {"late": "better"}})

    def above_in(*weathers: str) -> str:
        conditions = []
        for part in compared.conditions:
            late = Interval(0.85 if part.value in weathers else 0.8, 0.7, 0.9)
            conditions.append(replace(part, accuracies={**part.accuracies, "late": late}))
        text = gains.where_fusing_helps(replace(compared, conditions=conditions))
        assert text is not None
        return text

    assert "in 3 of 3 conditions, most in weather: snow" in above_in("rain", "fog", "snow")
    some = above_in("rain")
    assert "3 of 3 conditions; in 2 of these, RGB alone is as good or better. The largest gains" in some
    assert "in the others: weather: rain, +10.0 points" in some and "snow" not in some
    none = above_in()
    assert "3 of 3 conditions, but RGB alone is as good there or better, most in weather: snow" in none


def test_no_gain_is_said_where_none_holds() -> None:
    compared = by_weather({"sun": {"late": "tied"}, "rain": {"late": "not decided"}})
    assert gains.where_fusing_helps(compared) is None
    assert not any("Where fusing" in line for line in answer.answer(compared))
    harmed = gains.where_fusing_helps(by_weather({"sun": {"addition": "worse"}}))
    assert harmed is not None and harmed.startswith("**Where fusing harms:**")


def test_counts_read_alike() -> None:
    assert format.plural(1, "group") == "1 group"
    assert format.plural(1200, "group") == "1,200 groups"
