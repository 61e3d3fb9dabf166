"""Disease queries: the head, the losses, what is kept, what they leave, and their faults."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from pretraining_faults import change_fields, cut_weights, drop_a_weight, pretrain_until_killed, rehash

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.layers.q_former import q_former
from radscribe.observations import OBSERVATIONS
from radscribe.parts.disease_queries import DiseaseQueries, PooledHead, QueryConfig, orthogonality
from radscribe.pretraining.disease_queries import DiseaseQueriesTask
from radscribe.pretraining.loop import pretrain
from radscribe.pretraining.settings import DiseaseQueriesSettings
from radscribe.runs.observing import Observer
from radscribe.studies.prepare import prepare
from radscribe.studies.store import PreparedStore
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.transforms import TransformConfig

TINY = {
    "architecture": "test_resnet",
    "weights": "none",
    "short_side": 64,
    "crop": 56,
    "width": 24,
    "layers": 2,
    "attention_heads": 2,
    "epochs": 2,
    "batch": 8,
    "learning_rate": 1e-3,
}


def settings_of(**options):
    return DiseaseQueriesSettings(**TINY | {"threads": 1, "device": "cpu"} | options)


def train_tiny(store, out, *, resume=False, **options):
    settings = settings_of(**options)
    return pretrain(DiseaseQueriesTask, PreparedStore(store), out, settings, resume=resume, progress=False)


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """The directory of disease queries."""
    out = tmp_path_factory.mktemp("parts") / "queries"
    train_tiny(store, out)
    return out


def tiny_part(head="per-query"):
    torch.manual_seed(0)
    return DiseaseQueries(
        BackboneConfig(architecture="test_resnet", weights="none"),
        TransformConfig(short_side=64, crop=56),
        QueryConfig(head=head, width=24, layers=2, heads=2),
    ).eval()


@pytest.fixture
def views():
    """Views of three studies; the second has one view only."""
    torch.manual_seed(1)
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    return torch.randint(0, 256, (3, 2, 56, 56), dtype=torch.uint8), mask


def built_task(store, **options):
    """A task before its first step, in evaluation mode."""
    task = DiseaseQueriesTask(PreparedStore(store), settings_of(**options))
    torch.manual_seed(0)
    task.build(None, torch.device("cpu"))
    task.model.eval()
    return task


# --- network ------------------------------------------------------------------------------------------------


def test_the_q_former_of_the_paper_has_105137664_weights():
    """With its layer norm and 14 queries of BERT's size, which read an encoder of width 1408."""
    sizes = QueryConfig()
    with torch.device("meta"):
        qformer = q_former(sizes.width, sizes.layers, sizes.heads, 1408)
    assert sum(parameter.numel() for parameter in qformer.parameters()) == 105_137_664
    assert [layer.has_cross_attention for layer in qformer.encoder.layer] == [True, False] * 6


def test_each_logit_is_of_its_own_query(views):
    part = tiny_part()
    tokens = part.tokens(*views)
    features, before = part.features(tokens), part.logits(tokens)
    assert features.shape == (3, 14, 24)
    assert before.shape == (3, 14)
    features[:, 3] += 1
    changed = (part.head(features) - before).abs().amax(dim=0)
    assert changed[3] > 1e-3
    assert changed[[number for number in range(14) if number != 3]].max() == 0


def test_absent_views_and_other_studies_change_nothing(views):
    part = tiny_part()
    pixels, mask = views
    logits = part(pixels, mask)
    pixels[1, 1] = 255
    assert torch.allclose(part(pixels, mask), logits, atol=1e-5)
    assert torch.allclose(part(pixels[1:2, :1], mask[1:2, :1]), logits[1:2], atol=1e-5)


def test_the_views_are_averaged_before_the_queries_read_them(views):
    part = tiny_part()
    pixels, mask = views
    alone = [part.tokens(pixels[:1, number : number + 1], mask[:1, :1]) for number in range(2)]
    assert torch.allclose(part.tokens(pixels[:1], mask[:1]), (alone[0] + alone[1]) / 2, atol=1e-5)


def test_the_pooled_head_is_the_released_one(views):
    """Perceptrons 1536-384-48-48-2 on the mean of the tokens; the logit is the difference of the scores."""
    head = PooledHead(1536)
    shapes = [tuple(layer.weight.shape) for layer in head.perceptrons[0] if hasattr(layer, "weight")]
    assert shapes == [(384, 1536), (48, 384), (48, 48), (2, 48)]
    assert len(head.perceptrons) == 14
    tokens = torch.randn(2, 5, 1536)
    _, present = head.perceptrons[6](tokens.mean(1)).softmax(-1).unbind(-1)
    assert torch.allclose(head(tokens)[:, 6].sigmoid(), present, atol=1e-6)
    part = tiny_part("pooled-mlp")
    assert part.queries is None
    assert part(*views).shape == (3, 14)


