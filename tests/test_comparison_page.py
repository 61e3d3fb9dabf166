"""The comparison page: runs and draft files side by side, and what it says of what is not there."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from html_page import Page

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.evaluation.published import published_rows
from radscribe.pages.comparison_page import save_comparison_page, write_comparison_page
from radscribe.pages.comparison_scores import published_section
from radscribe.pages.comparison_studies import choose_studies
from radscribe.recipes.datasets import benchmark_of
from radscribe.runs.comparing import RunComparison, compare_runs
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.scoring import scored_references
from radscribe.studies.store import PreparedStore
from radscribe.text.observation_labeller import label_report
from radscribe.text.vocabulary import Vocabulary

pytestmark = pytest.mark.usefixtures("without_java")


@pytest.fixture(scope="module")
def references(store) -> dict[str, str]:
    return {study.id: study.report("findings") for study in PreparedStore(store).studies("test")}


@pytest.fixture(scope="module")
def shifted(references, tmp_path_factory) -> Path:
    """A published file that gives each study the report of the next one, and holds the references."""
    ids = list(references)
    drafts = {study: [references[other]] for study, other in zip(ids, ids[1:] + ids[:1], strict=True)}
    path = tmp_path_factory.mktemp("drafts") / "published.json"
    path.write_text(json.dumps({"res": drafts, "gts": {study: [text] for study, text in references.items()}}))
    return path


@pytest.fixture(scope="module")
def compared(finished_run, shifted, tmp_path_factory) -> tuple[RunComparison, Page]:
    """A group of two runs with a published file, and the page of the comparison."""
    folder = tmp_path_factory.mktemp("compared")
    second = shutil.copytree(finished_run, folder / "second")
    out = folder / "page.html"
    found = write_comparison_page(
        {"ours": [finished_run, second], "theirs": [shifted]}, out, resamples=100, progress=False
    )
    return found, Page(out)


def test_the_page_is_self_contained_and_has_every_section(compared):
    _, page = compared
    sections = [attrs["id"] for tag, attrs in page.elements if tag == "section" and "id" in attrs]
    assert sections == [
        *("scores", "tests", "baselines", "observations", "localisation", "drafts", "curves", "cost"),
        *("studies", "published", "rules"),
    ]
    assert set(page.attributes("href")) <= {f"#{name}" for name in sections}
    assert all(source.startswith("data:") for source in page.attributes("src"))
    assert "default-src 'none'" in page.source
    assert "Research use, not for clinical diagnosis" in page.text("banner")
    assert "trained on synthetic images" in page.text("banner", "caution")


def test_the_page_shows_the_scores_and_tests_of_the_comparison(compared):
    found, page = compared
    text = page.text("main")
    comparison = found.comparison
    for group, scores in comparison.scores.items():
        for name, score in scores.items():
            assert f"{score.mean.value:.3f}" in text, (group, name)
    for name, test in comparison.differences["theirs"].items():
        assert f"p {test.p:.3f} · Holm {test.p_holm:.3f}" in text, name
    assert comparison.multiplicity() in text
    assert set(comparison.over_baselines) == {"constant report", "nearest neighbour"}
    assert "theirs − nearest neighbour" in text
    assert "Cardiomegaly" in page.text("plain")
    assert "word attention · ours" in text
    assert "theirs" not in [row for row in text.split() if row.startswith("word attention")]
    # Two runs of one group have two lines in one colour; the file has none.
    lines = [attrs["class"] for tag, attrs in page.elements if tag == "polyline"]
    assert lines == ["line line-0"] * 6


def test_the_cost_of_a_run_is_what_it_recorded(compared, finished_run):
    _, page = compared
    facts = json.loads((finished_run / "run.json").read_text())
    assert facts["training_seconds"] > 0
    assert f"{facts['peak_memory_gb']:.2f} GB" in page.text("main")
    assert f"{facts['steps']:,} × 4" in page.text("main")


def test_studies_are_those_in_which_systems_differ_most(compared):
    found, page = compared
    scored = found.scored
    every = choose_studies(scored, 1000)
    assert [study.id for study in every[:6]] == page.studies()
    assert {study.id for study in every} == set(scored.references)

    def disputed(study: str) -> int:
        states = [
            {
                name
                for name, state in label_report(members[0].drafts[study]).states.items()
                if state in ("present", "uncertain")
            }
            for members in scored.groups.values()
        ]
        return len(states[0] ^ states[1])

    assert [len(study.disputed) for study in every] == sorted(map(disputed, scored.references), reverse=True)


def test_findings_are_marked_by_sign(compared):
    found, page = compared
    scored = found.scored
    shown = page.studies()
    expected = {"matched": 0, "missed": 0, "invented": 0}
    for study in shown:
        states = [label_report(scored.references[study]).states] + [
            label_report(members[0].drafts[study]).states for members in scored.groups.values()
        ]
        has, *finds = (
            {name for name, state in of_text.items() if state in ("present", "uncertain")}
            for of_text in states
        )
        for found_here in finds:
            expected["matched"] += len(has & found_here)
            expected["missed"] += len(has - found_here)
            expected["invented"] += len(found_here - has)
    for kind, sign in (("matched", "="), ("missed", "−"), ("invented", "+")):
        chips = page.text("chips", kind)
        assert chips.count(sign) == chips.count(f"({kind})") == expected[kind] > 0


def test_published_rows_stand_beside_ours_on_their_data_set_alone(compared):
    found, page = compared
    assert "No published scores are shown" in page.text("main")
    store = PreparedStore(found.scored.store.path)
    store.manifest = store.manifest | {"reader": "iu-xray-kaggle"}
    assert benchmark_of(store) == "iu_xray"
    section = published_section(dataclasses.replace(found.scored, store=store))
    for row in published_rows("iu_xray"):
        assert row.caveat.replace("'", "&#39;") in section
        assert all(f"{value:.3f}" in section for value in row.scores.values())
    assert "ours (here)" in section
    store.manifest = store.manifest | {"reader": "r2gen-annotation"}
    assert benchmark_of(store) is None  # the ids are the phantom's


def test_every_published_row_names_a_system_and_a_source_once():
    systems = set()
    for data in ("iu_xray", "mimic_cxr"):
        rows = published_rows(data)
        systems |= {row.name.partition(" / ")[0] for row in rows}
        assert len({(row.name, row.source) for row in rows}) == len(rows)
        for row in rows:
            assert all(0 < value < 2 for value in row.scores.values())
            bleu = [row.scores[f"BLEU-{n}"] for n in (1, 2, 3, 4) if f"BLEU-{n}" in row.scores]
            assert bleu == sorted(bleu, reverse=True), row
    assert systems == {"r2gen", "r2gen-cmn", "camanet", "r2gen-gpt", "bidirectional", "cmeaa", "am-mrg"}


def test_files_alone_say_what_is_missing(references, shifted, tmp_path):
    table = tmp_path / "copied.csv"
    lines = [f'{study},"{text}"' for study, text in references.items()]
    table.write_text("\n".join(["image_id,prediction", *lines]))
    out = tmp_path / "page.html"
    found = compare_runs({"copied": [table], "shifted": [shifted]}, resamples=500, progress=False)
    save_comparison_page(found, out, studies=2)
    page = Page(out)
    text = page.text("main")
    for said in (
        "No baseline was scored",
        "Nothing is localised here",
        "draft files and imported runs were not trained here",
        "There are only draft files",
        "draft files without a store do not say what they are of",
    ):
        assert said in text
    assert found.comparison.leaders["BLEU-4"] == "copied"
    assert len(page.studies()) == 2
    assert page.attributes("src") == []


def test_other_references_are_refused(references, shifted, finished_run, tmp_path):
    first, *_ = references
    others = references | {first: "no acute disease ."}
    path = tmp_path / "others.json"
    path.write_text(json.dumps({"predictions": references, "references": others}))
    for groups in ({"run": [finished_run], "others": [path]}, {"shifted": [shifted], "others": [path]}):
        with pytest.raises(RadScribeError, match=rf"other references than .* 1 of \d+ differ.*'{first}'"):
            compare_runs(groups, progress=False)


def test_references_may_be_published_as_they_were_scored(store, references, finished_run, tmp_path):
    """R2Gen's code writes references after the vocabulary and the cut, with `<unk>` and without ends."""
    run = RunDirectory(finished_run)
    scored = scored_references(
        PreparedStore(store).studies("test"),
        run.load_config().data,
        Vocabulary.load(run.vocabulary),
    )
    assert scored != references
    path = tmp_path / "published.json"
    path.write_text(json.dumps({"res": references, "gts": scored}))
    found = compare_runs({"run": [finished_run], "published": [path]}, resamples=20, progress=False)
    hashes = {members[0].evaluation.provenance.references_sha256 for members in found.scored.groups.values()}
    assert len(hashes) == 1


