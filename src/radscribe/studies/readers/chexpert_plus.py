"""CheXpert Plus (Chambon et al., 2024) as Stanford AIMI distributes it.

    df_chexpert_plus_240401.csv         a row per image: its path, its view, and the report of its study
    PNG/train/patient42142/study5/view1_frontal.png     the table names it with .jpg
    chexbert_labels/impression_fixed.json               labels by CheXbert: a JSON object per line

The id of a study is the patient and the study in the path of its images, as in `patient42142_study5`. The
images of a study repeat its report, and some of these copies differ, because dates were replaced in each copy
by itself: the first is taken, and every other one that differs is listed as rejected.

Officially there are the splits `train` and `valid`, and there is no test split. What serves as one is a
choice that changes every figure.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from radscribe.errors import RadScribeError
from radscribe.files import parse_json, read_text
from radscribe.observations import OBSERVATIONS, ObservationState, parse_state
from radscribe.studies.projections import projection_of
from radscribe.studies.readers.choices import (
    CheXpertPlusLabels,
    CheXpertPlusTest,
    ReportSections,
    Unit,
    require_choice,
)
from radscribe.studies.readers.examinations import ListedImage, chosen_sections, in_units, with_priors
from radscribe.studies.readers.folder import IMAGE, REPORT
from radscribe.studies.readers.image_tree import files_of_tree
from radscribe.studies.readers.large_tables import rows_of
from radscribe.studies.rejection import (
    BAD_RECORD,
    DUPLICATE_ID,
    NO_IMAGE,
    NO_IMAGE_FILE,
    NO_REPORT,
    Rejection,
)
from radscribe.studies.splits import assign_splits
from radscribe.studies.study import Split, Study, View

TABLE = "df_chexpert_plus_240401.csv"
#: Share of the patients of the official train split that are drawn for the split which is not given.
DRAWN_SHARE = 0.1
#: The study whose image is known to be damaged.
CORRUPT = "patient32368_study1"
_IMAGE_PATH = re.compile(r"[^/]+/patient\d+/(study\d+)/[^/]+\.\w+")
_COLUMNS = (
    "path_to_image",
    "deid_patient_id",
    "frontal_lateral",
    "ap_pa",
    "patient_report_date_order",
    "split",
    "report",
    "section_findings",
    "section_impression",
    "section_clinical_history",
    "section_history",
    "section_comparison",
)


@dataclass(slots=True)
class _Examination:
    """What the table says of a study.

    Attributes:
        place: Place of its first row.
        order: Its place in time among the patient's studies, as text that sorts; empty if it is not stated.
        split: Official split.
        sections: Text of each section in the first row.
        report: Hash of the report and its sections in the first row.
        images: Path of each image without suffix, and the words for its projection.
    """

    id: str
    patient: str
    place: str
    order: str
    split: str
    sections: dict[str, str]
    report: int
    images: list[tuple[str, str]] = field(default_factory=list)


class _Labels(NamedTuple):
    """Labels by the path of an image without suffix, and their file; what a study takes is removed."""

    path: Path
    states: dict[str, dict[str, ObservationState]]


class _Choice(NamedTuple):
    """What the user chose; see `read_chexpert_plus`."""

    unit: Unit
    frontal_only: bool
    sections: ReportSections
    complete: bool


class _Splits(NamedTuple):
    """The split of each study: the official one, or another by the user's choice of a test split.

    Attributes:
        valid: Split of the official `valid`.
        drawn: Patients of the official `train` whose split is `of_drawn`.
    """

    valid: Split = "val"
    drawn: frozenset[str] = frozenset()
    of_drawn: Split = "train"

    @classmethod
    def of(cls, examinations: Iterable[_Examination], test: CheXpertPlusTest | None, seed: int) -> Self:
        """Draw patients where the choice needs some."""
        if test is None:
            return cls()
        patients = list(dict.fromkeys(one.patient for one in examinations if one.split == "train"))
        shares = (1 - DRAWN_SHARE, 0, DRAWN_SHARE)
        assigned = assign_splits([(patient, None) for patient in patients], shares, seed)
        drawn = frozenset(
            patient for patient, split in zip(patients, assigned, strict=True) if split == "test"
        )
        return cls("test", drawn, "val") if test == "valid" else cls("val", drawn, "test")

    def split(self, examination: _Examination) -> Split:
        """The split of a study.

        Raises:
            ValueError: the table states none, or one that CheXpert Plus does not have.
        """
        if examination.split not in ("train", "valid"):
            raise ValueError(f"its split is '{examination.split}', not train or valid")
        if examination.split == "valid":
            return self.valid
        return self.of_drawn if examination.patient in self.drawn else "train"


def read_chexpert_plus(
    source: Path,
    *,
    images: Path | str | None = None,
    unit: Unit = "studies",
    frontal_only: bool = False,
    sections: ReportSections = "both",
    complete: bool = False,
    labels: CheXpertPlusLabels | None = None,
    test: CheXpertPlusTest | None = None,
    seed: int = 0,
) -> Iterator[Study | Rejection]:
    """Read CheXpert Plus with its official split; every image and row is used or rejected.

    Args:
        source: Folder with `df_chexpert_plus_240401.csv`.
        images: Folder that the paths in the table are relative to; by default `PNG/PNG`, `PNG`, `PNGs` or the
            source itself.
        unit: `studies`, or `images` for one study per image.
        frontal_only: Take frontal views only.
        sections: Sections that are taken as the report.
        complete: Reject studies that lack one of these sections.
        labels: The section from which CheXbert labelled: `findings`, `impression` or `report`; by default the
            impression's labels if they are there.
        test: Test split: without it there is none, and `valid` is val. `valid` makes it test, and val is
            drawn from train; `patients` keeps it as val, and test is drawn from train.
        seed: Random seed of what is drawn: a tenth of the patients of train.

    Raises:
        RadScribeError: the table, a column of it, the labels or the images are missing or damaged.
    """
    for option, value, choices in (("unit", unit, Unit), ("sections", sections, ReportSections)):
        require_choice(option, value, choices)
    if test is not None:
        require_choice("test", test, CheXpertPlusTest)
    path = source / TABLE
    if not path.is_file():
        raise RadScribeError(f"{source} has no {TABLE}", "Give the folder of CheXpert Plus that holds it")
    root = _image_folder(source, images)
    files = yield from _walked(root, source)
    examinations = yield from _examinations(path)
    labelled = yield from _labels(source, labels)
    splits = _Splits.of(examinations.values(), test, seed)
    choice = _Choice(unit, frontal_only, sections, complete)
    patients: dict[str, list[_Examination]] = {}
    for examination in examinations.values():
        patients.setdefault(examination.patient, []).append(examination)
    for several in patients.values():
        yield from with_priors(
            (one.order, list(_records(one, root, files, labelled, splits, choice))) for one in several
        )
    for image, file in files.items():
        yield Rejection(image, file, f"{NO_REPORT}: {TABLE} does not list it")
    for image in labelled.states:
        yield Rejection(image, str(labelled.path), f"{NO_IMAGE}: {TABLE} does not list it")


def _image_folder(source: Path, images: Path | str | None) -> Path:
    folders = [Path(images)] if images else [source / name for name in ("PNG/PNG", "PNG", "PNGs", "")]
    for folder in folders:
        if any((folder / split).is_dir() for split in ("train", "valid")):
            return folder
    raise RadScribeError(
        f"no folder train or valid of images in {', '.join(map(str, folders))}",
        "Name the folder that holds them with --images",
    )


def _walked(root: Path, source: Path) -> Generator[Rejection, None, dict[str, str]]:
    """The path of each image, by its path in the table without suffix; everything else is rejected."""
    tops = [source / "train", source / "valid"] if root == source else [root]
    files: dict[str, str] = {}
    for file in (file for top in tops for file in files_of_tree(top)):
        name = f"{file.folder}/{file.stem}"[len(f"{root}/") :]
        if file.kind != IMAGE:
            yield Rejection(name, file.path, f"{NO_IMAGE}: a text" if file.kind == REPORT else file.kind)
        elif files.setdefault(name, file.path) != file.path:
            yield Rejection(name, file.path, f"{DUPLICATE_ID}: {files[name]} is taken")
    return files


def _examinations(path: Path) -> Generator[Rejection, None, dict[str, _Examination]]:
    """The studies in the table by their ids, in the order of the table."""
    found: dict[str, _Examination] = {}
    images: set[str] = set()
    for row in rows_of(path, _COLUMNS):
        if isinstance(row, Rejection):
            yield row
            continue
        line, (image, patient, frontal, position, order, split, *texts) = row
        place = f"{path}, line {line}"
        named = _IMAGE_PATH.fullmatch(image)
        if not named or not patient:
            reason = f"its image is '{image}' of patient '{patient}', not like train/patient1/study1/a.jpg"
            yield Rejection(f"line {line}", place, f"{BAD_RECORD}: {reason}")
            continue
        name = image.rpartition(".")[0]
        identifier = f"{patient}_{named[1]}"
        if name in images:
            yield Rejection(name, place, DUPLICATE_ID)
            continue
        images.add(name)
        report = hash(tuple(texts))
        if identifier not in found:
            sections = _sections(texts)
            found[identifier] = _Examination(
                identifier, patient, place, _order(order), split, sections, report
            )
        elif found[identifier].report != report:
            yield Rejection(identifier, place, f"another report: that of {found[identifier].place} is taken")
        found[identifier].images.append((name, sys.intern(frontal or position)))
    return found


def _sections(texts: list[str]) -> dict[str, str]:
    """The sections in the last columns of a row; the history is the indication where there is no other."""
    _, findings, impression, clinical_history, history, comparison = texts
    return {
        "findings": findings,
        "impression": impression,
        "indication": clinical_history or history,
        "comparison": comparison,
    }


def _order(cell: str) -> str:
    """A place in time as text that sorts; empty if the cell holds no number."""
    whole = cell.partition(".")[0]
    return whole.zfill(9) if whole.isdigit() else ""


def _labels(source: Path, labels: CheXpertPlusLabels | None) -> Generator[Rejection, None, _Labels]:
    """The labels that CheXbert gave to one section."""
    if labels is not None:
        require_choice("labels", labels, CheXpertPlusLabels)
    path = source / "chexbert_labels" / f"{labels or 'impression'}_fixed.json"
    found: dict[str, dict[str, ObservationState]] = {}
    if not path.exists() and labels is None:
        return _Labels(path, found)
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            name, states = _label_line(line)
        except ValueError as error:
            yield Rejection(f"line {number}", str(path), f"{BAD_RECORD}: {error}")
            continue
        if found.setdefault(name, states) is not states:
            yield Rejection(name, f"{path}, line {number}", DUPLICATE_ID)
    return _Labels(path, found)


def _label_line(line: str) -> tuple[str, dict[str, ObservationState]]:
    """The path of an image without suffix, and its labels, from one line.

    Raises:
        ValueError: the line is no JSON object, names no image, or has a label that is no state.
    """
    entry = parse_json(line)
    if not isinstance(entry, dict) or not isinstance(entry.get("path_to_image"), str):
        raise ValueError("not a JSON object with a text 'path_to_image'")
    states = {}
    for name in OBSERVATIONS:
        if name not in entry:
            raise ValueError(f"it has no '{name}'")
        try:
            states[name] = _state(entry[name])
        except ValueError as error:
            raise ValueError(f"'{name}' {error}") from None
    return entry["path_to_image"].rpartition(".")[0], states


def _state(value: object) -> ObservationState:
    return "not_mentioned" if value is None else parse_state(str(value))


def _records(
    examination: _Examination,
    root: Path,
    files: dict[str, str],
    labels: _Labels,
    splits: _Splits,
    choice: _Choice,
) -> Iterator[Study | Rejection]:
    """The studies of one examination, or why there is none."""
    listed, missing = [], []
    states = [labels.states.pop(name, None) for name, _ in examination.images]
    for name, words in examination.images:
        if file := files.pop(name, ""):
            listed.append(ListedImage(name, View(Path(file), projection_of(words)), words))
        else:
            missing.append(name)
    if not listed:
        yield Rejection(examination.id, str((root / missing[0]).parent), NO_IMAGE_FILE)
        return
    for name in missing:
        identifier = name if choice.unit == "images" else examination.id
        yield Rejection(identifier, str(root / f"{name}.png"), "missing")
    kept, reason = chosen_sections(examination.sections, choice.sections, choice.complete)
    if examination.id == CORRUPT:
        reason = "damaged: its image is known to be corrupt"
    split: Split | None = None
    try:
        split = splits.split(examination)
    except ValueError as error:
        reason = f"{BAD_RECORD}: {error}"
    if reason:
        yield Rejection(examination.id, examination.place, reason)
        return
    observations = next((found for found in states if found), {})
    study = Study(examination.id, examination.patient, (), split, kept, observations)
    yield from in_units(study, listed, choice.unit, choice.frontal_only)
