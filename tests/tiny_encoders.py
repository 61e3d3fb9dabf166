"""Tiny encoders of texts with random weights; the same weights in every process."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_metric_models import tiny_chexbert, write_radgraph_outputs

WORDS = [
    "no",
    "pleural",
    "effusion",
    "or",
    "pneumothorax",
    ".",
    "the",
    "heart",
    "is",
    "enlarged",
    "small",
    "left",
    "right",
    "lungs",
    "are",
    "clear",
    "there",
    "a",
    "of",
    "in",
    "size",
    "normal",
    "seen",
]


def tiny_encoder(folder: Path, family: str, *, layers: int = 6, seed: int = 3) -> Path:
    """Write an encoder and its tokenizer to a new folder.

    Args:
        folder: Folder to make.
        family: `roberta` with a byte-level tokenizer, or `distilbert` with word pieces.
        layers: Number of layers.
        seed: Seed of the weights.
    """
    import transformers as hf
    from tokenizers import ByteLevelBPETokenizer

    folder.mkdir(parents=True)
    sizes = {"roberta": "hidden_size", "distilbert": "dim"}
    if family == "roberta":
        bpe = ByteLevelBPETokenizer()
        bpe.train_from_iterator(
            [" ".join(WORDS)] * 3,
            vocab_size=330,
            min_frequency=1,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        )
        bpe.save_model(str(folder))
        tokenizer: Any = hf.RobertaTokenizer.from_pretrained(folder)
        tokenizer.model_max_length = 60
        config: Any = hf.RobertaConfig(
            vocab_size=330,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=64,
            type_vocab_size=1,
            **{sizes[family]: 16},
        )
    else:
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS), "##s", "##ly"]
        (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
        tokenizer = hf.BertTokenizer.from_pretrained(folder)
        tokenizer.model_max_length = 60
        config = hf.DistilBertConfig(
            vocab_size=len(pieces),
            n_layers=layers,
            n_heads=2,
            hidden_dim=16,
            max_position_embeddings=64,
            **{sizes[family]: 16},
        )
    model = hf.AutoModel.from_config(config)
    # The weights are drawn here, so that no version of a library changes them.
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() > 1:
                parameter.copy_(torch.from_numpy(generator.normal(0, 0.4, parameter.shape)))
            else:
                parameter.fill_(float("norm" in name.lower() and name.endswith("weight")))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@functools.cache
def tiny_metric_files() -> tuple[Path, Path]:
    """Folders for `--models` and `--outputs` with all that the metrics of models read.

    The outputs are of the studies `a` to `d`. Copy a folder before you change it.
    """
    folder = Path(tempfile.mkdtemp(prefix="radscribe-metric-files-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    models = Path(shutil.copytree(tiny_chexbert(), folder / "models"))
    tiny_encoder(models / "distilroberta-base", "roberta")
    tiny_encoder(models / "distilbert-base-uncased", "distilbert")
    tiny_encoder(models / "roberta-large", "roberta", layers=17)
    tiny_encoder(models / "BioLORD-2023-C", "roberta", layers=1)
    outputs = folder / "outputs"
    outputs.mkdir()
    write_radgraph_outputs(outputs, "abcd")
    entity = {"text": "effusion", "type": "Disease"}
    entities = {study: {"draft": [entity], "reference": [entity]} for study in "abcd"}
    (outputs / "ratescore_entities.json").write_text(json.dumps(entities))
    reply = "[Clinically Significant Errors]:\n(a) False: 1. x\n\n[Matched Findings]:\n3. y"
    (outputs / "green_replies.json").write_text(json.dumps(dict.fromkeys("abcd", reply)))
    rows = "".join(f"{study},0.{number}\n" for number, study in enumerate("abcd"))
    (outputs / "radcliq.csv").write_text(f"study_id,radgraph_combined\n{rows}")
    return models, outputs
