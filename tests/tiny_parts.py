"""Parts of a few kilobytes that systems start from, made from a tiny store by the real pretrainings."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from made_once import made_once
from tiny_language_models import tiny_language_model

from radscribe.pretraining.registry import PRETRAININGS
from radscribe.studies.prepare import prepare
from radscribe.studies.store import PreparedStore

_SMALL: dict[str, dict[str, Any]] = {
    "observation-classifier": {"architecture": "test_byobnet", "short_side": 64, "crop": 56, "epochs": 1},
    "retriever": {
        "architecture": "test_byobnet",
        "short_side": 64,
        "crop": 56,
        "width": 16,
        "epochs": 1,
    },
    "phrases": {"minimum_count": 3},
    "disease-queries": {
        "architecture": "test_byobnet",
        "weights": "none",
        "short_side": 64,
        "crop": 56,
        "width": 16,
        "layers": 2,
        "attention_heads": 2,
        "epochs": 1,
    },
    "visual-bank": {"width": 16, "most_rows": 4, "threshold": 0.3, "patch": 14, "device": "cpu"},
    "report-bank": {"width": 16, "rows": 20, "pooling": "embeddings", "device": "cpu"},
}
_TRAINED = {"batch": 8, "threads": 1, "device": "cpu"}


def make_part(kind: str, store: Path, out: Path, **settings: Any) -> Path:
    """Make a part of this kind, with some settings changed; the parts that it needs stand beside `out`."""
    entry = PRETRAININGS[kind]
    needed = {
        "visual-bank": {"queries": str(out.parent / "disease-queries")},
        "report-bank": {"encoder": str(tiny_language_model())},
    }
    chosen = _SMALL[kind] | (_TRAINED if entry.trained else {}) | needed.get(kind, {}) | settings
    entry.make(PreparedStore(store), out, entry.settings(**chosen), progress=False)
    return out


@functools.cache
def tiny_parts() -> dict[str, str]:
    """The directory of a part of each kind, all made from one store of 40 studies."""
    folder = made_once("parts", _make_parts)
    return {kind: str(folder / kind) for kind in _SMALL}


def _make_parts(folder: Path) -> None:
    prepare("phantom", folder / "store", short_side=64, studies=40, workers=1, progress=False)
    for kind in _SMALL:
        make_part(kind, folder / "store", folder / kind)


def store_of_parts() -> Path:
    """The store that the tiny parts were made from."""
    return Path(tiny_parts()["phrases"]).parent / "store"
