"""Bad inputs to `generate`, `explain`, `page`, `embeddings` and `check` on runs."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bad_inputs.rows import Row, Workshop
from radscribe.runs.run_directory import RunDirectory

Arrange = Callable[[Workshop], object]


def images(workshop: Workshop) -> Path:
    return workshop.images()


def with_file(name: str, content: str | bytes) -> Arrange:
    """Readable images, and one more file."""

    def arrange(workshop: Workshop) -> None:
        workshop.images()
        workshop.write(name, content)

    return arrange


def damaged(name: str, content: str | bytes | Callable[[bytes], bytes]) -> Arrange:
    """A copy of the run with another content of one of its files."""

    def arrange(workshop: Workshop) -> None:
        workshop.images()
        path = workshop.copy_run() / name
        before = path.read_bytes()
        changed = content(before) if callable(content) else content
        path.write_bytes(changed.encode() if isinstance(changed, str) else changed)

    return arrange


def without(name: str) -> Arrange:
    """A copy of the run without one of its files."""

    def arrange(workshop: Workshop) -> None:
        workshop.images()
        (workshop.copy_run() / name).unlink()

    return arrange


def changed_json(name: str, change: Callable[[dict], object]) -> Arrange:
    """A copy of the run with something changed in a JSON file."""

    def changed(content: bytes) -> bytes:
        values = json.loads(content)
        change(values)
        return json.dumps(values).encode()

    return damaged(name, changed)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def without_end(content: bytes) -> bytes:
    return content[:-9]


def without_last_line(content: bytes) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:-1])


def flipped(content: bytes) -> bytes:
    """One bit in the middle is another."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def folder_of_weights(workshop: Workshop) -> None:
    without("weights.safetensors")(workshop)
    (workshop.path / "run" / "weights.safetensors").mkdir()


def changed_weights(change: Callable[[dict[str, torch.Tensor]], object], *, hashed: bool) -> Arrange:
    """A copy of the run with other weights: with their hash on record, or as an older RadScribe left it."""

    def arrange(workshop: Workshop) -> None:
        workshop.images()
        run = RunDirectory(workshop.copy_run())
        weights = load_file(run.weights)
        change(weights)
        save_file(weights, run.weights)
        facts = run.read_facts()
        facts.pop("weights_sha256")
        run.facts.write_text(json.dumps(facts))
        if hashed:
            run.update_facts(weights_sha256=hashlib.sha256(run.weights.read_bytes()).hexdigest())

    return arrange


def not_a_number(weights: dict[str, torch.Tensor]) -> None:
    weights["network.logits.bias"][3] = torch.nan


def store_with(name: str, content: Callable[[bytes], bytes] | None) -> Arrange:
    """A copy of the store with a file changed or, for None, without it."""

    def arrange(workshop: Workshop) -> None:
        path = workshop.copy_store() / name
        if content:
            path.write_bytes(content(path.read_bytes()))
        else:
            path.unlink()

    return arrange


def inverted(content: bytes) -> bytes:
    return bytes(255 - value for value in content)


def unchanged(name: str, content: str) -> Arrange:
    """A check that a file is as it was."""

    def check(workshop: Workshop) -> None:
        assert (workshop.path / name).read_text() == content

    return check


def absent(*names: str) -> Arrange:
    """A check that nothing was left behind."""

    def check(workshop: Workshop) -> None:
        assert [name for name in names if (workshop.path / name).exists()] == []

    return check


def drafted(*ids: str) -> Arrange:
    """A check that exactly these studies are in drafts.jsonl."""

    def check(workshop: Workshop) -> None:
        lines = (workshop.path / "drafts.jsonl").read_text().splitlines()
        assert [json.loads(line)["id"] for line in lines] == list(ids)

    return check


def decoding(name: str, fields: str, says: str | tuple[str, ...]) -> Row:
    """A row of `generate --decoding FIELDS`."""
    fields = fields.replace("{", "{{").replace("}", "}}")
    return Row(f"decoding: {name}", f"generate {{run}} images --decoding '{fields}'", says, arrange=images)


