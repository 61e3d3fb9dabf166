"""PadChest-GR (de Castro et al., 2024): reports sentence by sentence, with boxes that radiologists drew.

    grounded_reports_20240819.json      studies: their image, and sentences with boxes and labels
    master_table.csv                    rows of a study and a label; also packed as a zip archive
    Padchest_GR_files/PadChest_GR/<ImageID>     one frontal PNG of 16 bits for each study, or all packed in
    Padchest_GR_files/PadChest_GR.zip.001 ...   the parts of one zip archive, as they come

The English sentences of a study are its findings. The boxes of a sentence become masks of the observations
that the observation labeller finds in the sentence, or else in the sentence's PadChest labels. Boxes of what
is none of the 14 observations, such as scoliosis, become no mask, and neither do boxes that are empty or
stand out of the image; a note on the view says so. A sentence has up to two sets of boxes, which two readers
drew independently: `boxes`, and `extra_boxes` of the second reader. All of them are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from radscribe.errors import RadScribeError
from radscribe.files import parse_json, read_text
from radscribe.observations import OBSERVATIONS
from radscribe.studies.images import IMAGE_SUFFIXES
from radscribe.studies.readers.boxes import Box, BoxedImage, box_of
from radscribe.studies.readers.choices import BoxReaders, require_choice
from radscribe.studies.readers.folder import IMAGE, REPORT
from radscribe.studies.readers.image_tree import files_of_tree, kind_of
from radscribe.studies.readers.large_tables import rows_of
from radscribe.studies.readers.zip_archives import joined_path, members_of
from radscribe.studies.rejection import (
    BAD_RECORD,
    DUPLICATE_ID,
    EMPTY_REPORT,
    NO_IMAGE,
    NO_IMAGE_FILE,
    NO_REPORT,
    Rejection,
    stated,
)
from radscribe.studies.splits import split_of
from radscribe.studies.study import MASKED, Study, View

REPORTS = "grounded_reports_*.json"
_TABLES = ("master_table.csv", "master_table.csv.zip", "master_table.zip", "master_table.csv.gz")
_IMAGE_FOLDERS = ("Padchest_GR_files/PadChest_GR", "PadChest_GR", "Padchest_GR_files")
#: The archive of the images, whole, or its parts as they come.
_ARCHIVE = "PadChest_GR.zip"
#: Notes on a view that has boxes of what is none of the observations, and boxes whose numbers make no mask.
UNNAMED_BOXES = "boxes of no observation"
UNUSABLE_BOXES = "boxes that are empty or outside of the image"
#: Why boxes that are counted become no mask, beside what `box_of` says.
_UNNAMED = "of no observation"
_SECOND = "of the second reader, not asked for"


class _Row(NamedTuple):
    """What the master table says of a study: where, its patient, and the word for its split."""

    line: int
    patient: str
    split: str


class _Finding(NamedTuple):
    """What the reports say in one sentence.

    Attributes:
        sentence: The sentence.
        labels: Its PadChest labels.
        boxes: The boxes that are asked for, each with why it becomes no mask; see `box_of`.
        not_asked_for: Number of other boxes.
    """

    sentence: str
    labels: list[str]
    boxes: list[tuple[Box, str]]
    not_asked_for: int


class _Image(NamedTuple):
    """An image, and where it is.

    Attributes:
        name: Name in messages and in a store.
        path, member, parts: As `path`, `member` and `archive_parts` of a `BoxedImage`.
    """

    name: str
    path: Path
    member: str = ""
    parts: tuple[Path, ...] = ()


def read_padchest_gr(
    source: Path, *, images: Path | str | None = None, boxes: BoxReaders = "first"
) -> Iterator[Study | Rejection]:
    """Read PadChest-GR with its splits; every study, row and image is used or rejected.

    Args:
        source: Folder with `grounded_reports_20240819.json` and `master_table.csv`.
        images: Folder of the images, with its sub-folders, or their zip archive, whole or by one of its
            parts; by default `Padchest_GR_files/PadChest_GR`, `PadChest_GR` or `Padchest_GR_files` in the
            source. A folder without images that holds their archive stands for it.
        boxes: `first` for the boxes of the first reader, or `both` for those of the second reader too.

    Raises:
        RadScribeError: the reports, the table, one of its columns, or the images are not there or damaged.
    """
    require_choice("boxes", boxes, BoxReaders)
    path = _reports_file(source)
    studies = _studies(path)
    table = next((source / name for name in _TABLES if (source / name).exists()), None)
    if table is None:
        raise RadScribeError(
            f"{source} has no master_table.csv", "Put it beside the reports: it has the patients and splits"
        )
    rows = yield from _rows(table)
    files = yield from _listed(_image_place(source, images), source)
    for place, entry in enumerate(studies):
        yield _study(entry, f"study {place + 1}", path, rows, files, boxes)
    for identifier, row in rows.items():
        yield Rejection(identifier, f"{table}, line {row.line}", f"{NO_REPORT}: {path.name} does not list it")
    for name, image in files.items():
        yield Rejection(name, image.name, f"{NO_REPORT}: {path.name} does not list it")


def _reports_file(source: Path) -> Path:
    found = sorted(source.glob(REPORTS))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise RadScribeError(
            f"{source} should hold one {REPORTS}, found: {names}", "Give the folder of PadChest-GR that does"
        )
    return found[0]


def _studies(path: Path) -> list[Any]:
    try:
        studies = parse_json(read_text(path))
    except ValueError as error:
        raise RadScribeError(f"{path} is not valid JSON: {error}", "Fetch the file again") from error
    if not isinstance(studies, list):
        raise RadScribeError(f"{path} is no list of studies", "Fetch the file again")
    return studies


def _rows(table: Path) -> Generator[Rejection, None, dict[str, _Row]]:
    """What the table says of each study; a study has a row for each of its labels."""
    rows: dict[str, _Row] = {}
    for row in rows_of(table, ("StudyID", "PatientID", "split")):
        if isinstance(row, Rejection):
            yield row
            continue
        line, (study, patient, split) = row
        if not study or not patient:
            reason = f"{BAD_RECORD}: its StudyID or PatientID is blank"
            yield Rejection(f"line {line}", str(table), reason)
            continue
        first = rows.setdefault(study, _Row(line, patient, split))
        if (first.patient, first.split) != (patient, split):
            reason = f"{BAD_RECORD}: another patient or split: that of line {first.line} is taken"
            yield Rejection(study, f"{table}, line {line}", reason)
    return rows


def _image_place(source: Path, images: Path | str | None) -> Path:
    """The folder of the images, or their archive."""
    places = [Path(images)] if images else [source / name for name in _IMAGE_FOLDERS]
    for place in places:
        if place.is_file():
            return place
        if place.is_dir():
            archive = _archive_in(place)
            if archive and not any(file.kind == IMAGE for file in files_of_tree(place)):
                return archive
            return place
    raise RadScribeError(
        f"no folder of images: looked for {', '.join(map(str, places))}",
        f"Name with --images the folder of the images, or of their packed parts {_ARCHIVE}.001 and so on",
    )


def _archive_in(folder: Path) -> Path | None:
    """The archive of the images in a folder, or its first part."""
    whole = folder / _ARCHIVE
    return whole if whole.exists() else min(folder.glob(f"{_ARCHIVE}.[0-9][0-9][0-9]"), default=None)


def _listed(place: Path, source: Path) -> Generator[Rejection, None, dict[str, _Image]]:
    """The images by their names without suffix; everything else in their folder or archive is rejected."""
    files: dict[str, _Image] = {}
    for kind, image in _of_folder(place, source) if place.is_dir() else _of_archive(place, source):
        name = PurePosixPath(image.name)
        if kind != IMAGE:
            yield Rejection(name.name, image.name, f"{NO_IMAGE}: a text" if kind == REPORT else kind)
        elif files.setdefault(name.stem, image) is not image:
            yield Rejection(name.stem, image.name, f"{DUPLICATE_ID}: {files[name.stem].name} is taken")
    return files


def _of_folder(folder: Path, source: Path) -> Iterator[tuple[str, _Image]]:
    """The files in a folder, each with its kind as in `files_of_tree`."""
    for file in files_of_tree(folder):
        path = Path(file.path)
        yield file.kind, _Image(_within(path, source), path)


def _of_archive(archive: Path, source: Path) -> Iterator[tuple[str, _Image]]:
    """The files in an archive likewise."""
    whole = _within(joined_path(archive), source)
    for member, parts in members_of(archive):
        path = PurePosixPath(member.filename)
        hidden = any(name.startswith((".", "__")) for name in path.parts[:-1])
        kind = "hidden folder" if hidden else kind_of(path.name, path.suffix.lower())
        if member.flag_bits & 1 and kind == IMAGE:
            kind = "encrypted: unpack the archive first"
        yield kind, _Image(f"{whole}/{path}", parts[0], member.filename, parts)


def _within(path: Path, source: Path) -> str:
    """The path within the source, or as it is if it is elsewhere."""
    return path.relative_to(source).as_posix() if path.is_relative_to(source) else path.as_posix()


def _study(
    entry: Any,
    place: str,
    path: Path,
    rows: dict[str, _Row],
    files: dict[str, _Image],
    readers: BoxReaders,
) -> Study | Rejection:
    """The study of an entry; its row and its image are removed from `rows` and `files`."""
    identifier = place
    try:
        identifier = _name_in(entry, "StudyID")
        image = _name_in(entry, "ImageID")
        row = rows.pop(identifier, None)
        stem = image.rpartition(".")[0] if image.lower().endswith(IMAGE_SUFFIXES) else image
        file = files.pop(stem, None)
        if row is None:
            raise ValueError("the master table has no row of it, or an earlier study has this id")
        if not isinstance(entry.get("findings"), list):
            raise ValueError("it has no list 'findings'")
        findings = [_finding(finding, readers) for finding in entry["findings"]]
        split = split_of(row.split)
    except ValueError as error:
        return Rejection(identifier, str(path), f"{BAD_RECORD}: {error}")
    if file is None:
        return Rejection(identifier, image, NO_IMAGE_FILE)
    if not findings:
        return Rejection(identifier, str(path), EMPTY_REPORT)
    return Study(
        id=identifier,
        patient_id=row.patient,
        views=(View(_boxed(file, findings), "frontal"),),
        split=split,
        sections={"findings": " ".join(finding.sentence for finding in findings)},
    )


def _name_in(entry: Any, name: str) -> str:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not value or not isinstance(value, str | int):
        raise ValueError(f"it has no '{name}'")
    return str(value)


def _finding(finding: Any, readers: BoxReaders) -> _Finding:
    """One finding.

    Raises:
        ValueError: it has no English sentence, or boxes or labels of another form.
    """
    sentence = finding.get("sentence_en") if isinstance(finding, dict) else None
    if not isinstance(sentence, str) or not (sentence := stated(sentence)):
        raise ValueError("a finding has no 'sentence_en'")
    boxes, labels, second = (finding.get(name) or [] for name in ("boxes", "labels", "extra_boxes"))
    if not all(isinstance(value, list) for value in (boxes, labels, second)):
        raise ValueError(f"the boxes or labels of '{sentence}' are no list")
    asked_for = boxes if readers == "first" else [*boxes, *second]
    return _Finding(
        sentence=sentence if sentence[-1] in ".!?" else f"{sentence}.",
        labels=[str(label) for label in labels],
        boxes=[box_of(box) for box in asked_for],
        not_asked_for=len(boxes) + len(second) - len(asked_for),
    )


def _boxed(image: _Image, findings: list[_Finding]) -> BoxedImage:
    """The image of a study with the boxes of its observations; every box is counted once."""
    boxes: dict[str, list[Box]] = {}
    counts: Counter[str] = Counter()
    noted: set[str] = set()
    for finding in findings:
        counts[_SECOND] += finding.not_asked_for
        observations = _observations(finding) if finding.boxes else []
        for box, fault in finding.boxes:
            fate = fault or (MASKED if observations else _UNNAMED)
            counts[fate] += 1
            if fate == MASKED:
                for observation in observations:
                    boxes.setdefault(observation, []).append(box)
            else:
                noted.add(UNUSABLE_BOXES if fault else UNNAMED_BOXES)
    return BoxedImage(
        path=image.path,
        file=image.name,
        boxes=tuple((name, tuple(boxes[name])) for name in OBSERVATIONS if name in boxes),
        box_counts={fate: count for fate, count in counts.items() if count},
        notes=tuple(note for note in (UNNAMED_BOXES, UNUSABLE_BOXES) if note in noted),
        member=image.member,
        archive_parts=image.parts,
    )


def _observations(finding: _Finding) -> list[str]:
    """The observations that a finding says are there, or may be."""
    return _named(finding.sentence) or list(
        dict.fromkeys(name for label in finding.labels for name in _named(label))
    )


def _named(text: str) -> list[str]:
    from radscribe.text.observation_labeller import label_report

    states = label_report(text).states
    return [
        name for name, state in states.items() if state in ("present", "uncertain") and name != "No Finding"
    ]
