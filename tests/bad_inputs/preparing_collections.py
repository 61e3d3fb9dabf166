"""Bad inputs to `prepare` on ReXGradient-160K."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from small_archives import REXGRADIENT_METADATA, rexgradient

from bad_inputs.rows import Row, Workshop
from bad_inputs.sources import DEEP, OUT, rejected


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

ROWS: list[Row] = [*REXGRADIENT]
