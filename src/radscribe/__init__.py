"""RadScribe: from chest X-ray studies to draft radiology reports.

Research use, not for clinical diagnosis.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from radscribe.training.trained_system import TrainedSystem

__version__ = version("radscribe")
#: Stands on every surface.
NOTICE = "research use, not for clinical diagnosis"
__all__ = ["NOTICE", "__version__", "load"]


def load(run: Path | str, device: str = "auto") -> TrainedSystem:
    """Load a trained run: `radscribe.load("runs/demo").generate([...])`.

    See `radscribe.training.trained_system.load`; imported on call, so that `import radscribe` is quick.
    """
    from radscribe.training.trained_system import load as load_run

    return load_run(run, device)
