"""CAMANet's equations 5-19, each against a plain NumPy transcription, study by study and loop by loop."""

import math

import numpy as np
import pytest
import tiny
import torch

from radscribe.layers.contrastive import ImageTextMatching
from radscribe.recipes import get_recipe
from radscribe.runs.config import RunConfig
from radscribe.systems.camanet import (
    CAMANetConfig,
    CAMANetTransformer,
    Classifier,
)
from radscribe.systems.encoder_decoder import input_mask
from radscribe.systems.registry import get_system
from radscribe.systems.system import Batch
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import BackboneConfig, VisualTokens

CHANNELS, WIDTH, OBSERVED = 10, 16, 14
#: Two views, one view, a view that is not there, and nothing but one token.
MASKS = {
    "two views": [8, 8, 8],
    "one view": [4, 4, 4],
    "padded views": [8, 4, 4],
    "one token": [1, 1, 1],
}


def run_config(**fields) -> RunConfig:
    backbone = BackboneConfig(architecture="test_byobnet", weights="none")
    sizes = {"backbone": backbone, "width": WIDTH, "feed_forward": 24, "layers": 2, "dropout": 0.0}
    return tiny.config("camanet/phantom", **{**sizes, **fields})


def config(**fields) -> CAMANetConfig:
    return run_config(**fields).system


def network(**fields) -> CAMANetTransformer:
    torch.manual_seed(5)
    built = CAMANetTransformer(config(**fields), CHANNELS, 12).double().eval()
    with torch.no_grad():
        built.discriminative_norm.scale.uniform_(0.5, 1.5)
        built.discriminative_norm.shift.normal_()
        built.classifier.head.weight.mul_(4)
    return built


@pytest.fixture(params=MASKS, ids=lambda name: name.replace(" ", "-"))
def visual(request) -> VisualTokens:
    counts = MASKS[request.param]
    tokens = torch.randn(3, max(counts), CHANNELS, dtype=torch.double)
    mask = torch.arange(max(counts)) < torch.tensor(counts).unsqueeze(1)
    return VisualTokens(tokens * mask.unsqueeze(-1), mask)


def rows(visual: VisualTokens):
    """Each study's real tokens as an array."""
    return [tokens[mask].numpy() for tokens, mask in zip(visual.tokens, visual.mask, strict=True)]


def min_max(values: np.ndarray) -> np.ndarray:
    """Eq. 8 and Eq. 14 for one map."""
    positive = np.maximum(values, 0)
    if positive.max() == positive.min():
        return np.zeros_like(values)
    return (positive - positive.min()) / (positive.max() - positive.min())


class TestVisualDiscriminativeMap:
    """Equations 5 to 9."""

    @torch.no_grad()
    def test_classifier_as_printed(self, visual):
        classifier = network(classifier="softmax").classifier
        weight = classifier.head.weight.numpy()
        assert classifier.head.bias is None
        probabilities = classifier.probabilities(classifier(visual))
        for study, tokens in enumerate(rows(visual)):
            v_g = tokens.sum(axis=0) / len(tokens)  # Eq. 5
            scores = weight @ v_g
            softmax = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()  # Eq. 6
            assert probabilities[study].numpy() == pytest.approx(softmax, abs=1e-6)
            predicted = classifier.predicted(classifier(visual))[study]
            assert predicted.tolist() == [bool(o > 0.5) for o in softmax]  # Eq. 7

    @torch.no_grad()
    def test_classifier_that_predicts_several(self, visual):
        classifier = network().classifier
        weight, bias = classifier.head.weight.numpy(), classifier.head.bias.numpy()
        for study, tokens in enumerate(rows(visual)):
            expected = 1 / (1 + np.exp(-(weight @ tokens.mean(axis=0) + bias)))
            found = classifier.probabilities(classifier(visual))[study].numpy()
            assert found == pytest.approx(expected, abs=1e-6)
        # Two of three observations: what no softmax can say, and Figure 8 of the paper shows.
        assert classifier.predicted(torch.tensor([3.0, 2.0, -1.0])).tolist() == [True, True, False]

    @torch.no_grad()
    @pytest.mark.parametrize("predicted", [[], [3], [0, 3, 9]], ids=["none", "one", "several"])
    def test_map_of_the_paper(self, visual, predicted):
        classifier = network().classifier
        chosen = torch.zeros(3, OBSERVED, dtype=torch.bool)
        chosen[:, predicted] = True
        vdm = classifier.discriminative_map(classifier.activation_maps(visual), chosen, visual.mask)
        for study, tokens in enumerate(rows(visual)):
            maps = [min_max(tokens @ classifier.head.weight[k].numpy()) for k in predicted]  # Eq. 8
            expected = np.max(maps, axis=0) if maps else np.zeros(len(tokens))  # Eq. 9
            assert vdm[study, : len(tokens)].numpy() == pytest.approx(expected, abs=1e-9)
            assert (vdm[study, len(tokens) :] == 0).all()

    @torch.no_grad()
    @pytest.mark.parametrize("predicted", [[], [3], [0, 3, 9]], ids=["none", "one", "several"])
    def test_map_of_the_released_code(self, visual, predicted):
        classifier = network(map_normalisation="joint").classifier
        chosen = torch.zeros(3, OBSERVED, dtype=torch.bool)
        chosen[:, predicted] = True
        vdm = classifier.discriminative_map(classifier.activation_maps(visual), chosen, visual.mask)
        for study, tokens in enumerate(rows(visual)):
            maps = [np.maximum(tokens @ classifier.head.weight[k].numpy(), 0) for k in predicted]
            expected = min_max(np.max(maps, axis=0)) if maps else np.zeros(len(tokens))
            assert vdm[study, : len(tokens)].numpy() == pytest.approx(expected, abs=1e-9)

    def test_no_gradient_passes_through_the_maps(self, visual):
        classifier = network().classifier
        visual.tokens.requires_grad_()
        maps = classifier.activation_maps(visual)
        assert not classifier.discriminative_map(maps, torch.ones(3, 14).bool(), visual.mask).requires_grad


