"""The same study gives the same pixels and the same draft from files, from a folder and from its store."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config, tiny_store

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.runs.config import DataConfig
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.trained_system import TrainedSystem, load
from radscribe.runs.views import evaluation_masks, evaluation_views
from radscribe.studies.images import STORE_SHORT_SIDE
from radscribe.studies.prepare import prepare
from radscribe.studies.readers.registry import READERS, Reader, open_source
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import RenderedView, Study, View
from radscribe.training.data import training_views
from radscribe.training.train import train
from radscribe.vision.published_pixels import DEFAULT_PIXELS
from radscribe.vision.transforms import TransformConfig, settled_transform

pytestmark = pytest.mark.usefixtures("without_java")

#: Of the stores here: larger than that of the recipe, so that pixels are resized twice.
SHORT_SIDE = 128
#: Height and width of the pictures: larger and smaller than the store's, as large, upright, lying, square.
SHAPES = [(300, 410), (411, 300), (333, 333), (128, 128), (128, 171), (70, 64), (65, 97), (129, 1031)]


class Drawn:
    """A view that is drawn, without a file and without a decoder."""

    def __init__(self, height: int, width: int):
        self.shape = height, width

    def __call__(self) -> RenderedView:
        rows, columns = np.mgrid[: self.shape[0], : self.shape[1]]
        waves = np.sin(rows / 17 + self.shape[0]) * np.cos(columns / 23 + self.shape[1])
        noise = np.random.default_rng(self.shape).normal(0, 12, self.shape)
        pixels = (128 + 90 * waves + noise).clip(0, 255).astype(np.uint8)
        return RenderedView(pixels, {"Edema": pixels > 140})


def read_drawings(source: Path) -> Iterator[Study]:
    for number, shape in enumerate(SHAPES):
        yield Study(str(number), str(number), (View(Drawn(*shape)),), sections={"findings": "A drawing."})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The drawings as PNG, and every other one with 16 bits as TIFF too."""
    path = tmp_path_factory.mktemp("folder")
    for study in read_drawings(path):
        pixels = study.views[0].source().pixels
        Image.fromarray(pixels).save(path / f"{study.id}.png")
        if int(study.id) % 2:
            Image.fromarray(pixels.astype(np.uint16) * 16 + 7).save(path / f"{study.id}-deep.tif")
    return path


@pytest.fixture(scope="module")
def store(folder, tmp_path_factory) -> PreparedStore:
    """Of the folder."""
    return prepared(folder, tmp_path_factory.mktemp("stores") / "folder")


@pytest.fixture(scope="module")
def store_of_drawings(tmp_path_factory) -> PreparedStore:
    """Of the drawings themselves, with their masks."""
    out = tmp_path_factory.mktemp("stores") / "drawings"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(READERS, "drawings", Reader("drawings", read_drawings, "nothing", lambda source: False))
        return prepared(out.parent, out, reader="drawings")


