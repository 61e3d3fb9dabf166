"""Groups of runs side by side."""

import json
import shutil
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.evaluation.comparison import ALL_SCORES, compare_groups, parse_groups, welch_p
from radscribe.evaluation.comparison_result import Comparison
from radscribe.evaluation.evaluate import compare, evaluate_texts
from radscribe.evaluation.multiplicity import holm

pytestmark = pytest.mark.usefixtures("without_java")

REFERENCES = {
    f"study-{number}": text
    for number, text in enumerate(
        [
            "The heart is enlarged. No effusion.",
            "There is a small left pleural effusion.",
            "No acute disease. The lungs are clear.",
            "There is edema and cardiomegaly.",
            "Right pneumothorax. No effusion.",
        ]
        * 4
    )
}


def evaluated(wrong: int, references=REFERENCES):
    """Drafts that are the references but for the first few, which say what is normal."""
    drafts = {
        study: "no acute disease ." if index < wrong else text
        for index, (study, text) in enumerate(references.items())
    }
    return evaluate_texts(
        drafts, references, protocol="clean_full", cleaning="iu_xray", meteor=False, resamples=50
    )


def test_mean_and_range_over_runs():
    good, better, bad = evaluated(3), evaluated(1), evaluated(12)
    comparison = compare_groups({"bad": [bad], "good": [good, better]}, resamples=200)
    for name in ("BLEU-4", "CIDEr", "micro F1 (14, as_present)"):
        values = [each.rows["system"].scores[name].value for each in (good, better)]
        found = comparison.scores["good"][name]
        assert found.mean.value == pytest.approx(np.mean(values))
        assert (found.lowest, found.highest) == (min(values), max(values))
        assert found.mean.low <= found.mean.value <= found.mean.high
        difference = comparison.differences["good"][name]
        assert difference.value == pytest.approx(np.mean(values) - bad.rows["system"].scores[name].value)
        assert difference.p < 0.05
    text = str(comparison)
    assert "runs" in text
    assert "protocol clean_full" in text
    assert json.loads(json.dumps(comparison.to_json()))["runs"] == {"bad": 1, "good": 2}


def test_a_pair_of_single_runs_is_the_paired_test():
    first, second = evaluated(2), evaluated(9)
    ours = compare_groups({"second": [second], "first": [first]}, ["BLEU-4"], resamples=50)
    expected = compare(first, second)["BLEU-4"]
    found = ours.differences["first"]["BLEU-4"]
    assert (found.value, found.low, found.high, found.p) == pytest.approx(
        (expected.value, expected.low, expected.high, expected.p)
    )


def test_welch_agrees_with_scipy_and_with_its_formula():
    chance = np.random.default_rng(0)
    for _ in range(20):
        first = chance.normal(0.3, 0.01, chance.integers(3, 6))
        second = chance.normal(0.31, 0.03, chance.integers(3, 6))
        p = welch_p(first, second)
        assert p == pytest.approx(stats.ttest_ind(first, second, equal_var=False).pvalue, abs=1e-12)
        # Welch (1947): the statistic, and its degrees of freedom by the Welch-Satterthwaite equation.
        errors = [group.var(ddof=1) / len(group) for group in (first, second)]
        t = (first.mean() - second.mean()) / np.sqrt(sum(errors))
        freedom = sum(errors) ** 2 / sum(
            error**2 / (len(group) - 1) for error, group in zip(errors, (first, second), strict=True)
        )
        assert p == pytest.approx(2 * stats.t.sf(abs(t), freedom), abs=1e-12)
    assert welch_p([0.3] * 3, [0.3] * 3) == 1
    assert welch_p([0.3] * 3, [0.4] * 3) == 0


def test_holm_is_the_closed_test_of_bonferroni():
    """An adjusted p-value is the largest Bonferroni p-value of all sets of tests that hold the test."""
    chance = np.random.default_rng(0)
    for _ in range(20):
        p = chance.choice([*chance.uniform(0, 0.2, 5), 0.01], chance.integers(1, 7))  # with ties
        sets = [chosen for size in range(1, len(p) + 1) for chosen in combinations(range(len(p)), size)]
        closed = [
            max(min(1, len(chosen) * p[list(chosen)].min()) for chosen in sets if test in chosen)
            for test in range(len(p))
        ]
        assert holm(p) == pytest.approx(closed, abs=1e-12)
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])  # R: p.adjust(p, "holm")
    assert holm([]) == []


def test_p_values_are_adjusted_for_the_number_of_tests():
    groups = {"low": [evaluated(n) for n in (12, 12, 13)]}
    groups |= {f"high {start}": [evaluated(start + n) for n in (0, 1, 0)] for start in (1, 3)}
    comparison = compare_groups(groups, ["BLEU-4", "CIDEr"], resamples=200)
    tests = [test for of_group in comparison.differences.values() for test in of_group.values()]
    assert comparison.tests == (4, 4)
    assert [test.p_holm for test in tests] == pytest.approx(holm([test.p for test in tests]))
    assert [test.p_over_seeds_holm for test in tests] == holm([test.p_over_seeds for test in tests])
    text = str(comparison)
    assert "Multiplicity: 4 tests over studies and 4 over seeds were made" in text
    assert "--resamples" not in text
    assert Comparison.from_json(json.loads(json.dumps(comparison.to_json()))) == comparison
    few = compare_groups(groups, ["BLEU-4", "CIDEr"], resamples=50)
    assert "none can stay below 0.05 after Holm: pass --resamples 160 or more" in str(few)


