"""The small language model: what it leaves, that it learns and resumes, and what stops it."""

import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny import tiny_store

from radscribe import cli
from radscribe.errors import InterruptionError, RadScribeError
from radscribe.pretraining import loop
from radscribe.pretraining.language_model import (
    PRESETS,
    LanguageModelTask,
    Preset,
    build_language_model,
)
from radscribe.pretraining.language_model_documents import (
    IGNORED,
    Encoder,
    Texts,
    batches_by_length,
    draw_cues,
    epoch_rows,
)
from radscribe.pretraining.settings import LanguageModelSettings
from radscribe.studies.store import PreparedStore
from radscribe.text.byte_level_tokenizer import SMALLEST_VOCABULARY, train_tokenizer
from radscribe.text.prompts import REPORT_PROMPT

FILES = {
    "MODEL_CARD.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "pretraining.json",
    "tokenizer.json",
    "tokenizer_config.json",
}
TINY = Preset(2, 32, 64, 4, vocabulary_size=400, learning_rate=1e-2)


def settings_of(**options):
    return LanguageModelSettings(**{"size": "tiny", "batch": 4, "threads": 1, "device": "cpu"} | options)


SETTINGS = settings_of(epochs=2)


@pytest.fixture(scope="module", autouse=True)
def tiny_preset():
    PRESETS["tiny"] = TINY
    yield
    del PRESETS["tiny"]


@pytest.fixture(scope="module", name="store")
def opened_store(store):
    return PreparedStore(store)


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "notes.txt"
    path.write_text("The ribs\nare intact.\n\nThe spine is straight.\n \n\nThe ribs are intact.\n")
    return path


def pretrain(store, out, settings=SETTINGS, **options):
    return loop.pretrain(LanguageModelTask, store, out, settings, progress=False, **options)


