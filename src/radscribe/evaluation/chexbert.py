"""CheXbert (Smit et al., EMNLP 2020) from its published checkpoint: a BERT that labels the 14 observations.

A report is one sequence of word pieces, cut at 512. The vector of its first token in the last layer, called
CLS, goes through one linear layer for each observation, and the highest logit is the label. The cosine of two
such vectors is SembScore (Yu et al., Patterns 2023).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from radscribe.device import chosen_device
from radscribe.errors import RadScribeError
from radscribe.evaluation.metric_files import MetricFiles
from radscribe.files import sha256_of
from radscribe.observations import OBSERVATIONS, ObservationState
from radscribe.progress import Progress
from radscribe.weights import load_strictly, loading, read_state_dict

if TYPE_CHECKING:
    from transformers import BertConfig, BertTokenizer

#: Names of its files in the folder of models.
CHECKPOINT = "chexbert.pth"
TOKENIZER = "bert-base-uncased"
#: The observations in the order of its linear layers.
ORDER = (*OBSERVATIONS[1:], OBSERVATIONS[0])
#: What its classes mean; No Finding has the first two only.
CLASSES: tuple[ObservationState, ...] = ("not_mentioned", "present", "absent", "uncertain")
#: Word pieces of a report that are read, [CLS] and [SEP] counted.
LONGEST = 512

#: A buffer that older versions of `transformers` saved, and that holds no weight.
_NO_WEIGHT = "bert.embeddings.position_ids"
_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.")
_WORDS = "bert.embeddings.word_embeddings.weight"
_POSITIONS = "bert.embeddings.position_embeddings.weight"
_SEGMENTS = "bert.embeddings.token_type_embeddings.weight"
_INNER = "bert.encoder.layer.0.intermediate.dense.weight"
_HEAD_WIDTH = 64
_TEXTS_AT_ONCE = 32
_SOURCE = f"Put the published {CHECKPOINT} of CheXbert into the folder of models"


class CheXbertNetwork(nn.Module):
    """The network, with the names of the released code: `bert` and `linear_heads`.

    Args:
        config: Sizes of the BERT.
    """

    def __init__(self, config: BertConfig):
        from transformers import BertModel

        super().__init__()
        self.bert = BertModel(config)
        self.linear_heads = nn.ModuleList(
            nn.Linear(config.hidden_size, 2 if name == "No Finding" else len(CLASSES)) for name in ORDER
        )

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Read texts.

        Args:
            ids: Numbers of word pieces `[texts, length]`.
            mask: 1 for word pieces and 0 for padding `[texts, length]`.

        Returns:
            CLS vectors `[texts, width]`, and the logits `[texts, classes]` of each observation in `ORDER`.
        """
        vectors = self.bert(ids, attention_mask=mask)[0][:, 0]
        return vectors, [head(vectors) for head in self.linear_heads]


@dataclass(frozen=True, slots=True)
class ReadText:
    """What CheXbert makes of a text.

    Attributes:
        states: State of each observation.
        vector: CLS vector `[width]`.
    """

    states: Mapping[str, ObservationState]
    vector: np.ndarray


