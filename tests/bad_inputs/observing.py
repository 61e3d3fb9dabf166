"""Bad inputs to `observe` and `regions`."""

from __future__ import annotations

from bad_inputs.rows import Row, Workshop


def _part_of_another_kind(workshop: Workshop) -> None:
    workshop.write("part/part.json", '{"kind": "view-classifier"}')


def _damaged_part(workshop: Workshop) -> None:
    workshop.write("part/part.json", "{")


ROWS: list[Row] = [
    Row(
        "observe with nothing",
        "observe nowhere {store}",
        (
            "neither an observation classifier nor a run in 'nowhere'",
            "radscribe pretrain observation-classifier",
        ),
    ),
    Row("observe with a store", "observe {store} {store}", "neither an observation classifier nor a run in"),
    Row(
        "observe with a run that classifies nothing",
        "observe {run} {store}",
        ("r2gen-cmn/phantom, does not classify observations", "Give a run of camanet"),
    ),
    Row(
        "observe with another part",
        "observe part {store}",
        "'part' is of kind view-classifier, not observation-classifier",
        arrange=_part_of_another_kind,
    ),
    Row(
        "observe with a damaged part",
        "observe part {store}",
        "'part/part.json' is damaged",
        arrange=_damaged_part,
    ),
    Row(
        "observe no image",
        "observe {run} nowhere.png",
        "no study of nowhere.png could be read: no such file or folder: nowhere.png",
    ),
    Row("observe with no batch", "observe {run} {store} --batch 0", "--batch 0 is no number of studies"),
    Row(
        "regions with nothing",
        "regions nowhere {store} --out regions.html",
        ("cannot read 'nowhere/part.json'", "radscribe pretrain disease-queries STORE --out DIR"),
    ),
    Row(
        "regions with another part",
        "regions part {store} --out regions.html",
        "'part' is of kind view-classifier, not disease-queries",
        arrange=_part_of_another_kind,
    ),
    Row(
        "regions of an observation that is none",
        "regions nowhere {store} --out regions.html --observation Edma",
        "Did you mean 'Edema'?",
    ),
    Row(
        "regions of no study",
        "regions nowhere {store} --out regions.html --studies 0",
        "--studies must be at least 1",
    ),
    Row(
        "regions by maps that are none",
        "regions nowhere {store} --out regions.html --maps cam",
        "--maps needs one of grad, grad++, hires",
    ),
    Row(
        "regions into a folder",
        "regions nowhere {store} --out {run}",
        "cannot write a page to",
    ),
    Row(
        "observe a split of images",
        "observe {run} images --split val",
        "--split needs a prepared store",
        arrange=Workshop.images,
    ),
]
