"""The reader of Hugging Face data sets: Parquet, Arrow, image folders, and what an export writes."""

from __future__ import annotations

import json
import pickle
import resource
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from archives import pictures, save
from PIL import Image
from small_archives import IMAGE_TYPE, hub_rows, hugging_face, png, write_arrow, write_parquet
from test_export import content

from radscribe.errors import RadScribeError
from radscribe.studies.exports.export import export
from radscribe.studies.given import given_studies
from radscribe.studies.images import original_view, read_view
from radscribe.studies.prepare import prepare
from radscribe.studies.readers import arrow_files
from radscribe.studies.readers.registry import find_reader, open_source
from radscribe.studies.rejection import Rejection
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study, View

PICTURE = next(pictures())


def read(source: Path, **options: object) -> tuple[dict[str, Study], set[tuple[str, str]]]:
    found = list(open_source(source, "hugging-face", **options))
    rejections = [record for record in found if isinstance(record, Rejection)]
    return (
        {record.id: record for record in found if isinstance(record, Study)},
        {(rejection.study_id, rejection.reason) for rejection in rejections},
    )


def table(schema: dict[str, pyarrow.DataType], *rows: tuple[object, ...]) -> pyarrow.Table:
    records = [dict(zip(schema, row, strict=True)) for row in rows]
    return pyarrow.Table.from_pylist(records, schema=pyarrow.schema(list(schema.items())))


def pixels_of(studies: dict[str, Study]) -> list[bytes]:
    return [original_view(view).pixels.tobytes() for study in studies.values() for view in study.views]


# --- Parquet -----------------------------------------------------------------------------------------------


