"""Help that is read alone, and messages that say what to type: options, fields, and what is close to them."""

import dataclasses
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import pytest

from radscribe.cli import main, measuring, scoring
from radscribe.cli.measuring import TASK_OPTIONS
from radscribe.cli.overview import find_command
from radscribe.cli.parsing import Parser, documented, first_line
from radscribe.cli.table import COMMANDS
from radscribe.errors import SYNONYMS, RadScribeError, closest, unknown_name
from radscribe.pretraining.language_model import PRESETS
from radscribe.pretraining.settings import LanguageModelSettings
from radscribe.recipes import RECIPES, get_recipe
from radscribe.runs.config import SECTIONS, DataConfig, field_names, nested, override
from radscribe.systems.registry import SYSTEMS
from radscribe.text.cleaning import CLEANERS
from radscribe.text.protocols import PROTOCOLS
from radscribe.values import converted, in_words

commands = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
systems = pytest.mark.parametrize("system", SYSTEMS)
#: Words of Python and of parsers that a user need not know.
JARGON = re.compile(r"<class|Union|typing|Parser key|NoneType|\bstr\b|\bint\b|\[\w+,|\{'|argument")


def recipe_parser(recipe: str) -> Parser:
    """The parser of `radscribe train RECIPE`."""
    parser = COMMANDS["train",].parser()
    for section in SECTIONS:
        parser.add_fields(section, getattr(get_recipe(recipe).build(), section))
    return parser


def parse(words: Sequence[str]) -> dict[str, Any]:
    """What the command that the words name is called with."""
    command = find_command(list(words))
    return command.parse(list(words[len(command.words) :]))


