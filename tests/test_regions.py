"""Regions: which patches are kept, the activation maps, and the page."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from html_page import Page
from test_disease_queries import train_tiny

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.parts.activation_maps import ActivationMaps
from radscribe.parts.disease_queries import DiseaseQueries, QueryConfig
from radscribe.runs.regions import RegionFinder, map_scores
from radscribe.runs.views import evaluation_masks, evaluation_views
from radscribe.studies.store import PreparedStore
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.regions import Region, RegionConfig, cells_of, cropped, kept_regions, masked
from radscribe.vision.transforms import TransformConfig

CROP = 64


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """The directory of disease queries whose views patches of 16 pixels fill."""
    out = tmp_path_factory.mktemp("parts") / "queries"
    train_tiny(store, out, crop=CROP, epochs=1)
    return out


def part_with(head="per-query", crop=96):
    torch.manual_seed(0)
    part = DiseaseQueries(
        BackboneConfig(architecture="test_resnet", weights="none"),
        TransformConfig(short_side=crop, crop=crop),
        QueryConfig(head=head, width=24, layers=2, heads=2),
    )
    # Random logits and random attention are flat, and their maps would compare rounding errors.
    for name, weight in part.named_parameters():
        if name.startswith("head.") and weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.5)
        if "crossattention.attention." in name and weight.dim() == 2:
            torch.nn.init.normal_(weight, std=1.0)
    return part.eval()


def views_of(count, crop=96):
    return torch.randint(
        0, 256, (count, crop, crop), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


# --- patches ------------------------------------------------------------------------------------------------


def test_patches_above_the_threshold_are_kept_the_most_active_first():
    found = np.zeros((32, 48), np.float32)
    found[:16, 16:32] = 0.8
    found[16:, :16] = 0.9
    found[16:, 32:] = 0.75  # not above
    found[16:20, 16:32] = 1.0  # a quarter of the patch
    config = RegionConfig()
    assert [region[:2] for region in kept_regions(found, config)] == [(16, 0), (0, 16)]
    assert [region.activation for region in kept_regions(found, config)] == pytest.approx([0.9, 0.8])
    assert kept_regions(found, RegionConfig(most=1)) == kept_regions(found, config)[:1]
    assert len(kept_regions(found, RegionConfig(threshold=0.2))) == 4
    assert kept_regions(np.zeros((32, 32)), config) == []


def test_at_most_six_are_kept():
    found = np.linspace(0.8, 1, 64).reshape(8, 8).repeat(16, 0).repeat(16, 1)
    kept = kept_regions(found, RegionConfig())
    assert len(kept) == 6
    assert kept[0][:2] == (112, 112)
    assert [region.activation for region in kept] == sorted((r.activation for r in kept), reverse=True)


@pytest.mark.parametrize(("peaks", "kept", "highest"), [([24], 0, 0.58), ([24, 25], 4, 0.76)])
def test_a_lone_peak_of_7_x_7_keeps_no_patch(peaks, kept, highest):
    """Two neighbours keep four. The map is enlarged as grad-cam enlarges it."""
    from pytorch_grad_cam.utils.image import scale_cam_image

    small = np.zeros((1, 7, 7), np.float32)
    small.reshape(-1)[peaks] = 1
    found = scale_cam_image(scale_cam_image(small, (224, 224)))[0]
    assert len(kept_regions(found, RegionConfig())) == kept
    (first, *_) = kept_regions(found, RegionConfig(threshold=0.1))
    assert first.activation == pytest.approx(highest, abs=0.005)


def test_the_masked_view_is_equation_1():
    view = views_of(1)[0]
    activation = np.random.default_rng(0).random((96, 96)).astype(np.float32) * 0.4 + 0.5
    activation = activation.reshape(6, 16, 6, 16).mean((1, 3), keepdims=True).repeat(16, 1).repeat(16, 3)
    activation = (activation.reshape(96, 96) - activation.min()) / np.ptp(activation)
    config = RegionConfig(threshold=0.6, most=100)
    found = masked(view, kept_regions(activation, config), 16).numpy()
    for row in range(96):
        for column in range(96):
            top, left = row // 16 * 16, column // 16 * 16
            mean = activation[top : top + 16, left : left + 16].mean()
            assert found[row, column] == (view[row, column] if mean > 0.6 else 0)
    assert 0 < (found > 0).mean() < 1


def test_cropped_patches_fill_the_view():
    view = torch.zeros(96, 96, dtype=torch.uint8)
    view[16:32, 48:64] = 200
    view[32:48, :8] = 100
    found = cropped(view, [Region(16, 48, 1.0), Region(32, 0, 0.9)], 16)
    assert found.shape == (2, 96, 96)
    assert (found[0] == 200).all()
    assert (found[1, :, :40] == 100).all()
    assert (found[1, :, 56:] == 0).all()


def test_cells_hold_the_centres_of_regions_once():
    regions = [Region(0, 0, 1.0), Region(0, 16, 1.0), Region(208, 208, 1.0), Region(112, 96, 1.0)]
    assert cells_of(regions, 16, 224, 7) == [0, 48, 3 * 7 + 3]
    assert cells_of(regions, 16, 224, 14) == [0, 1, 195, 7 * 14 + 6]


# --- maps ---------------------------------------------------------------------------------------------------


@torch.enable_grad()
def gradients(part, views, number):
    """The encoder's last map `[views, channels, places]`, and the gradient of the probability in it."""
    tokens = part.backbone.encode_views(views).detach().requires_grad_()
    (found,) = torch.autograd.grad(part.logits(tokens).sigmoid()[:, number].sum(), tokens)
    return tokens.detach().transpose(1, 2).numpy(), found.transpose(1, 2).numpy()