@dataclass(frozen=True)
class CheXbert:
    """CheXbert with its tokenizer, on a device.

    Attributes:
        network: The network, which is not trained any more.
        tokenizer: WordPiece tokenizer of bert-base-uncased.
        name: File name and hash of the checkpoint.
    """

    network: CheXbertNetwork
    tokenizer: BertTokenizer
    name: str

    @classmethod
    def load(cls, files: MetricFiles, device: str = "auto") -> CheXbert:
        """Load it from the folder of models: `chexbert.pth`, and `bert-base-uncased` with the vocabulary.

        Args:
            files: Names the folder of models.
            device: Device to compute on: `auto`, `cpu` or `cuda`.

        Raises:
            RadScribeError: a file is not there or is damaged, or the two do not belong together.
        """
        place = f"'{files.models}'" if files.models else "the folder of models, which --models names"
        for name in (CHECKPOINT, TOKENIZER):
            if files.model(name) is None:
                raise RadScribeError(f"there is no '{name}' in {place}", _SOURCE)
        checkpoint, folder = files.model(CHECKPOINT), files.model(TOKENIZER)
        assert checkpoint
        assert folder
        network = _network(checkpoint)
        tokenizer = _tokenizer(folder, network.bert.config.vocab_size, checkpoint)
        return cls(
            network.to(chosen_device(device)).eval(),
            tokenizer,
            f"{CHECKPOINT}, sha256 {sha256_of(checkpoint)[:12]}",
        )

    def read(self, texts: Iterable[str], *, progress: bool = False) -> dict[str, ReadText]:
        """States and CLS vector of each distinct text.

        Args:
            texts: Reports, or sections of reports.
            progress: Show how many texts are read.
        """
        distinct = list(dict.fromkeys(texts))
        pieces = dict(zip(distinct, self._pieces(distinct), strict=True))
        in_order = sorted(distinct, key=lambda text: len(pieces[text]))  # texts of one length need no padding
        found: dict[str, ReadText] = {}
        with Progress(len(in_order), "CheXbert", "texts", show=progress) as shown:
            for first in range(0, len(in_order), _TEXTS_AT_ONCE):
                batch = in_order[first : first + _TEXTS_AT_ONCE]
                found |= zip(batch, self._read_batch([pieces[text] for text in batch]), strict=True)
                shown.update(len(batch))
        return {text: found[text] for text in distinct}

    def _pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of the word pieces of each text, with [CLS] and [SEP]."""
        if not texts:
            return []
        # As the released code prepares texts: every run of white space is one blank. A half of a character
        # that is written as two would stop the tokenizer.
        prepared = [" ".join(text.split()).encode(errors="replace").decode() for text in texts]
        longest = min(LONGEST, self.network.bert.config.max_position_embeddings)
        ids: list[list[int]] = self.tokenizer(prepared, truncation=True, max_length=longest)["input_ids"]
        return ids

    @torch.inference_mode()
    def _read_batch(self, pieces: Sequence[Sequence[int]]) -> list[ReadText]:
        longest = max(map(len, pieces))
        ids = torch.tensor([[*of_text, *[0] * (longest - len(of_text))] for of_text in pieces])
        mask = torch.arange(longest) < torch.tensor([len(of_text) for of_text in pieces])[:, None]
        device = next(self.network.parameters()).device
        vectors, logits = self.network(ids.to(device), mask.float().to(device))
        classes = torch.stack([of_observation.argmax(dim=1) for of_observation in logits], dim=1).tolist()
        return [
            ReadText({name: CLASSES[number] for name, number in zip(ORDER, row, strict=True)}, vector)
            for row, vector in zip(classes, vectors.cpu().numpy(), strict=True)
        ]


def _network(checkpoint: Path) -> CheXbertNetwork:
    """The network with the weights of a checkpoint, whose shapes give its sizes."""
    from transformers import BertConfig

    state = {name.removeprefix("module."): weight for name, weight in read_state_dict(checkpoint).items()}
    state.pop(_NO_WEIGHT, None)
    for name in (_WORDS, _POSITIONS, _SEGMENTS, _INNER):
        if name not in state or state[name].dim() != 2:
            raise RadScribeError(f"'{checkpoint}' is no checkpoint of CheXbert: it has no {name}", _SOURCE)
    layers = {match[1] for match in map(_LAYER.match, state) if match}
    words, width = state[_WORDS].shape
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=len(layers),
        # BERT has 64 channels a head in every published size; shapes do not tell.
        num_attention_heads=width // _HEAD_WIDTH if width % _HEAD_WIDTH == 0 else 1,
        intermediate_size=len(state[_INNER]),
        max_position_embeddings=len(state[_POSITIONS]),
        type_vocab_size=len(state[_SEGMENTS]),
    )
    network = CheXbertNetwork(config)
    load_strictly(network, state, f"'{checkpoint}'")
    return network


def _tokenizer(folder: Path, words: int, checkpoint: Path) -> BertTokenizer:
    """The tokenizer of a folder; it must have as many words as the network of the checkpoint."""
    hint = f"'{TOKENIZER}' is a folder with the vocab.txt (or tokenizer.json) of bert-base-uncased"
    if not any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        raise RadScribeError(f"there is no vocab.txt in '{folder}'", hint)
    from transformers import BertTokenizer

    with loading(f"the tokenizer '{folder}'", hint):
        tokenizer: BertTokenizer = BertTokenizer.from_pretrained(folder)
    if len(tokenizer) != words:
        raise RadScribeError(
            f"the tokenizer '{folder}' has {len(tokenizer)} entries, and '{checkpoint}' has {words}", hint
        )
    return tokenizer
