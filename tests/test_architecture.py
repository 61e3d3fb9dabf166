"""The house: arrows between packages run one way, and what must be quick stays quick."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "radscribe"

#: A package may import those in rows above its own, and nothing beside or below it.
ROWS = [
    {"errors", "observations", "values"},
    {"files", "ranges", "progress", "device", "interruption"},
    {"studies", "text", "weights"},
    {"vision", "layers", "decoding"},
    {"parts"},
    {"systems"},
    {"evaluation"},
    {"runs"},
    {"recipes"},
    {"pretraining"},
    {"training"},
    {"interop", "pages", "bench", "api"},
    {"cli"},
]
#: Arrows within a row.
BESIDE = {("evaluation", "studies")}


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The packages of ours that a file imports, wherever in the file it does so."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("radscribe."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("radscribe.")}
    return found


FILES = sorted(path for path in SOURCE.rglob("*.py") if package_of(path) != "__init__")


def test_every_package_has_its_row():
    rows = set().union(*ROWS)
    assert {package_of(path) for path in FILES} <= rows


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_arrows_run_one_way(path):
    own = package_of(path)
    row = next(number for number, packages in enumerate(ROWS) if own in packages)
    allowed = {own}.union(*ROWS[:row])
    assert imports_of(path) <= allowed


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "code",
    [
        "import radscribe",
        "import radscribe.cli",
        "import radscribe.studies.prepare",
        "import radscribe.evaluation.evaluate",
        "import contextlib, io, radscribe.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    radscribe.cli.main(['--help'])",
        "import contextlib, io, radscribe.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    radscribe.cli.main(['pretrain', 'view-classifier', '--help'])",
        "import contextlib, io, radscribe.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n    radscribe.cli.main(['systems'])",
    ],
)
def test_what_must_be_quick_does_not_import_torch(code):
    loaded = run_python(f"{code}\nimport sys\nprint('torch' in sys.modules, 'PIL' in sys.modules)").split()
    assert loaded[0] == "False"
