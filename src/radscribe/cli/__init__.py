"""The command line: it runs commands, and turns errors into one line and an exit code.

`table.py` lists the commands. Each command is one function in the file of its group; its signature and
docstring give the options and the help. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from typing import NoReturn

from radscribe.cli.overview import find_command
from radscribe.errors import RadScribeError

__all__ = ["main"]

#: Long dashes, which word processors and chat programs put in place of hyphens.
LONG_DASH = re.compile("[‐‑‒–—―−]+-*(?=[a-z])")

#: Exit codes after Ctrl-C, and after a fault of the program.
INTERRUPTED, INTERNAL_ERROR = 130, 70


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. An error that the user can correct is one line on standard error.

    Args:
        arguments: Words after `radscribe`; by default those of the process.

    Raises:
        SystemExit: with code 2 for an error that the user can correct, 130 after Ctrl-C, and 70 for a fault
        of the program. If the environment variable RADSCRIBE_TRACEBACK is set, such a fault is raised itself.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _run(arguments)
    except RadScribeError as error:
        _end(str(error), error.exit_code, error)
    except KeyboardInterrupt as error:
        _end("interrupted", INTERRUPTED, error)
    except BrokenPipeError:  # the reader of our output, such as `head`, stopped reading
        _drop_output()
    except OSError as error:
        _drop_output()
        _end(_said_of_file(error, arguments), 2, error)
    except Exception as error:
        if os.environ.get("RADSCRIBE_TRACEBACK"):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        hint = "Please report it. RADSCRIBE_TRACEBACK=1 in front of the command shows where it happened"
        _end(f"internal error ({reason}). {hint}", INTERNAL_ERROR, error)


def _run(arguments: list[str]) -> None:
    _check_words(arguments)
    _check_streams(arguments)
    command = find_command(arguments)
    command.function(**command.parse(arguments[len(command.words) :]))
    sys.stdout.flush()


def _check_words(arguments: list[str]) -> None:
    """Check that no word has characters that no command accepts.

    Raises:
        RadScribeError: an argument contains a NUL character, or begins with a long dash.
    """
    for argument in arguments:
        if "\0" in argument:
            raise RadScribeError("an argument holds a NUL character", "Check the paths of the command")
        if dash := LONG_DASH.match(argument):
            raise RadScribeError(
                f"'{argument}' begins with a long dash", f"Type --{argument[dash.end() :]} with two hyphens"
            )


def _check_streams(arguments: list[str]) -> None:
    """Check that standard input and output are open, and let the output accept any character.

    Raises:
        RadScribeError: one of them is closed.
    """
    if sys.stdin is None and "-" in arguments:
        raise RadScribeError("standard input is closed", "Give a file, or < FILE")
    if sys.stdout is None:
        raise RadScribeError("standard output is closed", "Write to a file, as in > FILE")
    with suppress(AttributeError):  # what a terminal cannot show is written as \uXXXX
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _end(message: str, code: int, error: BaseException) -> NoReturn:
    print(f"radscribe: {message}", file=sys.stderr)
    raise SystemExit(code) from error


def _drop_output() -> None:
    """Discard output that cannot be written; otherwise Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _said_of_file(error: OSError, arguments: list[str]) -> str:
    """The message of the operating system with the file that it is about; by default, the file of --out."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    if not names and "--out" in arguments[:-1]:
        names = [arguments[arguments.index("--out") + 1]]
    return f"{error.strerror or error}: {' -> '.join(names) or 'standard input or output'}"
