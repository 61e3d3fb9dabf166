"""Fixtures that more than one test file uses."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_once
import pytest
from tiny import tiny_config, tiny_store

from radscribe.evaluation.baselines import best_constant_report
from radscribe.evaluation.evaluate import evaluate_texts
from radscribe.evaluation.result import Evaluation
from radscribe.text.protocols import get_protocol
from radscribe.text.vocabulary import Vocabulary
from radscribe.training.train import train

#: A fault of the program shows where it happened, and fails a test of errors that users cause.
os.environ["RADSCRIBE_TRACEBACK"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    """Workers inherit the folder of the process that starts them."""
    if not hasattr(config, "workerinput"):
        made_once.begin()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The process that started the workers ends last."""
    if not hasattr(config, "workerinput"):
        made_once.end()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every worker begins with its share of the longest tests, so that none has them left at the end.

    Workers begin at equal distances in the list. Tests that share a language model stay together.
    """
    workers = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    longest = [item for item in items if item.path.name == "test_learning.py"]
    others = [item for item in items if item.path.name != "test_learning.py"]
    share, rest = math.ceil(len(longest) / workers), len(others) // workers
    dealt = []
    for worker in range(workers):
        dealt += longest[worker * share : (worker + 1) * share]
        dealt += others[worker * rest : (worker + 1) * rest if worker + 1 < workers else None]
    items[:] = dealt


@pytest.fixture(scope="session")
def store() -> Path:
    """A prepared store of 40 phantom studies, for all files. A test that changes it works on a copy."""
    return made_once.made_once("store", tiny_store)


@pytest.fixture(scope="session")
def path_without_java(tmp_path_factory) -> str:
    """A PATH with all programs but Java."""
    folder = tmp_path_factory.mktemp("bin")
    for program in (file for place in os.get_exec_path() for file in Path(place).glob("*")):
        link = folder / program.name
        if not program.name.startswith("java") and not link.is_symlink():
            link.symlink_to(program)
    return str(folder)


@pytest.fixture(scope="module")
def without_java(path_without_java) -> Iterator[None]:
    """METEOR, which starts Java for ten seconds at the end of every training, is left out of the scores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path_without_java)
        yield


@pytest.fixture(scope="session")
def finished_run(store, path_without_java) -> Path:
    """A run of one epoch on `store`, for all files. A test that changes it works on a copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path_without_java)
        config = tiny_config(store, epochs=1)
        return made_once.made_once("run", lambda out: train(config, out, progress=False))


@pytest.fixture(scope="module")
def facts(trained: Path) -> dict[str, Any]:
    """What `trained`, a directory that a test file pretrains for its own tests, says of its pretraining."""
    return json.loads((trained / "pretraining.json").read_text())


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the checkout with real material and golden tensors; never part of the project."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the real material in {folder}, which is not there")
    return folder


@pytest.fixture(scope="session")
def constant_report_on_the_benchmark(shared) -> Evaluation:
    """The training report that scores best on validation, scored on the test split of IU X-Ray."""
    annotation = json.loads((shared / "data/iu_xray/annotation.json").read_text())
    reports = {
        split: {entry["id"]: entry["report"] for entry in entries} for split, entries in annotation.items()
    }
    rules = {
        "cleaning": "iu_xray",
        "vocabulary": Vocabulary.build(reports["train"].values()),
        "maximum_length": 60,
    }
    protocol = get_protocol("r2gen")
    constant = best_constant_report(
        [protocol.hypothesis(text, cleaning="iu_xray") for text in reports["train"].values()],
        [protocol.reference(text, **rules) for text in reports["val"].values()],
    )
    return evaluate_texts(
        dict.fromkeys(reports["test"], constant.text),
        reports["test"],
        protocol="r2gen",
        **rules,
        resamples=100,
        meteor=False,
    )
