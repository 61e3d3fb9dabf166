"""Bad inputs to what reads pixels: images, stores of another size, weights and what they state."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from bad_inputs.rows import Row, Workshop
from radscribe.studies.prepare import prepare
from radscribe.studies.store import PreparedStore


def other_store(workshop: Workshop) -> None:
    prepare("phantom", workshop.path / "other", short_side=96, studies=12, workers=1, progress=False)


def not_finite(workshop: Workshop) -> None:
    values = np.ones((60, 60), np.float32)
    values[3, 4] = np.nan
    Image.fromarray(values).save(workshop.images() / "nan.tif")


def beyond_any_picture(workshop: Workshop) -> None:
    with open(workshop.images() / "sparse.bmp", "wb") as file:
        file.truncate(10**12)


def endless_link(workshop: Workshop) -> None:
    workshop.write("table.csv", "image,report\nimages/0.png,Clear.\nimages/loop.png,Clear.\n")
    link = workshop.images() / "loop.png"
    link.symlink_to(link)


def three_studies_are_left(workshop: Workshop) -> None:
    assert [study.id for study in PreparedStore(workshop.path / "out").studies()] == ["0", "1", "2"]


def strange_statement(workshop: Workshop) -> None:
    workshop.write("weights/model.safetensors", b"")
    workshop.write("weights/config.json", json.dumps(["no", "statement"]))


def nothing_began(workshop: Workshop) -> None:
    assert not (workshop.path / "out").exists()


TINY = "--data.transform.short_side 64 --data.transform.crop 56 --training.epochs 1 --training.device cpu"
TRAIN = "train r2gen-cmn/phantom --store {store} --out out "

ROWS: list[Row] = [
    Row(
        "a store of another short side than the run's",
        "generate {run} other --device cpu",
        (
            "the store other",
            "96 pixels, not of 64 as in training",
            "prepare SOURCE --out STORE --short_side 64",
        ),
        arrange=other_store,
    ),
    Row(
        "a store that is smaller than the recipe needs",
        TRAIN,
        ("store", "64 pixels; 108 are needed (transform.short_side)", "--short_side 108"),
        check=nothing_began,
    ),
    Row(
        "a store that is smaller than the view classifier needs",
        "pretrain view-classifier {store} --out out",
        ("64 pixels; 128 are needed", "--short_side 128"),
        check=nothing_began,
    ),
    Row(
        "a short side of the store that is not the store's",
        TRAIN + TINY + " --data.transform.store_short_side 72",
        ("64 pixels, not of 72", "--short_side 72"),
        check=nothing_began,
    ),
    Row(
        "reduced JPEGs, which the store has not",
        TRAIN + TINY + " --data.transform.store_reduced_jpeg true",
        ("without --reduced_jpeg, not with it as in training", "--out STORE --reduced_jpeg"),
        check=nothing_began,
    ),
    Row(
        "weights with a damaged statement of their pixels",
        TRAIN + TINY + " --system.backbone.weights weights/model.safetensors",
        ("cannot read 'weights/config.json'", "a folder of their own"),
        arrange=strange_statement,
        check=nothing_began,
    ),
    Row(
        "weights that are no weights",
        TRAIN + TINY + " --system.backbone.weights noise.pth",
        (
            "the weights file 'noise.pth' could not be loaded into test_resnet",
            "Pass a file of this architecture",
        ),
        arrange=lambda workshop: workshop.write("noise.pth", b"noise" * 99),
        check=nothing_began,
    ),
    Row(
        "a picture with values that are not finite, among others",
        "prepare images --out out --workers 1",
        ("damaged: 1", "studies    3"),
        code=0,
        arrange=not_finite,
        check=three_studies_are_left,
    ),
    Row(
        "a file beyond any picture, among others",
        "prepare images --out out --workers 1",
        ("too large: 1", "studies    3"),
        code=0,
        arrange=beyond_any_picture,
        check=three_studies_are_left,
    ),
    Row(
        "an image that is an endless link, among others",
        "prepare table.csv --out out --workers 1",
        ("not readable: 1", "studies    1"),
        code=0,
        arrange=endless_link,
    ),
]