def test_parquet(tmp_path):
    hugging_face(tmp_path)
    studies, rejections = read(tmp_path)
    assert not rejections
    assert {name: study.split for name, study in studies.items()} == {
        "data/test-00000-of-00001/0": "test",
        "data/train-00000-of-00002/0": "train",
        "data/train-00000-of-00002/1": "train",
        "data/train-00000-of-00002/2": "train",
        "data/train-00001-of-00002/0": "train",
        "data/validation-00000-of-00001/0": "val",
    }
    third = studies["data/train-00000-of-00002/2"]
    assert third.sections == {"findings": "Findings 2.", "impression": "Normal."}
    assert studies["data/test-00000-of-00001/0"].sections == {"findings": "Findings 5."}
    assert third.views[1].name == "data/train-00000-of-00002.parquet, row 2, images 1"
    # The third row is the first of the second row group.
    drawn = pictures()
    expected = [next(drawn) for _ in range(6)]
    for number in (1, 0):
        assert (original_view(third.views[number]).pixels == expected[4 + number]).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_of_parquet_has_the_pixels_of_the_rows(tmp_path, workers):
    hugging_face(tmp_path / "hub")
    prepare(tmp_path / "hub", tmp_path / "store", short_side=16, workers=workers, progress=False)
    for split, numbers in (("train", range(4)), ("val", [4]), ("test", [5])):
        stored = PreparedStore(tmp_path / "store").studies(split)
        assert [study.sections["findings"] for study in stored] == [f"Findings {n}." for n in numbers]
    assert len(PreparedStore(tmp_path / "store").studies()[0].views) == 2


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        (IMAGE_TYPE, {"bytes": png(PICTURE), "path": "x.png"}),
        (pyarrow.list_(IMAGE_TYPE), [{"bytes": png(PICTURE), "path": "x.png"}]),
        (pyarrow.large_list(IMAGE_TYPE), [{"bytes": png(PICTURE), "path": "x.png"}]),
        (pyarrow.binary(), png(PICTURE)),
        (pyarrow.large_binary(), png(PICTURE)),
        (pyarrow.list_(pyarrow.binary()), [png(PICTURE)]),
        (pyarrow.struct([("bytes", pyarrow.binary())]), {"bytes": png(PICTURE)}),
        (IMAGE_TYPE, {"bytes": None, "path": "pictures/x.png"}),
        (pyarrow.string(), "pictures/x.png"),
        (pyarrow.list_(pyarrow.string()), ["pictures/x.png"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_forms_of_an_image_column(tmp_path, kind, cell, suffix):
    save(tmp_path / "pictures/x.png", PICTURE)
    write = write_parquet if suffix == "parquet" else write_arrow
    rows = table(
        {"image": kind, "report": pyarrow.string()}, (cell, "Clear."), (None, "Wet."), (cell, "Dry.")
    )
    write(tmp_path / f"t.{suffix}", rows)
    studies, rejections = read(tmp_path / f"t.{suffix}")
    assert list(studies) == ["t/0", "t/2"]
    assert rejections == {("t/1", "no view")}
    assert pixels_of(studies) == [PICTURE.tobytes()] * 2


def test_images_that_are_damaged_or_not_there(tmp_path):
    cells = [png(PICTURE)[:60], b"", b"text", None]
    rows = [({"bytes": cell, "path": "absent.png" if cell is None else None}, "Clear.") for cell in cells]
    rows += [({"bytes": None, "path": None}, "Clear."), ({"bytes": png(PICTURE), "path": None}, "Clear.")]
    write_parquet(tmp_path / "t.parquet", table({"image": IMAGE_TYPE, "report": pyarrow.string()}, *rows))
    summary = prepare(tmp_path / "t.parquet", tmp_path / "store", short_side=16, workers=1, progress=False)
    assert sum(summary.store.studies.values()) == 1
    assert summary.store.rejected == {
        "truncated": 1,
        "empty file": 1,
        "not an image": 1,
        "missing": 1,
        "no image": 1,
    }


def test_rows_of_a_study_become_its_views(tmp_path):
    cell = {"bytes": png(PICTURE), "path": None}
    schema = {
        "study_id": pyarrow.int64(),
        "subject": pyarrow.string(),
        "image": IMAGE_TYPE,
        "text": pyarrow.string(),
        "View": pyarrow.string(),
        "split": pyarrow.string(),
        "Edema": pyarrow.float64(),
    }
    rows = table(
        schema,
        (5, "p", cell, "Wet.", "LATERAL", "validate", 1.0),
        (5, "p", cell, "Wet.", "AP", "validate", 1.0),
        (6, "p", cell, "Clear.", None, "", None),
        (7, "p", cell, "Clear.", "PA", "fold1", None),
    )
    write_parquet(tmp_path / "train.parquet", rows)
    columns = {"study": "study_id", "patient": "subject", "report": "text"}
    studies, rejections = read(tmp_path, columns=columns)
    assert [view.projection for view in studies["5"].views] == ["frontal", "lateral"]
    assert (studies["5"].split, studies["5"].patient_id, studies["6"].split) == ("val", "p", "train")
    assert studies["5"].observations == {"Edema": "present"}
    assert rejections == {("7", "bad record: unknown split 'fold1'")}


def test_the_column_with_images_need_not_be_named(tmp_path):
    write_parquet(tmp_path / "t.parquet", hub_rows([0]).rename_columns(["jpg", "findings", "note", "key"]))
    assert len(read(tmp_path)[0]["t/0"].views) == 2
    twice = table({"a": IMAGE_TYPE, "b": IMAGE_TYPE, "report": pyarrow.string()}, (None, None, "x"))
    write_parquet(tmp_path / "t.parquet", twice)
    with pytest.raises(RadScribeError, match="""no column 'image'.*a, b, report.*--columns '{"image": """):
        read(tmp_path)


def test_a_column_of_reports_is_asked_for(tmp_path):
    rows = hub_rows([0]).rename_columns(["images", "caption", "note", "images_path"])
    write_parquet(tmp_path / "t.parquet", rows)
    with pytest.raises(
        RadScribeError,
        match="no column 'findings', 'impression' or 'report'.*Its columns: images, caption, note, "
        """images_path.*--columns '{"report": "caption"}'""",
    ):
        read(tmp_path)
    assert read(tmp_path, columns={"report": "caption"})[0]["t/0"].sections == {"findings": "Findings 0."}
    with pytest.raises(RadScribeError, match="has no column 'text' to take as 'report'"):
        read(tmp_path, columns={"report": "text"})


def test_images_with_labels_only_serve_drafting(tmp_path):
    cell = {"bytes": png(PICTURE), "path": None}
    rows = table({"image": IMAGE_TYPE, "label": pyarrow.int64()}, (cell, 1))
    write_parquet(tmp_path / "t.parquet", rows)
    (study,) = given_studies(tmp_path / "t.parquet")
    assert (study.id, study.sections) == ("t/0", {})


def test_a_few_rows_are_held_at_a_time(tmp_path):
    """Eight rows of one megabyte, of the forty in the row group."""
    cells = [({"bytes": bytes(2**20), "path": None}, "Clear.") for _ in range(40)]
    rows = table({"image": IMAGE_TYPE, "report": pyarrow.string()}, *cells)
    write_parquet(tmp_path / "t.parquet", rows, rows=40)
    del rows
    before = pyarrow.total_allocated_bytes()
    studies, _ = read(tmp_path)
    assert len(studies) == 40
    assert pyarrow.total_allocated_bytes() - before < 2**20
    column = arrow_files._ParquetColumn(tmp_path / "t.parquet", 0, "image")
    for row in (0, 7, 8, 39, 3):
        assert column.cell(row)["bytes"] == bytes(2**20)
        assert len(column._cells) == 8
        assert pyarrow.total_allocated_bytes() - before < 24 * 2**20


def test_a_data_set_of_many_files(tmp_path):
    """More files than a process may have open at a time."""
    rows = table({"report": pyarrow.string(), "image": pyarrow.string()}, ("Clear.", "a.png"))
    for number in range(40):
        write_parquet(tmp_path / f"{number}.parquet", rows)
        write_arrow(tmp_path / f"arrow/{number}.arrow", rows)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (there + 20, hard))
    try:
        (tmp_path / "arrow").rename(tmp_path.parent / f"{tmp_path.name}-arrow")
        assert len(read(tmp_path)[0]) == len(read(tmp_path.parent / f"{tmp_path.name}-arrow")[0]) == 40
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_source_of_a_view_is_light(tmp_path):
    hugging_face(tmp_path)
    study = next(iter(read(tmp_path)[0].values()))
    original_view(study.views[0])
    assert len(pickle.dumps(study)) < 2_000


def test_a_large_jpeg_in_a_cell_is_reduced_as_a_file_is(tmp_path):
    large = Image.fromarray(PICTURE).resize((530, 401))
    large.save(tmp_path / "a.jpg", quality=95)
    cell = (tmp_path / "a.jpg").read_bytes(), "Clear."
    write_parquet(
        tmp_path / "t/t.parquet", table({"image": pyarrow.binary(), "report": pyarrow.string()}, cell)
    )
    (view,) = read(tmp_path / "t")[0]["t/0"].views
    for reduced in (False, True):
        expected = read_view(View(tmp_path / "a.jpg"), 50, reduced_jpeg=reduced)
        assert read_view(view, 50, reduced_jpeg=reduced).pixels.tobytes() == expected.pixels.tobytes()
    assert read_view(view, 50, reduced_jpeg=True).original_size == (401, 530)


def test_a_file_that_another_has_replaced_is_read_anew(tmp_path):
    path = tmp_path / "t.parquet"
    for value in (10, 200):
        cell = png(np.full((20, 20), value, np.uint8)), "Clear."
        write_parquet(path, table({"image": pyarrow.binary(), "report": pyarrow.string()}, cell))
        assert original_view(read(path)[0]["t/0"].views[0]).pixels[0, 0] == value


# --- Arrow -------------------------------------------------------------------------------------------------


def saved_to_disk(folder: Path) -> None:
    """A folder as `DatasetDict.save_to_disk` leaves it."""
    for split, numbers in (("train", range(3)), ("test", [5])):
        write_arrow(folder / f"{split}/data-00000-of-00001.arrow", hub_rows(numbers))
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
        (folder / f"{split}/state.json").write_text(json.dumps(state))
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')


def test_arrow(tmp_path):
    saved_to_disk(tmp_path)
    write_arrow(tmp_path / "train/cache-0a1b.arrow", hub_rows([0]))
    write_arrow(tmp_path / "train/old.arrow", hub_rows([0]))
    studies, rejections = read(tmp_path)
    assert {name: study.split for name, study in studies.items()} == {
        "test/data-00000-of-00001/0": "test",
        **{f"train/data-00000-of-00001/{number}": "train" for number in range(3)},
    }
    assert rejections == {
        ("cache-0a1b.arrow", "no image: a cache that datasets made for itself"),
        ("old.arrow", "no image: state.json does not name this file"),
    }
    drawn = pictures()
    expected = [next(drawn) for _ in range(6)]
    last = studies["train/data-00000-of-00001/2"]
    assert [original_view(view).pixels.tobytes() for view in last.views] == [
        picture.tobytes() for picture in expected[4:]
    ]


def test_arrow_in_the_form_of_files(tmp_path):
    rows = hub_rows([0])
    with (
        pyarrow.OSFile(str(tmp_path / "x-train.arrow"), "wb") as file,
        pyarrow.ipc.new_file(file, rows.schema) as writer,
    ):
        writer.write_table(rows)
    studies, _ = read(tmp_path)
    assert studies["x-train/0"].split == "train"
    assert len(pixels_of(studies)) == 2


# --- image folders -----------------------------------------------------------------------------------------


def test_image_folders(tmp_path):
    for name in ("train/1.png", "train/a/2.png", "validation/1.png", "validation/3.png"):
        save(tmp_path / name, PICTURE)
    (tmp_path / "train/metadata.jsonl").write_text(
        '{"file_name": "1.png", "text": "Clear."}\n{"file_names": ["a/2.png", "1.png"], "text": "Wet."}\nx\n'
    )
    (tmp_path / "validation/metadata.csv").write_text("file_name,text\n1.png,Dry.\n2.png,Gone.\n")
    (tmp_path / "validation/notes.txt").write_text("x")
    assert find_reader(tmp_path) == "hugging-face"
    studies, rejections = read(tmp_path, columns={"report": "text"})
    assert {name: (study.split, len(study.views)) for name, study in studies.items()} == {
        "train/1": ("train", 1),
        "train/a/2": ("train", 2),
        "validation/1": ("val", 1),
        "validation/2": ("val", 1),
    }
    assert studies["train/a/2"].views[0].source == tmp_path / "train/a/2.png"
    assert {(name, reason.partition(":")[0]) for name, reason in rejections} == {
        ("line 3", "bad record"),
        ("validation/3.png", "no report"),
        ("validation/notes.txt", "no image"),
    }


def test_an_export_is_read_again(store, tmp_path):
    export(PreparedStore(store), tmp_path / "out", "hf", progress=False)
    side = PreparedStore(store).manifest["short_side"]
    summary = prepare(tmp_path / "out", tmp_path / "again", short_side=side, workers=1, progress=False)
    assert summary.store.reader == "hugging-face"
    assert not summary.store.rejected
    assert content(tmp_path / "again") == content(store)


# --- splits, and what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.parquet", "train"),
        ("data/my_validation_file.parquet", "val"),
        ("default/test/0000.parquet", "test"),
        ("test/train-0.parquet", "train"),
        ("dev.parquet", "val"),
        ("eval/0.parquet", "test"),
        ("latest/trains.parquet", None),
    ],
)
def test_splits_by_file_name(tmp_path, name, split):
    write_parquet(tmp_path / name, hub_rows([0]))
    (study,) = read(tmp_path)[0].values()
    assert study.split == split