def test_the_command_writes_page_latex_markdown_and_json(shifted, references, tmp_path, capsys):
    copied = tmp_path / "copied_50%.jsonl"
    copied.write_text("".join(json.dumps({"id": s, "text": t}) + "\n" for s, t in references.items()))
    files = {name: tmp_path / name for name in ("page.html", "table.tex", "table.md")}
    command = ["compare", f"shifted={shifted}", f"copied_50%={copied}", "--resamples", "500", "--json"]
    command += ["--out", str(files["page.html"]), "--latex", str(files["table.tex"])]
    main([*command, "--markdown", str(files["table.md"]), "--scores", "BLEU-4", "micro F1 (14, as_present)"])
    printed = json.loads(capsys.readouterr().out)
    test = printed["differences"]["copied_50%"]["BLEU-4"]
    assert test["p_holm"] == pytest.approx(2 * test["p"])
    assert printed["leaders"]["BLEU-4"] == "copied_50%"
    latex, markdown = files["table.tex"].read_text(), files["table.md"].read_text()
    value = printed["scores"]["copied_50%"]["BLEU-4"]["mean"]["value"]
    assert rf"copied\_50\% & \shortstack{{\textbf{{{value:.3f}}}\\" in latex
    assert latex.count(r"\textbf") == len(printed["leaders"])
    assert [latex.count(rule) for rule in ("toprule", "midrule", "bottomrule")] == [1, 1, 1]
    assert f"| copied\\_50% | **{value:.3f}** (" in markdown
    columns = {line.count("|") for line in markdown.splitlines() if line.startswith("|")}
    assert columns == {4, 9}
    assert "RadScribe" in files["page.html"].read_text()
    if shutil.which("pdflatex"):
        paper = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table}\end{document}"
        (tmp_path / "paper.tex").write_text(paper)
        made = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert made.returncode == 0, made.stdout
        assert "Overfull" not in made.stdout
