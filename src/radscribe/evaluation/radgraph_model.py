"""RadGraph's models: entities and relations of a report by DyGIE++ (Wadden et al., EMNLP 2019), in PyTorch.

Reads the files of the published archives: `config.json`, `vocabulary/` and `weights.th`. All sizes come from
`config.json` and from the encoder's own configuration. Computes what the package `radgraph` 0.1.18 computes
with allennlp: the whole report is one sentence, every span of up to `max_span_width` words is an entity or
not, and the relations between the best spans are decided apart from that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from radscribe.errors import RadScribeError
from radscribe.evaluation.radgraph import Graph
from radscribe.evaluation.radgraph_files import graph_of_spans
from radscribe.files import read_json_object, read_lines
from radscribe.weights import hash_of_weights, load_strictly, loading, read_state_dict

_UNPACK = "Unpack the published archive there: it has config.json, vocabulary/ and weights.th"
_ELSEWHERE = "Let the package radgraph annotate the texts, and give its annotations by --outputs"
# The package's pattern: between two commas its `-` is a range, so that a hyphen does not part words.
_V1_MARKS = re.compile("(?<! )(?=[/,-,:,.,!?()])|(?<=[/,-,:,.,!?()])(?! )")
_XL_REPLACED = (("\\n", "  "), ("\\f", "  "), ("\\u2122", "      "), ("\n", " "), ('\\"', "``"))
_XL_PARTED = ((").", ") ."), ("%.", "% ."), (".'", ". '"), ("%,", "% ,"), ("%)", "% )"))
_ENCODER = "_embedder.token_embedder_bert._matched_embedder.transformer_model."


@dataclass(frozen=True)
class Found:
    """What a model finds in a report.

    Attributes:
        words: Words of the report.
        entities: First and last place of the words of each entity, and its label.
        scores: Score of the label of each entity; the score of no label is 0.
        relations: First and last place of the span that a relation starts at, and of that which it leads to,
            and its type. Either may be no entity.
        relation_scores: Score of the type of each relation; the score of no type is 0.
    """

    words: list[str]
    entities: list[tuple[int, int, str]]
    scores: list[float]
    relations: list[tuple[int, int, int, int, str]]
    relation_scores: list[float]

    @property
    def graph(self) -> Graph:
        """The entities with the relations between them."""
        return graph_of_spans(self.words, self.entities, self.relations)


def words_of(text: str, model: str) -> list[str]:
    """The words of a report as a model is given them.

    Args:
        text: The report.
        model: Name of the model: `radgraph`, or `radgraph-xl`, which splits texts into runs of letters and
            digits and runs of other characters.
    """
    if model == "radgraph":
        return _V1_MARKS.sub(" ", text).split()
    for old, new in _XL_REPLACED:
        text = text.replace(old, new)
    text = " ".join(re.findall(r"\w+|[^\w\s]+", text))
    for old, new in _XL_PARTED:
        text = text.replace(old, new)
    return text.split()


@dataclass(frozen=True)
class _Settings:
    """What `config.json` says of a model.

    Attributes:
        encoder: Last part of the name of its encoder.
        max_length: Word pieces that the encoder takes at once, begin and end included; None has no limit.
        max_span_width: Words of the longest span.
        feature_size: Width of the vectors of span widths.
        hidden: Widths of the layers of each scorer.
        spans_per_word: How many spans are kept for each word.
    """

    encoder: str
    max_length: int | None
    max_span_width: int
    feature_size: int
    hidden: tuple[int, ...]
    spans_per_word: float


class RadGraph(nn.Module):
    """A model that finds entities and relations.

    Args:
        encoder: Model of `transformers` that gives each word piece a vector.
        tokenizer: Its tokenizer.
        model: Name of the model, which says how texts are split into words.
        labels: Labels of entities.
        relations: Types of relations.
        settings: What `config.json` says of the model.

    Attributes:
        digest: Hash of the weights, 12 digits; empty before weights are loaded.
    """

    digest = ""

    def __init__(
        self,
        encoder: Any,
        tokenizer: Any,
        model: str,
        labels: Sequence[str],
        relations: Sequence[str],
        settings: _Settings,
    ):
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.model = model
        self.labels = list(labels)
        self.relations = list(relations)
        self.settings = settings
        self.widths = nn.Embedding(settings.max_span_width, settings.feature_size)
        self._width: int = encoder.config.hidden_size
        span = 2 * self._width + settings.feature_size
        self.entity_scorer = _scorer(span, settings.hidden, len(labels))
        self.span_scorer = _scorer(span, settings.hidden, 1)
        self.relation_scorer = _scorer(3 * span, settings.hidden, len(relations))
        self._begin, self._end = _special_pieces(tokenizer)

    @torch.inference_mode()
    def find(self, text: str) -> Found:
        """The entities and relations of one report; an empty report has none."""
        words = words_of(text, self.model)
        if not words:
            return Found([], [], [], [], [])
        # DyGIE++ gives the encoder these two without their stroke.
        vectors = self._word_vectors([word[1:] if word in ("/.", "/?") else word for word in words])
        widest = self.settings.max_span_width
        starts, ends = torch.tensor(
            [
                (start, end)
                for start in range(len(words))
                for end in range(start, min(start + widest, len(words)))
            ],
            device=vectors.device,
        ).T
        spans = torch.cat([vectors[starts], vectors[ends], self.widths(ends - starts)], dim=1)
        scores, labels = _with_none(self.entity_scorer(spans)).max(dim=1)
        is_entity = labels > 0
        entities = [
            (start, end, self.labels[label - 1])
            for start, end, label in zip(
                *(values[is_entity].tolist() for values in (starts, ends, labels)), strict=True
            )
        ]
        kept, types, type_scores = self._related(spans, len(words))
        first, second = types.nonzero(as_tuple=True)
        bounds = torch.stack([starts[kept], ends[kept]], dim=1).tolist()
        relations = [
            (*bounds[one], *bounds[other], self.relations[kind - 1])
            for one, other, kind in zip(
                first.tolist(), second.tolist(), types[first, second].tolist(), strict=True
            )
        ]
        return Found(
            words, entities, scores[is_entity].tolist(), relations, type_scores[first, second].tolist()
        )

    def _related(self, spans: Tensor, words: int) -> tuple[Tensor, Tensor, Tensor]:
        """The spans that are kept, `[kept]`, and type, 0 for none, and score of each pair, `[kept, kept]`."""
        number = int(torch.ceil(torch.tensor(float(words)) * self.settings.spans_per_word))
        mention = self.span_scorer(spans)[:, 0]
        kept = mention.topk(min(max(number, 1), len(spans))).indices.sort().values
        chosen, mention = spans[kept], mention[kept]
        # One span with all others at a time: all pairs of a long report would take gigabytes.
        scores = torch.stack(
            [
                self.relation_scorer(torch.cat([span.expand_as(chosen), chosen, span * chosen], dim=1))
                for span in chosen
            ]
        )
        scores = scores + (mention[:, None] + mention[None, :])[..., None]
        best, types = _with_none(scores).max(dim=-1)
        return kept, types, best

    def _word_vectors(self, words: Sequence[str]) -> Tensor:
        """Vectors of words `[words, width]`: means over their pieces; 0 for a word without a piece."""
        by_word = [self.tokenizer.encode(word, add_special_tokens=False) for word in words]
        pieces = [piece for word in by_word for piece in word]
        device = self.widths.weight.device
        vectors = self.widths.weight.new_zeros(len(words), self._width)
        if not pieces:
            return vectors
        special = len(self._begin) + len(self._end)
        step = (self.settings.max_length or len(pieces) + special) - special
        parts = []
        for start in range(0, len(pieces), step):
            part = [*self._begin, *pieces[start : start + step], *self._end]
            hidden = self.encoder(input_ids=torch.tensor([part], device=device)).last_hidden_state[0]
            parts.append(hidden[len(self._begin) : len(part) - len(self._end)])
        places = [place for place, word in enumerate(by_word) for _ in word]
        vectors.index_add_(0, torch.tensor(places, device=device), torch.cat(parts))
        lengths = torch.tensor([max(len(word), 1) for word in by_word], device=device)
        return vectors / lengths[:, None]


def load_radgraph(folder: Path, device: torch.device) -> RadGraph:
    """Load a model from the files of its published archive; nothing in them is run.

    Args:
        folder: Folder of the unpacked archive; its name is the model's: `radgraph` or `radgraph-xl`. A
            folder beside it, under the last part of the encoder's name, has the encoder's `config.json` and
            tokenizer in `transformers` format; its weights are not needed.
        device: Device that the model computes on.

    Raises:
        RadScribeError: a file is missing or damaged, the files do not fit each other, or the encoder is no
            BERT, such as that of `modern-radgraph-xl`.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    settings = _read_settings(folder / "config.json")
    labels, relations, space = _read_vocabulary(folder / "vocabulary", folder.name)
    beside = folder.parent / settings.encoder
    hint = (
        f"Put config.json and the tokenizer's files of '{settings.encoder}' from the Hugging Face hub into "
        f"'{beside}'; its weights are in weights.th"
    )
    if not (beside / "config.json").is_file():
        raise RadScribeError(f"'{folder}' needs the tokenizer of its encoder, '{settings.encoder}'", hint)
    with loading(f"the encoder of '{folder}'", hint):
        config = AutoConfig.from_pretrained(beside, trust_remote_code=False)
    if config.model_type != "bert":
        # The package gives others pieces without begin and end, but still takes words one piece further on.
        raise RadScribeError(f"'{folder}' has an encoder of type {config.model_type}, not bert", _ELSEWHERE)
    with loading(f"the encoder of '{folder}'", hint):
        encoder = AutoModel.from_config(config, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(beside, trust_remote_code=False)
    network = RadGraph(encoder, tokenizer, folder.name, labels, relations, settings)
    file = folder / "weights.th"
    load_strictly(network, _renamed(read_state_dict(file), space), f"'{file}'")
    network.digest = hash_of_weights(network)[:12]
    return network.eval().to(device)


def _read_settings(path: Path) -> _Settings:
    if not path.is_file():
        raise RadScribeError(f"there is no '{path}'", _UNPACK)
    content = read_json_object(path, _UNPACK)
    try:
        model = content["model"]
        embedder = model["embedder"]["token_embedders"]["bert"]
        layers, widths = model["feedforward_params"]["num_layers"], model["feedforward_params"]["hidden_dims"]
        propagates = model["modules"]["coref"].get("coref_prop", 0)
        settings = _Settings(
            encoder=embedder["model_name"].rstrip("/").rsplit("/", 1)[-1],
            max_length=embedder.get("max_length"),
            max_span_width=int(model["max_span_width"]),
            feature_size=int(model["feature_size"]),
            hidden=tuple(widths) if isinstance(widths, list) else (int(widths),) * int(layers),
            spans_per_word=float(model["modules"]["relation"]["spans_per_word"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RadScribeError(
            f"'{path}' is no configuration of a RadGraph model: {type(error).__name__} {error}", _UNPACK
        ) from error
    if propagates:
        raise RadScribeError(
            f"'{path}' asks for coreference propagation, which is not implemented here",
            _ELSEWHERE,
        )
    return settings


def _read_vocabulary(folder: Path, model: str) -> tuple[list[str], list[str], str]:
    """Labels of entities, types of relations, and the data set whose labels they are."""
    sets = sorted(file.name.removesuffix("__ner_labels.txt") for file in folder.glob("*__ner_labels.txt"))
    if model not in sets and len(sets) != 1:
        raise RadScribeError(
            f"'{folder}' has no '{model}__ner_labels.txt', but labels of: {', '.join(sets) or 'nothing'}",
            f"{_UNPACK}; the folder must have the name of its model",
        )
    space = model if model in sets else sets[0]
    nothing, *labels = read_lines(str(folder / f"{space}__ner_labels.txt"), _UNPACK)
    if nothing:
        raise RadScribeError(f"'{folder}' is damaged: the first label of {space} is not empty", _UNPACK)
    relations = list(read_lines(str(folder / f"{space}__relation_labels.txt"), _UNPACK))
    return labels, relations, space


def _renamed(weights: dict[str, Tensor], space: str) -> dict[str, Tensor]:
    """Published weights under the names of `RadGraph`; those of other tasks and data sets go."""
    ner, relation = f"{space}__ner_labels", f"{space}__relation_labels"
    names = {
        _ENCODER: "encoder.",
        "_endpoint_span_extractor._span_width_embedding.": "widths.",
        f"_ner._ner_scorers.{ner}.0._module._linear_layers.": "entity_scorer.0.",
        f"_ner._ner_scorers.{ner}.1._module.": "entity_scorer.1.",
        f"_relation._mention_pruners.{relation}._scorer.0._module._linear_layers.": "span_scorer.0.",
        f"_relation._mention_pruners.{relation}._scorer.1._module.": "span_scorer.1.",
        f"_relation._relation_feedforwards.{relation}._linear_layers.": "relation_scorer.0.",
        f"_relation._relation_scorers.{relation}.": "relation_scorer.1.",
    }
    renamed = {
        ours + name.removeprefix(theirs): weight
        for name, weight in weights.items()
        for theirs, ours in names.items()
        if name.startswith(theirs)
    }
    # Older versions of transformers kept the numbers of the positions among the weights.
    renamed.pop("encoder.embeddings.position_ids", None)
    return {
        re.sub(r"(_scorer\.0)\.(\d+)", lambda layer: f"{layer[1]}.{2 * int(layer[2])}", name): weight
        for name, weight in renamed.items()
    }


def _scorer(width: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Layers with ReLU, and one for the scores. In a trained model their dropout has no effect."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU()]
        width = size
    return nn.Sequential(nn.Sequential(*layers), nn.Linear(width, outputs))


def _with_none(scores: Tensor) -> Tensor:
    """Scores `[..., 1 + labels]` with that of no label, which is 0, before the others."""
    return torch.cat([scores.new_zeros(*scores.shape[:-1], 1), scores], dim=-1)


def _special_pieces(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The pieces that a tokenizer puts before and after a text."""
    bare = tokenizer.encode("a", add_special_tokens=False)
    whole = tokenizer.encode("a")
    place = next(start for start in range(len(whole)) if whole[start : start + len(bare)] == bare)
    return whole[:place], whole[place + len(bare) :]
