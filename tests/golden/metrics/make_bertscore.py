"""Write `bertscore.json`: what the package `bert-score` 0.3.13 computes with two tiny encoders.

    python make_bertscore.py ROBERTA_FOLDER DISTILBERT_FOLDER bertscore.json

The folders are those of `tiny_encoder` in `tests/tiny_encoders.py`. It ran with transformers 4.46.3, for the
package knows none of later versions. Nothing of RadScribe is imported.
"""

import json
import sys
from pathlib import Path

from bert_score import BERTScorer
from bert_score.utils import get_idf_dict

LAYER = 5
BASELINE = "LAYER,P,R,F\n" + "".join(f"{layer},0.2,0.3,0.25\n" for layer in range(7))
REFERENCES = [
    "No pleural effusion or pneumothorax.",
    "the heart is normal in size .",
    "lungs are clear",
    "no pneumothorax . small left pleural effusion .",
    "",
    "There is a small right effusion.",
]
DRAFTS = [
    "no pleural effusion .",
    "  The heart is enlarged",
    "",
    "small left effusion " + "seen " * 80,
    "no effusion",
    "There is a small right effusion.",
]


def main(folders: list[str], out: str) -> None:
    baseline = Path(out).with_suffix(".tsv")
    baseline.write_text(BASELINE)
    cases = {}
    for folder, family in zip(folders, ("roberta", "distilbert"), strict=True):
        for idf in (False, True):
            scorer = BERTScorer(
                model_type=folder,
                num_layers=LAYER,
                lang="en",
                rescale_with_baseline=True,
                baseline_path=str(baseline),
                idf=idf,
                device="cpu",
                nthreads=0,
            )
            if idf:
                scorer._idf_dict = get_idf_dict(REFERENCES, scorer._tokenizer, nthreads=0)
            _, _, f1 = scorer.score(DRAFTS, REFERENCES, batch_size=1)
            cases[f"{family}{', idf' if idf else ''}"] = [float(value) for value in f1.double()]
    baseline.unlink()
    content = {"layer": LAYER, "baseline": 0.25, "drafts": DRAFTS, "references": REFERENCES, "f1": cases}
    Path(out).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:3], sys.argv[3])