def of_run(name: str, says: str | tuple[str, ...], arrange: Arrange) -> Row:
    """A row of `generate` with a damaged copy of the run."""
    return Row(
        f"a run {name}",
        "generate run images --out drafts.jsonl",
        says,
        arrange=arrange,
        check=absent("drafts.jsonl"),
    )


SOURCES = [
    Row(
        "a run that is not there",
        "generate nowhere {store}",
        ("'nowhere' is no run directory", "radscribe train"),
    ),
    Row("a store given as a run", "generate {store} {store}", "is no run directory"),
    Row(
        "a file given as a run",
        "generate notes.txt {store}",
        "'notes.txt' is no run directory",
        arrange=with_file("notes.txt", "x"),
    ),
    Row(
        "a source of drafts that is not there",
        "generate {run} nowhere",
        ("no study of nowhere", "no such file or folder: nowhere"),
    ),
    Row(
        "an empty folder to draft",
        "generate {run} empty",
        ("no study of empty", "cannot tell what empty holds"),
        arrange=lambda workshop: (workshop.path / "empty").mkdir(),
    ),
    Row(
        "a text in place of an image",
        "generate {run} note.png",
        ("note.png", "not an image"),
        arrange=with_file("note.png", "no image"),
    ),
    Row(
        "an empty image to draft",
        "generate {run} empty.png",
        ("empty.png", "empty file"),
        arrange=with_file("empty.png", ""),
    ),
    Row(
        "a bad image among good ones",
        "generate {run} images --out drafts.jsonl",
        ("rejected bad: ", "not an image", "3 drafts in drafts.jsonl, 1 rejected"),
        0,
        with_file("images/bad.png", "no image"),
        drafted("0", "1", "2"),
    ),
    Row(
        "a missing image among good ones",
        "generate {run} images/0.png gone.png images/1.png --out drafts.jsonl",
        ("rejected gone: no such file or folder", "2 drafts"),
        0,
        images,
        drafted("images/0", "images/1"),
    ),
    Row(
        "an image given twice",
        "generate {run} images/0.png images/0.png --out drafts.jsonl",
        ("rejected images/0: duplicate id", "1 drafts"),
        0,
        images,
        drafted("images/0"),
    ),
    Row(
        "an empty folder among sources",
        "generate {run} empty images --out drafts.jsonl",
        ("rejected empty: cannot tell", "3 drafts"),
        0,
        lambda workshop: (workshop.images(), (workshop.path / "empty").mkdir()),
        drafted("images/0", "images/1", "images/2"),
    ),
    Row(
        "a split of a folder",
        "generate {run} images --split test",
        ("'images' is none", "Leave out --split"),
        arrange=images,
    ),
    Row(
        "a split of an image",
        "generate {run} images/0.png --split train",
        "'images/0.png' is none",
        arrange=images,
    ),
    Row(
        "a split that is not there",
        "generate {run} {store} --split tset",
        ("unknown split 'tset'", "Did you mean 'test'"),
    ),
    Row("a batch of 0", "generate {run} images --batch 0", ("--batch 0", "1 or more"), arrange=images),
    Row("a batch below 0", "generate {run} images --batch -3", "--batch -3", arrange=images),
    Row("a batch that is no number", "generate {run} images --batch many", "batch", arrange=images),
    Row("a device that is not there", "generate {run} images --device tpu", "device", arrange=images),
    Row(
        "0 best drafts",
        "generate {run} images --n_best 0",
        "decoding.n_best must be at least 1, not 0",
        arrange=images,
    ),
    Row(
        "more best drafts than beams",
        "generate {run} images --n_best 5",
        "decoding.n_best 5 needs decoding.beams 5 or more",
        arrange=images,
    ),
    Row(
        "best drafts said twice",
        "generate {run} images --n_best 2 --decoding '{{\"n_best\": 1}}'",
        "Give one of them",
        arrange=images,
    ),
]

