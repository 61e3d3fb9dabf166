"""Bad inputs to `evaluate`, `compare` and `label`."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from tiny_metric_models import tiny_chexbert, tiny_radgraph

from bad_inputs.rows import Row, Workshop
from radscribe.observations import OBSERVATIONS

TEXTS = {
    "a": "The heart is enlarged. No effusion.",
    "b": "Lungs are clear. No pneumothorax.",
    "c": "There is a small left pleural effusion.",
}
FILES = "evaluate --predictions p.jsonl --references r.jsonl --protocol clean_full --no_meteor"
LABELS = f"{FILES} --draft_labels d.csv --reference_labels l.csv"
HEADER = ["study_id", *OBSERVATIONS]
FORM = 'Each line must read {"id": "...", "text": "..."}'


def lines(texts: dict[str, str] = TEXTS) -> str:
    return "".join(json.dumps({"id": study, "text": text}) + "\n" for study, text in texts.items())


def table(*rows: list[str], header: list[str] = HEADER) -> str:
    return "".join(",".join(cells) + "\n" for cells in (header, *rows))


def good_labels() -> list[list[str]]:
    return [[study, *["1"] * len(OBSERVATIONS)] for study in TEXTS]


def files(
    predictions: str | bytes | None = None,
    references: str | bytes | None = None,
    draft_labels: str | bytes | None = None,
    reference_labels: str | bytes | None = None,
) -> Callable[[Workshop], None]:
    """Writes the four files, good ones but for those that are given."""

    def arrange(workshop: Workshop) -> None:
        contents = {
            "p.jsonl": lines() if predictions is None else predictions,
            "r.jsonl": lines() if references is None else references,
            "d.csv": table(*good_labels()) if draft_labels is None else draft_labels,
            "l.csv": table(*good_labels()) if reference_labels is None else reference_labels,
        }
        for name, content in contents.items():
            workshop.write(name, content)

    return arrange


def second_line(line: str) -> str:
    """Predictions whose second line is bad."""
    return lines({"a": TEXTS["a"]}) + line + "\n"


def without_weights(workshop: Workshop) -> None:
    (workshop.copy_run() / "weights.safetensors").unlink()


def label_row(name: str, content: str | bytes, says: str | tuple[str, ...]) -> Row:
    return Row(name, LABELS, says, arrange=files(draft_labels=content))


PREDICTIONS = [
    Row(f"predictions: {name}", FILES, says, arrange=files(predictions=content))
    for name, content, says in [
        ("an empty file", "", ("p.jsonl has no texts", FORM)),
        ("only blank lines", "\n \n", "p.jsonl has no texts"),
        ("no JSON", "The heart is normal.\n", ("p.jsonl, line 1 is not valid JSON", FORM)),
        ("a line cut short", second_line('{"id": "b", "te'), "p.jsonl, line 2 is not valid JSON"),
        ("a list for a text", second_line('{"id": "b", "text": ["x"]}'), ("line 2", "'text'", '["x"]')),
        ("a number for a text", second_line('{"id": "b", "text": 5}'), ("line 2", "'text': it is 5", FORM)),
        ("null for a text", second_line('{"id": "b", "text": null}'), ("line 2", "'text': it is null")),
        ("a number for an id", second_line('{"id": 7, "text": "x"}'), ("line 2", "'id': it is 7", FORM)),
        ("no text", second_line('{"id": "b"}'), "line 2 has no string 'text'"),
        ("no id", second_line('{"text": "b"}'), "line 2 has no string 'id'"),
        ("one JSON array", json.dumps([{"id": "a", "text": "x"}]), "line 1 has no string 'id'"),
        ("an id twice", lines() + lines({"b": "x"}), ("line 4", "repeats the id 'b' of line 2")),
        ("JSON nested without end", "[" * 100_000 + "\n", "line 1 is not valid JSON"),
        ("a number without end", '{"id": ' + "9" * 10_000 + "}\n", "line 1 is not valid JSON"),
        ("bytes that are no text", bytes(range(256)), "p.jsonl, line 1 holds a NUL character"),
        ("NUL bytes", b"\0" * 50, "p.jsonl, line 1 holds a NUL character"),
        ("an id without a reference", lines(TEXTS | {"x": "y"}), "1 drafts have no reference (x)"),
        ("an id without a draft", lines({"a": "x", "b": "y"}), "1 of 3 references have no draft (c)"),
        ("other ids", lines({"1": "x"}), ("3 of 3 references have no draft (a, b, c)", "under the same id")),
    ]
]

LABEL_FILES = [
    label_row("labels: an empty file", "", "d.csv has no column named as a CheXpert observation"),
    label_row("labels: no observation", "study_id,x\na,1\n", "Its columns: study_id, x"),
    label_row("labels: a row too short", table(["a", "1"]), ("d.csv, line 2: it has 2 fields", "has 15")),
    label_row("labels: a row too long", table(["a", *["1"] * 15]), ("d.csv, line 2: it has 16 fields",)),
    label_row(
        "labels: a value out of range",
        table(["a", "2", *["1"] * 13]),
        ("d.csv, line 2", "'No Finding' is '2', not 1, 0, -1"),
    ),
    label_row("labels: a probability", table(["a", "0.7", *["1"] * 13]), "'No Finding' is '0.7'"),
    label_row("labels: a word", table(["a", *["1"] * 13, "yes"]), "'Support Devices' is 'yes'"),
    label_row("labels: infinity", table(["a", *["1"] * 13, "inf"]), "'Support Devices' is 'inf'"),
    label_row(
        "labels: a study twice",
        table(*good_labels(), good_labels()[1]),
        "line 5: study 'b' is listed twice",
    ),
    label_row("labels: a blank id", table(["", *["1"] * 14]), "line 2: the column 'study_id' is blank"),
    label_row(
        "labels: a column twice",
        table(["a", *["1"] * 15], header=[*HEADER, "Edema"]),
        "has the column 'Edema' twice",
    ),
    label_row(
        "labels: a study missing",
        table(*good_labels()[:2]),
        ("no labels of 1 of 3 studies, the first is 'c'", "study_id"),
    ),
    label_row(
        "labels: an observation missing",
        table(*([*cells[:-1]] for cells in good_labels()), header=HEADER[:-1]),
        "has no column 'Support Devices'",
    ),
    label_row("labels: an open quote", table(['"a', *["1"] * 14]), "d.csv' is no CSV table"),
    label_row("labels: bytes that are no text", b"\xff\xfe\x00\x81" * 9, "d.csv' is no CSV table"),
    Row("labels: no such file", LABELS.replace("d.csv", "none.csv"), "none.csv", arrange=files()),
    Row("labels: a folder", LABELS.replace("d.csv", "."), "Is a directory", arrange=files()),
    Row(
        "labels: of the drafts alone",
        f"{FILES} --draft_labels d.csv",
        ("--draft_labels and --reference_labels go together", "Give both, or neither"),
        arrange=files(),
    ),
]

OPTIONS = [
    Row(
        "evaluate: nothing to score", "evaluate", ("either a run or --predictions", "radscribe evaluate RUN")
    ),
    Row("evaluate: a run and predictions", "evaluate {run} --predictions p.jsonl", "either a run or"),
    Row("evaluate: predictions alone", "evaluate --predictions p.jsonl", "--references and --protocol"),
    Row(
        "evaluate: no protocol",
        "evaluate --predictions p.jsonl --references r.jsonl",
        "--protocol (r2gen, r2gengpt, clean_full or raw)",
    ),
    Row("evaluate: an unknown protocol", FILES.replace("clean_full", "clean"), "r2gengpt"),
    Row("evaluate: an unknown cleaning", f"{FILES} --cleaning mimic", "mimic_cxr_r2gengpt"),
    *(
        Row(
            f"evaluate: {number} resamples",
            f"{FILES} --resamples {number}",
            "from 1 to 100,000 resamples, not",
        )
        for number in ("0", "-5", "10000000000")
    ),
    Row("evaluate: half a resample", f"{FILES} --resamples 0.5", "resamples"),
    Row("evaluate: no such predictions", FILES, "cannot read p.jsonl"),
    Row("evaluate: predictions that are a folder", FILES.replace("p.jsonl", "."), "cannot read ."),
    Row(
        "evaluate: NUL in the path",
        FILES.replace("p.jsonl", "p\0.jsonl"),
        "an argument holds a NUL character",
    ),
    Row(
        "evaluate: --split of predictions",
        f"{FILES} --split test",
        "--split has no effect with --predictions",
    ),
    Row(
        "evaluate: --drafts of predictions",
        f"{FILES} --drafts x",
        "--drafts has no effect with --predictions",
    ),
    Row("evaluate: --section without a store", f"{FILES} --section findings", "no effect without --store"),
    Row(
        "evaluate: --vocabulary under clean_full",
        f"{FILES} --vocabulary v.json",
        ("--vocabulary has no effect under the protocol clean_full", "Leave out --vocabulary"),
    ),
    Row("evaluate: --tokenizer under clean_full", f"{FILES} --tokenizer t", "--tokenizer has no effect"),
    Row("evaluate: --maximum_length under clean_full", f"{FILES} --maximum_length 9", "has no effect under"),
    Row(
        "evaluate: --cleaning under raw",
        f"{FILES.replace('clean_full', 'raw')} --cleaning iu_xray",
        "--cleaning has no effect under the protocol raw",
    ),
    Row("evaluate: --full with --json", f"{FILES} --full --json", "--full has no effect with --json"),
    Row(
        "evaluate: r2gen without a vocabulary",
        FILES.replace("clean_full", "r2gen"),
        "needs the vocabulary of the training reports",
        arrange=files(),
    ),
    Row(
        "evaluate: references cut at nothing",
        f"{FILES.replace('clean_full', 'r2gen')} --vocabulary {{run}}/vocabulary.json --maximum_length 0",
        "needs a maximum length of at least 2 ids",
        arrange=files(),
    ),
    Row(
        "evaluate: a vocabulary that is none",
        f"{FILES.replace('clean_full', 'r2gen')} --vocabulary p.jsonl",
        "vocabulary p.jsonl is not valid JSON",
        arrange=files(),
    ),
    Row(
        "evaluate: a store without the studies", f"{FILES} --store {{store}}", "no study 'a'", arrange=files()
    ),
    Row("evaluate: no such store", f"{FILES} --store nowhere", "nowhere", arrange=files()),
    *(
        Row(
            f"evaluate: {option} on a run",
            f"evaluate {{run}} {option} {value}",
            f"{option} has no effect on a run",
        )
        for option, value in [
            ("--references", "r.jsonl"),
            ("--cleaning", "none"),
            ("--section", "findings"),
            ("--vocabulary", "v.json"),
            ("--tokenizer", "t"),
            ("--maximum_length", "60"),
            ("--draft_labels", "d.csv"),
        ]
    ),
    Row("evaluate: no run", "evaluate nowhere", "'nowhere' is no run directory"),
    Row("evaluate: a store for a run", "evaluate {store}", "is no run directory: it has no config.yaml"),
    Row("evaluate: a split that is none", "evaluate {run} --split tset --no_meteor", "Did you mean 'test'"),
    Row("evaluate: a run on no store", "evaluate {run} --store nowhere", "nowhere"),
    Row("evaluate: a run without weights", "evaluate run", "no weights.safetensors", arrange=without_weights),
    Row(
        "evaluate: a run under a protocol that it cannot",
        "evaluate {run} --protocol r2gengpt --no_meteor",
        "needs the tokenizer of a language model",
    ),
    Row("evaluate: drafts into no folder", "evaluate {run} --drafts no/where.jsonl", "a folder that exists"),
    Row("evaluate: drafts onto a folder", "evaluate {run} --drafts .", "cannot write drafts to '.'"),
    Row("evaluate: a run with no resample", "evaluate {run} --resamples 0", "from 1 to 100,000"),
]

COMPARISONS = [
    Row("compare: one group", "compare {run}", ("nothing to compare", "at least two runs")),
    Row("compare: an empty group", "compare a= b={run}", ("'a=' is no group of runs", "NAME=RUN,RUN,RUN")),
    Row("compare: a group without a name", "compare ={run} b={run}", "is no group of runs"),
    Row("compare: a stray comma", "compare a={run},,{run} b={run}", "is no group of runs"),
    Row("compare: a group twice", "compare a={run} a={run}", "the group 'a' stands there twice"),
    Row("compare: a run twice in a group", "compare a={run},{run} b={run}", "stands twice in the group 'a'"),
    Row(
        "compare: an unknown score",
        "compare a={run} b={run} --scores BLEU-4 BLEU4",
        ("unknown score 'BLEU4'", "Did you mean 'BLEU-4'"),
    ),
    Row("compare: METEOR", "compare a={run} b={run} --scores METEOR", "unknown score 'METEOR'"),
    Row("compare: no run", "compare a={run} b=nowhere", "'nowhere' is no run directory"),
    Row(
        "compare: a run without weights",
        "compare a={run} b=run",
        "'run' has no weights.safetensors",
        arrange=without_weights,
    ),
    Row("compare: no store", "compare a={run} b={run} --store nowhere", "nowhere"),
    Row("compare: a split that is none", "compare a={run} b={run} --split x", "unknown split 'x'"),
    Row("compare: no resample", "compare a={run} b={run} --resamples 0", "from 1 to 100,000"),
    Row("compare: too many resamples", "compare a={run} b={run} --resamples 200000", "from 1 to 100,000"),
    Row("compare: an unknown protocol", "compare a={run} b={run} --protocol x", "r2gengpt"),
    Row("compare: no draft file", "compare a=x.jsonl b={run}", "cannot read x.jsonl: missing"),
    Row(
        "compare: drafts without ids",
        "compare a=res.csv b={run}",
        ("'res.csv' has no column of ids and one of drafts", "Name the columns"),
        arrange=lambda w: w.write("res.csv", "the heart is normal .\nno acute disease .\n"),
    ),
    Row(
        "compare: drafts of other studies",
        "compare a=d.jsonl b={run}",
        ("the ids of 'd.jsonl' and of the references do not match", "1 drafts have no reference (x)"),
        arrange=lambda w: w.write("d.jsonl", json.dumps({"id": "x", "text": "normal ."})),
    ),
    Row(
        "compare: drafts without references",
        "compare a=d.jsonl b=e.jsonl",
        ("'d.jsonl' holds no references", "--references FILE"),
        arrange=lambda w: [w.write(f"{n}.jsonl", json.dumps({"id": "x", "text": "normal ."})) for n in "de"],
    ),
    Row(
        "compare: files with different references",
        "compare a=d.json b=e.json",
        ("'e.json' holds other references than 'd.json'", "1 of 1 differ", "study 'x'"),
        arrange=lambda w: [
            w.write(f"{n}.json", json.dumps({"res": {"x": n}, "gts": {"x": n}})) for n in "de"
        ],
    ),
    Row(
        "compare: files under a protocol that needs a vocabulary",
        "compare a=d.json b=d.json --protocol r2gen",
        ("protocol r2gen needs the vocabulary", "clean_full"),
        arrange=lambda w: w.write("d.json", json.dumps({"res": {"x": "a"}, "gts": {"x": "b"}})),
    ),
    Row(
        "compare: a cleaning beside a run", "compare a={run} b={run} --cleaning none", "Leave out --cleaning"
    ),
    Row("compare: studies without a page", "compare a={run} b={run} --studies 3", "Leave out --studies"),
    Row(
        "compare: fewer studies than none",
        "compare a={run} b={run} --out p.html --studies -1",
        ("-1 studies", "--studies 6"),
    ),
    Row(
        "compare: a page onto another file",
        "compare a={run} b={run} --out p.html",
        "'p.html' is there already and is not a page that RadScribe wrote",
        arrange=lambda w: w.write("p.html", "<p>mine</p>"),
    ),
    Row("compare: a table onto a folder", "compare a={run} b={run} --latex .", "it is a folder"),
]

TEXTS_TO_LABEL = [
    Row("label: no such file", "label nowhere.txt", "cannot read nowhere.txt"),
    Row("label: a folder", "label .", "cannot read ."),
    Row("label: an empty file", "label t.txt", "'t.txt' has no text", arrange=lambda w: w.write("t.txt", "")),
    Row("label: nothing on standard input", "label -", ("standard input has no text", "one report per line")),
    Row(
        "label: bytes that are no text",
        "label t.bin",
        "t.bin, line 1 holds a NUL character",
        arrange=lambda w: w.write("t.bin", bytes(range(256)) * 3),
    ),
    Row(
        "label: NUL on standard input",
        "label -",
        "standard input is no text file: line 2",
        standard_input="No effusion.\na\0b\n",
    ),
    Row("label: NUL in the path", "label t\0.txt", "an argument holds a NUL character"),
    Row(
        "label: another language among English",
        "label -",
        ("unreadable: too few", "present: Cardiomegaly", "warning: 1 of 2 texts are unreadable"),
        code=0,
        standard_input="Derrame pleural.\nCardiomegaly.\n",
    ),
    Row(
        "label: another language as JSON",
        "label - --json",
        ('"unreadable": true, "observations": {}', "the labeller knows English only"),
        code=0,
        standard_input="双肺纹理清晰。\n",
    ),
    Row(
        "label: a line without end",
        "label -",
        "present: No Finding; absent: Pleural Effusion",
        code=0,
        standard_input="No effusion. " * 20_000,
    ),
    Row("label: no file", "label", "radscribe label needs FILE"),
]

UNREADABLE = [
    Row(
        "evaluate: reports in another language",
        FILES,
        ("3 of 3 references are unreadable", "BLEU-4"),
        code=0,
        arrange=files(*[lines(dict.fromkeys(TEXTS, "Derrame pleural à direita."))] * 2),
    ),
    Row(
        "evaluate: empty drafts",
        FILES,
        "Writes the same report for all 3 studies",
        code=0,
        arrange=files(lines(dict.fromkeys(TEXTS, ""))),
    ),
    Row(
        "evaluate: half a character",
        FILES,
        "BLEU-4",
        code=0,
        arrange=files(lines(TEXTS | {"a": "effusion \ud800"}), lines(TEXTS | {"a": "\udfff effusion"})),
    ),
]

RETRIEVERS = [
    Row(
        "evaluate: a retriever that is not there",
        "evaluate {run} --retriever nowhere --no_progress",
        ("there is no retriever in 'nowhere'", "radscribe pretrain retriever"),
    ),
    Row(
        "evaluate: a retriever without a store",
        f"{FILES} --retriever nowhere",
        "--retriever has no effect without --store",
        arrange=files(),
    ),
    Row(
        "retrieve: no retriever",
        "retrieve nowhere {store}",
        ("there is no retriever in 'nowhere'", "radscribe pretrain retriever"),
    ),
    Row("retrieve: no report at all", "retrieve nowhere {store} --count 0", "--count must be at least 1"),
]


def models(change: Callable[[Path], object]) -> Callable[[Workshop], None]:
    """Good files, and a folder `models` for CheXbert that is changed."""

    def arrange(workshop: Workshop) -> None:
        files()(workshop)
        change(Path(shutil.copytree(tiny_chexbert(), workshop.path / "models")))

    return arrange


class Runs:
    """A pickle of it would make a file where it is read."""

    def __reduce__(self) -> tuple[Callable[[str, str], object], tuple[str, str]]:
        return open, ("it-ran", "w")


def did_not_run(workshop: Workshop) -> None:
    assert not (workshop.path / "it-ran").exists()


METRIC_MODELS = [
    Row(
        f"evaluate: {name}",
        f"{FILES} --models models",
        ("BLEU-4", *says),
        code=0,
        arrange=models(change),
        check=did_not_run,
    )
    for name, change, says in [
        (
            "no checkpoint of CheXbert",
            lambda folder: (folder / "chexbert.pth").unlink(),
            ("CheXbert F1 (there is no 'chexbert.pth' in 'models'",),
        ),
        (
            "no tokenizer of CheXbert",
            lambda folder: shutil.rmtree(folder / "bert-base-uncased"),
            ("there is no 'bert-base-uncased' in 'models'",),
        ),
        (
            "an empty tokenizer of CheXbert",
            lambda folder: (folder / "bert-base-uncased" / "vocab.txt").unlink(),
            ("there is no vocab.txt in 'models/bert-base-uncased'",),
        ),
        (
            "another checkpoint for CheXbert",
            lambda folder: torch.save({"weight": torch.zeros(2)}, folder / "chexbert.pth"),
            ("'models/chexbert.pth' is no checkpoint of CheXbert",),
        ),
        (
            "a checkpoint of CheXbert that would run something",
            lambda folder: (folder / "chexbert.pth").write_bytes(pickle.dumps(Runs(), protocol=2)),
            ("'models/chexbert.pth' could not be read as a checkpoint", "nothing that runs"),
        ),
    ]
]


def outputs(name: str, content: str) -> Callable[[Workshop], None]:
    """Good files, and a folder `outputs` with one file."""

    def arrange(workshop: Workshop) -> None:
        files()(workshop)
        workshop.write(f"outputs/{name}", content)

    return arrange


def of_each(value: object) -> str:
    """The same value for every study, as JSON."""
    return json.dumps(dict.fromkeys(TEXTS, value))


METRIC_OUTPUTS = [
    Row(
        f"evaluate: {title}",
        # The full output does not wrap what is missing.
        f"{FILES} --outputs outputs --full",
        ("BLEU-4", *says),
        code=0,
        arrange=outputs(name, content),
    )
    for title, name, content, says in [
        (
            "replies of GREEN that are no object",
            "green_replies.json",
            "[1]",
            ("GREEN is not there: 'outputs/green_replies.json' is damaged",),
        ),
        (
            "replies of GREEN that lack a study",
            "green_replies.json",
            '{"a": "", "b": ""}',
            ("'outputs/green_replies.json' lacks 1 of 3 studies, the first is 'c'",),
        ),
        (
            "a reply of GREEN that is no text",
            "green_replies.json",
            of_each(3),
            ("the reply to 'a' is no text",),
        ),
        (
            "entities without a side",
            "ratescore_entities.json",
            of_each({"draft": []}),
            ("study 'a' has no list 'reference'",),
        ),
        (
            "an entity of an unknown type",
            "ratescore_entities.json",
            of_each({"draft": [{"text": "tube", "type": "Device"}], "reference": []}),
            ("'tube' has the type 'Device'", "The types are abnormality, anatomy"),
        ),
        (
            "entities without vectors and without their encoder",
            "ratescore_entities.json",
            of_each({"draft": [{"text": "tube", "type": "Anatomy"}], "reference": []}),
            ("--models has no folder 'BioLORD-2023-C'", "give each entity its 'vector'"),
        ),
        (
            "a column of RadCliQ that is no number",
            "radcliq.csv",
            "study_id,bleu_score\na,0.1\nb,high\nc,0.2\n",
            ("outputs/radcliq.csv, line 3: 'bleu_score' is 'high'",),
        ),
        (
            "columns of RadCliQ without ids",
            "radcliq.csv",
            "bleu_score\n0.1\n",
            ("outputs/radcliq.csv has no column 'study_id'",),
        ),
    ]
]


def annotated(
    models: Callable[[Path], object] | None = None, outputs: Mapping[str, str] | None = None
) -> Callable[[Workshop], None]:
    """Good files, a folder `models` for RadGraph that is changed, and a folder of these `outputs`."""

    def arrange(workshop: Workshop) -> None:
        files()(workshop)
        (workshop.path / "outputs").mkdir()
        for name, content in (outputs or {}).items():
            workshop.write(f"outputs/{name}", content)
        if models:
            models(Path(shutil.copytree(tiny_radgraph(), workshop.path / "models")))
        else:
            (workshop.path / "models").mkdir()

    return arrange


def pack(folder: Path) -> None:
    (folder / "radgraph").rename(folder / "radgraph.tar.gz")


RADGRAPH = [
    Row(
        f"evaluate: {name}",
        f"{FILES} --models models --outputs outputs --full",
        ("BLEU-4", *says),
        code=0,
        arrange=arrange,
        check=did_not_run,
    )
    for name, arrange, says in [
        (
            "no model and no annotations of RadGraph",
            annotated(),
            ("RadGraph F1 is not there: there is no folder 'radgraph' in --models, and no 'radgraph_",),
        ),
        ("a packed model of RadGraph", annotated(pack), ("'models/radgraph.tar.gz' is still packed",)),
        (
            "no tokenizer of RadGraph's encoder",
            annotated(lambda folder: shutil.rmtree(folder / "tiny-encoder")),
            ("'models/radgraph' needs the tokenizer of its encoder, 'tiny-encoder'",),
        ),
        (
            "weights of RadGraph that would run something",
            annotated(
                lambda folder: (folder / "radgraph" / "weights.th").write_bytes(pickle.dumps(Runs(), 2))
            ),
            ("'models/radgraph/weights.th' could not be read as a checkpoint",),
        ),
        (
            "annotations of drafts alone",
            annotated(outputs={"radgraph_drafts.json": "{}"}),
            ("--outputs has 'radgraph_drafts.json' and no 'radgraph_references.json'",),
        ),
        (
            "annotations that were only counted",
            annotated(
                outputs=dict.fromkeys(["radgraph_drafts.json", "radgraph_references.json"], '{"0": {}}')
            ),
            ("has no annotation of 3 of 3 studies, such as 'a'",),
        ),
        (
            "annotations of RadGraph-XL cut short",
            annotated(
                outputs=dict.fromkeys(
                    ["radgraph-xl_drafts.json", "radgraph-xl_references.json"], '{"a": {"en'
                )
            ),
            ("RadGraph-XL F1 is not there: 'outputs/radgraph-xl_drafts.json' is no JSON",),
        ),
    ]
]

AGREEMENT = [
    Row(
        "label: a file to compare with that is not there",
        "label - --against nowhere.csv",
        "cannot read label file nowhere.csv",
        standard_input="No effusion.\n",
    ),
    Row(
        "label: labels of more texts",
        "label - --against d.csv",
        ("there are 1 texts, and labels of 3", "in their order"),
        arrange=files(),
        standard_input="No effusion.\n",
    ),
    Row(
        "label: nothing readable to compare",
        "label - --against d.csv",
        "no text is readable",
        arrange=files(draft_labels=table(good_labels()[0])),
        standard_input="双肺纹理清晰。\n",
    ),
    Row(
        "label: chexbert without models", "label - --labeller chexbert", "--labeller chexbert needs --models"
    ),
    Row("label: models for the rules", "label - --models .", "--models has no effect without --labeller"),
    Row(
        "label: models that are not there",
        "label - --labeller chexbert --models nowhere",
        "there is no folder 'nowhere'",
        standard_input="No effusion.\n",
    ),
    Row(
        "label: models without CheXbert",
        "label - --labeller chexbert --models .",
        ("there is no 'chexbert.pth' in '.'", "published chexbert.pth"),
        standard_input="No effusion.\n",
    ),
]

ROWS: list[Row] = [
    *METRIC_MODELS,
    *RADGRAPH,
    *METRIC_OUTPUTS,
    *AGREEMENT,
    *PREDICTIONS,
    *LABEL_FILES,
    *OPTIONS,
    *COMPARISONS,
    *TEXTS_TO_LABEL,
    *UNREADABLE,
    *RETRIEVERS,
]
