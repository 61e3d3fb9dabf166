"""Bad inputs to `prepare` and `check` on stores: sources, images, tables and stores."""

from __future__ import annotations

import os

from bad_inputs import (
    preparing_archives,
    preparing_collections,
    preparing_dicom,
    preparing_stores,
    preparing_tables,
)
from bad_inputs.rows import Row, Workshop
from bad_inputs.sources import (
    AGAIN,
    OUT,
    files,
    fruitless,
    goes_on,
    pipe,
    refused,
    rejected,
    rows_of,
    table,
)

SOURCES = [
    Row("a source that is not there", f"prepare absent {OUT}", "no such file or folder: absent"),
    Row(
        "an empty folder",
        f"prepare e {OUT}",
        "cannot tell what e holds",
        arrange=lambda w: (w.path / "e").mkdir(),
    ),
    Row(
        "a source that is a named pipe",
        f"prepare p {OUT}",
        "a named pipe",
        arrange=lambda w: os.mkfifo(w.path / "p"),
    ),
    Row("a source that is a device", f"prepare /dev/zero {OUT}", "a device, not a file"),
    Row(
        "a source that links to nothing",
        f"prepare l {OUT}",
        "a link to a file that is not there",
        arrange=lambda w: (w.path / "l").symlink_to("absent"),
    ),
    Row(
        "a source that links to itself",
        f"prepare l {OUT}",
        "cannot read 'l'",
        arrange=lambda w: (w.path / "l").symlink_to("l"),
    ),
    Row("a source with a NUL character", f"prepare 'a\0b' {OUT}", "NUL character"),
    Row("a source with a name that is too long", f"prepare {'a' * 300} {OUT}", "File name too long"),
    Row("a source that is a store", f"prepare {{store}} {OUT}", "is a prepared store already"),
    Row(
        "a file that is no table",
        f"prepare x.docx {OUT}",
        "cannot tell what",
        arrange=lambda w: w.write("x.docx", "x"),
    ),
    Row(
        "a folder of text only",
        f"prepare t {OUT}",
        "cannot tell what t holds",
        arrange=lambda w: w.write("t/a.txt", "Clear."),
    ),
    Row(
        "a reader that is not there",
        f"prepare images --reader tabel {OUT}",
        "Did you mean 'table'?",
        arrange=Workshop.images,
    ),
    Row(
        "an option that the reader does not take",
        f'prepare images {OUT} --columns \'{{{{"report": "r"}}}}\'',
        ("the reader folder takes no --columns", "table"),
        arrange=Workshop.images,
    ),
    refused(
        "a number of studies for images",
        "--studies does nothing here",
        Workshop.images,
        options="--studies 5",
    ),
    Row(
        "images for the phantom", f"prepare phantom {OUT} --images .", "the reader phantom takes no --images"
    ),
    Row("a difficulty that is none", f"prepare phantom {OUT} --difficulty hart", "did you mean hard?"),
    Row(
        "a difficulty for images",
        f"prepare images {OUT} --difficulty hard",
        "the reader folder takes no --difficulty",
        arrange=Workshop.images,
    ),
    Row("given reports that are not there", f"prepare phantom {OUT} --reports absent", "absent"),
    Row(
        "given reports and a number of studies",
        f"prepare phantom {OUT} --reports r.csv --studies 3",
        ("--studies does nothing", "--limit"),
        arrange=lambda w: w.write("r.csv", "study,report\n1,Clear.\n"),
    ),
    Row(
        "given reports without ids",
        f"prepare phantom {OUT} --reports r.csv",
        ("no column 'study'", "uid, report", '--columns \'{"study"'),
        arrange=lambda w: w.write("r.csv", "uid,report\n1,Clear.\n"),
    ),
    Row(
        "given reports without a text",
        f"prepare phantom {OUT} --reports r.csv",
        ("no column 'report'", "study, notes", '--columns \'{"report"'),
        arrange=lambda w: w.write("r.csv", "study,notes\n1,Clear.\n"),
    ),
    Row(
        "given reports in another language",
        f"prepare phantom {OUT} --reports r.csv",
        ("no study of phantom can be used", "unreadable report 1"),
        code=1,
        arrange=lambda w: w.write("r.csv", "study,report\n1,Der Herzschatten ist nicht vergrößert.\n"),
    ),
    Row(
        "columns of a phantom without reports",
        f'prepare phantom {OUT} --columns \'{{{{"study": "a"}}}}\'',
        "--reports",
    ),
    Row("uncertain findings of no reports", f"prepare phantom {OUT} --draw_uncertain", "--reports"),
    Row(
        "the phantom's reader for images",
        f"prepare images --reader phantom {OUT}",
        "Give the word phantom",
        arrange=Workshop.images,
    ),
    refused(
        "a source of two forms",
        ("more than one way", "--reader"),
        files({"annotation.json": "{}", "indiana_reports.csv": "uid\n"}),
    ),
    refused(
        "two tables in one folder",
        ("found: a.csv, b.tsv", "images/a.csv", "--reader folder"),
        files({"a.csv": "image\n", "b.tsv": "image\n"}),
    ),
    Row(
        "no table for the reader of tables",
        f"prepare images --reader table {OUT}",
        "found: none",
        arrange=Workshop.images,
    ),
]