def message(*words: str) -> str:
    """What a failing command line says."""
    with pytest.raises(RadScribeError) as caught:
        parse(words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- help --------------------------------------------------------------------------------------------------


def is_sentence(text: str) -> bool:
    return bool(re.match(r"[^a-z]", text)) and text.endswith(".") and len(text.split()) >= 3


@commands
def test_help_is_in_sentences(words):
    command = COMMANDS[words].function
    assert is_sentence(first_line(command))
    assert len(first_line(command).splitlines()) == 1
    texts = documented(command) | documented(COMMANDS[words].settings or command)
    assert {name: text for name, text in texts.items() if not is_sentence(text)} == {}


@systems
def test_help_of_fields_is_in_sentences(system):
    config = get_recipe(f"{system}/phantom").build()
    parts = [getattr(config, section) for section in SECTIONS]
    while parts:
        part = parts.pop()
        texts = documented(type(part))
        assert {name: text for name, text in texts.items() if not is_sentence(text)} == {}
        assert is_sentence(first_line(type(part)))
        values = [getattr(part, field.name) for field in dataclasses.fields(part)]
        parts += [value for value in values if dataclasses.is_dataclass(value)]


@systems
def test_help_of_a_recipe_has_sections(system, capsys):
    with pytest.raises(SystemExit):
        main(["train", f"{system}/phantom", "--help"])
    text = capsys.readouterr().out
    places = [text.index(f"\n{section}:\n") for section in SECTIONS]
    assert places == sorted(places)
    assert text.index("usage: radscribe train RECIPE [options]\n") == 0
    for name in field_names(get_recipe(f"{system}/phantom").build()):
        assert f"--{name} " in text


@commands
def test_examples_parse(words):
    example = shlex.split(COMMANDS[words].parser().example)
    assert example[: len(words) + 1] == ["radscribe", *words]
    assert find_command(example[1:]) is COMMANDS[words]
    parse(example[1:])


def test_the_start_is_three_commands_that_parse(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    first = re.findall(r"^  radscribe (.*)$", text.partition("Commands")[0], re.MULTILINE)
    assert len(first) == 3
    for line in first:
        parse(shlex.split(line))
    for words in COMMANDS:
        assert f"  {' '.join(words)} " in text


def test_the_first_argument_has_two_spellings(capsys):
    for command, name in (("evaluate", "RUN"), ("recipes", "NAME")):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert f"[{name}]" in capsys.readouterr().out.splitlines()[0]
    for words in (["runs/a"], ["--run", "runs/a"], ["--run=runs/a"]):
        assert parse(["evaluate", "--split", "val", *words])["run"] == Path("runs/a")
        assert parse(["evaluate", *words, "--split", "val"])["run"] == Path("runs/a")
    assert "twice" in message("evaluate", "runs/a", "--run", "runs/b")


# --- lists in help are those of the code -------------------------------------------------------------------


def test_variants_are_those_of_the_recipes():
    for name, entry in SYSTEMS.items():
        recipes = [recipe.split("/", 2) for recipe in RECIPES]
        variants = {parts[2] for parts in recipes if parts[0] == name and len(parts) == 3}
        assert set(entry.variants) == variants


def test_choices_are_those_of_the_code():
    def choices(function: Any, name: str) -> set[Any]:
        hint = get_type_hints(function)[name]
        return set(get_args(hint))

    assert choices(DataConfig, "cleaning") == set(CLEANERS)
    assert choices(DataConfig, "protocol") == set(PROTOCOLS)
    (cleanings, _) = get_args(get_type_hints(scoring.evaluate)["cleaning"])
    assert set(get_args(cleanings)) == set(CLEANERS)
    assert choices(LanguageModelSettings, "cleaning") == set(CLEANERS)
    assert choices(LanguageModelSettings, "size") == set(PRESETS)
    (protocols, _) = get_args(get_type_hints(scoring.evaluate)["protocol"])
    assert set(get_args(protocols)) == set(PROTOCOLS)
    (protocols, _) = get_args(get_type_hints(scoring.compare)["protocol"])
    assert set(get_args(protocols)) <= set(PROTOCOLS)
    assert choices(measuring.bench, "task") == set(TASK_OPTIONS)


# --- what was meant ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("synonym", SYNONYMS)
def test_synonyms_lead_to_options_that_are_there(synonym):
    names = {name for recipe in RECIPES.values() for name in field_names(recipe.build())}
    for command in COMMANDS.values():
        names |= set(command.parser().options)
    last = {name.rpartition(".")[2] for name in names}
    assert set(SYNONYMS[synonym]) <= last


@pytest.mark.parametrize(
    ("typed", "meant"),
    {
        "training.lr": "training.learning_rate",
        "training.learning_rates": "training.learning_rate",
        "training.epoch": "training.epochs",
        "training.n_epochs": "training.epochs",
        "training.bs": "training.batch_size",
        "training.beams": "decoding.beams",
        "decoding.num_beams": "decoding.beams",
        "decoding.beam": "decoding.beams",
        "decoding.topk": "decoding.top_k",
        "decoding.max_length": "decoding.maximum_length",
        "max_length": "data.maximum_length",
        "lr": "training.learning_rate",
        "epochs": "training.epochs",
        "top_k": "system.top_k",
        "topk": "system.top_k",
        "seed": "training.seed",
        "output": "out",
        "store_": "store",
        "system.backbone.weight": "system.backbone.weights",
        "system.weights": "system.backbone.weights",
    }.items(),
)
def test_a_field_that_is_close_is_suggested_and_parses(typed, meant):
    error = message("train", "r2gen-cmn/phantom", f"--{typed}", "3")
    (suggestion,) = re.findall(r"Did you mean (--[\w.]+)\?", error)
    assert suggestion == f"--{meant}"
    parser = recipe_parser("r2gen-cmn/phantom")
    assert set(parser.parse(["r2gen-cmn/phantom", suggestion, "3"])) == {"recipe", meant}


@pytest.mark.parametrize("words", [words for words in COMMANDS if words != ("train",)], ids=" ".join)
def test_an_option_with_a_slip_is_suggested_and_parses(words):
    parser = COMMANDS[words].parser()
    for option in parser.options.values():
        if option.positional or len(option.name) < 5:
            continue
        slip = f"--{option.name[:-2]}{option.name[-1]}{option.name[-2]}"
        if slip == f"--{option.name}":
            continue
        error = message(*words, slip)
        (suggestion,) = re.findall(r"Did you mean (--[\w.]+)\?", error)
        assert suggestion == f"--{option.name}"


@pytest.mark.parametrize(
    ("kind", "slip", "known"),
    [
        ("recipe", "r2gen-cmn/fantom", RECIPES),
        ("recipe", "camanet/iu_xray", RECIPES),
        ("system", "r2gencmn", SYSTEMS),
        ("reader", "tabel", ("folder", "phantom", "table")),
        ("command", "evalute", [words[0] for words in COMMANDS]),
        ("command", "generat", [words[0] for words in COMMANDS]),
    ],
)
def test_a_name_with_a_slip_is_suggested(kind, slip, known):
    (suggestion,) = re.findall("Did you mean '(.*?)'", str(unknown_name(kind, slip, known)))
    assert suggestion in known


def test_nothing_is_suggested_where_nothing_is_close():
    assert closest("xyz", ["training.epochs", "out"]) == []


# --- messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    {
        "prepare phantom": "radscribe prepare needs --out. Example: radscribe prepare ",
        "generate": "radscribe generate needs RUN and SOURCE. Example: radscribe generate ",
        "prepare phantom --out x --studies many": "--studies needs a whole number, not 'many'",
        "prepare phantom --out x --studies 3.5": "--studies needs a whole number, not '3.5'",
        "prepare phantom --out x --columns '[1]'": "--columns needs a JSON object, such as",
        "prepare phantom --out x --columns '{\"a\": 1}'": "has a wrong value for 'a': it needs text",
        "prepare phantom --out x --split_fractions 0.5": "--split_fractions needs 3 values, each a number",
        "bench decode --paper-size=no": "--paper-size takes no value",
        "bench decode --threads": "--threads needs a whole number",
        "bench plan x --memory-gb lots": "--memory-gb needs a number, not 'lots'",
        "bench plan x --memory-gb nan": "--memory-gb needs a number, not 'nan'",
        "explain r --out x --study": "--study needs one value or more",
        "generate r s --device cdua": "one of auto, cpu, cuda, not 'cdua' (did you mean cuda?)",
        "train r2gen/phantom --training.betas 0.9": "--training.betas needs 2 values, each a number",
        "train r2gen/phantom --training.amsgrad maybe": "--training.amsgrad needs true or false, not 'maybe'",
        "train r2gen/phantom --system.backbone.output_stride 4": "needs one of 32, 16, 8, not '4'",
        "train r2gen/phantom --nothing 4": "See radscribe train r2gen/phantom --help",
    }.items(),
)
def test_messages_are_in_words(words, says):
    text = message(*shlex.split(words))
    assert says in text
    assert not JARGON.search(text)


