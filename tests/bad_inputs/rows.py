"""What a row of the table of bad inputs is, and the folder in which it runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

IMAGES = 3


@dataclass(frozen=True)
class Workshop:
    """An empty folder, which is the working directory, and whole things to copy and to damage.

    Attributes:
        path: the folder.
        store: a prepared phantom store. It is shared: copy it before changing it.
        run: a run that was trained on it, likewise shared.
    """

    path: Path
    store: Path
    run: Path

    def copy_store(self, name: str = "store") -> Path:
        """A store of one's own, to damage."""
        return Path(shutil.copytree(self.store, self.path / name))

    def copy_run(self, name: str = "run") -> Path:
        """A run of one's own, to damage; it was trained on the shared store."""
        return Path(shutil.copytree(self.run, self.path / name))

    def images(self, name: str = "images") -> Path:
        """A folder of readable images: 0.png, 1.png and so on."""
        folder = self.path / name
        folder.mkdir(parents=True)
        for number in range(IMAGES):
            Image.radial_gradient("L").rotate(number * 30).save(folder / f"{number}.png")
        return folder

    def write(self, name: str, content: str | bytes) -> Path:
        """A file with this content, in folders that are made where needed."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


@dataclass(frozen=True)
class Row:
    """One bad input.

    Attributes:
        name: what is bad about it, in a few words; unique within the table.
        command: the words behind `radscribe`, as in a shell; `{store}` and `{run}` are the shared ones. Other
            paths are relative to the workshop's folder.
        says: what the one line on standard error must contain: it names the file, study or field at fault and
            what to type next. With an exit code of 0 (one bad study among good ones), what the output must
            contain.
        code: the exit code.
        arrange: makes the bad input.
        check: looks at what the command left; it asserts that nothing was lost or changed.
        standard_input: what the command reads there.
    """

    name: str
    command: str
    says: str | tuple[str, ...]
    code: int = 2
    arrange: Callable[[Workshop], object] = lambda workshop: None
    check: Callable[[Workshop], object] = lambda workshop: None
    standard_input: str = ""
