"""Checking that a prepared store has not changed: every file, and every view by its hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.studies.store import PreparedStore
from radscribe.studies.store_files import MASKS, PIXELS, REJECTED, SPLITS_FILE, STUDIES

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Checked:
    """One part of a run or a store that was checked.

    Attributes:
        part: The checked part, in words.
        found: What was found there, or what is wrong with it.
        damaged: Whether something is wrong.
    """

    part: str
    found: str
    damaged: bool = False

    @classmethod
    def of(cls, part: str, check: Callable[[], str]) -> Checked:
        """Run one check.

        Args:
            part: The checked part, in words.
            check: Function that returns what was found; a RadScribeError that it raises says what is wrong.
        """
        try:
            return cls(part, check())
        except RadScribeError as error:
            return cls(part, str(error), damaged=True)

    def __str__(self) -> str:
        return f"{'DAMAGED' if self.damaged else 'OK':<8} {self.part}: {self.found}"


def check_store(path: Path) -> list[Checked]:
    """Check every part of a prepared store; this reads the whole store.

    Args:
        path: Folder of the store.
    """
    stores: list[PreparedStore] = []

    def opened() -> str:
        stores.append(PreparedStore(path, sampled=False))
        return f"{len(stores[0])} studies, the content hash is that of the preparation"

    found = [Checked.of(f"{STUDIES}, {SPLITS_FILE}", opened)]
    for store in stores:
        found.append(Checked.of(f"{PIXELS}, {MASKS}", partial(_check_views, store)))
        found.append(Checked.of(REJECTED, partial(_check_rejections, store)))
    return found


def _check_rejections(store: PreparedStore) -> str:
    return f"{len(store.rejections())} rejections"


def _check_views(store: PreparedStore) -> str:
    views = store.views()
    changed = [study.id for study, view in views if not view.whole]
    if changed:
        named = ", ".join(dict.fromkeys(changed[:_NAMED]))
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        raise RadScribeError(
            f"{len(changed)} of {len(views)} views have changed: of {named}{more}", "Prepare the store again"
        )
    return f"{len(views)} views, each with the hash of its preparation"
