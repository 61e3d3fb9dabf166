"""CmEAA: equations against a NumPy transcription, folding, what trains by what, what drafting leaves out."""

import math

import numpy as np
import pytest
import torch
from tiny_language_models import tiny_language_model

from radscribe.decoding.search import DecodingConfig
from radscribe.errors import RadScribeError
from radscribe.layers.frozen_language_model import Embedded, LanguageModelConfig
from radscribe.layers.rep_adapter import PlainMaps
from radscribe.observations import OBSERVATIONS
from radscribe.parts.phrase_table import Phrase, PhraseList, PhraseTable
from radscribe.systems.cmeaa import STABLE, CmEAA, CmEAAConfig, CrossModalAdapter
from radscribe.systems.study_observations import StudyObservations, as_tensor
from radscribe.systems.system import Batch, pad_tokens
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import BackboneConfig, VisualTokens

REPORTS = ["the heart is normal in size .", "there is a small left pleural effusion .", "no pneumothorax ."]
READINGS = ("up", "wide", "square", "pre")
CHANNELS, WIDTH, K = 8, 12, 6
SIDE = 64
DECODING = DecodingConfig(beams=2, maximum_length=8)


def adapter(seed: int = 0, **fields) -> CrossModalAdapter:
    """In float64 and evaluation mode; nothing of it is 0, as it would be at the start."""
    torch.manual_seed(seed)
    small = {"adapter_width": 4, "aligner_width": K, "enhancement_heads": 2, "adapter_scale": 0.7}
    built = CrossModalAdapter(CmEAAConfig(**{**small, **fields}), CHANNELS, WIDTH).double().eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return built


