"""The retriever, which finds the reports of its train split that fit the images of a study best.

Its directory has these files:

weights.safetensors     both towers, and the temperature of their loss
retriever.json          architecture, image geometry, normalisation, text encoder, section and cleaning
tokenizer.json          the tokenizer of the text tower
index.safetensors       the vector of each distinct report of the train split
index.jsonl             the texts of these reports, and the studies that have them
part.json               where it came from, and the hashes of the five files above; see `Part`
pretraining.json        how it was trained, and how good it is
MODEL_CARD.md           what it is, and what it must not be used for

It contains reports: where these may not be passed on, neither may it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from radscribe.device import chosen_device
from radscribe.errors import RadScribeError
from radscribe.files import read_json_object, write_whole
from radscribe.parts.part import PART, Part, make_command
from radscribe.parts.report_index import (
    EMBEDDINGS,
    REPORTS,
    IndexedStudy,
    ReportIndex,
    RetrievedReport,
    pixel_hash,
    seen_views,
)
from radscribe.parts.retriever_towers import TOGETHER, RetrieverTowers, TextEncoder, cleaned
from radscribe.ranges import COUNT, check_options
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study
from radscribe.text.cleaning import CleaningName
from radscribe.values import typed
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.published_pixels import NormalisationConfig
from radscribe.vision.transforms import TransformConfig, stack_views
from radscribe.weights import load_strictly, save_weights

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KIND = "retriever"
WEIGHTS = "weights.safetensors"
DESCRIPTION = "retriever.json"
TOKENIZER = "tokenizer.json"
#: The files that a retriever is loaded from.
FILES = (WEIGHTS, DESCRIPTION, TOKENIZER, EMBEDDINGS, REPORTS)

_AGAIN = f"Take it from a copy, or train it again: {make_command(KIND)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverConfig:
    """What a retriever is made of.

    Attributes:
        architecture: Backbone of the image tower, by its name in timm.
        width: Width of the vectors.
        maximum_length: Largest number of tokens of a text.
        section: Section of the reports.
        cleaning: Cleaning of the texts that the text tower reads.
    """

    architecture: str
    width: int
    maximum_length: int
    section: str
    cleaning: CleaningName


class Retriever:
    """Finds reports of the train split by the images of a study.

    Args:
        towers: Trained towers.
        config: What the retriever is made of.
        index: The reports of the train split.
        part: Content of `part.json`; None before it is written.
    """

    def __init__(
        self, towers: RetrieverTowers, config: RetrieverConfig, index: ReportIndex, part: Part | None = None
    ):
        self.towers = towers
        self.config = config
        self.index = index
        self.part = part

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> Self:
        """Load a retriever from its directory; nothing is downloaded.

        Args:
            path: Directory of the retriever.
            device: Device to compute on: `auto`, `cpu` or `cuda`. The search itself runs on the CPU.

        Raises:
            RadScribeError: there is no retriever, or a file of it is missing, damaged, does not fit, or is
                not the one that was written.
        """
        path = Path(path)
        if not (path / PART).is_file():
            raise RadScribeError(f"there is no retriever in '{path}'", f"Train one: {make_command(KIND)}")
        part = Part.read(path, KIND, FILES)
        description = read_json_object(path / DESCRIPTION, _AGAIN)
        tokenizer = _read_tokenizer(path / TOKENIZER)
        try:
            config, towers = _built(description, tokenizer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RadScribeError(
                f"'{path / DESCRIPTION}' is damaged ({type(error).__name__}: {error})", _AGAIN
            ) from error
        try:
            load_strictly(towers, load_file(path / WEIGHTS), f"'{path / WEIGHTS}'")
        except (SafetensorError, OSError) as error:
            raise RadScribeError(f"'{path / WEIGHTS}' cannot be read ({error})", _AGAIN) from error
        index = ReportIndex.read(path, config.width, _AGAIN)
        return cls(towers.to(chosen_device(device)).eval(), config, index, part)

    def save(self, path: Path, settings: Mapping[str, Any], store: PreparedStore) -> None:
        """Write the files that `load` reads.

        Args:
            path: Directory of the retriever.
            settings: Settings that it was trained with, ready for JSON.
            store: Store that it learnt from, by its train split.
        """
        towers = self.towers
        pixels = towers.backbone.pixels
        description = asdict(self.config) | {
            "transform": asdict(towers.transform),
            "normalisation": {"mean": pixels.mean, "std": pixels.std},
            "text_model": towers.text.config,
        }
        save_weights(towers.state_dict(), path / WEIGHTS)
        write_whole(path / DESCRIPTION, json.dumps(description, indent=2) + "\n")
        write_whole(path / TOKENIZER, towers.text.tokenizer.to_str())
        self.index.write(path)
        # Last, for it has the hashes of the others.
        self.part = Part.write(path, KIND, FILES, settings, store)

    @property
    def transform(self) -> TransformConfig:
        """Image geometry of the views that the retriever takes."""
        return self.towers.transform

    def most_similar(
        self, views: Tensor, view_mask: Tensor, exclude: Sequence[str | None] | None = None
    ) -> list[RetrievedReport | None]:
        """The report of the train split that is most similar to the images of each study of a batch.

        No study gets a report of its own patient, and so not its own report. A patient of the train split is
        known by the pixels of a view, and by an id in `exclude`.

        Args:
            views: Views that were prepared by `transform`, uint8 grey `[studies, views, crop, crop]`.
            view_mask: bool `[studies, views]`, True for views that exist; each study has at least one.
            exclude: For each study an id, usually its own: the reports of the patient who has the study of
                that id in the train split are left out. Other ids, and None, leave nothing out.

        Returns:
            The report of each study; None if all reports are of its own patient.
        """
        ids = [None] * len(views) if exclude is None else exclude
        barred = [
            self.index.patients_of_views(map(pixel_hash, its_views[mask])) | self.index.patients_of_id(its_id)
            for its_views, mask, its_id in zip(views, view_mask, ids, strict=True)
        ]
        found = self.index.search(self.towers.vectors_of_views(views, view_mask), 1, barred)
        return [reports[0] if reports else None for reports in found]

    def retrieve(
        self, studies: Sequence[Study], count: int = 1, *, exclude_own: bool = True
    ) -> list[list[RetrievedReport]]:
        """The reports of the train split that are most similar to the images of each study.

        Args:
            studies: Studies of a store or of image files. Their reports are not read.
            count: Largest number of reports for each study; reports with the same text count as one.
            exclude_own: Give no study a report of its own patient, and so not its own report. A patient of
                the train split is known by the ids of study and patient, and by the pixels of a view.

        Returns:
            The reports of each study, the most similar one first. There are fewer than `count` if no more are
            left, and none if all are of its own patient.

        Raises:
            RadScribeError: a study has no view, a view cannot be read, or stands in a store of another short
                side than that which the retriever was trained on; or `count` is out of its range.
        """
        check_options({"count": (count, COUNT)})
        found = []
        for start in range(0, len(studies), TOGETHER):
            chosen = studies[start : start + TOGETHER]
            views = [seen_views(study, self.transform) for study in chosen]
            barred = [
                self.index.patients_of(study, map(pixel_hash, its_views)) if exclude_own else set[str]()
                for study, its_views in zip(chosen, views, strict=True)
            ]
            vectors = self.towers.vectors_of_views(*stack_views(views))
            found.extend(self.index.search(vectors, count, barred))
        return found


def _read_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer of the text tower.

    Raises:
        RadScribeError: the file is damaged.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more special
        raise RadScribeError(f"'{path}' is damaged ({error})", _AGAIN) from error


def _built(description: Mapping[str, Any], tokenizer: Tokenizer) -> tuple[RetrieverConfig, RetrieverTowers]:
    """The towers that `retriever.json` describes, with random weights.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: the description is damaged.
    """
    config = typed(description, RetrieverConfig)
    normalisation = {name: tuple(values) for name, values in description["normalisation"].items()}
    backbone = BackboneConfig(
        architecture=config.architecture, weights="none", normalisation=NormalisationConfig(**normalisation)
    )
    towers = RetrieverTowers(
        backbone,
        TextEncoder.of_config(description["text_model"], tokenizer),
        TransformConfig(**description["transform"]),
        width=config.width,
        maximum_length=config.maximum_length,
        cleaning=config.cleaning,
    )
    return config, towers


def index_of(studies: Sequence[Study], section: str, towers: RetrieverTowers) -> ReportIndex:
    """The index of the reports of studies, each text once; texts are the same if they are so when cleaned.

    Args:
        studies: Studies that have the section, in the order of their store.
        section: Section of the reports.
        towers: Trained towers.

    Raises:
        RadScribeError: a view cannot be read.
    """
    by_text: dict[str, list[IndexedStudy]] = {}
    for study in studies:
        report = study.report(section)
        hashes = [pixel_hash(view) for view in seen_views(study, towers.transform)]
        indexed = IndexedStudy(study.id, study.patient_id, report, hashes)
        by_text.setdefault(cleaned(report, towers.cleaning), []).append(indexed)
    vectors = towers.vectors_of_texts([same_text[0].report for same_text in by_text.values()])
    return ReportIndex(list(by_text.values()), vectors)
