"""The phantom: reproducible, its masks exact, its reports true to its images."""

from __future__ import annotations

import hashlib
import pickle
import re
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.studies.phantom.difficulty import DIFFICULTIES
from radscribe.studies.phantom.overlays import OVERLAYS
from radscribe.studies.phantom.reader import assemble_study, describe, read_phantom, render, sample_study
from radscribe.studies.phantom.sampling import arrange, draw_finding, made_harder
from radscribe.studies.phantom.study import DRAWN_OBSERVATIONS, KINDS, PhantomStudy
from radscribe.studies.study import SECTIONS, Study
from radscribe.text.observation_labeller import label_report

# How each observation is called in the findings section, whatever is said about it.
CALLED = {
    "Enlarged Cardiomediastinum": r"mediastin",
    "Cardiomegaly": r"\bheart\b|cardiac|cardiomegaly",
    "Lung Opacity": r"opacit",
    "Lung Lesion": r"nodule|mass",
    "Edema": r"edema",
    "Consolidation": r"consolidation",
    "Pneumonia": r"pneumonia",
    "Atelectasis": r"atelectasis",
    "Pneumothorax": r"pneumothorax",
    "Pleural Effusion": r"effusion|pleural fluid",
    "Pleural Other": r"pleural (thickening|plaque)",
    "Fracture": r"fracture",
    "Support Devices": r"catheter|central line|pacemaker|tube|wires",
}
HEDGE = re.compile(r"\b(possible|possibly|may|questionable|cannot be excluded)\b")
DENIAL = re.compile(r"\b(no|without|normal|unremarkable)\b")


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    return list(read_phantom(1000))


def described(findings_text: str, observation: str) -> str:
    """The state of an observation that a reader takes from the text alone."""
    states = set()
    for sentence in findings_text.lower().split("."):
        denied = DENIAL.search(sentence)
        for clause in sentence.split(","):
            if re.search(CALLED[observation], clause):
                states.add("uncertain" if HEDGE.search(clause) else "absent" if denied else "present")
    if not states:
        return "not_mentioned"
    return next(state for state in ("uncertain", "present", "absent") if state in states)


def with_findings(*findings, seed: int = 0, index: int = 0) -> PhantomStudy:
    return replace(sample_study(seed, index), findings=arrange(findings), lateral=True)


def digest(study: Study) -> str:
    view = study.views[0].source()
    parts = [
        study.sections["findings"],
        study.patient_id,
        str(study.split),
        sorted(study.observations.items()),
    ]
    summary = hashlib.sha256(repr(parts).encode())
    summary.update(view.pixels.tobytes())
    for name, mask in view.masks.items():
        summary.update(name.encode() + mask.tobytes())
    return summary.hexdigest()


