"""Bad inputs to `prepare` on ReXGradient-160K, PadChest-GR, ReXrank and data sets of Hugging Face."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from small_archives import (
    PADCHEST_GR_REPORTS,
    REXGRADIENT_METADATA,
    hub_rows,
    hugging_face,
    padchest_gr,
    rexgradient,
    rexrank,
    write_arrow,
    write_parquet,
)

from bad_inputs.rows import Row, Workshop
from bad_inputs.sources import DEEP, OUT, ids, rejected


def tree_of(
    make: Callable[[Path], object], name: str, then: Callable[[Path], object] = lambda tree: None
) -> Callable[[Workshop], object]:
    """A tree in the folder of this name, of which something changes."""

    def arrange(workshop: Workshop) -> None:
        make(workshop.path / name)
        then(workshop.path / name)

    return arrange


def rex(then: Callable[[Path], object] = lambda tree: None) -> Callable[[Workshop], object]:
    """A tree of ReXGradient-160K in the folder `x`, of which something changes."""
    return tree_of(rexgradient, "x", then)


def grounded(then: Callable[[Path], object] = lambda tree: None) -> Callable[[Workshop], object]:
    """A tree of PadChest-GR in the folder `g`, of which something changes."""
    return tree_of(padchest_gr, "g", then)


def rank(then: Callable[[Path], object] = lambda tree: None) -> Callable[[Workshop], object]:
    """Files of ReXrank in the folder `k`, of which something changes."""
    return tree_of(rexrank, "k", then)


def hub(then: Callable[[Path], object] = lambda tree: None) -> Callable[[Workshop], object]:
    """Parquet files in the folder `h`, of which something changes."""
    return tree_of(hugging_face, "h", then)


def cut(path: Path, size: int) -> None:
    """Keeps the first bytes of a file only."""
    path.write_bytes(path.read_bytes()[:size])


def renamed(tree: Path, names: list[str]) -> None:
    """Writes all Parquet files with other names of columns."""
    for path in tree.glob("data/*.parquet"):
        write_parquet(path, hub_rows([0]).rename_columns(names))


def in_parts(tree: Path, *numbers: int) -> None:
    """Parts of an archive of images of PadChest-GR, in the place of its folder."""
    shutil.rmtree(tree / "Padchest_GR_files/PadChest_GR")
    for number in numbers:
        (tree / f"Padchest_GR_files/PadChest_GR.zip.{number:03}").write_bytes(b"x" * 100)


def only_texts(tree: Path) -> None:
    """Writes all Parquet files without images."""
    for path in tree.glob("data/*.parquet"):
        write_parquet(path, hub_rows([0]).select(["findings", "impression"]))


def only_tables(tree: Path) -> None:
    """Removes the metadata in JSON, so that only the tables are left."""
    for path in tree.glob("metadata/*.json"):
        path.unlink()


REXGRADIENT = [
    Row(
        "ReXGradient with its tables only",
        f"prepare x/metadata --reader rexgradient {OUT}",
        ("x/metadata has no metadata/train_metadata_view_position.json", "CSV tables name no images"),
        arrange=rex(only_tables),
    ),
    Row(
        "ReXGradient whose images are packed",
        f"prepare x {OUT}",
        ("no folder of images: looked for x/deid_png", "cat deid_png.part* | tar --zstd -xf -", "--images"),
        arrange=rex(lambda tree: (tree / "deid_png").rename(tree / "packed")),
    ),
    Row(
        "a folder that holds no image of ReXGradient",
        f"prepare x {OUT} --images images",
        ("no study of", "no image file 6"),
        code=1,
        arrange=lambda w: (rex()(w), w.images()),
    ),
    Row(
        "ReXGradient with metadata that are nested too deeply",
        f"prepare x {OUT}",
        (f"x/{REXGRADIENT_METADATA} is not valid JSON: nested too deeply", "Fetch the file again"),
        arrange=rex(lambda tree: (tree / REXGRADIENT_METADATA).write_text(DEEP)),
    ),
    Row(
        "ReXGradient with odd records",
        f"prepare x {OUT}",
        ("studies    4", "bad record: 3", "no report: 4"),
        code=0,
        arrange=rex(),
        check=rejected("has not one value", "no view", "this table names none", "missing", "no image file"),
    ),
    Row(
        "labels for ReXGradient, which has none",
        f"prepare x {OUT} --labels chexpert",
        "the reader rexgradient takes no --labels",
        arrange=rex(),
    ),
]

PADCHEST_GR = [
    Row(
        "PadChest-GR without its table",
        f"prepare g {OUT}",
        ("g has no master_table.csv", "it has the patients and splits"),
        arrange=grounded(lambda tree: (tree / "master_table.csv").unlink()),
    ),
    Row(
        "PadChest-GR with a table without splits",
        f"prepare g {OUT}",
        ("g/master_table.csv has no column 'split'", "Its columns: StudyID, PatientID"),
        arrange=grounded(lambda tree: (tree / "master_table.csv").write_text("StudyID,PatientID\n")),
    ),
    Row(
        "PadChest-GR with a packed table that is damaged",
        f"prepare g {OUT}",
        ("g/master_table.csv is damaged", "Fetch it again"),
        arrange=grounded(lambda tree: (tree / "master_table.csv").write_bytes(b"PK\x03\x04" + b"x" * 50)),
    ),
    Row(
        "PadChest-GR whose images are elsewhere",
        f"prepare g {OUT}",
        ("no folder of images", "Name with --images the folder", "PadChest_GR.zip.001"),
        arrange=grounded(lambda tree: (tree / "Padchest_GR_files").rename(tree / "packed")),
    ),
    Row(
        "PadChest-GR without a part of the packed images",
        f"prepare g {OUT}",
        ("the part PadChest_GR.zip.002 is not in g/Padchest_GR_files", "Fetch it: PadChest_GR.zip.003"),
        arrange=grounded(lambda tree: in_parts(tree, 1, 3)),
    ),
    Row(
        "PadChest-GR with parts that are no archive",
        f"prepare g {OUT}",
        (
            "cannot read the archive g/Padchest_GR_files/PadChest_GR.zip: ",
            "zip.002 is the last one that is there",
        ),
        arrange=grounded(lambda tree: in_parts(tree, 1, 2)),
    ),
    Row(
        "PadChest-GR with an archive that zip split",
        f"prepare g {OUT} --images g/PadChest_GR.zip",
        ("only the end of an archive", "zip -s 0 g/PadChest_GR.zip --out g/joined-PadChest_GR.zip"),
        arrange=grounded(
            lambda tree: [(tree / f"PadChest_GR.{suffix}").write_bytes(b"x") for suffix in ("z01", "zip")]
        ),
    ),
    Row(
        "boxes of a reader whom PadChest-GR has not",
        f"prepare g {OUT} --boxes second",
        ("--boxes", "second", "first", "both"),
        arrange=grounded(),
    ),
    Row(
        "boxes of a data set that has none",
        f"prepare images {OUT} --boxes both",
        ("the reader folder takes no --boxes", "padchest-gr"),
        arrange=Workshop.images,
    ),
    Row(
        "two files of grounded reports",
        f"prepare g {OUT}",
        "g should hold one grounded_reports_*.json, found: grounded_reports_1.json",
        arrange=grounded(lambda tree: (tree / "grounded_reports_1.json").write_text("[]")),
    ),
    Row(
        "PadChest-GR with reports of another form",
        f"prepare g {OUT}",
        f"g/{PADCHEST_GR_REPORTS} is no list of studies",
        arrange=grounded(lambda tree: (tree / PADCHEST_GR_REPORTS).write_text("{}")),
    ),
    Row(
        "PadChest-GR with odd records",
        f"prepare g {OUT}",
        ("studies    3", "4 became masks", "1 outside of the image", "bad record: 9"),
        code=0,
        arrange=grounded(),
        check=lambda w: (
            ids("1", "2", "3")(w),
            rejected("is not [x1, y1, x2, y2]", "no 'sentence_en'", "unknown split 'holdout'")(w),
        ),
    ),
]

REXRANK = [
    Row(
        "a folder without a file of ReXrank",
        f"prepare images --reader rexrank {OUT}",
        ("images holds no JSON file of ReXrank", "map ids to studies with an 'image_path'"),
        arrange=Workshop.images,
    ),
    Row(
        "a file of ReXrank that is cut off",
        f"prepare k/ReXRank_test.json {OUT}",
        ("k/ReXRank_test.json is not valid JSON", "Fetch the file again"),
        arrange=rank(lambda tree: cut(tree / "ReXRank_test.json", 1_000)),
    ),
    Row(
        "a folder of images that is not there",
        f"prepare k {OUT} --images absent",
        ("no folder absent", "--images"),
        arrange=rank(),
    ),
    Row(
        "a folder that holds no image of ReXrank",
        f"prepare k {OUT} --images images",
        ("no study of", "missing", "images/1/1.png"),
        code=1,
        arrange=lambda w: (rank()(w), w.images()),
    ),
    Row(
        "ReXrank with odd records",
        f"prepare k {OUT}",
        ("studies    6", "bad record: 4", "duplicate id: 1"),
        code=0,
        arrange=rank(),
        check=rejected("unknown split 'fold3'", "no list of paths", "is no text", "no view", "empty report"),
    ),
]

HUGGING_FACE = [
    Row(
        "Parquet without a known column of reports",
        f"prepare h {OUT}",
        (
            "no column 'findings', 'impression' or 'report'",
            "images, caption",
            """--columns '{"report": "caption"}'""",
        ),
        arrange=hub(lambda tree: renamed(tree, ["images", "caption", "note", "images_path"])),
    ),
    Row(
        "Parquet without the column that is named",
        f'prepare h {OUT} --columns \'{{{{"report": "text"}}}}\'',
        ("has no column 'text' to take as 'report'", "Its columns: images, findings"),
        arrange=hub(),
    ),
    Row(
        "Parquet without images",
        f"prepare h {OUT}",
        ("has no column 'image'", "Its columns: findings, impression", "--columns"),
        arrange=hub(only_texts),
    ),
    Row(
        "a Parquet file that is cut off",
        f"prepare h {OUT}",
        ("h/data/test-00000-of-00001.parquet cannot be read", "Fetch it again"),
        arrange=hub(lambda tree: cut(tree / "data/test-00000-of-00001.parquet", 2_000)),
    ),
    Row(
        "a text that is called Parquet",
        f"prepare t.parquet {OUT}",
        "t.parquet cannot be read",
        arrange=lambda w: w.write("t.parquet", "image,report\n"),
    ),
    Row(
        "a text that is called Arrow",
        f"prepare t.arrow {OUT}",
        "t.arrow cannot be read",
        arrange=lambda w: w.write("t.arrow", "image,report\n"),
    ),
    Row(
        "Parquet and Arrow files in one folder",
        f"prepare h {OUT}",
        ("h holds several forms: .arrow, .parquet", "Name a file, or a folder"),
        arrange=hub(lambda tree: write_arrow(tree / "train/data-0.arrow", hub_rows([0]))),
    ),
    Row(
        "a folder without any file of Hugging Face",
        f"prepare images --reader hugging-face {OUT}",
        "images holds no file of Hugging Face: .parquet, .arrow, or metadata.jsonl",
        arrange=Workshop.images,
    ),
    Row(
        "an image folder with rows of images that are not there",
        f"prepare images {OUT}",
        ("studies    1", "bad record: 1", "missing: 1", "no report: 2"),
        code=0,
        arrange=lambda w: (
            w.images(),
            w.write(
                "images/metadata.jsonl",
                '{"file_name": "0.png", "findings": "a"}\n{"file_name": "9.png", "findings": "b"}\nx\n',
            ),
        ),
        check=rejected("metadata.jsonl does not name it"),
    ),
]

ROWS: list[Row] = [*REXGRADIENT, *PADCHEST_GR, *REXRANK, *HUGGING_FACE]
