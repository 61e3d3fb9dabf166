"""AM-MRG: associative memory augmented X-ray medical report generation.

Activating Associative Disease-Aware Vision Token Memory for LLM-Based X-ray Report Generation. Wang, Wang,
Wang, Jiang, Li, Wang, Tian, Tang. https://github.com/Event-AHU/Medical_Image_Analysis. Equation numbers in
this file are the paper's.

An encoder turns the views into visual tokens F. A Q-Former with one query for each disease reads them: Q_f.
Each of its rows retrieves from two memory banks by a Hopfield layer of its own: from regions in which a
disease was seen (Eq. 7, V-Hopfield), and from reports (R-Hopfield). F, Q_f and what was retrieved stand in
the prompt of a frozen language model, which writes the report (Eq. 10).

Three parts come first (`SystemConfig.parts`): disease queries, which are the paper's stage 1, and the two
banks. This file is stage 2. Where paper and released code differ, the reading is a field, and its default
stands beside its equation with the reason.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from radscribe.errors import RadScribeError
from radscribe.layers.frozen_language_model import LanguageModelConfig
from radscribe.layers.hopfield import HopfieldConfig
from radscribe.layers.memory import Memory
from radscribe.layers.q_former import QFormerConfig
from radscribe.observations import OBSERVATIONS
from radscribe.parts.disease_queries import DiseaseQueries
from radscribe.parts.memory_bank import BankKind, MemoryBank
from radscribe.parts.part import check_same_views, make_command
from radscribe.systems.config import ComponentConfig, SystemConfig
from radscribe.systems.language_model_system import LanguageModelSystem
from radscribe.systems.system import Batch, Evidence, Losses, RecallEvidence
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import (
    Backbone,
    BackboneConfig,
    Grid,
    ViewEncoder,
    VisualTokens,
    average_views,
)
from radscribe.vision.transforms import TransformConfig

_FIRST_DEVIATION = 0.02


def _vision_mamba() -> BackboneConfig:
    return BackboneConfig(architecture="arm_large_pz16", weights="mambaxray_vl_large.pth")


@dataclass(kw_only=True, slots=True)
class AMMRGConfig(SystemConfig):
    """Parts and switches. The defaults are the readings under which the paper's results are possible.

    Attributes:
        backbone: The encoder of stage 2, with `encoder` `own`. All its tokens go on, a class token too.
        encoder: `own` is an encoder of its own (the paper's section IV-B: MambaXray-VL). `stage-1` goes on
            with that of the disease queries (the paper's Fig. 2).
        language_model: The frozen language model.
        query_former: `stage-1` takes Q-Former and queries from the disease queries; the queries stay as they
            are. `blip2-fresh` (released code) starts the Q-Former from `q_former`, with new queries, and
            trains both.
        q_former: The Q-Former of `blip2-fresh`.
        hopfield: The Hopfield layers; V-Hopfield and R-Hopfield have their own weights.
        visual_memory: Use V-Hopfield and the visual bank.
        report_memory: Use R-Hopfield and the report bank.
        order: `interleaved` has what a query retrieves from both banks side by side (Eq. 8-9); `blocks`
            (released code) has all that is of regions before all that is of reports.
        trained: `all` trains everything except the language model and the banks (released code). `hopfield`
            trains the Hopfield layers alone (the paper's words).
        disease_queries: Directory that `radscribe pretrain disease-queries` wrote.
        visual_bank: Directory that `radscribe pretrain visual-bank` wrote.
        report_bank: Directory that `radscribe pretrain report-bank` wrote.
    """

    backbone: BackboneConfig = field(default_factory=_vision_mamba)
    encoder: Literal["own", "stage-1"] = "own"
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    query_former: Literal["stage-1", "blip2-fresh"] = "stage-1"
    q_former: QFormerConfig = field(default_factory=QFormerConfig)
    hopfield: HopfieldConfig = field(default_factory=HopfieldConfig)
    visual_memory: bool = True
    report_memory: bool = True
    order: Literal["interleaved", "blocks"] = "interleaved"
    trained: Literal["all", "hopfield"] = "all"
    disease_queries: str = ""
    visual_bank: str = ""
    report_bank: str = ""

    def __post_init__(self) -> None:
        self.hopfield.check("system.hopfield.")
        if self.trained == "hopfield" and not (
            self.hopfield.form == "released" and (self.visual_memory or self.report_memory)
        ):
            raise ValueError(
                "system.trained hopfield needs a Hopfield layer with weights: system.visual_memory or "
                "system.report_memory, and system.hopfield.form released"
            )

    @property
    def components(self) -> tuple[ComponentConfig, ...]:
        """See `SystemConfig.components`."""
        return (self.q_former,) if self.query_former == "blip2-fresh" else ()

    @property
    def banks(self) -> dict[BankKind, str]:
        """The directory of each bank that is used, by kind; empty where none is given."""
        visual: dict[BankKind, str] = {"visual-bank": self.visual_bank} if self.visual_memory else {}
        return visual | ({"report-bank": self.report_bank} if self.report_memory else {})

    @property
    def parts(self) -> dict[str, str]:
        """See `SystemConfig.parts`; a memory that is not used needs no bank."""
        stage_1 = "stage-1" in (self.encoder, self.query_former)
        queries = {"disease_queries": "disease-queries"} if stage_1 else {}
        return queries | {kind.replace("-", "_"): kind for kind in self.banks}


class AMMRG(LanguageModelSystem):
    """The system `am-mrg`: encoder, Q-Former, two memories, frozen language model.

    Args:
        config: Parts and switches. Where the configuration names no part, the system has its sizes, but
            cannot be used before `read`.
        vocabulary: Vocabulary of the training reports, of which the cleaning rules are used.
        maximum_length: Training reports are cut to this many tokens.

    Raises:
        RadScribeError: a part is missing or damaged, or does not fit the others.

    Attributes:
        memories: V-Hopfield and R-Hopfield with the patterns of their banks, by kind of bank.
        banks: The banks themselves, as far as the configuration names them.
    """

    averaged = True

    def __init__(self, config: AMMRGConfig, vocabulary: Vocabulary, maximum_length: int):
        super().__init__(config.language_model, vocabulary, maximum_length)
        self.config = config
        stage_1 = DiseaseQueries.load(config.disease_queries, "cpu") if config.disease_queries else None
        self.stage_1_transform = stage_1.transform if stage_1 else None
        self.backbone: ViewEncoder
        if stage_1 and config.encoder == "stage-1":
            self.backbone = stage_1.backbone
        else:
            self.backbone = Backbone(config.backbone, class_token=True)
        if stage_1 and config.query_former == "stage-1":
            self.queries, self.q_former = _queries_of(stage_1, config.disease_queries)
            read = stage_1.backbone.channels
        else:
            fresh = torch.randn(len(OBSERVATIONS), config.q_former.width) * _FIRST_DEVIATION
            self.queries, self.q_former = nn.Parameter(fresh), config.q_former.build()
            read = config.q_former.channels
        self.queries.requires_grad_(config.query_former == "blip2-fresh")
        channels, width = self.backbone.channels, self.queries.size(1)
        self.encoder_projection = nn.Identity() if channels == read else nn.Linear(channels, read)
        places = config.banks
        self.memories = nn.ModuleDict({kind: Memory(config.hopfield, width) for kind in places})
        self.banks = {kind: self._fill(kind, place) for kind, place in places.items() if place}
        self.query_projection = nn.Linear(width, channels)
        self.visual_projection = nn.Linear(channels, self.language_model.width)
        self.visual_norm = nn.LayerNorm(self.language_model.width)
        if config.trained == "hopfield":
            self.requires_grad_(False)
            self.memories.requires_grad_(True)
        self.train()

    def _fill(self, kind: BankKind, place: str) -> MemoryBank:
        """Fill a memory with the bank of a directory."""
        bank, width = MemoryBank.load(place, kind), self.queries.size(1)
        if bank.patterns.size(1) != width:
            raise RadScribeError(
                f"the {kind} in '{place}' has width {bank.patterns.size(1)}, and the queries have {width}",
                f"Make one that fits: {make_command(kind)} --width {width}",
            )
        self.memory(kind).fill(bank.patterns)
        return bank

    def memory(self, kind: BankKind) -> Memory:
        """The memory of a kind of bank."""
        memory = self.memories[kind]
        assert isinstance(memory, Memory)
        return memory

    def train(self, mode: bool = True) -> AMMRG:
        """Switch the mode; what does not train is always in evaluation mode."""
        super().train(mode)
        if self.config.trained == "hopfield":
            self.backbone.eval()
            self.q_former.eval()
        return self

    def backbone_parameters(self) -> list[nn.Parameter]:
        """See `System.backbone_parameters`."""
        return list(self.backbone.parameters())

    def check_views(self, transform: TransformConfig) -> None:
        """See `System.check_views`; the disease queries see the same views."""
        if self.stage_1_transform:
            check_same_views("disease-queries", self.stage_1_transform, transform)

    def read_views(self, views: Tensor, view_mask: Tensor) -> tuple[VisualTokens, Tensor]:
        """F, the mean over the views of each study, and Q_f `[studies, observations, width]`.

        Args:
            views: The views as `System.generate` takes them.
            view_mask: bool `[studies, views]`, True for views that are there.
        """
        with torch.no_grad() if self.config.trained == "hopfield" else nullcontext():
            visual = average_views(self.backbone(views, view_mask), view_mask)
            read = self.encoder_projection(visual.tokens)
            queries = self.queries.expand(len(views), -1, -1)
            return visual, self.q_former(query_embeds=queries, encoder_hidden_states=read).last_hidden_state

    def visual_embeddings(self, views: Tensor, view_mask: Tensor) -> VisualTokens:
        """F, Q_f and F' for the language model (Eq. 10); see `LanguageModelSystem.visual_embeddings`.

        F' (Eq. 8-9) has what each query retrieves, of regions and of reports: `interleaved` or in `blocks`.
        As in the released code there is nothing between them, one layer normalisation follows for all, and
        the queries' side reaches the language model through the encoder's width.
        """
        visual, features = self.read_views(views, view_mask)
        recalled = [memory(features) for memory in self.memories.values()]  # Eq. 6-7
        if self.config.order == "interleaved" and recalled:
            recalled = [torch.stack(recalled, dim=2).flatten(1, 2)]  # Eq. 8-9
        beside = self.query_projection(torch.cat([features, *recalled], dim=1))
        tokens = self.visual_norm(self.visual_projection(torch.cat([visual.tokens, beside], dim=1)))
        return VisualTokens(tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool))

    def forward(self, batch: Batch) -> Losses:
        """Cross-entropy of the reports, averaged over words (Eq. 12)."""
        prompt = self.prompt(self.visual_embeddings(batch.views, batch.view_mask))
        loss = self.language_model.loss(prompt, batch.tokens)
        return Losses(total=loss, terms={"cross_entropy": loss})

    def fold(self) -> None:
        """Project the keys and values of the banks once; see `System.fold`."""
        for memory in self.memories.values():
            assert isinstance(memory, Memory)
            memory.fold()

    @torch.inference_mode()
    def explain(self, views: Tensor, view_mask: Tensor, tokens: Tensor) -> Evidence:
        """See `System.explain`; attention is that to F, and the queries' recall comes with it."""
        visual, features = self.read_views(views, view_mask)
        prompt = self.prompt(self.visual_embeddings(views, view_mask))
        inputs = torch.nn.functional.pad(tokens[:, :-1], (1, 0))
        attention = self.language_model.attention(prompt, inputs).float()[..., : visual.tokens.size(1)]
        attention = self.backbone.of_patches(attention.unsqueeze(-1)).squeeze(-1)
        attention = attention / attention.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        grid = Grid.of_square(attention.size(-1))
        attention, mask = self.on_views(attention, view_mask)
        return Evidence(mask, grid, attention, maps={}, recall=self._recall(views, view_mask, features))

    def _recall(self, views: Tensor, view_mask: Tensor, features: Tensor) -> RecallEvidence:
        """What the queries recall, and the probabilities of the disease queries as stage 1 left them."""
        place = self.config.disease_queries
        return RecallEvidence(
            probabilities=_stage_1(place).predict(views, view_mask) if place else None,
            banks={kind: self.memory(kind).recalled(features) for kind in self.banks},
            entries={kind: bank.rows for kind, bank in self.banks.items()},
        )


@lru_cache(maxsize=1)
def _stage_1(place: str) -> DiseaseQueries:
    """The disease queries of a directory as stage 1 left them, which drafting does not need."""
    return DiseaseQueries.load(place, "cpu")


def _queries_of(stage_1: DiseaseQueries, place: str) -> tuple[nn.Parameter, nn.Module]:
    """Queries and Q-Former of disease queries."""
    if stage_1.queries is None or stage_1.qformer is None:
        raise RadScribeError(
            f"the disease queries in '{place}' have no Q-Former: their head is pooled-mlp",
            "Train them with --head per-query, or give --system.query_former blip2-fresh",
        )
    return stage_1.queries, stage_1.qformer
