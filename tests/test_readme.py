"""The README's commands run, and what README and documentation name is there."""

import ast
import csv
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import house
import pytest
from PIL import Image

from radscribe.cli import main
from radscribe.cli.overview import find_command
from radscribe.cli.table import COMMANDS
from radscribe.errors import RadScribeError
from radscribe.interruption import LOCK
from radscribe.recipes import RECIPES, get_recipe
from radscribe.runs.config import SECTIONS, field_names
from radscribe.studies.phantom.reader import read_phantom
from radscribe.systems.registry import SYSTEMS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

STUDIES = 24


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def code_spans(page: Path) -> list[str]:
    """The inline code outside fenced blocks."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def commands(page: Path) -> Iterator[list[str]]:
    """The words after `radscribe` of every command in a page's bash blocks."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["radscribe"]:
                yield words[1:]


# --- the README runs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def after_the_readme(tmp_path_factory) -> Path:
    """A folder in which the README's bash blocks ran, on a few phantom studies as a user would have them."""
    folder = tmp_path_factory.mktemp("readme")
    write_studies(folder / "my_studies")
    for block in blocks(README, "bash"):
        if "make" not in block.split():
            run(folder, shutil.which("bash"), "-e", "-c", block)
    return folder


def write_studies(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    with (folder / "reports.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "report", "study", "patient", "view"])
        for study in read_phantom(STUDIES):
            for view in study.views:
                name = f"images/{study.id}-{'pa' if view.projection == 'frontal' else 'lateral'}.png"
                Image.fromarray(view.source().pixels).save(folder / name)
                table.writerow(
                    [name, study.sections["findings"], study.id, study.patient_id, view.projection]
                )


def run(folder: Path, *command: str) -> str:
    """Run a command as someone without Java, whose start alone would double the time of this file."""
    environment = {**os.environ, "PATH": str(Path(sys.executable).parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_bash_blocks_draft_every_image(after_the_readme):
    drafts = [json.loads(line) for line in (after_the_readme / "drafts.jsonl").read_text().splitlines()]
    images = {path.stem for path in (after_the_readme / "my_studies/images").iterdir()}
    assert len(images) > STUDIES
    assert {draft["id"] for draft in drafts} == images
    assert all(draft["text"].strip() for draft in drafts)


def test_the_bash_blocks_leave_a_scored_run_and_its_page(after_the_readme):
    metrics = json.loads((after_the_readme / "runs/mine/metrics.json").read_text())
    assert {"system", "constant report", "nearest neighbour"} <= metrics["scores"].keys()
    assert metrics["scores"]["system"]["BLEU-1"]["value"] > 0
    assert "not for clinical diagnosis" in (after_the_readme / "runs/mine/page.html").read_text()


@pytest.mark.slow
def test_the_python_block_drafts_the_same(after_the_readme):
    (block,) = blocks(README, "python")
    printed = run(after_the_readme, sys.executable, "-c", block).splitlines()
    drafts = [json.loads(line) for line in (after_the_readme / "drafts.jsonl").read_text().splitlines()]
    expected = {f"{draft['id']} {draft['text']}" for draft in drafts}
    assert {line.rpartition(" ")[0] for line in printed} == expected


# --- what the pages name is there --------------------------------------------------------------------------


@pages
def test_links_resolve(page):
    targets = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", page.read_text())
    for target in map("".join, targets):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).is_file(), f"{page.name} links to {target}"


@pages
def test_files_of_the_project_are_there(page):
    text = page.read_text()
    for path in re.findall(r"\b((?:src|tests|docs)/[\w./-]+\.\w+)", text):
        if not path.startswith("docs/") or page == README:
            assert (ROOT / path).is_file(), f"{page.name} names {path}"


@pages
def test_make_targets_are_there(page):
    makefile = (ROOT / "Makefile").read_text()
    named = [word for span in code_spans(page) for word in re.findall(r"^make (\w+)", span)]
    for block in blocks(page, "bash"):
        named += re.findall(r"^make (\w+)", block, re.MULTILINE)
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name} names make {target}"


@pages
def test_commands_parse(page, capsys):
    for words in commands(page):
        try:
            if "--help" in words:
                with pytest.raises(SystemExit, match="^0$"):
                    main(words)
                continue
            command = find_command(words)
            given = command.parse(words[len(command.words) :])
            if command.name == "train":
                # A run to resume is not there, and training is not what is tested here.
                command.function(**given | {"resume": False, "print_config": True})
        except (SystemExit, RadScribeError) as error:
            pytest.fail(f"{page.name}: radscribe {shlex.join(words)}: {error} {capsys.readouterr().err}")


@pytest.fixture(scope="module")
def options() -> set[str]:
    """Every option of every command, and every field of every recipe."""
    found = {"--help", "--version"} | {f"--{section}" for section in SECTIONS}
    for command in COMMANDS.values():
        for option in command.parser().options.values():
            found |= {f"--{option.name}"} | ({f"--no_{option.name}"} if option.hint is bool else set())
    for recipe in RECIPES.values():
        found |= {f"--{name}" for name in field_names(recipe.build())}
    return found


@pages
def test_commands_options_and_fields_in_prose_are_there(page, options):
    for span in code_spans(page):
        words = span.split()
        if words[0] == "radscribe" and len(words) > 1 and not words[1].startswith("-"):
            assert words[1] in {first for first, *_ in COMMANDS}, f"{page.name} names {span}"
        if words[0] == "radscribe" or span.startswith("--"):
            for option in re.findall(r"(?<!\S)--[\w.]+", span):
                assert option in options, f"{page.name} names {option}"
        is_file = span == LOCK or span.endswith(".py")
        if re.fullmatch(r"(data|system|training|decoding)\.\w[\w.]*", span) and not is_file:
            assert f"--{span}" in options, f"{page.name} names the field {span}"


@pages
def test_recipes_are_there(page):
    for name in code_spans(page):
        if re.fullmatch(rf"({'|'.join(SYSTEMS)})/[\w/-]+", name):
            get_recipe(name)


@pages
def test_python_blocks_import_what_is_there(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("radscribe"):
                module = importlib.import_module(str(node.module))
                assert not [name.name for name in node.names if not hasattr(module, name.name)]


# --- the documentation is complete -------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [*SYSTEMS.values(), *RECIPES.values()], ids=lambda entry: entry.name)
def test_systems_and_recipes_have_a_page(entry):
    assert (ROOT / "docs" / entry.docs).is_file()


def test_the_readme_lists_every_system_as_there():
    table = {
        row.group(1) for row in re.finditer(r"^\| \[`([\w-]+)`\].*\*\*there\*\*", README.read_text(), re.M)
    }
    assert table == set(SYSTEMS)


def test_the_architecture_page_lists_every_file():
    text = house.PAGE.read_text(encoding="utf-8")
    assert text == house.with_lists(text), "write the lists anew: python tests/house.py"


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    listed = set(re.findall(r": ([\w/-]+\.md)$", navigation, re.MULTILINE))
    assert listed == {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
