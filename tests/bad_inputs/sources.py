"""What the rows on `prepare` have in common: damaged sources and stores, and looks at what came of them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence

from bad_inputs.rows import Row, Workshop

OUT = "--out made --workers 1 --short_side 32"
#: Opens a copy of the shared store, which was made by the same settings.
AGAIN = "prepare phantom --studies 40 --short_side 64 --workers 1 --out store"
DEEP = "[" * 100_000


def table(content: str | bytes, name: str = "images/t.csv") -> Callable[[Workshop], object]:
    """Three images with a table beside them."""

    def arrange(workshop: Workshop) -> None:
        workshop.images()
        workshop.write(name, content)

    return arrange


def files(content: dict[str, str | bytes], images: bool = True) -> Callable[[Workshop], object]:
    """Files in a folder of three images, or without images."""

    def arrange(workshop: Workshop) -> None:
        if images:
            workshop.images()
        for name, text in content.items():
            workshop.write(f"images/{name}", text)

    return arrange


def pipe(name: str) -> Callable[[Workshop], object]:
    """A named pipe in a folder of three images: whoever opens it waits for ever."""

    def arrange(workshop: Workshop) -> None:
        os.mkfifo(workshop.images() / name)

    return arrange


def rejected(*reasons: str, folder: str = "made") -> Callable[[Workshop], None]:
    """Checks that `rejected.csv` has each of these among its reasons."""

    def check(workshop: Workshop) -> None:
        with open(workshop.path / folder / "rejected.csv", newline="") as file:
            found = [row["reason"] for row in csv.DictReader(file)]
        assert [reason for reason in reasons if not any(reason in text for text in found)] == [], found

    return check


def ids(*expected: str) -> Callable[[Workshop], None]:
    """Checks which studies the store has."""

    def check(workshop: Workshop) -> None:
        with open(workshop.path / "made" / "splits.csv", newline="") as file:
            assert [row["study"] for row in csv.DictReader(file)] == list(expected)

    return check


def manifest(change: Callable[[dict], object]) -> Callable[[Workshop], object]:
    """A copy of the store with another manifest."""

    def arrange(workshop: Workshop) -> None:
        file = workshop.copy_store() / "manifest.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return arrange


def store_file(name: str, change: Callable[[bytes], bytes | None]) -> Callable[[Workshop], object]:
    """A copy of the store with one file changed, or removed."""

    def arrange(workshop: Workshop) -> None:
        file = workshop.copy_store() / name
        content = change(file.read_bytes())
        file.unlink() if content is None else file.write_bytes(content)

    return arrange


def prepared(then: Callable[[Workshop], object]) -> Callable[[Workshop], object]:
    """A prepared folder of images, of which something changes afterwards."""
    from radscribe.studies.prepare import prepare

    def arrange(workshop: Workshop) -> None:
        prepare(workshop.images(), workshop.path / "made", short_side=32, workers=1, progress=False)
        then(workshop)

    return arrange


def rows_of(prefix: str, says: str, options: Sequence[str], source: str = "images") -> list[Row]:
    """One row for each option with a value that is out of range."""
    return [
        Row(f"{prefix}: {option}", f"prepare {source} --out made {option}", says, arrange=Workshop.images)
        for option in options
    ]


def refused(
    name: str, says: str | tuple[str, ...], arrange: Callable[[Workshop], object], options: str = ""
) -> Row:
    """A row on the folder `images`, which cannot be prepared as it is."""
    return Row(name, f"prepare images {OUT} {options}", says, arrange=arrange)


def fruitless(
    name: str,
    says: str | tuple[str, ...],
    arrange: Callable[[Workshop], object],
    options: str = "",
    check: Callable[[Workshop], object] = lambda workshop: None,
) -> Row:
    """A row on the folder `images`, of which no study can be used."""
    return Row(name, f"prepare images {OUT} {options}", says, code=1, arrange=arrange, check=check)


def goes_on(
    name: str,
    says: str | tuple[str, ...],
    arrange: Callable[[Workshop], object],
    options: str = "",
    check: Callable[[Workshop], object] = lambda workshop: None,
) -> Row:
    """A row on the folder `images`, in which what is bad costs no more than itself."""
    return Row(name, f"prepare images {OUT} {options}", says, code=0, arrange=arrange, check=check)
