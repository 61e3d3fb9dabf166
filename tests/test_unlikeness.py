"""How unlike the training images a study is: statistics, every system, runs, pages and commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from html_page import Page
from PIL import Image
from safetensors.torch import load_file
from tiny import tiny_config

import radscribe
from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.pages.explanation_page import write_explanations
from radscribe.pages.run_page import write_run_page
from radscribe.runs.draft_file import DraftFile
from radscribe.runs.drafts import DraftReport, Unlikeness
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.trained_system import TrainedSystem
from radscribe.runs.unlikeness import (
    FeatureSums,
    TrainingFeatures,
    ViewFeatures,
    keep_training_features,
    load_training_features,
)
from radscribe.runs.views import evaluation_views
from radscribe.studies.store import PreparedStore
from radscribe.systems.registry import SYSTEMS
from radscribe.training.train import train
from radscribe.vision.transforms import stack_views

pytestmark = pytest.mark.usefixtures("without_java")


def gaussian(studies: int, channels: int, seed: int = 0) -> torch.Tensor:
    """Features whose channels are correlated and far from 0."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels, generator=torch.Generator().manual_seed(9))
    return torch.randn(studies, channels, generator=generator) @ mixing + 100


def sums_of(features: torch.Tensor, batch: int = 7) -> FeatureSums:
    sums = FeatureSums()
    for rows in features.split(batch):
        sums.add(rows)
    return sums


def single(features: torch.Tensor) -> ViewFeatures:
    """The features of studies of one view each."""
    return ViewFeatures(features.unsqueeze(1), torch.ones(len(features), 1, dtype=torch.bool))


def statistics(features: torch.Tensor, validation: torch.Tensor | None = None) -> TrainingFeatures:
    of_validation = single(features if validation is None else validation)
    batches = [single(rows) for rows in features.split(7)]
    return TrainingFeatures.of(sums_of(features), batches, [of_validation])


class TestStatistics:
    @pytest.mark.parametrize(("studies", "channels"), [(200, 5), (40, 30), (30, 60)])
    def test_moments_and_shrinkage_are_those_of_scikit_learn(self, studies, channels):
        covariance = pytest.importorskip("sklearn.covariance")
        features = gaussian(studies, channels)
        theirs = covariance.LedoitWolf().fit(features.double().numpy())
        mean, empirical, shrinkage = sums_of(features).moments()
        assert shrinkage == pytest.approx(theirs.shrinkage_, rel=1e-9)
        np.testing.assert_allclose(mean, theirs.location_, rtol=1e-9)
        mu = empirical.trace() / channels
        ours = (1 - shrinkage) * empirical + shrinkage * mu * torch.eye(channels)
        np.testing.assert_allclose(ours, theirs.covariance_, rtol=1e-7, atol=1e-9)
        others = gaussian(20, channels, seed=1)
        distance = statistics(features).distance(single(others))
        expected = np.sqrt(theirs.mahalanobis(others.double().numpy()))
        np.testing.assert_allclose(distance, expected, rtol=1e-4)

    @pytest.mark.parametrize(("studies", "channels"), [(50, 4), (20, 30)])
    def test_each_training_study_is_compared_with_the_others(self, studies, channels):
        """In closed form, as if mean and covariance were computed once more for each study."""
        features = gaussian(studies, channels)
        _, empirical, shrinkage = sums_of(features).moments()
        target = shrinkage * empirical.trace() / channels * torch.eye(channels)
        expected = []
        for study in range(studies):
            others = torch.cat([features[:study], features[study + 1 :]]).double()
            covariance = (1 - shrinkage) * torch.cov(others.T, correction=0) + target
            away = features[study].double() - others.mean(dim=0)
            expected.append((away @ torch.linalg.solve(covariance, away)).sqrt().item())
        np.testing.assert_allclose(statistics(features).distances, sorted(expected), rtol=1e-5)

    def test_new_studies_of_the_same_kind_are_spread_evenly(self):
        """Compared with themselves, the training studies would all be less unlike."""
        found = statistics(gaussian(150, 100)).unlikeness(single(gaussian(400, 100, seed=1)))
        shares = np.array([one.share for one in found])
        assert abs(shares.mean() - 0.5) < 0.06
        assert abs(np.quantile(shares, 0.9) - 0.9) < 0.06

    @pytest.mark.parametrize(("studies", "beyond"), [(1, 0), (99, 0), (100, 1), (350, 3)])
    def test_one_percent_of_val_is_beyond_the_limit(self, studies, beyond):
        validation = gaussian(studies, 6, seed=2)
        found = statistics(gaussian(80, 6), validation).unlikeness(single(validation))
        assert sum(one.flagged for one in found) == beyond

    def test_a_study_is_as_unlike_as_its_most_unlike_view(self):
        features = gaussian(60, 6)
        kept = statistics(features)
        other = gaussian(1, 6, seed=1)
        pairs = ViewFeatures(
            torch.stack([torch.cat([other, features[:1]]), torch.cat([features[:1], other])]),
            torch.tensor([[True, True], [True, False]]),
        )
        alone = kept.distance(single(torch.cat([other, features[:1]])))
        assert kept.distance(pairs).tolist() == pytest.approx([alone.max().item(), alone[1].item()])

    def test_a_constant_channel_and_a_collapsed_backbone(self):
        features = gaussian(60, 5)
        features[:, 2] = 3.0
        other = features[:1].clone()
        other[0, 2] = 100.0
        (found,) = statistics(features).unlikeness(single(other))
        assert found.share == 1
        assert found.flagged
        same = torch.ones(10, 5)
        assert [
            one.flagged for one in statistics(same).unlikeness(single(torch.stack([same[0], 2 * same[0]])))
        ] == [
            False,
            True,
        ]

    def test_what_is_no_number_is_flagged(self):
        (found,) = statistics(gaussian(30, 4)).unlikeness(single(torch.full((1, 4), torch.nan)))
        assert found.flagged

    @pytest.mark.parametrize(
        ("share", "said", "stated"),
        [(0.0, "0.0%", 0.0), (0.5, "50.0%", 0.5), (0.99999, "99.9%", 0.9999), (1.0, "all", 1.0)],
    )
    def test_only_what_is_beyond_all_is_said_to_be(self, share, said, stated):
        found = Unlikeness(3.0, share, False)
        assert str(found) == f"{said} of the training studies are less unlike"
        assert DraftReport("a", "", 0.0, (), unlikeness=found).to_json()["unlike_share"] == stated