DECODINGS = [
    decoding("no JSON", "beams", "decoding"),
    decoding("a number", "3", "decoding"),
    decoding("a list", "[1]", "decoding"),
    decoding("deep JSON", '{"a": ' + "[" * 3000 + "]" * 3000 + "}", "decoding"),
    decoding("an unknown field", '{"beam": 3}', ("no decoding field 'beam'", "Fields: method, beams")),
    decoding(
        "an unknown method",
        '{"method": "beams"}',
        "decoding.method must be beam or greedy or sample, not 'beams'",
    ),
    decoding("a method that is a list", '{"method": ["beam"]}', "decoding.method must be"),
    decoding(
        "an unknown scoring", '{"scoring": "best"}', "decoding.scoring must be captioning or full, not 'best'"
    ),
    decoding("beams as text", '{"beams": "five"}', "decoding.beams must be a whole number, not 'five'"),
    decoding("half a beam", '{"beams": 2.5}', "decoding.beams must be a whole number, not 2.5"),
    decoding("beams that are true", '{"beams": true}', "decoding.beams must be a whole number, not True"),
    decoding("beams that are null", '{"beams": null}', "decoding.beams must be a whole number, not None"),
    decoding("0 beams", '{"beams": 0}', "decoding.beams must be at least 1, not 0"),
    decoding("a million beams", '{"beams": 1000000}', "decoding.beams must be at most 1000, not 1000000"),
    decoding(
        "a length penalty that is no number",
        '{"length_penalty": NaN}',
        "decoding.length_penalty must be finite, not nan",
    ),
    decoding(
        "an infinite repetition penalty",
        '{"repetition_penalty": Infinity}',
        "decoding.repetition_penalty must be finite",
    ),
    decoding(
        "a repetition penalty of 0",
        '{"repetition_penalty": 0}',
        "decoding.repetition_penalty must be above 0, not 0",
    ),
    decoding("a length of 0", '{"maximum_length": 0}', "decoding.maximum_length must be at least 1, not 0"),
    decoding(
        "an endless length", '{"maximum_length": 100000}', "decoding.maximum_length must be at most 5000"
    ),
    decoding(
        "the shortest longer than the longest",
        '{"minimum_length": 30}',
        "decoding.minimum_length must not exceed decoding.maximum_length",
    ),
    decoding(
        "n-grams below 0", '{"no_repeat_ngram": -1}', "decoding.no_repeat_ngram must be at least 0, not -1"
    ),
    decoding(
        "a temperature that is no number",
        '{"method": "sample", "temperature": NaN}',
        "decoding.temperature must be finite",
    ),
    decoding(
        "a temperature of 0",
        '{"method": "sample", "temperature": 0}',
        "decoding.temperature must be above 0, not 0",
    ),
    decoding(
        "a nucleus of more than everything",
        '{"method": "sample", "top_p": 2}',
        "decoding.top_p must be in (0, 1], not 2",
    ),
    decoding(
        "a seed below 0", '{"method": "sample", "seed": -1}', "decoding.seed must be at least 0, not -1"
    ),
    decoding(
        "a seed of 65 bits",
        '{"method": "sample", "seed": 18446744073709551616}',
        "decoding.seed must be at most",
    ),
    decoding(
        "a temperature without sampling",
        '{"temperature": 0.5}',
        ("decoding.temperature is for the method 'sample'", "set decoding.method to sample"),
    ),
    decoding(
        "beams for greedy decoding",
        '{"method": "greedy", "beams": 5}',
        "decoding.beams is for the method 'beam'",
    ),
    decoding(
        "best drafts of greedy decoding",
        '{"method": "greedy", "n_best": 2}',
        "decoding.n_best 2 needs the method 'beam'",
    ),
    decoding(
        "what allows no draft",
        '{"minimum_length": 2000, "maximum_length": 2000, "no_repeat_ngram": 1}',
        ("no draft of study '0' is allowed", "decoding.no_repeat_ngram 1"),
    ),
]


def left_partial(workshop: Workshop) -> None:
    """What an interrupted command leaves, with other beams."""
    workshop.images()
    header = {"settings": {"beams": 7}, "studies": "", "batch": 16, "overwrite": False}
    workshop.write("drafts.jsonl.partial", json.dumps(header) + "\n")


