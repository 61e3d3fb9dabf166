"""The retriever: finds the reports of the train split that fit the images of a study. Its directory has

weights.safetensors     both towers, and the temperature of their loss
retriever.json          architecture, image geometry, normalisation, text encoder, section and cleaning
tokenizer.json          of the text tower
index.safetensors       the vector of each report of the train split
index.jsonl             these reports, a text on each line with the studies that have it
part.json               where it came from, and the hashes of these five; see `Part`
pretraining.json        how it was trained, and how often it finds the right report
MODEL_CARD.md           what it is, and what it must not be used for

It is used only where the reports of its train split may be read: their texts are in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

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
    IndexedReport,
    IndexedStudy,
    ReportIndex,
    pixel_hashes,
    text_hash,
)
from radscribe.parts.retriever_towers import TOGETHER, RetrieverTowers, TextEncoder, cleaned
from radscribe.ranges import COUNT, check_options
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study
from radscribe.text.cleaning import CleaningName
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.published_pixels import NormalisationConfig
from radscribe.vision.transforms import TransformConfig
from radscribe.weights import load_strictly, save_weights

KIND = "retriever"
WEIGHTS = "weights.safetensors"
DESCRIPTION = "retriever.json"
TOKENIZER = "tokenizer.json"
#: What it is loaded from.
FILES = (WEIGHTS, DESCRIPTION, TOKENIZER, EMBEDDINGS, REPORTS)


class Retrieved(NamedTuple):
    """The reports that were found for some studies: for each study a list, the most similar report first.

    Attributes:
        ids: of the training studies that have the reports.
        texts: the reports as written.
        similarities: cosines, from -1 to 1.
    """

    ids: list[list[str]]
    texts: list[list[str]]
    similarities: list[list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverConfig:
    """What a retriever is made of.

    Attributes:
        architecture: of the image tower, a name of timm.
        width: of the vectors.
        maximum_length: most tokens of a text.
        section: of the reports.
        cleaning: of the texts that the text tower reads.
    """

    architecture: str
    width: int
    maximum_length: int
    section: str
    cleaning: CleaningName


class Retriever:
    """Finds reports of the train split by the images of a study.

    Args:
        towers: that were trained.
        config: what it is made of.
        index: the reports.
        part: what `part.json` says; None before it is written.
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
        """Read the directory of a retriever; nothing is downloaded.

        Args:
            path: the directory.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            RadScribeError: there is no retriever, a file of it is missing, damaged or does not fit, or is not
                the one that was written.
        """
        path = Path(path)
        if not (path / PART).is_file():
            raise RadScribeError(
                f"there is no retriever in '{path}': it has no {PART}", f"Train one: {make_command(KIND)}"
            )
        part = Part.read(path, KIND, FILES)
        again = f"Take it from a copy, or make it again: {make_command(KIND)}"
        values = read_json_object(path / DESCRIPTION, again)
        try:
            config, towers = _built(values, path)
            load_strictly(towers, load_file(path / WEIGHTS), f"'{path / WEIGHTS}'")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise RadScribeError(
                f"the retriever in '{path}' cannot be read ({type(error).__name__}: {error})", again
            ) from error
        return cls(towers.to(chosen_device(device)).eval(), config, ReportIndex.read(path, again), part)

    def write(self, path: Path, settings: dict[str, Any], store: PreparedStore) -> None:
        """Write the directory, as `load` reads it.

        Args:
            path: the directory.
            settings: that it was trained with.
            store: whose train split it was trained on.
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

    def retrieve(self, studies: Sequence[Study], count: int = 1, exclude_own: bool = True) -> Retrieved:
        """Find the reports of the train split that fit the images of studies best.

        Args:
            studies: any, of a store or of image files. Their reports are not read.
            count: most reports for each study; texts that are the same are one.
            exclude_own: leave out the reports of a study's patient, and so its own. A patient of the train
                split is known by the ids of study and patient, and by the pixels of an image.

        Raises:
            RadScribeError: a view cannot be read, or stands in a store of another short side; or `count` is
                out of its range.
        """
        check_options({"count": (count, COUNT)})
        found = Retrieved([], [], [])
        for start in range(0, len(studies), TOGETHER):
            part = studies[start : start + TOGETHER]
            without = [
                self.index.patients_of(study, pixel_hashes(study, self.towers.transform))
                if exclude_own
                else set[str]()
                for study in part
            ]
            rows = self.index.search(self.towers.vectors_of_studies(part), count, without)
            for of_study, patients in zip(rows, without, strict=True):
                firsts = [self.index.first_study(row, patients) for row, _ in of_study]
                given = [study for study in firsts if study is not None]
                found.ids.append([study.id for study in given])
                found.texts.append([study.report for study in given])
                found.similarities.append([similarity for _, similarity in of_study])
        return found


def _built(values: dict[str, Any], path: Path) -> tuple[RetrieverConfig, RetrieverTowers]:
    """The towers that `retriever.json` describes, with random weights.

    Raises:
        KeyError, TypeError, ValueError: the description is damaged.
    """
    from tokenizers import Tokenizer

    transform = TransformConfig(**values.pop("transform"))
    stated = {name: tuple(numbers) for name, numbers in values.pop("normalisation").items()}
    text_model = values.pop("text_model")
    config = RetrieverConfig(**values)
    tokenizer = Tokenizer.from_str((path / TOKENIZER).read_text(encoding="utf-8"))
    backbone = BackboneConfig(
        architecture=config.architecture, weights="none", normalisation=NormalisationConfig(**stated)
    )
    towers = RetrieverTowers(
        backbone,
        TextEncoder.of_config(text_model, tokenizer),
        transform,
        width=config.width,
        maximum_length=config.maximum_length,
        cleaning=config.cleaning,
    )
    return config, towers


def distinct_reports(studies: Sequence[Study], section: str, towers: RetrieverTowers) -> list[IndexedReport]:
    """The reports of studies, each text once; texts are the same where they are so when cleaned.

    Args:
        studies: with the section.
        section: of the reports.
        towers: whose cleaning and image geometry count.

    Raises:
        RadScribeError: a view cannot be read.
    """
    by_text: dict[str, list[IndexedStudy]] = {}
    for study in studies:
        report = study.report(section)
        indexed = IndexedStudy(study.id, study.patient_id, report, pixel_hashes(study, towers.transform))
        by_text.setdefault(cleaned(report, towers.cleaning), []).append(indexed)
    return [IndexedReport(text_hash(text), indexed) for text, indexed in by_text.items()]


def vectors_of_reports(reports: Sequence[IndexedReport], towers: RetrieverTowers) -> Tensor:
    """Unit vectors float32 `[reports, width]` of distinct reports."""
    return towers.vectors_of_texts([report.studies[0].report for report in reports])