@pytest.fixture(params=sorted(SYSTEMS))
def parts(request, store):
    """A tiny system of every kind, its configuration, and some studies."""
    config = tiny_config(store, f"{request.param}/phantom")
    studies = PreparedStore(store).studies()[:12]
    reports = [study.report("findings") for study in studies]
    return tiny.system(config, reports), config, studies


def test_no_draft_changes_and_no_backbone_runs_twice(parts):
    """With every registered system."""
    system, config, studies = parts
    device = torch.device("cpu")
    plain = list(TrainedSystem(system, config, device).generate(studies[8:], batch_size=2))
    assert [draft.unlikeness for draft in plain] == [None] * 4
    assert "unlike" not in plain[0].to_json()

    views, mask = stack_views([evaluation_views(study, config.data) for study in studies])
    with torch.inference_mode():
        features = ViewFeatures.of(system.backbone(views, mask), mask)
    assert features.features.shape == (12, 2, system.backbone.channels)
    first = features.of_studies(torch.arange(12) < 8)
    kept = TrainingFeatures.of(sums_of(first.rows), [first], [first])
    calls: list[int] = []
    counting = system.backbone.register_forward_hook(lambda *_: calls.append(1))
    trained = TrainedSystem(system, config, device, training_features=kept)
    drafts = list(trained.generate(studies[8:], batch_size=2))
    counting.remove()
    assert len(calls) == 2
    for draft, before in zip(drafts, plain, strict=True):
        assert (draft.text, draft.token_logprobs) == (before.text, before.token_logprobs)
    expected = kept.unlikeness(features.of_studies(torch.arange(12) >= 8))
    for draft, of_study in zip(drafts, expected, strict=True):
        assert draft.unlikeness.distance == pytest.approx(of_study.distance, rel=1e-3)
        assert draft.to_json()["unlike"] is draft.unlikeness.flagged
    measured = [found for _, found in trained.measure(studies[8:])]
    assert [one.distance for one in measured] == pytest.approx([one.distance for one in expected], rel=1e-3)
    (explained,) = trained.explain(studies[8])
    *_, streamed = trained.stream(studies[8])
    for draft in (explained.draft, streamed):
        assert draft.unlikeness.distance == pytest.approx(expected[0].distance, rel=1e-3)


@pytest.fixture(scope="module")
def run(finished_run, tmp_path_factory) -> RunDirectory:
    """A copy of a run that training wrote."""
    return RunDirectory(shutil.copytree(finished_run, tmp_path_factory.mktemp("runs") / "mine"))


def copied(run: RunDirectory, path: Path) -> RunDirectory:
    return RunDirectory(shutil.copytree(run.path, path))


def without_statistics(run: RunDirectory, path: Path) -> RunDirectory:
    """The run as an older RadScribe wrote it."""
    older = copied(run, path)
    facts = older.read_facts()
    del facts["unlikeness"]
    older.facts.write_text(json.dumps(facts))
    older.features.unlink()
    return older


