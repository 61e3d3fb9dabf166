"""Our scores of drafts that others published, beside the scores that their own programs logged for them.

git clone https://github.com/lijiabad/HI-IA
git clone https://github.com/gssriram/MoERad
python tests/published_scores.py HI-IA MoERad

HI-IA (at 0aa9b6f) holds drafts and references of 590 studies of IU X-Ray, and the record of R2Gen's trainer
with the scores of that test split. MoERad (at 2cc98d4) holds drafts and references of as many, and for each
study the columns and the RadCliQ that the released program of RadCliQ wrote. METEOR needs Java.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from radscribe.evaluation.meteor import MeteorUnavailableError, meteor_statistics
from radscribe.evaluation.metrics import StudyStatistics, text_statistics
from radscribe.evaluation.radcliq import COLUMNS, V0, V1, fast_bleu2


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def compare_with_r2gen_trainer(results: Path, record: Path) -> None:
    """Print the scores that a record of R2Gen's trainer gives the test split in its last row, and ours."""
    drafts, references = (
        (results / name).read_text(encoding="utf-8").splitlines() for name in ("res.csv", "gts.csv")
    )
    logged = [row for row in read_rows(record) if row["test_BLEU_4"]][-1]
    print(f"{record}: {len(drafts)} drafts")
    computed: list[Callable[[list[str], list[str]], StudyStatistics]] = [text_statistics, meteor_statistics]
    for statistics in computed:
        try:
            ours = statistics(drafts, references).scores()
        except MeteorUnavailableError as error:
            print(f"METEOR left out: {error}")
            continue
        for name, value in ours.items():
            column = f"test_{name.replace('-', '_')}"
            if column in logged:
                theirs = float(logged[column])
                print(
                    f"{name:8} theirs {theirs:.16f}  ours {value:.16f}  difference {abs(theirs - value):.1e}"
                )


def compare_with_radcliq(results: Path) -> None:
    """Print the largest differences to the columns and to the RadCliQ of each study that were logged."""
    references = {row["study_id"]: row["report"] for row in read_rows(results / "gts.csv")}
    drafts, logged = (read_rows(results / name) for name in ("preds.csv", "report_scores.csv"))
    print(f"{results}: {len(drafts)} drafts")
    columns = np.array([[float(row[name]) for name in COLUMNS] for row in logged])
    ours = {
        "bleu_score": [fast_bleu2(row["report"], references[row["study_id"]]) for row in drafts],
        "RadCliQ-v0": V0.score(columns),
        "RadCliQ-v1": V1.score(columns),
    }
    for name, values in ours.items():
        theirs = np.array([float(row[name]) for row in logged])
        print(f"{name:10} largest difference of a study {np.abs(theirs - values).max():.1e}")


if __name__ == "__main__":
    trained, scored = map(Path, sys.argv[1:])
    compare_with_r2gen_trainer(trained / "results/iu_xray", trained / "records/iu_xray.csv")
    compare_with_radcliq(scored / "results/iu_xray")
