"""The page on adding a metric, a data set and a system: its code is taken from there, and works."""

from __future__ import annotations

import importlib
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image

from radscribe.evaluation import families
from radscribe.evaluation.evaluate import evaluate_texts
from radscribe.recipes.registry import RECIPES
from radscribe.studies.prepare import prepare
from radscribe.studies.readers import registry as readers
from radscribe.studies.store import PreparedStore
from radscribe.systems import registry as systems
from radscribe.training.train import train

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
#: What stands in each block, by its first line, which is a comment.
BLOCKS = dict(re.findall(r"^```py\n# (.+?)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S))


@pytest.fixture
def add(monkeypatch):
    """Import a new file of the page as the module that it is to be."""

    def add_file(path: str) -> types.ModuleType:
        name = path.removesuffix(".py").replace("/", ".")
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(
            importlib.import_module(name.rpartition(".")[0]), path.split("/")[-1][:-3], module, raising=False
        )
        exec(compile(BLOCKS[path], path, "exec"), module.__dict__)
        return module

    return add_file


def entry(kind: str, names: dict[str, Any]) -> Any:
    """The entry of a table, as it is read in the file that has the table."""
    return eval(BLOCKS[f"an entry of {kind}"], names)


def test_the_metric_has_intervals_and_is_compared_with_the_baselines(add, monkeypatch):
    add("radscribe/evaluation/length.py")
    names = dict(vars(families))
    exec(BLOCKS["in radscribe/evaluation/families.py"], names)
    monkeypatch.setitem(families.FAMILIES, "length", entry("FAMILIES", names))
    references = {"a": "the lungs are clear", "b": "a small effusion"}
    drafts = {"a": "clear", "b": "a small left effusion"}
    found = evaluate_texts(
        drafts,
        references,
        protocol="clean_full",
        cleaning="none",
        baselines={"copied": references},
        meteor=False,
        resamples=50,
        stress=True,
    )
    score = found.scores["system"]["length ratio"]
    assert score.value == pytest.approx(5 / 7)
    assert (score.low, score.high) == (pytest.approx(1 / 4), pytest.approx(4 / 3))
    assert found.scores["copied"]["length ratio"].value == 1
    assert "length ratio" in str(found)
    assert any("length ratio" in row.scores for rows in found.stress.values() for row in rows.values())


def test_the_reader_is_found_and_bad_records_cost_one_study_each(add, monkeypatch, tmp_path):
    module = add("radscribe/studies/readers/pairs.py")
    ((name, reader),) = entry("READERS", vars(readers) | vars(module)).items()
    monkeypatch.setitem(readers.READERS, name, reader)
    source = tmp_path / "archive"
    source.mkdir()
    lines = [
        "p1\ta.png\tClear lungs.",
        "p1\tgone.png\tClear lungs.",
        "p2",
        "p2\tb.png\t",
        "p3\tc.png\tEdema.",
    ]
    (source / "pairs.tsv").write_text("\n".join(lines))
    for image in "abc":
        Image.fromarray(np.full((80, 80), 90, np.uint8)).save(source / f"{image}.png")
    assert reader.recognises(source)
    prepare(source, tmp_path / "store", reader=name, short_side=64, workers=1, progress=False)
    store = PreparedStore(tmp_path / "store")
    assert {study.id for study in store.studies()} == {"a.png", "c.png"}
    rejected = (tmp_path / "store" / "rejected.csv").read_text()
    assert [reason in rejected for reason in ("no image file", "bad record: 1 fields", "empty report")] == [
        True
    ] * 3


def test_the_system_trains_drafts_and_is_explained(add, monkeypatch, tmp_path):
    add("radscribe/systems/direct.py")
    monkeypatch.setitem(systems.SYSTEMS, "direct", entry("SYSTEMS", vars(systems)))
    for name in ("direct/phantom", "direct/phantom/no-positions"):
        monkeypatch.setitem(RECIPES, name, RECIPES["r2gen/phantom"])  # is taken away again afterwards
    add("radscribe/recipes/direct.py")
    assert not RECIPES["direct/phantom/no-positions"].build().system.visual_positions
    store = tiny.tiny_store(tmp_path / "store", studies=20)
    run = train(tiny.tiny_config(store, "direct/phantom", epochs=1), tmp_path / "run", progress=False)
    drafts = [json.loads(line) for line in run.drafts("test").read_text().splitlines()]
    assert len(drafts) == len(PreparedStore(store).studies("test"))
    scores = json.loads(run.metrics.read_text())["scores"]["system"]
    assert 0 <= scores["report attention energy"]["value"] <= 1
