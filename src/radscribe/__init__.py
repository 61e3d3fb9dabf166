"""RadScribe: from chest X-ray studies to draft radiology reports.

Research use, not for clinical diagnosis.

The names in `__all__` are the interface for Python. Each name is imported when it is first used, so that
`import radscribe` is quick and does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from radscribe.about import NOTICE, VERSION

if TYPE_CHECKING:
    from radscribe.api import evaluate, explain, generate, train
    from radscribe.errors import RadScribeError
    from radscribe.runs.trained_system import load
    from radscribe.studies.prepare import prepare
    from radscribe.studies.store import PreparedStore
    from radscribe.studies.study import Study, View

__version__ = VERSION
__all__ = [
    "NOTICE",
    "PreparedStore",
    "RadScribeError",
    "Study",
    "View",
    "__version__",
    "evaluate",
    "explain",
    "generate",
    "load",
    "prepare",
    "train",
]

_MODULES = {
    "PreparedStore": "radscribe.studies.store",
    "RadScribeError": "radscribe.errors",
    "Study": "radscribe.studies.study",
    "View": "radscribe.studies.study",
    "evaluate": "radscribe.api",
    "explain": "radscribe.api",
    "generate": "radscribe.api",
    "load": "radscribe.runs.trained_system",
    "prepare": "radscribe.studies.prepare",
    "train": "radscribe.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'radscribe' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)
