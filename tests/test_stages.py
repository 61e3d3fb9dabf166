"""Training in stages: parts that are missing are made first, each once, and go on or are refused."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from tiny import tiny_store

import radscribe
from radscribe.cli import main
from radscribe.errors import InterruptionError, RadScribeError
from radscribe.parts.observation_classifier import ObservationClassifier
from radscribe.parts.phrase_table import PhraseTable
from radscribe.pretraining import phrase_table
from radscribe.pretraining.language_model import PRESETS, LanguageModelTask, Preset
from radscribe.recipes import RECIPES
from radscribe.recipes.registry import Recipe, recipe
from radscribe.runs.config import RunConfig, override
from radscribe.systems.config import SystemConfig
from radscribe.training.stage import stages_of
from radscribe.training.stages import run_stages
from radscribe.training.train import train

pytestmark = pytest.mark.usefixtures("without_java", "tiny_recipe")

NAME = "r2gen-gpt/tiny"
STAGES = {"language-model": {"epochs": 3, "batch": 4}}
PART = Path("parts", "language-model")


def tiny_build() -> RunConfig:
    """R2GenGPT in a few kilobytes, without a language model."""
    config = tiny.config("r2gen-gpt/phantom")
    config.recipe, config.system.language_model.name = NAME, ""
    return config


def register(patch: pytest.MonkeyPatch) -> None:
    """Let the recipe be there, and the smallest language model be smaller still."""
    patch.setitem(PRESETS, "1m", Preset(2, 32, 64, 4, vocabulary_size=400, learning_rate=1e-2))
    patch.setitem(RECIPES, NAME, Recipe(NAME, "Tiny.", "training.md", tiny_build, STAGES))


@pytest.fixture(scope="module")
def tiny_recipe():
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        yield


def command(store, out, *more):
    return ["train", NAME, "--store", str(store), "--out", str(out), "--no_progress", *more]


def make_language_model(store, out, *more):
    main(command(store, out, "--stages", "language-model", *more))


@pytest.fixture(scope="module")
def made(tiny_recipe, store, tmp_path_factory):
    """A run directory whose stage is finished, and whose training has not begun."""
    out = tmp_path_factory.mktemp("stages") / "made"
    make_language_model(store, out)
    return out


@pytest.fixture(scope="module")
def trained(tiny_recipe, without_java, store, tmp_path_factory):
    """A run that was trained with its stage in one call from Python."""
    out = tmp_path_factory.mktemp("stages") / "trained"
    return radscribe.train(NAME, store=store, out=out, progress=False)


@pytest.fixture
def own(made, tmp_path):
    """A copy of the directory with the finished stage."""
    return Path(shutil.copytree(made, tmp_path / "run"))


KILLED = """
import os, signal, sys
import pytest, test_stages
from radscribe.cli import main
from radscribe.pretraining.language_model import LanguageModelTask

test_stages.register(pytest.MonkeyPatch())
loss, calls = LanguageModelTask.loss, []
def killing_loss(self, batch):
    calls.append(batch)
    if len(calls) == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(self, batch)