def noise(path: Path, count: int = 3) -> Path:
    path.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (80, 80), np.uint8)
        Image.fromarray(pixels).save(path / f"noise-{number}.png")
    return path


class TestRuns:
    def test_training_leaves_the_statistics_of_the_chosen_weights(self, run, store):
        trained = radscribe.load(run.path, "cpu")
        studies = PreparedStore(store).studies("train")
        facts = run.read_facts()["unlikeness"]
        assert facts["weights_sha256"] == run.read_facts()["weights_sha256"]
        assert facts["train"] == len(studies)
        views, mask = stack_views([evaluation_views(study, trained.config.data) for study in studies])
        with torch.inference_mode():
            features = ViewFeatures.of(trained.system.backbone(views, mask), mask).rows
        np.testing.assert_allclose(trained.training_features.mean, features.mean(dim=0), rtol=1e-3, atol=1e-5)
        assert len(trained.training_features.distances) == len(studies)
        validation = PreparedStore(store).studies("val")
        assert not any(found.flagged for _, found in trained.measure(validation))
        assert "Drafts say how unlike the images of 28 training studies" in run.model_card.read_text()

    def test_its_own_drafts_say_it(self, run):
        lines = [json.loads(line) for line in run.drafts("test").read_text().splitlines()]
        assert all(0 <= line["unlike_share"] <= 1 and isinstance(line["unlike"], bool) for line in lines)

    def test_a_run_without_them_says_nothing(self, run, tmp_path, capsys):
        older = without_statistics(run, tmp_path / "older")
        images = noise(tmp_path / "noise")
        main(["generate", str(older.path), str(images)])
        captured = capsys.readouterr()
        assert "unlike" not in captured.out
        assert "unlike" not in captured.err
        main(["check", str(older.path)])
        assert "features.safetensors" not in capsys.readouterr().out
        with pytest.raises(SystemExit, match="^2$"):
            main(["unlike", str(older.path), str(images)])
        assert "the run 'older' keeps no statistics of its training images" in capsys.readouterr().err

    def test_a_training_that_was_stopped_behind_its_last_step_makes_them(self, run, tmp_path):
        older = without_statistics(run, tmp_path / "older")
        train(older.load_config(), older.path, resume=True, progress=False)
        ours, theirs = load_file(older.features), load_file(run.features)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        before = older.features.stat().st_mtime_ns
        train(older.load_config(), older.path, resume=True, progress=False)
        assert older.features.stat().st_mtime_ns == before

    def test_those_of_other_weights_are_not_used(self, run, tmp_path, capsys):
        """A resumed training writes better weights, and is killed."""
        resumed = copied(run, tmp_path / "resumed")
        system = resumed.load_system()
        with torch.no_grad():
            next(system.backbone.parameters()).add_(1)
        resumed.save_weights(system)
        assert load_training_features(resumed) is None
        main(["check", str(resumed.path)])
        assert "of other weights than the present ones" in capsys.readouterr().out

    @pytest.mark.parametrize("damage", ["cut", "gone", "changed"])
    def test_damage_is_an_error(self, run, tmp_path, damage, capsys):
        damaged = copied(run, tmp_path / "damaged")
        data = bytearray(damaged.features.read_bytes())
        data[-5] ^= 1
        damaged.features.write_bytes(data[:-100] if damage == "cut" else data)
        if damage == "gone":
            damaged.features.unlink()
        with pytest.raises(RadScribeError, match=r"features\.safetensors'.*Take the file from a copy"):
            radscribe.load(damaged.path, "cpu")
        with pytest.raises(SystemExit, match="^1$"):
            main(["check", str(damaged.path)])
        assert "is damaged: features.safetensors" in capsys.readouterr().err


@pytest.fixture(scope="module")
def strict(run, tmp_path_factory) -> RunDirectory:
    """A run whose limit every study is beyond, so that what is said of one can be looked at."""
    strict = copied(run, tmp_path_factory.mktemp("strict") / "strict")
    kept = load_training_features(strict)
    beyond = TrainingFeatures(kept.mean, kept.whitening, kept.distances, 0.0)
    keep_training_features(strict, beyond, 28, 4)
    return strict


