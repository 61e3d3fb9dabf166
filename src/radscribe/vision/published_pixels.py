"""The pixels that published weights need: mean, standard deviation and interpolation, as they state them.

A backbone that sees pixels of another scale than in its own training starts from wrong features. timm states
the three values in a model's `pretrained_cfg`, transformers in `preprocessor_config.json` beside the weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

from PIL import Image

from radscribe.errors import RadScribeError

#: Filters that resize pictures, by their names in timm and Pillow.
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
#: Name of the file in which transformers states these values.
PREPROCESSOR_CONFIG = "preprocessor_config.json"


@dataclass(kw_only=True, slots=True)
class NormalisationConfig:
    """Mean and standard deviation that a backbone's pixels, from 0 to 1, are normalised with.

    Attributes:
        mean: Mean of red, green and blue. With null it is the mean that the backbone's weights were trained
            with (ImageNet's for random weights), and the run keeps it.
        std: Standard deviation of red, green and blue, with null as for the mean.
    """

    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


class PublishedPixels(NamedTuple):
    """The pixels that weights need.

    Attributes:
        mean: Mean of red, green and blue from 0 to 1.
        std: Standard deviation of red, green and blue.
        interpolation: Filter that resizes the views.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation

    def overridden(self, config: NormalisationConfig) -> PublishedPixels:
        """The same values, except for those that `config` sets."""
        return self._replace(mean=config.mean or self.mean, std=config.std or self.std)


#: Values for random weights and for weights that state nothing: ImageNet's, as torchvision's weights have
#: them.
DEFAULT_PIXELS = PublishedPixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")


def pixels_of_timm(pretrained_cfg: Mapping[str, Any]) -> PublishedPixels:
    """The pixels that timm states for a model's weights in its `pretrained_cfg`.

    Raises:
        RadScribeError: the values are not valid.
    """
    from timm.data import resolve_data_config

    stated = resolve_data_config(pretrained_cfg=dict(pretrained_cfg))
    where = f"the pretrained_cfg of {pretrained_cfg.get('architecture')}"
    return _checked(stated["mean"], stated["std"], stated["interpolation"], where)


def stated_beside(weights: Path) -> dict[str, Any]:
    """The values that a timm `config.json` beside a weights file states; empty if there is no such file.

    Raises:
        RadScribeError: the file is damaged.
    """
    file = weights.with_name("config.json")
    if not file.is_file():
        return {}
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
        stated = stated.get("pretrained_cfg", stated)
        return {name: stated[name] for name in PublishedPixels._fields if name in stated}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise RadScribeError(
            f"cannot read '{file}', which states the pixels of '{weights}' ({type(error).__name__}: {error})",
            "Put it right, or move the weights to a folder of their own",
        ) from error


def pixels_of_transformers(weights: str, field: str) -> PublishedPixels:
    """The pixels that `preprocessor_config.json` states for weights in `transformers` format.

    Args:
        weights: Name on the Hugging Face hub, a folder, or `none`. `none` and a folder without the file give
            `DEFAULT_PIXELS`.
        field: Configuration field to name in errors.

    Raises:
        RadScribeError: the file could not be read or downloaded, or its values are not valid.
    """
    folder = Path(weights)
    if weights == "none" or (folder.is_dir() and not (folder / PREPROCESSOR_CONFIG).is_file()):
        return DEFAULT_PIXELS
    from transformers import ViTImageProcessor

    try:
        processor: Any = ViTImageProcessor.from_pretrained(weights)
        interpolation = Image.Resampling(int(processor.resample)).name.lower()
        mean, std = processor.image_mean, processor.image_std
        if not processor.do_normalize:
            mean, std = (0.0,) * 3, (1.0,) * 3
        # transformers means pixels times the rescale factor; we mean pixels from 0 to 1.
        scale = 255 * processor.rescale_factor if processor.do_rescale else 255
        mean, std = ([value / scale for value in values] for values in (mean, std))
    except Exception as error:  # every hub client and every format fails in its own way
        raise RadScribeError(
            f"the {PREPROCESSOR_CONFIG} of the weights '{weights}' could not be read "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            f"Pass a folder that holds it with --{field} FOLDER",
        ) from error
    return _checked(mean, std, interpolation, f"the {PREPROCESSOR_CONFIG} of '{weights}'")


def save_preprocessor_config(pixels: PublishedPixels, side: int, folder: Path) -> None:
    """Write `preprocessor_config.json` for weights that take views of `side` pixels."""
    from transformers import ViTImageProcessor

    ViTImageProcessor(
        size={"height": side, "width": side},
        image_mean=list(pixels.mean),
        image_std=list(pixels.std),
        resample=Image.Resampling[pixels.interpolation.upper()],
    ).save_pretrained(folder)


def _checked(mean: Sequence[float], std: Sequence[float], interpolation: str, where: str) -> PublishedPixels:
    colours = []
    for name, values in (("mean", mean), ("std", std)):
        found = [float(value) for value in values]
        red, green, blue = found * 3 if len(found) == 1 else found if len(found) == 3 else [math.nan] * 3
        if not math.isfinite(red + green + blue) or (name == "std" and min(red, green, blue) <= 0):
            raise RadScribeError(f"{where} states the {name} {list(values)}, not three numbers of colours")
        colours.append((red, green, blue))
    if interpolation not in get_args(Interpolation):
        raise RadScribeError(
            f"{where} states the interpolation '{interpolation}'",
            f"Known: {', '.join(get_args(Interpolation))}",
        )
    return PublishedPixels(colours[0], colours[1], cast(Interpolation, interpolation))
