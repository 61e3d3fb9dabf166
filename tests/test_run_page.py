"""The page of a run: complete, self-contained, equal to the run's metrics, and plain about what is bad."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from html_page import Page
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from radscribe.errors import RadScribeError
from radscribe.evaluation.evaluate import evaluate_texts
from radscribe.pages.page_parts import mask_path, split_sentences
from radscribe.pages.run_page import write_run_page
from radscribe.pages.run_page_charts import line_chart, thin, ticks
from radscribe.pages.run_page_studies import (
    DraftedStudy,
    choose_studies,
    compare_sentences,
    study_card,
)
from radscribe.recipes import get_recipe
from radscribe.runs.config import save_config
from radscribe.runs.run_directory import RunDirectory
from radscribe.studies.prepare import prepare
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import RenderedView, Study, View
from radscribe.text.cleaning import clean_iu_xray
from radscribe.text.vocabulary import Vocabulary

BANNER = "Research use, not for clinical diagnosis"
NORMAL = "the heart is normal in size . the lungs are clear ."


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> PreparedStore:
    path = tmp_path_factory.mktemp("phantom") / "store"
    prepare("phantom", path, studies=40, split_fractions=(0.3, 0.1, 0.6), workers=1, progress=False)
    return PreparedStore(path)


def write_run(
    path: Path, store: PreparedStore, drafts: dict[str, str], *, split: str = "test"
) -> RunDirectory:
    """The files that training leaves, but for weights, with the scores that the drafts really have."""
    config = get_recipe("r2gen-cmn/phantom").build()
    config.store = str(store.path)
    run = RunDirectory(path)
    reports = [study.sections["findings"] for study in store.studies("all")]
    vocabulary = Vocabulary.build(reports, "iu_xray", 1)
    facts = {
        "radscribe": "0.1.0",
        "store_source": store.manifest["source"],
        "store_content_hash": store.manifest["content_hash"],
        "began": "2026-01-01T00:00:00Z",
        "finished": True,
        "best": {"BLEU-4": 0.2, "epoch": 1},
        "epochs_trained": 3,
        "steps": 30,
    }
    run.create(config, vocabulary, facts)
    with run.log.open("w") as log:
        for epoch in range(3):
            line = {"step": 10 * (epoch + 1), "epoch": epoch}
            log.write(json.dumps(line | {"loss": 2.0 - epoch / 2, "learning_rate": 1e-3}) + "\n")
            scores = {"BLEU-4": 0.1 + 0.1 * (epoch == 1), "ROUGE-L": 0.3, "CIDEr": 0.5, "distinct": 2.0}
            log.write(json.dumps(line | {"validation": scores}) + "\n")
    lines = [{"id": study, "text": text, "logprob": -3.5} for study, text in drafts.items()]
    run.drafts(split).write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluation = evaluate_texts(
        drafts,
        {study: store.study(study).sections["findings"] for study in drafts},
        protocol="r2gen",
        cleaning="iu_xray",
        vocabulary=vocabulary,
        maximum_length=60,
        baselines={"constant report": dict.fromkeys(drafts, NORMAL)},
        resamples=50,
        meteor=False,
    )
    metrics = run.metrics if split == "test" else run.path / f"metrics.{split}.json"
    metrics.write_text(json.dumps(evaluation.to_json()))
    return run


def varied_drafts(store: PreparedStore) -> dict[str, str]:
    """Drafts from the study's own report, word for word, to those of others: good ones and bad ones."""
    studies = store.studies("test")
    return {
        study.id: clean_iu_xray(studies[index // 2].sections["findings"])
        for index, study in enumerate(studies)
    }


@pytest.fixture(scope="module")
def run(phantom, tmp_path_factory) -> RunDirectory:
    return write_run(tmp_path_factory.mktemp("runs") / "run", phantom, varied_drafts(phantom))


@pytest.fixture(scope="module")
def page_path(run, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "new folder" / "page.html"
    write_run_page(run.path, path, studies=6)
    return path


@pytest.fixture(scope="module")
def page(page_path) -> Page:
    return Page(page_path)


@pytest.mark.slow
def test_the_page_is_self_contained(page, page_path):
    assert page_path.stat().st_size < 5e6
    sources = page.attributes("src")
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    identifiers = page.attributes("id")
    assert len(set(identifiers)) == len(identifiers)
    assert all(link.startswith("#") and link[1:] in identifiers for link in page.attributes("href"))
    assert "http:" not in page.source
    assert "https:" not in page.source
    assert "url(" not in page.source
    assert any("default-src 'none'" in content for content in page.attributes("content"))


def test_no_placeholder_of_the_template_is_left(page):
    assert not {"$style", "$script", "$cards", "$scores"} & set(page.source.split())
    assert "None" not in page.text("body")


def test_the_banner_and_the_state_of_every_draft_are_said(page):
    caution = "Caution: this run was trained on synthetic images: its drafts say nothing about real ones."
    assert page.text("banner") == f"{BANNER} {caution}"
    assert page.text("caution") == caution
    assert BANNER in page.text("footer")
    assert page.source.count("draft — not reviewed") == 6
    assert "position: sticky" in page.source.split(".banner {")[1].split("}")[0]


def test_the_scores_are_those_of_the_metrics(page, run):
    stated = json.loads(run.metrics.read_text())
    system = page.text("tr", "system")
    baseline = page.text("tr", "baseline")
    for row, text in (("system", system), ("constant report", baseline)):
        for score in stated["scores"][row].values():
            assert f"{score['value']:.3f} {score['low']:.3f} – {score['high']:.3f}" in text
    differences = page.text("figure", "td")
    for difference in stated["differences"]["constant report"].values():
        assert f"{difference['value']:+.3f}".replace("-", "−") in differences
        assert f"p {difference['p']:.3f}" in differences
    assert stated["provenance"]["references_sha256"][:12] in page.text("note")
    assert "METEOR is not there: it was not asked for" in page.text("note")
    distinct = stated["diversity"]["system"]["distinct_reports"]
    assert f"{distinct} of {len(varied_drafts(PreparedStore(run.load_config().store)))}" in system


def test_each_observation_stands_beside_how_many_references_have_it(page, run):
    stated = json.loads(run.metrics.read_text())
    cells = page.text("figure", "tbody")
    for scores in stated["observations"]["system"].values():
        for name, score in scores.items():
            share = score["support"] / stated["provenance"]["studies"]
            rates = f"P {score['precision']:.3f} · R {score['recall']:.3f} {score['f1']:.3f}"
            assert f"{name} {score['support']} {share:.1%} {rates}" in cells
    assert "not CheXpert or CheXbert" in page.text("figcaption")


def test_a_run_that_was_scored_without_clinical_efficacy_says_so(phantom, tmp_path):
    run = write_run(tmp_path / "run", phantom, varied_drafts(phantom))
    metrics = json.loads(run.metrics.read_text())
    text = {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"}
    for rows in (metrics["scores"], metrics["differences"]):
        for row, scores in rows.items():
            rows[row] = {name: score for name, score in scores.items() if name in text}
    del metrics["observations"]
    for field in ("labels", "reference_labels_sha256", "further"):
        del metrics["provenance"][field]
    run.metrics.write_text(json.dumps(metrics))
    write_run_page(run.path, tmp_path / "page.html", studies=1)
    page = Page(tmp_path / "page.html")
    assert "scored without clinical efficacy" in page.text("section")
    assert "radscribe evaluate" in page.text("note")
    assert "clinical F1" not in page.text("verdicts")


def test_scores_of_a_further_family_have_their_table(phantom, tmp_path):
    run = write_run(tmp_path / "run", phantom, varied_drafts(phantom))
    metrics = json.loads(run.metrics.read_text())
    metrics["scores"]["system"]["classifier micro F1"] = {"value": 0.625, "low": 0.5, "high": 0.75}
    metrics["provenance"]["further"] = {"classifier": "labels of <this> test"}
    of_edema = {"positive": 3, "P": 0.125, "R": 0.25, "F1": 0.375}
    metrics["by_observation"]["CheXbert (14, rrg)"] = {"Edema": of_edema}
    run.metrics.write_text(json.dumps(metrics))
    write_run_page(run.path, tmp_path / "page.html", studies=1)
    page = Page(tmp_path / "page.html")
    assert "The classifier (against labels of <this> test)" in page.text("figcaption")
    assert "0.625 0.500 – 0.750" in page.text("tr", "system")
    assert "CheXbert (14, rrg) of this system, by observation" in page.text("figcaption")
    assert "Edema 3 0.125 0.250 0.375" in page.text("tr")


def test_every_chosen_study_has_its_card(page, run, phantom):
    headings = page.studies()
    assert len(headings) == len(set(headings)) == 6
    for study in map(phantom.study, headings):
        assert any(f"{study.id}: rank" in label for label in page.attributes("aria-label"))
    studies = [phantom.study(each) for each in headings]
    assert len(page.attributes("src")) == sum(len(study.views) for study in studies)
    masks = {name for study in studies for view in study.views for name in view.source.masks_at}
    assert masks
    assert masks == set(page.attributes("data-observation"))
    ranks = [int(part.split()[0]) for part in page.text("reading", "facts").split("rank ")[1:]]
    assert ranks == sorted(ranks)
    assert ranks[0] <= len(phantom.studies("test")) / 6
    assert ranks[-1] > 5 * len(phantom.studies("test")) / 6


def test_a_card_has_draft_reference_observations_and_log_probability(page, phantom):
    headings = page.studies()
    drafts = varied_drafts(phantom)
    for each in headings:
        reference = phantom.study(each).sections["findings"]
        assert " ".join(reference.split()) in page.text("section", "reference")
        assert all(sentence in page.text("section", "draft") for sentence in split_sentences(drafts[each]))
        present = [name for name, state in phantom.study(each).observations.items() if state == "present"]
        assert all(name in page.text("observations", "present") for name in present)
    assert "log-probability −3.50" in page.text("reading", "facts")


def test_the_chosen_weights_are_marked_in_every_chart(page):
    assert sum((attrs.get("class") or "") == "chosen" for _, attrs in page.elements) == 3
    assert "of step 20." in page.text("note")
    assert "step 20, epoch 1 · BLEU-4 0.200 · ROUGE-L 0.300" in page.text("slice")


def test_the_same_run_gives_the_same_page(page, run, tmp_path):
    write_run_page(run.path, tmp_path / "again.html", studies=6)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page.source


def test_it_is_said_when_a_baseline_wins(phantom, tmp_path):
    studies = phantom.studies("test")
    bad = dict.fromkeys((study.id for study in studies), "fracture fracture fracture fracture .")
    write_run_page(write_run(tmp_path / "run", phantom, bad).path, tmp_path / "page.html", studies=1)
    verdicts = Page(tmp_path / "page.html").text("verdicts")
    assert "Does not beat the constant report baseline on any text metric" in verdicts
    assert "Does not beat the constant report baseline on any clinical F1" in verdicts
    assert f"Writes the same report for all {len(studies)} studies" in verdicts


def test_it_is_said_when_the_system_wins(phantom, tmp_path):
    perfect = {study.id: clean_iu_xray(study.sections["findings"]) for study in phantom.studies("test")}
    write_run_page(write_run(tmp_path / "run", phantom, perfect).path, tmp_path / "page.html", studies=1)
    verdicts = Page(tmp_path / "page.html").text("verdicts")
    assert "Beats the constant report baseline on every text metric" in verdicts
    assert "Beats the constant report baseline on every clinical F1" in verdicts
    assert "Does not beat" not in verdicts


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> PreparedStore:
    """A store of image files: no masks, no observations, and texts that would be markup."""
    folder = tmp_path_factory.mktemp("plain")
    generator = np.random.default_rng(0)
    rows = ["image,report,study,split"]
    for index, split in enumerate(["train", "val", "test", "test"]):
        pixels = generator.integers(0, 255, (80, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        rows.append(
            f'{index}.png,"Size < 3 cm & <b>stable</b>. <script>alert(1)</script>.","<i>{index}</i>",{split}'
        )
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    prepare(folder / "table.csv", folder / "store", short_side=48, workers=1, progress=False)
    return PreparedStore(folder / "store")


def test_texts_are_escaped_and_masks_and_observations_may_be_absent(plain, tmp_path):
    drafts = {study.id: '<img src="x" onerror="alert(1)"> & $cards' for study in plain.studies("test")}
    run = write_run(tmp_path / "run", plain, drafts)
    config = replace(run.load_config(), recipe="<u>mine</u>")
    save_config(config, run.config)
    write_run_page(run.path, tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"u", "link", "object"}
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert sum(tag == "img" for tag, _ in page.elements) == 2
    assert '<img src="x" onerror="alert(1)"> & $cards' in page.text("section", "draft")
    assert "Size < 3 cm & <b>stable</b>. <script>alert(1)</script>." in page.text("section", "reference")
    assert "<u>mine</u>" in page.text("h1")
    assert "<i>2</i>" in page.text("h3")
    assert "no observations of this study" in page.text("observations")
    assert not page.attributes("data-observation")
    assert {attrs["width"] for tag, attrs in page.elements if tag == "img"} == {"48"}


def test_another_store_is_named(run, phantom, tmp_path):
    run_copy = write_run(tmp_path / "run", phantom, varied_drafts(phantom))
    run_copy.update_facts(store_content_hash="another")
    write_run_page(run_copy.path, tmp_path / "page.html", studies=1)
    assert "not from the store that the run was trained on" in Page(tmp_path / "page.html").text("choice")


def test_another_split_has_its_own_files(phantom, tmp_path):
    drafts = {study.id: NORMAL for study in phantom.studies("val")}
    run = write_run(tmp_path / "run", phantom, drafts, split="val")
    write_run_page(run.path, tmp_path / "page.html", split="val")
    assert "Scores on the val split" in Page(tmp_path / "page.html").text("h2")
    with pytest.raises(RadScribeError, match=r"no drafts .* test split.* radscribe evaluate .* --split test"):
        write_run_page(run.path, tmp_path / "page.html")


def test_a_run_without_a_log_says_so(phantom, tmp_path):
    run = write_run(tmp_path / "run", phantom, varied_drafts(phantom))
    run.log.unlink()
    write_run_page(run.path, tmp_path / "page.html", studies=1)
    assert "This run has no training log" in Page(tmp_path / "page.html").text("section")


def test_an_unfinished_run_says_how_to_finish(phantom, tmp_path):
    run = write_run(tmp_path / "run", phantom, varied_drafts(phantom))
    run.update_facts(finished=False)
    run.metrics.unlink()
    with pytest.raises(RadScribeError, match=r"radscribe train r2gen-cmn/phantom .* --resume"):
        write_run_page(run.path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_drafts_that_have_other_scores_are_refused(phantom, tmp_path):
    run = write_run(tmp_path / "run", phantom, varied_drafts(phantom))
    lines = run.drafts("test").read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | {"text": NORMAL})
    run.drafts("test").write_text("\n".join(lines))
    with pytest.raises(
        RadScribeError, match=r"does not have the scores that .*metrics\.json' states: BLEU-1"
    ):
        write_run_page(run.path, tmp_path / "page.html")


def test_damaged_metrics_are_named(phantom, tmp_path):
    run = write_run(tmp_path / "run", phantom, varied_drafts(phantom))
    run.metrics.write_text('{"scores": {}}')
    with pytest.raises(RadScribeError, match=r"metrics\.json' does not hold the scores of an evaluation"):
        write_run_page(run.path, tmp_path / "page.html")


def test_a_store_that_is_gone_or_another_is_named(run, phantom, plain, tmp_path):
    moved = write_run(tmp_path / "run", phantom, varied_drafts(phantom))
    config = moved.load_config()
    config.store = str(tmp_path / "gone")
    save_config(config, moved.config)
    with pytest.raises(RadScribeError, match=r"store '.*gone' .* is gone.* --store STORE"):
        write_run_page(moved.path, tmp_path / "page.html")
    with pytest.raises(RadScribeError, match=r"no drafts .*stores.* radscribe evaluate .* --store .*store"):
        write_run_page(moved.path, tmp_path / "page.html", store=plain.path)
    lines = moved.drafts("test").read_text()
    moved.drafts("test").write_text(lines + '{"id": "stranger", "text": "no effusion ."}\n')
    with pytest.raises(RadScribeError, match=r"has no study 'stranger'.* --store STORE"):
        write_run_page(moved.path, tmp_path / "page.html", store=phantom.path)
    moved.drafts("test").write_text(lines)
    write_run_page(moved.path, tmp_path / "page.html", store=phantom.path, studies=1)


@pytest.mark.parametrize(
    ("options", "message"), [({"split": "tset"}, "Did you mean 'test'"), ({"studies": 0}, "1")]
)
def test_wrong_options_are_refused(run, tmp_path, options, message):
    with pytest.raises(RadScribeError, match=message):
        write_run_page(run.path, tmp_path / "page.html", **options)


def test_a_run_on_synthetic_images_says_so(run, phantom, page_path, tmp_path):
    says = "this run was trained on synthetic images: its drafts say nothing about real ones"
    assert says in page_path.read_text()
    other = write_run(tmp_path / "run", phantom, varied_drafts(phantom))
    other.update_facts(store_source="/data/studies")
    write_run_page(other.path, tmp_path / "page.html", studies=1)
    assert "trained on synthetic images" not in (tmp_path / "page.html").read_text()


def test_a_page_that_cannot_be_written_is_named(run, tmp_path):
    with pytest.raises(RadScribeError, match="cannot write a page"):
        write_run_page(run.path, tmp_path, studies=1)


def test_importing_the_page_does_not_import_torch():
    code = "import sys, radscribe.pages.run_page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def drafted(rank: int, present: tuple[str, ...] = (), views: tuple[View, ...] = ()) -> DraftedStudy:
    study = Study(f"s{rank}", "p", views, observations=dict.fromkeys(present, "present"))
    return DraftedStudy(study, "no effusion .", None, "No effusion.", 1 / rank, 0.0, rank)


def test_an_unreadable_view_costs_one_picture(tmp_path):
    def rendered() -> RenderedView:
        return RenderedView(np.zeros((8, 8), np.uint8))

    views = (View(tmp_path / "lost.png", "frontal"), View(rendered, "lateral"))
    card = study_card(drafted(1, views=views), index=1, ranked=1, views=1, crop_share=None)
    assert "This view cannot be shown" in card
    assert "lost.png" in card
    assert "view 2 · lateral · not seen by the system" in card
    assert card.count("<img") == 1
    assert "log-probability not known" in card


@given(st.integers(1, 60), st.integers(1, 20))
def test_the_choice_takes_one_study_of_each_equal_group(ranked, number):
    names = ("Edema", "Fracture", "Pneumothorax")
    studies = [drafted(rank, names[: rank % 4]) for rank in range(1, ranked + 1)]
    ranks = [each.rank for each in choose_studies(studies, number)]
    groups = min(ranked, number)
    assert [(rank * groups - 1) // ranked for rank in ranks] == list(range(groups))


def test_the_choice_prefers_what_was_not_shown_yet():
    studies = [drafted(rank) for rank in range(1, 11)]
    studies[6] = drafted(7, ("Edema",))
    assert [each.rank for each in choose_studies(studies, 2)] == [3, 7]


def test_sentences_of_cleaned_drafts_get_capitals_and_keep_their_words():
    assert split_sentences("the heart is normal . <unk> at 15 cm .  . no effusion") == [
        "The heart is normal.",
        "<unk> at 15 cm.",
        "No effusion",
    ]
    assert split_sentences("The node is 1.5 cm. 2. No effusion!\nClear?") == [
        "The node is 1.5 cm.",
        "2. No effusion!",
        "Clear?",
    ]
    assert split_sentences("") == []


def test_shared_words_are_marked_on_both_sides():
    draft, reference = compare_sentences(
        ["The heart is normal in size today.", "No effusion.", "Fracture."],
        ["No effusion", "A heart is normal in size -- now"],
    )
    assert draft[0].shared == (False, True, True, True, True, True, False)
    assert reference[1].shared == (False, True, True, True, True, True, False, False)
    assert [each.verbatim for each in draft] == [False, True, False]
    assert [each.partner for each in draft] == [1, 0, None]
    assert [each.partner for each in reference] == [1, 0]
    assert draft[1].shared == (True, True)


def test_the_outline_of_a_mask_encloses_its_pixels_and_leaves_its_holes():
    rows, columns = np.mgrid[:60, :80]
    distance = np.hypot(rows - 30, columns - 40)
    mask = (distance < 25) & (distance > 8)
    mask[:5, :7] = True
    areas = []
    for outline in mask_path(mask).split("M")[1:]:
        points = np.array([point.split() for point in outline.rstrip("Z").split("L")], float)
        assert points[:, 0].max() <= 80
        assert points.min() >= 0
        x, y = points.T
        areas.append(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
    assert len(areas) == 3
    assert abs(sum(areas)) == pytest.approx(mask.sum(), rel=0.01)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_span_the_values(low, span):
    found = ticks(low, low + span)
    assert 2 <= len(found) <= 7
    tolerance = 1e-6 * max(abs(low), span)
    assert found[0] <= low + tolerance
    assert found[-1] >= low + span - tolerance


def test_long_logs_are_thinned_to_means():
    points, size = thin([(step, float(step % 2)) for step in range(1, 1001)], most=100)
    assert size == 10
    assert points == [(10 * each, 0.5) for each in range(1, 101)]
    assert thin([(1, 2.0)]) == ([(1, 2.0)], 1)


def test_a_chart_without_values_is_left_out():
    assert line_chart("Loss", {"loss": []}, notes={}) == ""
    assert "NaN" not in line_chart("Loss", {"loss": [(1, float("nan")), (2, 0.0)]}, notes={})
