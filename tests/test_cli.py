"""The command line as users meet it: help, one-line errors, and drafts that are the same everywhere."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny import tiny_store
from tiny_language_models import tiny_language_model

import radscribe
from radscribe.cli import main
from radscribe.cli.table import COMMANDS
from radscribe.recipes import RECIPES
from radscribe.runs.run_directory import RunDirectory
from radscribe.studies.images import read_view
from radscribe.studies.store import PreparedStore
from radscribe.systems.registry import SYSTEMS

pytestmark = pytest.mark.usefixtures("without_java")


@pytest.fixture(scope="module")
def run(finished_run, tmp_path_factory):
    return RunDirectory(shutil.copytree(finished_run, tmp_path_factory.mktemp("runs") / "run"))


def fails(capsys, *arguments) -> str:
    """The one line that a failing command prints."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("radscribe: ")
    assert "\n" not in error
    return error


@pytest.mark.parametrize("command", [(), *COMMANDS, ("interop",), ("pretrain",)], ids=" ".join)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "not for clinical diagnosis" in out


def test_every_option_has_help(capsys):
    """No option without a word on it: all come from the docstrings."""
    import inspect

    for command in COMMANDS.values():
        documented = inspect.getdoc(command.function) or ""
        for name in inspect.signature(command.function).parameters:
            assert re.search(rf"\n    (\*\*)?{name}: ", documented), (command.name, name)


def test_lists(capsys):
    main(["systems", "--json"])
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(SYSTEMS)
    main(["recipes", "--json", "--print_config"])
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == set(RECIPES)
    assert all(row["config"]["training"]["epochs"] > 0 for row in rows)
    main(["recipes", "r2gen-cmn/iu-xray", "--print_config"])
    assert "memory_size: 2048" in capsys.readouterr().out
    main(["systems"])
    assert "Cross-modal Memory Networks" in capsys.readouterr().out