class TestAssistedEncoder:
    """Equations 10 to 12."""

    @torch.no_grad()
    def test_discriminative_token(self, visual):
        built = network()
        vdm = torch.rand(visual.mask.shape, dtype=torch.double) * visual.mask
        token = built.discriminative_token(visual, vdm)
        scale, shift = built.discriminative_norm.scale.numpy(), built.discriminative_norm.shift.numpy()
        for study, tokens in enumerate(rows(visual)):
            r = sum(weight * row for weight, row in zip(vdm[study].numpy(), tokens, strict=False))  # Eq. 10
            normed = scale * (r - r.mean()) / (r.std(ddof=1) + 1e-6) + shift  # Eq. 11
            assert token[study].numpy() == pytest.approx(normed, abs=1e-9)

    @torch.no_grad()
    def test_it_is_one_more_token_of_the_encoder(self, visual):
        built = network()
        vdm = torch.rand(visual.mask.shape, dtype=torch.double) * visual.mask
        encoded = built.encode_beside(visual, vdm)
        r_prime = built.discriminative_token(visual, vdm)
        for study, tokens in enumerate(rows(visual)):
            sequence = torch.cat([r_prime[study : study + 1], torch.from_numpy(tokens)])  # Eq. 12
            alone = torch.ones(1, len(sequence), dtype=torch.bool)
            expected = built.encoder(built.visual_projection(sequence.unsqueeze(0)), alone)[0]
            assert (encoded.discriminative[study] - expected[0]).abs().max() < 1e-9
            assert (encoded.tokens[study, : len(tokens)] - expected[1:]).abs().max() < 1e-9

    @torch.no_grad()
    def test_a_study_without_predicted_observation_still_encodes(self, visual):
        built = network()
        vdm = torch.zeros(visual.mask.shape, dtype=torch.double)
        assert built.encode_beside(visual, vdm).tokens.isfinite().all()
        assert torch.equal(built.discriminative_token(visual, vdm)[0], built.discriminative_norm.shift)


#: Begin and words; the second is padded, the third has one word only.
REPORTS = torch.tensor([[0, 3, 5, 7, 2, 9, 4], [0, 8, 1, 6, 0, 0, 0], [0, 4, 0, 0, 0, 0, 0]])
WORDS = [7, 4, 2]


