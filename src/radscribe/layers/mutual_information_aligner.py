"""Neural mutual information aligner (NMIA): a vector of the whole image that is drawn to that of its report.

Huang et al., CmEAA; equation numbers in this file are that paper's.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from radscribe.layers.contrastive import mean_token
from radscribe.layers.frozen_language_model import Embedded
from radscribe.layers.mutual_information import (
    Estimator,
    Marginals,
    MutualInformationObjective,
    StatisticsNetwork,
    TwoLossLinear,
)


class Aligned(NamedTuple):
    """What NMIA makes of the visual tokens of each study.

    Attributes:
        tokens: X_g* `[studies, width]`, which is added to every token.
        image: C `[studies, k]`, for L_NMI.
    """

    tokens: Tensor
    image: Tensor


class MutualInformationAligner(nn.Module):
    """NMIA (Eq. 11-15).

    C is W1 of the mean visual token, R a linear map of the mean word embedding of the report, and Z = C + R.
    L_NMI raises a bound of I(C; Z) + I(R; Z). The paper trains "the parameters of the linear layers" by it:
    the visual tokens are detached there, and W2, which L_NMI does not contain, learns from the cross-entropy.
    One statistics network serves both terms, as Algorithm 1 prints it.

    The value of the bound estimates no mutual information: Z contains C, and a batch is small. It also rises
    when reports are shuffled among the studies.

    Args:
        inputs: width of a visual token.
        report_width: width of a word embedding.
        k: width of C, R and Z.
        estimator: the bound, see `radscribe.layers.mutual_information`.
        pairing: `fused` is I(C; Z) + I(R; Z); `direct` is I(C; R).
        marginals: how pairs that do not belong together are made.
        queue: how many vectors of earlier batches each is compared with as well.
        shared_critic: one statistics network for both terms.
    """

    def __init__(
        self,
        inputs: int,
        report_width: int,
        k: int,
        *,
        estimator: Estimator,
        pairing: Literal["fused", "direct"],
        marginals: Marginals,
        queue: int,
        shared_critic: bool,
    ):
        super().__init__()
        self.fused = pairing == "fused"
        terms = 2 if self.fused else 1
        self.reduce = TwoLossLinear(inputs, k)  # W1, b1
        self.expand = nn.Linear(k, inputs)  # W2, b2
        self.report = nn.Linear(report_width, k)
        networks = [StatisticsNetwork(k) for _ in range(1 if shared_critic else terms)]
        self.networks = nn.ModuleList(networks)
        # Each term has a running mean of its own (`dv_ema`).
        self.objectives = nn.ModuleList(
            MutualInformationObjective(estimator, marginals) for _ in range(terms)
        )
        self.queue = queue
        self.past: Tensor
        self.filled: Tensor
        if queue:
            self.register_buffer("past", torch.zeros(queue, k))
            self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def forward(self, visual: Tensor, mask: Tensor) -> Aligned:
        """X_g* and C from X_v^u `[studies, tokens, inputs]`, where `mask` is True (Eq. 13-15)."""
        reduced, image = self.reduce.forward_twice(mean_token(visual, mask))
        return Aligned(self.expand(reduced), image)

    def loss(self, image: Tensor, words: Embedded) -> tuple[Tensor, Tensor]:
        """L_NMI (Algorithm 1) of the studies, and the same with the report of another study, for comparison.

        Args:
            image: C `[studies, k]`.
            words: embeddings of the words of each report.
        """
        report = self._report(words)
        with torch.no_grad():
            shuffled = -self._bound(image, report.roll(1, dims=0))
        loss = -self._bound(image, report)
        if self.queue and self.training and torch.is_grad_enabled():
            self._remember(image, report)
        return loss, shuffled

    @torch.no_grad()
    def match(self, image: Tensor, words: Embedded) -> Tensor:
        """How well each report fits each image, by the statistics networks `[images, reports]`.

        Args:
            image: C `[images, k]`.
            words: Embeddings of the words of each report.
        """
        report = self._report(words)
        rows = []
        for one in image:
            variables, other = self._pairs(one.expand_as(report), report)
            rows.append(
                sum(
                    self.networks[number % len(self.networks)](variable, other)
                    for number, variable in enumerate(variables)
                )
            )
        return torch.stack(rows)

    def _report(self, words: Embedded) -> Tensor:
        """R `[reports, k]`."""
        return self.report(mean_token(words.embeddings.to(self.report.weight.dtype), words.mask))

    def _pairs(self, image: Tensor, report: Tensor) -> tuple[list[Tensor], Tensor]:
        """The variables of each term, and what each is paired with."""
        return ([image, report], image + report) if self.fused else ([image], report)

    def _bound(self, image: Tensor, report: Tensor) -> Tensor:
        variables, other = self._pairs(image, report)
        past = self.past[: int(self.filled)].to(other.dtype) if self.queue else other[:0]
        terms = [
            objective(self.networks[number % len(self.networks)], variable, other, past)
            for number, (objective, variable) in enumerate(zip(self.objectives, variables, strict=True))
        ]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def _remember(self, image: Tensor, report: Tensor) -> None:
        """Keep what was paired, the newest in front."""
        _, other = self._pairs(image, report)
        self.past.copy_(torch.cat([other.to(self.past.dtype), self.past])[: self.queue])
        self.filled.copy_((self.filled + len(other)).clamp(max=self.queue))
