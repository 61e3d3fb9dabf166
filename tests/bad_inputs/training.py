"""Bad inputs to `train`, the trainings of parts, `bench` and `interop`."""

from __future__ import annotations

import json

from bad_inputs.rows import Row, Workshop


def no_run(workshop: Workshop) -> None:
    """Nothing is left that a second try would stumble over."""
    assert not (workshop.path / "out").exists()


def labels(workshop: Workshop, values: object) -> None:
    """A label file in JSON with the same values for a study that is not in the store."""
    workshop.write("labels.json", json.dumps({"CXR1_IM-0001": values}))


ROWS: list[Row] = [
    Row(
        "a warm-up that begins above the learning rate",
        "train r2gen-cmn/phantom --store {store} --out out --training.warm_up_epochs 1"
        " --training.warm_up_from 0.1",
        ("training.warm_up_from 0.1", "--training.warm_up_from 0"),
        check=no_run,
    ),
    Row(
        "a label file in JSON with 13 values for a study",
        "train camanet/phantom --store {store} --out out --data.labels.source labels.json",
        ("labels.json", "study 'CXR1_IM-0001' has 13 values", "Atelectasis"),
        arrange=lambda workshop: labels(workshop, [0] * 13),
        check=no_run,
    ),
    Row(
        "a label file in JSON with an unknown value",
        "train camanet/phantom --store {store} --out out --data.labels.source labels.json",
        ("labels.json", "study 'CXR1_IM-0001': 'Atelectasis' is 7"),
        arrange=lambda workshop: labels(workshop, [7] * 14),
        check=no_run,
    ),
    Row(
        "a label file in JSON without the studies",
        "train camanet/phantom --store {store} --out out --data.labels.source labels.json",
        ("labels.json", "have no labels in", "the first is 'phantom", "--data.labels.source report"),
        arrange=lambda workshop: labels(workshop, [0] * 14),
        check=no_run,
    ),
]
