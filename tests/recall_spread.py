"""Among how many entries a recall is spread, by reading of beta: python tests/recall_spread.py

Random rows and queries of the paper's sizes, in layers as they begin to train. It prints the perplexity of
the recall (1: one entry, 6,957: all) and the steps of a descent, whose rows are the bank's as they are.
"""

from __future__ import annotations

import torch

from radscribe.layers.hopfield import EnergyDescent, HopfieldConfig, energy_gradient
from radscribe.layers.memory import Memory
from radscribe.observations import OBSERVATIONS

ROWS, WIDTH = 6957, 768
BETAS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
READINGS = {
    "released": {"form": "released", "scale": "beta"},
    "beta/sqrt(d)": {"form": "released", "scale": "beta/sqrt(d)"},
    "printed": {"form": "printed"},
    "exact": {"form": "exact"},
}


def steps_of(layer: EnergyDescent, queries: torch.Tensor, bank: torch.Tensor) -> int:
    """Number of steps until no query moves by more than the tolerance."""
    states, steps, moved = queries, 0, torch.tensor(torch.inf)
    while moved.norm(dim=-1).max() > layer.tolerance:
        moved = layer.step_size * energy_gradient(states, queries, bank, layer.weight(WIDTH))
        states, steps = states - moved, steps + 1
    return steps


@torch.inference_mode()
def main() -> None:
    torch.manual_seed(0)
    bank, queries = torch.randn(ROWS, WIDTH), torch.randn(1, len(OBSERVATIONS), WIDTH)
    print("| reading | " + " | ".join(f"beta {beta:g}" for beta in BETAS) + " |")
    print("|---" * (len(BETAS) + 1) + "|")
    for name, fields in READINGS.items():
        cells = []
        for beta in BETAS:
            torch.manual_seed(1)
            memory = Memory(HopfieldConfig(beta=beta, **fields), WIDTH).eval()
            memory.fill(bank)
            spread = memory.recalled(queries).perplexity
            cell = f"{spread.min():,.1f}-{spread.max():,.1f}"
            if isinstance(memory.hopfield, EnergyDescent):
                cell += f" ({steps_of(memory.hopfield, queries, bank)} steps)"
            cells.append(cell)
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
