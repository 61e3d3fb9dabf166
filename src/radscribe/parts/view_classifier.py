"""The view classifier, which tells frontal from lateral views if the data set does not say which they are.

Its directory has these files:

weights.safetensors     its weights, including those of the backbone
view_classifier.json    architecture, image geometry, normalisation and classes
part.json               where it came from, and the hashes of the two files above; see `Part`
pretraining.json        how it was trained, and how often it is right
MODEL_CARD.md           what it is, and what it must not be used for

Earlier versions of RadScribe wrote neither part.json nor pretraining.json; their directories are loaded too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from radscribe.device import chosen_device
from radscribe.errors import RadScribeError
from radscribe.files import sha256_of
from radscribe.parts.part import PART, Part, content_hash, make_command
from radscribe.studies.study import PROJECTIONS, Projection, Study, View
from radscribe.vision.backbones import Backbone, BackboneConfig
from radscribe.vision.published_pixels import NormalisationConfig
from radscribe.vision.transforms import TransformConfig, evaluation_view, stored_view
from radscribe.weights import load_strictly

KIND = "view-classifier"
WEIGHTS = "weights.safetensors"
DESCRIPTION = "view_classifier.json"
#: The files that a view classifier is loaded from.
FILES = (WEIGHTS, DESCRIPTION)

#: The projections that it tells apart.
CLASSES: tuple[Projection, ...] = PROJECTIONS[:2]
#: Half the resolution of the systems: it shows outlines well enough, and takes a quarter of the time. A
#: mirrored view has the same projection, so mirroring does no harm here.
TRANSFORM = TransformConfig(short_side=128, crop=112, horizontal_flip=True)
#: Number of views that are predicted together.
_TOGETHER = 64


class ViewClassifier(nn.Module):
    """Classifies a view by a backbone and a linear layer on the mean of its visual tokens.

    Args:
        backbone: Architecture of the backbone, and the weights that it starts from.
        transform: Image geometry.

    Raises:
        RadScribeError: the backbone cannot be built, or takes views of another size only.
    """

    def __init__(self, backbone: BackboneConfig, transform: TransformConfig):
        super().__init__()
        self.transform = transform
        self.backbone = Backbone(backbone)
        if self.backbone.model.pretrained_cfg.get("fixed_input_size"):
            raise RadScribeError(
                f"{backbone.architecture} takes views of one size only, and not of {transform.crop} pixels",
                "Choose a convolutional network with --architecture, such as resnet18",
            )
        self.head = nn.Linear(self.backbone.channels, len(CLASSES))

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> Self:
        """Read the directory of a view classifier; nothing is downloaded.

        Args:
            path: The directory of the view classifier.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            RadScribeError: there is no view classifier, a file of it is missing, damaged or does not fit, or
                is not the one that was written.
        """
        path = Path(path)
        cls.content_hash(path)
        try:
            description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
            architecture, classes = description["architecture"], tuple(description["classes"])
            transform = TransformConfig(**description["transform"])
            # Earlier versions did not write the normalisation; theirs was ImageNet's, the default.
            stated = description.get("normalisation", {})
            normalisation = NormalisationConfig(**{name: tuple(values) for name, values in stated.items()})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RadScribeError(
                f"cannot read '{path / DESCRIPTION}' ({type(error).__name__}: {error})", "Train it again"
            ) from error
        if classes != CLASSES:
            raise RadScribeError(
                f"the view classifier in '{path}' tells apart {', '.join(map(str, classes))}, "
                f"not {', '.join(CLASSES)}",
                "Train it again",
            )
        backbone = BackboneConfig(architecture=architecture, weights="none", normalisation=normalisation)
        classifier = cls(backbone, transform)
        try:
            load_strictly(classifier, load_file(path / WEIGHTS), f"'{path / WEIGHTS}'")
        except (SafetensorError, OSError) as error:
            raise RadScribeError(f"'{path / WEIGHTS}' cannot be read ({error})", "Train it again") from error
        return classifier.to(chosen_device(device)).eval()

    @staticmethod
    def content_hash(path: Path | str) -> str:
        """The content hash of a view classifier's directory, in hexadecimal digits.

        Raises:
            RadScribeError: there is no view classifier, or a file is not the one that was written.
        """
        path = Path(path)
        for file in FILES:
            if not (path / file).is_file():
                raise RadScribeError(
                    f"there is no view classifier in '{path}': it has no {file}",
                    f"Train one: {make_command(KIND)}",
                )
        if (path / PART).is_file():
            return Part.read(path, KIND, FILES).content_hash
        return content_hash(KIND, {file: sha256_of(path / file) for file in FILES})

    def forward(self, views: Tensor) -> Tensor:
        """Logits `[views, 2]`, in the order of `CLASSES`, of uint8 grey views `[views, crop, crop]`."""
        return self.head(self.backbone.encode_views(views).mean(dim=1))

    @torch.inference_mode()
    def predict(self, views: Tensor) -> Tensor:
        """Probabilities of `frontal` and `lateral`.

        Args:
            views: uint8 grey views `[views, crop, crop]`, as `evaluation_view` makes them for `transform`.

        Returns:
            float32 `[views, 2]` on the CPU, in the order of `CLASSES`.
        """
        return self(views.to(self.head.weight.device)).softmax(dim=-1).cpu()

    def projections(self, views: Sequence[View]) -> list[Projection]:
        """The more probable projection of each view.

        Raises:
            RadScribeError: a view cannot be read, or the short side of its store is not that of the store
                which the classifier was trained on.
        """
        found: list[Projection] = []
        for start in range(0, len(views), _TOGETHER):
            pixels = [
                evaluation_view(stored_view(view, self.transform).pixels, self.transform)
                for view in views[start : start + _TOGETHER]
            ]
            found += [CLASSES[number] for number in self.predict(torch.stack(pixels)).argmax(dim=-1)]
        return found


def with_predicted_projections(
    studies: Sequence[Study], classifier: ViewClassifier, most_views: int
) -> list[Study]:
    """Copies of the studies, with a predicted projection for each view whose projection is unknown.

    Args:
        studies: The studies to copy.
        classifier: Predicts the projections.
        most_views: Number of views of each study that are predicted; further views stay as they are.

    Raises:
        RadScribeError: a view with an unknown projection cannot be read.
    """
    unknown = [view for study in studies for view in study.views[:most_views] if view.projection == "unknown"]
    predicted = iter(classifier.projections(unknown))
    return [
        replace(
            study,
            views=tuple(
                replace(view, projection=next(predicted))
                if number < most_views and view.projection == "unknown"
                else view
                for number, view in enumerate(study.views)
            ),
        )
        for study in studies
    ]