def test_several_forms_and_none(tmp_path):
    with pytest.raises(RadScribeError, match="holds no file of Hugging Face"):
        read(tmp_path)
    hugging_face(tmp_path)
    write_arrow(tmp_path / "train/data.arrow", hub_rows([0]))
    with pytest.raises(RadScribeError, match="several forms: .arrow, .parquet.*Name a file"):
        read(tmp_path)
    assert len(read(tmp_path / "data")[0]) == 6
    with pytest.raises(RadScribeError, match="no folder .*absent.*--images"):
        read(tmp_path, images=tmp_path / "absent")


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_damaged_files(tmp_path, suffix):
    write = write_parquet if suffix == "parquet" else write_arrow
    path = tmp_path / f"t.{suffix}"
    write(path, hub_rows(range(4)))
    whole = path.read_bytes()
    for damaged in (b"", b"text" * 100, whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(RadScribeError, match=f"t.{suffix} cannot be read.*Fetch it again"):
            read(path)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    write_parquet(tmp_path / "t.parquet", hub_rows([0]))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RadScribeError, match=r"t.parquet needs pyarrow.*radscribe\[parquet\]"):
        read(tmp_path)


def test_paths_in_cells_are_relative_to_the_folder_of_images(tmp_path):
    save(tmp_path / "elsewhere/a.png", PICTURE)
    rows = table({"image": pyarrow.string(), "report": pyarrow.string()}, ("a.png", "Clear."))
    write_parquet(tmp_path / "t.parquet", rows)
    studies, _ = read(tmp_path / "t.parquet", images=tmp_path / "elsewhere")
    assert studies["t/0"].views[0].source == tmp_path / "elsewhere/a.png"
    with Image.open(studies["t/0"].views[0].source) as image:
        assert image.size == PICTURE.shape[::-1]
