"""The gate and the projection on real DICOM headers: the table of IU X-Ray's in the wheel of torchxrayvision.

pip download --no-deps torchxrayvision==1.5.7
python tests/real_headers.py torchxrayvision-1.5.7-py3-none-any.whl [indiana_projections.csv]

Each row becomes the header of a file. It prints how many there are by verdict of the gate, and by projection;
with the second table, how often the projection is that of its authors.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import re
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydicom.datadict import dictionary_description, keyword_dict
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence

from radscribe.studies.dicom_gate import gate_by_tags
from radscribe.studies.dicom_tags import projection_in

TABLE = "torchxrayvision/data/nlmcxr_dicom_metadata.csv.gz"
#: Keywords by the names that the table has for tags.
KEYWORDS = {dictionary_description(tag): keyword for keyword, tag in keyword_dict.items()}
ITEM = {"CodeValue": "0008, 0100", "CodingSchemeDesignator": "0008, 0102", "CodeMeaning": "0008, 0104"}


def rows(wheel: Path) -> Iterator[dict[str, str]]:
    with zipfile.ZipFile(wheel) as archive:
        yield from csv.DictReader(io.StringIO(gzip.decompress(archive.read(TABLE)).decode()))


def header(row: Mapping[str, str]) -> FileDataset:
    """A row as header. Lists stand there as Python writes them, and sequences as pydicom prints them."""
    dataset = FileDataset(None, {}, file_meta=FileMetaDataset(), preamble=bytes(128))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some values are not of the form that the standard asks for
        for name, value in row.items():
            keyword = KEYWORDS.get(name)
            if not keyword or not value:
                continue
            if name.endswith("Sequence"):
                setattr(dataset, keyword, Sequence([_item(value)] if value != "[]" else []))
            else:
                setattr(dataset, keyword, ast.literal_eval(value) if value.startswith("[") else value)
    return dataset


def _item(printed: str) -> Dataset:
    item = Dataset()
    for keyword, tag in ITEM.items():
        if found := re.search(rf"\({tag}\).*?: '(.*?)'", printed):
            setattr(item, keyword, found[1])
    return item


def main(wheel: Path, projections: Path | None) -> None:
    verdicts, found, agreement = Counter[str](), Counter[str](), Counter[str]()
    stated = {}
    if projections:
        with open(projections, newline="") as file:
            stated = {row["filename"]: row["projection"].lower() for row in csv.DictReader(file)}
    for row in rows(wheel):
        dataset = header(row)
        verdict = gate_by_tags(dataset)
        named = "the tags name the chest" if verdict.states_chest else "no tag names a part: pixels decide"
        verdicts[verdict.reason or named] += 1
        projection = projection_in(dataset)
        found[projection] += 1
        if theirs := stated.get(f"{Path(row['filename']).name}.png"):
            agreement[f"{projection} by tags, {theirs} by the authors"] += 1
    for title, counts in (("gate", verdicts), ("projection", found), ("both tables", agreement)):
        print(f"{title}: {sum(counts.values()):,} headers")
        for what, count in counts.most_common():
            print(f"  {count:6,}  {what}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
