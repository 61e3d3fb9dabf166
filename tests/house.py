"""The house: its packages, which may import which, and the list of its files in the documentation.

python tests/house.py    # writes the lists of docs/architecture.md anew
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "radscribe"
PAGE = ROOT / "docs" / "architecture.md"

#: A package may import those in rows above its own, and nothing beside or below it.
ROWS = [
    ["about", "errors", "observations", "values"],
    ["files", "ranges", "progress", "device", "interruption"],
    ["text", "weights"],
    ["studies"],
    ["vision", "layers", "decoding", "audit"],
    ["parts"],
    ["systems"],
    ["evaluation"],
    ["runs"],
    ["recipes"],
    ["pretraining"],
    ["training"],
    ["interop", "pages", "bench", "api"],
    ["reproduction"],
    ["cli"],
]


def module_of(path: Path) -> str:
    """The dotted name of a file of ours."""
    parts = ("radscribe", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def package_of(module: str) -> str:
    """The package, or the file beside the packages, that a module belongs to; empty for `radscribe`."""
    return module.partition(".")[2].partition(".")[0]


def imports_of(path: Path) -> set[str]:
    """The modules of ours that a file imports, wherever in the file it does so."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        for name in names:
            module = name if name in MODULES else name.rpartition(".")[0]
            if module in MODULES:
                found.add(module)
    return found


def summary_of(path: Path) -> str:
    """The first sentence of a file's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.partition("\n\n")[0].split()).rstrip(".")


def listed_files() -> str:
    """Every file with its summary, package by package in the order of the rows."""
    lines = []
    for package in [package for row in ROWS for package in row]:
        single = SOURCE / f"{package}.py"
        if single.exists():
            lines.append(f"- `{package}.py`: {summary_of(single)}")
            continue
        for path in sorted((SOURCE / package).rglob("*.py"), key=lambda path: (path.parent, path.name)):
            indent = "  " * (len(path.relative_to(SOURCE).parts) - 1)
            if path.name == "__init__.py":
                folder = path.parent
                depth = "  " * (len(folder.relative_to(SOURCE).parts) - 1)
                lines.append(f"{depth}- `{folder.name}/`: {summary_of(path)}")
            else:
                lines.append(f"{indent}- `{path.name}`: {summary_of(path)}")
    return "\n".join(lines)


def listed_rows() -> str:
    """The rows of packages, from the top down."""
    rows = "\n".join("   ".join(row) for row in ROWS)
    return f"```\n{rows}\n```"


def with_lists(text: str) -> str:
    """A page whose generated lists are up to date."""
    for name, content in (("files", listed_files()), ("rows", listed_rows())):
        begin, end = f"<!-- {name}: written by tests/house.py -->\n", f"\n<!-- end of {name} -->"
        text = re.sub(
            f"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _, block=f"{begin}{content}{end}": block,
            text,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    PAGE.write_text(with_lists(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
