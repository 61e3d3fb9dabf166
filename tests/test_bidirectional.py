"""Bidirectional learning: equations, parts in their published formats, and what drafting leaves out."""

from dataclasses import replace

import pytest
import torch
from tiny_language_models import tiny_language_model

from radscribe.decoding.search import DecodingConfig
from radscribe.errors import RadScribeError
from radscribe.layers.frozen_language_model import Embedded, LanguageModelConfig
from radscribe.layers.report_encoder import ReportEncoderConfig
from radscribe.recipes import get_recipe
from radscribe.studies.study import PROJECTIONS
from radscribe.systems.bidirectional import Bidirectional
from radscribe.systems.system import Batch
from radscribe.text.prompts import VISION_PROMPT
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.masked_autoencoder import MaskedAutoencoder, MaskedAutoencoderConfig

REPORTS = ["the heart is normal in size .", "there is a small left pleural effusion .", "no pneumothorax ."]
SIDE = 32
VISION = MaskedAutoencoderConfig(
    weights="none",
    image_size=SIDE,
    patch_size=16,
    width=24,
    layers=2,
    heads=4,
    feed_forward=48,
    decoder_width=16,
    decoder_layers=1,
    decoder_heads=4,
    decoder_feed_forward=32,
)
TEXT = ReportEncoderConfig(
    weights="none", words=0, width=24, layers=2, heads=4, feed_forward=48, positions=64
)
VIEW_MASK = torch.tensor([[True, True], [True, False], [True, True]])


def built(variant: str = "", **fields) -> Bidirectional:
    config = get_recipe(f"bidirectional/phantom{variant}").build().system
    parts = {
        "vision": VISION,
        "report_encoder": TEXT,
        "language_model": LanguageModelConfig(name=str(tiny_language_model())),
    }
    torch.manual_seed(3)
    vocabulary = Vocabulary.build(REPORTS, "none", 1)
    return Bidirectional(replace(config, **{**parts, **fields}), vocabulary, 40)


