"""RadCliQ of each study from its four columns, which other metrics compute or a file gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.evaluation.bertscore import SETTINGS, study_bertscores
from radscribe.evaluation.chexbert_scores import semb_columns
from radscribe.evaluation.family import SYSTEM, FamilyScores, ScoredStudies, ScoreTable
from radscribe.evaluation.metrics import Scores, StudyStatistics
from radscribe.evaluation.radcliq import COLUMNS, V0, V1, fast_bleu2, radcliq_columns
from radscribe.evaluation.radgraph_scores import radgraph_combined
from radscribe.files import read_rows, require_columns

#: File in the folder of outputs that gives columns of the system's drafts, beside `study_id`.
GIVEN_COLUMNS = "radcliq.csv"
MODELS = {"RadCliQ-v0": V0, "RadCliQ-v1": V1}
RADCLIQ_TABLES = (
    ScoreTable("RadCliQ (lower is better)", {name: name for name in MODELS}, lower_is_better=True),
    ScoreTable("1/RadCliQ", {f"1/{name}": f"1/{name}" for name in MODELS}),
)


def score_radcliq(studies: ScoredStudies) -> FamilyScores:
    """RadCliQ of every row that has its four columns; those of a file are of the system alone."""
    path = studies.files.output(GIVEN_COLUMNS)
    try:
        given = {} if path is None else _given(path, studies.ids)
        columns = [{SYSTEM: given[name]} if name in given else _COMPUTED[name](studies) for name in COLUMNS]
    except RadScribeError as error:
        return FamilyScores(missing={"RadCliQ": str(error)})
    rows = [row for row in studies.whole_drafts if all(row in column for column in columns)]
    return FamilyScores(
        {row: radcliq_statistics(radcliq_columns(*(column[row] for column in columns))) for row in rows}
    )


def radcliq_statistics(columns: np.ndarray) -> StudyStatistics:
    """Mean RadCliQ of each version, and 1 over the mean, from the columns `[studies, 4]`."""
    values = [model.score(columns) for model in MODELS.values()]

    def scores(sums: np.ndarray) -> Scores:
        means = {name: sums[..., number] / sums[..., -1] for number, name in enumerate(MODELS)}
        with np.errstate(divide="ignore"):
            return means | {f"1/{name}": 1 / mean for name, mean in means.items()}

    return StudyStatistics(np.column_stack([*values, np.ones(len(columns))]), scores)


def _given(path: Path, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the four columns that a file gives, in the order of `ids`."""
    names, rows = read_rows(path)
    require_columns(path, names, ("study_id",))
    by_study = {row["study_id"]: (line, row) for line, row in rows}
    if missing := [study for study in ids if study not in by_study]:
        raise RadScribeError(
            f"{path} has no row of {len(missing)} of {len(ids)} studies, the first is '{missing[0]}'",
            "Give one row for each study, with its id in the column 'study_id'",
        )
    return {
        name: np.array([_number(path, *by_study[study], name) for study in ids])
        for name in COLUMNS
        if name in names
    }


def _number(path: Path, line: int, row: Mapping[str | None, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RadScribeError(f"{path}, line {line}: '{name}' is '{row[name]}'", "Give a number")
    return value


def _bertscores(studies: ScoredStudies) -> Mapping[str, np.ndarray]:
    setting = SETTINGS[0]
    folder = studies.files.model(setting.encoder)
    if folder is None:
        raise RadScribeError(f"--models has no folder '{setting.encoder}'")
    return study_bertscores(setting, folder, studies)


def _bleu(studies: ScoredStudies) -> Mapping[str, np.ndarray]:
    return {
        row: np.array(list(map(fast_bleu2, texts, studies.whole_references)))
        for row, texts in studies.whole_drafts.items()
    }


#: How a column is computed that no file gives, by its name.
_COMPUTED: Mapping[str, Callable[[ScoredStudies], Mapping[str, np.ndarray]]] = {
    "radgraph_combined": radgraph_combined,
    "bertscore": _bertscores,
    "semb_score": semb_columns,
    "bleu_score": _bleu,
}