def test_a_group_leads_only_where_it_is_clearly_above_every_other():
    low, middle, high = ([evaluated(n) for n in wrong] for wrong in ([14, 14, 15], [7, 8, 7], [1, 2, 1]))
    groups = {"low": low, "middle": middle, "high": high}
    assert compare_groups(groups, ["BLEU-4"], resamples=500).leaders == {"BLEU-4": "high"}
    # The best of all is above the first group, but not above the second.
    close = {"low": low, "high": high, "as high": [evaluated(n) for n in (1, 1, 2)]}
    assert compare_groups(close, ["BLEU-4"], resamples=500).leaders == {}


def test_a_difference_is_clear_only_where_studies_and_seeds_agree():
    """The same means over studies; but in one comparison a seed does as much as the system."""
    low, alike, spread = ([evaluated(n) for n in wrong] for wrong in ([12, 12, 13], [1, 2, 1], [1, 1, 15]))
    comparison = compare_groups({"low": low, "alike": alike, "spread": spread}, ["BLEU-4"], resamples=200)
    clear, unclear = (comparison.differences[group]["BLEU-4"] for group in ("alike", "spread"))
    assert max(clear.p, unclear.p) < 0.05
    assert clear.p_over_seeds < 0.05 < unclear.p_over_seeds
    assert (clear.verdict, unclear.verdict) == ("clearly higher", "no clear difference")
    text = str(comparison)
    assert "alike against low: clearly higher on BLEU-4." in text
    assert "spread against low: no clear difference on BLEU-4." in text
    (backwards,) = compare_groups({"alike": alike, "low": low}, ["BLEU-4"]).differences["low"].values()
    assert backwards.verdict == "clearly lower"
    content = json.loads(json.dumps(comparison.to_json()))
    assert content["differences"]["spread"]["BLEU-4"]["p_over_seeds"] == unclear.p_over_seeds
    assert content["differences"]["alike"]["BLEU-4"]["verdict"] == "clearly higher"
    assert content["scores"]["alike"]["BLEU-4"]["of_runs"] == [
        run.rows["system"].scores["BLEU-4"].value for run in alike
    ]


def test_two_runs_are_not_tested_over_seeds():
    comparison = compare_groups(
        {"low": [evaluated(n) for n in (12, 12, 13)], "high": [evaluated(1), evaluated(2)]}, resamples=50
    )
    difference = comparison.differences["high"]["BLEU-4"]
    assert (difference.p_over_seeds, difference.verdict) == (None, "not tested over seeds")
    text = str(comparison)
    assert "high against low: not tested over seeds: needs three runs in each group" in text
    assert "clearly" not in text


def test_every_score_of_a_run_has_a_known_name():
    assert set(evaluated(1).rows["system"].scores) <= set(ALL_SCORES)


def test_faults():
    with pytest.raises(RadScribeError, match="unknown score 'BLEU-5'"):
        compare_groups({"a": [evaluated(1)], "b": [evaluated(2)]}, ["BLEU-5"])
    others = {study: f"{text} Stable." for study, text in REFERENCES.items()}
    with pytest.raises(RadScribeError, match="not scored on the same references"):
        compare_groups({"a": [evaluated(1)], "b": [evaluated(1, others)]})


def test_groups_are_parsed():
    assert parse_groups(["a=x,y", "runs/z"]) == {"a": ["x", "y"], "runs/z": ["runs/z"]}
    for wrong, message in [
        (["a=", "b"], "'a=' is no group"),
        (["=x", "b"], "'=x' is no group"),
        (["a=x,,y"], "no group"),
        (["a", "a"], "group 'a' stands there twice"),
        (["a=x,y,x"], "run 'x' stands twice in the group 'a'"),
    ]:
        with pytest.raises(RadScribeError, match=message):
            parse_groups(wrong)


def test_one_group_is_nothing_to_compare(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "a=x,y"])
    assert "nothing to compare" in capsys.readouterr().err


def test_unknown_scores_are_refused_before_anything_is_scored(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "a=nowhere", "b=nowhere-else", "--scores", "BLEU-4", "BLEU-5"])
    assert "unknown score 'BLEU-5'. Did you mean 'BLEU-4'?" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command(finished_run, tmp_path, capsys):
    runs = [finished_run, shutil.copytree(finished_run, tmp_path / "copy")]
    main(["compare", f"one={runs[0]}", f"two={runs[1]},{runs[0]}", "--resamples", "20"])
    printed = capsys.readouterr().out
    assert "BLEU-4" in printed
    assert "word attention pointing" in printed
    assert "weights chosen after epoch: one 1; two 1, 1" in printed
    assert "two against one: not tested over seeds: needs three runs in each group" in printed
