"""The house: arrows between packages and between files run one way, and what must be quick stays quick."""

import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import house
import pytest

FILES = {module: path for module, path in house.MODULES.items() if module != "radscribe"}
NAMES = [str(path.relative_to(house.SOURCE)) for path in FILES.values()]


def test_every_package_has_its_row():
    assert {house.package_of(module) for module in FILES} == {name for row in house.ROWS for name in row}


@pytest.mark.parametrize("module", FILES, ids=NAMES)
def test_arrows_run_one_way(module):
    own = house.package_of(module)
    row = next(number for number, packages in enumerate(house.ROWS) if own in packages)
    allowed = {own}.union(*house.ROWS[:row])
    imported = house.imports_of(FILES[module])
    # What `import radscribe` offers is for others: a file of ours says where a name is at home.
    assert "radscribe" not in imported
    assert {house.package_of(name) for name in imported} <= allowed


def test_no_file_imports_itself_by_way_of_others():
    graph = {module: house.imports_of(path) - {module} for module, path in FILES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these files import each other: {' -> '.join(error.args[1])}")


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
