"""Reports of phantom studies: what a radiologist would dictate about the drawn findings, and nothing else.

A small grammar writes the reports. Most facts have two to four phrasings, of which the first is the
commonest; structures come in one of two orders; normal structures get a sentence more often than not. Harder
phantoms have more phrasings, comparisons with earlier examinations, and remarks (`further_phrases`).
Observations are labelled as the CheXpert labeller would label the findings section: `absent` only if the
report denies the observation by name ("The lungs are clear" denies none), `uncertain` if the report hedges.
The impression mentions nothing that the findings do not mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from radscribe.observations import OBSERVATIONS, ObservationState
from radscribe.studies.phantom.difficulty import Difficulty
from radscribe.studies.phantom.further_phrases import (
    COMPARISONS,
    FURTHER_DENIALS,
    FURTHER_NORMAL,
    FURTHER_SENTENCES,
    OPENINGS,
    REMARKS,
)
from radscribe.studies.phantom.phrases import GENERAL_INDICATIONS, INDICATIONS, LOBES, LUNG_ZONES, SENTENCES
from radscribe.studies.phantom.study import Finding, PhantomStudy

# Order of the impression: from findings that must not be overlooked to incidental ones.
_IMPORTANCE = (
    "Pneumothorax",
    "Lung Lesion",
    "Pneumonia",
    "Consolidation",
    "Edema",
    "Pleural Effusion",
    "Lung Opacity",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Cardiomegaly",
    "Atelectasis",
    "Pleural Other",
)


@dataclass(slots=True)
class _Dictation:
    """A report while it is dictated.

    Attributes:
        generator: Random generator that chooses the wording.
        findings: Findings by observation.
        lobes: Whether parts of the lung are named by lobe; otherwise they are named by zone.
        difficulty: How varied the wording is.
        denied: Observations that the report says are absent.
    """

    generator: np.random.Generator
    findings: Mapping[str, Sequence[Finding]]
    lobes: bool
    difficulty: Difficulty
    denied: set[str] = field(default_factory=set)

    def chance(self, probability: float) -> bool:
        return bool(self.generator.random() < probability)

    def pick(self, phrases: Sequence[str]) -> str:
        """One of several phrasings; in the easy phantom each is about half as common as the one before it."""
        weights = self.difficulty.evenness ** np.arange(len(phrases))
        return phrases[int(self.generator.choice(len(phrases), p=weights / weights.sum()))]

    def deny(self, structure: str, usual: Mapping[str, Sequence[str]]) -> str:
        """A normal sentence of a structure, from sentences with the observations that each denies by name."""
        further = islice(FURTHER_NORMAL[structure].items(), self.difficulty.phrasings)
        phrases = {
            phrase: denied
            for phrase, denied in (*usual.items(), *further)
            if not self.shown.intersection(denied)
        }
        phrase = self.pick(tuple(phrases))
        self.denied.update(phrases[phrase])
        return phrase

    def deny_one(self, observation: str, words: str) -> str:
        """A sentence that denies one observation, in these words."""
        self.denied.add(observation)
        frames = ("There is no {words}.", "No {words}.", "No {words} is seen.")
        further = FURTHER_DENIALS[: self.difficulty.phrasings]
        return self.pick((*frames, *further)).format(words=words)

    @property
    def shown(self) -> set[str]:
        """Observations that a finding of the study shows."""
        return {
            name for findings in self.findings.values() for finding in findings for name in finding.implied
        }

    def found(self, *observations: str) -> list[Finding]:
        return [finding for name in observations for finding in self.findings.get(name, ())]

    def word(self, finding: Finding, form: str) -> str:
        """A phrase for a finding: its sentence (`present`, `uncertain`) or its `noun`."""
        name = finding.kind or finding.observation
        further = FURTHER_SENTENCES[name].get(form, ())[: self.difficulty.phrasings]
        phrase = self.pick((*SENTENCES[name][form], *further)).format(**self._fields(finding))
        return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", phrase)

    def sentence(self, finding: Finding) -> str:
        """The sentence of a finding; one that is certain may be compared with an earlier examination."""
        sentence = self.word(finding, finding.state)
        comparisons = self.difficulty.comparisons if finding.state == "present" else 0
        if comparisons and self.chance(comparisons):
            sentence = sentence.removesuffix(".") + self.pick(COMPARISONS)
        return sentence

    def _fields(self, finding: Finding) -> dict[str, str]:
        both = finding.side == "bilateral"
        grade = ("mild", "moderate", "severe").index(finding.severity)
        part = self._part(finding)
        lesion = ("small nodule", "large nodule", "large mass")[grade]
        return {
            "severity": finding.severity,
            "adverb": ("mildly", "moderately", "severely")[grade],
            "size": ("small", "moderate", "large")[grade],
            "texture": ("hazy", "patchy", "extensive")[grade],
            "extent": ("focal", "dense", "extensive")[grade],
            "lesion": f"{lesion}es" if both and grade == 2 else f"{lesion}s" if both else lesion,
            "opacity": "opacities" if both else "opacity",
            "side": finding.side,
            "zone": {"upper": "upper", "middle": "mid", "lower": "lower", None: ""}[finding.zone],
            "place": f"{finding.side} {part}",
            "location": f"both {part}s" if both else f"the {finding.side} {part}",
            "basilar": "bibasilar" if both else f"{finding.side} basilar",
            "bases": "both lung bases" if both else f"the {finding.side} lung base",
            "is": "are" if both else "is",
            "a": "" if both else "a ",
            "s": "s" if both else "",
            "verb": "" if both else "s",
        }

    def _part(self, finding: Finding) -> str:
        if finding.zone is None:
            return "lung"
        if finding.zone == "middle" and finding.side != "right":
            return LUNG_ZONES["middle"]
        return (LOBES if self.lobes else LUNG_ZONES)[finding.zone]


def describe(study: PhantomStudy) -> tuple[dict[str, str], dict[str, ObservationState]]:
    """Dictate the report of a phantom study.

    Args:
        study: Phantom study to describe; its dictation seed chooses the wording.

    Returns:
        The sections `findings`, `impression` and `indication`; and the state of all 14 observations. No
        Finding is `present` or `not_mentioned`, as in the CheXpert label files.
    """
    generator = np.random.default_rng(study.dictation_seed)
    by_observation: dict[str, list[Finding]] = {}
    for finding in study.findings:
        by_observation.setdefault(finding.observation, []).append(finding)
    lobes = bool(generator.random() < 0.65)
    dictation = _Dictation(generator, by_observation, lobes, study.difficulty)

    heart, lungs, pleura, bones = _heart(dictation), _lungs(dictation), _pleura(dictation), _bones(dictation)
    devices = _reported(dictation, "Support Devices")
    order = [heart, lungs, pleura] if dictation.chance(0.75) else [lungs, pleura, heart]
    order = [devices, *order, bones] if dictation.chance(0.3) else [*order, bones, devices]
    sections = {
        "findings": _text(_with_remarks(dictation, [sentence for part in order for sentence in part])),
        "impression": _text(_impression(dictation)),
        "indication": _indication(dictation),
    }
    return sections, _states(study.findings, dictation.denied)


def _with_remarks(dictation: _Dictation, sentences: list[str]) -> list[str]:
    """The sentences of a report with remarks among them, and an opening before them."""
    mean = dictation.difficulty.remarks
    if not mean:
        return sentences
    generator = dictation.generator
    if dictation.chance(min(mean / 4, 1)):
        sentences = [dictation.pick(OPENINGS), *sentences]
    for number in generator.permutation(len(REMARKS))[: generator.poisson(mean)]:
        sentences.insert(int(generator.integers(1, len(sentences) + 1)), REMARKS[number])
    return sentences


def _text(sentences: Iterable[str]) -> str:
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _states(findings: Iterable[Finding], denied: Iterable[str]) -> dict[str, ObservationState]:
    states: dict[str, ObservationState] = dict.fromkeys(OBSERVATIONS, "not_mentioned")
    states.update(dict.fromkeys(denied, "absent"))
    for finding in findings:
        for observation, state in finding.implied.items():
            if states[observation] != "present":
                states[observation] = state
    abnormal = [name for name in OBSERVATIONS[1:] if states[name] in ("present", "uncertain")]
    if abnormal in ([], ["Support Devices"]):
        states["No Finding"] = "present"
    return states


def _reported(dictation: _Dictation, *observations: str) -> list[str]:
    return [dictation.sentence(finding) for finding in dictation.found(*observations)]


def _heart(dictation: _Dictation) -> list[str]:
    heart = _reported(dictation, "Cardiomegaly")
    mediastinum = _reported(dictation, "Enlarged Cardiomediastinum")
    both = ("Cardiomegaly", "Enlarged Cardiomediastinum")
    if not heart and not mediastinum:
        return [
            dictation.deny(
                "heart and mediastinum",
                {
                    "The heart size and mediastinal contours are within normal limits.": both,
                    "The heart is normal in size. The mediastinum is unremarkable.": both,
                    "The cardiac silhouette is normal.": both[:1],
                    "Normal heart size. No mediastinal widening.": both,
                },
            )
        ]
    if not mediastinum and dictation.chance(0.6):
        mediastinum = [
            dictation.deny(
                "mediastinum",
                {
                    "The mediastinal contours are unremarkable.": both[1:],
                    "The mediastinum is normal.": both[1:],
                },
            )
        ]
    if not heart and dictation.chance(0.7):
        heart = [
            dictation.deny(
                "heart", {"The heart size is normal.": both[:1], "The heart is normal in size.": both[:1]}
            )
        ]
    return heart + mediastinum


_PARENCHYMAL = ("Pneumonia", "Consolidation", "Lung Opacity", "Lung Lesion", "Edema", "Atelectasis")


def _lungs(dictation: _Dictation) -> list[str]:
    sentences = _reported(dictation, *_PARENCHYMAL)
    if not sentences:
        return [
            dictation.deny(
                "lungs",
                {
                    "The lungs are clear without focal consolidation.": ("Consolidation",),
                    "The lungs are clear.": (),
                    "No focal consolidation or pulmonary edema.": ("Consolidation", "Edema"),
                    "There is no focal airspace opacity.": ("Lung Opacity",),
                    "Both lungs are well expanded and clear.": (),
                },
            )
        ]
    sides = {side for finding in dictation.found(*_PARENCHYMAL, "Pleural Effusion") for side in finding.sides}
    if len(sides) == 1 and dictation.chance(0.5):
        sentences.append(f"The {'left' if sides == {'right'} else 'right'} lung is clear.")
    if not dictation.found("Pneumonia", "Consolidation", "Lung Opacity") and dictation.chance(0.45):
        sentences.append(dictation.deny_one("Consolidation", "focal consolidation"))
    if not dictation.found("Edema") and dictation.chance(0.25):
        sentences.append(dictation.deny_one("Edema", "pulmonary edema"))
    return sentences


def _pleura(dictation: _Dictation) -> list[str]:
    effusion, pneumothorax = _reported(dictation, "Pleural Effusion"), _reported(dictation, "Pneumothorax")
    both = ("Pleural Effusion", "Pneumothorax")
    if not effusion and not pneumothorax:
        normal = dictation.deny(
            "pleura",
            {
                "No pleural effusion or pneumothorax.": both,
                "There is no pneumothorax or pleural effusion.": both,
                "No pleural fluid or pneumothorax is seen.": both,
                "No pneumothorax is identified.": both[1:],
            },
        )
        return [*_reported(dictation, "Pleural Other"), normal]
    if not pneumothorax and dictation.chance(0.75):
        pneumothorax = [dictation.deny_one("Pneumothorax", "pneumothorax")]
    if not effusion and dictation.chance(0.65):
        effusion = [dictation.deny_one("Pleural Effusion", "pleural effusion")]
    return effusion + pneumothorax + _reported(dictation, "Pleural Other")


def _bones(dictation: _Dictation) -> list[str]:
    fractures = _reported(dictation, "Fracture")
    if fractures or dictation.chance(0.3):
        return fractures
    return [
        dictation.deny(
            "bones",
            {
                "No acute bony abnormality.": (),
                "The osseous structures are intact.": (),
                "There is no acute fracture.": ("Fracture",),
                "The visualized bones are unremarkable.": (),
            },
        )
    ]


def _impression(dictation: _Dictation) -> list[str]:
    important = dictation.found(*_IMPORTANCE)[:3]
    if not important:
        return [
            dictation.pick(
                (
                    "No acute cardiopulmonary abnormality.",
                    "No acute cardiopulmonary disease.",
                    "No acute cardiopulmonary process.",
                )
            )
        ]
    hedge = {"present": "", "uncertain": "Possible "}
    return [hedge[finding.state] + dictation.word(finding, "noun") + "." for finding in important]


def _indication(dictation: _Dictation) -> str:
    for observation, indications in INDICATIONS.items():
        if observation in dictation.findings and dictation.chance(0.6):
            return dictation.pick(indications)
    return dictation.pick(GENERAL_INDICATIONS)
