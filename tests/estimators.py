"""Prints what the bounds of mutual information say at batch 8, as CmEAA trains: `python tests/estimators.py`.

Pairs are independent Gaussians, noisy copies, and a variable with its sum with another, as NMIA pairs them.
Each bound is trained for 2,000 steps of Adam at 1e-4. Printed are its mean and deviation over the last 200
batches of 8, and the value of the trained network with 20,000 fresh pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from radscribe.layers.mutual_information import (
    MutualInformationObjective,
    StatisticsNetwork,
    donsker_varadhan,
)

WIDTH, BATCH, STEPS = 256, 8, 2000
#: Share of a noisy copy that is signal, chosen so that its mutual information is 5.2 nats.
_RHO = math.sqrt(1 - math.exp(-2 * 5.2 / WIDTH))
PAIRS = {
    "independent": lambda x, noise: noise,
    "noisy copy": lambda x, noise: _RHO * x + math.sqrt(1 - _RHO**2) * noise,
    "sum": lambda x, noise: x + noise,
}
TRUE = {"independent": 0.0, "noisy copy": 5.2, "sum": WIDTH / 2 * math.log(2)}
COLUMNS = (
    ("dv", "derangement"),
    ("dv", "permutation"),
    ("dv_ema", "permutation"),
    ("jsd", "permutation"),
    ("infonce", "permutation"),
)


def measured(kind: str, estimator: str, marginals: str) -> str:
    """One cell of the table."""
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)

    def draw(rows: int) -> tuple[Tensor, Tensor]:
        x, noise = (torch.randn(rows, WIDTH, generator=generator) for _ in range(2))
        return x, PAIRS[kind](x, noise)

    network, objective = StatisticsNetwork(WIDTH), MutualInformationObjective(estimator, marginals)
    optimizer = torch.optim.Adam([*network.parameters()], lr=1e-4)
    values = []
    for _ in range(STEPS):
        x, z = draw(BATCH)
        bound = objective(network, x, z, z[:0])
        optimizer.zero_grad(set_to_none=True)
        (-bound).backward()
        optimizer.step()
        values.append(bound.item())
    last = torch.tensor(values[-200:])
    with torch.no_grad():
        x, z = draw(20_000)
        fresh = donsker_varadhan(network(x, z), network(x, z.roll(1, 0))).item()
    return f"{last.mean().item():.2f}, {last.std().item():.2f} ({fresh:.1f})"


def main() -> None:
    """Print the table in Markdown."""
    torch.set_num_threads(1)
    names = " | ".join(f"{estimator}, {marginals}" for estimator, marginals in COLUMNS)
    print(f"| pairs | true, nats | {names} |\n|---|---|{'---|' * len(COLUMNS)}")
    for kind, true in TRUE.items():
        cells = " | ".join(measured(kind, *column) for column in COLUMNS)
        print(f"| {kind} | {true:.1f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
