"""Parsing of commands: options come from the signature, help from the docstring; errors are one line."""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from docstring_parser import parse as parse_docstring

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError, closest
from radscribe.values import converted, in_words, placeholder, required, written

EPILOG = f"{NOTICE.capitalize()}. Errors say what to type next; documentation in docs/."


@dataclass(frozen=True, slots=True)
class Option:
    """An option, a positional argument or a field.

    Attributes:
        name: Name in Python; the name of a field has dots.
        hint: Type of the value.
        default: Value if the option is not given; `inspect.Parameter.empty` if it must be given.
        positional: Whether the value is given without the option's name.
    """

    name: str
    hint: Any
    default: Any
    positional: bool = False

    @property
    def typed(self) -> str:
        """The option as it is typed; the name in capitals if it is given without a name."""
        return self.name.upper() if self.positional else f"--{self.name}"

    @property
    def required(self) -> bool:
        """Whether the option must be given."""
        return self.default is inspect.Parameter.empty


class Parser(argparse.ArgumentParser):
    """The parser of one command.

    Args:
        command: Function whose parameters are the options, and whose docstring is the help. Parameters before
            `*` are given without a name; those with a default may also be given with it. `**` stands for
            `settings`, or for fields of a configuration; see `add_fields`.
        words: Words that call the command, such as `radscribe bench plan`.
        example: One whole command line.
        settings: Dataclass whose fields all have defaults; each field is an option.
    """

    def __init__(
        self, command: Callable[..., None], words: str, example: str = "", settings: type | None = None
    ):
        self.options: dict[str, Option] = {}
        self._spelling: dict[str, str] = {}
        self._parts: set[str] = set()
        description = inspect.cleandoc(command.__doc__ or "").partition("\nArgs:")[0].strip()
        super().__init__(
            prog=words,
            description=description,
            epilog=f"Example:\n\n  {example}\n\n{EPILOG}" if example else EPILOG,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.example = example
        #: Command that shows all options.
        self.help_command = f"{words} --help"
        hints, texts = get_type_hints(command), documented(command)
        for name, parameter in inspect.signature(command).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:  # these options are not the command's own
                continue
            positional = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            option = Option(name, hints[name], parameter.default, positional)
            self._add(self, option, texts[name])
        if settings:
            self._add_settings(settings)
        self.add_argument("-h", "--help", action="help", help="Show this help and stop.")

    def add_fields(self, name: str, config: Any, text: str = "") -> None:
        """Add an option for each field of a configuration.

        Args:
            name: Name of the configuration, such as `training`.
            config: Dataclass whose values are the defaults.
            text: Description of the group of options; by default the first paragraph of the dataclass's
                docstring.
        """
        hints, texts = get_type_hints(type(config)), documented(type(config))
        group = self.add_argument_group(name, text or first_line(type(config)))
        several = Option(name, dict[str, Any], None)
        self._parts.add(name)
        self._add(group, several, "Several of these fields at once, as a JSON object.")
        nested = []
        for field in fields(config):
            value = getattr(config, field.name)
            dotted = f"{name}.{field.name}"
            if is_dataclass(value):
                nested.append((dotted, value, texts[field.name]))
            else:
                self._add(group, Option(dotted, hints[field.name], value), texts[field.name])
        for dotted, value, text in nested:
            self.add_fields(dotted, value, text)

    def _add_settings(self, settings: Any) -> None:
        hints, texts = get_type_hints(settings), documented(settings)
        for field in fields(settings):
            self._add(self, Option(field.name, hints[field.name], field.default), texts[field.name])

    def parse(self, arguments: Iterable[str], *, strict: bool = True) -> dict[str, Any]:
        """Parse arguments: the given values by name, in the order in which they are typed.

        Args:
            arguments: Words after the words of the command.
            strict: Raise an error for options that do not exist, and for missing options that must be given.

        Raises:
            RadScribeError: an option does not exist, is given twice, lacks its value or has a wrong one.
        """
        words = []
        for argument in arguments:
            if argument == "--":
                raise self._wrong(
                    "'--' is not used here", "Write ./-NAME for a file whose name begins with -"
                )
            word = underscored(argument)
            self._spelling[word.partition("=")[0]] = argument.partition("=")[0]
            words.append(word)
        namespace, others = self.parse_known_intermixed_args(words)
        given = {name: value for name, value in vars(namespace).items() if value is not None}
        if strict:
            for other in others:
                if other.startswith("-"):
                    raise self._unknown(other.partition("=")[0])
            if others:
                hint = "Put quotes around a value with spaces"
                raise self._wrong(f"'{others[0]}' is one word too many for {self.prog}", hint)
            self._check_required(given)
        return given

    def defaults(self) -> dict[str, Any]:
        """The default values by name, of all options that have one."""
        return {name: option.default for name, option in self.options.items() if not option.required}

    def format_usage(self) -> str:
        """One line with the options that must be given."""
        return f"usage: {self._usage()}\n"

    def format_help(self) -> str:
        """The usage, the description, the options by section, and an example."""
        return f"{self.format_usage()}\n{super().format_help()}"

    def error(self, message: str) -> NoReturn:
        """Raise an error of argparse in the words of this module."""
        found = re.match(r"argument (\S+): (.*)", message)
        if found is None:
            raise self._wrong(message)
        names = found[1].split("/")  # all spellings of one option
        name = next((name for name in names if name in self._spelling), names[-1])
        option = self.options.get(name.lstrip("-"))
        if option is None or "explicit argument" in found[2]:
            raise self._wrong(f"{self._spelled(name)} takes no value")
        raise self._wrong(f"{self._spelled(name)} needs {in_words(option.hint)}")

    def _add(self, container: Any, option: Option, text: str) -> None:
        """Add an option to the parser or to a group of it."""
        self.options[option.name] = option
        hint, _ = required(option.hint)
        kind, default = get_origin(hint) or hint, option.default
        help_text = _with_default(text, hint, default).replace("%", "%%")
        metavar = option.name.upper() if option.positional else placeholder(option.hint)
        rest: dict[str, Any] = {"action": _Give, "option": option, "metavar": metavar}
        if kind is bool and "." not in option.name:
            names = [f"--{option.name}", f"--no_{option.name}"]
            shown = names if default else names[:1]
            container.add_argument(*shown, dest=option.name, nargs=0, help=help_text, **rest)
            if not default:
                hidden = argparse.SUPPRESS
                container.add_argument(names[1], dest=option.name, nargs=0, help=hidden, **rest)
            return
        many = {list: "+", tuple: len(get_args(hint)), bool: "?"}.get(kind)
        if option.positional:
            nargs = "*" if kind is list else "?"
            container.add_argument(option.name, nargs=nargs, help=help_text, **rest)
            if not option.required:
                name = f"--{option.name}"
                container.add_argument(name, dest=option.name, help=argparse.SUPPRESS, nargs=many, **rest)
        else:
            container.add_argument(f"--{option.name}", dest=option.name, nargs=many, help=help_text, **rest)

    def _usage(self) -> str:
        words = [self.prog]
        for option in self.options.values():
            if option.positional:
                several = get_origin(option.hint) is list
                word = f"{option.typed} [{option.typed} ...]" if several else option.typed
                words.append(word if option.required else f"[{word}]")
        for option in self.options.values():
            if option.required and not option.positional:
                words.append(f"{option.typed} {placeholder(option.hint)}")
        return " ".join([*words, "[options]"])

    def _check_required(self, given: Mapping[str, Any]) -> None:
        missing = [option for option in self.options.values() if option.required and option.name not in given]
        if missing:
            names = " and ".join(option.typed for option in missing)
            raise self._wrong(
                f"{self.prog} needs {names}", f"Example: {self.example}" if self.example else ""
            )

    def _spelled(self, name: str) -> str:
        return self._spelling.get(name, name)

    def _unknown(self, name: str) -> RadScribeError:
        known = [
            option.name
            for option in self.options.values()
            if not (option.positional and option.required) and option.name not in self._parts
        ]
        close = closest(name.lstrip("-"), known)
        suggestion = f"Did you mean --{close[0]}? " if close else ""
        return RadScribeError(
            f"{self.prog} has no option {self._spelled(name)}",
            f"{suggestion}See {self.help_command}",
        )

    def _wrong(self, message: str, hint: str = "") -> RadScribeError:
        return RadScribeError(message, hint or f"See {self.help_command}")


class _Give(argparse.Action):
    """Convert a given value to the option's type and keep it; a second value is an error."""

    def __init__(self, *, option: Option, **settings: Any):
        super().__init__(default=None, **settings)
        self.option = option

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, name: Any = None
    ) -> None:
        assert isinstance(parser, Parser)
        if values in (None, []) and name is None:
            return  # a positional argument that is not given
        typed = parser._spelled(name or self.option.typed)
        if getattr(namespace, self.dest, None) is not None:
            raise parser._wrong(f"{typed} is given twice")
        if self.nargs == 0:
            value: Any = not str(name).startswith("--no_")
        elif values is None:  # a truth value that is given by its name alone
            value = True
        else:
            try:
                value = converted(values, self.option.hint)
            except ValueError as error:
                raise parser._wrong(f"{typed} {error}") from error
            if self.option.positional and value in ("", [""]):
                raise parser._wrong(f"{typed} is empty")
        # Keep the order in which values are typed, not the order of declaration.
        vars(namespace).pop(self.dest, None)
        setattr(namespace, self.dest, value)


