"""The phantom of given reports: images show what a report states, and the report stays as it was written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from radscribe.errors import RadScribeError
from radscribe.studies.phantom.given_reports import UNREADABLE_REPORT, draw_reports
from radscribe.studies.phantom.mentions import findings_of
from radscribe.studies.prepare import prepare
from radscribe.studies.readers.registry import open_source
from radscribe.studies.rejection import Rejection
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study
from radscribe.text.observation_labeller import label_report


def stated(text: str, *drawn: str, seed: int = 0) -> tuple[list[str], list[str]]:
    """The findings of a report, each in a few words, and the observations that cannot be drawn."""
    findings, undrawn = findings_of(text, label_report(text).states, drawn or ("present",), seed)
    words = [
        " ".join(filter(None, (f.observation, f.kind, f.side, f.zone, f.severity, f.state[:1])))
        for f in findings
    ]
    return words, undrawn


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Small left pleural effusion. No pneumothorax.", ["Pleural Effusion left mild p"]),
        ("There are large bilateral pleural effusions.", ["Pleural Effusion bilateral severe p"]),
        (
            "Moderate right effusion. There is also a moderate effusion on the left.",
            ["Pleural Effusion bilateral moderate p"],
        ),
        (
            "Large right pneumothorax, with a small left pleural effusion.",
            ["Pneumothorax right severe p", "Pleural Effusion left mild p"],
        ),
        ("Moderate RLL opacity.", ["Lung Opacity right lower moderate p"]),
        ("Mild opacities in the right and left upper lobes.", ["Lung Opacity bilateral upper mild p"]),
        ("There is a mass in the left mid lung.", ["Lung Lesion left middle severe p"]),
        ("Subtle nodule in the lingula.", ["Lung Lesion left middle mild p"]),
        ("Moderate cardiomegaly.", ["Cardiomegaly midline moderate p"]),
        ("Severe pulmonary edema on the right.", ["Edema bilateral severe p"]),
        ("Mild right upper rib fracture.", ["Fracture right upper mild p"]),
        ("Moderate left calcified pleural plaques.", ["Pleural Other plaque left moderate p"]),
    ],
)
def test_side_zone_and_severity_are_taken_from_the_words(text, expected):
    assert stated(text) == (expected, [])


def test_every_device_that_is_named_is_drawn():
    words, undrawn = stated("Left chest pacemaker. A right IJ catheter and sternotomy wires are seen.")
    assert undrawn == []
    assert [word.rsplit(" ", 2)[0] for word in words] == [
        "Support Devices pacemaker left",
        "Support Devices sternotomy wires midline",
        "Support Devices central venous catheter right",
    ]


@pytest.mark.parametrize(
    ("text", "observation"),
    [
        ("An aortic stent is seen.", "Support Devices"),
        ("Displaced fracture of the right clavicle.", "Fracture"),
        ("Compression fractures of T9 and T12.", "Fracture"),
    ],
)
def test_what_cannot_be_drawn_is_named(text, observation):
    assert stated(text) == ([], [observation])
    (study,) = draw_reports([Study("1", "1", (), sections={"findings": text})])
    assert isinstance(study, Study)
    assert study.observations[observation] == "absent"
    assert study.observations["No Finding"] == "present"
    view = study.views[0].source()
    assert view.notes == (f"not drawn: {observation}",)
    assert not view.masks


def test_what_is_denied_or_left_open_is_not_drawn_unless_asked():
    text = "No left effusion. Possible small right pneumothorax. Mild cardiomegaly."
    assert stated(text)[0] == ["Cardiomegaly midline mild p"]
    words, _ = stated(text, "present", "uncertain")
    assert words == ["Cardiomegaly midline mild p", "Pneumothorax right mild u"]


def test_what_is_not_stated_differs_between_studies_and_not_between_calls():
    drawn = [stated("There is a lung nodule.", seed=seed)[0] for seed in range(30)]
    assert drawn == [stated("There is a lung nodule.", seed=seed)[0] for seed in range(30)]
    assert len({word for (word,) in drawn}) > 4


def reports(folder: Path, rows: list[dict]) -> Path:
    path = folder / "reports.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


ROWS = [
    {"study": 7, "patient": "p1", "split": "test", "report": "Large right pleural effusion."},
    {"study": "b", "patient": "p2", "split": "train", "report": "The lungs are clear. No pneumothorax."},
    {"study": "c", "patient": "p1", "split": "test", "report": "Moderate cardiomegaly."},
]


def test_a_study_looks_the_same_whatever_stands_beside_it(tmp_path):
    first, _, third = open_source("phantom", reports=reports(tmp_path, ROWS), seed=3)
    (again,) = open_source("phantom", reports=reports(tmp_path, ROWS[:1]), seed=3)
    (other,) = open_source("phantom", reports=reports(tmp_path, ROWS[:1]), seed=4)
    assert (first.id, first.patient_id, first.split) == ("7", "p1", "test")
    assert first.sections == {"findings": "Large right pleural effusion."}
    view = first.views[0].source()
    assert np.array_equal(view.pixels, again.views[0].source().pixels)
    assert not np.array_equal(view.pixels, other.views[0].source().pixels)
    assert set(view.masks) == {"Pleural Effusion"}
    assert (
        view.masks["Pleural Effusion"][:, :128].sum() > 1000 > view.masks["Pleural Effusion"][:, 128:].sum()
    )
    assert first.views[0].source.study.anatomy == third.views[0].source.study.anatomy


def test_difficulty_changes_the_images_and_not_what_they_show(tmp_path):
    path = reports(tmp_path, ROWS[:1])
    (easy,), (hard,) = (open_source("phantom", reports=path, difficulty=name) for name in ("easy", "hard"))
    assert easy.observations == hard.observations
    assert easy.sections == hard.sections
    mild, faint = (study.views[0].source().masks["Pleural Effusion"] for study in (easy, hard))
    assert (mild & faint).sum() > 0
    assert hard.views[0].source.study.findings[0].contrast < 0.7


def test_the_images_of_an_annotation_need_not_be_there(tmp_path):
    entry = {"id": "CXR9_IM-1", "report": "Small left effusion.", "image_path": ["a/0.png", "a/1.png"]}
    (tmp_path / "annotation.json").write_text(json.dumps({"train": [], "val": [entry], "test": []}))
    (study,) = open_source("phantom", reports=tmp_path)
    assert (study.id, study.patient_id, study.split) == ("CXR9_IM-1", "9", "val")
    assert [view.projection for view in study.views] == ["frontal", "lateral"]
    assert "Pleural Effusion" in study.views[0].source().masks


def test_a_report_that_cannot_be_read_is_rejected():
    texts = {"a": "Der Herzschatten ist nicht vergrößert, kein Erguss.", "b": "No effusion."}
    found = list(
        draw_reports(Study(name, name, (), sections={"findings": text}) for name, text in texts.items())
    )
    assert isinstance(found[0], Rejection)
    assert found[0].kind == UNREADABLE_REPORT
    assert isinstance(found[1], Study)


def test_a_store_of_given_reports_follows_them(tmp_path):
    path = reports(tmp_path, ROWS)
    options = {"reports": path, "short_side": 32, "workers": 1, "progress": False}
    prepare("phantom", tmp_path / "store", **options)
    changed = [{**ROWS[0], "report": "Aortic stent. Small left pneumothorax."}, *ROWS[1:]]
    reports(tmp_path, changed)
    with pytest.raises(RadScribeError, match="the source has changed"):
        prepare("phantom", tmp_path / "store", **options)
    summary = prepare("phantom", tmp_path / "store", update=True, **options)
    assert summary.decoded == 1
    assert "note       not drawn: Support Devices: 1 views" in str(summary)
    store = PreparedStore(tmp_path / "store")
    (study,) = (study for study in store.studies("test") if study.id == "7")
    assert study.sections["findings"] == changed[0]["report"]
    assert set(study.views[0].source().masks) == {"Pneumothorax"}
    assert study.observations["Pneumothorax"] == "present"
    assert study.observations["Support Devices"] == "absent"
