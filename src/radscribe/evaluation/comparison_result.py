"""The result of a comparison of groups of runs: scores, differences, p-values, and their meaning in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError
from radscribe.evaluation.scores import SIGNIFICANT, GroupDifference, GroupScore, GroupVerdict, Score
from radscribe.evaluation.tables import comparison_table
from radscribe.values import typed


@dataclass(frozen=True)
class Comparison:
    """Scores of groups of runs on the same studies. `str()` gives the table to print.

    Attributes:
        runs: Number of runs in each group.
        scores: Scores by group, then name of the score.
        differences: Mean of each other group minus the mean of the first group, by group, then score.
        rules: Rules under which all runs were scored.
        leaders: Group that is clearly higher than every other group, by name of the score; scores without
            such a group are not listed. See `radscribe.evaluation.comparison.compare_groups`.
        baseline_scores: Score of each baseline by its name, then score.
        over_baselines: Mean of each group minus the score of a baseline, by baseline, group and score. A
            baseline has no seed, so it is tested over studies alone. Its p-values are adjusted for the scores
            of one group against one baseline.
        resamples: Number of bootstrap resamples; None in a comparison that an older RadScribe wrote.
    """

    runs: Mapping[str, int]
    scores: Mapping[str, Mapping[str, GroupScore]]
    differences: Mapping[str, Mapping[str, GroupDifference]]
    rules: str
    leaders: Mapping[str, str] = field(default_factory=dict)
    baseline_scores: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    over_baselines: Mapping[str, Mapping[str, Mapping[str, GroupDifference]]] = field(default_factory=dict)
    resamples: int | None = None

    @property
    def names(self) -> list[str]:
        """The names of the scores that at least one group has."""
        return list(dict.fromkeys(name for of_group in self.scores.values() for name in of_group))

    @property
    def tests(self) -> tuple[int, int]:
        """Number of tests against the first group: over studies, and over seeds."""
        all_tests = [test for of_group in self.differences.values() for test in of_group.values()]
        return len(all_tests), sum(test.p_over_seeds is not None for test in all_tests)

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain JSON values."""
        return {**asdict(self), "notice": NOTICE}

    @classmethod
    def from_json(cls, values: Any) -> Comparison:
        """Rebuild a comparison from the result of `to_json`.

        Raises:
            RadScribeError: the values are not a comparison; the message names the wrong field.
        """
        try:
            return typed(values, cls)
        except ValueError as error:
            raise RadScribeError(
                f"the values are no comparison: {error}", "Run radscribe compare again"
            ) from error

    def __str__(self) -> str:
        table = comparison_table(self.runs, self.scores, self.differences)
        return "\n\n".join([table, "\n".join(self.in_words()), self.rules])

    def in_words(self) -> Iterator[str]:
        """The verdicts on the differences of each group, as sentences."""
        first = next(iter(self.runs))
        for group, differences in self.differences.items():
            by_verdict: dict[GroupVerdict, list[str]] = {}
            for name, difference in differences.items():
                by_verdict.setdefault(difference.verdict, []).append(name)
            if "not tested over seeds" in by_verdict:
                yield (
                    f"{group} against {first}: not tested over seeds: needs three runs in each group. The "
                    f"p-values say nothing of runs with other seeds. {_over_studies(differences)}"
                )
                continue
            found = (f"{verdict} on {', '.join(names)}" for verdict, names in by_verdict.items())
            yield f"{group} against {first}: {'; '.join(found)}."
        yield (
            f"p: from resampling the studies. p seeds: Welch's t-test over the runs. Clear: both below "
            f"{SIGNIFICANT:g}, as they are."
        )
        yield self.multiplicity()

    def multiplicity(self) -> str:
        """A sentence that says how many tests there are, and what the adjusted p-values say of them."""
        over_studies, over_seeds = self.tests
        clear = {
            f"{group}: {name}"
            for group, differences in self.differences.items()
            for name, test in differences.items()
            if test.verdict in ("clearly higher", "clearly lower")
        }
        kept = {
            f"{group}: {name}"
            for group, differences in self.differences.items()
            for name, test in differences.items()
            if f"{group}: {name}" in clear
            and max(test.p_holm or 0, test.p_over_seeds_holm or 0) < SIGNIFICANT
        }
        said = (
            f"Multiplicity: {over_studies} tests over studies and {over_seeds} over seeds were made; by "
            f"chance alone about {SIGNIFICANT * over_studies:.1f} of the first have p below {SIGNIFICANT:g}. "
            "Holm: the p-values adjusted by Holm's method for these numbers of tests."
        )
        if self.resamples is not None and 2 * over_studies / (self.resamples + 1) >= SIGNIFICANT:
            needed = int(2 * over_studies / SIGNIFICANT)
            said += (
                f" With {self.resamples} resamples no p-value over studies is below "
                f"{2 / (self.resamples + 1):.4f}, so none can stay below {SIGNIFICANT:g} after Holm: pass "
                f"--resamples {needed} or more."
            )
        if clear:
            said += f" Clear after it too: {len(kept)} of {len(clear)} differences."
        return said


def _over_studies(differences: Mapping[str, GroupDifference]) -> str:
    """What the test over studies alone says of the differences, in one sentence."""
    ways: dict[str, list[str]] = {"higher": [], "lower": [], "no difference": []}
    for name, test in differences.items():
        clear = (test.p if test.p_holm is None else test.p_holm) < SIGNIFICANT and test.value != 0
        ways[("higher" if test.value > 0 else "lower") if clear else "no difference"].append(name)
    found = "; ".join(f"{way} on {', '.join(names)}" for way, names in ways.items() if names)
    return f"Over studies alone, after Holm: {found}."