def stretched(found, crop):
    from pytorch_grad_cam.utils.image import scale_cam_image

    side = int(found.shape[-1] ** 0.5)
    small = np.maximum(found, 0).reshape(len(found), side, side)
    return scale_cam_image(scale_cam_image(small, (crop, crop)))


@pytest.mark.parametrize("head", ["per-query", "pooled-mlp"])
def test_grad_cam_is_of_the_probability_at_the_last_map(head):
    """Channels weighed by the mean gradient of the probability (Selvaraju et al., 2017)."""
    part, views = part_with(head), views_of(3)
    activations, slopes = gradients(part, views, 4)
    expected = stretched((slopes.mean(-1, keepdims=True) * activations).sum(1), 96)
    found = ActivationMaps(part).of(views, [4, 4, 4])
    assert found.shape == (3, 96, 96)
    assert found == pytest.approx(expected, abs=1e-4)


def test_hires_cam_weighs_each_place():
    part, views = part_with(), views_of(3)
    activations, slopes = gradients(part, views, 4)
    found = ActivationMaps(part, "hires").of(views, [4, 4, 4])
    assert found == pytest.approx(stretched((slopes * activations).sum(1), 96), abs=1e-4)


def test_kinds_of_maps_are_one_behind_a_mean_and_differ_behind_queries():
    """Grad-CAM, HiResCAM and XGrad-CAM: the gradient of a mean is the same everywhere."""
    views = views_of(4)
    for head, same in (("pooled-mlp", True), ("per-query", False)):
        found = {
            maps: ActivationMaps(part_with(head), maps).of(views, [2, 5, 6, 7])
            for maps in ("grad", "hires", "xgrad")
        }
        assert found["grad"].max() == pytest.approx(1, abs=1e-3)
        for maps in ("hires", "xgrad"):
            assert np.allclose(found[maps], found["grad"], atol=1e-3) == same


@pytest.mark.parametrize("maps", ["grad", "grad++", "hires", "xgrad", "eigen", "layer"])
def test_every_kind_gives_maps_from_0_to_1_whatever_stands_beside(maps):
    made = ActivationMaps(part_with(), maps)
    views = views_of(3)
    with torch.inference_mode():
        together = made.of(views, [1, 2, 3])
    assert together.shape == (3, 96, 96)
    assert together.dtype == np.float32
    assert together.min() >= 0
    assert together.max() <= 1
    assert made.of(views[1:2], [2])[0] == pytest.approx(together[1], abs=1e-3)


def test_without_grad_cam_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(RadScribeError, match=r"grad-cam, which is not installed.*radscribe\[maps\]"):
        ActivationMaps(part_with())


def test_patches_that_do_not_fill_a_view_are_refused():
    maps = ActivationMaps(part_with(crop=56))
    with pytest.raises(RadScribeError, match="patches of 16 pixels do not fill views of 56.*--patch 14"):
        RegionFinder(maps, RegionConfig())


# --- studies and page ---------------------------------------------------------------------------------------


