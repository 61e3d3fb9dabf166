"""`radscribe export`: write the studies of a prepared store in a form that other programs read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.files import writing
from radscribe.progress import track
from radscribe.studies.exports.choices import ExportForm
from radscribe.studies.exports.hugging_face import folder_of, write_image_folder
from radscribe.studies.exports.images import (
    ExportedStudy,
    FolderNames,
    image_root,
    source_images,
    write_images,
)
from radscribe.studies.exports.r2gen import without_findings, write_annotation
from radscribe.studies.exports.rexrank import write_rexrank
from radscribe.studies.exports.table import write_csv, write_json_lines
from radscribe.studies.rejection import Rejection
from radscribe.studies.store import PreparedStore
from radscribe.studies.stored_view import StoredView
from radscribe.studies.study import SECTIONS, Study


def _none_left_out(studies: Iterable[Study]) -> list[Rejection]:
    return []


@dataclass(frozen=True, slots=True)
class Form:
    """A form of export.

    Attributes:
        write: Function that writes everything but the images, and returns the paths of its files.
        holds: What of a study the form holds, besides ids, split and images.
        root: Folder in the export that the image paths of a study are relative to.
        images: Folder below that one which all image paths begin with.
        leaves_out: Function that says which studies have no place in the form.
        needs_images: Whether the form is nothing without images of its own.
    """

    write: Callable[[Sequence[ExportedStudy], Path], list[Path]]
    holds: frozenset[str]
    root: Callable[[Study], str]
    images: str = ""
    leaves_out: Callable[[Iterable[Study]], list[Rejection]] = _none_left_out
    needs_images: bool = False


_TABLE = frozenset({*SECTIONS, "projections", "observations", "priors"})
FORMS: dict[ExportForm, Form] = {
    "r2gen": Form(write_annotation, frozenset({"findings"}), lambda _: "images", leaves_out=without_findings),
    "csv": Form(write_csv, _TABLE, lambda _: "", "images/"),
    "jsonl": Form(write_json_lines, _TABLE, lambda _: "", "images/"),
    "rexrank": Form(write_rexrank, frozenset({*SECTIONS, "projections"}), lambda _: "images"),
    "hf": Form(write_image_folder, _TABLE, folder_of, needs_images=True),
}


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What an export holds, and what of the store it does not hold.

    Attributes:
        out: Folder of the export.
        form: Its form.
        files: Its files, without images.
        studies, images: Numbers of exported studies and of their images.
        images_in: Folder with the images, if they are those of the source.
        left_out: Studies that have no place in the form.
        not_held: What the form does not hold of the exported studies, with its count, such as
            `masks of 3 images`.
    """

    out: Path
    form: ExportForm
    files: list[Path]
    studies: int
    images: int
    images_in: Path | None
    left_out: list[Rejection]
    not_held: list[str]

    def __str__(self) -> str:
        files = ", ".join(path.relative_to(self.out).as_posix() for path in self.files)
        lines = [
            f"studies    {self.studies:,}",
            f"images     {self.images:,}{f' in {self.images_in}' if self.images_in else ''}",
            f"written    {files} in {self.out}",
        ]
        if self.left_out:
            lines.append(f"left out   {len(self.left_out):,} studies: {self.left_out[0].reason}")
        if self.not_held:
            lines.append(f"not held   {', '.join(self.not_held)}")
        return "\n".join(lines)


def export(
    store: PreparedStore,
    out: Path,
    form: ExportForm,
    *,
    images: bool = True,
    progress: bool = True,
) -> ExportSummary:
    """Export every study of a store.

    Args:
        store: Store to export.
        out: Folder to write: a new or an empty one.
        form: Name of a form in `FORMS`.
        images: Write the stored pixels as PNG files. Otherwise the export names the image files that the
            store was prepared from.
        progress: Show progress on standard error.

    Raises:
        RadScribeError: the folder is not empty, lies in the store or cannot be written to; an image that the
            export would name is not there; or no study has a place in the form.
    """
    kind = FORMS[form]
    _check_folder(out, store.path)
    if kind.needs_images and not images:
        raise RadScribeError(f"the form {form} holds the images themselves", "Leave out --no_images")
    studies = store.studies()
    left_out = kind.leaves_out(studies)
    unplaced = {rejection.study_id for rejection in left_out}
    chosen = [study for study in studies if study.id not in unplaced]
    if not chosen:
        raise RadScribeError(
            f"no study of {store.path} has a place in the form {form}: {left_out[0].reason}",
            "Choose another --format",
            exit_code=1,
        )
    names = FolderNames()
    exported = []
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for study in track(chosen, len(chosen), "exporting", "studies", show=progress):
            paths = (
                write_images(study, out / kind.root(study), kind.images + names.of(study))
                if images
                else source_images(study, store.manifest)
            )
            exported.append(ExportedStudy(study, paths))
        files = kind.write(exported, out)
    return ExportSummary(
        out=out,
        form=form,
        files=files,
        studies=len(exported),
        images=sum(len(paths) for _, paths in exported),
        images_in=None if images else image_root(store.manifest),
        left_out=left_out,
        not_held=_not_held(chosen, kind.holds),
    )


def _check_folder(out: Path, store: Path) -> None:
    with writing(out):
        if out.exists() and not out.is_dir():
            raise RadScribeError(f"'{out}' is no folder", "An export needs a folder: choose another --out")
        if out.is_dir() and any(out.iterdir()):
            raise RadScribeError(f"the folder '{out}' is not empty", "Choose a new or an empty one")
        if out.resolve().is_relative_to(store.resolve()):
            raise RadScribeError(f"'{out}' lies in the store '{store}'", "Choose another --out")


def _not_held(studies: Sequence[Study], holds: frozenset[str]) -> list[str]:
    """What a form does not hold of some studies, each with its count."""
    views = [view for study in studies for view in study.views]
    sources = [view.source for view in views if isinstance(view.source, StoredView)]
    counts = {
        **{
            f"{name} of {{}} studies": (name, sum(bool(study.report(name)) for study in studies))
            for name in SECTIONS
        },
        "observations of {} studies": ("observations", sum(bool(study.observations) for study in studies)),
        "priors of {} studies": ("priors", sum(bool(study.prior) for study in studies)),
        "projections of {} images": ("projections", sum(view.projection != "unknown" for view in views)),
        "masks of {} images": ("masks", sum(bool(source.masks_at) for source in sources)),
        "windows of {} images": ("windows", sum(source.window is not None for source in sources)),
        "notes on {} images": ("notes", sum(bool(source.notes) for source in sources)),
    }
    return [
        words.format(f"{count:,}") for words, (name, count) in counts.items() if count and name not in holds
    ]
