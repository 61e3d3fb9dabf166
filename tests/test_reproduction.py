"""Reproducing a paper: its tables, the grid of cells, shared parts, engines, failures, and going on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.evaluation.families import FAMILIES
from radscribe.evaluation.published import CLINICAL_EFFICACY, published_tables
from radscribe.recipes import RECIPES
from radscribe.reproduction.ending import write_ending
from radscribe.reproduction.engines import LocalEngine, RayEngine
from radscribe.reproduction.grid import grid_of, shared_stages, with_parts
from radscribe.reproduction.job import Job
from radscribe.reproduction.papers import BENCHMARK, DATA_SETS, data_set_of, tables_of
from radscribe.reproduction.reproduce import Places, jobs_of, reason_of, run_jobs
from radscribe.reproduction.results import write_results
from radscribe.studies.store import PreparedStore
from radscribe.systems.registry import SYSTEMS

#: Scores of the papers that RadScribe may have as families of their own.
_OTHERS = {"RadGraph F1", "BERTScore", "RadCliQ"}
#: R2GenCMN, so small that a cell takes seconds.
_TINY = {
    "data.minimum_count": "1",
    "data.transform.short_side": "64",
    "data.transform.crop": "56",
    "system.backbone.architecture": "test_byobnet",
    "system.width": "32",
    "system.feed_forward": "48",
    "system.memory_size": "24",
    "system.top_k": "5",
    "training.epochs": "1",
    "training.device": "cpu",
    "decoding.beams": "1",
    "decoding.maximum_length": "10",
}


def tables(paper: str) -> list:
    """The tables of a paper on every data set that it has."""
    found = []
    for data in DATA_SETS:
        with suppress(RadScribeError):
            found += tables_of(paper, data)
    return found


#: A system that nobody published has no tables.
PAPERS = [name for name in SYSTEMS if tables(name)]


@pytest.mark.parametrize("paper", PAPERS)
def test_every_row_names_a_recipe_and_every_score_is_known(paper):
    ours = {name for family in FAMILIES.values() for name in family.scores}
    rows = 0
    for table in tables(paper):
        missing = [row.label for row in table.rows if row.recipe is None]
        if table.data != "phantom":
            assert all(label.startswith("InternLM") for label in missing)
        for row in table.rows:
            assert row.recipe is None or row.recipe in RECIPES
            assert all(0 < value < 2 for value in row.published.values())
            rows += 1
        assert set(table.scores) <= ours | CLINICAL_EFFICACY.keys() | _OTHERS
        assert len({row.key for row in table.rows}) == len(table.rows)
    assert rows >= 3


def test_every_published_table_is_of_a_system():
    assert {table["paper"] for table in published_tables()} == set(PAPERS)
    assert len(PAPERS) >= 7


def test_a_system_without_published_tables_is_told_what_can_be_done(monkeypatch):
    monkeypatch.setitem(SYSTEMS, "mine", SYSTEMS["r2gen"])
    with pytest.raises(RadScribeError, match="no published table of mine is known.*benchmark trains mine"):
        tables_of("mine", "phantom")


def test_the_papers_f1_say_which_mean_they_are():
    checked = 0
    for paper in PAPERS:
        for table in tables(paper):
            if table.data == "phantom":
                continue
            for row in table.rows:
                for mean in ("micro", "macro"):
                    if f"{mean} F1" in row.published:
                        p, r, f1 = (row.published[f"{mean} {score}"] for score in ("P", "R", "F1"))
                        assert (abs(2 * p * r / (p + r) - f1) < 2e-3) == (mean == "micro"), row
                        checked += 1
    assert checked >= 12


def test_the_benchmark_has_every_system_and_quotes_nothing(tmp_path):
    (table,) = tables_of(BENCHMARK, "phantom")
    grid = grid_of([table], tmp_path, seeds=1, only=[], fields={})
    assert [cell.recipe for cell in grid.cells] == [f"{name}/phantom" for name in SYSTEMS]
    write_results(tmp_path / "RESULTS.md", grid, {}, tmp_path / "logs", None)
    lines = (tmp_path / "RESULTS.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines if "not run" in line] == list(SYSTEMS)
    assert "paper" not in " ".join(lines)


@pytest.mark.usefixtures("without_java")
def test_the_benchmark_scores_all_systems_under_one_protocol(finished_run, tmp_path):
    """Recipes of different protocols have references that differ, so that their own scores do not compare."""
    grid = grid_of(tables_of(BENCHMARK, "phantom"), tmp_path, seeds=1, only=[], fields={})
    r2gen, cmn, *_ = grid.cells
    for cell, protocol in ((r2gen, "r2gen"), (cmn, "clean_full")):
        shutil.copytree(finished_run, cell.path)
        config = cell.path / "config.yaml"
        assert "protocol: r2gen\n" in config.read_text()
        config.write_text(config.read_text().replace("protocol: r2gen\n", f"protocol: {protocol}\n"))
    said = write_ending(grid, {}, tmp_path, resamples=20, progress=False)
    assert "comparison: " in said
    lines = (tmp_path / "RESULTS.md").read_text().splitlines()
    assert "All are scored under the protocol clean_full." in lines
    ours = {cells[1].strip(): cells[3:] for cells in (line.split("|") for line in lines) if len(cells) > 3}
    assert ours["r2gen"] == ours["r2gen-cmn"] != ours["camanet"]
    assert {"constant report", "nearest neighbour"} <= ours.keys()


def test_rows_that_tables_share_are_one_cell_whichever_are_chosen(tmp_path):
    found = tables_of("camanet", "iu-xray")
    every = grid_of(found, tmp_path, seeds=2, only=[], fields={})
    assert [cell.name for cell in every.cells] == [
        f"{name}-seed{seed}" for name in ("table-1-full", "table-4-base", "table-4-vdmae") for seed in (0, 1)
    ]
    some = grid_of(found, tmp_path, seeds=1, only=["table-4/full"], fields={})
    assert [cell.name for cell in some.cells] == ["table-1-full-seed0"]
    assert some.cells[0].config(tmp_path / "store").training.seed == 0


def test_parts_are_shared_by_what_they_are_made_with(store, tmp_path):
    opened = PreparedStore(store)
    grid = grid_of(tables_of("am-mrg", "phantom"), tmp_path, seeds=1, only=["table-4", "table-9"], fields={})
    stages = {cell.name: shared_stages(cell.config(store), tmp_path / "parts", opened) for cell in grid.cells}
    paths = {name: {stage.kind: stage.path for stage in found} for name, found in stages.items()}
    full, report, hires = (paths[f"table-{name}-seed0"] for name in ("1-full", "4-report", "9-maps-hires"))
    assert full["language-model"] == report["language-model"] == hires["language-model"]
    assert full["disease-queries"] == hires["disease-queries"]
    assert full["visual-bank"] != hires["visual-bank"]  # made with other activation maps
    bank = next(stage for stage in stages["table-1-full-seed0"] if stage.kind == "visual-bank")
    assert bank.settings.queries == str(full["disease-queries"])
    config = with_parts(grid.cells[0].config(store), stages[grid.cells[0].name])
    assert config.system.language_model.name == str(full["language-model"])

    jobs, done = jobs_of(grid, Places(tmp_path), opened, 1)
    assert not done
    names = [job.name for job in jobs]
    assert len(names) == len(set(names))
    for job in jobs:
        assert all(names.index(needed) < names.index(job.name) for needed in job.needs)
    assert full["disease-queries"].name in next(job for job in jobs if job.kind == "visual-bank").needs


def test_a_store_of_another_form_needs_the_name_of_its_data_set(store):
    opened = PreparedStore(store)
    assert data_set_of(opened, None) == "phantom"
    with pytest.raises(RadScribeError, match="is of the phantom, not of IU X-Ray"):
        data_set_of(opened, "iu-xray")
    opened.manifest = opened.manifest | {"reader": "r2gen-annotation"}
    assert data_set_of(opened, "mimic-cxr") == "mimic-cxr"
    with pytest.raises(RadScribeError, match="does not say of which data set it is.*--data"):
        data_set_of(opened, None)


class Immediate:
    """An engine whose jobs end at once with the exit codes that the test gives."""

    slots = 1

    def __init__(self, codes: dict[str, int]):
        self.codes = codes
        self.begun: list[str] = []
        self.closed = False

    def start(self, job: Job) -> None:
        self.begun.append(job.name)

    def wait(self) -> tuple[str, int]:
        return self.begun[-1], self.codes.get(self.begun[-1], 0)

    def close(self) -> None:
        self.closed = True


def a_job(folder: Path, name: str, *needs: str) -> Job:
    return Job(
        name=name,
        kind="",
        recipe="",
        fields={},
        seed=0,
        store="",
        out="",
        parts="",
        needs=needs,
        log=str(folder / f"{name}.log"),
        threads=1,
    )


def test_a_failed_part_leaves_out_what_needs_it_and_the_others_go_on(tmp_path):
    jobs = [a_job(tmp_path, "part"), a_job(tmp_path, "a", "part"), a_job(tmp_path, "b"), a_job(tmp_path, "c")]
    (tmp_path / "part.log").write_text("radscribe: of an earlier command\n")
    engine, said = Immediate({"part": -9}), []
    outcome = run_jobs(jobs, {"c"}, engine, is_done=lambda job: True, tell=said.append, progress=False)
    assert engine.begun == ["part", "b"]
    assert engine.closed
    assert outcome.done == {"b", "c"}
    assert outcome.failed == {
        "part": "ended by signal 9, perhaps because memory ran out",
        "a": "its part part failed",
    }
    assert any(line.startswith("a: left out") for line in said)


def test_the_reason_of_a_failure_is_the_last_line_of_its_own_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("radscribe: of an earlier command\n")
    before = log.stat().st_size
    assert reason_of(log, before, 3) == "ended with exit code 3"
    with open(log, "a") as file:
        file.write("something\nradscribe: the store is gone. Make it again\n  at the end\n")
    assert reason_of(log, before, 2) == "the store is gone. Make it again"


def reproduce(store: Path, out: Path, *words: str) -> list[str]:
    fields = [f"{name}={value}" for name, value in _TINY.items()]
    return [
        *("reproduce", "r2gen-cmn", "--store", str(store), "--out", str(out), "--resamples", "10"),
        *("--no_progress", "--cpus", "1", *words, "--set", *fields),
    ]


@pytest.mark.slow
def test_a_killed_reproduction_goes_on_and_a_failed_cell_does_not_stop_it(
    store, tmp_path, capsys, path_without_java, monkeypatch
):
    monkeypatch.setenv("PATH", path_without_java)
    out = tmp_path / "out"
    cells = out / "cells"
    words = reproduce(store, out, "--workers", "2")
    code = f"from radscribe.cli import main; main({words!r})"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    logs = out / "logs"
    while not (logs.is_dir() and len(list(logs.iterdir())) == 2):
        assert parent.poll() is None
        time.sleep(0.05)
    with pytest.raises(SystemExit):
        main(words)
    assert "another process works on the reproduction" in capsys.readouterr().err
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    (cells / "table-2-base-seed0").mkdir(parents=True, exist_ok=True)
    blocked = cells / "table-2-separate-memories-seed0"
    blocked.write_text("in the way")

    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "1 of 3 parts and cells failed, the first is table-2-separate-memories-seed0" in said.err
    assert "table-2-full-seed0: done" in said.out
    results = (out / "RESULTS.md").read_text()
    assert "| +CMN | paper | 0.353 |" in results or "| +CMN | paper | 0.475 |" in results
    assert "failed: [table-2-separate-memories-seed0](logs/table-2-separate-memories-seed0.log)" in results
    assert "they do not compare" in results
    assert "BASE" in (out / "comparison.html").read_text()

    full = json.loads((cells / "table-2-full-seed0" / "metrics.json").read_text())
    bleu = full["scores"]["system"]["BLEU-1"]["value"]
    assert f"| | ours | {bleu:.3f} |" in results
    blocked.unlink()
    main(reproduce(store, out, "--only", "table-2/base"))  # what is done is not done again
    assert ": begun" not in capsys.readouterr().out
    after = (out / "RESULTS.md").read_text()
    assert f"| | ours | {bleu:.3f} |" in after  # rows that are not chosen keep their scores
    with pytest.raises(SystemExit):
        main([*reproduce(store, out), "training.accumulate=2"])
    assert "was begun with another --set" in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_ends_with_its_parent(store, tmp_path):
    grid = grid_of(tables_of("r2gen-cmn", "phantom"), tmp_path, seeds=1, only=["table-2/base"], fields=_TINY)
    (job,), _ = jobs_of(grid, Places(tmp_path), PreparedStore(store), 1)
    process = job.begin()
    process.stdin.close()
    assert process.wait(30) == -signal.SIGKILL


def test_the_seeds_of_a_row_give_a_mean_and_a_range(finished_run, tmp_path):
    grid = grid_of(tables_of("r2gen-cmn", "phantom"), tmp_path, seeds=2, only=[], fields={})
    metrics = json.loads((finished_run / "metrics.json").read_text())
    values = (0.25, 0.35)
    for cell, value in zip(grid.of_recipe("r2gen-cmn/phantom"), values, strict=True):
        cell.path.mkdir(parents=True)
        metrics["scores"]["system"]["BLEU-1"]["value"] = value
        (cell.path / "metrics.json").write_text(json.dumps(metrics))
        (cell.path / "MODEL_CARD.md").write_text("")
    write_results(tmp_path / "RESULTS.md", grid, {}, tmp_path / "logs", None)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| | ours | 0.300 (0.250 to 0.350) |" in text
    assert text.count("| | not run |") == 2


@pytest.mark.slow
def test_ray_runs_the_same_jobs(store, tmp_path, path_without_java, monkeypatch):
    pytest.importorskip("ray", reason="the package ray is not installed")
    monkeypatch.setenv("PATH", path_without_java)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    grid = grid_of(tables_of("r2gen-cmn", "phantom"), tmp_path, seeds=1, only=["table-2/base"], fields=_TINY)
    jobs, done = jobs_of(grid, Places(tmp_path), PreparedStore(store), 1)
    outcome = run_jobs(
        jobs,
        done,
        RayEngine("", 1, 0.0),
        is_done=lambda job: grid.cells[0].finished,
        tell=lambda line: None,
        progress=False,
    )
    assert outcome.done == {"table-2-base-seed0"}, outcome.failed


def test_the_local_engine_ends_what_is_under_way(store, tmp_path):
    job = a_job(tmp_path, "a")
    engine = LocalEngine(1)
    engine.start(job)
    process = engine._running["a"]
    engine.close()
    assert process.poll() is not None
