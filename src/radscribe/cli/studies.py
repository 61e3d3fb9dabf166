"""Commands that make, check, audit and export studies."""

from __future__ import annotations

from json import dumps
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.studies.exports.choices import ExportForm
from radscribe.studies.readers.choices import (
    BoxReaders,
    CheXpertPlusTest,
    Labels,
    PhantomDifficulty,
    ReportSections,
    Unit,
)


def prepare(
    source: str,
    *,
    out: Path,
    reader: str = "auto",
    images: Path | None = None,
    columns: dict[str, str] | None = None,
    split_fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    studies: int | None = None,
    difficulty: PhantomDifficulty | None = None,
    limit: int | None = None,
    short_side: int = 256,
    reduced_jpeg: bool = False,
    workers: int | None = None,
    study_pattern: str | None = None,
    patient_pattern: str | None = None,
    reports: Path | None = None,
    draw_uncertain: bool = False,
    unit: Unit | None = None,
    frontal_only: bool = False,
    sections: ReportSections | None = None,
    complete: bool = False,
    last_paragraph: bool = False,
    hand_ruled: bool = False,
    labels: Labels | None = None,
    test: CheXpertPlusTest | None = None,
    boxes: BoxReaders | None = None,
    pseudonym_key: Path | None = None,
    keep_ids: bool = False,
    chest_only: bool = True,
    read_text: bool = False,
    update: bool = False,
    progress: bool = True,
) -> None:
    """Read studies from any source once, and write a prepared store.

    An interrupted command resumes. Studies and views that cannot be used are listed in STORE/rejected.csv
    with reasons.
    A source that has changed since the store was prepared is an error, unless --update is given.

    Args:
        source: Folder or file of studies; the word phantom stands for synthetic studies.
        out: Prepared store to write.
        reader: Reader of the source; auto chooses it by what the source holds.
        images: Folder of the images, if they are not in the folder of the reports.
        columns: Names of your columns for those of RadScribe, as a JSON object such as '{"report": "notes",
            "patient": "subject"}'.
        split_fractions: Shares of patients in train, val and test, if the source has no split.
        seed: Random seed of splits that are drawn, and of the phantom.
        studies: Number of phantom studies to make; 1000 unless given.
        difficulty: How hard the phantom is: how faint, hidden, crowded and rare its findings are, and how
            varied its images and the wording of its reports; easy unless given.
        limit: Largest number of studies to read.
        short_side: Length in pixels of the shorter side of each stored view.
        reduced_jpeg: Decode JPEG files of at least four times that side at half, a quarter or an eighth of
            their size: about twice as fast, with slightly other pixels.
        workers: Number of processes that decode images; all CPUs unless given.
        study_pattern: Regular expression whose one group finds the study in the path of an image, as in
            --study_pattern '([^/]+)_[0-9]+[.]png'; for folders, and for tables without a column study.
        patient_pattern: Regular expression whose one group finds the patient in the path of an image; for
            folders, and for tables without a column patient.
        reports: For the phantom, a source of reports that images are drawn for, such as an annotation.json or
            a table with the columns study and report. For MIMIC-CXR, its reports: its zip archive, its table
            of sections, or its folder.
        draw_uncertain: Draw the findings too that given --reports leave open, fainter.
        unit: Whether each examination or each image is a study, for MIMIC-CXR, CheXpert Plus and ReXGradient;
            studies unless given.
        frontal_only: Take frontal views only, for MIMIC-CXR, CheXpert Plus and ReXGradient.
        sections: Sections that are taken as the report, for MIMIC-CXR, CheXpert Plus and ReXGradient; both
            unless given, and with both, one of them is enough.
        complete: Reject studies of MIMIC-CXR, CheXpert Plus and ReXGradient that lack one of these sections.
        last_paragraph: Take the last paragraph of a report of MIMIC-CXR that has neither findings nor
            impression as its findings.
        hand_ruled: Take the 54 studies of MIMIC-CXR that its authors ruled on by hand, and what they ruled as
            the impression.
        labels: Observations of MIMIC-CXR (chexpert, negbio or test-set) or of CheXpert Plus (as labelled from
            its findings, impression or report); chexpert or impression, if it is there, unless given.
        test: Test split of CheXpert Plus, which has none: its split valid, or patients drawn by --seed.
        boxes: Boxes of PadChest-GR that become masks: those of the first reader, or of both; first unless
            given.
        pseudonym_key: File with the secret key of the hashes that replace ids and names of DICOM files; it is
            made if it is not there. OUT.pseudonym_key unless given.
        keep_ids: Keep the ids and names of DICOM files.
        chest_only: Reject DICOM files that are no radiographs of the chest by their tags or their pixels;
            --no_chest_only takes every DICOM file with pixels.
        read_text: Read text in the pixels of each view, and note views with a name, an id or a date; needs
            the extra ocr.
        update: Make a prepared store follow its source: new studies are added, changed ones are decoded
            again, and those that are gone are dropped. Studies that are the same stay in their split.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    if studies is not None and "phantom" not in (source, reader):
        raise RadScribeError(
            "--studies does nothing here: that is the number of phantom studies; --limit limits any other "
            "source",
            "Leave --studies out",
        )
    from radscribe.studies.prepare import prepare as prepare_store

    options = {
        "studies": studies,
        "difficulty": difficulty,
        "images": images,
        "columns": columns,
        "study_pattern": study_pattern,
        "patient_pattern": patient_pattern,
        "reports": reports,
        "draw_uncertain": draw_uncertain or None,
        "unit": unit,
        "frontal_only": frontal_only or None,
        "sections": sections,
        "complete": complete or None,
        "last_paragraph": last_paragraph or None,
        "hand_ruled": hand_ruled or None,
        "labels": labels,
        "test": test,
        "boxes": boxes,
        "pseudonym_key": pseudonym_key,
        "keep_ids": keep_ids or None,
        "chest_only": None if chest_only else False,
    }
    summary = prepare_store(
        source,
        out,
        reader=reader,
        short_side=short_side,
        reduced_jpeg=reduced_jpeg,
        split_fractions=split_fractions,
        seed=seed,
        workers=workers,
        limit=limit,
        read_text=read_text,
        update=update,
        progress=progress,
        **{name: value for name, value in options.items() if value is not None},
    )
    print(summary)


def check(path: Path) -> None:
    """Check that a run or a prepared store is whole: read every file of it, and compare hashes.

    Prints one line for each part that was checked. Exits with 1 if something is damaged.

    Args:
        path: A run directory or a prepared store.
    """
    from radscribe.runs.check_run import check_directory

    found = check_directory(path)
    for part in found:
        print(part)
    if damaged := [part.part for part in found if part.damaged]:
        raise RadScribeError(f"'{path}' is damaged: {'; '.join(damaged)}", exit_code=1)
    print(f"{path}: OK")


def audit(
    store: list[Path],
    *,
    section: str = "findings",
    tokenizer: str | None = None,
    json: Path | None = None,
    progress: bool = True,
) -> None:
    """Look for leaks between the splits of prepared stores, and say what each split has.

    A leak is what a later split has in common with an earlier one, in the order train, val, test: patients,
    studies, identical or nearly identical images, verbatim or near-verbatim reports. Several stores are
    compared with each other too. Exits with 1 if a patient stands in two splits.

    Args:
        store: Prepared stores to look at.
        section: Section of the reports to look at; several are joined by ' + '.
        tokenizer: Folder or hub name of a language model, to count how many reports the protocol r2gengpt
            cuts.
        json: File to write everything to as JSON, with every leak and its studies.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from radscribe.audit.audit import audit as audit_stores
    from radscribe.audit.summary import audit_summary
    from radscribe.files import check_output, replace_file

    if json is not None:
        check_output(json, b'"made_by": "radscribe audit"', "an audit", "--json")
    found = audit_stores(store, section=section, tokenizer=tokenizer, progress=progress)
    if json is not None:
        replace_file(json, dumps(found.to_json(), indent=1), "Choose another --json")
    print(audit_summary(found))
    if leaks := found.leaked_patients:
        worst = leaks[0]
        raise RadScribeError(
            f"{len(worst.matches)} of {worst.total} patients of {worst.later.split} in '{worst.later.store}' "
            f"stand in {worst.earlier.split} of '{worst.earlier.store}' too, such as "
            f"'{worst.matches[0].patient}'",
            "Scores on this split are not to be believed: prepare the studies again in splits by patient",
            exit_code=1,
        )


def export(store: Path, *, format: ExportForm, out: Path, images: bool = True, progress: bool = True) -> None:
    """Write the studies of a prepared store in a form that other programs read.

    Each form keeps ids, splits, images and findings; it says which parts of the store it does not hold.
    Studies that have no place in a form are named on standard error and left out.

    Args:
        store: Prepared store to export.
        format: Form of the export: R2Gen's annotation.json, a table (csv or jsonl) that radscribe prepare
            reads again, the JSON files of rexrank, or a folder of images for Hugging Face datasets (hf).
        out: Folder to write, a new or an empty one.
        images: Write the images of the store as PNG files; otherwise name the files that it was prepared
            from.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from radscribe.cli.output import print_rejections
    from radscribe.studies.exports.export import export as export_store
    from radscribe.studies.store import PreparedStore

    summary = export_store(PreparedStore(store), out, format, images=images, progress=progress)
    print_rejections(summary.left_out)
    print(summary)
