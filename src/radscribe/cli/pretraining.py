"""Commands that make the parts that systems start from, one for each kind of pretraining."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from radscribe.about import NOTICE
from radscribe.pretraining.registry import PRETRAININGS, PretrainingEntry

_ARGUMENTS = """Args:
    store: Prepared store to learn from.
    out: Directory to write.
    resume: Go on with the interrupted training in --out, with the same result as if it had not been
        interrupted.
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

    def command(
        store: Path, *, out: Path, resume: bool = False, progress: bool = True, **settings: Any
    ) -> None:
        from radscribe.pretraining.loop import pretrain
        from radscribe.studies.store import PreparedStore

        task = entry.task()
        facts = pretrain(
            task, PreparedStore(store), out, entry.settings(**settings), resume=resume, progress=progress
        )
        print(task.summary(facts))
        print(f"{entry.name.replace('-', ' ')}: {out}; {NOTICE}")

    command.__doc__ = f"{entry.summary}\n\n{entry.description}\n\n{_ARGUMENTS}"
    return command


#: The command of each kind of pretraining, by its name.
PRETRAIN = {name: _command(entry) for name, entry in PRETRAININGS.items()}