class TestAttentionConsistency:
    """Equations 13 to 17."""

    @torch.no_grad()
    @pytest.mark.parametrize("share", [0.15, 0.25, 0.35, 1.0])
    def test_words_of_the_paper(self, visual, share):
        built = network(word_share=share)
        encoded = built.encode_beside(visual, visual.mask.double())
        similarity, selected = built.select_words(encoded, REPORTS, input_mask(REPORTS))
        for study, count in enumerate(WORDS):
            r_star, expected = encoded.discriminative[study].numpy(), []
            for position in range(count):
                word = built.embedding.weight[REPORTS[study, position]].numpy() * math.sqrt(WIDTH)
                word = word + built.positions.code[position].numpy()
                expected.append(word @ r_star / np.linalg.norm(word) / np.linalg.norm(r_star))  # Eq. 13
            assert similarity[study, :count].numpy() == pytest.approx(expected, abs=1e-9)
            gamma = math.ceil(share * count)
            assert set(np.argsort(expected)[::-1][:gamma]) == set(selected[study].nonzero()[:, 0].tolist())

    @torch.no_grad()
    def test_words_of_the_released_code(self, visual):
        built = network(word_anchor="first_patch", word_selection="floor", word_share=0.3)
        encoded = built.encode_beside(visual, visual.mask.double())
        similarity, selected = built.select_words(encoded, REPORTS, input_mask(REPORTS))
        anchor = encoded.tokens[0, 0].numpy()
        word = built.embed(REPORTS[0, 1:2])[0].numpy() + built.positions.code[1].numpy()
        expected = word @ anchor / np.linalg.norm(word) / np.linalg.norm(anchor)
        assert similarity[0, 1].item() == pytest.approx(expected, abs=1e-9)
        assert selected.sum(dim=1).tolist() == [min(int(0.3 * 7), math.ceil(0.3 * count)) for count in WORDS]

    @torch.no_grad()
    @pytest.mark.parametrize("normalisation", ["each", "joint"])
    def test_textual_discriminative_map(self, visual, normalisation):
        built = network(map_normalisation=normalisation)
        attention = torch.rand(3, 4, 7, visual.mask.size(1), dtype=torch.double)
        attention = attention * visual.mask[:, None, None, :]
        similarity = torch.randn(3, 7, dtype=torch.double)
        selected = torch.tensor([[1, 0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]]).bool()
        tdm = built.textual_discriminative_map(attention, similarity, selected, visual.mask)
        for study, tokens in enumerate(rows(visual)):
            count = len(tokens)
            maps = [np.zeros(count)]
            for word in selected[study].nonzero()[:, 0].tolist():
                a = attention[study, :, word, :count].mean(dim=0).numpy()
                weight = max(similarity[study, word].item(), 0)
                maps.append(weight * (min_max(a) if normalisation == "each" else a))  # Eq. 14, 16
            expected = np.max(maps, axis=0)
            expected = expected if normalisation == "each" else min_max(expected)
            assert tdm[study, :count].numpy() == pytest.approx(expected, abs=1e-9)
            assert (tdm[study, count:] == 0).all()

    @torch.no_grad()
    @pytest.mark.parametrize("over", ["all", "with_findings"])
    def test_consistency(self, visual, over):
        built = network(consistency_studies=over)
        tdm, vdm = (torch.rand(visual.mask.shape, dtype=torch.double) * visual.mask for _ in range(2))
        labels = torch.zeros(3, OBSERVED)
        labels[0, 4] = 1
        labels[2] = torch.nan
        found = built.consistency(tdm, vdm, visual.mask, labels).item()
        losses = [
            ((tdm[study, : len(tokens)] - vdm[study, : len(tokens)]).numpy() ** 2).sum() / len(tokens)
            for study, tokens in enumerate(rows(visual))
        ]  # Eq. 17
        assert found == pytest.approx(np.mean(losses) if over == "all" else losses[0], abs=1e-12)

    def test_no_study_with_findings_is_no_loss(self):
        built = network(consistency_studies="with_findings")
        maps = torch.rand(2, 4)
        assert built.consistency(maps, 1 - maps, torch.ones(2, 4).bool(), torch.zeros(2, 14)).item() == 0


