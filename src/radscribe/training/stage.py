"""A stage of a training: a part that the recipe needs, made in the run directory unless it is given.

A part is made in `parts/KIND` of the run directory, as `radscribe pretrain KIND` makes it. A finished part is
used again, and an unfinished one goes on, if it is of the same store and settings; otherwise it is refused.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from radscribe.errors import InterruptionError, RadScribeError
from radscribe.files import read_json_object, sha256_of
from radscribe.interruption import LOCK, empty
from radscribe.parts.part import PART
from radscribe.pretraining.facts import FACTS, differences, usual_settings
from radscribe.pretraining.registry import PRETRAININGS, PretrainingEntry
from radscribe.recipes.registry import get_recipe
from radscribe.runs.config import RunConfig
from radscribe.runs.run_directory import RunDirectory
from radscribe.studies.store import PreparedStore
from radscribe.text.language_model_files import LanguageModelFiles

#: Stages in their order, as far as it matters; further ones follow.
_ORDER = (
    "language-model",
    "observation-classifier",
    "retriever",
    "phrases",
    "disease-queries",
    "visual-bank",
    "report-bank",
)
#: Settings of parts that follow a field of the configuration, unless the recipe says otherwise.
_FOLLOWED = {
    "section": "data.section",
    "cleaning": "data.cleaning",
    "short_side": "data.transform.short_side",
    "crop": "data.transform.crop",
    "seed": "training.seed",
    "threads": "training.threads",
    "device": "training.device",
}
_AGAIN = "Take it from a copy, or remove its directory, and the stage makes it anew"


@dataclass(frozen=True, slots=True)
class State:
    """How far a stage is.

    Attributes:
        name: `given` if the configuration names the part, so that the stage makes nothing.
        words: The state in words.
        different: The settings, or the store, that the part was made with and that are not those that are
            asked for, in words. Empty if there are none, or if there is no part.
    """

    name: Literal["given", "missing", "unfinished", "finished"]
    words: str
    different: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """A part that a recipe needs.

    Attributes:
        kind: Kind of the part, which is its name in `radscribe pretrain`.
        option: Option of `radscribe train` that names the part; empty if the system does not use it, and only
            another part is made of it.
        given: The part that the configuration names; if empty, the stage makes it.
        path: The directory that the stage writes.
        settings: Settings that the part is made with.
    """

    kind: str
    option: str
    given: str
    path: Path
    settings: Any

    @property
    def entry(self) -> PretrainingEntry:
        """The kind of pretraining that makes the part."""
        return PRETRAININGS[self.kind]

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that are not the defaults of `radscribe pretrain`."""
        usual = usual_settings(self.settings)
        values = {name: getattr(self.settings, name) for name in usual}
        return {name: value for name, value in values.items() if value != usual[name]}

    def state(self, store: PreparedStore | None) -> State:
        """How far the stage is.

        Args:
            store: The prepared store to learn from; None leaves it out of the comparison.

        Raises:
            RadScribeError: what is in the directory is damaged, or no part.
        """
        if self.given:
            return State("given", f"given by {self.option}: {self.given}")
        found = sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []
        if found in ([], [LOCK]):
            return State("missing", "missing")
        if FACTS not in found:
            raise RadScribeError(
                f"there is something in '{self.path}' that no stage made, such as '{found[0]}'",
                f"Remove it, or give the part by {self.option}" if self.option else "Remove it",
            )
        before = read_json_object(self.path / FACTS, _AGAIN)
        try:
            different = self._different(before, store)
            finished, epochs = before["finished"], before["settings"].get("epochs")
        except (KeyError, TypeError, AttributeError) as error:
            raise RadScribeError(
                f"'{self.path / FACTS}' is damaged ({type(error).__name__}: {error})", _AGAIN
            ) from error
        if finished:
            return State("finished", f"finished, content hash {self.content_hash()[:12]}", different)
        return State("unfinished", self._progress(epochs), different)

    def _different(self, before: Mapping[str, Any], store: PreparedStore | None) -> list[str]:
        """What the part that is there was made with, and is not asked for now; in words."""
        texts = getattr(self.settings, "text", None) or ()
        now = {
            "kind": self.kind,
            "settings": self.settings.recorded(),
            "store_content_hash": store.manifest["content_hash"] if store else before["store_content_hash"],
            "text_files": [{"file": file, "sha256": sha256_of(Path(file))} for file in texts],
        }
        return differences(before, now, usual_settings(self.settings))

    def _progress(self, epochs: int | None) -> str:
        if epochs is None:
            return "unfinished"
        from radscribe.pretraining.loop import epochs_done

        done = epochs_done(self.path)
        if done is None:
            return f"unfinished, before the first checkpoint of {epochs} epochs"
        return f"unfinished at epoch {min(done + 1, epochs)} of {epochs}"

    def content_hash(self) -> str:
        """The hash of the content of the finished part.

        Raises:
            RadScribeError: a file is missing or damaged.
        """
        if self.kind == "language-model":
            return LanguageModelFiles.find(str(self.path)).record().sha256
        return str(read_json_object(self.path / PART, _AGAIN).get("content_hash"))

    def check(self, state: State) -> None:
        """Check that the part that is there, finished or not, is the one that is asked for.

        Raises:
            RadScribeError: it was made with other settings or from another store; the error names each
                difference.
        """
        if not state.different:
            return
        usable = state.name == "finished" and self.option
        use = f", or use it as it is: {shlex.join([self.option, str(self.path)])}" if usable else ""
        raise RadScribeError(
            f"the {self.kind} in '{self.path}' was {'made' if state.name == 'finished' else 'begun'} with "
            f"other settings or data: {'; '.join(state.different)}",
            f"Remove it, and the stage makes it anew: {shlex.join(['rm', '-r', str(self.path)])}{use}",
        )

    def run(self, state: State, store: PreparedStore, *, progress: bool, command: str) -> str:
        """Make the part, or go on with it.

        Args:
            state: How far it is: missing or unfinished.
            store: The prepared store to learn from.
            progress: Show the progress.
            command: Command that goes on after an interruption.

        Returns:
            A summary of what was learnt.

        Raises:
            RadScribeError: the part cannot be made.
            InterruptionError: it was stopped by Ctrl-C; the error says what is saved.
        """
        unfinished = state.name == "unfinished"
        if unfinished and not self.entry.trained:
            empty(self.path)  # a part that is counted begins again
        try:
            return self.entry.make(
                store, self.path, self.settings, progress=progress, resume=unfinished, command=command
            )
        except InterruptionError:
            raise
        except RadScribeError as error:
            other = (
                f". A part with other settings is made by radscribe pretrain {self.kind} {store.path} "
                f"--out DIR: pass {self.option} DIR"
            )
            raise RadScribeError(
                f"stage {self.kind}: {error}",
                f"Go on once this is put right: {command}{other if self.option else ''}",
            ) from error