# --- losses -------------------------------------------------------------------------------------------------


def test_orthogonality_by_hand():
    queries = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    # The third has a cosine of sqrt(1/2) with each of the others, and each product stands twice.
    assert orthogonality(queries).item() == pytest.approx(2.0)
    assert orthogonality(torch.eye(14) * 7).item() == pytest.approx(0.0, abs=1e-9)
    both = torch.stack([queries, torch.eye(3, 2)])
    assert orthogonality(both).item() == pytest.approx((2.0 + orthogonality(torch.eye(3, 2)).item()) / 2)


def test_orthogonality_of_fresh_queries_is_that_of_the_paper():
    """14 random rows of 768: 14 * 13 / 768 is expected."""
    torch.manual_seed(0)
    assert orthogonality(0.02 * torch.randn(14, 768)).item() == pytest.approx(14 * 13 / 768, rel=0.2)


def test_the_loss_is_equation_11_plus_orthogonality(store):
    """Summed over the observations, averaged over the studies."""
    task = built_task(store, orthogonality=2.0)
    batch = next(iter(task.batches(0)))
    with torch.no_grad():
        found = task.loss(batch).item()
        probabilities = task.model(*batch[1:]).sigmoid().double().numpy()
    truth = task.train.labels[batch[0]]
    per_study = -(truth * np.log(probabilities) + (1 - truth) * np.log(1 - probabilities)).sum(axis=1)
    expected = per_study.mean() + 2.0 * orthogonality(task.model.queries).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_orthogonality_of_outputs(store):
    with_it = built_task(store, orthogonality_on="outputs")
    without = built_task(store, orthogonality=0.0)
    batch = next(iter(with_it.batches(0)))
    with torch.no_grad():
        features = with_it.model.features(with_it.model.tokens(*batch[1:]))
        difference = with_it.loss(batch) - without.loss(batch)
    assert difference.item() == pytest.approx(orthogonality(features).item(), rel=1e-3)


@pytest.mark.parametrize("head", ["per-query", "pooled-mlp"])
def test_the_released_loss_is_the_cross_entropy_of_two_classes(store, head):
    task = built_task(store, loss="released", head=head)
    batch = next(iter(task.batches(0)))
    with torch.no_grad():
        logits = task.model(*batch[1:])
        found = task.loss(batch).item()
    scores = torch.stack([torch.zeros_like(logits), logits], dim=1)  # [studies, classes, observations]
    truth = torch.from_numpy(task.train.labels[batch[0]]).long()
    expected = torch.nn.functional.cross_entropy(scores, truth, label_smoothing=0.1, reduction="none")
    assert found == pytest.approx(expected.sum(dim=1).mean().item(), rel=1e-5)


def test_ignored_labels_do_not_count(store):
    """A study whose labels are ignored, but for one, has the loss of that one."""
    task = built_task(store, orthogonality=0.0)
    task.labels[:] = float("nan")
    task.labels[:, 4] = 1.0
    batch = next(iter(task.batches(0)))
    with torch.no_grad():
        expected = -torch.nn.functional.logsigmoid(task.model(*batch[1:])[:, 4]).mean()
        assert task.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_views_are_changed_as_released_on_demand(store):
    """Training views alone, and each batch by its epoch."""
    usual, released = built_task(store), built_task(store, augmentation="released")
    assert usual.model.transform == replace(released.model.transform, augmentation="none")
    first = next(iter(released.batches(0)))[1]
    assert first.shape[2:] == (56, 56)
    assert torch.equal(first, next(iter(released.batches(0)))[1])
    assert not torch.equal(first, next(iter(released.batches(1)))[1])
    assert not torch.equal(first, next(iter(usual.batches(0)))[1])
    assert np.array_equal(usual.validation_logits(), released.validation_logits())


