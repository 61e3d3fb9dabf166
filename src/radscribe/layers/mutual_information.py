"""Neural estimators of mutual information: a network tells pairs that belong together from others.

The statistics network T scores pairs (x, z). It is trained to score pairs of the joint distribution high, and
pairs of the marginals, in which z was taken from elsewhere, low. The objectives that do so are lower bounds
of the mutual information of x and z, or of a quantity that grows with it. **In a small batch their value says
nothing about the mutual information**, and an unbounded one grows without limit while T alone learns.

- `dv`: the Donsker-Varadhan bound, as MINE (Belghazi et al., ICML 2018) maximises it. It has no upper limit.
- `dv_ema`: the same value; its gradient divides by a running mean of exp T (section 3.2 of MINE).
- `jsd`: the Jensen-Shannon bound of Deep InfoMax (Hjelm et al., ICLR 2019), at most 2 log 2.
- `infonce`: InfoNCE (van den Oord et al., 2018), at most the logarithm of the number of z in a batch.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Estimator = Literal["dv", "dv_ema", "jsd", "infonce"]
Marginals = Literal["permutation", "derangement", "all_pairs"]

#: How much of the running mean of exp T each batch replaces.
_RATE = 0.01


class StatisticsNetwork(nn.Module):
    """T: three linear layers with ReLU between.

    Args:
        width: of x and of z.
        hidden: width of the layers between.
    """

    def __init__(self, width: int, hidden: int = 512):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Scores `[...]` of pairs of `x` and `z`, both `[..., width]`, in 32 bits at least."""
        scores = self.layers(torch.cat([x, z], dim=-1)).squeeze(-1)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    def all_pairs(self, x: Tensor, z: Tensor) -> Tensor:
        """Scores `[rows of x, rows of z]` of every row of `x` with every row of `z`."""
        return self(x.unsqueeze(1).expand(-1, len(z), -1), z.unsqueeze(0).expand(len(x), -1, -1))


def log_mean_exp(scores: Tensor) -> Tensor:
    """The logarithm of the mean of exp(scores), `[n]`; exp itself would overflow above 88."""
    return scores.logsumexp(dim=0) - math.log(len(scores))


def donsker_varadhan(joint: Tensor, marginal: Tensor) -> Tensor:
    """E[T] over the joint distribution - log E[exp T] over the marginals, from scores `[n]` and `[m]`."""
    return joint.mean() - log_mean_exp(marginal)


def jensen_shannon(joint: Tensor, marginal: Tensor) -> Tensor:
    """2 log 2 - E[softplus(-T)] over the joint - E[softplus(T)] over the marginals; 0 where T is 0."""
    return 2 * math.log(2) - F.softplus(-joint).mean() - F.softplus(marginal).mean()


def info_nce(scores: Tensor) -> Tensor:
    """The mean log-share of each row's own pair, above chance, from scores `[n, m]`, own ones at `[i, i]`."""
    return (scores.diagonal() - scores.logsumexp(dim=1)).mean() + math.log(scores.size(1))