def stages_of(config: RunConfig, out: Path | str) -> list[Stage]:
    """The parts that a configuration needs, and those that these are made of, in the order of their making.

    Args:
        config: The configuration; an empty field of a part lets its stage make it.
        out: The run directory.
    """
    recipe, directories = get_recipe(config.recipe).stages, RunDirectory(out).stages
    option_of = {kind: f"--system.{field}" for field, kind in config.system.made_of_a_store.items()}
    given = {kind: attrgetter(field)(config.system) for field, kind in config.system.made_of_a_store.items()}
    for kind in [kind for kind, place in given.items() if not place]:
        for value in recipe.get(kind, {}).values():
            if value in PRETRAININGS:
                given.setdefault(value, "")
    # A setting that names another stage stands for what that stage makes, or for what is given for it.
    place_of = {kind: place or str((directories / kind).absolute()) for kind, place in given.items()}
    stages = []
    for kind, place in given.items():
        settings = PRETRAININGS[kind].settings
        own = {name: place_of.get(value, value) for name, value in recipe.get(kind, {}).items()}
        names = {entry.name for entry in fields(settings)}
        followed = {name: attrgetter(source)(config) for name, source in _FOLLOWED.items() if name in names}
        stages.append(
            Stage(
                kind=kind,
                option=option_of.get(kind, ""),
                given=place,
                path=directories / kind,
                settings=settings(**followed | own),
            )
        )
    return sorted(stages, key=lambda stage: _ORDER.index(stage.kind) if stage.kind in _ORDER else len(_ORDER))
