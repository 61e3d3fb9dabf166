"""The observation labeller: own sentences, the phantom's grammar, real reports, label files, the command."""

import csv
import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATION_STATES, OBSERVATIONS, as_binary
from radscribe.studies.phantom.reader import read_phantom
from radscribe.text.cleaning import clean_iu_xray, clean_mimic_cxr
from radscribe.text.label_files import find_labels, read_label_file
from radscribe.text.observation_labeller import label_report

FOUND = OBSERVATIONS[1:]


def read_sentences() -> list[tuple[str, dict[str, str]]]:
    """Sentences with the state of every observation but No Finding."""
    with Path(__file__).with_name("labelled_sentences.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        (
            row["sentence"],
            dict.fromkeys(FOUND, "not_mentioned")
            | {
                name: state
                for state in ("present", "absent", "uncertain")
                for name in filter(None, row[state].split("; "))
            },
        )
        for row in rows
    ]


SENTENCES = read_sentences()


def states_of(text: str) -> dict[str, str]:
    return {name: state for name, state in label_report(text).states.items() if name != "No Finding"}


# --- sentences ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sentence", "states"), SENTENCES, ids=[sentence for sentence, _ in SENTENCES])
def test_sentence(sentence, states):
    assert set(states) == set(FOUND)
    assert states_of(sentence) == states


def test_the_sentences_cover_each_state_of_each_observation():
    assert len(SENTENCES) >= 200
    counts = Counter((name, state) for _, states in SENTENCES for name, state in states.items())
    assert all(counts[name, state] >= 2 for name in FOUND for state in OBSERVATION_STATES)


@pytest.mark.parametrize("clean", [clean_iu_xray, clean_mimic_cxr], ids=lambda clean: clean.__name__)
def test_cleaning_loses_only_what_it_deletes(clean):
    """A question mark, and a stroke, without which two words are one."""
    lost = {sentence for sentence, states in SENTENCES if states_of(clean(sentence)) != states}
    assert lost == {"? pneumonia", "No consolidation, effusion/pneumothorax."}


@pytest.mark.parametrize("rewrite", [str.upper, str.lower, lambda text: f"  {text}\n\n"])
def test_case_and_blanks_do_not_count(rewrite):
    assert all(states_of(rewrite(sentence)) == states for sentence, states in SENTENCES)


def test_a_line_break_is_a_blank():
    assert states_of("No pleural\neffusion or\n  pneumothorax.") == states_of(
        "No pleural effusion or pneumothorax."
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=6))
def test_a_sentence_never_changes_what_another_says(chosen):
    rank = ["not_mentioned", "absent", "uncertain", "present"]
    expected = {name: max((states[name] for _, states in chosen), key=rank.index) for name in FOUND}
    text = " ".join(sentence if sentence[-1] == "." else f"{sentence}." for sentence, _ in chosen)
    assert states_of(text) == expected
    assert states_of(clean_iu_xray(text).upper()) == states_of(clean_iu_xray(text))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60), st.sampled_from(SENTENCES))
def test_any_text_is_labelled_and_spans_hold_in_it(noise, chosen):
    text = f"{noise}\n\n{chosen[0]}"
    labels = label_report(text)
    assert tuple(labels.states) == (() if labels.unreadable else OBSERVATIONS)
    for name, evidence in labels.evidence.items():
        assert labels.states[name] != "not_mentioned"
        begin, end = evidence.sentence
        for span in filter(None, (evidence.mention, evidence.cue)):
            assert begin <= span[0] < span[1] <= end
            assert labels.words(span).strip()


# --- reports -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [str, clean_iu_xray], ids=["as_written", "cleaned"])
def test_the_phantom_says_what_it_states(clean):
    wrong = Counter()
    for study in read_phantom(400):
        states = label_report(clean(study.sections["findings"])).states
        wrong += Counter(
            (name, state, states[name]) for name, state in study.observations.items() if states[name] != state
        )
    assert not wrong


def test_precedence_and_evidence():
    text = "No pneumothorax. Possible tiny pneumothorax. Small İ left pneumothorax. Large pneumothorax."
    labels = label_report(text)
    assert labels.states["Pneumothorax"] == "present"
    evidence = labels.evidence["Pneumothorax"]
    assert labels.words(evidence.sentence) == "Small İ left pneumothorax"
    assert labels.words(evidence.mention) == "pneumothorax"
    assert evidence.cue is None
    labels = label_report("No pneumothorax. Possible tiny pneumothorax.")
    assert labels.states["Pneumothorax"] == "uncertain"
    assert labels.words(labels.evidence["Pneumothorax"].cue) == "Possible"


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("", "not_mentioned"),
        (" \n", "not_mentioned"),
        ("The lungs are clear. No effusion.", "present"),
        ("Pacemaker in place. No effusion.", "present"),
        ("Possible effusion.", "not_mentioned"),
        ("Cardiomegaly.", "not_mentioned"),
    ],
)
def test_no_finding_follows_from_the_others(text, state):
    assert label_report(text).states["No Finding"] == state


