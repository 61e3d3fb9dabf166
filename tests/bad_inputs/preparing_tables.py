"""Bad inputs to `prepare`: tables, and the files of published data sets."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable

from bad_inputs.rows import Row, Workshop
from bad_inputs.sources import DEEP, OUT, files, fruitless, goes_on, ids, pipe, refused, rejected, table

#: Each of ten entities is ten of the one before.
BOMB = "".join(
    f'<!ENTITY {name} "{10 * before}">'
    for name, before in zip("bcdefghij", [f"&{n};" for n in "abcdefghi"], strict=True)
)
BOMB = f'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">{BOMB}]><eCitation><uId id="CXR1"/>&j;</eCitation>'

TABLES = [
    refused("an empty table", "t.csv has no header line", table("")),
    refused("a table of blanks", "t.csv has no header line", table("\n\n \n")),
    refused("a table with a header only", "has a header and no row", table("image,report\n")),
    refused("an empty table of JSON Lines", "has no line", table("", "images/t.jsonl")),
    refused(
        "a table without images", ("no column 'image'", "file, text", "--columns"), table("file,text\na,b\n")
    ),
    refused(
        "a column that is not there",
        ("has no column 'note'", "image, notes"),
        table("image,notes\n0.png,Clear.\n"),
        options='--columns \'{{"report": "note"}}\'',
    ),
    refused(
        "a column for nothing",
        "Did you mean 'report'",
        table("image,notes\n0.png,Clear.\n"),
        options='--columns \'{{"raport": "notes"}}\'',
    ),
    refused("two columns of one name", "two columns 'report'", table("image,report,report\n0.png,a,b\n")),
    refused(
        "two columns of one name in other case",
        "two columns 'report'",
        table("image,report,Report\n0.png,a,b\n"),
    ),
    refused(
        "a quotation mark that is left open",
        ("t.csv, line", "quotation mark"),
        table('image,report\n0.png,"Clear.\n1.png,Clear.\n'),
    ),
    refused(
        "a table with NUL characters", "line 2 holds a NUL character", table("image,report\n0.png,Cl\0ear.\n")
    ),
    refused(
        "UTF-16 without its mark", "NUL character", table("image,report\n0.png,Clear.\n".encode("utf-16-le"))
    ),
    refused("an Excel workbook named as CSV", ("Excel workbook", "CSV"), table(b"PK\x03\x04xl")),
    refused("a compressed table named as CSV", "compressed by gzip", table(gzip.compress(b"image,report\n"))),
    refused("a PDF named as CSV", "a PDF document", table(b"%PDF-1.7")),
    Row("a table that is a named pipe", f"prepare images/t.csv {OUT}", "a named pipe", arrange=pipe("t.csv")),
    refused("a table that is a named pipe in a folder", "a named pipe", pipe("t.csv")),
    refused("a table that is a folder", "t.csv", lambda w: (w.images() / "t.csv").mkdir()),
    refused(
        "an image folder that is not there",
        ("no folder pictures", "--images"),
        table("image,report\n0.png,Clear.\n"),
        options="--images pictures",
    ),
    fruitless(
        "a table whose every image is missing",
        ("no study of", "missing 2", "x.png, missing", "rejected.csv"),
        table("image,report\nx.png,Clear.\ny.png,Clear.\n"),
    ),
    fruitless(
        "a table whose every report is empty",
        ("empty report 2", "line 2"),
        table("image,report\n0.png,\n1.png,\n"),
    ),
    fruitless(
        "a table whose every report says nothing",
        "empty report 3",
        table("image,report\n0.png,N/A\n1.png,None\n2.png,-\n"),
    ),
    fruitless(
        "a table whose every label is no label",
        ("bad record 1", "'Edema' is 'maybe'"),
        table("image,Edema\n0.png,maybe\n"),
    ),
    refused("JSON Lines that are no JSON", "is no JSON Lines", table("image\n0.png\n", "images/t.jsonl")),
    refused("JSON Lines that are lists", "must be a JSON object", table('["0.png"]\n', "images/t.jsonl")),
    refused("JSON Lines that are too deep", "nested too deeply", table(DEEP, "images/t.jsonl")),
    refused(
        "an object that has a name twice",
        "is given twice",
        table('{"image": "0.png", "image": "1.png"}', "images/t.jsonl"),
    ),
]

ROWS_OF_TABLES = [
    goes_on(
        "reports that are lists, numbers and objects",
        "bad record: 4",
        table(
            "".join(
                json.dumps({"image": f"{number}.png", "report": report, "study": f"s{number}"}) + "\n"
                for number, report in enumerate(["Clear.", ["Clear."], 3, {"text": "Clear."}, True])
            ),
            "images/t.jsonl",
        ),
        check=rejected("'report' is a list, not text", "'report' is 3, not text", "'report' is an object"),
    ),
    goes_on(
        "a line that is too deep, and one whose number is too long",
        ("studies    1", "bad record: 2"),
        table(f'{{"image": "0.png", "report": "a"}}\n{DEEP}\n{{"x": {"9" * 5000}}}\n', "images/t.jsonl"),
        check=rejected("nested too deeply", "digits"),
    ),
    goes_on(
        "images that are lists of lists",
        "bad record: 1",
        table(
            '{"images": [["0.png"]], "report": "a"}\n{"images": ["1.png"], "report": "a"}\n', "images/t.jsonl"
        ),
        check=rejected("'images' is a list"),
    ),
    goes_on(
        "rows with too many fields",
        ("studies    1", "bad record: 1"),
        table("image,report\n0.png,Clear, but unquoted.\n1.png,Clear.\n"),
        check=rejected("more fields than the header has columns"),
    ),
    goes_on("rows with too few fields", "empty report: 1", table("image,report\n0.png\n1.png,Clear.\n")),
    goes_on(
        "rows of one study that differ",
        "bad record: 1",
        table("image,report,study\n0.png,a,s\n1.png,b,s\n2.png,c,t\n"),
        check=rejected("its rows differ in 'report'"),
    ),
    goes_on(
        "a split that is none",
        "bad record: 1",
        table("image,report,split\n0.png,a,fold3\n1.png,b,test\n"),
        check=rejected("unknown split 'fold3'"),
    ),
    goes_on(
        "patients that are not stated",
        "studies    3",
        table("image,report,patient\n0.png,a,nan\n1.png,b,N/A\n2.png,c,-\n"),
        check=ids("0", "1", "2"),
    ),
    goes_on(
        "a table with a mark, in UTF-16, and with semicolons",
        "studies    1",
        table("image;report\n0.png;Clear.\n".encode("utf-16")),
    ),
    goes_on(
        "a table with a byte-order mark and old line ends",
        "studies    1",
        table("image,report\r0.png,Clear.\r".encode("utf-8-sig")),
    ),
    goes_on(
        "a table without reports",
        ("reports    none", "drafting", "--columns"),
        table("image,notes\n0.png,Clear.\n"),
    ),
    goes_on(
        "a table of labels only",
        ("labels     3 observations: present 2 · absent 1", "reports    none"),
        table("image,Edema,Fracture\n0.png,1,1\n1.png,0,\n"),
    ),
    goes_on(
        "labels that say nothing",
        "labels     1 observations",
        table("image,Edema\n0.png,1\n1.png,N/A\n2.png,None\n"),
    ),
    goes_on(
        "images without suffix",
        "studies    2",
        table("image,report\n0,a\n1,b\n9,c\n"),
        check=rejected("missing: also with .png, .jpg"),
    ),
    goes_on(
        "images whose stems repeat",
        "studies    2",
        lambda w: (
            w.images("images/a"),
            w.images("images/b"),
            w.write("images/t.csv", "image,report\na/0.png,x\nb/0.png,y\n"),
        ),
        check=ids("a/0", "b/0"),
    ),
    goes_on(
        "paths as on Windows",
        "studies    1",
        lambda w: (w.images("images/a"), w.write("images/t.csv", "image,report\na\\0.png,x\n")),
    ),
    goes_on(
        "an image that is a named pipe, in a table",
        "studies    1",
        lambda w: (
            os.mkfifo(w.images() / "p.png"),
            w.write("images/t.csv", "image,report\np.png,x\n0.png,y\n"),
        ),
        check=rejected("a named pipe"),
    ),
    goes_on(
        "image names that are none",
        "bad record: 2",
        table("image,report\n/,x\n.,x\n0.png,y\n"),
        check=rejected("is no name of an image"),
    ),
    goes_on(
        "an image name that is too long",
        "studies    1",
        table(f"image,report\n{'x' * 300},x\n0.png,y\n"),
        check=rejected("File name too long"),
    ),
    goes_on("an image twice", "duplicate id: 1", table("image,report\n0.png,x\n0.png,y\n")),
]

ENTRY = {"id": "a", "report": "Clear.", "image_path": ["0.png"]}


def annotation(content: object) -> Callable[[Workshop], object]:
    """An `annotation.json` beside three images."""

    def arrange(workshop: Workshop) -> None:
        workshop.images()
        text = content if isinstance(content, str) else json.dumps(content)
        workshop.write("annotation.json", text)

    return arrange


ANNOTATION = f"prepare annotation.json {OUT}"
DATA_SETS = [
    Row(
        "an annotation that is no JSON",
        ANNOTATION,
        "annotation.json is not valid JSON",
        arrange=annotation("{"),
    ),
    Row("an annotation that is too deep", ANNOTATION, "nested too deeply", arrange=annotation(DEEP)),
    Row(
        "an annotation that is a list",
        ANNOTATION,
        "must map train, val and test",
        arrange=annotation([ENTRY]),
    ),
    Row(
        "an annotation of numbers",
        ANNOTATION,
        "must map train, val and test",
        arrange=annotation({"train": 3}),
    ),
    Row("an annotation without splits", ANNOTATION, "it is empty", code=1, arrange=annotation({})),
    Row(
        "an annotation of another split",
        ANNOTATION,
        "unknown split 'fold'",
        code=1,
        arrange=annotation({"fold": [ENTRY]}),
    ),
    Row(
        "entries of an annotation that are none",
        ANNOTATION,
        ("studies    1", "bad record: 6", "no view: 1", "empty report: 2"),
        code=0,
        arrange=annotation(
            {
                "train": [
                    ENTRY,
                    3,
                    {"id": "b"},
                    {**ENTRY, "id": ["c"]},
                    {**ENTRY, "id": "d", "report": ["Clear."]},
                    {**ENTRY, "id": "e", "image_path": {"0.png": 1}},
                    {**ENTRY, "id": "f", "image_path": [["0.png"]]},
                    {**ENTRY, "id": "g", "image_path": []},
                    {**ENTRY, "id": "h", "report": None},
                    {**ENTRY, "id": "i", "report": "nan"},
                ]
            }
        ),
        check=rejected("its 'report' is no text", "no list of names"),
    ),
    Row(
        "an annotation that is a named pipe",
        f"prepare p.json {OUT}",
        "a named pipe",
        arrange=lambda w: os.mkfifo(w.path / "p.json"),
    ),
    fruitless(
        "a bomb of XML", "bad record 1", files({"1.xml": BOMB}), check=rejected("it declares entities")
    ),
    fruitless("XML that is cut", "bad record 1", files({"1.xml": "<eCitation><uId"})),
    fruitless("XML that is deep", "bad record 1", files({"1.xml": "<a>" * 100_000})),
    fruitless(
        "XML of another kind", "bad record 1", files({"1.xml": "<html/>"}), check=rejected("no <uId id=...>")
    ),
    fruitless(
        "XML in an unknown encoding",
        "bad record 1",
        files({"1.xml": '<?xml version="1.0" encoding="x"?><a/>'}),
    ),
    fruitless(
        "XML that is huge",
        "bad record 1",
        files({"1.xml": "<a>" + " " * 1_000_000 + "</a>"}),
        check=rejected("are more than 1,000,000"),
    ),
    fruitless("XML that is a named pipe", "bad record 1", pipe("1.xml"), check=rejected("a named pipe")),
    refused(
        "IU X-Ray without its second table",
        "indiana_projections.csv: missing",
        files({"indiana_reports.csv": "uid\n"}),
        options="--images images",
    ),
    refused(
        "IU X-Ray without images", ("no image folder", "--images"), files({"indiana_reports.csv": "uid\n"})
    ),
    refused(
        "IU X-Ray with other columns",
        "has no column 'filename'",
        files({"indiana_reports.csv": "uid\n", "indiana_projections.csv": "uid,projection\n"}),
        options="--images images",
    ),
]

ROWS: list[Row] = [*TABLES, *ROWS_OF_TABLES, *DATA_SETS]