def test_the_rate_rises_in_a_fifteenth_of_the_steps_and_falls_to_a_hundredth(store):
    task = built_task(store, epochs=30)
    rates = [task.rate(number // 10, number % 10, 10) for number in range(300)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[20] == max(rates) == 1.0
    assert np.all(np.diff(rates[:21]) > 0)
    assert np.all(np.diff(rates[20:]) < 0)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)


# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("head", ["per-query", "pooled-mlp"])
def test_it_learns(tmp_path, head):
    """Far from what it can be, from 200 views and in seconds; and clearly more than chance."""
    prepare(
        "phantom",
        tmp_path / "store",
        studies=110,
        split_fractions=(0.6, 0.39, 0.01),
        short_side=72,
        workers=1,
        progress=False,
    )
    options = {"short_side": 72, "crop": 64, "epochs": 16, "learning_rate": 2e-3, "head": head}
    facts = train_tiny(tmp_path / "store", tmp_path / "part", **options)
    areas = [measured["auc"] for measured in facts["validation"].values() if measured["auc"] is not None]
    assert len(areas) >= 8
    assert np.mean(areas) > 0.62


def test_the_epoch_with_the_highest_area_is_kept(facts):
    lacking = [epoch["1 - mean AUC"] for epoch in facts["history"]]
    assert facts["best_epoch"] == 1 + int(np.argmin(lacking))
    areas = [measured["auc"] for measured in facts["validation"].values() if measured["auc"] is not None]
    assert np.mean(areas) == pytest.approx(1 - min(lacking), abs=1e-9)


def test_without_labels_on_val_the_last_epoch_is_kept(store, tmp_path):
    """No study of the val split has an observation, so no AUC can be measured."""
    labels = tmp_path / "labels.csv"
    rows = [
        ",".join([study.id, *(str(int(split == "train" and number % 3 == 0)) for _ in OBSERVATIONS)])
        for split in ("train", "val")
        for number, study in enumerate(PreparedStore(store).studies(split))
    ]
    labels.write_text("\n".join([",".join(["study_id", *OBSERVATIONS]), *rows]))
    facts = train_tiny(store, tmp_path / "part", labels=str(labels))
    assert "best_epoch" not in facts
    assert len(facts["history"]) == facts["epochs"] == 2
    DiseaseQueries.load(tmp_path / "part", "cpu")


def test_the_directory_is_complete_and_says_what_it_is_for(trained, facts):
    assert {path.name for path in trained.iterdir()} == {
        "weights.safetensors",
        "disease_queries.json",
        "part.json",
        "pretraining.json",
        "MODEL_CARD.md",
    }
    card = (trained / "MODEL_CARD.md").read_text()
    assert "# Disease queries, test_resnet" in card
    assert "research use, not for clinical diagnosis" in card
    assert f"epoch {facts['best_epoch']} of 2" in card
    part = json.loads((trained / "part.json").read_text())
    assert (part["kind"], part["split"]) == ("disease-queries", "train")


def test_the_command_prints_area_and_f1_of_each_observation(store, tmp_path, capsys):
    options = " ".join(f"--{name} {value}" for name, value in TINY.items())
    place = f"--out {tmp_path / 'part'} --threads 1 --device cpu --no_progress"
    main(f"pretrain disease-queries {store} {place} {options}".split())
    printed = capsys.readouterr().out
    assert printed.startswith("disease queries")
    measured = json.loads((tmp_path / "part/pretraining.json").read_text())["validation"]
    for name in OBSERVATIONS:
        (row,) = [line for line in printed.splitlines() if line.startswith(f"{name:26}")]
        for field in ("auc", "f1"):
            value = measured[name][field]
            assert ("-" if value is None else f"{value:.3f}") in row.split()


@pytest.mark.parametrize("head", ["per-query", "pooled-mlp"])
def test_what_is_loaded_is_what_was_trained(store, tmp_path, views, head):
    task = built_task(store, head=head)
    task.model.save(tmp_path)
    from radscribe.parts.part import Part

    Part.write(tmp_path, task.kind, task.model.files(), {}, PreparedStore(store))
    loaded = DiseaseQueries.load(tmp_path, "cpu")
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(*views), task.model(*views))


