"""What a run directory says of itself that was made from a released checkpoint."""

from __future__ import annotations

import time
from typing import Any

import torch

from radscribe.about import VERSION


def released_facts(recipe: str, system: str, source: str) -> dict[str, Any]:
    """The content of `run.json`.

    Args:
        recipe: Recipe of the released form.
        system: Name of the system.
        source: The file or files that it was made from.
    """
    return {
        "radscribe": VERSION,
        "recipe": recipe,
        "system": system,
        "store": "",
        "store_source": f"released checkpoint {source}",
        "torch": torch.__version__,
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "finished": True,
    }
