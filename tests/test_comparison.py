"""Groups of runs side by side."""

import json

import numpy as np
import pytest
from tiny import tiny_config, tiny_store

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.evaluation.comparison import compare_groups, parse_groups
from radscribe.evaluation.evaluate import compare, evaluate_texts
from radscribe.training.train import train

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


def test_faults():
    with pytest.raises(RadScribeError, match="unknown score 'BLEU-5'"):
        compare_groups({"a": [evaluated(1)], "b": [evaluated(2)]}, ["BLEU-5"])
    others = {study: f"{text} Stable." for study, text in REFERENCES.items()}
    with pytest.raises(RadScribeError, match="not scored on the same references"):
        compare_groups({"a": [evaluated(1)], "b": [evaluated(1, others)]})


def test_groups_are_parsed():
    assert parse_groups(["a=x,y", "runs/z"]) == {"a": ["x", "y"], "runs/z": ["runs/z"]}
    for wrong, message in [(["a=", "b"], "no group"), (["a", "a"], "twice")]:
        with pytest.raises(RadScribeError, match=message):
            parse_groups(wrong)


def test_one_group_is_nothing_to_compare(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "a=x,y"])
    assert "nothing to compare" in capsys.readouterr().err


def test_the_command(tmp_path, capsys):
    store = tiny_store(tmp_path / "store")
    runs = [tmp_path / "first", tmp_path / "second"]
    for seed, run in enumerate(runs):
        train(tiny_config(store, epochs=1, seed=seed), run, progress=False)
    capsys.readouterr()
    main(["compare", f"one={runs[0]}", f"two={runs[1]},{runs[0]}", "--resamples", "20"])
    printed = capsys.readouterr().out
    assert "BLEU-4" in printed
    assert "word attention pointing" in printed
    assert "weights chosen after epoch: one 1; two 1, 1" in printed
