"""Finding DICOM files: in folders, in zip archives, and by the DICOMDIR of a disc."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from radscribe.errors import RadScribeError
from radscribe.files import file_problem
from radscribe.studies.dicom import HEAD, is_dicom, is_encrypted, parse
from radscribe.studies.dicom_tags import value_of
from radscribe.studies.image_error import ImageError, unreadable
from radscribe.studies.images import IMAGE_SUFFIXES, bytes_of, read_content
from radscribe.studies.readers.folder import DICOM, IMAGE, REPORT, files_below, is_dicom_file
from radscribe.studies.readers.zip_archives import content_of
from radscribe.studies.study import RenderedView

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

DICOMDIR = "1.2.840.10008.1.3.10"
NOT_DICOM = "not DICOM"
_ARCHIVE = ".zip"


@dataclass(frozen=True, slots=True)
class DicomFile:
    """The source of a view: a file in a folder or in a zip archive, which is decoded when this is called.

    Attributes:
        path: Path of the file, or of the archive that holds it.
        member: Name in the archive; empty for a file in a folder.
        file: Name of the file in messages and in a store.
        chest_only: Refuse what is no radiograph of the chest.
    """

    path: Path
    member: str
    file: str
    chest_only: bool = True

    def __call__(self) -> RenderedView:
        """Decode the file; see `read_content`."""
        return read_content(self.content(), self.file, chest_only=self.chest_only)

    def reduced(self, short_side: int) -> RenderedView:
        """Decode the file, a large JPEG at a reduced scale; see `read_file`."""
        return read_content(self.content(), self.file, chest_only=self.chest_only, reduced_to=short_side)

    def content(self) -> bytes:
        """The bytes of the file.

        Raises:
            ImageError: they cannot be read, or are too many.
        """
        if self.member:
            return content_of(self.path, self.member, self.file)
        return bytes_of(self.path, self.file)

    def header(self) -> FileDataset:
        """All data elements before the pixels.

        Raises:
            ImageError: see `parse`.
        """
        if self.member:
            return parse(self.content(), self.file, pixels=False)
        try:
            with open(self.path, "rb") as file:
                return parse(file, self.file, pixels=False)
        except OSError as error:
            raise unreadable(self.file, f"not readable: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a source.

    Attributes:
        path: Path of the file, or of the archive that holds it.
        member: Name in the archive; empty for a file in a folder.
        name: Path within the source, with slashes.
        problem: Why the file is not read; empty for DICOM, and for a file that is called so by its suffix.
        is_dicom: Whether its content is DICOM.
    """

    path: Path
    member: str
    name: str
    problem: str
    is_dicom: bool


def find_files(source: Path) -> Iterator[Found]:
    """Every file of a source, in order.

    Args:
        source: A folder, with archives in it or not; an archive; a DICOMDIR, which names its files; or a
            DICOM file.

    Raises:
        RadScribeError: the source is an archive or a DICOMDIR that cannot be read.
    """
    if source.is_dir():
        for path, kind in files_below(source):
            name = path.relative_to(source).as_posix()
            if path.suffix.lower() == _ARCHIVE and path.is_file():
                yield from _members(path, name)
            else:
                yield _found(path, name, kind)
    elif source.suffix.lower() == _ARCHIVE:
        yield from _members(source, "")
    elif is_directory_file(source):
        for name in named_files(source):
            path = source.parent / name
            problem = file_problem(path)
            yield Found(path, "", name, f"{problem}: {source.name} names it" if problem else "", not problem)
    else:
        yield Found(source, "", source.name, "", True)


def _found(path: Path, name: str, kind: str) -> Found:
    if kind == IMAGE and path.suffix.lower() in IMAGE_SUFFIXES:
        dicom = is_dicom_file(path)
        return Found(path, "", name, "" if dicom else f"{NOT_DICOM}: --reader folder reads it", dicom)
    return Found(path, "", name, "" if kind in (IMAGE, DICOM) else _without_image(kind), kind == DICOM)


def _without_image(kind: str) -> str:
    """The reason for a file that the reader of folders has another use for, or rejects."""
    if kind == REPORT:
        return f"{NOT_DICOM}: a text, which --reader folder reads as a report"
    return kind.replace("not an image", NOT_DICOM)


def _members(path: Path, name: str) -> Iterator[Found]:
    """The files in an archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in sorted(archive.infolist(), key=lambda member: member.filename):
                inside = f"{name}/{member.filename}".lstrip("/")
                hidden = any(part.startswith((".", "__")) for part in PurePosixPath(member.filename).parts)
                if member.is_dir():
                    continue
                if hidden:
                    yield Found(path, member.filename, inside, "hidden file", False)
                elif member.flag_bits & 1:
                    yield Found(path, member.filename, inside, "encrypted: unpack the archive first", False)
                else:
                    yield _member(archive, member, path, inside)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        if not name:
            raise RadScribeError(f"cannot read {path}: {error}", "Fetch the archive again") from error
        yield Found(path, "", name, f"damaged: {error}", False)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, name: str) -> Found:
    try:
        with archive.open(member) as file:
            head = file.read(HEAD)
    except Exception as error:  # damaged compressed bytes may raise anything
        return Found(path, member.filename, name, f"damaged: {error}", False)
    suffix = PurePosixPath(name).suffix or "no suffix"
    problem = "encrypted" if is_encrypted(head) else "" if is_dicom(head) else f"{NOT_DICOM}: {suffix}"
    return Found(path, member.filename, name, problem, not problem)


def is_directory_file(path: Path) -> bool:
    """Whether a file is the DICOMDIR of a disc, by its content."""
    return path.is_file() and path.name.upper().startswith("DICOMDIR") and is_dicom_file(path)


def holds_dicom(source: Path) -> bool:
    """Whether a source is a DICOM file or archive, or a folder with DICOM files and no other images."""
    if source.is_file():
        if source.suffix.lower() == _ARCHIVE:
            return zipfile.is_zipfile(source) and any(found.is_dicom for found in find_files(source))
        return is_dicom_file(source)
    there = False
    for path, kind in files_below(source) if source.is_dir() else ():
        if kind == IMAGE and path.suffix.lower() in IMAGE_SUFFIXES:
            return False
        there = there or kind == DICOM
        if not there and path.suffix.lower() == _ARCHIVE and path.is_file():
            there = any(found.is_dicom for found in _members(path, path.name))
    return there


def named_files(directory: Path) -> list[str]:
    """The paths of the files that a DICOMDIR names, relative to its folder and with slashes.

    Raises:
        RadScribeError: the DICOMDIR cannot be read, or names files outside of its folder.
    """
    try:
        records = value_of(DicomFile(directory, "", str(directory)).header(), "DirectoryRecordSequence") or ()
    except ImageError as error:
        raise RadScribeError(str(error), "Give the folder, whose files are read without it") from error
    names = []
    for record in records:
        parts = value_of(record, "ReferencedFileID")
        if parts := [parts] if isinstance(parts, str) else [str(part) for part in parts or ()]:
            if any(part in ("", "..", ".") or "/" in part or "\\" in part for part in parts):
                raise RadScribeError(
                    f"{directory} names a file outside of its folder", "Give the folder, whose files are read"
                )
            names.append("/".join(parts))
    return names