def test_both_spellings_and_list_and_tuple_options():
    values = parse(["prepare", "phantom", "--out", "x", "--split-fractions", "0.5", "0.25", "0.25"])
    assert values["split_fractions"] == (0.5, 0.25, 0.25)
    values = parse(["bench", "decode", "--no-paper-size", "--threads=1"])
    assert values["paper_size"] is False
    assert values["threads"] == 1
    values = parse(["explain", "r", "--out", "x", "--study", "A", "B", "--no-together"])
    assert values["study"] == ["A", "B"]
    given = recipe_parser("r2gen/phantom").parse(
        ["r2gen/phantom", "--training", '{"epochs": 3, "seed": 1}', "--training.epochs", "4"]
    )
    given.pop("recipe")
    config = override(get_recipe("r2gen/phantom").build(), nested(given))
    assert (config.training.epochs, config.training.seed) == (4, 1)


# --- values ------------------------------------------------------------------------------------------------


@dataclass
class Example:
    text: str = ""
    number: int = 0
    choice: Literal[1, 2] = 1
    rates: tuple[float, float] = (0.0, 0.0)
    more: dict[str, Any] = field(default_factory=dict)


def test_values():
    hints = get_type_hints(Example)
    assert converted("2", hints["choice"]) == 2
    assert converted([1, "2e-3"], hints["rates"]) == (1.0, 0.002)
    assert converted('{"a": [1]}', hints["more"]) == {"a": [1]}
    assert converted(None, int | None) is None
    assert converted("5e-4", float) == 5e-4
    assert converted("No", bool) is False
    assert in_words(int | None) == "a whole number"
    for value, hint in [
        (True, int),
        ("inf", float),
        (float("nan"), float),
        (1, str),
        ("", Path),
        (None, int),
        (1, hints["rates"]),
        ("[" * 100_000, hints["more"]),
        ("9" * 10_000, int),
        (10**400, float),
    ]:
        with pytest.raises(ValueError, match="^needs "):
            converted(value, hint)


def test_an_override_leaves_its_base_alone():
    base = get_recipe("r2gen/phantom").build()
    changed = override(base, {"training": {"epochs": 3}, "system": {"backbone": {"weights": "none"}}})
    changed.data.views = 7
    assert base.training.epochs != 3
    assert base.data.views != 7
    with pytest.raises(RadScribeError, match=r"training.epochs needs a whole number, not '\[1\]'|not '1'"):
        override(base, {"training": {"epochs": [1]}})
    with pytest.raises(RadScribeError, match="has no field 'recipe'"):
        override(base, {"recipe": "x"})
    with pytest.raises(RadScribeError, match="training needs a JSON object"):
        override(base, {"training": 3})