def prepared(source: Path, out: Path, **options: object) -> PreparedStore:
    prepare(source, out, **{"short_side": SHORT_SIDE, "workers": 1, "progress": False, **options})
    return PreparedStore(out)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A tiny system, one epoch on the phantom, with short drafts."""
    path = tmp_path_factory.mktemp("run")
    config = tiny_config(tiny_store(path / "phantom", short_side=SHORT_SIDE), epochs=1)
    config.decoding.beams, config.decoding.maximum_length = 1, 12
    return train(config, path / "run", progress=False).path


def with_transform(trained: TrainedSystem, **changed: object) -> TrainedSystem:
    transform = dataclasses.replace(trained.config.data.transform, **changed)
    data = dataclasses.replace(trained.config.data, transform=transform)
    return TrainedSystem(trained.system, dataclasses.replace(trained.config, data=data), trained.device)


def drafts(
    trained: TrainedSystem, studies: list[Study] | list[Path]
) -> dict[str, tuple[str, tuple[float, ...]]]:
    return {draft.id: (draft.text, draft.token_logprobs) for draft in trained.generate(studies)}


@pytest.mark.slow
@pytest.mark.parametrize("evaluation", ["center_crop", "squash"])
def test_a_study_is_drafted_alike_from_everywhere(folder, store, store_of_drawings, run, evaluation):
    trained = with_transform(load(run, "cpu"), evaluation=evaluation)
    stored, from_folder = store.studies(), list(open_source(folder))
    from_store = drafts(trained, stored)
    assert len(from_store) == len(from_folder) == len(SHAPES) + len(SHAPES) // 2
    assert drafts(trained, from_folder) == from_store
    files = [folder / study.views[0].source.file for study in stored]
    assert drafts(trained, files) == {str(folder / study): draft for study, draft in from_store.items()}
    drawn = list(read_drawings(folder))
    assert drafts(trained, drawn) == {study.id: from_store[study.id] for study in drawn}
    assert drafts(trained, store_of_drawings.studies()) == drafts(trained, drawn)
    *_, streamed = trained.stream(folder / "3.png")
    assert (streamed.text, streamed.token_logprobs) == drafts(trained, [store.study("3")])["3"]


def test_the_command_line_drafts_alike_from_store_folder_and_files(folder, store, run, capsys):
    """Only ids of files and the places of images are as they were given."""

    def written(*sources: Path) -> dict[str, dict[str, object]]:
        main(["generate", str(run), *map(str, sources), "--device", "cpu"])
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        by_id = {line["id"]: line for line in lines}
        assert len(by_id) == len(lines)
        return by_id

    from_store = written(store.path)
    assert from_store.keys() == {study.id for study in store.studies()}
    in_folder = {
        study: line | {"images": [str(folder / image) for image in line["images"]]}
        for study, line in from_store.items()
    }
    assert written(folder) == in_folder
    assert written(*folder.iterdir()) == {
        str(folder / study): line | {"id": str(folder / study)} for study, line in in_folder.items()
    }


@pytest.mark.parametrize("evaluation", ["center_crop", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize(("short_side", "crop"), [(64, 56), (100, 100), (128, 112), (127, 96)])
def test_pixels_and_masks_are_alike_under_every_transform(
    store_of_drawings, evaluation, interpolation, short_side, crop
):
    transform = TransformConfig(
        store_short_side=SHORT_SIDE,
        short_side=short_side,
        crop=crop,
        interpolation=interpolation,
        evaluation=evaluation,
    )
    data = DataConfig(transform=transform)
    for drawn, stored in zip(read_drawings(Path()), store_of_drawings.studies(), strict=True):
        for views in (
            lambda study: evaluation_views(study, data),
            lambda study: training_views(study, data, np.random.default_rng(0)),
        ):
            (one,), (other,) = views(drawn), views(stored)
            assert one.shape == (crop, crop)
            assert torch.equal(one, other)
        (one,), (other,) = evaluation_masks(drawn, data), evaluation_masks(stored, data)
        assert one["Edema"].shape == (crop, crop)
        np.testing.assert_array_equal(one["Edema"], other["Edema"])


def test_a_run_draws_from_files_as_its_store_had_them(run, store):
    """Not as a store of another size: that size is part of what was trained."""
    trained = load(run, "cpu")
    assert trained.config.data.transform.store_short_side == SHORT_SIDE
    assert RunDirectory(run).load_config().data.transform.interpolation == "bilinear"
    other = with_transform(trained, store_short_side=STORE_SHORT_SIDE)
    study = list(read_drawings(Path()))[:1]
    assert not torch.equal(
        evaluation_views(study[0], trained.config.data)[0], evaluation_views(study[0], other.config.data)[0]
    )


@pytest.mark.parametrize("short_side", [64, 160])
def test_a_store_of_another_short_side_is_refused(folder, store, run, tmp_path, short_side, capsys):
    """Not study by study: the whole store does not fit, and the message says what to type."""
    other = prepared(folder, tmp_path / "other", short_side=short_side)
    message = (
        rf"other.*short side of {short_side} pixels, not of 128.*prepare SOURCE --out STORE --short_side 128"
    )
    rejected = []
    with pytest.raises(RadScribeError, match=message):
        list(load(run, "cpu").generate(other.studies(), on_rejection=rejected.append))
    assert not rejected
    with pytest.raises(RadScribeError, match=message):
        evaluation_views(other.studies()[0], RunDirectory(run).load_config().data)
    with pytest.raises(SystemExit):
        main(["generate", str(run), str(other.path), "--device", "cpu"])
    assert "--short_side 128" in capsys.readouterr().err


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory) -> Path:
    """A folder with one large JPEG and one that is too small to be reduced."""
    path = tmp_path_factory.mktemp("jpegs")
    for name, shape in (("large", (515, 600)), ("small", (300, 410))):
        Image.fromarray(Drawn(*shape)().pixels).save(path / f"{name}.jpg", quality=95)
    return path


def test_reduced_jpegs_have_the_same_pixels_from_files_and_store(jpegs, tmp_path):
    """And others than whole ones, so that neither store takes the place of the other."""
    whole = prepared(jpegs, tmp_path / "whole")
    reduced = prepared(jpegs, tmp_path / "reduced", reduced_jpeg=True)
    assert reduced.study("large").views[0].source.original_size == (515, 600)
    seen = {}
    for store in (whole, reduced):
        transform = TransformConfig(short_side=SHORT_SIDE, crop=112)
        data = DataConfig(transform=settled_transform(transform, store, DEFAULT_PIXELS))
        assert data.transform.store_reduced_jpeg == (store is reduced)
        for study in open_source(jpegs):
            (seen[store.path, study.id],) = evaluation_views(study, data)
            assert torch.equal(seen[store.path, study.id], evaluation_views(store.study(study.id), data)[0])
    assert torch.equal(seen[whole.path, "small"], seen[reduced.path, "small"])
    difference = (seen[whole.path, "large"].int() - seen[reduced.path, "large"]).abs().float()
    assert 0 < difference.mean() < 1
    with pytest.raises(RadScribeError, match="was prepared with reduced_jpeg False, not True"):
        prepared(jpegs, tmp_path / "whole", reduced_jpeg=True)


@pytest.mark.parametrize("known", [False, None])
def test_a_store_of_reduced_jpegs_is_refused_by_a_run_of_whole_ones(jpegs, tmp_path, known):
    """None: the run was trained before there were any."""
    reduced = prepared(jpegs, tmp_path / "reduced", reduced_jpeg=True)
    transform = TransformConfig(store_short_side=SHORT_SIDE, short_side=SHORT_SIDE, crop=112)
    transform.store_reduced_jpeg = known
    for check in (
        lambda: settled_transform(transform, reduced, DEFAULT_PIXELS),
        lambda: evaluation_views(reduced.study("small"), DataConfig(transform=transform)),
    ):
        with pytest.raises(RadScribeError, match="prepared with --reduced_jpeg, not without it as in tr"):
            check()


def test_a_store_smaller_than_the_recipe_needs_is_not_trained_on(tmp_path):
    config = tiny_config(tiny_store(tmp_path / "store", studies=20), epochs=1)
    config.data.transform = TransformConfig(short_side=65, crop=56)
    with pytest.raises(RadScribeError, match=r"short side of 64 pixels; 65 are needed.*--short_side 65"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    config.data.transform = TransformConfig(store_short_side=128, short_side=64, crop=56)
    with pytest.raises(RadScribeError, match=r"short side of 64 pixels, not of 128"):
        train(config, tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match=r"short_side 65 is larger than transform\.store_short_side 64"):
        TransformConfig(store_short_side=64, short_side=65, crop=56)


@pytest.mark.slow
@pytest.mark.parametrize("images", ["open_cxr/images", "iu_xray/images"])
def test_real_images_are_drafted_alike_from_folder_and_store(shared, run, tmp_path, images):
    """Greedy and short; with `-s` it prints how many there are and how many texts differ from each other."""
    source = shared / "data" / images
    trained = load(run, "cpu")
    from_store = drafts(trained, prepared(source, tmp_path / "store").studies())
    from_folder = drafts(trained, list(open_source(source)))
    differing = [study for study, draft in from_store.items() if from_folder.get(study) != draft]
    distinct = len({text for text, _ in from_store.values()})
    print(
        f"{images}: {len(from_store)} studies, {len(differing)} drafted otherwise, {distinct} distinct texts"
    )
    assert from_folder.keys() == from_store.keys()
    assert len(from_store) == sum(path.is_file() for path in source.iterdir())
    assert not differing
