"""The readers of data sets by name, and the one function that opens any source with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from radscribe.errors import RadScribeError, unknown_name
from radscribe.files import A_FOLDER, file_problem
from radscribe.studies.opening import Opening
from radscribe.studies.readers.chexpert_plus import TABLE, read_chexpert_plus
from radscribe.studies.readers.choices import PhantomDifficulty
from radscribe.studies.readers.dicom import read_dicom_files
from radscribe.studies.readers.dicom_files import holds_dicom
from radscribe.studies.readers.folder import is_folder_of_images, read_folder
from radscribe.studies.readers.hugging_face import is_hugging_face, read_hugging_face
from radscribe.studies.readers.iu_xray import REPORTS_FILE, openi_reports, read_iu_kaggle, read_iu_openi
from radscribe.studies.readers.mimic_cxr import read_mimic_cxr
from radscribe.studies.readers.mimic_cxr_tables import METADATA, RECORD_LIST, is_mimic_cxr
from radscribe.studies.readers.padchest_gr import REPORTS, read_padchest_gr
from radscribe.studies.readers.r2gen_annotation import ANNOTATION_FILE, read_r2gen_annotation
from radscribe.studies.readers.report_table import read_report_table
from radscribe.studies.readers.rexgradient import metadata_folder, read_rexgradient
from radscribe.studies.readers.rexrank import read_rexrank, rexrank_files
from radscribe.studies.readers.table import TABLE_SUFFIXES, find_tables, read_table
from radscribe.studies.rejection import DUPLICATE_ID, Rejection
from radscribe.studies.store_files import is_store
from radscribe.studies.study import Study

Records = Iterator[Study | Rejection]


@dataclass(frozen=True, slots=True)
class Reader:
    """How one form of data set is recognised and read.

    Attributes:
        description: Description in one line, for lists of readers.
        read: Function that turns a source and options into records; bad records are Rejections, never
            exceptions.
        looks_for: What marks a source of this form, in words.
        recognises: Function that says whether a source has that mark.
        gated: Whether its images may be DICOM files that the gate refuses; see `dicom_gate`.
    """

    description: str
    read: Callable[..., Records]
    looks_for: str
    recognises: Callable[[Path], bool]
    gated: bool = True

    @property
    def options(self) -> dict[str, object]:
        """Names and defaults of the options that `read` takes."""
        parameters = list(inspect.signature(self.read).parameters.values())[1:]
        return {parameter.name: parameter.default for parameter in parameters}


def _read_phantom(
    source: Path,
    *,
    studies: int | None = None,
    seed: int = 0,
    difficulty: PhantomDifficulty = "easy",
    reports: Path | str | None = None,
    columns: Mapping[str, str] | None = None,
    draw_uncertain: bool = False,
) -> Records:
    """Read the phantom. It has no files, so `source` is only a word; but its reports may be given."""
    from radscribe.studies.phantom.difficulty import difficulty_of
    from radscribe.studies.phantom.given_reports import draw_reports
    from radscribe.studies.phantom.reader import read_phantom

    if reports is not None:
        if studies is not None:
            raise RadScribeError(
                "the phantom of given --reports has one study for each of them, so --studies does nothing",
                "Leave --studies out; --limit takes the first reports alone",
            )
        return draw_reports(_reports(Path(reports), columns), seed, difficulty_of(difficulty), draw_uncertain)
    for option, value in (("columns", columns), ("draw_uncertain", draw_uncertain)):
        if value:
            raise RadScribeError(f"the phantom takes --{option} only together with --reports")
    studies = 1000 if studies is None else studies
    if not 1 <= studies <= 1_000_000:
        raise RadScribeError(f"studies is {studies:,}", "Give a whole number from 1 to 1,000,000")
    return iter(read_phantom(studies, seed, difficulty_of(difficulty)))


def _reports(source: Path, columns: Mapping[str, str] | None) -> Records:
    """Studies whose reports are wanted: those of a table without images, or of any other source."""
    if source.suffix.lower() in TABLE_SUFFIXES and not file_problem(source):
        return without_duplicates(read_report_table(source, columns), str(source))
    return open_source(source) if columns is None else open_source(source, columns=columns)


def _is_table(source: Path) -> bool:
    # This is true with several tables too. The table reader then asks for one of them, while the folder
    # reader would leave them all out.
    return source.suffix.lower() in TABLE_SUFFIXES if source.is_file() else bool(find_tables(source))


READERS: dict[str, Reader] = {
    "iu-xray-kaggle": Reader(
        "IU X-Ray as on Kaggle: indiana_reports.csv, indiana_projections.csv and images",
        read_iu_kaggle,
        f"a folder with {REPORTS_FILE}",
        lambda source: (source / REPORTS_FILE).is_file(),
    ),
    "iu-xray-openi": Reader(
        "IU X-Ray as on Open-i: XML reports, and PNG or DICOM images",
        read_iu_openi,
        "a folder with ecgen-radiology/*.xml or *.xml",
        lambda source: source.is_dir() and bool(openi_reports(source)),
    ),
    "r2gen-annotation": Reader(
        "R2Gen's annotation.json and images (IU X-Ray, MIMIC-CXR), with its splits",
        read_r2gen_annotation,
        f"a folder with {ANNOTATION_FILE}, or a .json file",
        lambda source: (
            (source.suffix.lower() == ".json" and source.is_file() and not rexrank_files(source))
            or (source / ANNOTATION_FILE).is_file()
        ),
    ),
    "rexrank": Reader(
        "the JSON files of ReXrank and the images that they name",
        read_rexrank,
        "a .json file with studies that have an image_path, or a folder with some",
        lambda source: bool(rexrank_files(source)),
    ),
    "mimic-cxr": Reader(
        "MIMIC-CXR-JPG of PhysioNet with MIMIC-CXR's reports, or MIMIC-CXR in DICOM; its splits and labels",
        read_mimic_cxr,
        f"a folder with {METADATA}.gz or {RECORD_LIST}.gz",
        is_mimic_cxr,
        gated=False,
    ),
    "chexpert-plus": Reader(
        "CheXpert Plus: its table of reports and its PNG images, with its splits and labels",
        read_chexpert_plus,
        f"a folder with {TABLE}",
        lambda source: (source / TABLE).is_file(),
    ),
    "rexgradient": Reader(
        "ReXGradient-160K: its metadata and its PNG images, with its splits",
        read_rexgradient,
        "a folder with metadata/*_metadata_view_position.json",
        lambda source: metadata_folder(source) is not None,
    ),
    "padchest-gr": Reader(
        "PadChest-GR: its grounded reports and PNG images, with boxes as masks, and its splits",
        read_padchest_gr,
        f"a folder with {REPORTS}",
        lambda source: source.is_dir() and any(source.glob(REPORTS)),
        gated=False,
    ),
    "hugging-face": Reader(
        "a data set of Hugging Face: Parquet or Arrow files, or folders of images with metadata",
        read_hugging_face,
        "a .parquet or .arrow file, or a folder with some or with metadata.jsonl",
        is_hugging_face,
    ),
    "table": Reader(
        "a CSV, TSV or JSONL table of your own: image, report, and what else is known",
        read_table,
        "a .csv, .tsv or .jsonl file, or a folder with just one",
        _is_table,
    ),
    "dicom": Reader(
        "DICOM files, grouped by their tags: a folder, a zip archive, a DICOMDIR or one file",
        read_dicom_files,
        "DICOM files without other images beside them, in a folder or a .zip file",
        holds_dicom,
    ),
    "folder": Reader(
        "a folder of PNG, JPEG, TIFF, BMP, WebP or DICOM images, with or without <id>.txt reports",
        read_folder,
        "a folder with PNG, JPEG, TIFF, BMP or WebP images",
        is_folder_of_images,
    ),
    "phantom": Reader(
        "synthetic studies, or images drawn for given reports, with exact masks; the source is `phantom`",
        _read_phantom,
        "the word phantom",
        lambda source: str(source) == "phantom",
        gated=False,
    ),
}

#: Readers of forms that any folder may have; they are tried only if no other reader recognises a source.
_GENERAL = ("table", "dicom", "folder")


def find_reader(source: Path | str, reader: str = "auto") -> str:
    """The name of the reader for a source; `auto` looks at what is in the source.

    Raises:
        RadScribeError: the source is not there, no reader of that name exists, or `auto` finds no form
            or more than one.
    """
    source = Path(source)
    if reader != "auto" and reader not in READERS:
        raise unknown_name("reader", reader, [*READERS, "auto"])
    if str(source) == "phantom" and reader in ("auto", "phantom"):
        return "phantom"
    if reader == "phantom":
        raise RadScribeError(
            f"the reader phantom reads no source, and {source} was given", "Give the word phantom instead"
        )
    problem = file_problem(source)
    if problem == "missing":
        raise RadScribeError(
            f"no such file or folder: {source}", "The word phantom stands for synthetic data"
        )
    if problem and problem != A_FOLDER:
        raise RadScribeError(f"cannot read {str(source)!r}: {problem}", "Give a file or a folder of studies")
    if is_store(source):
        raise RadScribeError(
            f"{source} is a prepared store already", "Train on it with --store, or prepare its own source"
        )
    if reader != "auto":
        return reader
    with _reading_explained(source):
        found = [name for name, form in READERS.items() if name not in _GENERAL and form.recognises(source)]
        found = found or [name for name in _GENERAL if READERS[name].recognises(source)][:1]
    if len(found) > 1:
        raise RadScribeError(
            f"{source} can be read in more than one way: {', '.join(found)}", f"Choose: --reader {found[0]}"
        )
    if not found:
        forms = "; ".join(f"{form.looks_for} ({name})" for name, form in READERS.items())
        raise RadScribeError(f"cannot tell what {source} holds", f"Looked for: {forms}")
    return found[0]


def open_source(source: Path | str, reader: str = "auto", **options: object) -> Records:
    """Read any source: a file, a folder, or the word `phantom`.

    Args:
        source: File or folder with the data, or the word `phantom`.
        reader: Name of a reader in `READERS`, or `auto`.
        options: Options of that reader, such as `images=FOLDER` or `columns={...}`; and `chest_only=False`,
            which takes DICOM files that the gate refuses, of every reader that has the gate.

    Returns:
        The studies, and a Rejection for each study that cannot be used or repeats an earlier id. It is not
        yet known whether the images can be decoded.

    Raises:
        RadScribeError: see `find_reader`; an option is unknown; or the source does not have the form of the
            reader.
    """
    name = find_reader(source, reader)
    form = READERS[name]
    # The reader of DICOM files looks at the tags while it reads, so it takes the option itself.
    chest_only = "chest_only" in form.options or options.pop("chest_only", True)
    if not (chest_only or form.gated):
        raise RadScribeError(
            f"the reader {name} takes no --no_chest_only", "Leave it out: no gate looks at its images"
        )
    for option in options:
        if option not in form.options:
            taken = [other for other, reader in READERS.items() if option in reader.options]
            if taken:
                raise RadScribeError(
                    f"the reader {name} takes no --{option}",
                    f"Leave it out, or choose another --reader: {', '.join(taken)}",
                )
            raise unknown_name(f"option of reader {name}", option, form.options)
    records = without_duplicates(form.read(Path(source), **options), str(source))
    return _explained(records if chest_only else _without_gate(records), source)


def _without_gate(records: Records) -> Records:
    opening = Opening(chest_only=False)
    for record in records:
        yield opening.of(record) if isinstance(record, Study) else record


def _explained(records: Records, source: Path | str) -> Records:
    with _reading_explained(source):
        yield from records


@contextmanager
def _reading_explained(source: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RadScribeError(f"cannot read {error.filename or source}: {error.strerror}") from error


def without_duplicates(records: Iterable[Study | Rejection], source: str) -> Records:
    """The records; a Rejection replaces each study whose id an earlier study has."""
    seen = set()
    for record in records:
        if isinstance(record, Study):
            if record.id in seen:
                name = record.views[0].name if record.views else source
                yield Rejection(record.id, name, DUPLICATE_ID)
                continue
            seen.add(record.id)
        yield record