@pytest.fixture(scope="module")
def model_folder(store, text_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "tiny"
    pretrain(store, out, settings_of(epochs=6, text=[str(text_file)]))
    return out


@pytest.fixture(scope="module")
def facts(model_folder):
    return json.loads((model_folder / "pretraining.json").read_text())


@pytest.fixture(scope="module")
def tokenizer(store):
    return train_tokenizer(Texts.read(store, "findings", "iu_xray", []).reports, 400)


# --- the tokenizer -----------------------------------------------------------------------------------------


@given(st.text())
@example("Human: <Img></Img> Generate a report. \nAssistant:")
@example("</s><unk> <s>\r\n\t 漢字 \u0000")
def test_any_text_comes_back_exactly(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == text
    assert tokenizer(text).input_ids == [tokenizer.bos_token_id, *ids]


def test_the_same_texts_give_the_same_tokenizer():
    texts = ["no pleural effusion .", "no pneumothorax .", "the heart is normal ."] * 3
    first, second = (train_tokenizer(texts, 300).backend_tokenizer.to_str() for _ in range(2))
    assert first == second


def test_frequent_words_become_one_token_and_special_ones_stand_first(tokenizer):
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<pad>", "<s>", "</s>", "<unk>"]
    assert SMALLEST_VOCABULARY < len(tokenizer) <= 400
    assert len(tokenizer("no pleural effusion", add_special_tokens=False).input_ids) == 3


# --- texts and batches -------------------------------------------------------------------------------------


def test_only_train_is_learnt_and_test_is_never_asked_for(store, monkeypatch):
    asked = []
    studies = PreparedStore.studies
    monkeypatch.setattr(
        PreparedStore, "studies", lambda self, split: asked.append(split) or studies(self, split)
    )
    texts = Texts.read(store, "findings", "none", [])
    assert asked == ["train", "val"]
    reports = {split: [study.sections["findings"] for study in studies(store, split)] for split in asked}
    assert texts.reports == reports["train"]
    assert texts.validation == reports["val"]
    assert texts.paragraphs == []


def test_a_blank_line_ends_a_paragraph_and_repetitions_are_left_out(store, text_file):
    texts = Texts.read(store, "findings", "mimic_cxr", [text_file])
    assert texts.paragraphs == ["the ribs are intact .", "the spine is straight ."]
    assert [(file["paragraphs"], file["repeated"]) for file in texts.files] == [(2, 1)]


def test_every_text_is_predicted_once_and_nothing_else_is(tokenizer):
    """Whatever the window cuts: the labels of all rows, one after the other, are the texts and their ends."""
    encoder = Encoder(tokenizer, window=200)
    for length in (0, 1, 10, 198, 199, 200, 397, 398, 399, 700):
        ids = [10 + number % 250 for number in range(length)]
        for rows in (encoder.bare(ids), encoder.prompted(ids, ids[:5])):
            assert all(len(row.ids) <= 200 and row.given for row in rows)
            _, labels = encoder.batch(rows)
            assert labels[labels != IGNORED].tolist() == [*ids, encoder.end]


def test_the_prompt_is_tokenized_as_by_the_systems(tokenizer):
    """Halves and report apart: a system has visual tokens between the halves."""
    encoder = Encoder(tokenizer, window=512)
    before, after = (tokenizer(half, add_special_tokens=False).input_ids for half in REPORT_PROMPT)
    (row,) = encoder.prompted([300, 301], [7])
    assert row.ids == [encoder.begin, *before, 7, *after, 300, 301, encoder.end]
    assert row.given == len(row.ids) - 3


def test_an_epoch_has_every_text_once_in_both_forms(tokenizer):
    encoder = Encoder(tokenizer, window=512)
    reports = [[20 + number] * 8 for number in range(100)]
    rows = epoch_rows(encoder, reports, [[5, 6, 7]], np.random.default_rng(0))
    learnt = [
        row.ids[row.given] for batch in batches_by_length(rows, 16, np.random.default_rng(0)) for row in batch
    ]
    assert sorted(learnt) == [5, *range(20, 120)]
    bare = sum(row.given == 1 for row in rows)
    assert 10 < bare < 60
    assert rows != epoch_rows(encoder, reports, [[5, 6, 7]], np.random.default_rng(1))


def test_cues_are_some_of_the_tokens_in_another_order():
    ids = list(range(50))
    cues = draw_cues(ids, 0.5, np.random.default_rng(0))
    assert len(cues) == len(set(cues)) == 25
    assert set(cues) < set(ids)
    assert cues != sorted(cues)
    assert draw_cues(ids, 0.0, np.random.default_rng(0)) == []
    assert len(draw_cues(ids * 10, 1.0, np.random.default_rng(0))) == 100


# --- the model ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "millions"), [("1m", 1), ("8m", 8), ("30m", 30)])
def test_presets_have_the_size_that_they_are_named_after(tokenizer, size, millions):
    preset = PRESETS[size]
    with torch.device("meta"):
        model = build_language_model(preset, tokenizer)
    embeddings = preset.width * (preset.vocabulary_size - len(tokenizer))
    assert model.num_parameters() + embeddings == pytest.approx(millions * 1e6, rel=0.1)
    assert model.config.max_position_embeddings >= 512


@pytest.mark.slow
def test_what_it_leaves_is_loaded_by_the_auto_classes_and_writes(model_folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert {path.name for path in model_folder.iterdir()} == FILES
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    text = "Human: <Img></Img> Überblick?\nAssistant:"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    written = model.generate(**tokenizer("", return_tensors="pt"), max_new_tokens=20, do_sample=False)
    assert tokenizer.decode(written[0], skip_special_tokens=True).strip()


def test_the_reported_perplexity_is_that_of_the_saved_model(model_folder, facts, store):
    """Computed once more by the plain call of `transformers`, one report at a time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    texts = Texts.read(store, "findings", "iu_xray", []).validation
    nats = tokens = 0
    for text in texts:
        ids = torch.tensor([[*tokenizer(text).input_ids, tokenizer.eos_token_id]])
        with torch.no_grad():
            nats += float(model(ids, labels=ids).loss) * (ids.size(1) - 1)
        tokens += ids.size(1) - 1
    measured = facts["validation"]["bare"]
    assert facts["tokens"]["validation"] == tokens
    assert measured["loss"] == pytest.approx(nats / tokens, rel=1e-4)
    words, size = sum(len(text.split()) for text in texts), sum(map(len, texts))
    assert measured["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-3)
    assert measured["word_perplexity"] == pytest.approx(math.exp(nats / words), rel=1e-3)
    assert measured["byte_perplexity"] == pytest.approx(math.exp(nats / size), rel=1e-3)


def test_it_learns_more_than_how_often_each_token_occurs(facts):
    losses = [epoch["bare"] for epoch in facts["history"]]
    assert losses[-1] < losses[0]
    assert facts["validation"]["bare"]["loss"] == pytest.approx(losses[facts["best_epoch"] - 1])
    for form in ("bare", "prompted", "cued"):
        assert facts["validation"][form]["perplexity"] < facts["validation"]["unigram"]["perplexity"] / 2


def test_the_facts_say_where_it_came_from(facts, store, text_file, model_folder):
    assert facts["finished"] is True
    assert facts["store_content_hash"] == store.manifest["content_hash"]
    assert facts["text_files"][0]["file"] == str(text_file)
    assert facts["texts"]["train_reports"] == len(store.studies("train"))
    assert facts["texts"]["paragraphs"] == 2
    assert facts["steps"] > facts["epochs"] >= facts["best_epoch"] >= 1
    card = (model_folder / "MODEL_CARD.md").read_text()
    assert "not for clinical diagnosis" in card
    assert f"{facts['parameters']:,} parameters" in card


# --- interruption ------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from radscribe.studies.store import PreparedStore
from radscribe.pretraining import language_model as module
from radscribe.pretraining.loop import pretrain
from radscribe.pretraining.settings import LanguageModelSettings

module.PRESETS["tiny"] = module.Preset(2, 32, 64, 4, vocabulary_size=400, learning_rate=1e-2)
nats, calls = module.LanguageModelTask._nats, []
def killing_nats(self, rows):
    calls.append(rows)
    if len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return nats(self, rows)
module.LanguageModelTask._nats = killing_nats
pretrain(
    module.LanguageModelTask, PreparedStore(sys.argv[1]), sys.argv[2],
    LanguageModelSettings(size="tiny", epochs=3, batch=4, threads=1, device="cpu"), progress=False,
)
"""


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(store, tmp_path, monkeypatch):
    """Stopped in the first epoch, before any checkpoint, and killed in the second one."""
    settings = settings_of(epochs=3)
    pretrain(store, tmp_path / "whole", settings)
    arguments = [str(store.path), str(tmp_path / "killed"), "16"]
    process = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert (tmp_path / "killed" / "checkpoint.pt").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModelTask, "loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(store, tmp_path / "interrupted", settings)
    assert not (tmp_path / "interrupted" / "checkpoint.pt").exists()
    for name in ("killed", "interrupted"):
        pretrain(store, tmp_path / name, settings, resume=True)
        assert {path.name for path in (tmp_path / name).iterdir()} == FILES
        assert_equal_models(tmp_path / "whole", tmp_path / name)


def stopping_at(step):
    """A loss of which the one of this step, from 1 on, comes with a Ctrl-C."""
    loss, calls = LanguageModelTask.loss, []

    def stopping_loss(self, batch):
        calls.append(batch)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(self, batch)

    return stopping_loss


@pytest.mark.slow
def test_a_training_that_is_stopped_says_how_to_go_on(store, tmp_path, monkeypatch, capsys):
    """Ctrl-C in the third epoch, a checkpoint that is cut short, and the command of the message as it is."""
    monkeypatch.setitem(PRESETS, "1m", TINY)
    settings = settings_of(size="1m", epochs=3, seed=2)
    steps = pretrain(store, tmp_path / "whole", settings)["steps"]
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModelTask, "loss", stopping_at(steps - 1))
        with pytest.raises(
            InterruptionError, match=rf"up to step {steps - 1} \(in epoch 3 of 3\)"
        ) as stopped:
            pretrain(store, tmp_path / "stopped", settings)
    last = tmp_path / "stopped" / "checkpoint.pt"
    last.write_bytes(last.read_bytes()[:1000])
    command = shlex.split(str(stopped.value).partition("Go on: ")[2])
    cli.main([*command[1:], "--no_progress"])
    assert "previous.pt" in capsys.readouterr().err
    (tmp_path / "stopped" / "checkpoint.pt.damaged").unlink()
    assert_equal_models(tmp_path / "whole", tmp_path / "stopped")


def test_a_stopped_training_goes_on_within_its_epoch(store, tmp_path, monkeypatch):
    """Every step is taken once, and the losses on record are those of the uninterrupted training."""
    settings = settings_of(epochs=2, seed=3)
    steps = pretrain(store, tmp_path / "whole", settings)["steps"]
    for number in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr(LanguageModelTask, "loss", stopping_at(1))
            with pytest.raises(InterruptionError, match=f"up to step {number} "):
                pretrain(store, tmp_path / "stopped", settings, resume=number > 1)
    assert pretrain(store, tmp_path / "stopped", settings, resume=True)["steps"] == steps
    assert_equal_models(tmp_path / "whole", tmp_path / "stopped")


def interrupted(self, rows):
    raise KeyboardInterrupt


def assert_equal_models(first, second):
    """Every weight, and every fact but the time."""
    whole, other = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert [name for name in whole if not torch.equal(whole[name], other[name])] == []
    facts = [json.loads((folder / "pretraining.json").read_text()) for folder in (first, second)]
    assert {name for name in facts[0] if facts[0][name] != facts[1][name]} <= {"began"}


def test_a_finished_training_is_left_as_it_is(store, model_folder, text_file, facts):
    before = (model_folder / "model.safetensors").stat().st_mtime_ns
    settings = settings_of(**facts["settings"], text=[str(text_file)])
    assert pretrain(store, model_folder, settings, resume=True) == facts
    assert (model_folder / "model.safetensors").stat().st_mtime_ns == before


def test_it_stops_when_validation_gets_no_better(store, tmp_path, monkeypatch):
    losses = iter(range(1, 100))
    monkeypatch.setattr(
        LanguageModelTask, "validate", lambda self: dict.fromkeys(self.forms, float(next(losses)))
    )
    result = pretrain(store, tmp_path / "model", settings_of(epochs=20, batch=8))
    assert (result["best_epoch"], result["epochs"]) == (1, 4)


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": "7m"}, "unknown size '7m'.*Known: 1m, 30m, 8m"),
        (
            {"section": "comparison"},
            "no study of the train split has a section 'comparison'.*findings.*--section",
        ),
        ({"cleaning": "iu"}, "unknown text cleaning 'iu'"),
        ({"vocabulary_size": 100}, "--vocabulary_size 100 is too small.*260"),
        ({"epochs": 0}, "at least 1"),
        ({"learning_rate": 1e30}, "the loss is nan at step 2.*such as --learning_rate 1e.29"),
    ],
)
def test_settings_out_of_range(store, tmp_path, settings, message):
    with pytest.raises(RadScribeError, match=message):
        pretrain(store, tmp_path / "model", settings_of(**settings))
    assert not (tmp_path / "model").exists()