def test_nothing_is_handed_up_the_hierarchy():
    states = states_of("Right lower lobe consolidation.")
    assert states["Consolidation"] == "present"
    assert states["Lung Opacity"] == "not_mentioned"


# --- states as numbers, label files ------------------------------------------------------------------------


def test_policies():
    states = {
        "Edema": "present",
        "Fracture": "absent",
        "Pneumonia": "uncertain",
        "Atelectasis": "not_mentioned",
    }
    sure = {"Edema": 1, "Fracture": 0}
    assert as_binary(states, uncertain="ignore", missing="ignore") == sure
    assert as_binary(states, uncertain="as_present", missing="ignore") == sure | {"Pneumonia": 1}
    assert as_binary(states, uncertain="as_absent", missing="as_absent") == sure | {
        "Pneumonia": 0,
        "Atelectasis": 0,
    }
    with pytest.raises(TypeError):
        as_binary(states)
    with pytest.raises(KeyError):
        as_binary(states, uncertain="as_positive", missing="ignore")


def write_rows(path: Path, *rows: list[str]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_label_files_are_read_by_name(tmp_path):
    chexpert = write_rows(
        tmp_path / "chexpert.csv",
        ["subject_id", "study_id", "Atelectasis", "Cardiomegaly", "Edema", "Fracture"],
        ["1", "50", "1.0", "0.0", "-1.0", ""],
        ["1", "51", "", "1.0", "", "nan"],
    )
    assert read_label_file(chexpert) == {
        "50": {
            "Cardiomegaly": "absent",
            "Edema": "uncertain",
            "Atelectasis": "present",
            "Fracture": "not_mentioned",
        },
        "51": {
            "Cardiomegaly": "present",
            "Edema": "not_mentioned",
            "Atelectasis": "not_mentioned",
            "Fracture": "not_mentioned",
        },
    }
    chexbert = write_rows(
        tmp_path / "chexbert.csv",
        ["Report Impression", "No Finding", "Edema"],
        ["No edema,\nstable.", "1", "0"],
        ["No edema,\nstable.", "", "-1"],
    )
    assert read_label_file(chexbert) == {
        "0": {"No Finding": "present", "Edema": "absent"},
        "1": {"No Finding": "not_mentioned", "Edema": "uncertain"},
    }
    with pytest.raises(RadScribeError, match="twice"):
        read_label_file(chexbert, id_column="Report Impression")
    with pytest.raises(RadScribeError, match="twice"):
        read_label_file(chexpert, id_column="subject_id")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["study_id", "edema"], ["1", "1"]], "no column named as a CheXpert observation.*study_id, edema"),
        ([["study_id", "Edema"], ["1", "2"]], "line 2: 'Edema' is '2', not 1, 0, -1"),
        ([["study_id", "Edema"], ["1", "0"], ["1", "1"]], "line 3: study '1' is listed twice"),
        ([], "Its columns: none"),
    ],
)
def test_bad_label_files(tmp_path, rows, message):
    with pytest.raises(RadScribeError, match=message):
        read_label_file(write_rows(tmp_path / "labels.csv", *rows))


def test_a_label_file_that_is_not_there(tmp_path):
    with pytest.raises(RadScribeError, match="cannot read label file"):
        read_label_file(tmp_path / "none.csv")
    with pytest.raises(RadScribeError, match="no column 'uid'"):
        read_label_file(write_rows(tmp_path / "labels.csv", ["id", "Edema"]), id_column="uid")


#: As CAMANet's authors released it: 14 values a study, in alphabetical order, here for two observations.
ALPHABETICAL = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
]
ALPHABETICAL += [
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
]
ALPHABETICAL += ["Pneumothorax", "Support Devices"]


def values(**states) -> list:
    """14 values in that order, 0 unless given."""
    return [states.get(name.replace(" ", "_"), 0) for name in ALPHABETICAL]


