"""Comparing groups of runs: means over runs, the spread of the runs, and two significance tests.

Runs of one recipe with different seeds differ, often more than two recipes do. So a system is represented by
a group of runs: its score is the mean over the runs, and the lowest and the highest run are shown beside it.
The interval of the mean comes from resampling the studies, with the same draws for every run of every group.

A difference between two groups is tested twice. Resampling the studies tests whether these runs would differ
on other studies, but says nothing about other seeds. Welch's t-test on the scores of the runs tests whether
runs with other seeds would differ on these studies. A difference is called clear if both tests are
significant. Many tests are made at once, so each p-value is also given as adjusted by Holm's method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from radscribe.errors import RadScribeError, unknown_name
from radscribe.evaluation.bootstrap import percentile_interval, resampled_scores, two_sided_p
from radscribe.evaluation.comparison_result import Comparison
from radscribe.evaluation.evaluate import check_comparable
from radscribe.evaluation.families import FAMILIES, SYSTEM
from radscribe.evaluation.multiplicity import holm
from radscribe.evaluation.result import Evaluation
from radscribe.evaluation.scores import SIGNIFICANT, GroupDifference, GroupScore, GroupVerdict, Score

#: Scores that are compared if none are named; those that not all groups have are left out.
USUAL_SCORES = (
    "BLEU-1",
    "BLEU-4",
    "ROUGE-L",
    "CIDEr",
    "micro F1 (14, as_present)",
    "macro F1 (14, as_present)",
    "TDM pointing",
    "TDM energy",
    "sentence attention pointing",
    "sentence attention energy",
    "word attention pointing",
    "word attention energy",
)
#: Every score that runs can be compared by. Scores that need Java are left out: Java takes seconds to start.
ALL_SCORES = tuple(name for family in FAMILIES.values() if family.needs != "Java" for name in family.scores)
#: Smallest number of runs in a group for a test over seeds.
RUNS_TO_TEST = 3


#: For each score of a group or baseline, its value in each resample of the studies `[resamples]`.
_Samples = Mapping[str, np.ndarray]


def compare_groups(
    groups: Mapping[str, Sequence[Evaluation]], names: Sequence[str] = (), *, resamples: int = 1000
) -> Comparison:
    """Compare the first group of runs with each of the other groups, and all groups with the baselines.

    A group leads in a score if it is clearly higher than every other group: by the test over studies, and by
    the test over seeds where both groups have at least `RUNS_TO_TEST` runs. These p-values are adjusted by
    Holm's method for all tests of the leaders.

    Args:
        groups: Evaluated runs by name of their group, all on the same references under the same rules.
        names: Names of the scores to compare; if empty, those of `USUAL_SCORES` that the runs have.
        resamples: Number of bootstrap resamples.

    Raises:
        RadScribeError: the runs were scored under different rules, or no run has a score of a given name.
    """
    everything = [evaluation for group in groups.values() for evaluation in group]
    for evaluation in everything[1:]:
        check_comparable(everything[0], evaluation)
    seed = everything[0].provenance.seed
    known = {name for evaluation in everything for name in evaluation.rows[SYSTEM].scores}
    for name in names:
        if name not in known:
            raise unknown_name("score", name, known)  # the score exists, but these runs do not have it
    chosen = list(names) or [name for name in USUAL_SCORES if name in known]
    samples = {group: _samples(evaluations, chosen, resamples, seed) for group, evaluations in groups.items()}
    values = {
        group: {
            name: [evaluation.rows[SYSTEM].scores[name].value for evaluation in groups[group]]
            for name in samples[group]
        }
        for group in groups
    }
    scores = {
        group: {name: _group_score(values[group][name], drawn) for name, drawn in samples[group].items()}
        for group in groups
    }

    def against(group: str, other: str) -> dict[str, GroupDifference]:
        return {
            name: _difference(values[group][name], values[other][name], drawn - samples[other][name])
            for name, drawn in samples[group].items()
            if name in samples[other]
        }

    first, *others = groups
    baseline_scores, over_baselines = _over_baselines(everything, samples, values, resamples, seed)
    return Comparison(
        runs={group: len(evaluations) for group, evaluations in groups.items()},
        scores=scores,
        differences=_adjusted({group: against(group, first) for group in others}),
        rules=str(everything[0].provenance),
        leaders=_leaders(scores, against),
        baseline_scores=baseline_scores,
        over_baselines=over_baselines,
        resamples=resamples,
    )


def _group_score(values: Sequence[float], drawn: np.ndarray) -> GroupScore:
    mean = Score(float(np.mean(values)), *percentile_interval(drawn))
    return GroupScore(mean, min(values), max(values), tuple(values))


def _over_baselines(
    evaluations: Sequence[Evaluation],
    samples: Mapping[str, _Samples],
    values: Mapping[str, Mapping[str, Sequence[float]]],
    resamples: int,
    seed: int,
) -> tuple[dict[str, dict[str, Score]], dict[str, dict[str, dict[str, GroupDifference]]]]:
    """The scores of each baseline, and the differences of all groups from them.

    Args:
        evaluations: Evaluated runs; the first that has a baseline gives its scores.
        samples: Samples of each group.
        values: Score of each run of each group, by name of the score.
        resamples: Number of bootstrap resamples.
        seed: Random seed of the bootstrap.
    """
    scores: dict[str, dict[str, Score]] = {}
    differences: dict[str, dict[str, dict[str, GroupDifference]]] = {}
    names = list(dict.fromkeys(name for of_group in samples.values() for name in of_group))
    for evaluation in evaluations:
        for baseline in evaluation.rows:
            if baseline == SYSTEM or baseline in scores:
                continue
            drawn = _samples([evaluation], names, resamples, seed, baseline)
            scores[baseline] = {name: evaluation.rows[baseline].scores[name] for name in drawn}
            tests = {
                group: {
                    name: _difference(
                        values[group][name], [scores[baseline][name].value], of_group[name] - drawn[name]
                    )
                    for name in of_group
                    if name in drawn
                }
                for group, of_group in samples.items()
            }
            # Whether one system beats one baseline is a question of its own, so each row is a family.
            differences[baseline] = {group: _adjusted({group: tests[group]})[group] for group in tests}
    return scores, differences


def _leaders(
    scores: Mapping[str, Mapping[str, GroupScore]],
    against: Callable[[str, str], Mapping[str, GroupDifference]],
) -> dict[str, str]:
    """The group that is clearly higher than every other group, by name of the score."""
    tests: dict[str, dict[str, GroupDifference]] = {}
    leading: dict[str, str] = {}
    for name in dict.fromkeys(name for of_group in scores.values() for name in of_group):
        means = {group: found[name].mean.value for group, found in scores.items() if name in found}
        if len(means) > 1 and not name.endswith("by chance"):  # a large score by chance is nothing good
            leading[name] = max(means, key=means.__getitem__)
            tests[name] = {
                group: against(leading[name], group)[name] for group in means if group != leading[name]
            }
    return {
        name: leading[name]
        for name, of_score in _adjusted(tests).items()
        if all(
            max(test.p_holm or 0, test.p_over_seeds_holm or 0) < SIGNIFICANT and test.value > 0
            for test in of_score.values()
        )
    }


def _adjusted(tests: Mapping[str, Mapping[str, GroupDifference]]) -> dict[str, dict[str, GroupDifference]]:
    """The tests with adjusted p-values: those over studies are one family, those over seeds another."""
    places = [(row, name) for row, of_row in tests.items() for name in of_row]
    over_studies = dict(zip(places, holm([tests[row][name].p for row, name in places]), strict=True))
    seeded = [place for place in places if tests[place[0]][place[1]].p_over_seeds is not None]
    over_seeds = dict(
        zip(seeded, holm([tests[row][name].p_over_seeds or 0 for row, name in seeded]), strict=True)
    )
    return {
        row: {
            name: replace(test, p_holm=over_studies[row, name], p_over_seeds_holm=over_seeds.get((row, name)))
            for name, test in of_row.items()
        }
        for row, of_row in tests.items()
    }


def check_score_names(names: Sequence[str]) -> None:
    """Check before scoring that every name is a score that runs can have.

    Raises:
        RadScribeError: a name is not in `ALL_SCORES`; the message shows the first such name.
    """
    for name in names:
        if name not in ALL_SCORES:
            raise unknown_name("score", name, ALL_SCORES)


def _difference(ours: Sequence[float], theirs: Sequence[float], drawn: np.ndarray) -> GroupDifference:
    """The difference of two groups in one score.

    Args:
        ours: Score of each run of one group.
        theirs: Score of each run of the group that it is compared with.
        drawn: Difference of the two means in each resample of the studies `[resamples]`.
    """
    value = float(np.mean(ours) - np.mean(theirs))
    low, high = percentile_interval(drawn)
    p = two_sided_p(drawn)
    p_over_seeds = welch_p(ours, theirs) if min(len(ours), len(theirs)) >= RUNS_TO_TEST else None
    verdict: GroupVerdict = "no clear difference"
    if p_over_seeds is None:
        verdict = "not tested over seeds"
    elif max(p, p_over_seeds) < SIGNIFICANT and min(low * value, high * value) > 0:
        verdict = "clearly higher" if value > 0 else "clearly lower"
    return GroupDifference(value, low, high, p, p_over_seeds, verdict)


def welch_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value of Welch's t-test: whether two groups of at least two values have the same mean.

    If no group varies at all, the p-value is 1 for equal groups and 0 for different ones.
    """
    from scipy.stats import ttest_ind_from_stats

    if np.ptp(first) == np.ptp(second) == 0:
        return float(np.mean(first) == np.mean(second))
    statistics = [
        part for group in (first, second) for part in (np.mean(group), np.std(group, ddof=1), len(group))
    ]
    return float(ttest_ind_from_stats(*statistics, equal_var=False).pvalue)


