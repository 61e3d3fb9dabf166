"""Drafting into files: where a draft comes from, ids, interruption, and disks and outputs that fail."""

from __future__ import annotations

import csv
import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import tiny_config, tiny_store

import radscribe
from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.runs.drafts import SYNTHETIC
from radscribe.runs.run_directory import RunDirectory
from radscribe.studies.given import given_studies
from radscribe.studies.store import VIEWS_CHECKED_ON_OPENING, PreparedStore
from radscribe.text.vocabulary import Vocabulary

pytestmark = pytest.mark.usefixtures("without_java")

STUDIES = 12
NOTICE = "research use, not for clinical diagnosis"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tiny_store(tmp_path_factory.mktemp("stores") / "phantom", studies=STUDIES)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory) -> RunDirectory:
    """A run as training leaves it, but for training."""
    config = tiny_config(store)
    reports = [study.report("findings") for study in PreparedStore(store).studies()]
    vocabulary = Vocabulary.build(reports, config.data.cleaning, 1)
    run = RunDirectory(tmp_path_factory.mktemp("runs") / "mine")
    run.create(config, vocabulary, {"recipe": config.recipe, "store_source": "phantom", "finished": True})
    run.save_weights(tiny.system(config, reports))
    return run


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_images(folder: Path, *names: str) -> Path:
    for angle, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.radial_gradient("L").rotate(30 * angle).save(folder / name)
    return folder


