"""Bad inputs to `prepare` on stores: damaged ones, and those whose source has changed."""

from __future__ import annotations

import os
from collections.abc import Callable

from bad_inputs.rows import Row
from bad_inputs.sources import (
    AGAIN,
    DEEP,
    fruitless,
    goes_on,
    ids,
    manifest,
    prepared,
    refused,
    rejected,
    store_file,
)


def _without(name: str) -> Callable[[dict], object]:
    return lambda content: content.pop(name)


STORES = [
    *(
        Row(
            f"a manifest without {name}",
            AGAIN,
            f"manifest.json is damaged: it has no valid field '{name}'",
            arrange=manifest(_without(name)),
        )
        for name in ("complete", "source", "short_side", "seed", "bytes", "content_hash", "counts")
    ),
    Row(
        "a manifest without sizes",
        AGAIN,
        "it has no valid field 'pixels.bin'",
        arrange=manifest(lambda content: content["bytes"].pop("pixels.bin")),
    ),
    Row(
        "reduced JPEGs for a store of whole ones",
        AGAIN + " --reduced_jpeg",
        ("the store store was prepared with reduced_jpeg False, not True", "Use another --out"),
        arrange=manifest(_without("reduced_jpeg")),
    ),
    Row(
        "a manifest without format",
        AGAIN,
        "the store store has format None",
        arrange=manifest(_without("format")),
    ),
    Row(
        "a manifest of another format",
        AGAIN,
        "has format 99",
        arrange=manifest(lambda content: content.update(format=99)),
    ),
    Row(
        "a manifest that is cut",
        AGAIN,
        "manifest.json' is damaged",
        arrange=store_file("manifest.json", lambda text: text[:99]),
    ),
    Row(
        "a manifest that is a list",
        AGAIN,
        "manifest.json' is damaged",
        arrange=store_file("manifest.json", lambda text: b"[]"),
    ),
    Row(
        "a manifest that is too deep",
        AGAIN,
        "manifest.json' is damaged",
        arrange=store_file("manifest.json", lambda text: DEEP.encode()),
    ),
    Row(
        "a manifest that is no text",
        AGAIN,
        "manifest.json' is damaged",
        arrange=store_file("manifest.json", lambda text: b"\xff\xfe\xff"),
    ),
    Row(
        "a store without a manifest",
        AGAIN,
        "holds no prepared store",
        arrange=store_file("manifest.json", lambda text: None),
    ),
    *(
        Row(
            f"a store without {name}",
            AGAIN,
            (f"store/{name}", "missing"),
            arrange=store_file(name, lambda text: None),
        )
        for name in ("pixels.bin", "masks.bin", "rejected.csv", "sources.jsonl")
    ),
    *(
        Row(
            f"a store without {name}",
            AGAIN,
            f"cannot read store/{name}",
            arrange=store_file(name, lambda text: None),
        )
        for name in ("studies.jsonl", "splits.csv")
    ),
    *(
        Row(
            f"a store whose {name} is cut",
            AGAIN,
            (f"store/{name} is missing or has not its", "prepare it again"),
            arrange=store_file(name, lambda text: text[:99]),
        )
        for name in ("pixels.bin", "masks.bin")
    ),
    *(
        Row(
            f"a store whose {name} is cut",
            AGAIN,
            "was changed after preparation",
            arrange=store_file(name, lambda text: text[:99]),
        )
        for name in ("studies.jsonl", "splits.csv")
    ),
    Row(
        "a list of rejections with other columns",
        AGAIN,
        "rejected.csv is missing or damaged",
        arrange=store_file("rejected.csv", lambda text: b"study,source\na,b\n"),
    ),
    Row(
        "a list of sources that is cut",
        AGAIN,
        "sources.jsonl, line 1 is damaged",
        arrange=store_file("sources.jsonl", lambda text: text[:20]),
    ),
    Row(
        "a list of sources that is too deep",
        AGAIN,
        "sources.jsonl, line 1 is damaged",
        arrange=store_file("sources.jsonl", lambda text: DEEP.encode()),
    ),
    Row(
        "an update of a store that is cut",
        f"{AGAIN} --update",
        "pixels.bin is missing or has not its",
        arrange=store_file("pixels.bin", lambda text: text[:99]),
    ),
]

STALE = [
    refused(
        "a source with a new image",
        ("changed since the store made was prepared: 1 added (9)", "--update"),
        prepared(lambda w: w.write("images/9.png", (w.path / "images/0.png").read_bytes())),
    ),
    refused(
        "a source with another image",
        "1 changed (0: size of an image)",
        prepared(lambda w: w.write("images/0.png", "no image")),
    ),
    refused(
        "a source with a later image",
        "1 changed (0: modification time of an image)",
        prepared(lambda w: os.utime(w.path / "images/0.png", (1, 1))),
    ),
    refused(
        "a source without an image", "1 removed (0)", prepared(lambda w: (w.path / "images/0.png").unlink())
    ),
    refused(
        "a source with another file",
        "1 rejected differently (x.pdf)",
        prepared(lambda w: w.write("images/x.pdf", "x")),
    ),
    goes_on(
        "an update to a source with another image",
        ("1 changed (0: size of an image)", "studies    2"),
        prepared(lambda w: w.write("images/0.png", "no image")),
        options="--update",
        check=rejected("not an image"),
    ),
    goes_on(
        "an update to a source that lost an image",
        ("1 removed (0)", "removed: 1", "studies    2"),
        prepared(lambda w: (w.path / "images/0.png").unlink()),
        options="--update",
        check=rejected("removed: the source no longer has it"),
    ),
    fruitless(
        "an update to a source that lost all",
        "no study of",
        prepared(lambda w: [w.write(f"images/{number}.png", "") for number in range(3)]),
        options="--update",
        check=ids("0", "1", "2"),
    ),
    refused(
        "an update with other settings",
        "was prepared with seed 0, not 3",
        prepared(lambda w: None),
        options="--seed 3 --update",
    ),
]

ROWS: list[Row] = [*STORES, *STALE]
