"""A run of CmEAA: its parts come with it, its own reports are never read in drafting, and what it logs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import tiny
from tiny_parts import make_part, store_of_parts, tiny_parts

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.layers.rep_adapter import PlainMaps
from radscribe.pages.explanation_page import write_explanations
from radscribe.parts.part import Part
from radscribe.recipes import RECIPES
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.trained_system import load
from radscribe.studies.store import PreparedStore
from radscribe.training.train import train

pytestmark = pytest.mark.usefixtures("without_java")


def config(**training):
    return tiny.tiny_config(store_of_parts(), "cmeaa/phantom", **training)


@pytest.fixture(scope="module")
def run(tmp_path_factory, path_without_java) -> RunDirectory:
    """A run whose parts are gone from where they were made."""
    folder = tmp_path_factory.mktemp("cmeaa")
    given = config(epochs=1)
    for field, kind in given.system.parts.items():
        setattr(given.system, field, str(shutil.copytree(tiny_parts()[kind], folder / kind)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path_without_java)
        found = train(given, folder / "run", progress=False)
    for kind in given.system.parts.values():
        shutil.rmtree(folder / kind)
    return found


def test_it_drafts_without_what_it_was_made_from(run):
    drafts = [draft.text for draft in load(run.path).generate(store_of_parts())]
    kept = [json.loads(line)["text"] for line in run.drafts("test").read_text().splitlines()]
    of_test = [
        draft.text for draft in load(run.path).generate(PreparedStore(store_of_parts()).studies("test"))
    ]
    assert len(drafts) == 40
    assert of_test == kept


def test_its_adapters_are_folded(run):
    assert isinstance(run.load_system().adapter.adapters, PlainMaps)


def test_its_parts_are_on_record(run):
    recorded = json.loads(run.parts.read_text())
    assert {part["kind"] for part in recorded.values()} == {"observation-classifier", "retriever", "phrases"}
    for part in recorded.values():
        assert Part.read(run.path / "parts" / part["kind"], part["kind"]).content_hash == part["content_hash"]


def test_check_reads_its_parts(run, capsys):
    main(["check", str(run.path)])
    assert "phrases is in the run, with the hash on record" in capsys.readouterr().out


def test_the_own_report_is_not_read_in_drafting(run):
    studies = [
        *PreparedStore(store_of_parts()).studies("val"),
        *PreparedStore(store_of_parts()).studies("test"),
    ]
    changed = [
        replace(study, sections={"findings": "Large right pneumothorax."}, observations={})
        for study in studies
    ]
    trained = load(run.path)
    before, after = ([draft.text for draft in trained.generate(given)] for given in (studies, changed))
    assert before == after


def test_what_a_training_logs(run):
    log = [json.loads(line) for line in run.log.read_text().splitlines()]
    terms = next(line["terms"] for line in log if "terms" in line)
    assert {"cross_entropy", "alignment", "alignment_of_shuffled"} <= terms.keys()
    shares = next(line["shares"] for line in log if "shares" in line)
    assert shares["weight_of_enhanced"] + shares["weight_of_vanilla"] == pytest.approx(1, abs=1e-5)
    assert 0 < shares["gradient_of_alignment"] < 1
    validation = next(line["validation"] for line in log if "validation" in line)
    assert 0 <= validation["retrieval"] <= 1


def test_another_part_in_its_place_is_refused(run, tmp_path):
    copied = RunDirectory(shutil.copytree(run.path, tmp_path / "run"))
    make_part("phrases", store_of_parts(), tmp_path / "phrases", minimum_count=2, top=3)
    shutil.rmtree(copied.path / "parts" / "phrases")
    shutil.move(tmp_path / "phrases", copied.path / "parts" / "phrases")
    with pytest.raises(RadScribeError, match="phrases in .* is not the one that the run was trained with"):
        copied.load_system()


def test_a_damaged_part_is_refused(run, tmp_path):
    copied = RunDirectory(shutil.copytree(run.path, tmp_path / "run"))
    with (copied.path / "parts" / "phrases" / "phrases.csv").open("a") as file:
        file.write("x\n")
    with pytest.raises(RadScribeError, match=r"phrases.csv' is not the file that was written"):
        copied.load_system()
    with pytest.raises(SystemExit):
        main(["check", str(copied.path)])


def test_parts_are_in_the_identity_of_drafts(run, tmp_path):
    copied = RunDirectory(shutil.copytree(run.path, tmp_path / "run"))
    assert copied.origin().sha256 == run.origin().sha256
    recorded = json.loads(copied.parts.read_text())
    recorded["phrases"]["content_hash"] = "0" * 64
    copied.parts.write_text(json.dumps(recorded))
    assert copied.origin().sha256 != run.origin().sha256


def test_a_missing_part_is_named(tmp_path):
    given = config(epochs=1)
    given.system.phrases = ""
    with pytest.raises(RadScribeError, match=r"cmeaa/phantom needs the part phrases.*--system.phrases DIR"):
        train(given, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_parts_of_another_store_of_the_same_source_are_refused(store, tmp_path):
    """The train split that they learnt from may have what is test here."""
    other = tiny.tiny_store(tmp_path / "other", studies=44)
    given = config(epochs=1)
    given.store = str(other)
    with pytest.raises(RadScribeError, match="was made from another store of 'phantom'"):
        train(given, tmp_path / "run", progress=False)


@pytest.mark.slow
def test_a_killed_training_goes_on_with_its_own_parts(tmp_path):
    """As it would have gone on: the second of two epochs gives the same weights."""
    whole = train(config(epochs=2), tmp_path / "whole", progress=False)
    given = config(epochs=1)
    for field, kind in given.system.parts.items():
        setattr(given.system, field, str(shutil.copytree(tiny_parts()[kind], tmp_path / "parts" / kind)))
    first = train(given, tmp_path / "run", progress=False)
    shutil.rmtree(tmp_path / "parts")
    longer = first.load_config()
    longer.training.epochs = 2
    resumed = train(longer, first.path, resume=True, progress=False)
    found = []
    for each in (whole, resumed):
        log = [json.loads(line) for line in each.log.read_text().splitlines()]
        last = [line["validation"] for line in log if "validation" in line][-1]
        found.append({name: value for name, value in last.items() if name != "seconds"})
    assert found[0] == found[1]


@pytest.mark.slow
def test_one_command_makes_what_is_missing_and_uses_what_is_there(monkeypatch, tmp_path, capsys):
    small = {
        "language-model": {"epochs": 1, "vocabulary_size": 300},
        "observation-classifier": {"architecture": "test_byobnet", "epochs": 1},
        "retriever": {"architecture": "test_byobnet", "width": 16, "epochs": 1},
        "phrases": {"minimum_count": 3},
    }
    recipe = RECIPES["cmeaa/phantom"]
    monkeypatch.setitem(RECIPES, recipe.name, replace(recipe, stages=small))
    command = [
        *(
            "train",
            recipe.name,
            "--store",
            str(store_of_parts()),
            "--out",
            str(tmp_path / "run"),
            "--no_progress",
        ),
        *("--data.transform.short_side", "64", "--data.transform.crop", "56", "--training.epochs", "1"),
        *("--training.threads", "1", "--training.device", "cpu", "--decoding.maximum_length", "10"),
    ]
    main([*command, "--stages", "phrases"])
    main([*command, "--stages", "list"])
    listed = capsys.readouterr().out.splitlines()
    states = [line.split()[1:3] for line in listed if line.strip()[:1].isdigit()]
    assert [words[0] for words in states] == [
        *("language-model", "observation-classifier", "retriever", "phrases", "training"),
    ]
    assert [words[1] for words in states] == ["missing", "missing", "missing", "finished,", "not"]
    main(command)
    told = capsys.readouterr().out
    assert "stage phrases: reused" in told
    assert "stage retriever: done in" in told
    run = RunDirectory(tmp_path / "run")
    main(["check", str(run.path)])
    assert len(list(load(run.path).generate(store_of_parts()))) == 40


def test_the_explanation_says_what_was_read(run, tmp_path):
    explained = list(load(run.path).explain(PreparedStore(store_of_parts()).studies("test")))
    read = explained[0].phrases
    assert sum(read.weights) == pytest.approx(1, abs=1e-5)
    assert read.observations.retrieved is not None
    views, rows, columns = next(iter(read.attention.values())).shape
    assert (views, rows, columns) == explained[0].attention.shape[-3:]
    total = sum(read.attention.values())
    assert total == pytest.approx(1, abs=1e-4)
    page = write_explanations(explained, tmp_path / "page", config=run.load_config()).read_text()
    assert "Read beside the image" in page
    assert read.observations.retrieved.study_id in page
    assert f"map:read {next(iter(read.attention))}" in page
