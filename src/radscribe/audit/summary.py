"""The audit as text for people: leaks with examples, the worst first, then a table of the splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from radscribe.about import NOTICE
from radscribe.audit.audit import Audit, SplitAudit
from radscribe.audit.images import SharedIds
from radscribe.audit.leaks import Leak, LeakKind, Match, Place
from radscribe.audit.report_texts import CUTS, ODD_REPORTS
from radscribe.observations import OBSERVATIONS
from radscribe.studies.study import PROJECTIONS

#: Number of studies that are named as examples.
_NAMED = 3
_UNITS: dict[LeakKind, str] = {
    "patients": "patients",
    "studies": "studies",
    "identical images": "images",
    "nearly identical images": "images",
    "verbatim reports": "reports",
    "near-verbatim reports": "reports",
}
_WHERE = {"source": "as the source says", "rules": "by RadScribe's rules, from the reports"}

#: A title and a value for each split; or a note, which has no values.
_Row = tuple[str, Sequence[str]]


def audit_summary(audit: Audit) -> str:
    """The text of an audit, for a terminal."""
    names = _names([split.place for split in audit.splits])
    stores = ", ".join(dict.fromkeys(split.place.store for split in audit.splits))
    parts = [
        f"AUDIT of {stores}: {audit.section}",
        *_leaks(audit.leaks, names),
        *_shared_ids(audit.shared_ids),
        *_aligned(
            [
                _contents(audit.splits),
                _observations(audit.splits, names),
                _cut(audit.splits, audit.section),
                _odd(audit.splits),
            ],
            list(names.values()),
        ),
        "",
        NOTICE,
    ]
    return "\n".join(parts)


def _names(places: Sequence[Place]) -> dict[Place, str]:
    """A short name of each split: the store's folder comes before it if there are several stores."""
    folders = {place.store: Path(place.store).resolve().name for place in places}
    if len(folders) == 1:
        return {place: place.split for place in places}
    if len(set(folders.values())) < len(folders):
        folders = {store: store for store in folders}
    return {place: f"{folders[place.store]} {place.split}" for place in places}


def _leaks(leaks: Sequence[Leak], names: Mapping[Place, str]) -> list[str]:
    lines = ["", "LEAKS: what a later split has in common with an earlier one, the worst first"]
    for kind in get_args(LeakKind):
        of_kind = [leak for leak in leaks if leak.kind == kind]
        if not of_kind:
            lines.append(f"{kind:<25}none")
        for number, leak in enumerate(of_kind):
            count = f"{len(leak.matches):,} of {leak.total:,} {_UNITS[kind]} ({leak.share:.1%})"
            title = kind if number == 0 else ""
            lines.append(f"{title:<25}{names[leak.later]} <- {names[leak.earlier]}: {count}")
            lines += [f"{'':<27}{_example(match)}" for match in leak.matches[:_NAMED]]
            if len(leak.matches) > _NAMED:
                lines.append(f"{'':<27}...")
    return lines


def _shared_ids(shared: Sequence[SharedIds]) -> list[str]:
    """How far the ids of two stores can be compared."""
    lines = []
    for (first, second), studies, same in shared:
        lines.append(f"{studies:,} studies have one id in {first} and in {second};")
        lines.append(f"  {same:,} of them have the same images in both")
        if not same:
            lines.append("  So one id may stand for two patients there, and a leak of patients may be none")
    return ["", *lines] if lines else []


def _example(match: Match) -> str:
    if match.patient is not None:
        return f"patient {match.patient}: {match.study} and {match.earlier_study}"
    said = f"{match.study} = {match.earlier_study}"
    if match.distance is not None:
        return f"{said} (distance {match.distance})"
    if match.similarity is not None:
        return f"{said} ({match.similarity:.2f})"
    return said


def _contents(splits: Sequence[SplitAudit]) -> list[_Row]:
    contents = [split.contents for split in splits]
    counts = sorted({number for each in contents for number in each.images_per_study})
    return [
        ("SPLITS", []),
        ("studies", [f"{each.studies:,}" for each in contents]),
        *(
            (
                f"  of {number} image{'s' if number > 1 else ''}",
                [f"{each.images_per_study.get(number, 0):,}" for each in contents],
            )
            for number in counts
        ),
        ("patients", [f"{each.patients:,}" for each in contents]),
        ("images", [f"{each.images:,}" for each in contents]),
        *(
            (f"  {projection}", [f"{each.projections[projection]:,}" for each in contents])
            for projection in PROJECTIONS
        ),
        ("reports", [f"{each.reports:,}" for each in contents]),
        ("  words, mean", [f"{each.words.mean:.2f}" for each in contents]),
        ("  words, median", [f"{each.words.median:g}" for each in contents]),
        ("  words, shortest", [f"{each.words.shortest:,}" for each in contents]),
        ("  words, longest", [f"{each.words.longest:,}" for each in contents]),
    ]


def _observations(splits: Sequence[SplitAudit], names: Mapping[Place, str]) -> list[_Row]:
    of_labels: dict[str, list[str]] = {}
    for split in splits:
        of_labels.setdefault(split.labels, []).append(names[split.place])
    notes = [
        _WHERE[labels] if len(of_labels) == 1 else f"{', '.join(places)}: {_WHERE[labels]}"
        for labels, places in of_labels.items()
    ]
    return [
        ("OBSERVATIONS present", []),
        *((note, []) for note in notes),
        *(
            (name, [f"{split.contents.observations[name]['present']:,}" for split in splits])
            for name in OBSERVATIONS
        ),
    ]


def _cut(splits: Sequence[SplitAudit], section: str) -> list[_Row]:
    rows: list[_Row] = [
        ("CUT BY PROTOCOLS", []),
        (f"share of the reports ({section}) that lose words, by protocol, cleaning and length", []),
    ]
    for place, rules in enumerate(CUTS):
        shares = [split.cut[place] for split in splits]
        if None in shares:
            rows.append((f"{rules}: give the tokenizer of a language model with --tokenizer", []))
        else:
            rows.append((str(rules), [f"{share:.1%}" for share in shares]))
    return rows


def _odd(splits: Sequence[SplitAudit]) -> list[_Row]:
    rows: list[_Row] = [("ODD REPORTS", [])]
    for kind, meaning in ODD_REPORTS.items():
        rows.append((kind, [f"{len(split.odd[kind]):,}" for split in splits]))
        examples = [study for split in splits for study in split.odd[kind]]
        if examples:
            more = ", ..." if len(examples) > _NAMED else ""
            rows.append((f"  {meaning}: {', '.join(examples[:_NAMED])}{more}", []))
    return rows


def _aligned(tables: Sequence[Sequence[_Row]], columns: Sequence[str]) -> list[str]:
    """The lines of tables with the same columns; the first row of each is its heading."""
    rows = [row for table in tables for row in table]
    first = max(len(title) for title, values in rows if values) + 2
    widths = [
        max(len(name), *(len(values[column]) for _, values in rows if values)) + 2
        for column, name in enumerate(columns)
    ]
    lines = []
    for (heading, _), *rest in tables:
        for title, values in [(heading, columns), *rest]:
            cells = "".join(value.rjust(width) for value, width in zip(values, widths, strict=False))
            lines.append(f"{title:<{first}}{cells}" if values else title)
        lines.append("")
    return ["", *lines[:-1]]
