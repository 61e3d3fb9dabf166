"""Files of drafts in the forms in which groups publish them."""

import json

import pytest

from radscribe.errors import RadScribeError
from radscribe.runs.draft_reading import read_published_drafts, read_published_texts

DRAFTS = {"CXR1": "no acute disease .", "CXR2": "the heart is enlarged ."}
REFERENCES = {"CXR1": "Normal.", "CXR2": "Big heart."}
ENTRIES = [
    {"image_id": study, "ground_truth": REFERENCES[study], "prediction": text}
    for study, text in DRAFTS.items()
]


@pytest.mark.parametrize(
    ("form", "content", "references"),
    [
        ("JSON Lines", "".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in DRAFTS.items()), None),
        ("JSON Lines", "\n\n".join(map(json.dumps, ENTRIES)), REFERENCES),
        (
            "a table",
            'Study_ID;Report\nCXR1;"no acute disease ."\nCXR2;the heart is enlarged .\n',
            None,
        ),
        (
            "a table",
            "id,gt,pred\nCXR1,Normal.,no acute disease .\nCXR2,Big heart.,the heart is enlarged .\n",
            REFERENCES,
        ),
        ("a JSON list", json.dumps(ENTRIES, indent=2), REFERENCES),
        ("JSON by id", json.dumps({study: [text] for study, text in DRAFTS.items()}), None),
        ("JSON by id", json.dumps(DRAFTS), None),
        (
            "JSON with drafts and references by id",
            json.dumps({"gts": {i: [t] for i, t in REFERENCES.items()}, "res": DRAFTS}),
            REFERENCES,
        ),
        ("JSON of ReXrank", json.dumps({i: {"model_prediction": t} for i, t in DRAFTS.items()}), None),
    ],
)
def test_every_form_is_seen_by_its_content(form, content, references, tmp_path):
    path = tmp_path / "drafts.txt"
    path.write_text(content)
    found = read_published_drafts(path)
    assert (found.form, dict(found.drafts)) == (form, DRAFTS)
    assert [dict(texts) for texts in found.references] == ([references] if references else [])
    assert read_published_texts(path) == (references or DRAFTS)


def test_one_line_with_nested_objects_is_json_lines(tmp_path):
    path = tmp_path / "drafts.jsonl"
    path.write_text(json.dumps({"id": "a", "text": "normal .", "probabilities": {"Edema": 0.1}}))
    assert read_published_drafts(path).drafts == {"a": "normal ."}


def test_rexrank_leaves_open_which_sections_were_drafted(tmp_path):
    """The whole reference is joined as by ReXrank's own script; the sections alone are further versions."""
    path = tmp_path / "prediction.json"
    entry = {"section_findings": "Clear lungs.", "section_impression": None, "image_path": ["a.png"]}
    path.write_text(json.dumps({"50051329": {**entry, "model_prediction": "Findings: Clear."}}))
    found = read_published_drafts(path)
    assert found.drafts == {"50051329": "Findings: Clear."}
    assert [texts["50051329"] for texts in found.references] == [
        "Findings: Clear lungs. Impression: None",
        "Clear lungs.",
        "Clear lungs.",
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "has no drafts"),
        ("{}", "has no drafts"),
        ("[]", "has no drafts"),
        ('[{"id": "a", "text": "x"}, 3]', "entry 2, is no object: 3"),
        ('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', "line 2, repeats the id 'a'"),
        ('{"id": "a", "text": "x"}\n{"id": "b", "text": \n', "line 2, is not valid JSON"),
        ('{"id": "a", "text": "x"}\n{"id": "b"}\n', "line 2, has no draft"),
        ('[{"text": "x"}]', "entry 1, has no id"),
        ('[{"id": "a", "text": ["x", "y"]}]', "has no text in 'text'"),
        ('[{"id": "a", "text": "x", "gt": "y"}, {"id": "b", "text": "x"}]', "a reference for 1 of its 2"),
        ('{"res": ["x"], "gts": ["y"]}', "a list without ids"),
        ('{"a": {"model_prediction": "x"}, "b": {"report": "y"}}', "study 'b', has no 'model_prediction'"),
        ('{"a": "x", "b": 5}', "study 'b', has no text"),
        ("no acute disease .\nthe heart is enlarged .\n", "no column of ids and one of drafts"),
        ('{"a": "x"', "is not valid JSON"),
    ],
)
def test_what_is_wrong_is_named(content, says, tmp_path):
    path = tmp_path / "drafts.json"
    path.write_text(content)
    with pytest.raises(RadScribeError, match="drafts.json") as raised:
        read_published_drafts(path)
    assert says in str(raised.value)