class MutualInformationObjective(nn.Module):
    """An objective to maximise, for one pair of variables.

    Args:
        estimator: see the module's text.
        marginals: where the z of a marginal pair comes from. `permutation` shuffles the batch, so that a row
            may keep its own; `derangement` leaves no row its own; `all_pairs` takes every other row. Outside
            of training the z of the row before is taken, so that the value is a function of the batch.
            `infonce` compares with all rows whatever this says.
    """

    def __init__(self, estimator: Estimator, marginals: Marginals):
        super().__init__()
        self.estimator = estimator
        self.marginals = marginals
        self.log_mean: Tensor
        if estimator == "dv_ema":
            self.register_buffer("log_mean", torch.tensor(-torch.inf))

    def forward(self, network: StatisticsNetwork, x: Tensor, z: Tensor, past: Tensor) -> Tensor:
        """The objective of a batch, a scalar.

        Args:
            network: T.
            x: `[rows, width]`.
            z: the same; row i belongs to row i of `x`. A row that is alone is compared with itself.
            past: z of earlier batches `[earlier rows, width]`, with all of which each row is compared too.
        """
        if self.estimator == "infonce":
            return info_nce(network.all_pairs(x, torch.cat([z, past])))
        joint, marginal = network(x, z), self._marginal(network, x, z)
        if len(past):
            marginal = torch.cat([marginal, network.all_pairs(x, past).flatten()])
        if self.estimator == "jsd":
            return jensen_shannon(joint, marginal)
        bound = donsker_varadhan(joint, marginal)
        return self._with_running_mean(joint, marginal, bound) if self.estimator == "dv_ema" else bound

    def _marginal(self, network: StatisticsNetwork, x: Tensor, z: Tensor) -> Tensor:
        rows = len(x)
        if self.marginals == "all_pairs" and rows > 1:
            own = torch.eye(rows, dtype=torch.bool, device=x.device)
            return network.all_pairs(x, z)[~own]
        order = torch.arange(rows, device=x.device)
        if not self.training:
            order = order.roll(1)
        elif self.marginals == "permutation":
            order = torch.randperm(rows, device=x.device)
        else:  # a random circle: each row takes from the one before it, and none from itself
            circle = torch.randperm(rows, device=x.device)
            order = order.scatter(0, circle, circle.roll(1))
        return network(x, z[order])

    def _with_running_mean(self, joint: Tensor, marginal: Tensor, bound: Tensor) -> Tensor:
        """The value of `bound` with the gradient of E[T] - E[exp T] / running mean.

        The running mean begins with the first batch. It is kept as a logarithm, and contains a share of the
        batch itself, so that the quotient is at most 1 / rate.
        """
        current = log_mean_exp(marginal)
        with torch.no_grad():
            kept = self.log_mean + math.log1p(-_RATE)
            running = torch.logaddexp(kept, current + math.log(_RATE))
            running = torch.where(self.log_mean.isinf(), current, running)
        if self.training and torch.is_grad_enabled():
            self.log_mean.copy_(running)
        slope = joint.mean() - (current - running).exp()
        return bound.detach() + (slope - slope.detach())


class _TwoUses(torch.autograd.Function):
    """Weight and bias, twice; the gradient of the second use is clipped to the norm of the first one's."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, share: Tensor) -> tuple[Tensor, ...]:
        ctx.share = share
        return weight.view_as(weight), bias.view_as(bias), weight.view_as(weight), bias.view_as(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        main, second = gradients[:2], gradients[2:]
        main_norm, norm = (torch.cat([each.flatten() for each in use]).norm() for use in (main, second))
        tiny = torch.finfo(norm.dtype).tiny
        ctx.share.copy_(norm / (main_norm + norm).clamp(min=tiny))
        scale = (main_norm / norm.clamp(min=tiny)).clamp(max=1)
        return main[0] + scale * second[0], main[1] + scale * second[1], None


class TwoLossLinear(nn.Linear):
    """A linear layer that the main loss and a bound of mutual information train together.

    The bound's gradient has no limit. As in MINE (its adaptive clipping) it is clipped, for this layer as a
    whole, to the norm that the main loss's gradient has.

    Attributes:
        gradient_share: norm of the bound's gradient, before clipping, as a share of the sum of both norms; of
            the last backward pass, and 0 before the first.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.gradient_share: Tensor
        self.register_buffer("gradient_share", torch.zeros(()), persistent=False)

    def forward_twice(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output `[..., outputs]` for the main loss, and the same one for the bound.

        The bound's gradient reaches this layer, and not `x`.
        """
        main_weight, main_bias, weight, bias = _TwoUses.apply(self.weight, self.bias, self.gradient_share)
        return F.linear(x, main_weight, main_bias), F.linear(x.detach(), weight, bias)
