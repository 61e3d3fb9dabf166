"""Bidirectional learning: equations, parts in their published formats, and what drafting leaves out."""

from dataclasses import replace

import pytest
import tiny
import torch
from tiny_language_models import tiny_language_model

from radscribe.decoding.search import DecodingConfig
from radscribe.errors import RadScribeError
from radscribe.layers.frozen_language_model import Embedded, LanguageModelConfig
from radscribe.layers.report_encoder import ReportEncoderConfig
from radscribe.pages.embedding_distances import EmbeddingDistances, draw_distances, embedding_distances
from radscribe.recipes import get_recipe
from radscribe.runs.config import override
from radscribe.runs.trained_system import TrainedSystem
from radscribe.runs.views import evaluation_views, projections_of
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import PROJECTIONS
from radscribe.systems.bidirectional import Bidirectional
from radscribe.systems.r2gen_gpt import R2GenGPT, R2GenGPTConfig
from radscribe.systems.system import Batch, pad_tokens
from radscribe.text.prompts import VISION_PROMPT
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.masked_autoencoder import MaskedAutoencoder, MaskedAutoencoderConfig

pytestmark = pytest.mark.usefixtures("without_java")

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
RESNET = BackboneConfig(architecture="test_resnet", weights="none", output_stride=16)
VIEW_MASK = torch.tensor([[True, True], [True, False], [True, True]])


def built(variant: str = "", **fields) -> Bidirectional:
    """A tiny system in training mode."""
    parts = {"vision": VISION, "report_encoder": TEXT}
    config = tiny.config(f"bidirectional/phantom{variant}", **{**parts, **fields})
    return tiny.system(config, REPORTS, seed=3).train()


def batch_of(system: Bidirectional) -> Batch:
    encoded = [system.encode_report(report) for report in REPORTS]
    tokens = pad_tokens(encoded)
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
        message = r"other sizes than .*system.vision: width 24 and not 32.*--system.vision.width 24"
        with pytest.raises(RadScribeError, match=message):
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
    @pytest.mark.parametrize("preceding", ["teacher", "queries"])
    @pytest.mark.parametrize("generated", ["expected_word", "state"])
    def test_consistency_is_the_distance_to_what_the_language_model_generates(self, generated, preceding):
        """Eq. 2, view by view: what is read in front of each visual embedding, after the report."""
        system = built(generated=generated, preceding=preceding).eval()
        batch = batch_of(system)
        visual = system.visual_embeddings(batch.views, batch.view_mask)
        views = visual.tokens.unflatten(1, (2, -1))[batch.view_mask]
        model, distances = system.language_model, []
        for text, e_v in zip(texts_with_view(), views, strict=True):
            ids = torch.tensor([model.tokenizer.encode(text)])
            mask = torch.ones_like(ids, dtype=torch.bool)
            e_t = system.textual_mapper(system.report_encoder(ids, mask))
            prompt = model.prompt(VISION_PROMPT[0], Embedded(e_t, mask), VISION_PROMPT[1])
            embed = model.model.get_input_embeddings()
            before = e_v[:-1] if preceding == "teacher" else system.queries
            sequence = torch.cat(
                [embed(prompt.before)[None], e_t, embed(prompt.after)[None], before[None]], dim=1
            )
            if generated == "state":
                read = model.model.base_model(inputs_embeds=sequence).last_hidden_state[0]
            else:
                read = model.model(inputs_embeds=sequence).logits[0].softmax(-1) @ embed.weight
            e_g = read[-len(e_v) :]
            distances += ((e_v - e_g) ** 2).sum(dim=1).tolist()
        found = system(batch).terms["consistency"].item()
        assert found == pytest.approx(sum(distances) / len(distances), rel=1e-4)

    @torch.no_grad()
    def test_reconstruction_is_the_mean_squared_pixel(self):
        system = built().eval()
        batch = batch_of(system)
        visual = system.visual_embeddings(batch.views, batch.view_mask).tokens
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

    @torch.no_grad()
    def test_the_sum_over_words_is_the_mean_times_the_words_of_a_report(self):
        """Eq. 1 sums over the words of a report; other losses stay as they are."""
        summed, mean = (built(word_loss=word_loss).eval() for word_loss in ("sum", "mean"))
        batch = batch_of(summed)
        of_sum, of_mean = summed(batch).terms, mean(batch).terms
        # With the end, without the begin.
        words = sum(len(summed.encode_report(report)) - 1 for report in REPORTS) / len(REPORTS)
        assert of_sum["cross_entropy"].item() == pytest.approx(of_mean["cross_entropy"].item() * words)
        assert {**of_sum, "cross_entropy": 0} == {**of_mean, "cross_entropy": 0}