PLACES = [
    Row(
        "a store that is a file",
        "prepare phantom --out f",
        "is no folder",
        arrange=lambda w: w.write("f", "x"),
    ),
    Row(
        "a store below a file",
        "prepare phantom --out f/s",
        "cannot write to f/s",
        arrange=lambda w: w.write("f", "x"),
    ),
    Row("a store with a name that is too long", f"prepare phantom --out {'s' * 300}", "File name too long"),
    Row("a store with a NUL character", "prepare phantom --out 'a\0b'", "an argument holds a NUL character"),
    Row(
        "a store in a folder of something else",
        "prepare phantom --out thesis",
        "holds no prepared store",
        arrange=lambda w: w.write("thesis/a.tex", "x"),
    ),
    Row("a store in its source", "prepare images --out images", "lies in the store", arrange=Workshop.images),
    Row(
        "a source within the store",
        "prepare s/images --out s",
        "lies in the store",
        arrange=lambda w: w.images("s/images"),
    ),
    Row(
        "a store of another source",
        "prepare images --out store --workers 1",
        ("was prepared with source 'phantom'", "Use another --out"),
        arrange=lambda w: (w.images(), w.copy_store()),
    ),
    Row(
        "a store of another size",
        AGAIN.replace("64", "32"),
        "was prepared with short_side 64, not 32",
        arrange=Workshop.copy_store,
    ),
]

NUMBERS = [
    *rows_of(
        "views too small or too large",
        "from 16 to 4,096",
        ["--short_side 0", "--short_side 15", "--short-side 5000"],
    ),
    *rows_of("impossible processes", "from 1 to 512", ["--workers 0", "--workers=-3", "--workers 100000"]),
    *rows_of("no study", "of at least 1", ["--limit 0", "--limit=-1"]),
    *rows_of("no phantom study", "", ["--studies 0", "--studies=-1", "--studies 2000000"], source="phantom"),
    *rows_of(
        "impossible splits",
        "are not three shares that sum to 1",
        ["--split_fractions 0.5 0.2 0.2", "--split_fractions 1.2 -0.2 0"],
    ),
    *rows_of(
        "splits that are no numbers",
        "--split_fractions needs a number",
        ["--split_fractions nan nan nan", "--split_fractions inf 0 0"],
    ),
    Row("splits that are words", f"prepare phantom {OUT} --split_fractions a b c", "split_fractions"),
    Row("two splits", f"prepare phantom {OUT} --split_fractions 0.5 0.5", "--split_fractions needs 3 values"),
    Row("a phantom with a negative seed", f"prepare phantom {OUT} --seed=-1", "seed"),
    Row("a short side in words", f"prepare phantom {OUT} --short_side large", "short_side"),
]

PATTERNS = [
    refused(
        "a pattern that is none",
        ("--study_pattern '(['", "no valid regular expression"),
        Workshop.images,
        options="--study_pattern '(['",
    ),
    refused(
        "a pattern without group",
        ("has 0 groups", "For example"),
        Workshop.images,
        options="--patient_pattern p",
    ),
    refused("a pattern with two groups", "has 2 groups", Workshop.images, options="--study_pattern '(.)(.)'"),
    refused(
        "a pattern that matches nothing",
        ("matches none of 3 paths", "such as '0.png'"),
        Workshop.images,
        options="--study_pattern 'study(.+)'",
    ),
    refused(
        "a pattern of patients that matches nothing",
        ("--patient_pattern", "matches none of 3 paths"),
        Workshop.images,
        options="--patient_pattern 'p(.+)/'",
    ),
    refused(
        "a pattern that matches nothing in a table",
        "matches none of 1 paths",
        table("image,report\n0.png,a\n"),
        options="--study_pattern 'study(.+)'",
    ),
    refused(
        "a pattern for what a column says",
        "has a column 'study'",
        table("image,report,study\n0.png,a,s\n"),
        options="--study_pattern '(.)'",
    ),
    Row(
        "a pattern for the phantom",
        f"prepare phantom {OUT} --study_pattern '(.)'",
        ("takes no --study_pattern", "folder"),
    ),
    goes_on(
        "a pattern that some images do not match",
        "studies    2",
        Workshop.images,
        options="--study_pattern '([01])'",
        check=rejected("does not match --study_pattern"),
    ),
    fruitless(
        "a study of several patients",
        ("no study of", "several patients: 0, 1, 2"),
        lambda w: w.images("images/s"),
        options="--study_pattern '(s)/' --patient_pattern '(.)[.]png'",
    ),
]