class TestObjective:
    """Equations 18 and 19, and the comparison with CLIP."""

    LABELS = torch.tensor([[1.0] + [0.0] * 13, [torch.nan] * 7 + [1.0] * 7])

    @torch.no_grad()
    @pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
    def test_classification(self, kind):
        classifier = Classifier(config(classifier=kind), CHANNELS).double()
        logits = torch.randn(2, OBSERVED, dtype=torch.double)
        o = classifier.probabilities(logits).numpy()
        losses = [
            -math.log(o[study, k]) if self.LABELS[study, k] == 1 else -math.log(1 - o[study, k])
            for study in range(2)
            for k in range(OBSERVED)
            if not self.LABELS[study, k].isnan()
        ]
        assert classifier.loss(logits, self.LABELS).item() == pytest.approx(np.mean(losses), abs=1e-6)

    def test_no_label_is_no_loss(self):
        classifier = Classifier(config(), CHANNELS)
        loss = classifier.loss(torch.randn(2, OBSERVED, requires_grad=True), torch.full((2, 14), torch.nan))
        assert loss.item() == 0

    @torch.no_grad()
    def test_total(self):
        fields = {"classification_weight": 0.7, "consistency_weight": 0.3, "clip_weight": 0.2}
        system = tiny.system(run_config(**fields), ["a b c d ."], seed=1)
        views = torch.randint(0, 256, (2, 2, 64, 64), dtype=torch.uint8)
        tokens = torch.tensor([[0, 1, 2, 3, 0], [0, 4, 0, 0, 0]])
        mask = torch.tensor([[True, True], [True, False]])
        losses = system(Batch(["a", "b"], views, mask, tokens, self.LABELS))

        visual = system.backbone(views, mask)
        logprobs = system.network.logprobs(visual, tokens[:, :-1], input_mask(tokens[:, :-1])).numpy()
        targets = [[1, 2, 3, 0], [4, 0]]
        chosen = [logprobs[s, i, word] for s, words in enumerate(targets) for i, word in enumerate(words)]
        assert losses.terms["cross_entropy"].item() == pytest.approx(-np.mean(chosen), abs=1e-5)  # Eq. 18
        terms = losses.terms
        expected = terms["cross_entropy"] + 0.7 * terms["classification"] + 0.3 * terms["consistency"]
        expected = expected + 0.2 * terms["image_text_matching"]
        assert losses.total.item() == pytest.approx(expected.item(), abs=1e-6)  # Eq. 19

    @torch.no_grad()
    @pytest.mark.parametrize("assisted", [True, False], ids=["vdmae", "base"])
    def test_matching_compares_what_the_encoder_reads_with_what_the_decoder_writes(self, assisted):
        """As released: means of what the encoder reads and the decoder writes, a linear head for each."""
        parts = {"vdm_assisted_encoder": assisted, "attention_consistency": False}
        system = tiny.system(run_config(clip_weight=0.2, **parts), ["a b c d ."], seed=1)
        views = torch.randint(0, 256, (2, 2, 64, 64), dtype=torch.uint8)
        tokens = torch.tensor([[0, 1, 2, 3, 0], [0, 4, 0, 0, 0]])
        mask = torch.tensor([[True, True], [True, False]])
        found = system(Batch(["a", "b"], views, mask, tokens, self.LABELS)).terms["image_text_matching"]

        network, visual = system.network, system.backbone(views, mask)
        decoded = network.decode(
            network.encode(visual), visual.mask, tokens[:, :-1], input_mask(tokens[:, :-1])
        ).states
        images, texts = [], []
        for study, words in enumerate([4, 2]):
            read = visual.tokens[study][visual.mask[study]]
            if assisted:
                vdm = network.visual_discriminative_map(visual)
                read = torch.cat([network.discriminative_token(visual, vdm)[study : study + 1], read])
            images.append(system.matching_image(network.visual_projection(read).mean(dim=0)))
            texts.append(system.matching_text(decoded[study, :words].mean(dim=0)))
        expected = system.matching(torch.stack(images), torch.stack(texts))
        assert found.item() == pytest.approx(expected.item(), abs=1e-5)

    def test_image_text_matching(self):
        images, texts = torch.randn(3, 5), torch.randn(3, 5)
        matching = ImageTextMatching()
        with torch.no_grad():
            matching.log_scale.fill_(math.log(2))
        similarity = np.zeros((3, 3))
        for i in range(3):
            for j in range(3):
                a, b = images[i].numpy(), texts[j].numpy()
                similarity[i, j] = 2 * (a @ b) / np.linalg.norm(a) / np.linalg.norm(b)
        by_image = [-math.log(np.exp(similarity[i, i]) / np.exp(similarity[i]).sum()) for i in range(3)]
        by_text = [-math.log(np.exp(similarity[i, i]) / np.exp(similarity[:, i]).sum()) for i in range(3)]
        expected = (np.mean(by_image) + np.mean(by_text)) / 2
        assert matching(images, texts).item() == pytest.approx(expected, abs=1e-5)