def test_a_validation_loss_that_is_not_finite(store, tmp_path, monkeypatch):
    monkeypatch.setattr(LanguageModelTask, "validate", lambda self: {"bare": math.inf})
    with pytest.raises(RadScribeError, match="validation loss is inf after epoch 1.*--learning_rate 0.001"):
        pretrain(store, tmp_path / "model")


def test_no_reports(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    view = PreparedStore(tiny_store(tmp_path / "phantom", studies=1)).studies()[0].views[0].source()
    from PIL import Image

    from radscribe.studies.prepare import prepare

    for number in range(10):
        Image.fromarray(view.pixels).save(images / f"{number}.png")
    prepare(images, tmp_path / "store", workers=1, progress=False)
    with pytest.raises(RadScribeError, match="no study of the train split.*source that has reports"):
        pretrain(PreparedStore(tmp_path / "store"), tmp_path / "model")


def test_a_text_file_that_is_missing_or_empty(store, tmp_path):
    with pytest.raises(RadScribeError, match="cannot read .*gone.txt"):
        pretrain(store, tmp_path / "model", settings_of(text=[str(tmp_path / "gone.txt")]))
    (tmp_path / "empty.txt").write_text(" \n\n ")
    with pytest.raises(RadScribeError, match="no text in .*empty.txt"):
        pretrain(store, tmp_path / "model", settings_of(text=[str(tmp_path / "empty.txt")]))
    assert not (tmp_path / "model").exists()


def test_out_that_is_there_already(store, model_folder):
    with pytest.raises(RadScribeError, match="something in .* already.*--resume"):
        pretrain(store, model_folder)


@pytest.mark.slow
def test_resuming_what_is_not_there_or_was_begun_otherwise(store, model_folder, text_file, tmp_path, facts):
    with pytest.raises(RadScribeError, match="no training to resume"):
        pretrain(store, tmp_path / "none", resume=True)
    text = [str(text_file)]
    settings = settings_of(**facts["settings"] | {"batch": 5, "seed": 1, "text": text})
    with pytest.raises(
        RadScribeError, match="begun with other settings or data: batch was 4, is 5; seed was 0, is 1"
    ):
        pretrain(store, model_folder, settings, resume=True)
    settings = settings_of(**facts["settings"])
    with pytest.raises(
        RadScribeError, match="the text files are not the same: they were .*notes.txt, are none"
    ):
        pretrain(store, model_folder, settings, resume=True)
    other = PreparedStore(tiny_store(tmp_path / "other", studies=30))
    with pytest.raises(RadScribeError, match="another content: its hash was"):
        pretrain(other, model_folder, settings_of(**facts["settings"], text=text), resume=True)


# --- the command -------------------------------------------------------------------------------------------


def test_the_command(store, text_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, "1m", TINY)
    out = tmp_path / "model"
    options = [str(store.path), "--out", str(out), "--epochs", "1", "--threads", "1"]
    options += ["--text", str(text_file), str(text_file), "--vocabulary-size", "300", "--no_progress"]
    cli.main(["pretrain", "language-model", *options])
    printed = capsys.readouterr().out
    assert "300 tokens in its vocabulary" in printed
    assert "2 paragraphs" in printed
    assert "not for clinical diagnosis" in printed
    cli.main(["pretrain", "language-model", *options, "--resume"])
    assert capsys.readouterr().out == printed
    shutil.rmtree(out)
    with pytest.raises(SystemExit, match="^2$"):
        cli.main(["pretrain", "language-model", *options, "--resume"])
    assert "no training to resume" in capsys.readouterr().err
