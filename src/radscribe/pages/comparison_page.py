"""The comparison page: one HTML file that shows runs and draft files side by side, with tests between them.

The page is self-contained, as that of a run. What an input does not have, such as the training curves of a
draft file, is said in the place where it would stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from radscribe.errors import RadScribeError
from radscribe.evaluation.scores import SIGNIFICANT
from radscribe.files import check_output, replace_file
from radscribe.pages.comparison_runs import cost_table, curves
from radscribe.pages.comparison_scores import (
    baseline_table,
    diversity_table,
    localisation_tables,
    observation_table,
    published_section,
    score_table,
    test_table,
)
from radscribe.pages.comparison_studies import choose_studies, study_cards
from radscribe.pages.page_parts import PAGE_MARK, page_file, render
from radscribe.runs.comparing import RunComparison, compare_runs
from radscribe.runs.drafts import source_in_words
from radscribe.text.protocols import ProtocolName

#: Number of studies that are shown side by side.
STUDIES_SHOWN = 6


def write_comparison_page(
    groups: Mapping[str, Sequence[Path]],
    out: Path,
    *,
    store: Path | None = None,
    split: str = "test",
    protocol: ProtocolName | None = None,
    resamples: int = 1000,
    progress: bool = True,
) -> RunComparison:
    """Score groups of runs and draft files, and write one self-contained HTML page that compares them.

    Args:
        groups: Run directories and draft files by name of their group; the others are tested against the
            first.
        out: HTML file to write; its folder is made.
        store: Prepared store to score on; by default each run's own store.
        split: Split to score: `train`, `val`, `test` or `all`.
        protocol: Protocol to score under; by default each run's own, and without a run `clean_full`.
        resamples: Number of bootstrap resamples.
        progress: Show the progress.

    Returns:
        The comparison that the page shows.

    Raises:
        RadScribeError: see `radscribe.runs.comparing.compare_runs`; or the page cannot be written. That is
            found before anything is scored.
    """
    check_comparison_page(out)
    compared = compare_runs(
        groups, store=store, split=split, protocol=protocol, resamples=resamples, progress=progress
    )
    save_comparison_page(compared, out)
    return compared


def check_comparison_page(out: Path, studies: int = STUDIES_SHOWN) -> None:
    """Check, before anything is scored, that a page can be written.

    Raises:
        RadScribeError: the file cannot be written or is no page, or the number of studies is negative.
    """
    check_output(Path(out), PAGE_MARK.encode(), "a page")
    if studies < 0:
        raise RadScribeError(f"a page cannot show {studies} studies", "Pass --studies 6")


def save_comparison_page(compared: RunComparison, out: Path, *, studies: int = STUDIES_SHOWN) -> None:
    """Write the page of a comparison that was made.

    Args:
        compared: The comparison, with the runs and draft files that were scored.
        out: HTML file to write; its folder is made.
        studies: Number of studies to show side by side.

    Raises:
        RadScribeError: the page cannot be written.
    """
    # A study id that comes from a file name may have characters that UTF-8 cannot encode.
    replace_file(Path(out), _page(compared, studies).encode(errors="xmlcharrefreplace"))


def _page(compared: RunComparison, studies: int) -> Markup:
    scored, comparison = compared.scored, compared.comparison
    first = next(iter(scored.groups.values()))[0].evaluation
    chosen = choose_studies(scored, studies)
    members = [member for of_group in scored.groups.values() for member in of_group]
    cautions = {member.run.caution for member in members if member.run} - {""}
    in_words = list(comparison.in_words())
    return render(
        "comparison_page.html",
        style=page_file("page.css", "run_page.css", "comparison_page.css"),
        script=page_file("masks.js"),
        kind="comparison",
        caution=" and ".join(sorted(cautions)),
        system="Comparison",
        recipe=", ".join(scored.groups),
        title=f"{len(scored.groups)} systems on the same {len(scored.references)} studies",
        published="",
        introduction=_introduction(compared),
        facts=_facts(compared),
        verdicts=in_words[:-2],
        significant=SIGNIFICANT,
        multiplicity=in_words[-2:],
        scores=score_table(comparison),
        tests=test_table(comparison),
        baselines=baseline_table(comparison),
        missing=first.missing | {"METEOR": "a comparison leaves it out, for it needs Java"},
        observations=observation_table(scored),
        clinical_caption=first.provenance.clinical_efficacy,
        localisation=localisation_tables(scored),
        diversity=diversity_table(scored),
        curves=curves(scored),
        costs=cost_table(scored),
        published_rows=published_section(compared),
        cards=study_cards(scored, chosen),
        chosen=chosen,
        members={name: [str(member.path) for member in of_group] for name, of_group in scored.groups.items()},
        rules=comparison.rules,
    )


def _introduction(compared: RunComparison) -> str:
    names = list(compared.scored.groups)
    if len(names) == 1:
        return "There is one group, so nothing is tested but its difference from the baselines."
    return f"All others are tested against the first, {names[0]}."


def _facts(compared: RunComparison) -> dict[str, str]:
    scored = compared.scored
    source = (
        source_in_words(scored.store.manifest["source"]) if scored.store else "draft files, without a store"
    )
    first = next(iter(scored.groups.values()))[0].evaluation.provenance
    files = sum(member.run is None for members in scored.groups.values() for member in members)
    runs = sum(map(len, scored.groups.values())) - files
    return {
        "Data": source,
        "Studies": f"{len(scored.references)}" + (f" of the {scored.split} split" if scored.store else ""),
        "Drafts": " and ".join(
            ([f"of {runs} runs, made anew"] if runs else []) + ([f"of {files} files"] if files else [])
        ),
        "Protocol": f"{first.protocol}, cleaning {first.cleaning}",
        "References": f"sha256 {first.references_sha256[:12]}, the same for all",
    }