def test_label_files_in_json(tmp_path):
    path = tmp_path / "labels.json"
    both = {
        "CXR1_IM-0001": values(No_Finding=1),
        "CXR2_IM-0652": values(Edema=-1, Fracture=None, Pneumonia=1.0),
    }
    path.write_text(json.dumps(both))
    labels = read_label_file(path)
    assert labels["CXR1_IM-0001"] == dict.fromkeys(ALPHABETICAL, "absent") | {"No Finding": "present"}
    assert labels["CXR2_IM-0652"] == dict.fromkeys(ALPHABETICAL, "absent") | {
        "Edema": "uncertain",
        "Fracture": "not_mentioned",
        "Pneumonia": "present",
    }
    # Some ids of R2Gen's annotation end in the number of an image.
    assert find_labels(labels, "CXR1_IM-0001") == labels["CXR1_IM-0001"]
    assert find_labels(labels, "CXR1_IM-0001-1001") == labels["CXR1_IM-0001"]
    assert find_labels(labels, "CXR1_IM-0001-1001-2") is None
    assert find_labels(labels, "CXR3_IM-0001") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "labels.json is not valid JSON"),
        ("[[1, 2]]", "labels.json is no object of studies"),
        ("{}", "labels.json is no object of studies"),
        (
            json.dumps({"s1": values(), "s2": values()[1:]}),
            "study 's2' has 13 values.* 14 values, for Atelectasis",
        ),
        (json.dumps({"s1": "positive"}), "study 's1' has no list of values"),
        (json.dumps({"s1": {"Edema": 1}}), "study 's1' has no list of values"),
        (json.dumps({"s1": values(Edema=2)}), "study 's1': 'Edema' is 2, not 1, 0, -1 or null"),
        (json.dumps({"s1": values(Edema=True)}), "study 's1': 'Edema' is true, not 1"),
        (json.dumps({"s1": values(Edema="1")}), "study 's1': 'Edema' is \"1\", not 1"),
        (json.dumps({"s1": values(Edema=math.nan)}), "study 's1': 'Edema' is NaN, not 1"),
        (json.dumps({"s1": values(Edema=[1])}), r"study 's1': 'Edema' is \[1\], not 1"),
        (json.dumps({"s1": values()})[:-1] + ', "s1": []}', "study 's1' is listed twice"),
    ],
)
def test_bad_label_files_in_json(tmp_path, content, message):
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(RadScribeError, match=message):
        read_label_file(path)


def test_a_label_file_in_json_that_is_not_there(tmp_path):
    with pytest.raises(RadScribeError, match="cannot read label file .*none.json"):
        read_label_file(tmp_path / "none.json")


# --- the command -------------------------------------------------------------------------------------------


def test_command(tmp_path, capsys):
    texts = tmp_path / "reports.txt"
    texts.write_text("No effusion or pneumothorax. The heart may be enlarged.\n\nSmall nodule.\n")
    main(["label", str(texts)])
    assert capsys.readouterr().out.splitlines() == [
        "uncertain: Cardiomegaly; absent: Pneumothorax, Pleural Effusion",
        "nothing mentioned",
        "present: Lung Lesion",
    ]
    main(["label", str(texts), "--json"])
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["observations"] == label_report("No effusion or pneumothorax. Heart may be enlarged.").states
    assert first["evidence"]["Pneumothorax"] == {
        "sentence": "No effusion or pneumothorax",
        "mention": "pneumothorax",
        "cue": "No",
        "spans": {"sentence": [0, 27], "mention": [15, 27], "cue": [0, 2]},
    }
    assert set(second["observations"].values()) == {"not_mentioned"}
    assert not second["evidence"]
    assert third["evidence"]["Lung Lesion"]["cue"] is None
    with pytest.raises(SystemExit, match="2"):
        main(["label", str(tmp_path / "none.txt")])
    assert "cannot read" in capsys.readouterr().err


def test_command_reads_standard_input():
    code = "import sys; from radscribe.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "label", "-"]
    done = subprocess.run(command, input=b"No \xff effusion.\nEdema.\n", capture_output=True, check=True)
    assert done.stdout.decode().splitlines() == [
        "present: No Finding; absent: Pleural Effusion",
        "present: Edema",
    ]


# --- real reports ------------------------------------------------------------------------------------------

#: How MeSH indexers of the Indiana collection name these observations.
PROBLEMS = {
    "Cardiomegaly": ("Cardiomegaly", "Cardiac Shadow/enlarged"),
    "Pleural Effusion": ("Pleural Effusion", "Hydropneumothorax", "Hemopneumothorax"),
    "Pneumothorax": ("Pneumothorax", "Hydropneumothorax", "Hemopneumothorax"),
    "Atelectasis": ("Pulmonary Atelectasis",),
}


def cohens_kappa(pairs: list[tuple[bool, bool]]) -> float:
    count = len(pairs)
    observed = sum(one == other for one, other in pairs) / count
    first, second = (sum(each) / count for each in zip(*pairs, strict=True))
    expected = first * second + (1 - first) * (1 - second)
    return (observed - expected) / (1 - expected)


@pytest.fixture(scope="module")
def indiana(shared):
    with (shared / "data/iu_xray/indiana_reports.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["findings"] or row["impression"]]
    return [(row, label_report(f"{row['findings']}\n\n{row['impression']}").states) for row in rows]


@pytest.mark.parametrize("observation", PROBLEMS)
def test_agreement_with_indexers(indiana, observation):
    """As the indexers do, a finding that is left open counts as present."""
    pairs = []
    for row, states in indiana:
        indexed = any(
            problem == name or problem.startswith(f"{name}/")
            for problem in row["MeSH"].split(";")
            for name in PROBLEMS[observation]
        )
        called = as_binary({observation: states[observation]}, uncertain="as_present", missing="as_absent")
        pairs.append((indexed, bool(called[observation])))
    kappa = cohens_kappa(pairs)
    print(f"{observation}: kappa {kappa:.3f}, {sum(one for one, _ in pairs)} of {len(pairs)} indexed")
    assert kappa >= 0.85
