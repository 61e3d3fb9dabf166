"""Finding the command that was typed, and the overview of all commands."""

from __future__ import annotations

from shutil import get_terminal_size
from textwrap import fill

from radscribe.about import VERSION
from radscribe.cli.parsing import EPILOG, first_line
from radscribe.cli.pretraining import RENAMED
from radscribe.cli.table import COMMANDS, Command
from radscribe.errors import RadScribeError, closest, unknown_name

#: First steps that `radscribe --help` shows.
START = """\
Start here, with a synthetic data set:
  radscribe prepare phantom --out stores/phantom --studies 400
  radscribe train r2gen-cmn/phantom --store stores/phantom --out runs/phantom
  radscribe page runs/phantom --out phantom.html"""


def find_command(arguments: list[str]) -> Command:
    """The command that the arguments name.

    Args:
        arguments: Words after `radscribe`.

    Raises:
        RadScribeError: there is no such command.
        SystemExit: help or the version was asked for and has been printed.
    """
    for words, kind in RENAMED.items():
        if tuple(arguments[: len(words)]) == words:
            now = f"radscribe pretrain {kind}"
            raise RadScribeError(f"radscribe {' '.join(words)} is {now} now", f"Type {now} STORE --out DIR")
    for count in (2, 1):
        if command := COMMANDS.get(tuple(arguments[:count])):
            return command
    # Several commands may begin with the first word, such as `interop`.
    group = tuple(word for word in arguments[:1] if any(words[0] == word for words in COMMANDS))
    commands = [command for words, command in COMMANDS.items() if words[: len(group)] == group]
    program = " ".join(["radscribe", *group])
    word = "".join(arguments[len(group) : len(group) + 1])
    if word in ("-h", "--help"):
        print(_overview(program, commands))
        raise SystemExit(0)
    if word == "--version" and not group:
        print(f"radscribe {VERSION}")
        raise SystemExit(0)
    known = {command.words[len(group)] for command in commands}
    if word.startswith("-"):
        close = closest(word.lstrip("-"), ["help", "version"])
        suggestion = f"Did you mean --{close[0]}? " if close else ""
        raise RadScribeError(f"{program} has no option {word}", f"{suggestion}See {program} --help")
    if not word:
        raise RadScribeError(f"{program} needs a command", f"Known: {', '.join(sorted(known))}")
    raise unknown_name("command", word, known)


def _overview(program: str, commands: list[Command]) -> str:
    """The help of `radscribe`, or of a first word that several commands share."""
    wide = max(len(command.name) for command in commands) + 4
    width = get_terminal_size().columns - 2
    lines = [
        fill(
            first_line(command.function),
            width,
            initial_indent=f"  {command.name}".ljust(wide),
            subsequent_indent=" " * wide,
        )
        for command in commands
    ]
    parts = [
        f"usage: {program} COMMAND [options]",
        "From chest X-ray studies to draft radiology reports.",
        *([START] if program == "radscribe" else []),
        "\n".join(["Commands; add --help to a command to see its options:", *lines]),
        fill(EPILOG, width),
    ]
    return "\n\n".join(parts)