OUTPUTS = [
    Row(
        "drafts as text",
        "generate {run} images --out drafts.txt",
        ("'drafts.txt'", "ends in neither .jsonl nor .csv"),
        arrange=images,
        check=absent("drafts.txt"),
    ),
    Row(
        "drafts without a suffix",
        "generate {run} images --out drafts",
        "ends in neither .jsonl nor .csv",
        arrange=images,
    ),
    Row(
        "drafts to a full device",
        "generate {run} images --out /dev/full",
        "ends in neither .jsonl nor .csv",
        arrange=images,
    ),
    Row(
        "drafts to a folder",
        "generate {run} images --out out.jsonl",
        ("'out.jsonl' is a folder", "--out out.jsonl/drafts.jsonl"),
        arrange=lambda workshop: (workshop.images(), (workshop.path / "out.jsonl").mkdir()),
    ),
    Row(
        "drafts below a file",
        "generate {run} images --out note/drafts.jsonl",
        "cannot write 'note/drafts.jsonl'",
        arrange=with_file("note", "mine"),
        check=unchanged("note", "mine"),
    ),
    Row(
        "drafts where a file is",
        "generate {run} images --out drafts.jsonl",
        ("'drafts.jsonl' is there already", "--overwrite"),
        arrange=with_file("drafts.jsonl", "mine"),
        check=unchanged("drafts.jsonl", "mine"),
    ),
    Row(
        "drafts with too long a name",
        f"generate {{run}} images --out {'x' * 300}.jsonl",
        "File name too long",
        arrange=images,
    ),
    Row(
        "--overwrite without a file",
        "generate {run} images --overwrite",
        "go with --out FILE",
        arrange=images,
    ),
    Row("--resume without a file", "generate {run} images --resume", "go with --out FILE", arrange=images),
    Row(
        "nothing to resume",
        "generate {run} images --out drafts.jsonl --resume",
        ("nothing is left to resume", "Leave out --resume"),
        arrange=images,
    ),
    Row(
        "nothing left to resume",
        "generate {run} images --out drafts.jsonl --resume",
        "'drafts.jsonl' is there already",
        arrange=with_file("drafts.jsonl", "mine"),
        check=unchanged("drafts.jsonl", "mine"),
    ),
    Row(
        "drafts that were interrupted",
        "generate {run} images --out drafts.jsonl",
        ("drafts.jsonl.partial' was left", "--resume", "--overwrite"),
        arrange=left_partial,
    ),
    Row(
        "drafts that were begun otherwise",
        "generate {run} images --out drafts.jsonl --resume",
        ("was begun with another run or decoding", "--overwrite"),
        arrange=left_partial,
    ),
    Row(
        "a partial file of others",
        "generate {run} images --out drafts.jsonl --resume",
        "is not what radscribe generate leaves",
        arrange=with_file("drafts.jsonl.partial", "mine\n"),
        check=unchanged("drafts.jsonl.partial", "mine\n"),
    ),
    Row(
        "a page where a folder is", "page {run} --out images", ("'images'", "it is a folder"), arrange=images
    ),
    Row(
        "a page where a file of others is",
        "page {run} --out notes.html",
        ("'notes.html' is there already", "not a page that RadScribe wrote"),
        arrange=with_file("notes.html", "mine"),
        check=unchanged("notes.html", "mine"),
    ),
    Row(
        "a page below a file",
        "page {run} --out note/page.html",
        "cannot write 'note/page.html'",
        arrange=with_file("note", "mine"),
        check=unchanged("note", "mine"),
    ),
    Row("a page on a full device", "page {run} --out /dev/full", "'/dev/full' is there already"),
    Row(
        "explanations where a file is",
        "explain {run} --images images/0.png --out note",
        "'note' is no folder",
        arrange=with_file("note", "mine"),
        check=unchanged("note", "mine"),
    ),
    Row(
        "explanations below a file",
        "explain {run} --images images/0.png --out note/where",
        "cannot write 'note/where",
        arrange=with_file("note", "mine"),
    ),
    Row(
        "explanations among other files",
        "explain {run} --images images/0.png --out images",
        "the folder 'images' holds other files",
        arrange=images,
        check=absent("images/index.html"),
    ),
    Row(
        "explanations over a page of others",
        "explain {run} --images images/0.png --out site",
        "not a page that RadScribe wrote",
        arrange=with_file("site/index.html", "mine"),
        check=unchanged("site/index.html", "mine"),
    ),
    Row("histograms as text", "embeddings {run} --out words.txt", ("'words.txt'", ".png, .pdf, .svg")),
    Row(
        "histograms where a file of others is",
        "embeddings {run} --out words.png",
        "not a figure that RadScribe wrote",
        arrange=with_file("words.png", "mine"),
        check=unchanged("words.png", "mine"),
    ),
    Row(
        "scored drafts where a file of others is",
        "evaluate {run} --no_meteor --drafts notes.txt",
        "not drafts that RadScribe wrote",
        arrange=with_file("notes.txt", "mine"),
        check=unchanged("notes.txt", "mine"),
    ),
    Row(
        "scored drafts where a folder is",
        "evaluate {run} --no_meteor --drafts images",
        "it is a folder",
        arrange=images,
    ),
]