class TestOrigin:
    def test_a_draft_says_where_it_comes_from(self, run, store, tmp_path, capsys):
        images = write_images(tmp_path / "images", "one.png")
        main(["generate", str(run.path), str(images)])
        captured = capsys.readouterr()
        line = json.loads(captured.out)
        assert captured.err.splitlines()[-1] == f"CAUTION: {run.path} was {SYNTHETIC}"
        (draft,) = radscribe.load(run.path, "cpu").generate([images])
        assert line == draft.to_json()
        assert {name: line[name] for name in ("id", "images", "run", "trained_on", "notice")} == {
            "id": "one",
            "images": [str(images / "one.png")],
            "run": "mine",
            "trained_on": "synthetic images (phantom)",
            "notice": NOTICE,
        }
        assert line["run_sha256"] == run.origin().sha256

    def test_the_hash_is_of_what_decides_the_drafts(self, run, tmp_path):
        moved = RunDirectory(shutil.copytree(run.path, tmp_path / "moved"))
        moved.update_facts(steps=7)
        assert moved.origin().sha256 == run.origin().sha256
        moved.config.write_text(moved.config.read_text().replace("beams: 2", "beams: 3"))
        assert moved.origin().sha256 != run.origin().sha256

    def test_ids_do_not_depend_on_other_files(self, run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for patient in ("a", "b"):
            write_images(Path(patient), "view1_frontal.png", "deeper/1.png", "deeper/2.png")
        ids = [study.id for study in given_studies(["a"])]
        assert ids == ["view1_frontal", "deeper"]
        write_images(Path("a"), "another.png")
        assert {study.id for study in given_studies(["a"])} == {*ids, "another"}
        files = sorted(Path().glob("*/view1_frontal.png"))
        assert [study.id for study in given_studies(files)] == ["a/view1_frontal", "b/view1_frontal"]
        both = [study.id for study in given_studies(["a", "b"])]
        assert len(set(both)) == 5
        assert both[-2:] == ["b/view1_frontal", "b/deeper"]

    def test_the_suffix_of_a_dicom_identifier_is_none(self, tmp_path):
        path = tmp_path / "1.2.840.113"
        path.write_bytes(b"")
        (study,) = given_studies([path])
        assert study.id == path.as_posix()

    def test_an_older_run_is_loaded_with_a_warning(self, run, tmp_path, capsys):
        older = RunDirectory(shutil.copytree(run.path, tmp_path / "older"))
        facts = older.read_facts()
        del facts["weights_sha256"]
        older.facts.write_text(json.dumps(facts))
        radscribe.load(older.path, "cpu")
        assert f"warning: '{older.path}' keeps no hash of its weights" in capsys.readouterr().err
        assert older.origin().sha256 == run.origin().sha256


class TestNBest:
    def test_the_best_drafts_are_those_of_the_search(self, run, store):
        trained = radscribe.load(run.path, "cpu")
        studies = PreparedStore(store).studies()[:4]
        alone = list(trained.generate(studies, beams=4))
        together = list(trained.generate(studies, beams=4, n_best=3))
        for one, several in zip(alone, together, strict=True):
            assert (one.text, one.logprob) == (several.text, several.logprob)
            assert one.alternatives == ()
            found = [(several.text, several.logprob), *several.alternatives]
            assert len(dict(found)) == 3
            assert [logprob for _, logprob in found] == sorted(
                (logprob for _, logprob in found), reverse=True
            )

    def test_a_table_has_them_as_columns(self, run, store, tmp_path):
        out = tmp_path / "drafts.csv"
        main(["generate", str(run.path), str(store), "--out", str(out), "--n_best", "2"])
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == STUDIES
        assert {"id", "text", "logprob", "text_2", "logprob_2", "trained_on", "notice"} <= rows[0].keys()
        assert all(float(row["logprob"]) >= float(row["logprob_2"]) for row in rows)


KILLED = """
import os, signal, sys
from radscribe.cli import main
from radscribe.runs.draft_file import DraftFile

add, left = DraftFile.add, int(sys.argv[1])
def killing_add(self, draft):
    global left
    if left == 0:
        self._file.write(b'{"id": "cut')
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    add(self, draft)
DraftFile.add = killing_add
main(sys.argv[2:])
"""


class TestFiles:
    @pytest.mark.slow
    def test_a_killed_command_resumes_to_the_same_bytes(self, run, store, tmp_path):
        """SIGKILL in the middle of a line, twice, then --resume."""
        whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
        command = ["generate", str(run.path), str(store), "--batch", "3", "--n_best", "2"]
        main([*command, "--out", str(whole)])
        for number, after in enumerate((4, 2)):
            resume = ["--resume"] if number else []
            arguments = [sys.executable, "-c", KILLED, str(after), *command, "--out", str(killed), *resume]
            process = subprocess.run(arguments, capture_output=True)
            assert process.returncode == -signal.SIGKILL, process.stderr.decode()
            assert not killed.exists()
        main([*command, "--out", str(killed), "--resume"])
        assert killed.read_bytes() == whole.read_bytes()
        assert sorted(tmp_path.iterdir()) == sorted([whole, killed])

    def test_a_full_disk_keeps_what_was_there_and_what_is_drafted(self, run, store, tmp_path, capsys):
        whole, out = tmp_path / "whole.jsonl", tmp_path / "drafts.jsonl"
        command = ["generate", str(run.path), str(store), "--batch", "3", "--out"]
        main([*command, str(whole)])
        out.write_text("before\n")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole.stat().st_size // 2, hard))
        try:
            with pytest.raises(SystemExit, match="^2$"):
                main([*command, str(out), "--overwrite"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        error = capsys.readouterr().err.splitlines()[-1]
        assert "cannot write" in error
        assert "--resume" in error
        assert out.read_text() == "before\n"
        main([*command, str(out), "--resume"])  # it was begun to overwrite
        assert out.read_bytes() == whole.read_bytes()

    def test_two_commands_cannot_write_one_file(self, run, store, tmp_path, capsys):
        fcntl = pytest.importorskip("fcntl")
        out = tmp_path / "drafts.jsonl"
        with (tmp_path / "drafts.jsonl.partial").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(SystemExit, match="^2$"):
                main(["generate", str(run.path), str(store), "--out", str(out), "--overwrite"])
        assert "another process is writing" in capsys.readouterr().err


class TestStandardOutput:
    @pytest.mark.parametrize(
        ("redirection", "message"),
        [
            (">/dev/full", "cannot write to standard output: No space left"),
            (">&-", "standard output is closed"),
        ],
    )
    def test_it_fails(self, run, store, redirection, message):
        if redirection == ">/dev/full" and not Path("/dev/full").exists():
            pytest.skip("there is no /dev/full")
        code = f"from radscribe.cli import main; main(['generate', {str(run.path)!r}, {str(store)!r}])"
        shell = f'"$0" -c "$1" {redirection}'
        done = subprocess.run(["bash", "-c", shell, sys.executable, code], capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("radscribe: ")]
        assert message in line
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


class TestDamage:
    @pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
    def test_what_is_no_number_names_the_study(self, run, tmp_path, method):
        """Weights that are finite and overflow."""
        moved = RunDirectory(shutil.copytree(run.path, tmp_path / "moved"))
        weights = load_file(moved.weights)
        weights["network.logits.weight"].fill_(1e38)
        save_file(weights, moved.weights)
        facts = moved.read_facts()
        del facts["weights_sha256"]
        moved.facts.write_text(json.dumps(facts))
        trained = radscribe.load(moved.path, "cpu")
        images = write_images(tmp_path / "images", "one.png", "two.png")
        with pytest.raises(RadScribeError, match=r"study 'one' .* not numbers.*radscribe check"):
            list(trained.generate([images], method=method))
        rejections = []
        assert not list(trained.generate([images], method=method, on_rejection=rejections.append))
        assert [rejection.study_id for rejection in rejections] == ["one", "two"]

    def test_a_store_compares_some_views_whenever_it_is_opened(self, store, tmp_path):
        damaged = Path(shutil.copytree(store, tmp_path / "damaged"))
        views = PreparedStore(store).views()
        assert len(views) > VIEWS_CHECKED_ON_OPENING
        pixels = bytearray((damaged / "pixels.bin").read_bytes())
        for _, view in views:
            pixels[view.pixels_at] ^= 1
        (damaged / "pixels.bin").write_bytes(pixels)
        with pytest.raises(RadScribeError, match=r"pixels or masks of study 'phantom-.*radscribe check"):
            PreparedStore(damaged)

    def test_check_finds_the_one_view_that_changed(self, store, tmp_path, capsys):
        damaged = Path(shutil.copytree(store, tmp_path / "damaged"))
        study, view = PreparedStore(store).views()[-1]
        with (damaged / "pixels.bin").open("r+b") as file:
            file.seek(view.pixels_at)
            value = file.read(1)[0]
            file.seek(view.pixels_at)
            file.write(bytes([value ^ 1]))
        with pytest.raises(SystemExit, match="^1$"):
            main(["check", str(damaged)])
        assert (
            f"1 of {len(PreparedStore(store).views())} views have changed: of {study.id}"
            in capsys.readouterr().out
        )
        main(["check", str(store)])
        assert capsys.readouterr().out.endswith(f"{store}: OK\n")