LanguageModelTask.loss = killing_loss
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def killed(store, tmp_path_factory):
    """A run directory whose process was killed in the second of three epochs of its stage."""
    out = tmp_path_factory.mktemp("stages") / "killed"
    process = subprocess.run(
        [sys.executable, "-c", KILLED, *command(store, out)], capture_output=True, cwd=Path(__file__).parent
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    return out


def assert_equal_models(first, second):
    ours, theirs = (load_file(out / PART / "model.safetensors") for out in (first, second))
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def everything_in(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


# --- a stage is made, used again, and goes on --------------------------------------------------------------


@pytest.mark.slow
def test_one_call_makes_what_is_missing_and_trains(trained, made, store, tmp_path):
    assert (trained.metrics).is_file()
    assert_equal_models(trained.path, made)
    kept = trained.load_config().system.language_model.name
    assert kept == str((trained.path / PART).absolute())
    # The stage before it changes nothing in the training.
    config = override(tiny_build(), {"system": {"language_model": {"name": kept}}})
    config.store = str(store)
    alone = train(config, tmp_path / "alone", progress=False)
    ours, theirs = load_file(trained.weights), load_file(alone.weights)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.slow
def test_a_finished_stage_is_reused(own, store, capsys):
    before = everything_in(own / PART)
    main(command(store, own))
    printed = capsys.readouterr().out
    assert f"stage language-model: reused, {own / PART} (hash " in printed
    assert "begins" not in printed
    assert f"run directory: {own}" in printed
    assert everything_in(own / PART) == before


@pytest.mark.slow
def test_each_stage_says_what_it_did(store, tmp_path, capsys):
    make_language_model(store, tmp_path / "run")
    first, *summary, last = capsys.readouterr().out.splitlines()
    assert first == f"stage language-model: begins in {tmp_path / 'run' / PART}"
    assert any(line.startswith("perplexity") for line in summary)
    assert last.startswith("stage language-model: done in ")
    assert f"{tmp_path / 'run' / PART} (hash " in last
    assert not (tmp_path / "run/config.yaml").exists()


@pytest.mark.slow
@pytest.mark.parametrize("again", ["the same command", "--resume"])
def test_a_killed_stage_goes_on_to_the_same_bits(killed, made, store, tmp_path, capsys, again):
    out = Path(shutil.copytree(killed, tmp_path / "run"))
    resume = ["train", NAME, "--out", str(out), "--resume", "--no_progress"]
    words = resume if again == "--resume" else command(store, out)
    main([*words, "--stages", "language-model"])
    assert "begins in" in (printed := capsys.readouterr().out)
    assert "unfinished at epoch 2 of 3" in printed
    assert_equal_models(out, made)


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_to_the_end(store, made, tmp_path, monkeypatch, capsys):
    loss, calls = LanguageModelTask.loss, []

    def stopping_loss(self, batch):
        calls.append(batch)
        if len(calls) == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(self, batch)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModelTask, "loss", stopping_loss)
        with pytest.raises(SystemExit, match="^130$"):
            main(command(store, out, "--training.epochs", "1"))
    *_, line = capsys.readouterr().err.splitlines()
    assert "up to step 9 (in epoch 2 of 3) is saved in" in line
    words = shlex.split(line.partition("Go on: ")[2])
    assert words == ["radscribe", "train", NAME, "--out", str(out), "--resume"]
    main([*words[1:], "--no_progress"])
    assert_equal_models(out, made)
    run = radscribe.load(out)
    assert run.config.training.epochs == 1


def test_ctrl_c_in_a_part_that_is_counted(store, tmp_path, monkeypatch):
    monkeypatch.setattr(phrase_table, "count_phrases", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(InterruptionError, match=r"in stage phrases.* Go on: radscribe train .* --resume"):
        run_stages(needing_parts(store), tmp_path / "run", ["phrases"], progress=False)
    assert list((tmp_path / "run/parts/phrases").glob("*")) == []


@pytest.mark.slow
def test_a_run_that_moves_takes_its_parts_along(trained, tmp_path):
    moved = Path(shutil.copytree(trained.path, tmp_path / "moved"))
    config = moved / "config.yaml"
    config.write_text(config.read_text().replace(str(trained.path), str(tmp_path / "gone")))
    assert radscribe.load(moved).config.system.language_model.name == str((moved / PART).absolute())
    shutil.rmtree(moved / "parts")
    with pytest.raises(RadScribeError, match="no language model in '.*gone"):
        radscribe.load(moved)


# --- a stage that is not the one that is asked for ---------------------------------------------------------


def refused(words, capsys):
    capsys.readouterr()
    with pytest.raises(SystemExit, match="^2$"):
        main(words)
    return capsys.readouterr().err


def test_a_stage_with_other_settings_is_refused_or_given(own, store, capsys):
    before = everything_in(own)
    said = refused(command(store, own, "--training.seed", "5"), capsys)
    assert "was made with other settings or data: seed was 0, is 5" in said
    assert f"rm -r {own / PART}" in said
    assert before == everything_in(own)
    given = shlex.split(said.partition("use it as it is: ")[2])
    make_language_model(store, own, "--training.seed", "5", *given)
    assert capsys.readouterr().out == (
        f"stage language-model: given by --system.language_model.name: {own / PART}\n"
    )
    assert before == everything_in(own)


@pytest.mark.parametrize(
    ("size", "says"), [("1m", "finished, content hash"), ("8m", "but size was 1m, is 8m")]
)
def test_a_setting_that_an_older_version_did_not_have_has_its_default(own, monkeypatch, capsys, size, says):
    facts = own / PART / "pretraining.json"
    content = json.loads(facts.read_text())
    assert content["settings"].pop("size") == "1m"
    facts.write_text(json.dumps(content))
    stages = {"language-model": {**STAGES["language-model"], "size": size}}
    monkeypatch.setitem(RECIPES, NAME, replace(RECIPES[NAME], stages=stages))
    said = listed(own, capsys)
    assert says in said
    assert ("but" in said) == (size == "8m")


@pytest.mark.slow
def test_a_stage_from_another_store_is_refused(own, tmp_path, capsys):
    said = refused(command(tiny_store(tmp_path / "other", studies=30), own), capsys)
    assert "with another content: its hash was" in said
    assert f"rm -r {own / PART}" in said


@pytest.mark.slow
def test_an_unfinished_stage_with_other_settings_is_refused(killed, store, capsys):
    said = refused(command(store, killed, "--data.cleaning", "none"), capsys)
    assert "was begun with other settings or data: cleaning was iu_xray, is none" in said


def test_text_files_that_the_recipe_does_not_name_are_seen(own, store, capsys):
    facts = json.loads((own / PART / "pretraining.json").read_text())
    facts["text_files"] = [{"file": "notes.txt", "sha256": "0" * 64}]
    (own / PART / "pretraining.json").write_text(json.dumps(facts))
    assert "they were notes.txt, are none" in refused(command(store, own), capsys)


def test_what_is_wrong_with_the_training_is_said_before_its_parts_are_made(store, tmp_path, capsys):
    out = tmp_path / "run"
    for field_of, value in (("data.section", "impressions"), ("training.warm_up_from", "1")):
        warm_up = ["--training.warm_up_epochs", "1"]
        said = refused(command(store, out, f"--{field_of}", value, *warm_up), capsys)
        assert value in said
        assert not out.exists()


def test_a_failing_stage_names_itself_and_what_to_do(store, tmp_path):
    config = needing_parts(store)
    config.data.section = "impressions"
    with pytest.raises(RadScribeError, match=r"^stage phrases: no study .*pass --system.phrases DIR"):
        run_stages(config, tmp_path / "run", ["phrases"], progress=False)


# --- the list ----------------------------------------------------------------------------------------------


def listed(out, capsys, *more):
    capsys.readouterr()
    before = everything_in(out)
    main(["train", NAME, "--out", str(out), "--stages", "list", *more])
    assert everything_in(out) == before
    return capsys.readouterr().out


@pytest.mark.slow
def test_the_list_shows_states_and_does_nothing(own, killed, store, tmp_path, capsys):
    nowhere = tmp_path / "nowhere"
    said = listed(nowhere, capsys, "--training.threads", "2")
    assert "1 language-model          missing\n" in said
    assert "settings  epochs 3, batch 4, threads 2, device cpu; others are the defaults" in said
    assert "2 training                not begun" in said
    assert not nowhere.exists()
    assert "language-model          unfinished at epoch 2 of 3\n" in listed(killed, capsys)
    assert "language-model          finished, content hash " in listed(own, capsys, "--store", str(store))
    said = listed(own, capsys, "--training.seed", "5")
    assert "but seed was 0, is 5" in said
    assert "given by --system.language_model.name: lm\n" in listed(
        own, capsys, "--system.language_model.name", "lm"
    )


@pytest.mark.slow
def test_the_list_shows_a_checkpoint_that_is_damaged_and_leaves_it(killed, tmp_path, capsys):
    out = Path(shutil.copytree(killed, tmp_path / "run"))
    (out / PART / "checkpoint.pt").write_bytes(b"nothing")
    assert "unfinished, before the first checkpoint of 3 epochs" in listed(out, capsys)
    (out / PART / "pretraining.json").write_text("{}")
    assert "pretraining.json' is damaged (KeyError" in listed(out, capsys)


# --- plans -------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True)
class PartsConfig(SystemConfig):
    """A system that needs two parts, listed in another order than they are made in."""

    phrases: str = ""
    observation_classifier: str = ""

    @property
    def parts(self):
        return {"phrases": "phrases", "observation_classifier": "observation-classifier"}


def needing_parts(store, **fields) -> RunConfig:
    config = override(
        tiny.config("r2gen/phantom"), {"data": {"cleaning": "mimic_cxr"}, "training": {"seed": 7}}
    )
    config.recipe, config.store, config.system = NAME, str(store), PartsConfig(**fields)
    return config


@pytest.fixture
def stages(monkeypatch):
    """Settings of the stages in the recipe."""
    settings = {
        "phrases": {"minimum_count": 2, "seed": 1},
        "observation-classifier": {"epochs": 1, "batch": 8},
    }
    tiny_recipe = Recipe(NAME, "Tiny.", "training.md", tiny_build, settings)
    monkeypatch.setitem(RECIPES, NAME, tiny_recipe)


def test_stages_stand_in_their_order_and_follow_the_recipe(store, stages):
    classifier, phrases = stages_of(needing_parts(store), "run")
    assert (classifier.kind, phrases.kind) == ("observation-classifier", "phrases")
    assert classifier.path == Path("run/parts/observation-classifier")
    assert classifier.option == "--system.observation_classifier"
    followed = {"short_side": 64, "crop": 56, "seed": 7, "threads": 1, "device": "cpu"}
    assert classifier.changed == followed | {"epochs": 1, "batch": 8}
    assert phrases.changed == {"minimum_count": 2, "cleaning": "mimic_cxr", "seed": 1}


def test_a_part_that_is_given_is_not_made(store, stages, tmp_path):
    said: list[str] = []
    given = {"phrases": "mine", "observation_classifier": "mine too"}
    config = needing_parts(store, **given)
    assert run_stages(config, tmp_path / "run", progress=False, tell=said.append).system == config.system
    assert [line.rpartition(": ")[2] for line in said] == ["mine too", "mine"]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_parts_are_made_for_the_fields_that_name_them(store, stages, tmp_path):
    """A classifier that is trained and a table that is counted; the second call makes nothing."""
    config, said = needing_parts(store), []
    named = run_stages(config, tmp_path / "run", progress=False).system
    assert ObservationClassifier.load(named.observation_classifier).transform.crop == 56
    assert PhraseTable.load(named.phrases).lists
    assert config.system.phrases == ""
    before = everything_in(tmp_path / "run/parts/phrases")
    assert run_stages(config, tmp_path / "run", progress=False, tell=said.append).system == named
    assert [line.partition(",")[0] for line in said] == [
        "stage observation-classifier: reused",
        "stage phrases: reused",
    ]
    assert everything_in(tmp_path / "run/parts/phrases") == before


def test_a_counted_part_that_was_killed_begins_again(store, stages, tmp_path):
    config, out = needing_parts(store), tmp_path / "run"
    phrases = Path(run_stages(config, out, ["phrases"], progress=False).system.phrases)
    whole = (phrases / "phrases.json").read_text()
    facts = json.loads((phrases / "pretraining.json").read_text())
    (phrases / "pretraining.json").write_text(json.dumps(facts | {"finished": False}))
    (phrases / "phrases.json").write_text("half of i")
    said: list[str] = []
    run_stages(config, out, ["phrases"], progress=False, tell=said.append)
    assert said[0].endswith("unfinished")
    assert (phrases / "phrases.json").read_text() == whole


def test_variants_share_the_stages_of_their_base(monkeypatch):
    for name, own, expected in (
        ("r2gen-gpt/tiny/one", None, STAGES),
        ("r2gen-gpt/tiny/one/two", None, STAGES),
        ("r2gen-gpt/tiny/other", {"phrases": {"top": 3}}, {"phrases": {"top": 3}}),
        ("r2gen-gpt/nothing", None, {}),
    ):
        monkeypatch.setitem(RECIPES, name, RECIPES[NAME])  # so that the patch removes the recipe again

        def build() -> RunConfig:
            """A variant."""
            return tiny_build()

        recipe(name, "training.md", stages=own)(build)
        assert RECIPES[name].stages == expected


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_has_a_plan(name):
    """Recipes of real data name their language model; whatever else is missing is made."""
    config = RECIPES[name].build()
    stages = stages_of(config, "run")
    assert bool(stages) == bool(config.system.made_of_a_store)
    for stage in stages:
        stage.settings.recorded()
        assert bool(stage.given) == ("/phantom" not in name and stage.kind == "language-model")