READINGS = [(g, p) for g in ("expected_word", "state") for p in ("teacher", "queries")]


class TestWhatIsGenerated:
    def generated(self, **fields) -> tuple[Bidirectional, torch.Tensor, torch.Tensor]:
        """The system, E_v of each view that is there, and E_g."""
        system = built("/v2t-t2v", **fields)
        batch = batch_of(system)
        visual = system.visual_embeddings(batch.views, batch.view_mask)
        images = system.by_image(visual, batch.view_mask)
        return system, images, system.generated(images, batch)

    @pytest.mark.parametrize(("generated", "preceding"), READINGS)
    def test_it_depends_on_the_text_encoder_and_not_on_the_vision_encoder(self, generated, preceding):
        """E_g = E_g(theta_t) in Eq. 4-5."""
        system, _, e_g = self.generated(generated=generated, preceding=preceding)
        e_g.square().sum().backward()
        reached = {
            name.partition(".")[0] for name, each in system.named_parameters() if each.grad is not None
        }
        queries = {"queries"} if preceding == "queries" else set()
        assert reached == {"report_encoder", "textual_mapper"} | queries
        assert all(each.grad.abs().max() > 0 for each in system.textual_mapper.parameters())

    def test_an_expected_word_is_a_mean_of_words(self):
        """It cannot leave the box around the word embeddings; a state can."""
        system, _, e_g = self.generated()
        words = system.language_model.model.get_input_embeddings().weight
        low, high = words.min(dim=0).values - 1e-5, words.max(dim=0).values + 1e-5
        assert bool(((e_g >= low) & (e_g <= high)).all())
        _, _, states = self.generated(generated="state")
        assert not bool(((states >= low) & (states <= high)).all())

    @torch.no_grad()
    def test_queries_stand_in_the_place_of_other_patches(self):
        """The generated embeddings follow the image with the teacher, and the report alone with queries."""
        for preceding, follows in (("teacher", True), ("queries", False)):
            system, images, e_g = self.generated(preceding=preceding)
            changed = system.generated(images + 1, batch_of(system))
            # In front of the first patch stands the prompt.
            assert torch.equal(changed[:, 0], e_g[:, 0])
            assert torch.equal(changed[:, 1:], e_g[:, 1:]) != follows

    def test_queries_need_to_know_the_patches(self):
        with pytest.raises(ValueError, match="queries needs system.patches"):
            built("/v2t-t2v", vision_kind="backbone", preceding="queries")
        fields = {"vision_kind": "backbone", "backbone": RESNET, "preceding": "queries"}
        system = built("/v2t-t2v", **fields, patches=9)
        with pytest.raises(
            RadScribeError, match=r"patches is 9, but a view has 4 patches\. Pass --system\.patches 4"
        ):
            system(batch_of(system))
        system = built("/v2t-t2v", **fields, patches=4)
        assert system(batch_of(system)).total.isfinite()


def gradient_of_vision(**fields) -> float:
    system = built("/v2t-t2v", **fields)
    system(batch_of(system)).terms["consistency"].backward()
    gradient = system.visual_mapper.weight.grad
    return 0.0 if gradient is None else gradient.abs().max().item()


@pytest.mark.parametrize(("generated", "preceding"), READINGS)
def test_the_consistency_moves_visual_embeddings_unless_they_are_detached(generated, preceding):
    reading = {"generated": generated, "preceding": preceding}
    assert gradient_of_vision(**reading) > 0
    assert gradient_of_vision(**reading, consistency_target="detached") == 0


#: Epochs of V2T, +CLIP, +T2V and +T2V+Rec in the paper's Table 3.
TABLE_3 = {"iu-xray": (8, 6, 5, 2), "mimic-cxr": (9, 7, 7, 5)}


@pytest.mark.parametrize("dataset", TABLE_3)
def test_variants_train_as_long_as_in_the_paper(dataset):
    recipes = [
        get_recipe(f"bidirectional/{dataset}{variant}") for variant in ("/v2t", "/v2t-clip", "/v2t-t2v", "")
    ]
    configs = [recipe.build() for recipe in recipes]
    assert tuple(config.training.epochs for config in configs) == TABLE_3[dataset]
    for config in configs:
        assert (config.training.batch_size, config.training.accumulate) == (4, 1)
        assert config.training.select_by == "BLEU-4"
        assert (config.system.consistency_weight, config.system.word_loss) == (1.0, "sum")


