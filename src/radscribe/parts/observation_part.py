"""Parts that give the probability of each of the 14 observations in a study: their files and their use.

The directory of such a part has these files:

weights.safetensors   its weights, including those of the backbone
NAME.json             architecture, image geometry, normalisation, temperatures and thresholds; named by kind
part.json             where it came from, and the hashes of the two files above; see `Part`
pretraining.json      how it was trained, and how good it is
MODEL_CARD.md         what it is, and what it must not be used for
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from radscribe.device import chosen_device
from radscribe.errors import RadScribeError
from radscribe.files import read_json_object, write_whole
from radscribe.observations import OBSERVATIONS, ObservationState
from radscribe.parts.part import Part, make_command
from radscribe.ranges import Range
from radscribe.studies.study import Study, View
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.published_pixels import NormalisationConfig
from radscribe.vision.transformers_backbone import TransformersBackbone, create_view_encoder
from radscribe.vision.transforms import TransformConfig, evaluation_view, stack_views, stored_view
from radscribe.weights import load_strictly, save_weights

WEIGHTS = "weights.safetensors"

_TEMPERATURE = Range(0, above=True)
_THRESHOLD = Range(0, 1)


class ObservationPart(nn.Module):
    """Base class of the parts that give the probability of each observation.

    Args:
        backbone: Architecture of the backbone, and the weights that it starts from.
        transform: Image geometry.
        configuration: Configuration of a backbone of `transformers` that gets random weights; without it such
            a backbone is that of `backbone.weights`.

    Raises:
        RadScribeError: the backbone cannot be built, or takes views of another size only.

    Attributes:
        kind: Kind of the part, by its name after `radscribe pretrain`.
        description_file: Name of the file with architecture, temperatures and thresholds.
        temperatures: Temperatures by which the logits are divided, float32 `[observations]`.
        thresholds: Lowest probabilities that count as present, float32 `[observations]`.
    """

    kind: ClassVar[str]
    description_file: ClassVar[str]

    def __init__(
        self,
        backbone: BackboneConfig,
        transform: TransformConfig,
        configuration: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.transform = transform
        self.architecture = backbone.architecture
        self.backbone = create_view_encoder(backbone, transform.crop, configuration)
        self.temperatures: Tensor
        self.thresholds: Tensor
        # They are stored in the description, which people can read, and not with the weights.
        self.register_buffer("temperatures", torch.ones(len(OBSERVATIONS)), persistent=False)
        self.register_buffer("thresholds", torch.full((len(OBSERVATIONS),), 0.5), persistent=False)

    @abstractmethod
    def forward(self, views: Tensor, view_mask: Tensor) -> Tensor:
        """Logits `[studies, observations]` in the order of `OBSERVATIONS`.

        Args:
            views: Views, uint8 grey `[studies, views, crop, crop]`.
            view_mask: bool `[studies, views]`, True for views that exist; each study has at least one.
        """

    @classmethod
    @abstractmethod
    def described(
        cls, description: Mapping[str, Any], backbone: BackboneConfig, transform: TransformConfig
    ) -> Self:
        """Build the part from its description, with random weights.

        Raises:
            ValueError, KeyError, TypeError: the description is damaged.
        """

    def sizes(self) -> dict[str, Any]:
        """What the description says besides architecture, transform, normalisation and observations."""
        return {}

    def _configuration(self) -> dict[str, Any]:
        """The configuration of a backbone of `transformers`, which its name alone does not give."""
        backbone = self.backbone
        return {"configuration": backbone.configuration} if isinstance(backbone, TransformersBackbone) else {}

    @classmethod
    def files(cls) -> tuple[str, str]:
        """The files that a part of this kind is loaded from."""
        return WEIGHTS, cls.description_file

    @classmethod
    def part(cls, path: Path | str) -> Part:
        """Read `part.json`, and compare every file with its hash.

        Raises:
            RadScribeError: there is no part of this kind, or a file is not the one that was written.
        """
        return Part.read(Path(path), cls.kind, cls.files())

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> Self:
        """Load a part of this kind from its directory; nothing is downloaded.

        Args:
            path: Directory of the part.
            device: Device to compute on: `auto`, `cpu` or `cuda`.

        Raises:
            RadScribeError: there is no part of this kind, or a file of it is missing, damaged, does not fit,
                or is not the one that was written.
        """
        path = Path(path)
        cls.part(path)
        again = f"Take it from a copy, or train it again: {make_command(cls.kind)}"
        file = path / cls.description_file
        description = read_json_object(file, again)
        try:
            normalisation = NormalisationConfig(
                **{name: tuple(values) for name, values in description["normalisation"].items()}
            )
            backbone = BackboneConfig(
                architecture=description["architecture"], weights="none", normalisation=normalisation
            )
            transform = TransformConfig(**description["transform"])
            temperatures, thresholds = (
                _of_each(description["observations"], name, within)
                for name, within in (("temperature", _TEMPERATURE), ("threshold", _THRESHOLD))
            )
            part = cls.described(description, backbone, transform)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RadScribeError(f"'{file}' is damaged ({type(error).__name__}: {error})", again) from error
        try:
            load_strictly(part, load_file(path / WEIGHTS), f"'{path / WEIGHTS}'")
        except (SafetensorError, OSError) as error:
            raise RadScribeError(f"'{path / WEIGHTS}' cannot be read ({error})", again) from error
        part.temperatures.copy_(temperatures)
        part.thresholds.copy_(thresholds)
        return part.to(chosen_device(device)).eval()

    def save(self, path: Path) -> None:
        """Write the weights and the description; `part.json` must be written after them.

        Args:
            path: Directory of the part.
        """
        pixels = self.backbone.pixels
        description = {
            "architecture": self.architecture,
            **self._configuration(),
            **self.sizes(),
            "transform": asdict(self.transform),
            "normalisation": {"mean": pixels.mean, "std": pixels.std},
            "observations": {
                name: {"temperature": float(f"{temperature:.6g}"), "threshold": float(f"{threshold:.6g}")}
                for name, temperature, threshold in zip(
                    OBSERVATIONS, self.temperatures.tolist(), self.thresholds.tolist(), strict=True
                )
            },
        }
        save_weights(self.state_dict(), path / WEIGHTS)
        write_whole(path / self.description_file, json.dumps(description, indent=2) + "\n")

    @torch.inference_mode()
    def predict(self, views: Tensor, view_mask: Tensor) -> Tensor:
        """Calibrated probabilities float32 `[studies, observations]` on the CPU; see `forward`."""
        device = self.temperatures.device
        return (self(views.to(device), view_mask.to(device)) / self.temperatures).sigmoid().cpu()

    def probabilities(self, study: Study | Sequence[View]) -> dict[str, float]:
        """The calibrated probability of each observation.

        Args:
            study: A study, or the views of one study.

        Raises:
            RadScribeError: there is no view, a view cannot be read, or stands in a store of another short
                side than that which the part was trained on.
        """
        views = study.views if isinstance(study, Study) else study
        if not views:
            raise RadScribeError("a study without a view has no probabilities")
        pixels = [evaluation_view(stored_view(view, self.transform).pixels, self.transform) for view in views]
        return dict(zip(OBSERVATIONS, self.predict(*stack_views([pixels]))[0].tolist(), strict=True))

    def states(self, study: Study | Sequence[View]) -> dict[str, ObservationState]:
        """The state of each observation: `present` if it reaches its threshold, or else `absent`."""
        probabilities = self.probabilities(study)
        return {
            name: "present" if probabilities[name] >= threshold else "absent"
            for name, threshold in self.threshold_of.items()
        }

    @property
    def threshold_of(self) -> dict[str, float]:
        """The threshold of each observation by its name."""
        return dict(zip(OBSERVATIONS, self.thresholds.tolist(), strict=True))


def _of_each(observations: Mapping[str, Mapping[str, Any]], field: str, within: Range) -> Tensor:
    """One number of each observation as a tensor, in the order of `OBSERVATIONS`.

    Raises:
        ValueError: the observations are others, or a number is out of its range.
        KeyError: an observation lacks it.
    """
    if tuple(observations) != OBSERVATIONS:
        raise ValueError(f"it has the observations {', '.join(observations)}")
    values = [observations[name][field] for name in OBSERVATIONS]
    for name, value in zip(OBSERVATIONS, values, strict=True):
        if value not in within:
            raise ValueError(f"the {field} of {name} is {value}")
    return torch.tensor(values)
