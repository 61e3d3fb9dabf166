"""Localisation scores: pointing game and energy in mask, against plain transcriptions and known maps."""

import numpy as np
import pytest
import tiny
import torch

from radscribe.evaluation.localisation import (
    MAP_KINDS,
    by_observation,
    coverage,
    localisation_statistics,
    namings,
    score_map,
)
from radscribe.observations import OBSERVATIONS
from radscribe.recipes import get_recipe
from radscribe.runs.localisation import localise
from radscribe.runs.trained_system import TrainedSystem
from radscribe.studies.store import PreparedStore
from radscribe.systems.registry import SYSTEMS


def test_coverage_is_the_share_of_each_patch():
    mask = np.zeros((12, 12), dtype=bool)
    mask[0:4, 0:2] = True
    mask[5:7, 8:12] = True
    expected = np.zeros((3, 3))
    for row in range(3):
        for column in range(3):
            expected[row, column] = mask[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4].mean()
    assert coverage(mask, 3, 3) == pytest.approx(expected)


def test_coverage_where_patches_do_not_divide_the_view():
    mask = np.zeros((10, 10), dtype=bool)
    mask[:, :5] = True
    assert coverage(mask, 4, 4)[0] == pytest.approx([1, 1, 0, 0], abs=1e-6)
    assert coverage(mask, 3, 3)[0] == pytest.approx([1, 0.5, 0], abs=1e-6)


COVERED = np.array([[[0.0, 0.5], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]])


