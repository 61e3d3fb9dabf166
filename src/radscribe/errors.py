"""What users are meant to read: what is wrong or doubtful, and what to type next."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class RadScribeError(Exception):
    """Something that the user can put right.

    Args:
        message: one sentence that names the study, file, field or value at fault.
        hint: what to type or to look at next.
        exit_code: what the command line ends with: 2 where the command cannot be run as it was typed, 1 where
            it ran and nothing came of it.
    """

    def __init__(self, message: str, hint: str = "", *, exit_code: int = 2):
        super().__init__(f"{message.rstrip('.')}. {hint}".strip() if hint else message)
        self.exit_code = exit_code


class InterruptionError(RadScribeError):
    """The user stopped a command: what is saved, and how to go on."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message, hint, exit_code=130)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> RadScribeError:
    """The error for a name that is not there: it offers the closest one and lists what exists."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    suggestion = f"Did you mean '{close[0]}'? " if close else ""
    return RadScribeError(f"unknown {kind} '{name}'", f"{suggestion}Known: {', '.join(known) or 'none'}")


def warn(message: str, hint: str) -> None:
    """Tell the user on standard error of something doubtful that stops nothing.

    Args:
        message: one sentence that says what is doubtful.
        hint: what it means, and what to do about it.
    """
    print(f"warning: {message.rstrip('.')}. {hint}", file=sys.stderr)