class TestErrors:
    def test_commands_and_names(self, capsys):
        assert "Did you mean 'train'" in fails(capsys, "trian")
        assert "Did you mean 'r2gen-cmn/phantom'" in fails(capsys, "train", "r2gen-cmn/fantom")
        assert "unknown recipe 'x'" in fails(capsys, "recipes", "x")
        assert "--studis" in fails(capsys, "prepare", "phantom", "--out", "x", "--studis", "3")

    def test_fields(self, capsys):
        train_phantom = ("train", "r2gen-cmn/phantom")
        assert "Did you mean --training.epochs?" in fails(capsys, *train_phantom, "--training.epoch", "3")
        error = fails(capsys, *train_phantom, "--training.epochs", "few")
        assert "--training.epochs needs a whole number, not 'few'" in error
        assert "has no field 'training.lr'" in fails(capsys, *train_phantom, "--training", '{"lr": 3}')
        assert "needs a prepared store" in fails(capsys, *train_phantom, "--out", "/nonexistent/run")

    def test_sources(self, capsys, tmp_path):
        assert "nowhere" in fails(capsys, "prepare", tmp_path / "nowhere", "--out", tmp_path / "s")
        assert "no run directory" in fails(capsys, "generate", tmp_path, tmp_path)
        assert "either a run or --predictions" in fails(capsys, "evaluate")

    def test_ids_that_do_not_match(self, capsys, tmp_path):
        texts = [("predictions", ["a", "b"]), ("references", ["b", "c", "d"])]
        for name, ids in texts:
            lines = [json.dumps({"id": each, "text": "no effusion ."}) for each in ids]
            (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
        files = [part for name, _ in texts for part in (f"--{name}", str(tmp_path / f"{name}.jsonl"))]
        error = fails(capsys, "evaluate", *files, "--protocol", "raw")
        assert "2 of 3 references have no draft (c, d)" in error
        assert "1 drafts have no reference (a)" in error
        assert "--protocol" in fails(capsys, "evaluate", *files)


def test_drafts_are_the_same_from_python_store_and_files(run, store, tmp_path, capsys):
    studies = [study for study in PreparedStore(store).studies("test") if len(study.views) == 1]
    studies = studies or PreparedStore(store).studies("test")
    study = studies[0]
    (tmp_path / "images" / "one").mkdir(parents=True)
    for number, view in enumerate(study.views):
        Image.fromarray(read_view(view, 64).pixels).save(tmp_path / "images" / "one" / f"{number}.png")
    (python,) = radscribe.load(run.path, device="cpu").generate([study])
    main(["generate", str(run.path), str(tmp_path / "images"), "--out", str(tmp_path / "drafts.jsonl")])
    (folder,) = [json.loads(line) for line in (tmp_path / "drafts.jsonl").read_text().splitlines()]
    capsys.readouterr()
    main(["generate", str(run.path), str(store), "--split", "test"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (stored,) = [line for line in lines if line["id"] == study.id]
    assert folder["id"] == "one"
    assert stored["text"] == folder["text"] == python.text
    assert stored["logprob"] == pytest.approx(python.logprob, abs=1e-3)
    assert folder["logprob"] == pytest.approx(python.logprob, abs=1e-3)


def test_bad_images_cost_themselves_only(run, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    Image.radial_gradient("L").save(images / "good.png")
    whole = (images / "good.png").read_bytes()
    (images / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (images / "empty.png").write_bytes(b"")
    (images / "text.jpg").write_text("no image")
    main(["generate", str(run.path), str(images), str(tmp_path / "missing.png")])
    captured = capsys.readouterr()
    assert [json.loads(line)["id"] for line in captured.out.splitlines()] == [f"{images}/good"]
    rejected = [line for line in captured.err.splitlines() if line.startswith("rejected")]
    expected = [tmp_path / "missing", *(images / name for name in ("empty", "text", "truncated"))]
    assert [line.split()[1].rstrip(":") for line in rejected] == [str(path) for path in expected]
    with pytest.raises(SystemExit):
        main(["generate", str(run.path), str(images / "empty.png")])
    assert "no study of" in capsys.readouterr().err.splitlines()[-1]


def test_decoding_can_be_changed(run, store, capsys):
    main(["generate", str(run.path), str(store), "--split", "val", "--decoding", '{"minimum_length": 20}'])
    drafts = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert all(len(draft.split()) == 20 for draft in drafts)


def test_evaluate_a_run(run, store, tmp_path, capsys):
    drafts = tmp_path / "drafts.jsonl"
    main(["evaluate", str(run.path), "--split", "test", "--json", "--no_meteor", "--drafts", str(drafts)])
    result = json.loads(capsys.readouterr().out)
    assert result["scores"]["system"]["BLEU-4"]["value"] >= 0
    assert result["provenance"]["protocol"] == "r2gen"
    assert len(drafts.read_text().splitlines()) == result["provenance"]["studies"]
    main(["evaluate", str(run.path), "--split", "val", "--protocol", "clean_full", "--no_meteor"])
    table = capsys.readouterr().out
    assert "constant report" in table
    assert "not for clinical diagnosis" in table


@pytest.mark.slow
def test_scores_of_another_store_stand_beside_the_run(run, store, tmp_path, capsys):
    other = tiny_store(tmp_path / "other", studies=20)
    copy = RunDirectory(shutil.copytree(run.path, tmp_path / "run"))
    before = {path: path.read_bytes() for path in copy.path.iterdir() if path.is_file()}
    main(["evaluate", str(copy.path), "--store", str(other), "--no_meteor"])
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) <= 25
    (folder,) = (copy.path / "stores").iterdir()
    assert folder.name == f"other-{PreparedStore(other).manifest['content_hash'][:8]}"
    assert f"Kept: {folder / 'metrics.json'}" in printed
    studies = json.loads((folder / "metrics.json").read_text())["provenance"]["studies"]
    assert len((folder / "drafts.test.jsonl").read_text().splitlines()) == studies
    assert {path: path.read_bytes() for path in before} == before

    page = tmp_path / "page.html"
    main(["page", str(copy.path), "--store", str(other), "--out", str(page)])
    assert "not from the store that the run was trained on" in page.read_text()
    capsys.readouterr()  # how far the drawing was
    error = fails(capsys, "page", copy.path, "--store", str(other), "--split", "val", "--out", str(page))
    assert f"radscribe evaluate {copy.path} --split val --store {other}" in error

    main(["evaluate", str(copy.path), "--split", "val", "--no_meteor"])
    main(["page", str(copy.path), "--split", "val", "--out", str(page)])
    main(["evaluate", str(copy.path), "--no_meteor", "--resamples", "5"])
    assert f"{copy.metrics} stays as it was" in capsys.readouterr().out
    assert copy.metrics.read_bytes() == before[copy.metrics]
    main(["evaluate", str(copy.path), "--split", "val", "--protocol", "raw", "--no_meteor", "--full"])
    assert "Not kept, for the run's own protocol is r2gen" in capsys.readouterr().out


def test_label_without_standard_input():
    code = "from radscribe.cli import main; main(['label', '-'])"
    ended = subprocess.run(["sh", "-c", f'{sys.executable} -c "{code}" <&-'], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("radscribe: standard input is closed")


def test_evaluate_files_beside_baselines(store, tmp_path, capsys):
    studies = PreparedStore(store).studies("test")
    lines = [json.dumps({"id": study.id, "text": study.sections["findings"]}) for study in studies]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    files = [
        part
        for name in ("predictions", "references")
        for part in (f"--{name}", str(tmp_path / "texts.jsonl"))
    ]
    main(["evaluate", *files, "--protocol", "clean_full", "--store", str(store), "--json", "--no_meteor"])
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert set(scores) == {"system", "constant report", "nearest neighbour"}
    assert scores["system"]["CIDEr"]["value"] > scores["nearest neighbour"]["CIDEr"]["value"]


def test_evaluate_files(tmp_path, capsys):
    lines = [json.dumps({"id": str(n), "text": f"no effusion {n} ."}) for n in range(5)]
    for name in ("predictions", "references"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    files = [
        part
        for name in ("predictions", "references")
        for part in (f"--{name}", str(tmp_path / f"{name}.jsonl"))
    ]
    main(["evaluate", *files, "--protocol", "raw", "--json", "--no_meteor"])
    assert json.loads(capsys.readouterr().out)["scores"]["system"]["BLEU-4"]["value"] == pytest.approx(1)


def test_evaluate_files_under_the_protocol_of_r2gengpt(store, tmp_path, capsys):
    """References and those that the constant report learns from are cut at tokens of the language model."""
    studies = PreparedStore(store).studies("test")
    lines = [json.dumps({"id": study.id, "text": study.sections["findings"]}) for study in studies]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    files = [f"--{name}={tmp_path / 'texts.jsonl'}" for name in ("predictions", "references")]
    rules = ["--protocol", "r2gengpt", "--maximum_length", "20", "--store", str(store)]
    assert "needs the tokenizer of a language model" in fails(capsys, "evaluate", *files, *rules)
    tokenizer = str(tiny_language_model())
    main(["evaluate", *files, *rules, "--tokenizer", tokenizer, "--json", "--no_meteor"])
    result = json.loads(capsys.readouterr().out)
    assert result["provenance"]["tokenizer"] == tokenizer
    assert result["provenance"]["maximum_length"] == 20
    assert result["provenance"]["truncation_rate"] == 1
    assert result["scores"]["system"]["BLEU-4"]["value"] < 1
    assert set(result["scores"]) == {"system", "constant report", "nearest neighbour"}


def test_train_prints_its_configuration(capsys):
    main(["train", "r2gen-cmn/phantom", "--print_config", "--training.epochs", "3", "--no_progress"])
    out = capsys.readouterr().out
    assert "epochs: 3" in out
    assert "system_name: r2gen-cmn" in out


@pytest.mark.slow
def test_train_and_resume(store, tmp_path, capsys):
    """The command line trains, refuses to overwrite, and resumes by the run's own configuration."""
    small = [
        *("--training.epochs", "1", "--training.threads", "1", "--decoding.beams", "1", "--no_progress"),
        *("--data.transform.short_side", "64", "--data.transform.crop", "56", "--data.minimum_count", "1"),
        *("--system.width", "32", "--system.layers", "1", "--system.backbone.architecture", "test_byobnet"),
    ]
    arguments = ["train", "r2gen-cmn/phantom", "--store", str(store), "--out", str(tmp_path / "run")]
    main([*arguments, *small])
    assert "nearest neighbour" in capsys.readouterr().out
    assert "already" in fails(capsys, *arguments, *small)
    main(["train", "r2gen-cmn/phantom", "--out", str(tmp_path / "run"), "--resume", "--no_progress"])
    assert "run directory" in capsys.readouterr().out
    main(["page", str(tmp_path / "run"), "--out", str(tmp_path / "page.html"), "--studies", "2"])
    assert "look at it" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["decode", "train"])
def test_bench(task, capsys):
    sizes = [
        "--batch",
        "2",
        "--views",
        "1",
        "--length",
        "6",
        "--threads",
        "1",
        "--repeats",
        "1",
        "--no-paper-size",
    ]
    main(["bench", task, *sizes])
    result = json.loads(capsys.readouterr().out)
    assert result["seconds"] > 0
    assert result["ratio_to_backbone"] == pytest.approx(
        result["seconds"] / result["backbone_seconds"], rel=0.05
    )
    assert result["peak_memory_gb"] > 0


def test_bench_of_the_scan(capsys):
    main(["bench", "scan", "--batch", "1", "--length", "20", "--threads", "1", "--repeats", "1"])
    result = json.loads(capsys.readouterr().out)
    assert result["ratio_to_sequential"] > 0
    assert result["forward_ratio_to_sequential"] > 0
    assert result["largest_difference"] < 1e-4


def test_bench_of_scoring(capsys):
    pytest.importorskip("pycocoevalcap")
    main(["bench", "score", "--pairs", "40", "--resamples", "20"])
    result = json.loads(capsys.readouterr().out)
    assert result["largest_difference"] < 1e-9
    assert result["ratio_to_reference"] > 0


def test_the_program_is_installed():
    program = Path(sys.executable).parent / "radscribe"
    out = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert radscribe.__version__ in out