def _samples(
    evaluations: Sequence[Evaluation], names: Sequence[str], resamples: int, seed: int, row: str = SYSTEM
) -> dict[str, np.ndarray]:
    """For each score of a row that all runs have, the mean over the runs in each resample `[resamples]`."""
    families = [list(evaluation.rows[row].families.values()) for evaluation in evaluations]
    flat = resampled_scores([family for of_run in families for family in of_run], resamples, seed)
    drawn, start = [], 0
    for of_run in families:
        merged: dict[str, np.ndarray] = {}
        for part in flat[start : start + len(of_run)]:
            merged |= part
        drawn.append(merged)
        start += len(of_run)
    return {
        name: np.mean([scores[name] for scores in drawn], axis=0)
        for name in names
        if all(name in scores for scores in drawn)
    }


def parse_groups(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Parse groups from `name=run,run`; a run without a group name is a group of its own.

    Raises:
        RadScribeError: a group is empty, two groups have the same name, or a group has the same run twice.
    """
    groups: dict[str, list[str]] = {}
    for argument in arguments:
        name, equals, runs = argument.partition("=")
        members = (runs if equals else name).split(",")
        if not name or "" in members:
            raise RadScribeError(f"'{argument}' is no group of runs", "Write NAME=RUN,RUN,RUN")
        if name in groups:
            raise RadScribeError(
                f"the group '{name}' stands there twice", "Give each group a name: NAME=RUN,RUN,RUN"
            )
        for run in members:
            if members.count(run) > 1:  # a run that counts twice would make its group look surer
                raise RadScribeError(
                    f"the run '{run}' stands twice in the group '{name}'", "Name each run of a group once"
                )
        groups[name] = members
    return groups
