"""Our scores of drafts that others published, beside the scores that their own programs logged for them.

git clone https://github.com/lijiabad/HI-IA
git clone https://github.com/WangXuanmin/MRG_RL
git clone https://github.com/gssriram/MoERad
python tests/published_scores.py HI-IA MRG_RL MoERad

HI-IA (at 0aa9b6f) holds drafts and references of 590 studies of IU X-Ray, and the record of R2Gen's trainer
with the scores of that test split. MRG_RL (at 473856f) holds those of several systems on 382 studies, with
the scores of a copy of pycocoevalcap. MoERad (at 2cc98d4) holds drafts and references of 590, and for each
study the columns and the RadCliQ that the released program of RadCliQ wrote. METEOR needs Java.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from radscribe.evaluation.meteor import MeteorUnavailableError, meteor_statistics
from radscribe.evaluation.metrics import text_statistics
from radscribe.evaluation.radcliq import COLUMNS, V0, V1, fast_bleu2


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def compare(title: str, drafts: Sequence[str], references: Sequence[str], logged: Mapping[str, str]) -> None:
    """Print the logged scores of drafts, ours, and the differences."""
    print(f"{title}: {len(drafts)} drafts, {len(set(drafts))} of them different")
    theirs = {re.sub(r"\W", "_", name).removeprefix("test_").lower(): value for name, value in logged.items()}
    for statistics in (text_statistics, meteor_statistics):
        try:
            ours = statistics(drafts, references).scores()
        except MeteorUnavailableError as error:
            print(f"METEOR left out: {error}")
            continue
        for name, value in ours.items():
            if found := theirs.get(name.replace("-", "_").lower()):
                difference = abs(float(found) - value)
                print(f"{name:8} theirs {float(found):.16f}  ours {value:.16f}  difference {difference:.1e}")


def compare_with_r2gen_trainer(repository: Path) -> None:
    """The last record of R2Gen's trainer with the scores of a test split."""
    record = repository / "records/iu_xray.csv"
    drafts, references = (
        (repository / "results/iu_xray" / name).read_text(encoding="utf-8").splitlines()
        for name in ("res.csv", "gts.csv")
    )
    compare(str(record), drafts, references, [row for row in read_rows(record) if row["test_BLEU_4"]][-1])


def compare_with_pycocoevalcap(repository: Path) -> None:
    """Every folder that has drafts, references and scores of a test split."""
    for scores in sorted(repository.glob("save/iu_xray/*/test_metrics.json")):
        if not (references := scores.with_name("test_refs.json")).exists():
            continue
        drafts, texts = (
            json.loads(path.read_text(encoding="utf-8"))
            for path in (scores.with_name("test_preds.json"), references)
        )
        pairs = [(drafts[study][0], texts[study][0]) for study in texts]
        compare(scores.parent.name, *zip(*pairs, strict=True), json.loads(scores.read_text()))


def compare_with_radcliq(repository: Path) -> None:
    """Print the largest differences to the columns and to the RadCliQ of each study that were logged."""
    results = repository / "results/iu_xray"
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
    trained, captioned, scored = map(Path, sys.argv[1:])
    compare_with_r2gen_trainer(trained)
    compare_with_pycocoevalcap(captioned)
    compare_with_radcliq(scored)
