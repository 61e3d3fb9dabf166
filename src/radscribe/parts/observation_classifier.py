"""The observation classifier, which gives the probability of each of the 14 observations in a study.

Its directory has these files:

weights.safetensors           its weights, including those of the backbone
observation_classifier.json   architecture, image geometry, normalisation, temperatures and thresholds
part.json                     where it came from, and the hashes of the two files above; see `Part`
pretraining.json              how it was trained, and how good it is
MODEL_CARD.md                 what it is, and what it must not be used for
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

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
from radscribe.vision.backbones import Backbone, BackboneConfig, check_crop
from radscribe.vision.published_pixels import NormalisationConfig
from radscribe.vision.transforms import TransformConfig, evaluation_view, stack_views, stored_view
from radscribe.weights import load_strictly, save_weights

KIND = "observation-classifier"
WEIGHTS = "weights.safetensors"
DESCRIPTION = "observation_classifier.json"
#: The files that an observation classifier is loaded from.
FILES = (WEIGHTS, DESCRIPTION)

_TEMPERATURE = Range(0, above=True)
_THRESHOLD = Range(0, 1)
_AGAIN = f"Take it from a copy, or train it again: {make_command(KIND)}"


class ObservationClassifier(nn.Module):
    """A backbone, the mean of its visual tokens, and a linear layer with a sigmoid for each observation.

    The tokens of all views of a study are averaged. Because the head is linear, this is the mean of the
    logits of the views.

    Args:
        backbone: Architecture of the backbone, and the weights that it starts from.
        transform: Image geometry.

    Raises:
        RadScribeError: the backbone cannot be built, or takes views of another size only.

    Attributes:
        temperatures: Temperatures by which the logits are divided, float32 `[observations]`.
        thresholds: Lowest probabilities that count as present, float32 `[observations]`.
    """

    def __init__(self, backbone: BackboneConfig, transform: TransformConfig):
        super().__init__()
        self.transform = transform
        self.backbone = Backbone(backbone)
        check_crop(self.backbone, backbone.architecture, transform.crop)
        self.head = nn.Linear(self.backbone.channels, len(OBSERVATIONS))
        self.temperatures: Tensor
        self.thresholds: Tensor
        # They are stored in the description, which people can read, and not with the weights.
        self.register_buffer("temperatures", torch.ones(len(OBSERVATIONS)), persistent=False)
        self.register_buffer("thresholds", torch.full((len(OBSERVATIONS),), 0.5), persistent=False)

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> Self:
        """Load an observation classifier from its directory; nothing is downloaded.

        Args:
            path: Directory of the classifier.
            device: Device to compute on: `auto`, `cpu` or `cuda`.

        Raises:
            RadScribeError: there is no observation classifier, or a file of it is missing, damaged, does not
                fit, or is not the one that was written.
        """
        path = Path(path)
        cls.part(path)
        description = read_json_object(path / DESCRIPTION, _AGAIN)
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
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RadScribeError(
                f"'{path / DESCRIPTION}' is damaged ({type(error).__name__}: {error})", _AGAIN
            ) from error
        classifier = cls(backbone, transform)
        try:
            load_strictly(classifier, load_file(path / WEIGHTS), f"'{path / WEIGHTS}'")
        except (SafetensorError, OSError) as error:
            raise RadScribeError(f"'{path / WEIGHTS}' cannot be read ({error})", _AGAIN) from error
        classifier.temperatures.copy_(temperatures)
        classifier.thresholds.copy_(thresholds)
        return classifier.to(chosen_device(device)).eval()

    @staticmethod
    def part(path: Path | str) -> Part:
        """Read `part.json`, and compare every file with its hash.

        Raises:
            RadScribeError: there is no observation classifier, or a file is not the one that was written.
        """
        return Part.read(Path(path), KIND, FILES)

    def save(self, path: Path, architecture: str) -> None:
        """Write the weights and the description; `part.json` must be written after them.

        Args:
            path: Directory of the classifier.
            architecture: Name of the backbone in timm.
        """
        pixels = self.backbone.pixels
        description = {
            "architecture": architecture,
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
        write_whole(path / DESCRIPTION, json.dumps(description, indent=2) + "\n")

    def forward(self, views: Tensor, view_mask: Tensor) -> Tensor:
        """Logits `[studies, observations]` in the order of `OBSERVATIONS`.

        Args:
            views: Views, uint8 grey `[studies, views, crop, crop]`.
            view_mask: bool `[studies, views]`, True for views that exist; each study has at least one.
        """
        visual = self.backbone(views, view_mask)
        return self.head(visual.tokens.sum(dim=1) / visual.mask.sum(dim=1, keepdim=True))

    @torch.inference_mode()
    def predict(self, views: Tensor, view_mask: Tensor) -> Tensor:
        """Calibrated probabilities float32 `[studies, observations]` on the CPU; see `forward`."""
        device = self.head.weight.device
        return (self(views.to(device), view_mask.to(device)) / self.temperatures).sigmoid().cpu()

    def probabilities(self, study: Study | Sequence[View]) -> dict[str, float]:
        """The calibrated probability of each observation.

        Args:
            study: A study, or the views of one study.

        Raises:
            RadScribeError: there is no view, a view cannot be read, or stands in a store of another short
                side than that which the classifier was trained on.
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