def test_observe_takes_disease_queries(trained, store, capsys):
    part = DiseaseQueries.load(trained, "cpu")
    study = PreparedStore(store).studies("test")[0]
    first = next(iter(Observer.load(trained, "cpu").observe(str(store), split="test")))
    assert first.id == study.id
    assert list(first.probabilities.values()) == pytest.approx(
        list(part.probabilities(study).values()), abs=1e-5
    )
    main(["observe", str(trained), str(store), "--split", "val", "--device", "cpu"])
    assert capsys.readouterr().out.count("Pleural Effusion") == 4


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(store, trained, tmp_path):
    """Killed in its second epoch; the Q-Former has dropout."""
    pretrain_until_killed("disease-queries", store, tmp_path / "killed", settings_of(), step=6)
    train_tiny(store, tmp_path / "killed", resume=True)
    for name in ("weights.safetensors", "disease_queries.json"):
        assert (trained / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


# --- backbones of transformers ------------------------------------------------------------------------------


def image_model(folder, kind):
    """The folder of a small image model of transformers, with random weights."""
    import transformers as hf

    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    models = {
        "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**sizes, image_size=56, patch_size=14)),
        "swin": lambda: hf.SwinModel(
            hf.SwinConfig(image_size=56, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 2])
        ),
        "dinov2_with_registers": lambda: hf.Dinov2WithRegistersModel(
            hf.Dinov2WithRegistersConfig(**sizes, image_size=56, patch_size=14)
        ),
        "resnet": lambda: hf.ResNetModel(
            hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
        ),
    }
    models[kind]().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "tokens", "channels"),
    [("vit", 16, 12), ("swin", 196, 16), ("dinov2_with_registers", 16, 12), ("resnet", 49, 12)],
)
def test_any_image_model_of_transformers_is_a_backbone(store, tmp_path, views, kind, tokens, channels):
    """It learns, and is loaded without the folder that it came from; class tokens are left out."""
    folder = image_model(tmp_path / kind, kind)
    options = {"architecture": "transformers", "weights": str(folder), "epochs": 1, "batch": 32}
    task = built_task(store, **options)
    backbone = task.model.backbone
    found = backbone.encode_views(views[0][0])
    assert found.shape == (2, tokens, channels)
    pixels = backbone.normalise(views[0][0])
    state = backbone.model(pixel_values=pixels).last_hidden_state
    last = state.flatten(2).transpose(1, 2) if state.dim() == 4 else state
    assert torch.equal(found, last[:, -tokens:])
    train_tiny(store, tmp_path / "part", **options)
    shutil.rmtree(folder)
    loaded = DiseaseQueries.load(tmp_path / "part", "cpu")
    assert loaded(*views).shape == (3, 14)
    assert tuple(loaded.probabilities(PreparedStore(store).studies("test")[0])) == OBSERVATIONS


def test_an_image_model_that_is_none_leaves_nothing(store, tmp_path):
    for weights, message in (
        ("./nowhere", r"the image model './nowhere' could not be loaded.*--weights"),
        (str(image_model(tmp_path / "vit", "vit")), "vit model does not encode views of 64.*--crop 56"),
    ):
        options = {"architecture": "transformers", "weights": weights, "crop": 64}
        with pytest.raises(RadScribeError, match=message):
            train_tiny(store, tmp_path / "part", **options)
        assert not (tmp_path / "part").exists()


# --- faults -------------------------------------------------------------------------------------------------


change = partial(change_fields, "disease_queries.json")
QUERIES = {"head": "per-query", "width": 24, "layers": 2, "heads": 2}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_weights, "weights.safetensors' cannot be read"),
        (drop_a_weight, "missing head.bias"),
        (change(queries=QUERIES | {"width": 48}), "does not fit"),
        (change(queries=QUERIES | {"head": "pooled-mlp"}), "does not fit"),
        (change(queries=QUERIES | {"heads": 5}), "is damaged"),
        (change(queries=QUERIES | {"rows": 5}), "is damaged .*rows"),
        (change(queries=3), "is damaged"),
    ],
    ids=["cut", "weight", "width", "head", "heads", "unknown", "number"],
)
def test_a_damaged_part_with_fitting_hashes(trained, tmp_path, damage, message):
    path = shutil.copytree(trained, tmp_path / "part")
    damage(path)
    rehash(path)
    with pytest.raises(RadScribeError, match=message):
        DiseaseQueries.load(path, "cpu")


def test_another_part_is_refused(trained, tmp_path):
    path = shutil.copytree(trained, tmp_path / "part")
    change_fields("part.json", kind="observation-classifier")(path)
    with pytest.raises(RadScribeError, match="is of kind observation-classifier, not disease-queries"):
        DiseaseQueries.load(path, "cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "test_vit"}, r"takes views of \d+ pixels only, and not of 56.*--crop"),
        ({"learning_rate": 1e30}, "the loss is .* at step"),
        ({"section": "comparison"}, "no study of the train split .* section 'comparison'.*--section"),
        ({"attention_heads": 7}, "--width 24 is no multiple of --attention_heads 7"),
    ],
    ids=["size", "loss", "section", "heads"],
)
def test_what_cannot_be_trained_leaves_nothing(store, tmp_path, options, message):
    with pytest.raises(RadScribeError, match=message):
        train_tiny(store, tmp_path / "part", **options)
    assert not (tmp_path / "part").exists()