class TestVariants:
    def test_base_has_nothing_but_the_memory_driven_transformer(self):
        base = run_config(vdm_assisted_encoder=False, attention_consistency=False)
        system = tiny.system(base, ["a b ."])
        assert not any("classifier" in name or "discriminative" in name for name in system.state_dict())

    def test_consistency_needs_the_assisted_encoder(self):
        with pytest.raises(ValueError, match="needs system.vdm_assisted_encoder"):
            config(vdm_assisted_encoder=False)

    @pytest.mark.parametrize("share", [0, 1.2])
    def test_share_of_words(self, share):
        with pytest.raises(ValueError, match="word_share"):
            config(word_share=share)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("recipe", "logits", "parameters"),
        [
            ("camanet/iu-xray/base", 761, 42_402_937),
            ("camanet/iu-xray", 761, 42_419_335),
            ("camanet/iu-xray/released", 761, 42_419_335),
            ("camanet/mimic-cxr/base", 4337, 46_068_337),
            ("camanet/mimic-cxr", 4337, 46_084_735),
        ],
    )
    def test_paper_size(self, recipe, logits, parameters):
        """CAMANet adds a classifier and a normalisation to Base; Table VII is with MIMIC-CXR's words."""
        built = get_recipe(recipe).build()
        built.system.backbone.weights = "none"
        words = Vocabulary(
            tuple(sorted(["<unk>", *(f"w{number:04}" for number in range(logits - 2))])), "none", 1
        )
        assert words.logits == logits
        system = get_system("camanet").build(built.system, words, 60)
        assert sum(parameter.numel() for parameter in system.parameters()) == parameters


class TestEmptyMaps:
    """A study for which nothing is predicted has an empty VDM, of which training warns."""

    @torch.no_grad()
    def test_share_of_empty_maps(self):
        system = tiny.system(run_config(), ["a b ."], seed=1)
        views = torch.randint(0, 256, (4, 1, 64, 64), dtype=torch.uint8)
        mask, tokens = torch.ones(4, 1, dtype=torch.bool), torch.tensor([[0, 1, 2, 0]] * 4)
        batch = Batch(["a", "b", "c", "d"], views, mask, tokens, torch.zeros(4, OBSERVED))
        head = system.network.classifier.head
        head.weight.abs_()
        for bias, share in ((-1e3, 1.0), (1e3, 0.0)):
            head.bias.fill_(bias)
            assert system(batch).shares["empty_vdm"].item() == share

    @pytest.mark.parametrize(
        ("classifier", "advice"),
        [("softmax", "--system.classifier sigmoid"), ("sigmoid", "--data.labels.uncertain as_present")],
    )
    def test_warning(self, classifier, advice):
        system = tiny.system(run_config(classifier=classifier), ["a ."])
        assert system.warning({"empty_vdm": 0.5}) is None
        assert system.warning({}) is None
        warning = system.warning({"empty_vdm": 0.51})
        assert warning.startswith("51% of the studies")
        assert advice in warning


def test_evidence():
    """Maps, probabilities and important words of the report that is explained."""
    system = tiny.system(run_config(word_share=0.4), ["a b c d e f ."], seed=2)
    views = torch.randint(0, 256, (2, 2, 64, 64), dtype=torch.uint8)
    mask = torch.tensor([[True, True], [True, False]])
    tokens = torch.tensor([[1, 2, 3, 4, 5, 0], [6, 2, 0, 0, 0, 0]])
    evidence = system.explain(views, mask, tokens)
    count = evidence.token_mask.size(1)
    assert evidence.attention.shape == (2, 2, 4, 6, count)
    assert evidence.attention.sum(-1).numpy() == pytest.approx(1, abs=1e-5)
    assert (evidence.attention[1, ..., count // 2 :] == 0).all()
    assert set(evidence.maps) == {"VDM", "TDM"}
    for values in evidence.maps.values():
        assert ((values >= 0) & (values <= 1)).all()
        assert (values[1, count // 2 :] == 0).all()
    assert evidence.activation_maps.shape == (2, 14, count)
    assert evidence.probabilities.shape == (2, 14)
    assert evidence.important.shape == tokens.shape
    assert not evidence.important[1, 2:].any()
