"""CmEAA: cross-modal enhancement and alignment adapter for radiology report generation.

Huang, Han, Li, Li, Wu, Zhang. COLING 2025. No released code. Equation numbers in this file are the paper's.

Visual tokens of a frozen Swin Transformer reach a frozen language model through an adapter (Eq. 3-4): a pair
of RepAdapters, one of which leads through CFE, which reads phrases of the training reports that go with the
observations of the image (Eq. 7-10), and a vector for the whole image that NMIA aligns with the report (Eq.
11-15). Two weights of each study balance the pair (Eq. 1-2).

The paper leaves much open. Each reading is a field, and its default stands beside its equation with the
reason. Three parts come first (`SystemConfig.parts`): a phrase table (Eq. 6), and a classifier and a
retriever, which find the observations of a study (`study_observations.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from radscribe.errors import RadScribeError
from radscribe.layers.contrastive import mean_token
from radscribe.layers.cross_modal_enhancement import CrossModalEnhancement, PhraseVectors
from radscribe.layers.frozen_language_model import Embedded, LanguageModelConfig
from radscribe.layers.mutual_information import Estimator, Marginals
from radscribe.layers.mutual_information_aligner import MutualInformationAligner
from radscribe.layers.rep_adapter import Raised, RepAdapters
from radscribe.observations import OBSERVATIONS
from radscribe.parts.phrase_table import POLARITIES, PhraseTable
from radscribe.ranges import (
    COUNT_OR_NONE,
    DROPOUT,
    LAYERS,
    WEIGHT,
    WIDTH,
    Range,
    check_divisible,
    check_fields,
)
from radscribe.systems.config import SystemConfig
from radscribe.systems.language_model_system import LanguageModelSystem
from radscribe.systems.study_observations import (
    StudyObservations,
    StudyObservationsConfig,
    StudyObserver,
    as_tensor,
)
from radscribe.systems.system import Batch, Evidence, Losses, PhraseEvidence
from radscribe.text.prompts import CMEAA_PROMPT
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import Backbone, BackboneConfig, VisualTokens, average_views
from radscribe.vision.transforms import TransformConfig

#: The preset `stable`: fields of `CmEAAConfig`. The defaults are the preset `paper`, whose bound has no upper
#: limit: it grows until its numbers overflow, and on the way it outweighs the cross-entropy.
STABLE: dict[str, Any] = {"estimator": "jsd", "alignment_weight": 0.1}


def _no_parts() -> RadScribeError:
    return RadScribeError(
        "CFE needs phrases of the observations of each image, and no parts find them",
        "Train it with radscribe train, which makes them, or without: --system.enhancement false",
    )


def _swin() -> BackboneConfig:
    return BackboneConfig(architecture="swin_base_patch4_window7_224", weights="ms_in1k")


@dataclass(kw_only=True, slots=True)
class CmEAAConfig(SystemConfig):
    """Parts and switches. The defaults are the paper's where it says something.

    Attributes:
        language_model: The frozen language model.
        frozen_backbone: Leave the visual extractor as it is; else it trains.
        views: What happens to the tokens of several views: `average` them, or `concatenate` them.
        reading: Widths of the two RepAdapters: `up` raises f_u to the language model's width, `wide` raises
            both, `square` raises their sum, and `pre` raises what they are given.
        adapter_width: Width between the projections of a RepAdapter; 0 means 8, and 128 for `wide`.
        adapter_dropout: Dropout probability between the projections of a RepAdapter.
        adapter_scale: Factor of what a RepAdapter adds.
        temperature: Temperature of the two weights (Eq. 2).
        enhancement: Use CFE. It needs phrases.
        enhancement_layers: Layers of CFE.
        enhancement_heads: Attention heads of CFE.
        enhancement_dropout: Dropout probability in CFE.
        aligner: Use NMIA, and train with its loss.
        aligner_width: Width k of the space in which NMIA aligns.
        alignment_weight: The weight of NMIA's loss (Eq. 16).
        estimator: Objective of NMIA: `dv` is the paper's bound, `dv_ema` is the same with a running mean in
            its gradient, and `jsd` and `infonce` are bounds with an upper limit.
        pairing: Pairs that NMIA looks at: `fused` takes the image with the sum of image and report, and the
            report with this sum; `direct` takes the image with the report.
        marginals: How NMIA makes pairs that do not belong together: `permutation` of the batch,
            `derangement` (a permutation that moves every study), or `all_pairs` of the batch.
        queue: How many vectors of earlier batches NMIA compares with as well.
        shared_critic: Use one statistics network for both pairs of `fused`.
        observations: How the observations of a study are found.
        observation_classifier: Directory that `radscribe pretrain observation-classifier` wrote.
        retriever: Directory that `radscribe pretrain retriever` wrote.
        phrases: Directory that `radscribe pretrain phrases` wrote.
    """

    backbone: BackboneConfig = field(default_factory=_swin)
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    frozen_backbone: bool = True
    views: Literal["average", "concatenate"] = "average"
    reading: Literal["up", "wide", "square", "pre"] = "up"
    adapter_width: int = 0
    adapter_dropout: float = 0.1
    adapter_scale: float = 1.0
    temperature: float = 10.0
    enhancement: bool = True
    enhancement_layers: int = 1
    enhancement_heads: int = 8
    enhancement_dropout: float = 0.1
    aligner: bool = True
    aligner_width: int = 256
    alignment_weight: float = 1.0
    estimator: Estimator = "dv"
    pairing: Literal["fused", "direct"] = "fused"
    marginals: Marginals = "permutation"
    queue: int = 0
    shared_critic: bool = True
    observations: StudyObservationsConfig = field(default_factory=StudyObservationsConfig)
    observation_classifier: str = ""
    retriever: str = ""
    phrases: str = ""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "system.",
            adapter_width=Range(0, WIDTH.high),
            adapter_dropout=DROPOUT,
            adapter_scale=WEIGHT,
            temperature=Range(0, above=True),
            enhancement_layers=LAYERS,
            enhancement_heads=WIDTH,
            enhancement_dropout=DROPOUT,
            aligner_width=WIDTH,
            alignment_weight=WEIGHT,
            queue=COUNT_OR_NONE,
        )
        # The second projection of a RepAdapter has two groups.
        check_divisible("system.adapter_width", self.adapter_width, "the two groups,", 2)

    @property
    def parts(self) -> dict[str, str]:
        """See `SystemConfig.parts`; without CFE none is needed."""
        if not self.enhancement:
            return {}
        retriever = {"retriever": "retriever"} if self.observations.reads_reports else {}
        return {"observation_classifier": "observation-classifier", **retriever, "phrases": "phrases"}


# --- Eq. 1-4: the pair of RepAdapters, and their weights --------------------------------------------------


class Widths(NamedTuple):
    """What the two RepAdapters of Eq. 4 begin and end at, under one reading.

    Attributes:
        inputs: width of their tokens.
        hidden: width between their projections.
        enhanced: where f_d ends.
        vanilla: where f_u ends.
    """

    inputs: int
    hidden: int
    enhanced: Raised
    vanilla: Raised


def adapter_widths(config: CmEAAConfig, channels: int, width: int) -> Widths:
    """The widths and skips of f_d and f_u.

    Eq. 4 adds CFE(f_d) to f_u, so that both end at one width. The visual extractor's is 1024, the language
    model's 4096, and the paper does not say where the one becomes the other. The readings:

    - `up` (default): f_d is 1024 -> 1024 with an identity skip, f_u is 1024 -> 4096 with the linear map of
      the base as its skip, and CFE ends at 4096. It explains the letters d and u, and f_u starts as model
      (a), so that the variants are nested.
    - `wide`: both are 1024 -> 128 -> 4096 without a skip, as the neck of LaVIN, by the first author of
      RepAdapter. No other layer is needed, but tokens have rank 128.
    - `square`: both are 1024 -> 1024 as published; a linear map to 4096 follows Eq. 4.
    - `pre`: a linear map to 4096 stands in front, and both are 4096 -> 4096.

    Args:
        config: with the reading.
        channels: of a visual token.
        width: of the language model's embeddings.
    """
    small = config.adapter_width or 8  # as RepAdapter was released
    narrow, same = Raised(channels, "identity"), Raised(width, "identity")
    if config.reading == "up":
        return Widths(channels, small, narrow, Raised(width, "linear"))
    if config.reading == "wide":
        lifted = Raised(width, "none")
        return Widths(channels, config.adapter_width or 128, lifted, lifted)
    if config.reading == "square":
        return Widths(channels, small, narrow, narrow)
    return Widths(width, small, same, same)


class WeightGenerator(nn.Module):
    """The weights w0 and w1 of a study (Eq. 1-2).

    X_i of Eq. 1 is what the visual extractor gives, before any adapter. At the default temperature, 10 as in
    LaVIN, a difference of 1 between the logits gives .525 and .475.
    """

    def __init__(self, channels: int, temperature: float):
        super().__init__()
        self.linear = nn.Linear(channels, 2)
        self.temperature = temperature

    def forward(self, visual: VisualTokens) -> Tensor:
        """The weights `[studies, 2]`, which sum to 1, in 32 bits at least."""
        pooled = mean_token(visual.tokens, visual.mask).to(self.linear.weight.dtype)  # Eq. 1
        with torch.autocast(pooled.device.type, enabled=False):
            return (self.linear(pooled) / self.temperature).softmax(dim=-1)  # Eq. 2


# --- Eq. 3-4 ----------------------------------------------------------------------------------------------


class Adapted(NamedTuple):
    """What the adapter makes of visual tokens.

    Attributes:
        tokens: X~* `[studies, tokens, width]` (Eq. 4).
        weights: w0 and w1 of each study `[studies, 2]`; None without CFE.
        attention: Attention of each visual token to each phrase `[studies, heads, tokens, phrases]`; None
            without CFE.
        image: C of NMIA `[studies, k]`; None without NMIA.
    """

    tokens: Tensor
    weights: Tensor | None
    attention: Tensor | None
    image: Tensor | None


class CrossModalAdapter(nn.Module):
    """CmEAA(X_i) (Eq. 3-4), with the variants of Table 2.

    (a), without CFE and NMIA, is a linear layer. (b) drops NMIA and its loss. (c), without CFE, has nothing
    that f_u would be weighed against: it is f_u + NMIA(f_u). (d) is Eq. 4. A layer normalisation follows in
    all, as in R2GenGPT, from which the paper sets out.

    Args:
        config: the reading and what is used.
        channels: of a visual token.
        width: of the language model's embeddings.
    """

    def __init__(self, config: CmEAAConfig, channels: int, width: int):
        super().__init__()
        widths = adapter_widths(config, channels, width)
        plain = not (config.enhancement or config.aligner)
        before, after = plain or config.reading == "pre", config.reading == "square" and not plain
        self.before = nn.Linear(channels, width) if before else nn.Identity()
        self.after = nn.Linear(channels, width) if after else nn.Identity()
        self.norm = nn.LayerNorm(width)
        self.adapters: nn.Module | None = None
        self.enhancement: CrossModalEnhancement | None = None
        self.aligner: MutualInformationAligner | None = None
        if plain:
            return
        raised = [widths.enhanced, widths.vanilla] if config.enhancement else [widths.vanilla]
        self.adapters = RepAdapters(
            widths.inputs, widths.hidden, raised, config.adapter_dropout, config.adapter_scale
        )
        if config.enhancement:
            self.weights = WeightGenerator(channels, config.temperature)
            self.enhancement = CrossModalEnhancement(
                widths.enhanced.width,
                widths.vanilla.width,
                width,
                layers=config.enhancement_layers,
                heads=config.enhancement_heads,
                dropout=config.enhancement_dropout,
            )
        if config.aligner:
            self.aligner = MutualInformationAligner(
                widths.vanilla.width,
                width,
                config.aligner_width,
                estimator=config.estimator,
                pairing=config.pairing,
                marginals=config.marginals,
                queue=config.queue,
                shared_critic=config.shared_critic,
            )

    def forward(self, visual: VisualTokens, phrases: Embedded | None = None) -> Adapted:
        """X~* of the visual tokens X_i (Eq. 3).

        Args:
            visual: tokens of the visual extractor.
            phrases: vectors of the phrases of each study, which CFE needs.
        """
        tokens = self.before(visual.tokens)
        weights = attention = image = None
        if self.adapters is not None:
            *enhanced, vanilla = self.adapters(tokens)  # f_d(X_i), if there is CFE, and f_u(X_i)
            tokens = vanilla
            if self.enhancement is not None:
                assert phrases is not None
                weights = self.weights(visual)
                first, second = weights.to(vanilla.dtype)[..., None, None].unbind(dim=1)
                read, attention = self.enhancement(enhanced[0], visual.mask, phrases)
                tokens = first * read + second * vanilla
            if self.aligner is not None:
                aligned = self.aligner(vanilla, visual.mask)
                tokens = tokens + aligned.tokens.unsqueeze(1)  # Eq. 14: one for every token
                image = aligned.image
        return Adapted(self.norm(self.after(tokens)), weights, attention, image)

    def fold(self) -> None:
        """Have the RepAdapters be plain linear maps from now on; for drafting, not for training."""
        if isinstance(self.adapters, RepAdapters):
            self.adapters = self.adapters.folded()


# --- the system -------------------------------------------------------------------------------------------


class CmEAA(LanguageModelSystem):
    """The system `cmeaa`: visual extractor, adapter, frozen language model.

    Args:
        config: Parts and switches. Where CFE is used and the configuration names no phrase table, the system
            has its sizes, but cannot be used before `read`.
        vocabulary: Vocabulary of the training reports, of which the cleaning rules are used.
        maximum_length: Training reports are cut to this many tokens.

    Raises:
        RadScribeError: a part is missing or damaged.
    """

    report_prompt = CMEAA_PROMPT

    def __init__(self, config: CmEAAConfig, vocabulary: Vocabulary, maximum_length: int):
        super().__init__(config.language_model, vocabulary, maximum_length)
        self.config = config
        self.averaged = config.views == "average"
        self.backbone = Backbone(config.backbone)
        self.backbone.requires_grad_(not config.frozen_backbone)
        self.adapter = CrossModalAdapter(config, self.backbone.channels, self.language_model.width)
        self.phrases: PhraseVectors | None = None
        self.observer: StudyObserver | None = None
        if config.enhancement and config.phrases:
            self.read(PhraseTable.load(config.phrases))
            places = config.observation_classifier, config.retriever
            self.observer = StudyObserver.load(config.observations, *places)
        self.train()

    def read(self, table: PhraseTable) -> None:
        """Take the phrases that CFE reads from a table."""
        labels: dict[tuple[int, bool], Sequence[str]] = {
            (number, polarity == "positive"): phrases
            for number, name in enumerate(OBSERVATIONS)
            for polarity in POLARITIES
            if (phrases := table.phrases(name, polarity))
        }
        no_finding = OBSERVATIONS.index("No Finding"), True
        self.phrases = PhraseVectors(self.language_model, labels, len(OBSERVATIONS), no_finding)

    def train(self, mode: bool = True) -> CmEAA:
        """A frozen visual extractor is always in evaluation mode."""
        super().train(mode)
        if self.config.frozen_backbone:
            self.backbone.eval()
        return self

    def backbone_parameters(self) -> list[nn.Parameter]:
        """See `System.backbone_parameters`."""
        return list(self.backbone.parameters())

    def check_views(self, transform: TransformConfig) -> None:
        """See `System.check_views`."""
        if self.observer:
            self.observer.check_views(transform)

    def training_labels(
        self, labels: Tensor, reports: Sequence[str], views: Iterable[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """The observations of training studies; see `System.training_labels` and `StudyObserver`."""
        if self.observer is None:
            return labels
        found, begin = [], 0
        for pixels, view_mask in views:
            end = begin + len(pixels)
            found += self.observer.observe_training(pixels, view_mask, reports[begin:end], labels[begin:end])
            begin = end
        return as_tensor(found)

    def observe(self, views: Tensor, view_mask: Tensor) -> list[StudyObservations]:
        """The observations by which the phrases of a study are chosen in drafting, from views alone.

        Args:
            views: The views as `System.generate` takes them.
            view_mask: bool `[studies, views]`, True for views that are there.

        Raises:
            RadScribeError: the system was built without its parts.
        """
        if self.observer is None:
            raise _no_parts()
        return self.observer.observe(views, view_mask)

    def visual_embeddings(self, views: Tensor, view_mask: Tensor) -> VisualTokens:
        """X~* of the views; see `LanguageModelSystem.visual_embeddings`."""
        labels = as_tensor(self.observe(views, view_mask)) if self.config.enhancement else None
        visual, adapted = self.adapt(views, view_mask, labels)
        return visual._replace(tokens=adapted.tokens)

    def adapt(self, views: Tensor, view_mask: Tensor, labels: Tensor | None) -> tuple[VisualTokens, Adapted]:
        """The visual tokens X_i of each study, and what the adapter makes of them (Eq. 3).

        Args:
            views: The views as `System.generate` takes them.
            view_mask: bool `[studies, views]`, True for views that are there.
            labels: The observations of each study as `as_tensor` gives them, which CFE needs.
        """
        with torch.no_grad() if self.config.frozen_backbone else nullcontext():
            visual: VisualTokens = self.backbone(views, view_mask)
        if self.averaged:
            visual = average_views(visual, view_mask)
        phrases = None
        if self.config.enhancement:
            if self.phrases is None or labels is None:
                raise _no_parts()
            phrases = self.phrases(labels.to(views.device))
        return visual, self.adapter(visual, phrases)

    def forward(self, batch: Batch) -> Losses:
        """L_CE (Eq. 5), averaged over words as in R2GenGPT, and L_NMI (Eq. 16).

        Raises:
            RadScribeError: L_NMI is not finite.
        """
        visual, adapted = self.adapt(batch.views, batch.view_mask, batch.labels)
        prompt = self.prompt(visual._replace(tokens=adapted.tokens))
        total = self.language_model.loss(prompt, batch.tokens)  # Eq. 5
        losses = Losses(total, {"cross_entropy": total})
        if adapted.weights is not None:
            enhanced, vanilla = adapted.weights.detach().mean(dim=0)
            losses.shares |= {"weight_of_enhanced": enhanced, "weight_of_vanilla": vanilla}
        if (aligner := self.adapter.aligner) is not None:
            assert adapted.image is not None
            alignment, shuffled = aligner.loss(adapted.image, self._words(batch.tokens))
            if not torch.isfinite(alignment):
                fields = " ".join(f"--system.{name} {value}" for name, value in STABLE.items())
                raise RadScribeError(
                    f"the loss of NMIA is {alignment.item()}: its bound, {self.config.estimator}, diverged",
                    f"Train again with the preset stable, whose bound has an upper limit: {fields}",
                )
            losses.total = total + self.config.alignment_weight * alignment  # Eq. 16
            # Terms are losses: each is a bound with its sign changed.
            losses.terms |= {"alignment": alignment, "alignment_of_shuffled": shuffled}
            losses.shares["gradient_of_alignment"] = aligner.reduce.gradient_share.clone()
        return losses

    def _words(self, tokens: Tensor) -> Embedded:
        """The embeddings of the words of reports, without begin and end."""
        return self.language_model.embed_words(tokens[:, 1:])

    @torch.inference_mode()
    def image_vectors(self, views: Tensor, view_mask: Tensor) -> Tensor | None:
        """C of NMIA; see `MatchesReports`. None without NMIA."""
        aligner, adapters = self.adapter.aligner, self.adapter.adapters
        if aligner is None or adapters is None:
            return None
        visual: VisualTokens = self.backbone(views, view_mask)
        if self.averaged:
            visual = average_views(visual, view_mask)
        return aligner(adapters(self.adapter.before(visual.tokens))[-1], visual.mask).image

    @torch.inference_mode()
    def match_reports(self, images: Tensor, tokens: Tensor) -> Tensor:
        """See `MatchesReports`; the statistics networks of NMIA say how well a report fits."""
        assert self.adapter.aligner is not None
        return self.adapter.aligner.match(images, self._words(tokens))

    @torch.inference_mode()
    def explain(self, views: Tensor, view_mask: Tensor, tokens: Tensor) -> Evidence:
        """See `System.explain`; with CFE, also what the visual tokens have read, and why that."""
        evidence = super().explain(views, view_mask, tokens)
        if self.phrases is None:
            return evidence
        observed = self.observe(views, view_mask)
        labels = as_tensor(observed)
        _, adapted = self.adapt(views, view_mask, labels)
        assert adapted.attention is not None
        assert adapted.weights is not None
        attention, _ = self.on_views(adapted.attention.float().mean(dim=1).transpose(1, 2), view_mask)
        evidence.phrases = PhraseEvidence(
            observations=observed,
            texts=self.phrases.texts,
            chosen=self.phrases(labels.to(views.device)).mask,
            attention=attention,
            weights=adapted.weights,
        )
        return evidence

    def fold(self) -> None:
        """Have the RepAdapters be plain linear maps from now on; see `System.fold`."""
        self.adapter.fold()