def test_a_study_is_the_same_in_every_process_and_count():
    here = [digest(study) for study in list(read_phantom(9, seed=5))[6:]]
    program = (
        "import sys; sys.path.insert(0, 'tests'); from test_phantom import *;"
        "print(*[digest(study) for study in list(read_phantom(30, seed=5))[6:9]])"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert there.stdout.split() == here
    assert digest(next(read_phantom(1, seed=5))) != digest(next(read_phantom(1, seed=6)))


@pytest.mark.slow
def test_views_are_grey_and_their_masks_fit(studies):
    for study in studies[:30]:
        assert study.views[0].projection == "frontal"
        for view in study.views:
            rendered = view.source()
            assert rendered.pixels.dtype == np.uint8
            assert rendered.pixels.shape == (256, 256)
            assert rendered.pixels.std() > 30
            for mask in rendered.masks.values():
                assert mask.dtype == bool
                assert mask.shape == rendered.pixels.shape


def test_studies_survive_pickling(studies):
    study = studies[3]
    again = pickle.loads(pickle.dumps(study))
    assert again.sections == study.sections
    assert np.array_equal(again.views[1].source().pixels, study.views[1].source().pixels)


@pytest.mark.slow
def test_nothing_changes_outside_the_masks():
    changed = 0
    for index in range(40):
        study = sample_study(1, index)
        for projection in ("frontal", "lateral"):
            rendered = render(study, projection)
            normal = render(replace(study, findings=()), projection)
            inside = np.zeros((256, 256), dtype=bool)
            for mask in rendered.masks.values():
                inside |= mask
            assert np.array_equal(rendered.pixels[~inside], normal.pixels[~inside])
            changed += inside.any()
            assert not normal.masks
    assert changed > 40


@pytest.mark.slow
def test_every_reported_finding_has_a_mask_and_only_those():
    for index in range(120):
        study = sample_study(2, index)
        _, observations = describe(study)
        seen = set(render(study, "frontal").masks) | set(render(study, "lateral").masks)
        told = {name for name in DRAWN_OBSERVATIONS if observations[name] in ("present", "uncertain")}
        assert seen == told, f"study {index}"


@pytest.mark.parametrize("observation", DRAWN_OBSERVATIONS)
def test_each_observation_can_be_drawn_alone_and_is_visible(observation):
    generator = np.random.default_rng(7)
    for state in ("present", "uncertain") if observation != "Support Devices" else ("present",):
        for kind in KINDS.get(observation, {None: 1.0}):
            study = with_findings(draw_finding(generator, observation, state, kind=kind), index=4)
            frontal = render(study, "frontal")
            mask = frontal.masks[observation]
            normal = render(replace(study, findings=()), "frontal")
            difference = np.abs(frontal.pixels.astype(int) - normal.pixels)
            assert mask.sum() >= 60
            assert difference[mask].mean() >= 8
            sections, observations = describe(study)
            assert observations[observation] == state
            assert described(sections["findings"], observation) == state


def test_uncertain_findings_are_fainter():
    generator = np.random.default_rng(3)
    for observation in ("Consolidation", "Lung Lesion", "Pleural Effusion", "Cardiomegaly", "Fracture"):
        finding = draw_finding(generator, observation, "present", severity="mild")
        contrast = {}
        for state in ("present", "uncertain"):
            study = with_findings(replace(finding, state=state))
            normal = render(replace(study, findings=()), "frontal").pixels.astype(int)
            contrast[state] = np.abs(render(study, "frontal").pixels - normal).sum()
        assert contrast["uncertain"] < contrast["present"], observation


def test_severer_findings_change_more_of_the_image():
    generator = np.random.default_rng(3)
    for observation in (
        "Pleural Effusion",
        "Pneumothorax",
        "Cardiomegaly",
        "Edema",
        "Consolidation",
        "Lung Lesion",
    ):
        finding = draw_finding(generator, observation, side="right", zone="middle")
        areas = [
            render(with_findings(replace(finding, size=size)), "frontal").masks[observation].sum()
            for size in (0.2, 0.5, 0.9)
        ]
        assert areas == sorted(areas), observation


@pytest.mark.parametrize(
    "observation",
    [
        "Pleural Effusion",
        "Pneumothorax",
        "Consolidation",
        "Lung Lesion",
        "Atelectasis",
        "Fracture",
        "Pleural Other",
    ],
)
def test_the_patients_right_is_at_the_images_left(observation):
    generator = np.random.default_rng(11)
    for index in range(3):
        for side, half in (("right", slice(0, 128)), ("left", slice(128, 256))):
            study = with_findings(draw_finding(generator, observation, side=side), index=index)
            mask = render(study, "frontal").masks[observation]
            assert mask[:, half].sum() > 0.9 * mask.sum()
            assert f"{side} " in describe(study)[0]["findings"].lower()


def test_zones_are_from_top_to_bottom():
    generator = np.random.default_rng(2)
    for observation in ("Lung Opacity", "Lung Lesion", "Pneumonia", "Fracture"):
        rows = []
        for zone in ("upper", "middle", "lower"):
            study = with_findings(draw_finding(generator, observation, side="right", zone=zone))
            rows.append(np.nonzero(render(study, "frontal").masks[observation])[0].mean())
        assert rows[0] + 20 < rows[1] < rows[2] - 20, observation


def test_reports_say_what_the_observations_say(studies):
    for study in studies:
        assert set(study.sections) <= set(SECTIONS)
        assert tuple(study.observations) == OBSERVATIONS
        text = study.sections["findings"]
        for observation in CALLED:
            assert described(text, observation) == study.observations[observation], (observation, text)
        abnormal = {name for name in CALLED if study.observations[name] in ("present", "uncertain")}
        normal = abnormal <= {"Support Devices"}
        assert (study.observations["No Finding"] == "present") == normal
        assert study.sections["impression"].startswith("No acute") == normal


def test_the_impression_adds_nothing_to_the_findings(studies):
    for study in studies:
        for observation in CALLED:
            state = described(study.sections["impression"], observation)
            if state != "not_mentioned":
                assert state == study.observations[observation] or (
                    # "Right lower lobe pneumonia" stands for the consolidation, too.
                    observation == "Pneumonia"
                ), study.sections


def test_reports_are_ordinary_sentences(studies):
    words: set[str] = set()
    lengths = []
    for study in studies:
        for section in study.sections.values():
            assert re.fullmatch(r"([A-Z][a-z]*[^.{}]*\.)( [A-Z][^.{}]*\.)*", section), section
            assert not re.search(r"\ba [aeiou]|  |\bnone\b|midline", section.lower()), section
        tokens = re.findall(r"[a-z]+", study.sections["findings"].lower())
        lengths.append(len(tokens))
        words.update(tokens)
    assert 25 <= np.median(lengths) <= 40
    assert np.percentile(lengths, 95) <= 60
    assert 120 <= len(words) <= 300


def test_reports_vary(studies):
    reports = Counter(study.sections["findings"] for study in studies)
    assert len(reports) > 0.7 * len(studies)
    assert reports.most_common(1)[0][1] < 0.05 * len(studies)


def test_wording_changes_with_the_dictation_but_not_the_facts():
    study = sample_study(0, 2)
    variants = [describe(replace(study, dictation_seed=seed)) for seed in range(20)]
    assert len({sections["findings"] for sections, _ in variants}) > 10
    facts = {
        tuple(name for name in OBSERVATIONS if observations[name] in ("present", "uncertain"))
        for _, observations in variants
    }
    assert len(facts) == 1


def test_prevalences_are_clinical(studies):
    def share(observation: str, *states: str) -> float:
        return sum(study.observations[observation] in states for study in studies) / len(studies)

    assert 0.24 <= share("No Finding", "present") <= 0.34
    for observation in ("Pleural Effusion", "Cardiomegaly", "Lung Opacity", "Atelectasis", "Support Devices"):
        assert 0.11 <= share(observation, "present") <= 0.30, observation
    for observation in DRAWN_OBSERVATIONS:
        assert 0.04 <= share(observation, "present", "uncertain") <= 0.32, observation
        if observation != "Support Devices":
            assert share(observation, "uncertain") > 0, observation
    assert share("Pneumothorax", "absent") > 0.5
    with_edema = [study for study in studies if study.observations["Edema"] == "present"]
    wet = np.mean([study.observations["Pleural Effusion"] == "present" for study in with_edema])
    assert wet > 1.5 * share("Pleural Effusion", "present")


def test_about_a_tenth_have_only_the_frontal_view(studies):
    assert 0.07 <= np.mean([len(study.views) == 1 for study in studies]) <= 0.14
    assert all(len(study.views) <= 2 for study in studies)


def test_patients_stay_in_one_split(studies):
    by_patient = defaultdict(list)
    for study in studies:
        by_patient[study.patient_id].append(study.split)
    assert all(len(set(splits)) == 1 for splits in by_patient.values())
    assert sum(len(splits) == 2 for splits in by_patient.values()) > 50
    assert Counter(study.split for study in studies) == {"train": 700, "val": 100, "test": 200}
    assert len({study.id for study in studies}) == len(studies)


def test_a_patient_keeps_the_same_body():
    pairs = ((sample_study(0, 2 * pair), sample_study(0, 2 * pair + 1)) for pair in range(40))
    shared = [first.anatomy == second.anatomy for first, second in pairs]
    assert 2 <= sum(shared) <= 20


@pytest.mark.slow
def test_common_findings_can_be_learned_from_the_pixels():
    """Ridge regression on 32 × 32 pixels, the least of learners, already ranks unseen studies well."""
    common = ("Pleural Effusion", "Cardiomegaly")
    pixels, labels = [], []
    for study in read_phantom(420, seed=9):
        view = study.views[0].source().pixels
        pixels.append(view.reshape(32, 8, 32, 8).mean(axis=(1, 3)).ravel() / 255)
        labels.append(
            [study.observations[name] == "present" for name in ("Pleural Effusion", "Cardiomegaly")]
        )
    features, targets = np.array(pixels), np.array(labels)
    features -= features.mean(axis=0)
    train, test = slice(0, 280), slice(280, 420)
    gram = features[train] @ features[train].T
    weights = np.linalg.solve(gram + 3.0 * np.eye(len(gram)), targets[train] - targets[train].mean(axis=0))
    scores = features[test] @ features[train].T @ weights
    for column, name in enumerate(common):
        positive, negative = (scores[targets[test][:, column] == value, column] for value in (True, False))
        area = (positive[:, None] > negative[None, :]).mean()
        assert area > 0.85, name


def test_a_study_can_be_assembled_from_given_findings():
    generator = np.random.default_rng(0)
    findings = [
        draw_finding(generator, "Lung Lesion", side="left", zone="lower", severity="severe"),
        draw_finding(generator, "Pleural Effusion", side="bilateral", severity="moderate"),
        draw_finding(generator, "Pleural Effusion", "uncertain", side="left"),
    ]
    study = assemble_study(with_findings(*findings), "given-1", "patient-1", None)
    assert study.split is None
    assert study.observations["Lung Lesion"] == "present"
    assert study.observations["Pleural Effusion"] == "present"
    assert "large mass" in study.sections["findings"].lower()
    assert set(study.views[0].source().masks) == {"Lung Lesion", "Pleural Effusion"}


def test_effusions_do_not_hide_what_is_reported():
    generator = np.random.default_rng(0)
    lesion = draw_finding(generator, "Lung Lesion", side="right", zone="lower")
    effusion = draw_finding(generator, "Pleural Effusion", side="right", severity="severe")
    moved = {finding.observation: finding for finding in arrange([lesion, effusion])}
    assert moved["Lung Lesion"].zone == "upper"
    assert moved["Pleural Effusion"] == effusion


def test_errors_say_what_to_type():
    generator = np.random.default_rng(0)
    with pytest.raises(RadScribeError, match="Did you mean 'Edema'"):
        draw_finding(generator, "edema")
    with pytest.raises(RadScribeError, match="absence of all others"):
        draw_finding(generator, "No Finding")
    with pytest.raises(RadScribeError, match="Did you mean 'pacemaker'"):
        draw_finding(generator, "Support Devices", kind="pace maker")
    with pytest.raises(RadScribeError, match="'frontal' or 'lateral'"):
        render(sample_study(0, 0), "unknown")
    with pytest.raises(RadScribeError, match="seed of the phantom is -1"):
        next(read_phantom(1, seed=-1))


# --- difficulty --------------------------------------------------------------------------------------------

HARDER = [name for name in DIFFICULTIES if name != "easy"]


@pytest.fixture(scope="module")
def hard_studies() -> list[Study]:
    return list(read_phantom(500, difficulty=DIFFICULTIES["hard"]))


def test_the_easy_phantom_stays_as_it_was(studies):
    """Stores and scores of earlier versions stay valid: the digest is of the phantom before it had others."""
    told = [
        (study.id, study.patient_id, study.split, len(study.views), dict(study.sections), study.observations)
        for study in studies
    ]
    assert hashlib.sha256(repr(told).encode()).hexdigest().startswith("d741ce6af6d9396d")


@pytest.mark.parametrize("name", HARDER)
def test_masks_are_exact_and_nothing_that_is_reported_is_hidden(name):
    for index in range(5):
        study = sample_study(7, index, DIFFICULTIES[name])
        rendered = render(study, "frontal")
        inside = np.zeros((256, 256), dtype=bool)
        for mask in rendered.masks.values():
            inside |= mask
        normal = render(replace(study, findings=()), "frontal")
        assert np.array_equal(rendered.pixels[~inside], normal.pixels[~inside])
        _, observations = describe(study)
        told = {name for name in DRAWN_OBSERVATIONS if observations[name] in ("present", "uncertain")}
        assert set(rendered.masks) == told, f"study {index}"


@pytest.mark.parametrize("name", HARDER)
def test_the_labeller_reads_the_wider_wording(name):
    for study in read_phantom(150, seed=8, difficulty=DIFFICULTIES[name]):
        states = label_report(study.sections["findings"]).states
        assert dict(states) == dict(study.observations), study.sections["findings"]


def test_a_harder_phantom_has_fainter_findings_on_rougher_images():
    study = sample_study(0, 3)
    finding = draw_finding(np.random.default_rng(5), "Consolidation", side="left", severity="moderate")
    normal = render(replace(study, findings=()), "frontal").pixels.astype(int)
    changes, roughness = [], []
    for difficulty in DIFFICULTIES.values():
        with_it = replace(study, findings=(made_harder(finding, difficulty),))
        changes.append(np.abs(render(with_it, "frontal").pixels - normal).sum())
        noises = [sample_study(0, index, difficulty).acquisition.noise for index in range(50)]
        roughness.append(np.mean(noises))
    assert changes[0] > 1.3 * changes[1] > 1.3 * 1.3 * changes[2] > 0
    assert roughness[0] * 1.3 < roughness[1] < roughness[2] / 1.2


def test_hard_findings_are_rarer_and_hard_reports_less_alike(studies, hard_studies):
    def share(of: list[Study], observation: str) -> float:
        return float(np.mean([study.observations[observation] == "present" for study in of]))

    def words(of: list[Study]) -> set[str]:
        return set(re.findall(r"[a-z]+", " ".join(study.sections["findings"] for study in of).lower()))

    for rare in ("Fracture", "Pleural Other", "Enlarged Cardiomediastinum", "Pneumothorax"):
        assert 0 < share(hard_studies, rare) < 0.75 * share(studies, rare), rare
    assert len(words(hard_studies)) > 1.5 * len(words(studies))
    assert len({study.sections["findings"] for study in hard_studies}) > 0.97 * len(hard_studies)
    text = " ".join(study.sections["findings"] for study in hard_studies)
    assert text.count("previous examination") > 25 < text.count("The trachea is midline")


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_lies_over_the_chest_is_seen_and_is_no_finding(name):
    study = replace(sample_study(0, 0), findings=())
    over = replace(study, acquisition=replace(study.acquisition, overlays=(name,)))
    plain, covered = render(study, "frontal"), render(over, "frontal")
    difference = np.abs(covered.pixels.astype(int) - plain.pixels)
    assert not covered.masks
    assert 40 < (difference > 8).sum() < 0.4 * difference.size


def test_collimation_hides_what_lies_beyond_it():
    finding = draw_finding(np.random.default_rng(1), "Pleural Effusion", side="left", severity="severe")
    study = with_findings(finding)
    narrow = replace(study, acquisition=replace(study.acquisition, collimation=(0.0, 0.0, 0.3, 0.0)))
    wide, cut = render(study, "frontal").masks, render(narrow, "frontal").masks
    beyond = np.zeros((256, 256), dtype=bool)
    beyond[:, 256 - round(0.3 * 128) :] = True
    assert (wide["Pleural Effusion"] & beyond).any()
    assert np.array_equal(cut["Pleural Effusion"], wide["Pleural Effusion"] & ~beyond)
    assert render(narrow, "frontal").pixels[beyond].mean() < 10
