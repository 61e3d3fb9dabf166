"""Scoring groups of runs and of draft files on the same references, for a comparison.

The references are those of the store of the first run; without a run those of the given store, or else of the
given file, or else those that the first draft file itself holds. All others must be the same under the
protocol; otherwise the comparison is refused. torch is imported only if there is a run, or if there are
baselines.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscribe.errors import RadScribeError
from radscribe.evaluation.bootstrap import check_resamples
from radscribe.evaluation.evaluate import check_ids, evaluate_texts
from radscribe.evaluation.result import Evaluation
from radscribe.runs.draft_reading import PublishedDrafts, read_published_drafts, read_published_texts
from radscribe.studies.store import PreparedStore
from radscribe.text.cleaning import CleaningName
from radscribe.text.protocols import ProtocolName, get_protocol
from radscribe.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from radscribe.runs.run_directory import RunDirectory
    from radscribe.text.language_model_tokenizer import LanguageModelTokenizer

_FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class Member:
    """A run or a draft file, scored.

    Attributes:
        path: Run directory or draft file.
        evaluation: Scores with the statistics of single studies.
        drafts: Drafts by study id, as they were written.
        run: The run; None for a draft file.
        form: Form of the draft file, in words; empty for a run.
    """

    path: Path
    evaluation: Evaluation
    drafts: Mapping[str, str]
    run: RunDirectory | None
    form: str = ""


@dataclass(frozen=True)
class ScoredGroups:
    """Groups of runs and draft files that were scored on the same references.

    Attributes:
        groups: Members by name of their group.
        references: References as they were written, by study id.
        store: Store of the studies; None if there are only draft files, and no store was given.
        split: Split that was scored.
        section: Section of the reports that the references are.
    """

    groups: Mapping[str, Sequence[Member]]
    references: Mapping[str, str]
    store: PreparedStore | None
    split: str
    section: str

    @property
    def evaluations(self) -> dict[str, list[Evaluation]]:
        """The evaluations of each group."""
        return {name: [member.evaluation for member in members] for name, members in self.groups.items()}


@dataclass(frozen=True)
class _Rules:
    """The rules by which draft files are scored: those of the first run, or those that were asked for."""

    protocol: ProtocolName
    cleaning: CleaningName
    section: str
    vocabulary: Vocabulary | None = None
    maximum_length: int | None = None
    tokenizer: LanguageModelTokenizer | None = None

    @property
    def texts(self) -> dict[str, Any]:
        """The rules of `Protocol.reference`."""
        names = ("cleaning", "vocabulary", "maximum_length", "tokenizer")
        return {name: getattr(self, name) for name in names}

    def reference(self, text: str) -> str:
        return get_protocol(self.protocol).reference(text, **self.texts)


def score_groups(
    groups: Mapping[str, Sequence[str | Path]],
    *,
    store: Path | None = None,
    split: str = "test",
    protocol: ProtocolName | None = None,
    references: Path | None = None,
    cleaning: CleaningName | None = None,
    resamples: int = 1000,
    progress: bool = True,
) -> ScoredGroups:
    """Score groups of runs and draft files on the same references.

    Args:
        groups: Run directories and draft files by name of their group.
        store: Prepared store to score on; by default each run's own store.
        split: Split to score: `train`, `val`, `test` or `all`.
        protocol: Protocol to score under; by default each run's own, and without a run `clean_full`.
        references: File of the references, for draft files without a run and without a store.
        cleaning: Text cleaning for draft files without a run; `iu_xray` by default.
        resamples: Number of bootstrap resamples.
        progress: Show the progress.

    Raises:
        RadScribeError: a run, a store or a file cannot be used, draft files have other studies or hold other
            references, or there are no references. What can be found before the first run is scored is raised
            before.
    """
    check_resamples(resamples)
    opened = {name: [_open(Path(member)) for member in members] for name, members in groups.items()}
    members = [member for of_group in opened.values() for member in of_group]
    runs = [member for member in members if not isinstance(member, PublishedDrafts)]
    files = [member for member in members if isinstance(member, PublishedDrafts)]
    if runs and cleaning is not None:
        raise RadScribeError(
            "--cleaning has no effect beside a run, which has its own rules", "Leave out --cleaning"
        )
    stores = [run.open_store(store) for run in runs]
    for run, prepared in zip(runs, stores, strict=True):
        run.check_weights()
        prepared.studies(split)
    prepared = stores[0] if stores else PreparedStore(store) if store else None
    rules = _rules_of_runs(runs, protocol) if runs else _Rules(
        protocol or "clean_full", cleaning or "iu_xray", "findings"
    )  # fmt: skip
    get_protocol(rules.protocol).check(**rules.texts)
    written = _references(files, prepared, split, rules, references)
    for file in files:
        check_ids(str(file.path), file.drafts, written)
    learnt = {} if runs or prepared is None else _baselines(prepared, written, rules)
    kept = iter(stores)

    def scored(member: RunDirectory | PublishedDrafts) -> Member:
        if isinstance(member, PublishedDrafts):
            evaluation = evaluate_texts(
                member.drafts,
                written,
                protocol=rules.protocol,
                **rules.texts,
                baselines=learnt,
                resamples=resamples,
                meteor=False,
            )
            return Member(member.path, evaluation, member.drafts, None, member.form)
        from radscribe.runs.scoring import score_run

        evaluation, drafts = score_run(
            member,
            next(kept),
            split,
            protocol=protocol,
            meteor=False,
            resamples=resamples,
            progress=progress,
        )
        return Member(member.path, evaluation, {draft.id: draft.text for draft in drafts}, member)

    result = {name: [scored(member) for member in of_group] for name, of_group in opened.items()}
    return ScoredGroups(result, written, prepared, split, rules.section)


def _open(path: Path) -> RunDirectory | PublishedDrafts:
    if path.is_file() or (not path.exists() and path.suffix.lower() in _FILE_SUFFIXES):
        return read_published_drafts(path)
    from radscribe.runs.run_directory import RunDirectory

    return RunDirectory(path)


def _rules_of_runs(runs: Sequence[RunDirectory], protocol: ProtocolName | None) -> _Rules:
    """The rules of the first run, after a check that all runs have the same protocol."""
    configs = [run.load_config() for run in runs]
    for run, config in zip(runs, configs, strict=True):
        ours, theirs = config.data.protocol, configs[0].data.protocol
        if protocol is None and ours != theirs:
            raise RadScribeError(
                f"'{runs[0].path}' is scored under the protocol {theirs}, and '{run.path}' under {ours}",
                "Score all under one: --protocol clean_full",
            )
    data = configs[0].data
    chosen = get_protocol(protocol or data.protocol)
    return _Rules(
        protocol or data.protocol,
        data.cleaning,
        data.section,
        Vocabulary.load(runs[0].vocabulary) if chosen.through_vocabulary else None,
        data.maximum_length,
        runs[0].load_tokenizer() if chosen.through_tokenizer else None,
    )


def _references(
    files: Sequence[PublishedDrafts],
    store: PreparedStore | None,
    split: str,
    rules: _Rules,
    given: Path | None,
) -> dict[str, str]:
    """The references as they were written, after a check that all sources have the same."""
    sources: list[tuple[str, Sequence[Mapping[str, str]]]] = []
    if store is not None:
        reports = {study.id: study.report(rules.section) for study in store.studies(split)}
        sources.append((f"the store '{store.path}'", [{id: text for id, text in reports.items() if text}]))
    if given is not None:
        sources.append((f"'{given}'", [read_published_texts(given)]))
    sources += [(f"'{file.path}'", file.references) for file in files if file.references]
    if not sources:
        raise RadScribeError(
            f"'{files[0].path}' holds no references, so there is nothing to score its drafts against",
            "Give them with --references FILE, or the store of the studies with --store STORE",
        )
    (name, (first, *_)), *others = sources
    if not first:
        raise RadScribeError(
            f"{name} has no report with the section '{rules.section}' in its {split} split",
            "Choose another --split",
        )
    scored = {study: rules.reference(text) for study, text in first.items()}
    for other, versions in others:
        _check_same(name, scored, other, versions, rules)
    return dict(first)


def _check_same(
    name: str, scored: Mapping[str, str], other: str, versions: Sequence[Mapping[str, str]], rules: _Rules
) -> None:
    """Raise an error unless one version of other references is the same as `scored` under the rules.

    Published references may be written as they were scored, cleaned and cut, so both forms count as the same.
    """
    check_ids(other, versions[0], scored)
    different = [
        [
            study
            for study, text in version.items()
            if scored[study] not in (rules.reference(text), " ".join(text.split()))
        ]
        for version in versions
    ]
    fewest = min(different, key=len)
    if fewest:
        theirs = {study: rules.reference(text) for study, text in versions[0].items()}
        raise RadScribeError(
            f"{other} holds other references than {name}: {len(fewest)} of {len(scored)} differ, the first "
            f"is that of study '{fewest[0]}' (sha256 {_hash(theirs)} and {_hash(scored)})",
            "Compare drafts of the same section, split and protocol, or leave the file out",
        )


def _hash(texts: Mapping[str, str]) -> str:
    lines = "\n".join(f"{study}\t{texts[study]}" for study in sorted(texts))
    return hashlib.sha256(lines.encode(errors="surrogatepass")).hexdigest()[:12]


def _baselines(
    store: PreparedStore, references: Mapping[str, str], rules: _Rules
) -> dict[str, dict[str, str]]:
    from radscribe.runs.config import DataConfig
    from radscribe.runs.scoring import baselines

    data = dataclasses.replace(
        DataConfig(), section=rules.section, cleaning=rules.cleaning, protocol=rules.protocol
    )
    return baselines(store, [store.study(study) for study in references], data, None)
