"""Commands that make the parts that systems start from, one for each kind of pretraining."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from radscribe.about import NOTICE
from radscribe.pretraining.registry import PRETRAININGS, PretrainingEntry

_STORE_AND_OUT = """
    store: Prepared store to learn from.
    out: Directory to write."""
_RESUME = """
    resume: Go on with the interrupted training in --out, with the same result as if it had not been
        interrupted."""
_PROGRESS_AND_SETTINGS = """
    progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    **settings: Settings of this kind of pretraining.
"""

#: Kinds of pretraining by the words of the command that earlier versions had for them.
RENAMED = {
    ("pretrain-lm",): "language-model",
    ("train", "view-classifier"): "view-classifier",
    ("train", "masked-autoencoder"): "masked-autoencoder",
}


def _command(entry: PretrainingEntry) -> Callable[..., None]:
    """The command of one kind of pretraining; its help is in the registry."""

    def make(
        store: Path, out: Path, settings: dict[str, Any], *, progress: bool, resume: bool = False
    ) -> None:
        from radscribe.studies.store import PreparedStore

        made_of, chosen = PreparedStore(store), entry.settings(**settings)
        print(entry.make(made_of, out, chosen, progress=progress, resume=resume))
        print(f"{entry.name.replace('-', ' ')}: {out}; {NOTICE}")

    def train(
        store: Path, *, out: Path, resume: bool = False, progress: bool = True, **settings: Any
    ) -> None:
        make(store, out, settings, resume=resume, progress=progress)

    def count(store: Path, *, out: Path, progress: bool = True, **settings: Any) -> None:
        make(store, out, settings, progress=progress)

    command = train if entry.trained else count
    arguments = _STORE_AND_OUT + _RESUME * entry.trained + _PROGRESS_AND_SETTINGS
    command.__doc__ = f"{entry.summary}\n\n{entry.description}\n\nArgs:{arguments}"
    return command


#: The command of each kind of pretraining, by its name.
PRETRAIN = {name: _command(entry) for name, entry in PRETRAININGS.items()}
