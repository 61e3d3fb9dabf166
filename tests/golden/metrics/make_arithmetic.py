"""Write `arithmetic.json`: what released codes compute of made-up columns, replies, entities and texts.

    python make_arithmetic.py CXR_REPORT_METRIC GREEN RATESCORE arithmetic.json

The folders are checkouts: github.com/rajpurkarlab/CXR-Report-Metric at 9c9ecad, the unpacked package
green_score 0.0.12, and github.com/MAGIC-AI4Med/RaTEScore at a970406. The packages fast-bleu 0.0.90,
scikit-learn and pandas are imported. Nothing of RadScribe is.
"""

import json
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import torch

TEXTS = [
    ("No pleural effusion. The heart is normal.", "No effusion. The heart is  normal in size."),
    ("Heart heart heart heart.", "The heart is enlarged."),
    ("pneumothorax", "No effusion."),
    ("", "No effusion."),
    ("No", "No effusion."),
    ("small left effusion", "left small effusion with edema and a long tail of words"),
    ("Lungs are clear.", "Lungs are clear."),
]
HEAD = "[Explanation]:\n    The candidate misses an effusion.\n\n[Clinically Significant Errors]:\n"
REPLIES = [
    HEAD + "(a) False report of a finding in the candidate: 1. Edema\n(b) Missing a finding present in the "
    "reference: 2. Effusion; nodule\n\n[Clinically Insignificant Errors]:\n(a) False: 3. x\n\n"
    "[Matched Findings]:\n3. Normal heart; clear lungs; no pneumothorax",
    "<|assistant|>" + HEAD + "No clinically significant errors.\n\n[Matched Findings]:\n1. Normal heart</s>",
    HEAD + "(1) False report: 1. x\n(4) Severity: 2. y; z\n\n[Matched Findings]:\n2. a; b",
    HEAD + "(c) Place: 1. x\n(f) Omitted: 4. x\n(c) Place: 3. y\n\n[Matched Findings]:\nNo matched findings",
    HEAD + "(a) False: none\n(b) Missing: 12. many\n\n[Matched Findings]:\n 10. ten; 11. eleven",
    "no sections at all",
    "",
    "[Explanation]:\n<Explanation>\n[Matched Findings]:\n7. p\n\n<|assistant|>\n"
    + HEAD
    + "(e) Comparison: 1. x\n\n\n[Matched Findings]:\n4 findings",
]
TYPES = ["ABNORMALITY", "ANATOMY", "DISEASE", "NON-ABNORMALITY", "NON-DISEASE"]


def radcliq(checkout: Path) -> dict:
    """Both versions of 8 rows, by the released pickles."""
    columns = np.random.default_rng(5).random((8, 4))

    class CompositeMetric:
        def predict(self, x: np.ndarray) -> np.ndarray:
            standardised = self.scaler.transform(x)
            return np.concatenate((standardised, np.ones((len(x), 1))), axis=1) @ self.coefs

    sys.modules["__main__"].CompositeMetric = CompositeMetric
    loaded = {}
    for name in ("composite_metric_model", "normalizer", "radcliq-v1"):
        with open(checkout / "CXRMetric" / f"{name}.pkl", "rb") as file:
            loaded[name] = pickle.load(file)
    v0, scaler, v1 = loaded.values()
    return {
        "columns": columns.tolist(),
        "v0": v0.predict(scaler.transform(columns)).tolist(),
        "v1": v1.predict(columns).ravel().tolist(),
    }


def green(checkout: Path) -> list:
    sys.path.insert(0, str(checkout))
    for name in ("datasets", "datasets.distributed", "sentence_transformers"):
        sys.modules[name] = types.SimpleNamespace(
            Dataset=None, split_dataset_by_node=None, SentenceTransformer=None
        )
    from green_score.green import GREEN
    from green_score.utils import clean_responses

    judge = GREEN()
    return [
        [judge.compute_green(clean_responses(reply)), judge.compute_error_count(clean_responses(reply))]
        for reply in REPLIES
    ]


def ratescore(checkout: Path) -> dict:
    sys.path.insert(0, str(checkout))
    sys.modules["medspacy"] = types.SimpleNamespace(load=lambda **_: None)
    from RaTEScore import scorer

    generator = np.random.default_rng(7)
    sides = []
    for number in (3, 5, 0, 1, 4, 2, 2, 0):
        vectors = generator.normal(size=(number, 6)).round(3)
        kinds = [TYPES[index] for index in generator.integers(5, size=number)]
        rows = zip(kinds, vectors.tolist(), strict=True)
        sides.append([[f"e{index}", kind, row] for index, (kind, row) in enumerate(rows)])
    drafts, references = sides[::2], sides[1::2]
    scorer.run_ner = lambda pairs, *_: [json.loads(pair) for pair in pairs]
    scorer.process_embedding = lambda pair, *_: (
        torch.tensor([row for _, _, row in pair], dtype=torch.float64),
        [kind for _, kind, _ in pair],
    )
    scores = {}
    for name, matrix in (("long", scorer.DEFAULT_MATRIX_LONG), ("short", scorer.DEFAULT_MATRIX_SHORT)):
        judge = scorer.RaTEScore.__new__(scorer.RaTEScore)
        judge.affinity_matrix = {tuple(key.upper().split("_")): value for key, value in matrix.items()}
        judge.visualization_path = None
        for unused in ("idx2label", "tokenizer", "model", "device", "batch_size"):
            setattr(judge, unused, None)
        judge.eval_tokenizer = judge.eval_model = None
        found = judge.compute_score(
            [json.dumps(side) for side in drafts], [json.dumps(s) for s in references]
        )
        scores[name] = [float(score) for score in found]
    return {"drafts": drafts, "references": references, "scores": scores}


def bleu() -> list[float]:
    from fast_bleu import BLEU

    scores = []
    for draft, reference in TEXTS:
        ours, theirs = (
            [word for word in text.lower().replace(".", " .").split(" ") if word != ""]
            for text in (draft, reference)
        )
        scores.append(BLEU([theirs], {"bigram": (1 / 2.0, 1 / 2.0)}).get_score([ours])["bigram"][0])
    return scores


if __name__ == "__main__":
    metric, judge, rate = map(Path, sys.argv[1:4])
    content = {
        "radcliq": radcliq(metric),
        "replies": REPLIES,
        "green": green(judge),
        "ratescore": ratescore(rate),
        "texts": TEXTS,
        "bleu": bleu(),
    }
    Path(sys.argv[4]).write_text(json.dumps(content) + "\n")
