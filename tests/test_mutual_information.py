"""Bounds of mutual information: on Gaussians, where the truth is known, and which pairs they compare."""

import math

import pytest
import torch

from radscribe.layers.mutual_information import (
    MutualInformationObjective,
    StatisticsNetwork,
    donsker_varadhan,
    info_nce,
)


def gaussians(rho: float, rows: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of numbers with the correlation `rho`, both `[rows, 1]`."""
    x, noise = torch.randn(2, rows, 1, generator=generator)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def trained(
    estimator: str, rho: float, generator: torch.Generator, *, steps: int, hidden: int, rate: float
) -> StatisticsNetwork:
    """A small statistics network, trained on fresh pairs in batches of 512, at a rate that falls to 0."""
    torch.manual_seed(0)
    network = StatisticsNetwork(1, hidden)
    objective = MutualInformationObjective(estimator, "permutation")
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        x, z = gaussians(rho, 512, generator)
        optimizer.zero_grad()
        (-objective(network, x, z, z[:0])).backward()
        optimizer.step()
    return network


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("estimator", ["dv", "dv_ema", "jsd", "infonce"])
def test_large_batches_of_gaussians(estimator, rho):
    """The bound on new pairs is within 15 % of -1/2 log(1 - rho^2).

    The Jensen-Shannon objective is no bound of it. Its network is a log-ratio of densities all the same, and
    the Donsker-Varadhan bound with this network is.
    """
    generator = torch.Generator().manual_seed(0)
    if estimator == "infonce":
        # Every step has 512 x 512 pairs.
        network = trained(estimator, rho, generator, steps=40, hidden=16, rate=2e-2)
        with torch.no_grad():
            scores = [network.all_pairs(*gaussians(rho, 512, generator)) for _ in range(20)]
            found = torch.stack([info_nce(matrix) for matrix in scores]).mean()
    else:
        network = trained(estimator, rho, generator, steps=150, hidden=32, rate=1e-2)
        x, z = gaussians(rho, 200_000, generator)
        with torch.no_grad():
            found = donsker_varadhan(network(x, z), network(x, z.roll(1, dims=0)))
    assert found.item() == pytest.approx(-math.log(1 - rho**2) / 2, rel=0.15)


def test_marginals():
    """Which pairs are compared, told apart by a network that gives each pair its own score."""

    class Told(StatisticsNetwork):
        def forward(self, x, z):
            return (10 * x + z).squeeze(-1)

    rows, network = torch.arange(6.0).unsqueeze(1), Told(1)

    def pairs(marginals, seed):
        torch.manual_seed(seed)
        objective = MutualInformationObjective("dv", marginals)
        return [divmod(int(score), 10) for score in objective._marginal(network, rows, rows)]

    kept = 0
    for seed in range(20):
        for marginals in ("permutation", "derangement"):
            found = pairs(marginals, seed)
            assert [x for x, _ in found] == list(range(6))
            assert sorted(z for _, z in found) == list(range(6))
        assert all(x != z for x, z in pairs("derangement", seed))
        kept += sum(x == z for x, z in pairs("permutation", seed))
    assert kept > 0
    assert len(pairs("all_pairs", 0)) == 30
    assert all(x != z for x, z in pairs("all_pairs", 0))