WEIGHTS = "weights.safetensors"
RUNS = [
    of_run(
        "without weights", ("'run' has no weights.safetensors", "from a copy of the run"), without(WEIGHTS)
    ),
    of_run(
        "with empty weights", ("run/weights.safetensors' is damaged", "from a copy"), damaged(WEIGHTS, b"")
    ),
    of_run(
        "with half the weights",
        "run/weights.safetensors' is damaged: it cannot be read",
        damaged(WEIGHTS, half),
    ),
    of_run(
        "with random bytes as weights",
        "run/weights.safetensors' is damaged: it cannot be read",
        damaged(WEIGHTS, bytes(range(256)) * 20),
    ),
    of_run(
        "with pickled weights",
        "run/weights.safetensors' is damaged: it cannot be read",
        damaged(WEIGHTS, pickle.dumps({"weights": [1.0]})),
    ),
    of_run(
        "with a folder as weights",
        "run/weights.safetensors' is damaged: it cannot be read",
        folder_of_weights,
    ),
    of_run(
        "with one bit changed in its weights",
        ("run/weights.safetensors' is damaged or of another run", "run.json says"),
        damaged(WEIGHTS, flipped),
    ),
    of_run(
        "with NaN in its weights",
        "network.logits.bias holds a number that is not finite",
        changed_weights(not_a_number, hashed=True),
    ),
    of_run(
        "with NaN in weights without a hash",
        "network.logits.bias holds a number that is not finite",
        changed_weights(not_a_number, hashed=False),
    ),
    of_run(
        "that lacks a weight",
        "missing network.logits.bias",
        changed_weights(lambda weights: weights.pop("network.logits.bias"), hashed=True),
    ),
    of_run("without run.json", ("has no run.json", "from a copy of the run"), without("run.json")),
    of_run("with half of run.json", "run/run.json' is damaged", damaged("run.json", half)),
    of_run("with an empty run.json", "run/run.json' is damaged", damaged("run.json", "")),
    of_run(
        "with a list as run.json",
        "run/run.json' is damaged: it holds no JSON object",
        damaged("run.json", "[]"),
    ),
    of_run(
        "with bytes as run.json", "run/run.json' is damaged: it is no text", damaged("run.json", b"\xff\xfe")
    ),
    of_run(
        "with deep JSON as run.json",
        "run/run.json' is damaged: it is nested too deeply",
        damaged("run.json", "[" * 100000),
    ),
    of_run(
        "with a number as the hash",
        "run/run.json' is damaged: 'weights_sha256' is 7",
        changed_json("run.json", lambda facts: facts.update(weights_sha256=7)),
    ),
    of_run("without config.yaml", "'run' is no run directory", without("config.yaml")),
    of_run(
        "with an empty config.yaml",
        "cannot read the configuration 'run/config.yaml'",
        damaged("config.yaml", ""),
    ),
    of_run("with half of config.yaml", "the configuration 'run/config.yaml'", damaged("config.yaml", half)),
    of_run(
        "without the last line of config.yaml",
        ("run/config.yaml'", "it is cut short"),
        damaged("config.yaml", without_last_line),
    ),
    of_run(
        "with bytes as config.yaml",
        "cannot read the configuration 'run/config.yaml'",
        damaged("config.yaml", b"\xff\x00"),
    ),
    of_run(
        "with a list as config.yaml",
        "cannot read the configuration 'run/config.yaml'",
        damaged("config.yaml", "- 1\n"),
    ),
    of_run(
        "with an unknown system",
        ("run/config.yaml'", "unknown system 'r2d2'"),
        damaged(
            "config.yaml", lambda content: content.replace(b"system_name: r2gen-cmn", b"system_name: r2d2")
        ),
    ),
    of_run(
        "with an unknown field",
        ("run/config.yaml'", "beems"),
        damaged("config.yaml", lambda content: content.replace(b"  beams:", b"  beems:")),
    ),
    of_run(
        "with text for a number",
        ("run/config.yaml'", "decoding.beams"),
        damaged("config.yaml", lambda content: content.replace(b"  beams: 2", b"  beams: two")),
    ),
    of_run(
        "without vocabulary.json", "cannot read vocabulary run/vocabulary.json", without("vocabulary.json")
    ),
    of_run(
        "with half of vocabulary.json",
        "vocabulary run/vocabulary.json is not valid JSON",
        damaged("vocabulary.json", half),
    ),
    of_run(
        "with deep JSON as vocabulary.json",
        "vocabulary run/vocabulary.json is not valid JSON",
        damaged("vocabulary.json", "[" * 100000),
    ),
    of_run(
        "with a vocabulary without words",
        "vocabulary run/vocabulary.json lacks a valid tokens",
        changed_json("vocabulary.json", lambda content: content.pop("tokens")),
    ),
    of_run(
        "with a word less",
        "does not fit the configuration",
        changed_json("vocabulary.json", lambda content: content["tokens"].pop()),
    ),
]


