"""The baseline of a retriever: each study gets the report of the train split that fits its images best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from radscribe.errors import RadScribeError, warn
from radscribe.parts.part import make_command
from radscribe.parts.report_index import pixel_hashes
from radscribe.parts.retriever import KIND, Retriever
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study

#: The name of its row beside those of the other baselines.
RETRIEVED = "retrieved report"


def retriever_for(
    path: Path | str, store: PreparedStore, studies: Sequence[Study], section: str
) -> Retriever:
    """Load a retriever for scoring, and check that its reports are worth something as a baseline.

    One that was made from another store is used with a warning, for the reports of another data set are a
    fair question. It is refused where it learnt from studies that are scored.

    Args:
        path: its directory.
        store: that the scored system was trained on, where the baselines learn.
        studies: that are scored.
        section: of the reports that are scored.

    Raises:
        RadScribeError: there is no retriever or it is damaged, it retrieves another section, or it was made
            from another store with some of the studies in its train split.
    """
    retriever = Retriever.load(path)
    again = f"Make one from this store: {make_command(KIND).replace('STORE', str(store.path))}"
    if retriever.config.section != section:
        raise RadScribeError(
            f"the retriever in '{path}' finds the section '{retriever.config.section}', and '{section}' is "
            "scored",
            f'{again} --section "{section}"',
        )
    part = retriever.part
    if part is None or part.store_content_hash == store.manifest["content_hash"]:
        return retriever
    same_source = part.store_source == store.manifest["source"]
    known = [
        study.id
        for study in studies
        if (same_source and study.id in retriever.index.study_ids)
        or retriever.index.has_view(pixel_hashes(study, retriever.towers.transform))
    ]
    if known:
        raise RadScribeError(
            f"the retriever in '{path}' was made from another store, and learnt from {len(known)} of the "
            f"{len(studies)} studies that are scored, such as '{known[0]}'",
            again,
        )
    warn(
        f"the retriever in '{path}' was made from another store, of '{part.store_source}'",
        f"Its reports are those of that store. {again}",
    )
    return retriever


def retrieved_reports(retriever: Retriever, studies: Sequence[Study]) -> dict[str, str]:
    """For each study, the report of the train split that fits its images best, never one of its patient.

    Args:
        retriever: finds them.
        studies: any.

    Returns:
        Report as written by study id; empty where every report is of the study's patient.

    Raises:
        RadScribeError: a view cannot be read.
    """
    found = retriever.retrieve(studies).texts
    return {study.id: texts[0] if texts else "" for study, texts in zip(studies, found, strict=True)}