def visual_tokens() -> VisualTokens:
    """Of three studies; the second lacks two of its five tokens."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:] = False
    tokens = torch.randn(3, 5, CHANNELS, generator=generator, dtype=torch.double) * mask.unsqueeze(-1)
    return VisualTokens(tokens, mask)


def phrases() -> Embedded:
    """Of three studies; the last has none."""
    generator = torch.Generator().manual_seed(2)
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    return Embedded(torch.randn(3, 3, WIDTH, generator=generator, dtype=torch.double), mask)


class Transcription:
    """The equations in NumPy, for one study `[tokens, channels]` at a time.

    Args:
        built: the adapter whose weights are used.
    """

    def __init__(
        self, built: CrossModalAdapter, scale: float = 0.7, heads: int = 2, temperature: float = 10.0
    ):
        self.weights = {name: tensor.numpy() for name, tensor in built.state_dict().items()}
        self.scale, self.heads, self.temperature = scale, heads, temperature

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        scaled = (x - mean) / np.sqrt(variance + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    @staticmethod
    def softmax(x: np.ndarray) -> np.ndarray:
        exponents = np.exp(x - x.max(-1, keepdims=True))
        return exponents / exponents.sum(-1, keepdims=True)

    def attention(self, name: str, x: np.ndarray, memory: np.ndarray) -> np.ndarray:
        queries, keys, values = (
            self.linear(f"{name}.{part}", each)
            for part, each in [("query", x), ("key", memory), ("value", memory)]
        )
        width = x.shape[1] // self.heads
        parts = [slice(head * width, (head + 1) * width) for head in range(self.heads)]
        heads = [self.softmax(queries[:, p] @ keys[:, p].T / math.sqrt(width)) @ values[:, p] for p in parts]
        return self.linear(f"{name}.output", np.concatenate(heads, axis=1))

    def rep_adapter(self, number: int, x: np.ndarray, skip: str) -> np.ndarray:
        """x + s Up(Down(x)), Up in two groups."""
        lowered = self.linear("adapters.down", x)
        weight = self.weights[f"adapters.ups.{number}.up.weight"][:, :, 0]
        half_out, half_in = len(weight) // 2, weight.shape[1]
        raised = np.concatenate(
            [lowered[:, :half_in] @ weight[:half_out].T, lowered[:, half_in:] @ weight[half_out:].T], axis=1
        )
        raised = self.scale * (raised + self.weights[f"adapters.ups.{number}.up.bias"])
        if skip == "linear":
            return self.linear(f"adapters.ups.{number}.skip", x) + raised
        return x + raised if skip == "identity" else raised

    def balance(self, x: np.ndarray) -> np.ndarray:
        """Eq. 1 and 2."""
        return self.softmax(self.linear("weights.linear", x.mean(0)) / self.temperature)

    def read_phrases(self, visual: np.ndarray, phrases: np.ndarray, layers: int = 1) -> np.ndarray:
        """E* (Eq. 9-10), 0 without phrases."""
        if not len(phrases):
            return np.zeros_like(visual)
        same = "enhancement.phrases.weight" not in self.weights
        text = phrases if same else self.linear("enhancement.phrases", phrases)
        for number in range(layers):
            name = f"enhancement.layers.{number}"
            text = self.norm(f"{name}.text_norm", text + self.attention(f"{name}.text", text, text))
            visual = self.norm(
                f"{name}.visual_norm", visual + self.attention(f"{name}.visual", visual, visual)
            )
            visual = self.norm(f"{name}.cross_norm", visual + self.attention(f"{name}.cross", visual, text))
        return visual

    def enhance(self, visual: np.ndarray, phrases: np.ndarray, layers: int = 1) -> np.ndarray:
        """Eq. 7 and 8, with GELU."""
        both = np.concatenate([self.read_phrases(visual, phrases, layers), visual], axis=1)
        hidden = self.linear("enhancement.feed_forward.0", both)
        error_function = np.vectorize(math.erf)
        return self.linear(
            "enhancement.feed_forward.3", hidden * 0.5 * (1 + error_function(hidden / math.sqrt(2)))
        )

    def image(self, vanilla: np.ndarray) -> np.ndarray:
        """C: W1 of the mean token, and b1."""
        return self.linear("aligner.reduce", vanilla.mean(0))

    def align(self, vanilla: np.ndarray) -> np.ndarray:
        """Eq. 13-15: n replicas of X_g."""
        one = self.linear("aligner.expand", self.image(vanilla))
        return np.stack([one for _ in vanilla])

    def statistics(self, number: int, x: np.ndarray, z: np.ndarray) -> float:
        """T of one pair."""
        hidden = np.concatenate([x, z])
        for layer in (0, 2):
            hidden = np.maximum(self.linear(f"aligner.networks.{number}.layers.{layer}", hidden), 0)
        return float(self.linear(f"aligner.networks.{number}.layers.4", hidden)[0])


SKIPS = {
    "up": ("identity", "linear"),
    "wide": ("none", "none"),
    "square": ("identity", "identity"),
    "pre": ("identity", "identity"),
}


def transcribed(built: CrossModalAdapter, reading: str, enhancement: bool = True, aligner: bool = True):
    """X~* of each study (Eq. 3-4), its tokens that are there."""
    plain, visual, given = Transcription(built), visual_tokens(), phrases()
    for study in range(3):
        x = visual.tokens[study][visual.mask[study]].numpy()
        own = given.embeddings[study][given.mask[study]].numpy()
        tokens = plain.linear("before", x) if reading == "pre" else x
        skip_d, skip_u = SKIPS[reading]
        vanilla = total = plain.rep_adapter(int(enhancement), tokens, skip_u)
        if enhancement:
            first, second = plain.balance(x)
            total = first * plain.enhance(plain.rep_adapter(0, tokens, skip_d), own) + second * vanilla
        if aligner:
            total = total + plain.align(vanilla)
        if reading == "square":
            total = plain.linear("after", total)
        yield plain.norm("norm", total)


class TestAdapter:
    @pytest.mark.parametrize("reading", READINGS)
    @pytest.mark.parametrize(("enhancement", "aligner"), [(True, True), (True, False), (False, True)])
    def test_equations_1_to_4_and_7_to_15(self, reading, enhancement, aligner):
        built = adapter(reading=reading, enhancement=enhancement, aligner=aligner)
        visual = visual_tokens()
        with torch.no_grad():
            tokens = built(visual, phrases()).tokens
        for study, expected in enumerate(transcribed(built, reading, enhancement, aligner)):
            assert np.abs(tokens[study][visual.mask[study]].numpy() - expected).max() < 1e-12

    @pytest.mark.parametrize("reading", READINGS)
    def test_without_both_it_is_the_linear_layer_of_the_base(self, reading):
        """Model (a) of Table 2."""
        built = adapter(reading=reading, enhancement=False, aligner=False)
        assert {name.split(".")[0] for name, _ in built.named_parameters()} == {"before", "norm"}
        visual = visual_tokens()
        with torch.no_grad():
            assert torch.equal(built(visual).tokens, built.norm(built.before(visual.tokens)))

    def test_weights_are_of_the_mean_of_unadapted_tokens(self):
        built, visual = adapter(), visual_tokens()
        with torch.no_grad():
            weights = built(visual, phrases()).weights
            for parameter in [*built.adapters.parameters(), *built.enhancement.parameters()]:
                parameter.mul_(2)
            assert torch.equal(built(visual, phrases()).weights, weights)
        plain = Transcription(built)
        for study in range(3):
            expected = plain.balance(visual.tokens[study][visual.mask[study]].numpy())
            assert np.abs(weights[study].numpy() - expected).max() < 1e-12

    def test_a_temperature_of_ten_makes_weights_nearly_equal(self):
        built = adapter()
        with torch.no_grad():
            built.weights.linear.weight.zero_()
            built.weights.linear.bias.copy_(torch.tensor([1.0, 0.0]))
            weights = built(visual_tokens(), phrases()).weights
        assert weights[0].tolist() == pytest.approx([0.525, 0.475], abs=1e-4)

    def test_weights_have_32_bits_in_mixed_precision(self):
        built = adapter().float()
        visual = visual_tokens()
        half = visual._replace(tokens=visual.tokens.bfloat16())
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            weights = built.weights(half)
        assert weights.dtype == torch.float32
        exact = built.weights(visual._replace(tokens=half.tokens.float()))
        assert (weights - exact).abs().max() < 1e-3

    def test_the_pair_starts_as_the_linear_map_of_the_base(self):
        """f_d is the identity, and f_u model (a): the variants are nested."""
        torch.manual_seed(0)
        built = CrossModalAdapter(CmEAAConfig(), 64, 32)
        x = torch.randn(2, 5, 64)
        with torch.no_grad():
            enhanced, vanilla = built.adapters(x)
            assert torch.equal(enhanced, x)
            assert torch.equal(vanilla, built.adapters.ups[1].skip(x))

    def test_without_a_skip_tokens_differ_at_the_start(self):
        torch.manual_seed(0)
        built = CrossModalAdapter(CmEAAConfig(reading="wide"), 64, 32).eval()
        for given in built.adapters(torch.randn(1, 5, 64)):
            assert torch.pdist(given[0]).min() > 1e-2

    @pytest.mark.parametrize(
        ("reading", "millions"), [("up", 37.3), ("wide", 256.1), ("square", 29.4), ("pre", 259.7)]
    )
    def test_parameters_at_the_paper_size(self, reading, millions):
        with torch.device("meta"):
            built = CrossModalAdapter(CmEAAConfig(reading=reading), 1024, 4096)
        assert round(sum(p.numel() for p in built.parameters()) / 1e6, 1) == millions

    def test_parameters_of_model_a_at_the_paper_size(self):
        with torch.device("meta"):
            built = CrossModalAdapter(CmEAAConfig(enhancement=False, aligner=False), 1024, 4096)
        assert sum(p.numel() for p in built.before.parameters()) == 4_198_400


class TestFolding:
    @pytest.mark.parametrize("reading", READINGS)
    @pytest.mark.parametrize(("dtype", "error"), [(torch.double, 1e-12), (torch.float, 1e-5)])
    def test_it_changes_nothing_but_rounding(self, reading, dtype, error):
        built = adapter(reading=reading).to(dtype)
        visual = visual_tokens()
        visual = visual._replace(tokens=visual.tokens.to(dtype))
        given = phrases()._replace(embeddings=phrases().embeddings.to(dtype))
        with torch.no_grad():
            pair, whole = built.adapters(built.before(visual.tokens)), built(visual, given).tokens
            built.fold()
            assert isinstance(built.adapters, PlainMaps)
            for before, after in zip(pair, built.adapters(built.before(visual.tokens)), strict=True):
                assert (before - after).abs().max() < error
            assert (built(visual, given).tokens - whole).abs().max() < error

    def test_each_map_is_skip_plus_the_product_of_the_shared_down_and_its_own_up(self):
        built = adapter()
        down, (up_d, up_u) = built.adapters.down, built.adapters.ups
        built.fold()
        for folded, up, skip in [
            (built.adapters[0], up_d, torch.eye(CHANNELS, dtype=torch.double)),
            (built.adapters[1], up_u, up_u.skip.weight),
        ]:
            groups = up.up.weight.squeeze(-1)
            half = len(groups) // 2
            dense = torch.zeros(2 * half, 4, dtype=torch.double)
            dense[:half, :2], dense[half:, 2:] = groups[:half], groups[half:]
            assert (folded.weight - (skip + 0.7 * dense @ down.weight)).abs().max() < 1e-12

    def test_a_single_adapter_folds_too(self):
        built = adapter(enhancement=False)
        visual = visual_tokens()
        with torch.no_grad():
            before = built(visual).tokens
            built.fold()
            assert (built(visual).tokens - before).abs().max() < 1e-12


class TestEnhancement:
    def test_several_layers(self):
        built, visual, given = adapter(enhancement_layers=2), visual_tokens(), phrases()
        plain = Transcription(built)
        with torch.no_grad():
            enhanced = built.enhancement(visual.tokens, visual.mask, given).tokens
        for study in range(3):
            there = visual.mask[study]
            own = given.embeddings[study][given.mask[study]].numpy()
            expected = plain.enhance(visual.tokens[study][there].numpy(), own, layers=2)
            assert np.abs(enhanced[study][there].numpy() - expected).max() < 1e-12

    @pytest.mark.parametrize("slots", [3, 0])
    def test_without_a_phrase_it_reads_0_and_gradients_are_finite(self, slots):
        built, visual = adapter().train(), visual_tokens()
        given = Embedded(
            torch.randn(3, slots, WIDTH, dtype=torch.double), torch.zeros(3, slots, dtype=torch.bool)
        )
        tokens = visual.tokens.requires_grad_()
        assert torch.equal(
            built.enhancement.attended(tokens, visual.mask, given).tokens, torch.zeros_like(tokens)
        )
        built(visual, given).tokens.square().sum().backward()
        gradients = [p.grad for p in built.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in [*gradients, tokens.grad])

    def test_a_study_without_phrases_beside_others_that_have_some(self):
        built, visual, given = adapter().train(), visual_tokens(), phrases()
        attended = built.enhancement.attended(visual.tokens, visual.mask, given).tokens
        assert not attended[2].any()
        assert attended[:2].any()
        attended.square().sum().backward()
        for name, parameter in built.enhancement.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), name

    def test_what_is_masked_changes_nothing(self):
        built, visual, given = adapter(), visual_tokens(), phrases()
        with torch.no_grad():
            before = built(visual, given)
            visual.tokens[~visual.mask] = 0  # as a backbone leaves them
            given.embeddings[~given.mask] = 9.0
            longer = Embedded(
                torch.nn.functional.pad(given.embeddings, (0, 0, 0, 2)),
                torch.nn.functional.pad(given.mask, (0, 2)),
            )
            after = built(visual, longer)
        assert (before.tokens - after.tokens)[visual.mask].abs().max() < 1e-12

    def test_the_order_of_phrases_changes_nothing(self):
        built, visual, given = adapter(), visual_tokens(), phrases()
        turned = Embedded(given.embeddings.flip(1), given.mask.flip(1))
        with torch.no_grad():
            difference = built(visual, given).tokens - built(visual, turned).tokens
        assert difference[visual.mask].abs().max() < 1e-12

    def test_heads_that_do_not_divide_the_width(self):
        with pytest.raises(RadScribeError, match="enhancement_heads 3 does not divide .* 8"):
            adapter(enhancement_heads=3)


def words() -> Embedded:
    generator = torch.Generator().manual_seed(5)
    mask = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
    return Embedded(torch.randn(3, 3, WIDTH, generator=generator, dtype=torch.double), mask)


class TestAligner:
    @pytest.mark.parametrize("estimator", ["dv", "dv_ema", "jsd", "infonce"])
    @pytest.mark.parametrize("pairing", ["fused", "direct"])
    @pytest.mark.parametrize("shared_critic", [True, False])
    def test_algorithm_1(self, estimator, pairing, shared_critic):
        """The loss of three studies, each with the Z of the one before it as its marginal."""
        built = adapter(estimator=estimator, pairing=pairing, shared_critic=shared_critic)
        aligner, visual, given = built.aligner, visual_tokens(), words()
        plain = Transcription(built)
        with torch.no_grad():
            vanilla = built.adapters(visual.tokens)[1]
            loss, shuffled = aligner.loss(aligner(vanilla, visual.mask).image, given)

        images = [plain.image(vanilla[study][visual.mask[study]].numpy()) for study in range(3)]
        reports = [
            plain.linear("aligner.report", given.embeddings[study][given.mask[study]].mean(0).numpy())
            for study in range(3)
        ]

        def objective(reports):
            fused = [image + report for image, report in zip(images, reports, strict=True)]
            terms = [(images, fused), (reports, fused)] if pairing == "fused" else [(images, reports)]
            return sum(
                self.plain_objective(plain, 0 if shared_critic else number, estimator, x, z)
                for number, (x, z) in enumerate(terms)
            )

        assert loss.item() == pytest.approx(-objective(reports), abs=1e-11)
        assert shuffled.item() == pytest.approx(-objective([reports[2], *reports[:2]]), abs=1e-11)

    @staticmethod
    def plain_objective(plain, number, estimator, x, z):
        scores = np.array([[plain.statistics(number, a, b) for b in z] for a in x])
        joint, marginal = scores.diagonal(), np.array([scores[i, i - 1] for i in range(3)])
        if estimator == "jsd":
            return 2 * math.log(2) - np.log1p(np.exp(-joint)).mean() - np.log1p(np.exp(marginal)).mean()
        if estimator == "infonce":
            return np.mean(
                [math.log(3 * math.exp(row[i]) / np.exp(row).sum()) for i, row in enumerate(scores)]
            )
        return joint.mean() - math.log(np.exp(marginal).mean())  # Eq. 12

    def test_its_loss_trains_no_visual_token_and_not_w2(self):
        built, visual = adapter().train(), visual_tokens()
        adapted = built(visual, phrases())
        loss, _ = built.aligner.loss(adapted.image, words())
        # The gradient of the main loss is what the bound's is clipped to.
        loss.backward(retain_graph=True)
        assert all(p.grad is None for p in built.adapters.parameters())
        assert built.aligner.expand.weight.grad is None
        assert built.aligner.report.weight.grad.any()
        assert built.aligner.networks[0].layers[0].weight.grad.any()
        adapted.tokens.square().sum().backward()
        assert built.aligner.expand.weight.grad.any()
        assert built.adapters.down.weight.grad.any()

    @pytest.mark.parametrize("weight", [1e3, 1e-3])
    def test_the_gradient_of_w1_is_clipped_to_the_norm_of_the_main_loss(self, weight):
        built, visual = adapter(estimator="jsd"), visual_tokens()
        reduce = built.aligner.reduce

        def losses():
            adapted = built(visual, phrases())
            main = (adapted.tokens * torch.arange(WIDTH)).sin().sum()
            return main, weight * built.aligner.loss(adapted.image, words())[0]

        def gradients(*terms):
            reduce.zero_grad()
            sum(terms).backward()
            return torch.cat([reduce.weight.grad.flatten(), reduce.bias.grad])

        main = gradients(losses()[0])
        vanilla = built.adapters(visual.tokens)[1].detach()
        pooled = torch.stack([vanilla[i][visual.mask[i]].mean(0) for i in range(3)])
        plain = (
            weight * built.aligner.loss(torch.nn.functional.linear(pooled, *reduce.parameters()), words())[0]
        )
        unclipped = gradients(plain)
        both = gradients(*losses())
        scale = min(1.0, (main.norm() / unclipped.norm()).item())
        assert (scale < 1) == (weight > 1)
        assert (both - (main + scale * unclipped)).norm() < 1e-9 * main.norm()
        share = (unclipped.norm() / (main.norm() + unclipped.norm())).item()
        assert reduce.gradient_share.item() == pytest.approx(share, rel=1e-6)

    def test_the_running_mean_stands_in_the_denominator_of_the_gradient(self):
        """Each term has its own, which begins with the first batch."""
        built = adapter(estimator="dv_ema", marginals="all_pairs").train()
        first, second = built.aligner.objectives
        network = built.aligner.networks[0]
        x, z = torch.randn(2, 3, K, dtype=torch.double, generator=torch.Generator().manual_seed(7))

        def scores(shift):
            matrix = network.all_pairs(x + shift, z)
            return matrix.diagonal(), matrix[~torch.eye(3, dtype=torch.bool)]

        means = []
        for shift in (0.0, 0.5):
            network.zero_grad()
            bound = first(network, x + shift, z, z[:0])
            bound.backward()
            found = network.layers[0].weight.grad.clone()
            joint, marginal = scores(shift)
            assert bound.item() == pytest.approx((joint.mean() - marginal.exp().mean().log()).item())
            batch = marginal.exp().mean()
            means.append(batch.item() if not means else 0.99 * means[-1] + 0.01 * batch.item())
            network.zero_grad()
            (joint.mean() - batch / means[-1]).backward()
            assert (found - network.layers[0].weight.grad).abs().max() < 1e-5 * found.abs().max()
            assert first.log_mean.exp().item() == pytest.approx(means[-1], rel=1e-5)
        assert second.log_mean.isinf()

    @pytest.mark.parametrize("marginals", ["permutation", "derangement", "all_pairs"])
    @pytest.mark.parametrize("estimator", ["dv", "dv_ema", "jsd", "infonce"])
    def test_a_study_alone_is_compared_with_itself(self, marginals, estimator):
        built = adapter(marginals=marginals, estimator=estimator).train()
        x = torch.randn(1, K, dtype=torch.double)
        loss, _ = built.aligner.loss(x, Embedded(words().embeddings[:1], words().mask[:1]))
        assert loss.isfinite()
        assert estimator == "jsd" or loss.item() == pytest.approx(0, abs=1e-12)

    def test_the_queue_holds_the_newest_vectors_and_enlarges_the_comparison(self):
        built = adapter(queue=4, marginals="all_pairs", estimator="infonce").train()
        aligner = built.aligner
        images = torch.randn(2, 3, K, dtype=torch.double, generator=torch.Generator().manual_seed(3))
        report = aligner.report(torch.stack([e[m].mean(0) for e, m in zip(*words(), strict=True)]))
        aligner.loss(images[0], words())
        assert int(aligner.filled) == 3
        assert (aligner.past[:3] - (images[0] + report)).abs().max() < 1e-12
        with torch.no_grad():
            loss, _ = aligner.loss(images[1], words())
        assert int(aligner.filled) == 3  # nothing is kept where nothing trains
        other = torch.cat([images[1] + report, images[0] + report])
        expected = sum(
            (own.diagonal() - own.logsumexp(1)).mean() + math.log(6)
            for own in (aligner.networks[0].all_pairs(x, other) for x in (images[1], report))
        )
        assert loss.item() == pytest.approx(-expected.item(), abs=1e-11)
        aligner.loss(images[1], words())
        kept = torch.cat([images[1] + report, images[0][:1] + report[:1]])
        assert int(aligner.filled) == 4
        assert (aligner.past - kept).abs().max() < 1e-12

    @pytest.mark.parametrize("estimator", ["dv", "dv_ema", "jsd", "infonce"])
    def test_scores_of_50_in_16_bits_are_numbers(self, estimator):
        built = adapter(estimator=estimator, queue=4).float().train()
        network = built.aligner.networks[0]
        with torch.no_grad():
            for layer in (0, 2):
                network.layers[layer].weight.normal_()
            network.layers[4].weight.copy_(50 * torch.sign(torch.randn(1, 512)) / 4)
        given = Embedded(words().embeddings.float(), words().mask)
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16):
                image = built.aligner(4 * torch.randn(3, 5, WIDTH), visual_tokens().mask).image
                loss, shuffled = built.aligner.loss(image, given)
                scores = network.all_pairs(image, image)
            assert scores.abs().max() > 50
            loss.backward()
            assert loss.isfinite()
            assert shuffled.isfinite()
            assert loss.dtype == torch.float32
            assert all(p.grad.isfinite().all() for p in network.parameters())


# --- the system -------------------------------------------------------------------------------------------


def language_model() -> LanguageModelConfig:
    return LanguageModelConfig(name=str(tiny_language_model()))


def phrase_table() -> PhraseTable:
    """Three phrases; one of them belongs to two labels, and no label of No Finding has one."""

    def of(*phrases: str) -> PhraseList:
        return PhraseList(5, tuple(Phrase(phrase, 1.0, 3, 4) for phrase in phrases))

    effusion = ("Pleural Effusion", "positive")
    clear = ("Pleural Effusion", "negative")
    return PhraseTable(
        "reports",
        {
            effusion: of("effusion", "small left"),
            clear: of("clear", "small left"),
            ("Edema", "negative"): of("clear"),
        },
    )


class BrightOrDark:
    """Finds observations by the brightness of views: an effusion in dark ones, none in black ones."""

    def observe(self, views: torch.Tensor, view_mask: torch.Tensor) -> list[StudyObservations]:
        means = (views.float().mean((2, 3)) * view_mask).sum(1) / view_mask.sum(1)
        found = [{} if mean <= 1 else {"Pleural Effusion": mean <= 100} for mean in means.tolist()]
        return [
            StudyObservations(labels, dict.fromkeys(labels, "probability"), dict.fromkeys(OBSERVATIONS, 0.5))
            for labels in found
        ]


def built(**fields) -> CmEAA:
    """A tiny system in evaluation mode, whose adapter is no identity any more."""
    config = CmEAAConfig(
        backbone=BackboneConfig(architecture="test_resnet", weights="none"),
        language_model=language_model(),
        **{"aligner_width": 8, **fields},
    )
    torch.manual_seed(0)
    vocabulary = Vocabulary.build(REPORTS, "iu_xray", 1)
    system = CmEAA(config, vocabulary, 60).eval()
    if config.enhancement:
        system.read(phrase_table())
        system.observer = BrightOrDark()
    with torch.no_grad():
        for name, parameter in system.adapter.named_parameters():
            if ".up." in name:
                parameter.normal_(std=0.3)
    return system


def batch_of(system: CmEAA) -> Batch:
    tokens = pad_tokens([system.encode_report(report) for report in REPORTS])
    views = torch.randint(
        0, 256, (3, 2, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    views[1] //= 4
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    return Batch(["a", "b", "c"], views, mask, tokens, as_tensor(BrightOrDark().observe(views, mask)))


VARIANTS = [
    {},
    {"enhancement": False},
    {"aligner": False},
    {"enhancement": False, "aligner": False},
    {"views": "concatenate"},
    {"reading": "wide", "views": "concatenate", "estimator": "jsd", "pairing": "direct"},
    {"reading": "square", "frozen_backbone": False, "estimator": "infonce", "shared_critic": False},
    {"reading": "pre", "estimator": "dv_ema", "marginals": "derangement", "queue": 4},
]


@pytest.fixture(params=VARIANTS, ids=lambda fields: "-".join(map(str, fields.values())) or "default")
def system(request):
    return built(**request.param)


class TestSystem:
    def test_a_batch_gives_what_single_studies_give(self, system):
        batch = batch_of(system)
        together = system.generate(batch.views, batch.view_mask, DECODING)
        for row in range(3):
            present = int(batch.view_mask[row].sum())
            alone = system.generate(
                batch.views[row : row + 1, :present], torch.ones(1, present, dtype=torch.bool), DECODING
            )
            assert alone.texts == together.texts[row : row + 1]
            assert (alone.token_logprobs - together.token_logprobs[row]).abs().max() < 1e-5

    def test_what_stands_in_an_absent_view_changes_nothing(self, system):
        batch = batch_of(system)
        before = system.generate(batch.views, batch.view_mask, DECODING)
        batch.views[1, 1] = 255
        after = system.generate(batch.views, batch.view_mask, DECODING)
        assert torch.equal(before.token_logprobs, after.token_logprobs)

    def test_padding_of_reports_changes_no_loss(self, system):
        batch = batch_of(system)
        with torch.no_grad():
            before = system(batch)
            batch.tokens = torch.nn.functional.pad(batch.tokens, (0, 4))
            after = system(batch)
        for name, term in before.terms.items():
            assert after.terms[name].item() == pytest.approx(term.item(), rel=1e-5, abs=1e-5)

    def test_what_trains_gets_a_gradient(self, system):
        system.train()
        system(batch_of(system)).total.backward()
        wrong = [name for name, p in system.named_parameters() if (p.grad is not None) != p.requires_grad]
        assert wrong == []
        frozen = {name.split(".")[0] for name, p in system.named_parameters() if not p.requires_grad}
        assert frozen == (
            {"language_model", "backbone"} if system.config.frozen_backbone else {"language_model"}
        )

    @pytest.mark.slow
    def test_a_few_steps_lower_the_loss(self, system):
        system.train()
        optimizer = torch.optim.Adam([p for p in system.parameters() if p.requires_grad], lr=3e-3)
        batch, losses = batch_of(system), []
        for _ in range(40):
            losses.append(system(batch).terms["cross_entropy"].item())
            optimizer.zero_grad()
            system(batch).total.backward()
            optimizer.step()
        assert losses[-1] < 0.9 * losses[0]

    def test_the_total_is_equation_16(self):
        system = built(alignment_weight=0.3)
        with torch.no_grad():
            losses = system(batch_of(system))
        expected = losses.terms["cross_entropy"] + 0.3 * losses.terms["alignment"]
        assert losses.total.item() == pytest.approx(expected.item(), rel=1e-6)
        assert 0 < losses.shares["weight_of_enhanced"].item() < 1

    def test_drafting_reads_no_report_and_asks_no_statistics_network(self):
        system, calls = built(), []
        aligner = system.adapter.aligner
        for name, module in [("report", aligner.report), ("T", aligner.networks[0]), ("W1", aligner.expand)]:
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
        batch = batch_of(system)
        system.generate(batch.views, batch.view_mask, DECODING)
        assert calls == ["W1"]
        calls.clear()
        with torch.no_grad():
            system(batch)
        assert set(calls) == {"report", "T", "W1"}

    def test_folding_changes_no_draft(self, system):
        batch = batch_of(system)
        before = system.generate(batch.views, batch.view_mask, DECODING)
        system.fold()
        after = system.generate(batch.views, batch.view_mask, DECODING)
        assert before.texts == after.texts
        assert (before.token_logprobs - after.token_logprobs).abs().max() < 1e-4

    def test_reports_are_embedded_without_begin_and_end(self):
        """The vector of a report is the mean of the embeddings of its words alone."""
        system, seen = built(), []
        system.adapter.aligner.report.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
        batch = batch_of(system)
        with torch.no_grad():
            system(batch)
            table = system.language_model.model.get_input_embeddings()
            for row, report in enumerate(REPORTS):
                ids = system.tokenizer.encode(report)
                assert (seen[0][row] - table(torch.tensor(ids)).mean(0)).abs().max() < 1e-5

    def test_phrases_are_means_of_word_embeddings(self):
        system = built()
        assert system.phrases.texts == ("clear", "effusion", "small left")
        ids = torch.tensor(system.tokenizer.encode("small left"))
        table = system.language_model.model.get_input_embeddings()
        assert (system.phrases.vectors[2] - table(ids).mean(0)).abs().max() < 1e-6

    def test_the_phrases_of_a_study_are_those_of_its_labels_each_once(self):
        labels = torch.full((5, 14), torch.nan)
        effusion, edema = OBSERVATIONS.index("Pleural Effusion"), OBSERVATIONS.index("Edema")
        labels[0, effusion] = 1
        labels[1, effusion] = labels[2, effusion] = labels[2, edema] = labels[3, edema] = 0
        found = built().phrases(labels)
        by_study = [[bool(each) for each in row] for row in found.mask]
        # Of a study without a label, the phrases of No Finding would be read, and there are none.
        assert by_study == [
            [False, True, True],
            [True, False, True],
            [True, False, True],
            [True, False, False],
            [False, False, False],
        ]
        assert found.embeddings.shape == (5, 3, 32)

    def test_a_study_without_a_label_reads_the_phrases_of_no_finding(self):
        system, table = built(), phrase_table()
        lists = dict(table.lists) | {("No Finding", "positive"): PhraseList(9, (Phrase("no", 1.0, 3, 4),))}
        system.read(PhraseTable("reports", lists))
        nothing, absent = torch.full((1, 14), torch.nan), torch.full((1, 14), torch.nan)
        absent[0, OBSERVATIONS.index("Fracture")] = 0  # a label without a phrase
        for labels in (nothing, absent):
            found = system.phrases(labels)
            chosen = zip(system.phrases.texts, found.mask[0], strict=True)
            assert [text for text, here in chosen if here] == ["no"]

    def test_phrases_change_the_draft(self):
        system = built()
        batch = batch_of(system)
        before = system.generate(batch.views, batch.view_mask, DECODING)
        system.read(PhraseTable("reports", {}))
        after = system.generate(batch.views, batch.view_mask, DECODING)
        assert before.token_logprobs.isfinite().all()
        assert after.token_logprobs.isfinite().all()
        assert not torch.equal(before.token_logprobs, after.token_logprobs)

    def test_what_was_read_is_evidence(self):
        system = built()
        batch = batch_of(system)
        tokens = system.generate(batch.views, batch.view_mask, DECODING).tokens
        read = system.explain(batch.views, batch.view_mask, tokens).phrases
        assert [dict(study.labels) for study in read.observations] == [
            {"Pleural Effusion": False},
            {"Pleural Effusion": True},
            {"Pleural Effusion": False},
        ]
        assert read.chosen.tolist() == [[True, False, True], [False, True, True], [True, False, True]]
        assert (read.weights.sum(1) - 1).abs().max() < 1e-6
        grid = 2 * 2  # of 64 pixels
        of_first_view = read.attention[1, :, :grid]
        # Averaged tokens: a token's attention is shared among the views that were averaged.
        assert (of_first_view.sum(0) - 1).abs().max() < 1e-5
        assert (read.attention[0].sum(0) - 0.5).abs().max() < 1e-5
        assert read.attention[1, 0].abs().max() == 0

    def test_the_prompt_is_that_of_appendix_a3(self):
        system = built()
        batch = batch_of(system)
        prompt = system.prompt(system.visual_embeddings(batch.views, batch.view_mask))
        assert system.tokenizer.decode(prompt.before.tolist()).replace(" ", "") == "Human:<Img>"
        after = system.tokenizer.decode(prompt.after.tolist())
        assert after.startswith("</Img>, Generate a comprehensive")
        assert after.endswith("image.\nAssistant:")

    def test_without_parts(self):
        config = CmEAAConfig(
            backbone=BackboneConfig(architecture="test_resnet", weights="none"),
            language_model=language_model(),
        )
        system = CmEAA(config, Vocabulary.build(REPORTS, "iu_xray", 1), 60)
        batch = batch_of(system)
        for use in (
            lambda: system.generate(batch.views, batch.view_mask, DECODING),
            lambda: system(batch),
        ):
            with pytest.raises(RadScribeError, match="CFE needs phrases .* --system.enhancement false"):
                use()

    def test_the_own_report_is_found_by_the_statistics_networks(self):
        """Trained on three studies, they tell whose report is whose; untrained, they cannot."""
        system = built(enhancement=False, estimator="jsd", alignment_weight=1.0).train()
        batch = batch_of(system)
        batch.views[2] //= 32
        optimizer = torch.optim.Adam([p for p in system.parameters() if p.requires_grad], lr=3e-3)
        for _ in range(150):
            optimizer.zero_grad()
            system(batch).total.backward()
            optimizer.step()
        system.eval()
        images = system.image_vectors(batch.views, batch.view_mask)
        assert images.shape == (3, 8)
        assert system.match_reports(images, batch.tokens).argmax(1).tolist() == [0, 1, 2]
        assert built(aligner=False).image_vectors(batch.views, batch.view_mask) is None

    def test_a_bound_that_diverges_is_stopped(self):
        """At a rate beyond all measure it does so at once; the error names the way out, which holds."""
        for fields, diverges in [({}, True), (STABLE, False)]:
            system = built(enhancement=False, **fields).train()
            optimizer = torch.optim.SGD(system.adapter.aligner.networks.parameters(), lr=1e4)
            batch, stopped = batch_of(system), None
            for _ in range(20):
                try:
                    loss = system(batch).total
                except RadScribeError as error:
                    stopped = str(error)
                    break
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            assert (stopped is not None) == diverges
            if diverges:
                assert "dv, diverged" in stopped
                assert "preset stable" in stopped
                assert "--system.estimator jsd --system.alignment_weight 0.1" in stopped


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"adapter_width": 3}, "system.adapter_width 3 must be divisible by the two groups, 2"),
        ({"temperature": 0.0}, "system.temperature must be above 0"),
        ({"alignment_weight": -1.0}, "system.alignment_weight must be at least 0"),
        ({"queue": -1}, "system.queue must be at least 0"),
    ],
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        CmEAAConfig(**fields)