def page_of_run(name: str, says: str | tuple[str, ...], arrange: Arrange) -> Row:
    """A row of `page` with a damaged copy of the run."""
    return Row(
        f"a page of a run {name}",
        "page run --out page.html",
        says,
        arrange=arrange,
        check=absent("page.html"),
    )


PAGES = [
    page_of_run(
        "without metrics",
        ("there is no run/metrics.json", "Score it: radscribe evaluate run"),
        without("metrics.json"),
    ),
    page_of_run(
        "with half of its metrics",
        ("'run/metrics.json' does not hold the scores", "radscribe evaluate run"),
        damaged("metrics.json", half),
    ),
    page_of_run(
        "with deep JSON as metrics",
        "'run/metrics.json' does not hold the scores",
        damaged("metrics.json", "[" * 100000),
    ),
    page_of_run(
        "with bytes as metrics",
        "'run/metrics.json' does not hold the scores",
        damaged("metrics.json", b"\xff\xfe"),
    ),
    page_of_run(
        "without provenance in its metrics",
        "'run/metrics.json' does not hold the scores",
        changed_json("metrics.json", lambda metrics: metrics.pop("provenance")),
    ),
    page_of_run(
        "without a row for the system",
        "'run/metrics.json' does not hold the scores",
        changed_json("metrics.json", lambda metrics: metrics["scores"].pop("system")),
    ),
    page_of_run(
        "with text for a score",
        "'run/metrics.json' does not hold the scores",
        changed_json(
            "metrics.json", lambda metrics: metrics["scores"]["system"]["BLEU-4"].update(value="high")
        ),
    ),
    page_of_run(
        "without drafts",
        ("there is no run/drafts.test.jsonl", "radscribe evaluate run"),
        without("drafts.test.jsonl"),
    ),
    page_of_run(
        "with half of its drafts", "run/drafts.test.jsonl, line", damaged("drafts.test.jsonl", without_end)
    ),
    page_of_run(
        "with drafts without ids",
        "run/drafts.test.jsonl, line 1 has no string 'id'",
        damaged("drafts.test.jsonl", '{"text": "no effusion"}'),
    ),
    page_of_run(
        "with half of its log",
        "'run/training_log.jsonl', line",
        damaged("training_log.jsonl", without_end),
    ),
    page_of_run(
        "with a log without steps",
        "'run/training_log.jsonl' is damaged",
        damaged("training_log.jsonl", '{"loss": 1}\n'),
    ),
    page_of_run(
        "with a log of lists",
        "'run/training_log.jsonl', line 1, is damaged",
        damaged("training_log.jsonl", "[1]\n"),
    ),
    page_of_run("with half of run.json", "run/run.json' is damaged", damaged("run.json", half)),
    Row(
        "a page of no study",
        "page {run} --out page.html --studies 0",
        ("at least 1 study, not 0", "--studies 12"),
    ),
    Row("a page of an unknown split", "page {run} --out page.html --split tset", "Did you mean 'test'"),
    Row(
        "a page of a split that was not scored",
        "page {run} --out page.html --split val",
        "no drafts or no metrics of the val split",
    ),
    Row("a page with no store", "page {run} --out page.html --store nowhere", "no prepared store at nowhere"),
    Row(
        "explaining nothing",
        "explain {run} --out where",
        "either --study ID [ID ...] or --images FILE [FILE ...]",
    ),
    Row(
        "explaining studies and images",
        "explain {run} --study phantom-00000 --images 0.png --out where",
        "either --study ID",
    ),
    Row(
        "explaining a study that is not there",
        "explain {run} --study phantom-99999 --out where",
        ("no study 'phantom-99999'", "Ids look like"),
    ),
    Row(
        "explaining images of a store",
        "explain {run} --images 0.png --store {store} --out where",
        "--store goes with --study",
    ),
    Row(
        "explaining studies together",
        "explain {run} --study phantom-00000 --together --out where",
        "--together goes with --images",
    ),
    Row(
        "explaining an image that is not there",
        "explain {run} --images gone.png --out where",
        "no study of gone.png could be explained: no such file or folder",
    ),
    Row(
        "explaining a text",
        "explain {run} --images note.png --out where",
        "not an image",
        arrange=with_file("note.png", "no image"),
    ),
    Row(
        "explaining layer 9",
        "explain {run} --images images/0.png --layer 9 --out where",
        "no layer 9",
        arrange=images,
    ),
    Row(
        "explaining head 99",
        "explain {run} --images images/0.png --heads 99 --out where",
        "no heads '99'",
        arrange=images,
    ),
    Row(
        "explaining a word that was not written",
        "explain {run} --images images/0.png --words xylophone --out where",
        "unknown word 'xylophone'",
        arrange=images,
    ),
    Row(
        "explaining without beams",
        "explain {run} --images images/0.png --decoding '{{\"beams\": 0}}' --out where",
        "decoding.beams must be at least 1",
        arrange=images,
    ),
    Row(
        "explaining with damaged weights",
        "explain run --images images/0.png --out where",
        "run/weights.safetensors' is damaged",
        arrange=damaged(WEIGHTS, flipped),
    ),
    Row("embeddings of a system without words of its own", "embeddings {run}", "has no language model"),
    Row("embeddings of no run", "embeddings nowhere", "'nowhere' is no run directory"),
    Row("embeddings of an unknown split", "embeddings {run} --split tset", "unknown split 'tset'"),
]