class HelpFormatter(argparse.HelpFormatter):
    """Help in paragraphs; indented lines stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            part if part.startswith(" ") else super(HelpFormatter, self)._fill_text(part, width, indent)
            for part in text.split("\n\n")
        )

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = None) -> None:
        """Add nothing; `Parser.format_usage` gives the usage."""


def underscored(argument: str) -> str:
    """Write the hyphens in an option's name as underscores: `--paper-size` means `--paper_size`."""
    option, equals, value = argument.partition("=")
    if option[:2] != "--":
        return argument
    return option.replace("-", "_").replace("__", "--", 1) + equals + value


def documented(thing: Any) -> dict[str, str]:
    """The docstring texts of a function's parameters, or of the attributes of a class and its base classes.

    Each text begins with a capital letter, even if it does not in the docstring.
    """
    texts = {}
    for owner in reversed(inspect.getmro(thing)) if inspect.isclass(thing) else [thing]:
        for entry in parse_docstring(owner.__doc__ or "").params:
            text = " ".join((entry.description or "").split())
            texts[entry.arg_name] = text[:1].upper() + text[1:] if text[:1].isascii() else text
    return texts


def first_line(thing: Any) -> str:
    """The first paragraph of a docstring."""
    return inspect.cleandoc(thing.__doc__ or "").partition("\n\n")[0]


def _with_default(text: str, hint: Any, default: Any) -> str:
    """The help text of an option, with its choices and its default value."""
    choices = [str(choice) for choice in get_args(hint)] if get_origin(hint) is Literal else []
    if not all(choice in text for choice in choices):
        text = f"{text} One of {', '.join(choices)}."
    if default in (None, "", False, inspect.Parameter.empty):
        return text
    return (
        f"{text} (default: {shlex.quote(written(default)) if isinstance(default, str) else written(default)})"
    )
