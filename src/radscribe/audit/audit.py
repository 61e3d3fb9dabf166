"""`radscribe audit`: what is wrong with the splits of prepared stores, and what each split has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from radscribe.about import NOTICE
from radscribe.audit.contents import Contents
from radscribe.audit.images import SharedIds, SplitImages, near_images, shared_ids, split_images
from radscribe.audit.leaks import Item, Leak, LeakKind, Match, Pairs, Place, equal_items
from radscribe.audit.report_texts import CUTS, odd_reports
from radscribe.audit.reports import as_written, different_reports, near_reports, words_of
from radscribe.errors import RadScribeError, unknown_name, warn
from radscribe.observations import ObservationState
from radscribe.progress import Progress
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import SECTIONS, SPLITS, Study
from radscribe.text.observation_labeller import label_report

if TYPE_CHECKING:
    from radscribe.text.language_model_tokenizer import LanguageModelTokenizer

#: Where the observations of a store come from: its source, or RadScribe's rules.
Labels = Literal["source", "rules"]
_KINDS: tuple[LeakKind, ...] = get_args(LeakKind)


@dataclass(frozen=True, slots=True)
class SplitAudit:
    """What one split has.

    Attributes:
        place: The split.
        contents: Its images, studies, patients, reports and observations, in numbers.
        labels: Where its observations come from.
        cut: Share of its reports that each of `CUTS` cuts; None where that needs a tokenizer.
        odd: Ids of the studies with odd reports, by kind; see `ODD_REPORTS`.
    """

    place: Place
    contents: Contents
    labels: Labels
    cut: Sequence[float | None]
    odd: Mapping[str, Sequence[str]]

    def to_json(self) -> dict[str, Any]:
        """What the split has, as JSON values."""
        return {
            **self.place._asdict(),
            **self.contents.to_json(),
            "labels": self.labels,
            "truncation": [
                {**rules._asdict(), "share": share} for rules, share in zip(CUTS, self.cut, strict=True)
            ],
            "odd_reports": {kind: list(studies) for kind, studies in self.odd.items()},
        }


@dataclass(frozen=True, slots=True)
class Audit:
    """What is wrong with the splits of some stores, and what each split has.

    Attributes:
        section: Section of the reports that was looked at.
        splits: Each split that has studies, in the order of the stores.
        leaks: Leaks between the splits, the worst first.
        shared_ids: Studies that have one id in two stores.
    """

    section: str
    splits: Sequence[SplitAudit]
    leaks: Sequence[Leak]
    shared_ids: Sequence[SharedIds]

    @property
    def leaked_patients(self) -> list[Leak]:
        """The leaks of patients."""
        return [leak for leak in self.leaks if leak.kind == "patients"]

    def to_json(self) -> dict[str, Any]:
        """The audit as JSON values."""
        return {
            "made_by": "radscribe audit",
            "section": self.section,
            "leaks": [leak.to_json() for leak in self.leaks],
            "shared_ids": [shared._asdict() for shared in self.shared_ids],
            "splits": [split.to_json() for split in self.splits],
            "notice": NOTICE,
        }


def audit(
    paths: Sequence[Path], *, section: str = "findings", tokenizer: str | None = None, progress: bool = True
) -> Audit:
    """Audit prepared stores, each by itself and against the others.

    Images are read one after the other, and only their hashes are kept.

    Args:
        paths: Folders of the stores.
        section: Section of the reports to look at, or several, as in `findings + impression`.
        tokenizer: Folder or hub name of a language model whose tokens the protocol `r2gengpt` counts.
        progress: Show progress on standard error.

    Raises:
        RadScribeError: a store cannot be opened or is given twice, there is no such section, or no tokenizer
            of that name.
    """
    for name in section.split(" + "):
        if name not in SECTIONS:
            raise unknown_name("report section", name, SECTIONS)
    splits = _splits(paths)
    loaded = _tokenizer(tokenizer) if tokenizer is not None else None
    reports = {place: [study.report(section) for study in studies] for place, studies in splits.items()}
    _warn_without_reports(splits, reports, section)
    labels = _labels(splits)
    total = sum(len(study.views) for studies in splits.values() for study in studies)
    images = {}
    with Progress(total, "images", "images", show=progress) as bar:
        for place, studies in splits.items():
            images[place] = split_images(place, studies, bar)
    leaks = [
        *_leaks_of_ids(splits),
        *_leaks_of_images(images),
        *_leaks_of_reports(splits, reports, progress),
    ]
    found = []
    with Progress(sum(map(len, reports.values())), "reports", "reports", show=progress) as bar:
        for place, studies in splits.items():
            states = _states(studies, reports[place], labels[place], bar)
            found.append(_split(place, studies, reports[place], labels[place], states, loaded))
    return Audit(section, found, sorted(leaks, key=_badness), shared_ids(images))


def _splits(paths: Sequence[Path]) -> dict[Place, list[Study]]:
    """The studies of each split that has any, by store."""
    folders = [path.resolve() for path in paths]
    splits = {}
    for number, path in enumerate(paths):
        if folders[number] in folders[:number]:
            raise RadScribeError(f"the store '{path}' is given twice", "Give each store once")
        store = PreparedStore(path)
        for split in SPLITS:
            if studies := store.studies(split):
                splits[Place(str(path), split)] = studies
    return splits


def _warn_without_reports(
    splits: Mapping[Place, Sequence[Study]], reports: Mapping[Place, Sequence[str]], section: str
) -> None:
    """Warn if no study has the section, although studies have others."""
    there = [
        name
        for name in SECTIONS
        if any(study.report(name) for studies in splits.values() for study in studies)
    ]
    if there and not any(report.strip() for of_split in reports.values() for report in of_split):
        warn(f"no study has {section}", f"The studies have {', '.join(there)}: choose with --section")


def _tokenizer(name: str) -> LanguageModelTokenizer:
    from radscribe.text.language_model_files import LanguageModelFiles
    from radscribe.text.language_model_tokenizer import LanguageModelTokenizer

    return LanguageModelTokenizer(LanguageModelFiles.find(name, tokenizer_only=True))


def _labels(splits: Mapping[Place, Sequence[Study]]) -> dict[Place, Labels]:
    labelled = {place.store for place, studies in splits.items() if any(s.observations for s in studies)}
    return {place: "source" if place.store in labelled else "rules" for place in splits}


def _states(
    studies: Sequence[Study], reports: Sequence[str], labels: Labels, bar: Progress
) -> list[Mapping[str, ObservationState]]:
    """The observations of each study; none where there is no report to label."""
    found: list[Mapping[str, ObservationState]] = []
    for study, report in zip(studies, reports, strict=True):
        of_rules = labels == "rules" and bool(report.strip())
        found.append(label_report(report).states if of_rules else study.observations)
        bar.update()
    return found


def _split(
    place: Place,
    studies: Sequence[Study],
    reports: Sequence[str],
    labels: Labels,
    states: Sequence[Mapping[str, ObservationState]],
    tokenizer: LanguageModelTokenizer | None,
) -> SplitAudit:
    written = [report for report in reports if report.strip()]
    return SplitAudit(
        place=place,
        contents=Contents.of(studies, reports, states),
        labels=labels,
        cut=[rules.rate(written, tokenizer) for rules in CUTS],
        odd={kind: [studies[place].id for place in places] for kind, places in odd_reports(reports).items()},
    )


def _leaks_of_ids(splits: Mapping[Place, Sequence[Study]]) -> list[Leak]:
    """The leaks of patients and of studies, by their ids."""
    patients = {
        place: {study.patient_id: study for study in reversed(studies)} for place, studies in splits.items()
    }
    of_patients = equal_items(
        Item(place, patient, study.id)
        for place, by_patient in patients.items()
        for patient, study in by_patient.items()
    )
    of_studies = equal_items(
        Item(place, study.id, study.id) for place, studies in splits.items() for study in studies
    )
    return [
        *_leaks(
            "patients",
            {place: len(found) for place, found in patients.items()},
            {
                pair: [Match(own.study, other.study, patient=str(own.key)) for own, other in found]
                for pair, found in of_patients.items()
            },
        ),
        *_leaks("studies", {place: len(studies) for place, studies in splits.items()}, _matches(of_studies)),
    ]


def _leaks_of_images(images: Mapping[Place, SplitImages]) -> list[Leak]:
    """The leaks of identical images, and of those that are only nearly identical."""
    totals = {place: len(found.items) for place, found in images.items()}
    identical = equal_items(item for found in images.values() for item in found.items)
    near = {}
    for pair, found in near_images(images).items():
        known = {own.key for own, _ in identical.get(pair, ())}
        near[pair] = [
            Match(own.study, other.study, image=own.image, earlier_image=other.image, distance=distance)
            for own, other, distance in found
            if own.key not in known
        ]
    return [
        *_leaks("identical images", totals, _matches(identical)),
        *_leaks("nearly identical images", totals, near),
    ]


def _leaks_of_reports(
    splits: Mapping[Place, Sequence[Study]], reports: Mapping[Place, Sequence[str]], progress: bool
) -> list[Leak]:
    """The leaks of verbatim reports, and of those that are only nearly so."""
    written = [
        (place, study.id, report)
        for place, studies in splits.items()
        for study, report in zip(studies, reports[place], strict=True)
        if report.strip()
    ]
    totals = {place: sum(bool(report.strip()) for report in of_place) for place, of_place in reports.items()}
    verbatim = equal_items(Item(place, as_written(report), study) for place, study, report in written)
    items = [Item(place, words_of(report), study) for place, study, report in written]
    near = {}
    with Progress(different_reports(items), "comparing", "reports", show=progress) as bar:
        for pair, found in near_reports(items, bar).items():
            known = {own.study for own, _ in verbatim.get(pair, ())}
            near[pair] = [
                Match(own.study, other.study, similarity=round(similarity, 3))
                for own, other, similarity in found
                if own.study not in known
            ]
    return [
        *_leaks("verbatim reports", totals, _matches(verbatim)),
        *_leaks("near-verbatim reports", totals, near),
    ]


def _matches(pairs: Pairs) -> dict[tuple[Place, Place], list[Match]]:
    return {
        pair: [
            Match(own.study, other.study, image=own.image or None, earlier_image=other.image or None)
            for own, other in found
        ]
        for pair, found in pairs.items()
    }


def _leaks(
    kind: LeakKind, totals: Mapping[Place, int], matches: Mapping[tuple[Place, Place], Sequence[Match]]
) -> Iterable[Leak]:
    return [
        Leak(kind, later, earlier, totals[later], found)
        for (later, earlier), found in matches.items()
        if found
    ]


def _badness(leak: Leak) -> tuple[int, int, float, Place, Place]:
    """Sort leaks: by kind, those of test before those of val, and large shares first."""
    return _KINDS.index(leak.kind), -SPLITS.index(leak.later.split), -leak.share, leak.later, leak.earlier