class TestWhatIsSaid:
    def test_generate_warns_and_names_the_study(self, strict, tmp_path, capsys):
        images = noise(tmp_path / "noise", 2)
        command = ["generate", str(strict.path), str(images)]
        main(command)
        printed = capsys.readouterr()
        lines = [json.loads(line) for line in printed.out.splitlines()]
        assert [line["unlike"] for line in lines] == [True, True]
        for line in lines:
            said = "all" if line["unlike_share"] == 1 else f"{line['unlike_share']:.1%}"
            assert (
                f"warning: study '{line['id']}' is unlike the images that {strict.path} learnt from: {said} "
                "of the training studies are less unlike. Do not rely on its draft"
            ) in printed.err
        main([*command, "--out", str(tmp_path / "drafts.csv")])
        assert capsys.readouterr().err.count("warning: study 'noise-") == 2
        header = (tmp_path / "drafts.csv").read_text().splitlines()[0]
        assert "unlike_share,unlike," in header

    def test_a_resumed_command_warns_of_what_was_drafted_before(self, strict, tmp_path, capsys, monkeypatch):
        images, out = noise(tmp_path / "noise", 3), tmp_path / "drafts.jsonl"
        command = ["generate", str(strict.path), str(images), "--batch", "1", "--out", str(out)]
        add = DraftFile.add

        def interrupted(self, draft):
            if draft.id == "noise-2":
                raise KeyboardInterrupt
            add(self, draft)

        monkeypatch.setattr(DraftFile, "add", interrupted)
        with pytest.raises(SystemExit, match="^130$"):
            main(command)
        monkeypatch.undo()
        assert "warning: study" not in capsys.readouterr().err
        main([*command, "--resume"])
        assert capsys.readouterr().err.count("warning: study 'noise-") == 3

    def test_explain_warns_and_its_page_says_it(self, strict, run, tmp_path, capsys):
        images = noise(tmp_path / "noise", 1)
        main(
            [
                "explain",
                str(strict.path),
                "--images",
                str(images / "noise-0.png"),
                "--out",
                str(tmp_path / "w"),
            ]
        )
        assert f"warning: study '{images / 'noise-0'}' is unlike" in capsys.readouterr().err
        page = Page(tmp_path / "w/index.html")
        assert "Unlike the training images" in page.text("unlike", "flagged")
        assert "Do not rely on this draft" in page.text("unlike", "flagged")
        trained = radscribe.load(run.path, "cpu")
        validation = [next(iter(PreparedStore(trained.config.store).studies("val")))]
        explained = list(trained.explain(validation))
        page = Page(write_explanations(explained, tmp_path / "own", config=trained.config))
        assert page.text("unlike") == f"{explained[0].draft.unlikeness}."

    def test_the_page_of_the_run_says_it(self, run, tmp_path):
        write_run_page(run.path, tmp_path / "page.html", studies=3)
        page = Page(tmp_path / "page.html")
        lines = [json.loads(line) for line in run.drafts("test").read_text().splitlines()]
        flagged = sum(line["unlike"] for line in lines)
        assert f"{flagged} of {len(lines)} studies, by their distance to the training images" in page.source
        assert page.source.count("of the training studies are less unlike") == 3

    def test_an_older_file_of_drafts_still_has_a_page(self, run, tmp_path):
        older = copied(run, tmp_path / "older")
        lines = [json.loads(line) for line in older.drafts("test").read_text().splitlines()]
        for line in lines:
            del line["unlike"], line["unlike_share"], line["notes"]
        older.drafts("test").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        write_run_page(older.path, tmp_path / "page.html", studies=3)
        assert "less unlike" not in (tmp_path / "page.html").read_text()


class TestUnlikeCommand:
    def test_it_compares_sources_with_the_test_split(self, run, store, tmp_path, capsys):
        images = noise(tmp_path / "noise", 4)
        (images / "bad.png").write_text("no image")
        main(["unlike", str(run.path), str(images), str(store), "--json"])
        printed = capsys.readouterr()
        own, found, whole = json.loads(printed.out)
        test = len(PreparedStore(store).studies("test"))
        assert (own["source"], own["studies"], own["auc"]) == ("test split", test, None)
        assert (found["source"], found["studies"], found["rejected"]) == (str(images), 4, 1)
        assert whole["studies"] == 40
        trained = radscribe.load(run.path, "cpu")
        ours = [one.distance for _, one in trained.measure(PreparedStore(store).studies("test"))]
        theirs = [one.distance for _, one in trained.measure([images], on_rejection=lambda rejection: None)]
        pairs = [(a < b) + (a == b) / 2 for a in ours for b in theirs]
        assert found["auc"] == pytest.approx(np.mean(pairs), abs=1e-4)
        assert f"rejected bad: cannot read {images / 'bad.png'}: not an image" in printed.err
        main(["unlike", str(run.path), str(images)])
        table = capsys.readouterr().out.splitlines()
        assert table[0].split() == ["studies", "rejected", "median", "share", "flagged", "AUC"]
        assert table[2].split()[:3] == [str(images), "4", "1"]