CHECKS = [
    Row(
        "checking nothing",
        "check nowhere",
        ("'nowhere' is neither a run directory nor a prepared store", "radscribe train"),
    ),
    Row(
        "checking a whole run",
        "check {run}",
        ("OK       weights.safetensors", "the hash on record", "trained on synthetic images"),
        0,
    ),
    Row("checking a whole store", "check {store}", "OK       pixels.bin, masks.bin: ", 0),
    Row(
        "checking a run with one bit changed",
        "check run",
        "radscribe: 'run' is damaged: weights.safetensors",
        1,
        damaged(WEIGHTS, flipped),
    ),
    Row(
        "checking a run with half its log",
        "check run",
        "radscribe: 'run' is damaged: training_log.jsonl",
        1,
        damaged("training_log.jsonl", without_end),
    ),
    Row(
        "checking a run with half its metrics",
        "check run",
        "radscribe: 'run' is damaged: metrics.json",
        1,
        damaged("metrics.json", half),
    ),
    Row(
        "checking a run with half its drafts",
        "check run",
        "radscribe: 'run' is damaged: drafts.test.jsonl",
        1,
        damaged("drafts.test.jsonl", without_end),
    ),
    Row(
        "checking a run without run.json",
        "check run",
        "radscribe: 'run' is damaged: run.json; weights.safetensors",
        1,
        without("run.json"),
    ),
    Row(
        "checking a store with one bit changed",
        "check store",
        "radscribe: 'store' is damaged: pixels.bin, masks.bin",
        1,
        store_with("pixels.bin", flipped),
    ),
    Row(
        "checking a store without its rejections",
        "check store",
        "radscribe: 'store' is damaged: rejected.csv",
        1,
        store_with("rejected.csv", None),
    ),
    Row(
        "checking a store without its splits",
        "check store",
        "radscribe: 'store' is damaged: studies.jsonl, splits.csv",
        1,
        store_with("splits.csv", None),
    ),
    Row(
        "a store with other pixels",
        "generate {run} store",
        ("the store store is damaged", "radscribe check store"),
        arrange=store_with("pixels.bin", inverted),
    ),
    Row(
        "a store without pixels",
        "generate {run} store",
        ("pixels.bin is missing", "Remove store and prepare it again"),
        arrange=store_with("pixels.bin", None),
    ),
    Row(
        "a store without studies",
        "generate {run} store",
        "cannot read store/studies.jsonl",
        arrange=store_with("studies.jsonl", None),
    ),
    Row(
        "a store without splits",
        "generate {run} store",
        "cannot read store/splits.csv",
        arrange=store_with("splits.csv", None),
    ),
    Row(
        "a store with half a manifest",
        "generate {run} store",
        "'store/manifest.json' is damaged",
        arrange=store_with("manifest.json", half),
    ),
    Row(
        "a store without a content hash",
        "generate {run} store",
        ("store/manifest.json is damaged: it has no valid field 'content_hash'", "prepare it again"),
        arrange=store_with("manifest.json", lambda content: content.replace(b"content_hash", b"contents")),
    ),
    Row(
        "a store of another format",
        "generate {run} store",
        "the store store has format 99",
        arrange=store_with("manifest.json", lambda content: content.replace(b'"format": ', b'"format": 99')),
    ),
]