class TestTable4:
    """R2GenGPT's own system with text to vision, and its twin without."""

    @pytest.mark.parametrize("alignment", ["deep", "shallow"])
    def test_recipes_differ_from_their_twin_in_the_branch_alone(self, alignment):
        name = "bidirectional/iu-xray/r2gen-gpt" + ("" if alignment == "deep" else "-shallow")
        both, alone = get_recipe(name).build(), get_recipe(f"{name}/v2t").build()
        assert both.system.alignment == alignment
        assert replace(alone.system, text_to_vision=True) == both.system
        theirs = get_recipe("r2gen-gpt/iu-xray").build()
        for config in (both, alone):
            assert config.system.vision_kind == "r2gen_gpt"
            assert config.system.backbone == theirs.system.backbone
            assert (config.data, config.training, config.decoding) == (
                theirs.data,
                theirs.training,
                theirs.decoding,
            )

    @pytest.mark.parametrize("alignment", ["deep", "shallow"])
    def test_the_twin_is_r2gen_gpt(self, alignment):
        """The same weights have the same loss, drafts and evidence, and the same of them train."""
        vocabulary = Vocabulary.build(REPORTS, "none", 1)
        theirs = R2GenGPT(
            R2GenGPTConfig(
                backbone=RESNET,
                language_model=LanguageModelConfig(name=str(tiny_language_model())),
                alignment=alignment,
            ),
            vocabulary,
            40,
        )
        ours = built(
            "/v2t",
            vision_kind="r2gen_gpt",
            alignment=alignment,
            word_loss="mean",
            standardise=False,
            backbone=RESNET,
        )
        state = theirs.state_dict()
        ours.load_state_dict(
            {name.replace("visual_projection", "visual_mapper"): tensor for name, tensor in state.items()}
        )
        trained = [
            {name for name, parameter in system.named_parameters() if parameter.requires_grad}
            for system in (theirs, ours)
        ]
        assert len(trained[0]) == len(trained[1])
        assert ours.backbone.training == theirs.backbone.training == (alignment == "deep")
        batch = batch_of(ours)
        assert torch.equal(ours(batch).total, theirs(batch).total)
        decoding = DecodingConfig(beams=2, maximum_length=8)
        drafts = [system.eval().generate(batch.views, batch.view_mask, decoding) for system in (ours, theirs)]
        assert drafts[0].texts == drafts[1].texts
        evidence = [
            system.explain(batch.views, batch.view_mask, drafts[0].tokens) for system in (ours, theirs)
        ]
        assert torch.equal(evidence[0].attention, evidence[1].attention)

    def test_a_mean_over_views_is_generated_from_the_report_alone(self):
        system = built("/v2t-t2v", vision_kind="r2gen_gpt", backbone=RESNET)
        batch = batch_of(system)
        ids, mask = system.reports_with_projection(batch)
        tokenizer = system.language_model.tokenizer
        for row, report in enumerate(REPORTS):
            assert ids[row, : mask[row].sum()].tolist() == tokenizer.encode(report)
        visual = system.visual_embeddings(batch.views, batch.view_mask)
        assert system.consistency(system.by_image(visual, batch.view_mask), batch).shape == (len(REPORTS),)
        system(batch).total.backward()
        assert all(each.grad is not None for each in system.parameters() if each.requires_grad)


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
            visual = system.visual_embeddings(batch.views[:, :1], batch.view_mask[:, :1]).tokens
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
    visual = system.backbone(batch.views, batch.view_mask)
    features, mask = visual.tokens, visual.mask
    assert not mask.all()
    system.train()
    system.map_features(visual)
    momentum = system.standardise.momentum
    assert torch.allclose(system.standardise.running_mean, momentum * features[mask].mean(dim=0), atol=1e-6)
    system.eval()
    scale = (system.standardise.running_var + system.standardise.eps).rsqrt()
    weight = system.visual_mapper.weight * scale
    bias = system.visual_mapper.bias - weight @ system.standardise.running_mean
    mapped = system.map_features(visual).tokens
    assert torch.allclose(mapped[mask], (features @ weight.T + bias)[mask], atol=1e-4)


def test_reconstruction_needs_the_autoencoder():
    with pytest.raises(ValueError, match="vision_kind autoencoder"):
        built(vision_kind="backbone")


