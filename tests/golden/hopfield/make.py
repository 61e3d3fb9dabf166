"""Write a golden file: what the released Hopfield layer computes, at tiny sizes and with random weights.

    python make.py CHECKOUT 5 hopfield.safetensors    # github.com/ml-jku/hopfield-layers at f56f929c

Nothing of RadScribe is imported: the released code is the one that speaks here.
"""

import json
import sys

import torch
from safetensors.torch import save_file

SIZES = {"input_size": 12, "hidden_size": 5, "output_size": 7, "pattern_size": 9, "num_heads": 2}
#: As AM-MRG sets them.
SETTINGS = {"scaling": 4.0, "dropout": 0.1, "batch_first": True}
#: `update_steps_max`, which does not count the first step.
FURTHER_STEPS = (0, 1, 3)


@torch.no_grad()
def make(checkout: str, seed: int, out: str) -> None:
    """Write the golden file `out`."""
    sys.path.insert(0, checkout)
    from hflayers import Hopfield

    def layer(steps: int) -> torch.nn.Module:
        return Hopfield(**SIZES, **SETTINGS, update_steps_max=steps, update_steps_eps=1e-12).eval()

    torch.manual_seed(seed)
    first = layer(0)
    for parameter in first.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    queries, bank = torch.randn(3, 4, 12), torch.randn(11, 12)
    rows = bank.expand(3, -1, -1)
    found = {}
    for steps in FURTHER_STEPS:
        released = layer(steps)
        released.load_state_dict(first.state_dict())
        found[f"output.retrieved.{steps}"] = released((rows, queries, rows)).contiguous()
        weights = released.get_association_matrix((rows, queries, rows))
        found[f"output.association.{steps}"] = weights.contiguous()
    weights = {f"weights.{key}": value.clone() for key, value in first.state_dict().items()}
    given = {"input.queries": queries, "input.bank": bank}
    save_file(weights | given | found, out, {"config": json.dumps(SIZES | SETTINGS)})


if __name__ == "__main__":
    make(sys.argv[1], int(sys.argv[2]), sys.argv[3])