UNLIKE = [
    Row(
        "unlike: a run that keeps no statistics",
        "unlike run images",
        ("the run 'run' keeps no statistics of its training images", "radscribe train"),
        arrange=changed_json("run.json", lambda facts: facts.pop("unlikeness")),
    ),
    Row("unlike: no run", "unlike nowhere {store}", "'nowhere' is no run directory"),
    Row(
        "unlike: a source that is not there",
        "unlike {run} nowhere --device cpu",
        "no study of nowhere could be read: no such file or folder",
    ),
    Row("unlike: no study at a time", "unlike {run} {store} --batch 0", "--batch must be at least 1"),
    Row(
        "unlike: a store that is gone",
        "unlike {run} images --store nowhere --device cpu",
        "no prepared store at nowhere",
        arrange=images,
    ),
    Row(
        "unlike: a bad image among good ones",
        "unlike {run} images --device cpu",
        ("rejected bad: ", "not an image", "test split"),
        0,
        with_file("images/bad.png", "no image"),
    ),
    of_run(
        "with one bit of its statistics changed",
        ("run/features.safetensors' is damaged or of another run", "Take the file from a copy"),
        damaged("features.safetensors", flipped),
    ),
    of_run(
        "without its statistics", "cannot read 'run/features.safetensors'", without("features.safetensors")
    ),
]

ROWS: list[Row] = [*SOURCES, *DECODINGS, *OUTPUTS, *RUNS, *PAGES, *CHECKS, *UNLIKE]
