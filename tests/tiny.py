"""Tiny configurations and stores for tests that train: seconds, not minutes."""

from __future__ import annotations

from pathlib import Path

from tiny_language_models import tiny_language_model

from radscribe.recipes import get_recipe
from radscribe.runs.config import RunConfig, override
from radscribe.studies.prepare import prepare


def tiny_store(path: Path, studies: int = 40, short_side: int = 64) -> Path:
    """A prepared phantom store."""
    prepare("phantom", path, short_side=short_side, studies=studies, workers=1, progress=False)
    return path


def tiny_config(store: Path, recipe: str = "r2gen-cmn/phantom", **training) -> RunConfig:
    """A recipe made so small that an epoch over `tiny_store` takes a second."""
    base = get_recipe(recipe).build()
    transformer = {"width": 32, "feed_forward": 48, "heads": 4, "layers": 1, "dropout": 0.1}
    config = override(
        base,
        {
            "data": {"minimum_count": 1, "transform": {"short_side": 64, "crop": 56}},
            "system": {
                "backbone": {"architecture": "test_byobnet", "weights": "none"},
                **(
                    {"language_model": {"name": str(tiny_language_model())}}
                    if base.system.language_model
                    else transformer
                ),
                **({"memory_size": 24, "top_k": 5} if hasattr(base.system, "memory_size") else {}),
                **(
                    {"vision": {"image_size": 56, "patch_size": 14}} if hasattr(base.system, "vision") else {}
                ),
            },
            "training": {"epochs": 2, "batch_size": 4, "threads": 1, "device": "cpu", **training},
            "decoding": {"beams": 2, "maximum_length": 20},
        },
    )
    config.store = str(store)
    return config
