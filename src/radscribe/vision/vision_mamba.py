"""The vision Mamba of ARM (Ren et al., ICLR 2025), as MambaXray-VL and AM-MRG encode chest X-rays with it.

Patches and a class token in their middle pass blocks of a Mamba mixer and a SwiGLU. A mixer scans the tokens
in four directions: along the rows and back, along the columns and back. Modules that the released code has
too bear its names; `vision_mamba_weights.py` reads its checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from radscribe.errors import RadScribeError
from radscribe.vision.selective_scan import selective_scan

#: Step sizes of the scans of a new network lie between these two, evenly on a logarithmic scale.
FIRST_STEPS = (0.001, 0.1)


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionMambaSizes:
    """Sizes of a vision Mamba.

    Attributes:
        width: Width of a token.
        layers: Number of blocks.
        image_size: Side of a view in pixels.
        patch_size: Side of a patch in pixels.
        state: Size of the state of a channel in a scan.
        convolution: Number of tokens that the convolution before a scan sees.
    """

    width: int
    layers: int
    image_size: int = 224
    patch_size: int = 16
    state: int = 16
    convolution: int = 4

    @property
    def side(self) -> int:
        """Number of patches on a side of a view."""
        return self.image_size // self.patch_size


#: Architectures by the names that the released code has for them. The first is for tests.
VISION_MAMBAS = {
    "test_arm_pz16": VisionMambaSizes(width=32, layers=2, image_size=64),
    "arm_base_pz16": VisionMambaSizes(width=768, layers=12),
    "arm_large_pz16": VisionMambaSizes(width=1024, layers=24),
}


def scan_orders(side: int) -> Tensor:
    """Orders in which the four directions read the tokens of a square grid with a token in its middle.

    Args:
        side: Number of patches on a side of the grid.

    Returns:
        For each direction the number of the token that stands at each place, `[4, side * side + 1]`: along
        the rows, back along the rows, along the columns, back along the columns. The token in the middle of
        the sequence, the class token, stays there.
    """
    patches = side * side
    # The middle of all tokens, as in the released code. With an odd side the class token is one before it.
    middle = (patches + 1) // 2
    numbers = torch.arange(patches + 1)
    grid = torch.cat([numbers[:middle], numbers[middle + 1 :]]).view(side, side)
    columns = grid.T.flatten()
    columns = torch.cat([columns[:middle], numbers[middle : middle + 1], columns[middle:]])
    return torch.stack([numbers, numbers.flip(0), columns, columns.flip(0)])


class DirectedScan(nn.Module):
    """The part of a mixer that belongs to one direction: convolution, step sizes, and selective scan.

    The released code draws small first steps for one direction alone. With its biases of 0, the steps of the
    others begin at .69, which forgets within a few tokens.

    Args:
        sizes: Sizes of the vision Mamba.
    """

    def __init__(self, sizes: VisionMambaSizes):
        super().__init__()
        width, seen = sizes.width, sizes.convolution
        self.rank, self.state = math.ceil(width / 16), sizes.state
        self.conv1d = nn.Conv1d(width, width, seen, groups=width, padding=seen - 1)
        self.x_proj = nn.Linear(width, self.rank + 2 * self.state, bias=False)
        self.dt_proj = nn.Linear(self.rank, width)
        self.A_log = nn.Parameter(torch.arange(1.0, self.state + 1).log().repeat(width, 1))
        self.D = nn.Parameter(torch.ones(width))
        low, high = map(math.log, FIRST_STEPS)
        steps = torch.empty(width).uniform_(low, high).exp()
        with torch.no_grad():
            # The inverse of softplus.
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))
            self.dt_proj.weight.uniform_(-(self.rank**-0.5), self.rank**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Scanned tokens of the same shape, for tokens `[views, tokens, channels]` in scanning order."""
        # A token sees itself and those before it: what the padding adds at the end is cut off.
        x = functional.silu(self.conv1d(x.transpose(1, 2))[..., : x.size(1)]).transpose(1, 2)
        step, write, read = self.x_proj(x).split([self.rank, self.state, self.state], dim=-1)
        # The bias is added in 32 bits, also under autocast, since softplus makes small steps of it.
        step = functional.softplus(functional.linear(step, self.dt_proj.weight) + self.dt_proj.bias)
        return selective_scan(x, step, -self.A_log.exp(), write, read) + self.D * x


