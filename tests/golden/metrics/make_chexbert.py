"""Write a golden file: what CheXbert's released code says of texts, at tiny sizes and with random weights.

    python make_chexbert.py CHECKOUT chexbert.safetensors    # github.com/stanfordmlgroup/CheXbert at 3ab882d3

It needs pandas, statsmodels and transformers 4, whose tokenizers have the methods that the released code
calls. Only what would download bert-base-uncased is replaced; tokens, masks, network and labels come from the
released code. Nothing of RadScribe is imported.
"""

import copy
import csv
import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "intermediate_size": 12,
    "max_position_embeddings": 512,
}
WORDS = """[PAD] [UNK] [CLS] [SEP] [MASK] the heart is enlarged no effusion pneumothorax lungs are clear there
small
left pleural edema may be ##s ##ly mild 1 2 . , - right of and atelectasis"""
VOCABULARY = WORDS.split()
TEXTS = [
    "The heart is enlarged.  No effusion,\nno pneumothorax.",
    "  lungs are CLEAR ",
    "1. small left pleural effusions\t2. mildly enlarged heart, right-sided édema",
    "",
    "There may be atelectasis" + ".," * 300,
    "no left pleural effusion and no edema",
]


def tokenizer_of(folder: Path) -> transformers.BertTokenizer:
    """A tokenizer of the small vocabulary, as bert-base-uncased's."""
    path = folder / "vocab.txt"
    path.write_text("".join(f"{word}\n" for word in VOCABULARY))
    return transformers.BertTokenizer(str(path))


def without_download(folder: Path) -> None:
    """Give the released code a tiny network and a small vocabulary where it asks for bert-base-uncased."""
    config = transformers.BertConfig(vocab_size=len(VOCABULARY), **SIZES)
    tokenizer = tokenizer_of(folder)
    transformers.BertModel.from_pretrained = lambda *_, **__: transformers.BertModel(config)  # type: ignore
    transformers.BertTokenizer.from_pretrained = lambda *_, **__: tokenizer  # type: ignore


@torch.no_grad()
def make(checkout: str, out: str) -> None:
    """Write the golden file `out`."""
    folder = Path(tempfile.mkdtemp())
    without_download(folder)
    sys.path.insert(0, f"{checkout}/src")
    import label
    import utils
    from constants import CONDITIONS
    from models.bert_labeler import bert_labeler

    torch.manual_seed(3)
    network = bert_labeler().eval()
    for name, parameter in network.named_parameters():
        if "LayerNorm" not in name:  # random vectors there would make the words matter too little
            scale = 0.1 if parameter.dim() == 1 else 2.0
            parameter.copy_((torch.randn_like(parameter) * scale).half().float())
    state = {f"module.{name}": value.clone() for name, value in network.state_dict().items()}
    torch.save({"model_state_dict": state}, folder / "chexbert.pth")
    with (folder / "texts.csv").open("w", newline="") as file:
        rows = [["Report Impression"], *([text or " "] for text in TEXTS)]
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)  # pandas leaves out a blank line
    labels = torch.tensor(label.label(str(folder / "chexbert.pth"), str(folder / "texts.csv"))).T
    batch = next(iter(label.load_unlabeled_data(str(folder / "texts.csv"), num_workers=0)))
    mask = utils.generate_attention_masks(batch["imp"], batch["len"], torch.device("cpu"))
    # In double precision, because the rounding of single precision differs between processors.
    exact, mask = copy.deepcopy(network).double(), mask.double()
    logits = torch.cat(exact(batch["imp"], mask), dim=1)
    state["module.bert.embeddings.position_ids"] = torch.arange(512)[None]  # as in some published copies
    weights = {
        f"weights.{name}": value.half() if value.is_floating_point() else value
        for name, value in state.items()
    }
    save_file(
        {
            **weights,
            "output.labels": labels.to(torch.int8).contiguous(),
            "output.logits": logits,
            "output.cls": exact.bert(batch["imp"], attention_mask=mask)[0][:, 0].contiguous(),
            "output.lengths": torch.tensor(batch["len"]),
        },
        out,
        {
            "texts": json.dumps(TEXTS),
            "vocabulary": json.dumps(VOCABULARY),
            "conditions": json.dumps(CONDITIONS),
        },
    )


if __name__ == "__main__":
    make(sys.argv[1], sys.argv[2])