FOLDERS = [
    Row(
        "a folder of what is only called DICOM",
        f"prepare d {OUT}",
        ("not an image 1", "d/a.dcm"),
        code=1,
        arrange=lambda w: w.write("d/a.dcm", "x"),
    ),
    goes_on(
        "DICOM without any data element",
        "damaged: 1",
        files({"IM0001": b"\0" * 128 + b"DICM"}),
        check=rejected("damaged: no data element of DICOM"),
    ),
    goes_on(
        "files that are no images",
        "not an image: 3",
        files({"a.pdf": "x", "b": "", "c.nii.gz": "x"}),
        check=rejected("not an image: .pdf", "not an image: no suffix"),
    ),
    goes_on("an empty image", "empty file: 1", files({"a.png": ""})),
    goes_on(
        "hidden files and folders",
        ("hidden file: 1", "hidden folder: 2"),
        files({"._0.png": "x", ".git/a.png": "x", "__MACOSX/0.png": "x"}),
    ),
    goes_on(
        "a named pipe among images", "studies    3", pipe("p.png"), check=rejected("a named pipe, not a file")
    ),
    goes_on(
        "a link to nothing among images",
        "studies    3",
        lambda w: (w.images() / "a.png").symlink_to("absent"),
        check=rejected("a link to a file that is not there"),
    ),
    goes_on(
        "a link to itself among images",
        "studies    3",
        lambda w: (w.images() / "a.png").symlink_to("a.png"),
        check=rejected("not readable"),
    ),
    goes_on(
        "a folder that links to its parent",
        "linked folder: 1",
        lambda w: (w.images() / "loop").symlink_to("."),
    ),
    Row(
        "a pile of images",
        f"prepare source {OUT}",
        ("too many views 1", "17 images", "--study_pattern"),
        code=1,
        arrange=lambda w: [w.write(f"source/NORMAL/{n}.png", "x") for n in range(17)],
    ),
    goes_on(
        "a report of no study",
        ("no image: 1", "no report: 2"),
        files({"0.txt": "Clear.", "9.txt": "Clear."}),
        check=rejected("no study is named '9'"),
    ),
    goes_on(
        "reports that say nothing",
        "empty report: 2",
        files({"0.txt": "Clear.", "1.txt": " \n", "2.txt": "N/A"}),
    ),
    goes_on(
        "a report that is no text",
        "bad record: 1",
        files({"0.txt": "Clear.", "1.txt": b"PK\x03\x04", "2.txt": "a"}),
        check=rejected("1.txt is a zip archive"),
    ),
    goes_on(
        "a report with NUL characters",
        "bad record: 1",
        files({"0.txt": "Clear.", "1.txt": "a\0b", "2.txt": "a"}),
    ),
    goes_on(
        "a report of a million words",
        "bad record: 1",
        files({"0.txt": "Clear.", "1.txt": "word " * 1_000_000, "2.txt": "a"}),
        check=rejected("are more than 1,000,000"),
    ),
    goes_on(
        "a report that is a named pipe", "not an image: 1", pipe("0.txt"), check=rejected("a named pipe")
    ),
    goes_on(
        "two images of one name",
        "duplicate id: 1",
        lambda w: w.write("images/0.jpg", (w.images() / "0.png").read_bytes()),
    ),
    Row(
        "a file for the reader of folders",
        f"prepare t.csv --reader folder {OUT}",
        "t.csv",
        arrange=lambda w: w.write("t.csv", "x"),
        code=1,
    ),
]

ROWS: list[Row] = [
    *SOURCES,
    *PLACES,
    *NUMBERS,
    *PATTERNS,
    *FOLDERS,
    *preparing_dicom.ROWS,
    *preparing_tables.ROWS,
    *preparing_archives.ROWS,
    *preparing_collections.ROWS,
    *preparing_stores.ROWS,
]