class Mixer(nn.Module):
    """Mixes tokens by scans in four directions, whose mean passes a gate.

    Args:
        sizes: Sizes of the vision Mamba.
    """

    def __init__(self, sizes: VisionMambaSizes):
        super().__init__()
        width = sizes.width
        self.in_proj = nn.Linear(width, 2 * width, bias=False)
        self.scans = nn.ModuleList(DirectedScan(sizes) for _ in range(4))
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor, orders: Tensor, places: Tensor) -> Tensor:
        """Mixed tokens of the same shape.

        Args:
            tokens: Tokens `[views, tokens, width]`.
            orders: Order of the tokens in each direction, see `scan_orders`.
            places: Places of the tokens in these orders, which put them back.
        """
        x, gate = self.in_proj(tokens).chunk(2, dim=-1)
        scanned = [
            scan(x[:, order])[:, place] for scan, order, place in zip(self.scans, orders, places, strict=True)
        ]
        # The released code gates every direction by itself, with the same gate.
        return self.out_proj(sum(scanned) / len(scanned) * functional.silu(gate))


class SwiGLU(nn.Module):
    """The feed-forward layer SwiGLU (Shazeer, 2020).

    Args:
        width: Width of a token; the hidden layer is 8/3 as wide.
    """

    def __init__(self, width: int):
        super().__init__()
        hidden = width * 4 * 2 // 3
        self.w1 = nn.Linear(width, hidden)
        self.w2 = nn.Linear(width, hidden)
        self.w3 = nn.Linear(hidden, width)
        for layer in (self.w1, self.w2, self.w3):
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of the same shape."""
        return self.w3(functional.silu(self.w1(tokens)) * self.w2(tokens))


class Block(nn.Module):
    """A mixer and a feed-forward layer, each behind a normalisation and beside a residual connection.

    Args:
        sizes: Sizes of the vision Mamba.
    """

    def __init__(self, sizes: VisionMambaSizes):
        super().__init__()
        self.mixer = Mixer(sizes)
        self.mlp = SwiGLU(sizes.width)
        self.norm1 = nn.LayerNorm(sizes.width)
        self.norm2 = nn.LayerNorm(sizes.width)

    def forward(self, tokens: Tensor, orders: Tensor, places: Tensor) -> Tensor:
        """Tokens of the same shape; for the arguments see `Mixer`."""
        tokens = tokens + self.mixer(self.norm1(tokens), orders, places)
        return tokens + self.mlp(self.norm2(tokens))


class PatchEmbedding(nn.Module):
    """Cuts pixels into patches, and makes a token of each.

    Args:
        patch_size: Side of a patch in pixels.
        width: Width of a token.
    """

    def __init__(self, patch_size: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, stride=patch_size)
        pixels = 3 * patch_size**2
        nn.init.trunc_normal_(self.proj.weight, std=pixels**-0.5)
        self.proj.bias = nn.Parameter(torch.zeros(width))

    def forward(self, pixels: Tensor) -> Tensor:
        """Tokens `[views, patches, width]` of pixels `[views, 3, height, width]`, row by row."""
        return self.proj(pixels).flatten(2).transpose(1, 2)


class VisionMamba(nn.Module):
    """The whole encoder, with random weights.

    The released code also drops up to a tenth of the residual connections in training; this does not.

    Args:
        sizes: Sizes of the encoder.
    """

    #: What timm's models say of the pixels that they need; empty for random weights.
    pretrained_cfg: dict[str, Any]

    def __init__(self, sizes: VisionMambaSizes):
        super().__init__()
        self.sizes = sizes
        self.num_features = sizes.width
        self.pretrained_cfg = {}
        patches = sizes.side**2
        self.class_position = patches // 2
        self.patch_embed = PatchEmbedding(sizes.patch_size, sizes.width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, sizes.width))
        self.pos_embed = nn.Parameter(torch.empty(1, patches + 1, sizes.width))
        self.layers = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm_f = nn.LayerNorm(sizes.width)
        orders = scan_orders(sizes.side)
        self.orders: Tensor
        self.places: Tensor
        self.register_buffer("orders", orders, persistent=False)
        self.register_buffer("places", orders.argsort(dim=1), persistent=False)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("out_proj.weight"):
                    parameter.div_(math.sqrt(sizes.layers))

    def forward_features(self, pixels: Tensor) -> Tensor:
        """Tokens `[views, patches + 1, width]` of normalised pixels `[views, 3, image_size, image_size]`.

        The class token stands at `class_position`, in the middle.

        Raises:
            RadScribeError: the views have another size than the encoder's.
        """
        size = self.sizes.image_size
        if pixels.shape[-2:] != (size, size):
            raise RadScribeError(
                f"the vision Mamba takes views of {size} pixels, not {pixels.size(-1)}",
                f"Set the size to which views are cut: --data.transform.crop {size} "
                f"(radscribe pretrain: --crop {size})",
            )
        patches, middle = self.patch_embed(pixels), self.class_position
        cls_token = self.cls_token.expand(len(patches), -1, -1)
        tokens = torch.cat([patches[:, :middle], cls_token, patches[:, middle:]], dim=1) + self.pos_embed
        for layer in self.layers:
            tokens = layer(tokens, self.orders, self.places)
        return self.norm_f(tokens)