class TestDistances:
    """How near visual embeddings lie to words (the paper's Figure 4), and what the distance does not tell."""

    def trained(self, tmp_path, variant="/v2t", **fields):
        store = PreparedStore(tiny.tiny_store(tmp_path / "store", studies=20))
        config = override(
            get_recipe(f"bidirectional/phantom{variant}").build(),
            {
                "data": {"transform": {"short_side": 64, "crop": SIDE}},
                "system": {"language_model": {"name": str(tiny_language_model())}},
            },
        )
        return TrainedSystem(built(variant, **fields), config, torch.device("cpu")), store.studies()

    def images(self, trained, study) -> torch.Tensor:
        """E_v of each view of a study `[views, patches, width]`."""
        views = torch.stack(evaluation_views(study, trained.config.data)).unsqueeze(0)
        mask = torch.ones(1, views.size(1), dtype=torch.bool)
        return trained.system.visual_embeddings(views, mask).tokens[0].unflatten(0, (views.size(1), -1))

    @pytest.mark.slow
    @torch.no_grad()
    def test_against_a_plain_transcription(self, tmp_path):
        trained, studies = self.trained(tmp_path)
        found = embedding_distances(trained, studies, progress=False)
        words = trained.system.language_model.model.get_input_embeddings().weight
        expected, means = [], []
        for study in studies:
            visual = self.images(trained, study).flatten(0, 1)
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
        assert found.exchange is None
        assert found.to_json()["report_exchange"] is None

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

    @torch.no_grad()
    def test_the_variance_at_each_patch_position(self, tmp_path):
        """Of views of one projection; views whose projection is unknown are one kind."""
        trained, studies = self.trained(tmp_path)
        studies[0] = replace(
            studies[0], views=tuple(replace(view, projection="unknown") for view in studies[0].views)
        )
        by_projection: dict[str, list[torch.Tensor]] = {}
        for study in studies:
            for view, image in zip(study.views, self.images(trained, study), strict=True):
                by_projection.setdefault(view.projection, []).append(image)
        assert len(by_projection) > 1
        total, patches = 0.0, 0
        for images in map(torch.stack, by_projection.values()):
            total += (images - images.mean(dim=0)).square().sum().item()
            patches += images.shape[0] * images.shape[1]
        found = embedding_distances(trained, studies, progress=False)
        assert found.position_variance == pytest.approx(total / patches, rel=1e-4)
        assert f"mean of the patch position {found.position_variance:.3f}" in str(found)

    @pytest.mark.slow
    @torch.no_grad()
    @pytest.mark.parametrize("vision_kind", ["autoencoder", "r2gen_gpt"])
    def test_consistency_under_own_and_other_reports(self, tmp_path, vision_kind):
        """Study by study, as the training loss has it; the projection stays that of the view."""
        trained, studies = self.trained(tmp_path, "/v2t-t2v", vision_kind=vision_kind, backbone=RESNET)
        # The second report is the first, so that the first study is given the third.
        studies[1] = replace(studies[1], sections=studies[0].sections)
        studies[4] = replace(studies[4], sections={})
        found = embedding_distances(trained, studies, progress=False).exchange
        with_report = [study for study in studies if study.sections]
        assert found.own.shape == found.other.shape == (1, len(studies) - 1, 2)
        system = trained.system
        for row, other in ((0, 2), (1, 2), (2, 3), (len(with_report) - 1, 0)):
            study = with_report[row]
            for sums, giver in ((found.own, study), (found.other, with_report[other])):
                tokens = torch.tensor([system.encode_report(giver.sections["findings"])])
                views = torch.stack(evaluation_views(study, trained.config.data)).unsqueeze(0)
                mask = torch.ones(1, views.size(1), dtype=torch.bool)
                batch = Batch(["a"], views, mask, tokens, torch.zeros(1, 14))
                batch.projections = torch.tensor([projections_of(study, trained.config.data)])
                expected = system(batch).terms["consistency"].item()
                total, count = sums[0, row]
                assert count == (1 if vision_kind == "r2gen_gpt" else len(study.views))
                assert total / count == pytest.approx(expected, rel=1e-4)
        assert found.ratios() == pytest.approx([found.other[0, :, 0].sum() / found.own[0, :, 0].sum()])
        assert f"{found.ratios()[0]:.3f} times as much" in str(found)

    @pytest.mark.slow
    def test_runs_with_and_without_text_to_vision(self, tmp_path):
        trained, studies = self.trained(tmp_path, "/v2t-t2v")
        with_branch = embedding_distances(trained, studies, progress=False)
        both = EmbeddingDistances.of_runs([with_branch, with_branch])
        assert both.exchange.own.shape == (2, len(studies), 2)
        without = replace(with_branch, exchange=None)
        assert EmbeddingDistances.of_runs([with_branch, without]).exchange is None

    @pytest.mark.slow
    def test_one_report_for_all_has_no_other(self, tmp_path):
        trained, studies = self.trained(tmp_path, "/v2t-t2v")
        alike = [replace(study, sections=studies[0].sections) for study in studies]
        assert embedding_distances(trained, alike, progress=False).exchange is None

    def test_a_system_without_language_model(self):
        config = tiny.config("r2gen-cmn/phantom")
        system = tiny.system(config, REPORTS)
        with pytest.raises(RadScribeError, match="no language model"):
            embedding_distances(TrainedSystem(system, config, torch.device("cpu")), [])