def test_each_view_has_the_regions_of_each_observation(trained, store):
    part = DiseaseQueries.load(trained, "cpu")
    finder = RegionFinder(ActivationMaps(part), RegionConfig(threshold=0.4))
    study = next(study for study in PreparedStore(store).studies() if len(study.views) == 2)
    views = evaluation_views(study, finder.data)
    found = finder.regions(study, views, ["Edema", "Fracture"])
    assert [(of.observation, of.view) for of in found] == [
        ("Edema", 0),
        ("Edema", 1),
        ("Fracture", 0),
        ("Fracture", 1),
    ]
    for of in found:
        number = OBSERVATIONS.index(of.observation)
        alone = finder.maps.of(views[of.view].unsqueeze(0), [number])[0]
        assert of.activation_map == pytest.approx(alone, abs=1e-3)
        assert of.regions == kept_regions(of.activation_map, finder.config)


def test_the_page_shows_image_map_and_patches(trained, store, tmp_path, capsys):
    out = tmp_path / "regions.html"
    chosen = ["--observation", "Edema", "Fracture", "--threshold", "0.5", "--studies", "3"]
    main(
        ["regions", str(trained), str(store), "--split", "test", "--out", str(out), *chosen, "--no_progress"]
    )
    studies = PreparedStore(store).studies("test")[:3]
    rows = 2 * sum(len(study.views) for study in studies)
    printed = capsys.readouterr().out
    page = Page(out)
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) == 3 * rows
    assert all(picture["src"].startswith("data:image/") and picture["alt"] for picture in pictures)
    captions = [text for where, text in page.texts if where[-1:] == ("figcaption",)]
    empty = captions.count("no patch is kept")
    assert f"3 studies: {empty} of {rows} maps keep no patch; research use" in printed
    kept = sum(tag == "rect" for tag, _ in page.elements)
    assert kept == sum(text.count(".") for text in captions if text.startswith("patches kept"))
    assert kept
    for study in studies:
        assert study.id in page.source
    assert "trained on synthetic images" in page.source
    assert "Research use, not for clinical diagnosis" in page.source


def test_maps_are_compared_with_masks_of_findings(trained, store, tmp_path, capsys):
    """All of a map that is the mask lies in it; and a command says it of the maps that it made."""
    finder = RegionFinder(ActivationMaps(DiseaseQueries.load(trained, "cpu")), RegionConfig())
    studies = PreparedStore(store).studies()
    study = next(study for study in studies if evaluation_masks(study, finder.data)[0])
    masks = evaluation_masks(study, finder.data)
    found = finder.regions(study, evaluation_views(study, finder.data), OBSERVATIONS)
    scores = map_scores(study, found, finder.data)
    assert len(scores) == sum(mask.any() for of_view in masks for mask in of_view.values())
    name, mask = next((name, mask) for name, mask in masks[0].items() if mask.any())
    perfect = replace(
        next(of for of in found if of.observation == name and of.view == 0),
        activation_map=mask.astype(np.float32),
    )
    (score,) = map_scores(study, [perfect], finder.data)
    assert (score.energy, score.pointing) == (1, 1)
    assert score.energy_by_chance == pytest.approx(mask.mean())
    page = ["--out", str(tmp_path / "regions.html"), "--no_progress"]
    main(["regions", str(trained), str(store), *page, "--observation", *OBSERVATIONS, "--studies", "4"])
    printed = capsys.readouterr().out
    assert " masks of findings: 0." in printed
    assert " masks of findings: 0." in (tmp_path / "regions.html").read_text()


def test_a_black_view_has_maps_from_0_to_1(trained, store):
    """Nothing is divided by the 0 that the range of a flat map is."""
    study = PreparedStore(store).studies()[0]
    black = torch.zeros(CROP, CROP, dtype=torch.uint8)
    for maps in ("grad", "grad++", "hires", "xgrad", "eigen", "layer"):
        finder = RegionFinder(ActivationMaps(DiseaseQueries.load(trained, "cpu"), maps), RegionConfig())
        for found in finder.regions(study, [black], OBSERVATIONS[:3]):
            assert np.isfinite(found.activation_map).all()
            assert 0 <= found.activation_map.min() <= found.activation_map.max() <= 1


def test_without_names_the_observations_above_their_thresholds_are_shown(trained, store, tmp_path):
    part = DiseaseQueries.load(trained, "cpu")
    study = PreparedStore(store).studies("test")[0]
    finder = RegionFinder(ActivationMaps(part), RegionConfig())
    ((_, found),) = finder.of_studies([study], finder.above)
    expected = [name for name, state in part.states(study).items() if state == "present"]
    assert list(dict.fromkeys(of.observation for of in found)) == expected
    part.thresholds.fill_(0.0)
    ((_, found),) = finder.of_studies([study], finder.above)
    assert len(found) == 14 * len(study.views)
