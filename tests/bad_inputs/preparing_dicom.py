"""Bad inputs to `prepare` on DICOM: files that are no chest radiographs, damaged archives, and keys."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import numpy as np

from bad_inputs.rows import Row, Workshop
from bad_inputs.sources import OUT, rejected


def scans(*, beside: dict[str, object] | None = None, **bad: object) -> Callable[[Workshop], object]:
    """A folder `scans` with one good file, and a bad one that differs from it in these tags.

    Args:
        beside: Content of further files, by name.
        bad: Tags of the bad file; None leaves a tag out.
    """

    def arrange(workshop: Workshop) -> None:
        # pydicom takes a second to import, which other tables of rows need not pay for.
        from dicom_files import ROOT, dicom_file, phantom_pixels

        workshop.write("scans/good", dicom_file(phantom_pixels()))
        if bad:
            other = {"StudyInstanceUID": ROOT + "8", "SOPInstanceUID": ROOT + "9"}
            workshop.write("scans/bad", dicom_file(phantom_pixels(), **(other | bad)))
        for name, content in (beside or {}).items():
            workshop.write(f"scans/{name}", content)

    return arrange


def costs_itself(name: str, reason: str, arrange: Callable[[Workshop], object]) -> Row:
    """A row on the folder `scans`, in which the bad file costs no more than itself."""
    says = ("studies    1", f"{reason.split(':')[0]}: 1")
    return Row(name, f"prepare scans {OUT}", says, code=0, arrange=arrange, check=rejected(reason))


def knee_in_a_table(workshop: Workshop) -> None:
    scans(BodyPartExamined="KNEE")(workshop)
    workshop.write("t.csv", TABLE)


def truncated(workshop: Workshop) -> None:
    scans(StudyInstanceUID="1.2.3")(workshop)
    file = workshop.path / "scans/bad"
    file.write_bytes(file.read_bytes()[:-1000])


def cut_archive(workshop: Workshop) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("IM1", bytes(np.arange(5000, dtype=np.uint8)))
    workshop.write("scans.zip", buffer.getvalue()[:2000])


def without_its_key(workshop: Workshop) -> None:
    from radscribe.studies.prepare import prepare

    scans()(workshop)
    prepare(workshop.path / "scans", workshop.path / "made", short_side=32, workers=1, progress=False)
    (workshop.path / "made.pseudonym_key").unlink()


#: A table of the good file and the bad one.
TABLE = "image\nscans/good\nscans/bad\n"

ROWS = [
    costs_itself(
        "a CT among radiographs",
        "no chest radiograph: SOP class CT Image Storage",
        scans(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT"),
    ),
    costs_itself(
        "a structured report among radiographs",
        "no chest radiograph: SOP class Comprehensive SR Storage",
        scans(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR"),
    ),
    costs_itself(
        "a knee among chests",
        "no chest radiograph: BodyPartExamined says KNEE",
        scans(BodyPartExamined="KNEE"),
    ),
    costs_itself(
        "a radiograph without pixels", "no pixel data", scans(PixelData=None, StudyInstanceUID="1.2.3")
    ),
    costs_itself("a truncated radiograph", "truncated", truncated),
    costs_itself("a text beside radiographs", "not DICOM: a text", scans(beside={"a.txt": "Clear."})),
    Row(
        "an archive that is cut",
        f"prepare scans.zip {OUT}",
        "cannot tell what scans.zip holds",
        arrange=cut_archive,
    ),
    Row(
        "an archive that is cut, for the reader of DICOM",
        f"prepare scans.zip --reader dicom {OUT}",
        ("cannot read scans.zip", "Fetch the archive again"),
        arrange=cut_archive,
    ),
    Row(
        "a DICOM store whose key is gone",
        f"prepare scans {OUT}",
        ("the key made.pseudonym_key is gone", "Put it back"),
        arrange=without_its_key,
    ),
    Row(
        "a key that is none",
        f"prepare scans {OUT} --pseudonym_key scans/good",
        ("holds no key of pseudonyms", "Name a file that is not there yet"),
        arrange=scans(),
    ),
    Row(
        "a key in the store",
        f"prepare scans {OUT} --pseudonym_key made/key",
        ("would lie in the store", "Give another --pseudonym_key"),
        arrange=scans(),
    ),
    Row(
        "a key for ids that are kept",
        f"prepare scans {OUT} --pseudonym_key key --keep_ids",
        "Leave one of them out",
        arrange=scans(),
    ),
    Row(
        "kept ids of images that are not in DICOM",
        f"prepare images {OUT} --keep_ids",
        ("the reader folder takes no --keep_ids", "dicom"),
        arrange=Workshop.images,
    ),
    Row(
        "no gate of DICOM for a reader that has none",
        f"prepare phantom {OUT} --no_chest_only",
        ("the reader phantom takes no --no_chest_only", "Leave it out: no gate looks at its images"),
    ),
    Row(
        "a knee in a table",
        f"prepare t.csv {OUT}",
        "no chest radiograph: 1",
        code=0,
        arrange=knee_in_a_table,
        check=rejected("BodyPartExamined says KNEE; if it is one, --no_chest_only takes it"),
    ),
    Row(
        "a knee in a table, without the gate",
        f"prepare t.csv {OUT} --no_chest_only",
        "studies    2",
        code=0,
        arrange=knee_in_a_table,
    ),
    Row(
        "nothing but a knee, among reports",
        f"prepare scans {OUT} --reader folder",
        (
            "no study of",
            "scans/bad, no chest radiograph: BodyPartExamined says KNEE",
            "--no_chest_only takes it",
        ),
        code=1,
        arrange=lambda w: (
            scans(beside={"bad.txt": "Clear."}, BodyPartExamined="KNEE")(w),
            (w.path / "scans/good").unlink(),
        ),
    ),
    Row(
        "a knee without the gate",
        f"prepare scans {OUT} --no_chest_only",
        "studies    2",
        code=0,
        arrange=scans(BodyPartExamined="KNEE"),
    ),
    Row(
        "an explanation of a knee",
        "explain {run} --images scans/bad --device cpu --out where",
        "no chest radiograph: BodyPartExamined says KNEE",
        arrange=scans(BodyPartExamined="KNEE"),
    ),
    Row(
        "a CT among radiographs to draft",
        "generate {run} scans --device cpu",
        ("no chest radiograph: SOP class CT Image Storage", '"id": "1.2.826'),
        code=0,
        arrange=scans(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT"),
    ),
    Row(
        "a text that is called DICOM among radiographs to draft",
        "generate {run} scans --device cpu",
        ("rejected a.dcm: cannot read scans/a.dcm: not an image", '"id": "1.2.826'),
        code=0,
        arrange=scans(beside={"a.dcm": "Clear."}),
    ),
    Row(
        "an archive that is cut, to draft",
        "generate {run} scans.zip --device cpu",
        "cannot tell what scans.zip holds",
        arrange=cut_archive,
    ),
    Row(
        "a draft of a knee",
        "generate {run} scans/bad --device cpu",
        "no chest radiograph: BodyPartExamined says KNEE",
        arrange=scans(BodyPartExamined="KNEE"),
    ),
]