def test_a_map_that_hits():
    score = score_map(np.array([[[0.0, 3.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]]), COVERED, "VDM")
    assert score.pointing == 1
    assert score.energy == pytest.approx((3 * 0.5 + 1 * 1) / 4)
    assert score.pointing_by_chance == pytest.approx(2 / 8)
    assert score.energy_by_chance == pytest.approx(1.5 / 8)


def test_a_map_that_misses_and_one_that_is_torn():
    miss = np.zeros_like(COVERED)
    miss[0, 0, 0] = 1
    assert (score_map(miss, COVERED, "VDM").pointing, score_map(miss, COVERED, "VDM").energy) == (0, 0)
    miss[1, 1, 0] = 1
    assert score_map(miss, COVERED, "VDM").pointing == 0.5


def test_a_map_without_values_is_chance():
    score = score_map(np.zeros_like(COVERED), COVERED, "VDM")
    assert score.pointing == score.pointing_by_chance
    assert score.energy == pytest.approx(score.energy_by_chance)


def test_namings_are_positions_of_pieces():
    text = "heart is normal . there is a small left pleural effusion . no pneumothorax ."
    pieces = [f" {word}" for word in text.split()]
    pieces[0] = "heart"
    found = namings(pieces)
    assert set(found) == {"Pleural Effusion"}
    assert [pieces[position] for position in found["Pleural Effusion"].word] == [" pleural", " effusion"]
    sentence = "".join(pieces[position] for position in found["Pleural Effusion"].sentence).strip(" .")
    assert sentence == "there is a small left pleural effusion"


def test_namings_of_parts_of_words():
    pieces = ["There", " is a pne", "umo", "thorax", "."]
    assert namings(pieces)["Pneumothorax"].word == [1, 2, 3]


def test_statistics_are_means_over_masks():
    hit = score_map(COVERED, COVERED, "class activation map", "Edema")
    miss = score_map(
        np.array([[[1.0, 0], [0, 0]], [[0, 0], [0, 0]]]), COVERED, "class activation map", "Edema"
    )
    vdm = score_map(COVERED, COVERED, "VDM")
    studies = [[hit, miss, vdm], [], [hit]]
    scores = localisation_statistics("class activation map", studies).scores()
    assert scores["class activation map pointing"] == pytest.approx(2 / 3)
    assert scores["class activation map energy"] == pytest.approx(2 * hit.energy / 3)
    of_vdm = localisation_statistics("VDM", studies).scores()
    assert of_vdm["VDM pointing by chance"] == pytest.approx(vdm.pointing_by_chance)
    edema = by_observation("class activation map", studies)["Edema"]
    assert edema["masks"] == 3
    assert edema["pointing"] == pytest.approx(2 / 3)


@pytest.fixture(scope="module", name="store")
def opened_store(store):
    return PreparedStore(store)


def untrained(name, store) -> TrainedSystem:
    config = tiny.config(f"{name}/phantom")
    reports = [study.sections["findings"] for study in store.studies("train")]
    return TrainedSystem(tiny.system(config, reports), config, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_every_system_is_localised(name, store):
    studies = store.studies()
    scores = localise(untrained(name, store), studies, progress=False)
    assert len(scores) == len(studies)
    kinds = {score.kind for found in scores for score in found}
    assert kinds >= {"report attention", "sentence attention", "word attention"}
    assert kinds <= set(MAP_KINDS)
    for study, found in zip(studies, scores, strict=True):
        masks = {name for view in study.views for name in view.source().masks}
        assert {score.observation for score in found} <= masks | {""}
        assert bool(found) == bool(masks)
        for score in found:
            assert 0 <= score.energy <= 1
            assert 0 < score.pointing_by_chance <= 1


@pytest.mark.slow
def test_a_system_whose_visual_tokens_are_queries_is_not_localised(store):
    trained, studies = untrained("camanet", store), store.studies()
    assert any(localise(trained, studies, progress=False))
    trained.system.backbone = tiny.DiseaseQueries(trained.system.backbone)
    assert localise(trained, studies, progress=False) == [[] for _ in studies]


def test_attention_to_everything_alike_is_chance(store):
    """As of a system that writes the same report for every study."""
    trained = untrained("r2gen", store)
    explain = trained.system.explain

    def explain_without_looking(views, mask, tokens):
        evidence = explain(views, mask, tokens)
        evidence.attention = torch.full_like(evidence.attention, 1 / evidence.token_mask.size(1))
        return evidence

    trained.system.explain = explain_without_looking
    found = localise(trained, store.studies()[:8], progress=False)
    for kind in ("report attention", "sentence attention", "word attention"):
        scores = localisation_statistics(kind, found).scores()
        assert scores[f"{kind} pointing by chance"] > 0
        assert scores[f"{kind} pointing"] == pytest.approx(scores[f"{kind} pointing by chance"])
        assert scores[f"{kind} energy"] == pytest.approx(scores[f"{kind} energy by chance"])


def test_a_system_that_knows_the_masks_scores_above_chance(store):
    """Activation maps that are the masks themselves point at them: the geometry of both is the same."""
    from radscribe.studies.images import read_view
    from radscribe.vision.transforms import evaluation_mask

    trained = untrained("camanet", store)
    studies = [study for study in store.studies() if any(view.source().masks for view in study.views)][:5]
    explain = trained.system.explain
    transform = trained.config.data.transform

    def explain_by_masks(views, mask, tokens):
        evidence = explain(views, mask, tokens)
        side = round((evidence.token_mask.size(1) / views.size(1)) ** 0.5)
        maps = torch.zeros(len(studies), len(OBSERVATIONS), views.size(1), side, side)
        for row, study in enumerate(studies):
            for position, view in enumerate(study.views):
                for name, found in read_view(view, transform.short_side).masks.items():
                    cover = coverage(evaluation_mask(found, transform), side, side)
                    maps[row, OBSERVATIONS.index(name), position] = torch.tensor(cover)
        evidence.activation_maps = maps.flatten(2)
        return evidence

    trained.system.explain = explain_by_masks
    found = localise(trained, studies, progress=False)
    scores = localisation_statistics("class activation map", found).scores()
    assert scores["class activation map pointing"] == 1
    assert scores["class activation map energy"] > 2 * scores["class activation map energy by chance"]


def test_maps_need_a_grid_that_the_backbone_can_make():
    from radscribe.errors import RadScribeError
    from radscribe.vision.backbones import create_backbone

    config = get_recipe("camanet/phantom").build().system.backbone
    assert create_backbone(config).forward_features(torch.zeros(1, 3, 96, 96)).shape[-2:] == (6, 6)
    config.architecture = "densenet121"
    with pytest.raises(RadScribeError, match="densenet121 has no output stride 16"):
        create_backbone(config)
