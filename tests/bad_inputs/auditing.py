"""Bad inputs to `audit` and `export`."""

from __future__ import annotations

import json
from collections.abc import Callable

from bad_inputs.rows import Row, Workshop
from bad_inputs.sources import manifest
from radscribe.studies.prepare import prepare


def _prepared(rows: str, name: str = "mine") -> Callable[[Workshop], None]:
    """A store of a table of the images 0.png to 2.png."""

    def arrange(workshop: Workshop) -> None:
        workshop.images()
        table = workshop.write("images/t.csv", rows)
        prepare(table, workshop.path / name, short_side=32, workers=1, progress=False)

    return arrange


def _untouched(workshop: Workshop) -> None:
    assert (workshop.path / "out/mine.txt").read_text() == "mine"
    assert len(list((workshop.path / "out").iterdir())) == 1


def _as_it_was(workshop: Workshop) -> None:
    assert (workshop.path / "mine.json").read_text() == "{}"


def _in_two_splits(workshop: Workshop) -> None:
    """What the audit wrote although it failed."""
    content = json.loads((workshop.path / "audit.json").read_text())
    assert [match["patient"] for match in content["leaks"][0]["matches"]] == ["p"]


AUDIT: list[Row] = [
    Row("audit of nothing", "audit", ("radscribe audit needs STORE", "Example: radscribe audit stores/mine")),
    Row("audit of no store", "audit nowhere", ("no prepared store at nowhere", "radscribe prepare SOURCE")),
    Row(
        "audit of an unfinished store",
        "audit store",
        ("is incomplete", "Run the same command again"),
        arrange=manifest(lambda content: content.update(complete=False)),
    ),
    Row("audit of a store twice", "audit {store} {store}", ("is given twice", "Give each store once")),
    Row(
        "audit of an unknown section",
        "audit {store} --section finding",
        ("unknown report section 'finding'", "Did you mean 'findings'?"),
    ),
    Row(
        "audit with a section joined by a comma",
        "audit {store} --section findings,impression",
        "unknown report section 'findings,impression'",
    ),
    Row(
        "audit of a section that no study has",
        "audit mine --no_progress",
        ("warning: no study has findings", "The studies have impression: choose with --section"),
        code=0,
        arrange=_prepared("image,impression\n0.png,Clear lungs.\n1.png,Large heart.\n"),
    ),
    Row(
        "audit without a language model",
        "audit {store} --tokenizer nowhere",
        "there is no language model in 'nowhere'",
    ),
    Row(
        "audit into a folder",
        "audit {store} --json out",
        ("cannot write an audit to 'out'", "Name a file in it"),
        arrange=lambda workshop: (workshop.path / "out").mkdir(),
    ),
    Row(
        "audit into another file",
        "audit {store} --json mine.json",
        ("is not an audit that RadScribe wrote", "choose another --json"),
        arrange=lambda workshop: workshop.write("mine.json", "{}"),
        check=_as_it_was,
    ),
    Row(
        "audit below a file",
        "audit {store} --json mine.txt/audit.json",
        ("'mine.txt' is no folder", "Choose another --json"),
        arrange=lambda workshop: workshop.write("mine.txt", "mine"),
    ),
    Row(
        "audit of a patient in two splits",
        "audit mine --json audit.json",
        (
            "1 of 2 patients of test in 'mine' stand in train of 'mine' too, such as 'p'",
            "in splits by patient",
        ),
        code=1,
        arrange=_prepared(
            "image,report,patient,split\n"
            "0.png,Clear lungs.,p,train\n1.png,Large heart.,p,test\n2.png,No tube.,q,test\n"
        ),
        check=_in_two_splits,
    ),
]


EXPORT: list[Row] = [
    Row("export of no store", "export nowhere --format csv --out out", "no prepared store at nowhere"),
    Row(
        "export in no form",
        "export {store} --out out",
        ("radscribe export needs --format", "Example: radscribe export"),
    ),
    Row(
        "export in an unknown form",
        "export {store} --format json --out out",
        ("--format needs one of r2gen, csv, jsonl, rexrank, hf, not 'json'", "did you mean jsonl?"),
    ),
    Row(
        "export into a folder with files",
        "export {store} --format jsonl --out out",
        ("the folder 'out' is not empty", "Choose a new or an empty one"),
        arrange=lambda workshop: workshop.write("out/mine.txt", "mine"),
        check=_untouched,
    ),
    Row(
        "export into a file",
        "export {store} --format jsonl --out out",
        ("'out' is no folder", "choose another --out"),
        arrange=lambda workshop: workshop.write("out", "mine"),
    ),
    Row(
        "export below a file",
        "export {store} --format jsonl --out mine.txt/out",
        ("mine.txt/out", "Choose another --out"),
        arrange=lambda workshop: workshop.write("mine.txt", "mine"),
    ),
    Row(
        "export into its store",
        "export store --format csv --out store/csv",
        ("lies in the store 'store'", "Choose another --out"),
        arrange=Workshop.copy_store,
    ),
    Row(
        "export of the files of drawn images",
        "export {store} --format csv --out out --no_images",
        ("of study 'phantom-00000' is no file that is there", "Leave out --no_images"),
    ),
    Row(
        "export for Hugging Face without images",
        "export {store} --format hf --out out --no_images",
        ("the form hf holds the images themselves", "Leave out --no_images"),
    ),
    Row(
        "export for R2Gen without findings",
        "export mine --format r2gen --out out",
        ("no study of mine has a place in the form r2gen: no findings", "Choose another --format"),
        code=1,
        arrange=_prepared("image,impression\n0.png,Clear lungs.\n1.png,Large heart.\n"),
    ),
    Row(
        "export for R2Gen with a study without findings",
        "export mine --format r2gen --out out",
        ("rejected 1: no findings", "left out   1 studies", "not held   impression of 1 studies"),
        code=0,
        arrange=_prepared("image,findings,impression\n0.png,Clear.,Fine.\n1.png,,Large heart.\n"),
    ),
]

ROWS: list[Row] = [*AUDIT, *EXPORT]
