"""What can happen to a pretraining and to what it leaves: it is killed, and its files are damaged."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from radscribe.files import sha256_of
from radscribe.parts.part import Part, content_hash

_KILLED = """
import os, signal, sys
from radscribe.pretraining.loop import pretrain
from radscribe.pretraining.registry import PRETRAININGS
from radscribe.pretraining.settings import *
from radscribe.studies.store import PreparedStore
from importlib import import_module

entry = PRETRAININGS[sys.argv[1]]
task = getattr(import_module(entry.module), entry.class_name)
loss, calls = task.loss, []
def killing_loss(self, batch):
    calls.append(batch)
    if len(calls) == int(sys.argv[5]):
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(self, batch)
task.loss = killing_loss
pretrain(task, PreparedStore(sys.argv[2]), sys.argv[3], eval(sys.argv[4]), progress=False)
"""


def pretrain_until_killed(kind: str, store: Path, out: Path, settings: Any, step: int) -> None:
    """Begin a pretraining in a process of its own, which ends by SIGKILL in the step of that number."""
    arguments = [kind, str(store), str(out), repr(settings), str(step)]
    process = subprocess.run([sys.executable, "-c", _KILLED, *arguments], capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert (out / "checkpoint.pt").is_file()


def cut_weights(path: Path) -> None:
    whole = (path / "weights.safetensors").read_bytes()
    (path / "weights.safetensors").write_bytes(whole[: len(whole) // 2])


def drop_a_weight(path: Path) -> None:
    weights = load_file(path / "weights.safetensors")
    del weights["head.bias"]
    save_file(weights, path / "weights.safetensors")


def change_fields(file: str, **fields: Any) -> Callable[[Path], None]:
    """A function that changes fields of a JSON file in the directory that it is given."""

    def apply(path: Path) -> None:
        description = json.loads((path / file).read_text())
        (path / file).write_text(json.dumps(description | fields))

    return apply


def rehash(path: Path) -> None:
    """Change the hashes in `part.json` to those of the files that are there, as if it had been written so."""
    part = json.loads((path / "part.json").read_text())
    files = {name: sha256_of(path / name) for name in part["files"]}
    changed = part | {"files": files, "content_hash": content_hash(part["kind"], files)}
    (path / "part.json").write_text(json.dumps(changed))
    assert Part.read(path, part["kind"], list(files))