def batch_of(system: Bidirectional) -> Batch:
    encoded = [system.encode_report(report) for report in REPORTS]
    tokens = torch.zeros(3, max(map(len, encoded)), dtype=torch.long)
    for row, ids in enumerate(encoded):
        tokens[row, : len(ids)] = torch.tensor(ids)
    generator = torch.Generator().manual_seed(1)
    views = torch.randint(0, 256, (3, 2, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    batch = Batch(["a", "b", "c"], views, VIEW_MASK, tokens, torch.full((3, 14), torch.nan))
    batch.projections = torch.tensor([[0, 1], [2, 2], [1, 0]])
    return batch


def test_random_weights_tell_patches_apart_by_position():
    """Without positions, patches that look alike would be one, and the decoder would draw one for all."""
    torch.manual_seed(0)
    autoencoder = MaskedAutoencoder(VISION, decoder=True)
    grey = torch.full((1, SIDE, SIDE), 127, dtype=torch.uint8)
    features = autoencoder.encode_views(grey)[0]
    assert torch.pdist(features).min() > 1e-2
    drawn = autoencoder.reconstruct(torch.ones(1, autoencoder.patches, VISION.width))
    patches = drawn[0].unfold(1, 16, 16).unfold(2, 16, 16).permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
    assert torch.pdist(patches).min() > 1e-2


class TestAutoencoder:
    def test_it_sees_every_patch_in_its_place(self):
        """Without masking and shuffling the encoder is a plain Vision Transformer."""
        torch.manual_seed(0)
        autoencoder = MaskedAutoencoder(VISION, decoder=False).eval()
        views = torch.randint(0, 256, (2, SIDE, SIDE), dtype=torch.uint8)
        embeddings = autoencoder.encoder.embeddings
        with torch.no_grad():
            patches = embeddings.patch_embeddings(autoencoder.normalise(views))
            patches = patches + embeddings.position_embeddings[:, 1:]
            first = embeddings.cls_token + embeddings.position_embeddings[:, :1]
            hidden = torch.cat([first.expand(2, -1, -1), patches], dim=1)
            for layer in autoencoder.encoder.layers:
                hidden = layer(hidden)
            expected = autoencoder.encoder.layernorm(hidden)[:, 1:]
            assert (autoencoder.encode_views(views) - expected).abs().max() < 1e-5

    def test_a_patch_is_drawn_where_it_lies(self):
        torch.manual_seed(0)
        autoencoder = MaskedAutoencoder(VISION, decoder=True).eval()
        features = torch.randn(1, 4, 24)
        with torch.no_grad():
            drawn = autoencoder.reconstruct(features)
            pixels = autoencoder.decoder(
                torch.cat([features.mean(1, keepdim=True), features], 1), torch.arange(4)[None]
            ).logits
        patch = pixels[0, 3].reshape(16, 16, 3).permute(2, 0, 1)
        assert torch.equal(drawn[0, :, 16:, 16:], patch)

    def test_views_of_another_size(self):
        with pytest.raises(RadScribeError, match=r"takes views of 32 pixels, not 48"):
            MaskedAutoencoder(VISION, decoder=False).encode_views(torch.zeros(1, 48, 48, dtype=torch.uint8))


class TestPublishedFormats:
    """Weights saved by `transformers` as MAE and BLIP are published, loaded by path."""

    def save_autoencoder(self, folder):
        from transformers import ViTMAEForPreTraining

        torch.manual_seed(9)
        own = MaskedAutoencoder(VISION, decoder=True)
        released = ViTMAEForPreTraining(own.encoder.config)
        released.save_pretrained(folder)
        return released

    def test_autoencoder(self, tmp_path):
        released = self.save_autoencoder(tmp_path)
        config = replace(VISION, weights=str(tmp_path))
        loaded = MaskedAutoencoder(config, decoder=True).state_dict()
        for name, tensor in released.state_dict().items():
            part = name.replace("vit.", "encoder.", 1)
            assert torch.equal(loaded[part], tensor)

    def test_autoencoder_of_other_sizes(self, tmp_path):
        self.save_autoencoder(tmp_path)
        config = replace(VISION, weights=str(tmp_path), width=32)
        with pytest.raises(RadScribeError, match=r"could not be loaded|do not fit"):
            MaskedAutoencoder(config, decoder=True)

    def test_weights_that_are_not_there(self, tmp_path):
        config = replace(VISION, weights=str(tmp_path / "none"))
        with pytest.raises(RadScribeError, match="system.vision.weights none"):
            MaskedAutoencoder(config, decoder=True)

    def save_blip(self, folder):
        import transformers as hf
        from transformers.models.bert.tokenization_bert import BertTokenizer

        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "heart", "is", "normal", "view", "."]
        (folder / "vocab.txt").write_text("\n".join(words))
        BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
        text = {
            "vocab_size": len(words),
            "hidden_size": 24,
            "encoder_hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "bos_token_id": 2,
            "sep_token_id": 3,
        }
        vision = {
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 16,
        }
        torch.manual_seed(4)
        released = hf.BlipForConditionalGeneration(hf.BlipConfig(text_config=text, vision_config=vision))
        released.save_pretrained(folder)
        return released, len(words)

    def test_report_encoder(self, tmp_path):
        released, words = self.save_blip(tmp_path)
        encoder = replace(TEXT, weights=str(tmp_path), words=words)
        system = built(report_encoder=encoder)
        expected = released.text_decoder.bert.state_dict()
        for name, tensor in system.report_encoder.model.state_dict().items():
            assert torch.equal(tensor, expected[name])
        ids, mask = system.reports_with_projection(batch_of(system))
        assert ids.max() < words
        assert mask.sum(1).tolist() == [len(system._report_ids(text)) for text in texts_with_view()]
        loss = system(batch_of(system))
        assert loss.terms["consistency"].isfinite()

    def test_report_encoder_of_other_sizes(self, tmp_path):
        _, words = self.save_blip(tmp_path)
        with pytest.raises(RadScribeError, match="'num_hidden_layers': 2"):
            built(report_encoder=replace(TEXT, weights=str(tmp_path), words=words, layers=3))


def texts_with_view() -> list[str]:
    """The reports of the views that are there, in the batch of `batch_of`."""
    sentences = {
        "frontal": " this is a frontal view .",
        "lateral": " this is a lateral view .",
        "unknown": "",
    }
    projections = [["frontal", "lateral"], ["unknown"], ["lateral", "frontal"]]
    return [
        report + sentences[name] for report, names in zip(REPORTS, projections, strict=True) for name in names
    ]


class TestEquations:
    def test_the_view_is_appended_where_it_is_known(self):
        system = built()
        ids, mask = system.reports_with_projection(batch_of(system))
        tokenizer = system.language_model.tokenizer
        for row, text in enumerate(texts_with_view()):
            assert ids[row, : mask[row].sum()].tolist() == tokenizer.encode(text)
        assert [PROJECTIONS[index] for index in (0, 1, 2)] == ["frontal", "lateral", "unknown"]

    @torch.no_grad()
    def test_consistency_is_the_distance_to_what_the_language_model_generates(self):
        """Eq. 2, view by view: the state that precedes each visual embedding, after the report."""
        system = built().eval()
        batch = batch_of(system)
        visual = system.visual_embeddings(batch.views, batch.view_mask)
        views = visual.embeddings.unflatten(1, (2, -1))[batch.view_mask]
        model, distances = system.language_model, []
        for text, e_v in zip(texts_with_view(), views, strict=True):
            ids = torch.tensor([model.tokenizer.encode(text)])
            mask = torch.ones_like(ids, dtype=torch.bool)
            e_t = system.textual_mapper(system.report_encoder(ids, mask))
            prompt = model.prompt(VISION_PROMPT[0], Embedded(e_t, mask), VISION_PROMPT[1])
            embed = model.model.get_input_embeddings()
            sequence = torch.cat(
                [embed(prompt.before)[None], e_t, embed(prompt.after)[None], e_v[None]], dim=1
            )
            states = model.model.base_model(inputs_embeds=sequence).last_hidden_state[0]
            e_g = states[-len(e_v) - 1 : -1]
            distances += ((e_v - e_g) ** 2).sum(dim=1).tolist()
        found = system(batch).terms["consistency"].item()
        assert found == pytest.approx(sum(distances) / len(distances), rel=1e-4)

    @torch.no_grad()
    def test_reconstruction_is_the_mean_squared_pixel(self):
        system = built().eval()
        batch = batch_of(system)
        visual = system.visual_embeddings(batch.views, batch.view_mask).embeddings
        visual = visual.unflatten(1, (2, -1))[batch.view_mask]
        drawn = system.backbone.reconstruct(system.reverse_mapper(visual))
        pixels = system.backbone.normalise(batch.views[batch.view_mask])
        expected = ((pixels - drawn) ** 2).sum() / pixels.numel()
        assert system(batch).terms["reconstruction"].item() == pytest.approx(expected.item(), rel=1e-5)

    @torch.no_grad()
    def test_total(self):
        system = built(consistency_weight=0.1, reconstruction_weight=0.5).eval()
        losses = system(batch_of(system))
        terms = losses.terms
        expected = terms["cross_entropy"] + 0.1 * terms["consistency"] + 0.5 * terms["reconstruction"]
        assert losses.total.item() == pytest.approx(expected.item(), rel=1e-5)


def gradient_of_vision(**fields) -> torch.Tensor:
    system = built("/v2t-t2v", **fields)
    batch = batch_of(system)
    system(batch).terms["consistency"].backward()
    gradient = system.visual_mapper.weight.grad
    return torch.zeros(1) if gradient is None else gradient


def test_where_gradients_of_text_to_vision_go():
    assert gradient_of_vision().abs().max() > 0
    assert gradient_of_vision(consistency_target="detached").abs().max() > 0
    assert gradient_of_vision(teacher="detached").abs().max() > 0
    assert gradient_of_vision(teacher="detached", consistency_target="detached").abs().max() == 0
    both, target_only = gradient_of_vision(), gradient_of_vision(teacher="detached")
    assert not torch.allclose(both, target_only)


@pytest.mark.parametrize("variant", ["", "/v2t", "/v2t-clip", "/v2t-t2v"])
def test_variants_have_their_terms(variant):
    terms = {
        "": {"cross_entropy", "consistency", "reconstruction"},
        "/v2t": {"cross_entropy"},
        "/v2t-clip": {"cross_entropy", "image_text_matching"},
        "/v2t-t2v": {"cross_entropy", "consistency"},
    }
    system = built(variant)
    losses = system(batch_of(system))
    assert set(losses.terms) == terms[variant]
    losses.total.backward()
    for name, parameter in system.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_drafting_uses_vision_to_text_alone():
    """No module of the other branches runs, and without them the drafts are the same."""
    system = built().eval()
    batch = batch_of(system)
    others = {
        name: module
        for name, module in system.named_modules()
        if name.startswith(("report_encoder", "textual_mapper", "reverse_mapper", "backbone.decoder"))
    }
    assert others
    called = []
    for name, module in others.items():
        module.register_forward_hook(lambda *_, name=name: called.append(name))
    decoding = DecodingConfig(beams=3, maximum_length=8)
    draft = system.generate(batch.views, batch.view_mask, decoding)
    system.explain(batch.views, batch.view_mask, draft.tokens)
    assert called == []

    alone = built("/v2t").eval()
    alone.load_state_dict({name: system.state_dict()[name] for name in alone.state_dict()})
    assert alone.generate(batch.views, batch.view_mask, decoding).texts == draft.texts
    parameters = sum(parameter.numel() for parameter in alone.parameters())
    assert parameters < sum(parameter.numel() for parameter in system.parameters())


def test_embeddings_do_not_collapse():
    """Trained on the consistency alone, visual embeddings still differ between studies."""
    system = built("/v2t-t2v")
    system.train()
    optimizer = torch.optim.Adam([each for each in system.parameters() if each.requires_grad], lr=1e-3)
    batch = batch_of(system)

    def spread() -> float:
        with torch.no_grad():
            visual = system.visual_embeddings(batch.views[:, :1], batch.view_mask[:, :1]).embeddings
        return visual.var(dim=0).mean().item()

    before = spread()
    for _ in range(10):
        optimizer.zero_grad()
        system(batch).total.backward()
        optimizer.step()
    assert spread() > 0.05 * before


def test_standardised_features():
    """Statistics are of the views that are there; in drafting it is one linear map."""
    system = built("/v2t", standardise=True)
    batch = batch_of(system)
    visual = features, mask = system.backbone(batch.views, batch.view_mask)
    assert not mask.all()
    system.train()
    system.map_features(visual)
    momentum = system.standardise.momentum
    assert torch.allclose(system.standardise.running_mean, momentum * features[mask].mean(dim=0), atol=1e-6)
    system.eval()
    scale = (system.standardise.running_var + system.standardise.eps).rsqrt()
    weight = system.visual_mapper.weight * scale
    bias = system.visual_mapper.bias - weight @ system.standardise.running_mean
    mapped = system.map_features(visual).embeddings
    assert torch.allclose(mapped[mask], (features @ weight.T + bias)[mask], atol=1e-4)


def test_reconstruction_needs_the_autoencoder():
    with pytest.raises(ValueError, match="vision_kind autoencoder"):
        built(vision_kind="backbone")


class TestDistances:
    """How near visual embeddings lie to words (the paper's Figure 4)."""

    def trained(self, tmp_path):
        from tiny import tiny_store

        from radscribe.studies.store import PreparedStore
        from radscribe.training.config import override
        from radscribe.training.trained_system import TrainedSystem

        store = PreparedStore(tiny_store(tmp_path / "store", studies=20))
        config = override(
            get_recipe("bidirectional/phantom/v2t").build(),
            {
                "data": {"transform": {"short_side": 64, "crop": SIDE}},
                "system": {"language_model": {"name": str(tiny_language_model())}},
            },
        )
        return TrainedSystem(built("/v2t"), config, torch.device("cpu")), store.studies()

    def test_against_a_plain_transcription(self, tmp_path):
        from radscribe.pages.embedding_distances import (
            EmbeddingDistances,
            draw_distances,
            embedding_distances,
        )
        from radscribe.training.data import evaluation_views

        trained, studies = self.trained(tmp_path)
        found = embedding_distances(trained, studies, progress=False)
        words = trained.system.language_model.model.get_input_embeddings().weight
        expected, means = [], []
        with torch.no_grad():
            for study in studies:
                views = torch.stack(evaluation_views(study, trained.config.data)).unsqueeze(0)
                mask = torch.ones(1, views.size(1), dtype=torch.bool)
                visual = trained.system.visual_embeddings(views, mask).embeddings[0]
                means.append(visual.mean(dim=0))
                for embedding in visual:
                    expected.append((words - embedding).square().sum(dim=1).sqrt().min().item())
        assert found.nearest == pytest.approx(expected, abs=1e-3)
        spread = torch.stack(means).var(dim=0, correction=0).mean().item()
        assert found.variance_over_studies == pytest.approx(spread, rel=1e-4)
        assert found.variance > found.variance_over_studies > 0
        assert "variance over studies" in str(found)
        assert found.mean().mean.value == pytest.approx(sum(expected) / len(expected), abs=1e-3)
        assert found.mean().mean.low < found.mean().mean.value < found.mean().mean.high

        further = replace(
            found, nearest=found.nearest + 1, studies=found.studies + found.studies[..., 1:] * [1, 0]
        )
        both = EmbeddingDistances.of_runs([found, further])
        assert both.mean().mean.value == pytest.approx(found.mean().mean.value + 0.5)
        assert both.mean().highest == pytest.approx(both.mean().lowest + 1)
        assert "; 2 runs " in str(both)
        with pytest.raises(RadScribeError, match="not as many studies"):
            EmbeddingDistances.of_runs([found, replace(found, studies=found.studies[:, 1:])])

        draw_distances({"one": found, "both": both}, tmp_path / "figures" / "distances.png")
        assert (tmp_path / "figures" / "distances.png").read_bytes()[:4] == b"\x89PNG"

    def test_a_system_without_language_model(self):
        from tiny import tiny_config

        from radscribe.pages.embedding_distances import embedding_distances
        from radscribe.systems.registry import get_system
        from radscribe.training.trained_system import TrainedSystem

        config = tiny_config(".")
        system = get_system("r2gen-cmn").build(config.system, Vocabulary.build(REPORTS, "none", 1), 10)
        with pytest.raises(RadScribeError, match="no language model"):
            embedding_distances(TrainedSystem(system, config, torch.device("cpu")), [])
