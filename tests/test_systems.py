"""Every registered system, built tiny, through one suite."""

import dataclasses

import pytest
import tiny
import torch

from radscribe.decoding.search import DecodingConfig
from radscribe.layers.hopfield import HopfieldConfig
from radscribe.observations import OBSERVATIONS
from radscribe.recipes import get_recipe
from radscribe.systems.registry import SYSTEMS, get_system
from radscribe.systems.system import Batch, pad_tokens
from radscribe.text.observation_labeller import label_report
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import VisualTokens

REPORTS = ["the heart is normal in size .", "there is a small left pleural effusion .", "no pneumothorax ."]


def built(name: str, **fields):
    """A tiny system in evaluation mode; a Transformer of its own has two layers, which can differ."""
    config = tiny.config(f"{name}/phantom")
    if config.system.language_model is None:
        fields = {"layers": 2, "dropout": 0.0, **fields}
    if fields.get("alignment") == "delta":
        config.system.backbone.architecture = "test_vit"
    config.system = dataclasses.replace(config.system, **fields)
    return tiny.system(config, REPORTS)


def logprobs_of(system, batch: Batch, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities `[studies, length, tokens]` of what follows `tokens`, teacher-forced in one pass."""
    with torch.inference_mode():
        if system.tokenizer is None:
            mask = torch.ones_like(tokens, dtype=torch.bool)
            return system.network.logprobs(system.backbone(batch.views, batch.view_mask), tokens, mask)
        prompt = system.prompt(system.visual_embeddings(batch.views, batch.view_mask))
        return system.language_model.token_logprobs(system.language_model.logits(prompt, tokens))


VARIANTS = [
    ("r2gen", {"memory_slots": 3}),
    ("r2gen", {"memory": False}),
    ("r2gen-cmn", {"memory_size": 24, "top_k": 5}),
    ("r2gen-cmn", {"memory_size": 24, "top_k": 5, "memory_input": "responses", "encoder_positions": False}),
    ("r2gen-cmn", {"memory_size": 24, "top_k": 24, "memory": "separate"}),
    ("r2gen-cmn", {"memory": "none"}),
    ("camanet", {"classifier": "sigmoid"}),
    ("camanet", {"classifier": "softmax", "clip_weight": 0.1}),
    (
        "camanet",
        {
            "classifier": "sigmoid",
            "map_normalisation": "joint",
            "word_anchor": "first_patch",
            "word_selection": "floor",
            "consistency_studies": "with_findings",
        },
    ),
    ("camanet", {"attention_consistency": False, "vdm_assisted_encoder": False}),
    ("r2gen-gpt", {"alignment": "shallow", "views": "average"}),
    ("r2gen-gpt", {"alignment": "delta", "views": "concatenate"}),
    ("r2gen-gpt", {"alignment": "deep", "views": "concatenate"}),
    ("r2gen-gpt", {"alignment": "deep", "views": "average"}),
    ("bidirectional", {"text_to_vision": True}),
    ("bidirectional", {"text_to_vision": True, "reconstruction": False, "vision_kind": "backbone"}),
    ("bidirectional", {"text_to_vision": True, "reconstruction": False, "vision_kind": "r2gen_gpt"}),
    ("bidirectional", {"text_to_vision": False, "reconstruction": False, "clip_weight": 1.0}),
    ("cmeaa", {"reading": "up", "views": "average", "frozen_backbone": True}),
    ("cmeaa", {"reading": "wide", "estimator": "dv", "pairing": "direct"}),
    ("cmeaa", {"enhancement": False, "aligner": True}),
    ("cmeaa", {"enhancement": True, "aligner": False}),
    ("cmeaa", {"enhancement": False, "aligner": False}),
    ("am-mrg", {"encoder": "stage-1", "query_former": "stage-1"}),
    ("am-mrg", {"encoder": "own", "query_former": "stage-1", "order": "blocks"}),
    ("am-mrg", {"encoder": "own", "query_former": "blip2-fresh", "trained": "hopfield"}),
    ("am-mrg", {"hopfield": HopfieldConfig(form="printed", beta=0.5)}),
    ("am-mrg", {"visual_memory": False, "report_memory": False}),
]


def test_every_system_is_in_the_suite():
    assert {name for name, _ in VARIANTS} == set(SYSTEMS)


@pytest.fixture(params=VARIANTS, ids=lambda variant: "-".join([variant[0], *map(str, variant[1].values())]))
def system(request):
    name, fields = request.param
    return built(name, **fields)


def side_of(system) -> int:
    """Of a view; a Transformer takes its own size only."""
    if hasattr(system.backbone, "image_size"):
        return system.backbone.image_size
    return 160 if hasattr(system.backbone.model, "patch_embed") else 64


def views_of(system, studies: int, views: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    size = (studies, views, side_of(system), side_of(system))
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)


def batch_of(system, studies: int = 3, views: int = 2) -> Batch:
    encoded = [system.encode_report(report) for report in REPORTS[:studies]]
    tokens = pad_tokens(encoded)
    mask = torch.ones(studies, views, dtype=torch.bool)
    labels = torch.tensor(
        [[label_report(report).states[name] == "present" for name in OBSERVATIONS] for report in REPORTS]
    ).float()
    ids = [str(number) for number in range(studies)]
    return Batch(ids, views_of(system, studies, views), mask, tokens, labels[:studies])


DECODINGS = [
    DecodingConfig(beams=3, maximum_length=10),
    DecodingConfig(method="greedy", maximum_length=10),
    DecodingConfig(beams=2, maximum_length=10, scoring="full", length_penalty=1.0, no_repeat_ngram=2),
]


@pytest.mark.parametrize("decoding", DECODINGS, ids=["beam", "greedy", "full"])
def test_cached_decoding_equals_uncached(system, decoding):
    """Log-probabilities of the draft, step by step with caches, are those of one teacher-forced pass."""
    batch = batch_of(system)
    draft = system.generate(batch.views, batch.view_mask, decoding)
    tokens = torch.cat([torch.zeros(3, 1, dtype=torch.long), draft.tokens[:, :-1]], dim=1)
    logprobs = logprobs_of(system, batch, tokens)
    again = logprobs.gather(-1, draft.tokens.unsqueeze(-1)).squeeze(-1)
    for row in range(3):
        length = min(10, int((draft.tokens[row] != 0).sum()) + 1)
        assert (again[row, :length] - draft.token_logprobs[row, :length]).abs().max() < 1e-5
        assert draft.logprob[row].item() == pytest.approx(again[row, :length].sum().item(), abs=1e-4)


def test_a_batch_gives_what_single_studies_give(system):
    batch = batch_of(system)
    decoding = DecodingConfig(beams=3, maximum_length=10)
    together = system.generate(batch.views, batch.view_mask, decoding)
    for row in range(3):
        alone = system.generate(batch.views[row : row + 1], batch.view_mask[row : row + 1], decoding)
        assert alone.texts == together.texts[row : row + 1]
        assert (alone.token_logprobs - together.token_logprobs[row]).abs().max() < 1e-5


def test_a_padded_view_is_an_absent_view(system):
    views = views_of(system, 3, 3)
    mask = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    decoding = DecodingConfig(beams=3, maximum_length=10)
    padded = system.generate(views, mask, decoding)
    for row, present in enumerate([3, 2, 1]):
        alone = system.generate(
            views[row : row + 1, :present], torch.ones(1, present, dtype=torch.bool), decoding
        )
        assert alone.texts == padded.texts[row : row + 1]
        assert (alone.token_logprobs - padded.token_logprobs[row]).abs().max() < 1e-5


def test_what_stands_in_an_absent_view_changes_nothing(system):
    views, mask = views_of(system, 2, 2), torch.tensor([[True, False], [True, True]])
    decoding = DecodingConfig(beams=2, maximum_length=8)
    before = system.generate(views, mask, decoding)
    views[0, 1] = 255
    after = system.generate(views, mask, decoding)
    assert torch.equal(before.token_logprobs, after.token_logprobs)


def test_padding_of_reports_changes_no_loss(system):
    batch = batch_of(system)
    with torch.no_grad():
        before = system(batch)
        batch.tokens = torch.nn.functional.pad(batch.tokens, (0, 4))
        after = system(batch)
    assert after.total.item() == pytest.approx(before.total.item(), rel=1e-6, abs=1e-5)
    assert set(after.terms) == set(before.terms)


def test_every_trainable_parameter_gets_a_gradient_and_no_frozen_one(system):
    system.train()
    system(batch_of(system)).total.backward()
    wrong = [
        name
        for name, parameter in system.named_parameters()
        if (parameter.grad is not None) != parameter.requires_grad
    ]
    assert wrong == []
    frozen = {name.split(".")[0] for name, each in system.named_parameters() if not each.requires_grad}
    if getattr(getattr(system, "config", None), "trained", "all") == "hopfield":
        assert "memories" not in frozen
    else:
        assert frozen <= {"language_model", "backbone", "queries"}


@pytest.mark.slow
def test_a_few_steps_lower_the_loss(system):
    system.train()
    optimizer = torch.optim.Adam(system.parameters(), lr=3e-3)
    batch, losses = batch_of(system), []
    # With a random frozen language model there is less to gain, and more slowly.
    for _ in range(12 if system.tokenizer is None else 60):
        loss = system(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < (0.6 if system.tokenizer is None else 0.9) * losses[0]


def test_the_image_is_looked_at(system):
    mask = torch.ones(1, 1, dtype=torch.bool)
    decoding = DecodingConfig(beams=2, maximum_length=8)
    side = side_of(system)
    black, white = (torch.full((1, 1, side, side), value, dtype=torch.uint8) for value in (0, 255))
    drafts = [system.generate(views, mask, decoding) for views in (black, white)]
    assert not torch.equal(drafts[0].token_logprobs, drafts[1].token_logprobs)


@pytest.mark.parametrize("decoding", DECODINGS, ids=["beam", "greedy", "full"])
def test_streaming_ends_with_what_generate_gives(system, decoding):
    batch = batch_of(system)
    whole = system.generate(batch.views, batch.view_mask, decoding)
    *earlier, last = system.stream(batch.views, batch.view_mask, decoding)
    assert last.texts == whole.texts
    assert torch.equal(last.token_logprobs, whole.token_logprobs)
    assert (last.probabilities is None) == (whole.probabilities is None)
    if decoding.method == "greedy":
        for draft in earlier:
            written = draft.tokens != 0
            assert torch.equal(draft.tokens[written], last.tokens[written])


def test_pieces_join_to_the_draft(system):
    batch = batch_of(system)
    draft = system.generate(batch.views, batch.view_mask, DECODINGS[0])
    for text, tokens in zip(draft.texts, draft.tokens.tolist(), strict=True):
        assert "".join(system.pieces(tokens)) == text


def test_a_repetition_penalty_spares_repetitions(system):
    """With a penalty beyond all measure no token occurs twice."""
    batch = batch_of(system)
    fields = {"method": "greedy", "maximum_length": 10, "minimum_length": 10}
    decoding = DecodingConfig(**fields, repetition_penalty=1e6)
    tokens = system.generate(batch.views, batch.view_mask, decoding).tokens
    assert [len(row.unique()) for row in tokens] == [10, 10, 10]


@pytest.mark.slow
def test_a_frozen_language_model_stays_as_it_was(system):
    if system.tokenizer is None:
        assert system.own_state_dict().keys() == system.state_dict().keys()
        return
    frozen = {
        name: tensor.clone()
        for name, tensor in system.state_dict().items()
        if name not in system.own_state_dict()
    }
    assert all(name.startswith("language_model.") for name in frozen)
    assert not any(name.startswith("language_model.") for name in system.own_state_dict())
    record = system.language_model.files.record()
    system.train()
    optimizer = torch.optim.AdamW(system.parameters(), lr=1e-2, weight_decay=0.1)
    system(batch_of(system)).total.backward()
    optimizer.step()
    assert all(torch.equal(system.state_dict()[name], tensor) for name, tensor in frozen.items())
    assert system.language_model.files.record() == record


def test_sampling_is_reproducible(system):
    batch = batch_of(system)
    decoding = DecodingConfig(method="sample", maximum_length=8, top_k=5, seed=4)
    first, second = (system.generate(batch.views, batch.view_mask, decoding) for _ in range(2))
    assert first.texts == second.texts


@pytest.mark.slow
def test_the_paper_size_of_r2gen_cmn():
    """59.05 million parameters at the paper's sizes and the IU X-Ray vocabulary."""
    config = get_recipe("r2gen-cmn/iu-xray").build()
    config.system.backbone.weights = "none"
    words = sorted(["<unk>", *(f"w{number:03}" for number in range(759))])
    system = get_system("r2gen-cmn").build(config.system, Vocabulary(tuple(words), "none", 1), 60)
    assert sum(parameter.numel() for parameter in system.parameters()) == 59_053_369


class TestRelationalMemory:
    """R2Gen's memory and its layer normalisation against plain transcriptions, word by word."""

    WIDTH, SLOTS, HEADS = 16, 3, 4

    def memory(self):
        from radscribe.layers.relational_memory import RelationalMemory

        torch.manual_seed(2)
        return RelationalMemory(self.SLOTS, self.WIDTH, self.HEADS, dropout=0.0).double()

    def plain_step(self, memory, word, module):
        """The paper's update of one study's memory `[slots, width]` by one word `[width]`."""
        heads, width = self.HEADS, self.WIDTH // self.HEADS
        stacked = torch.cat([memory, word[None]])
        attention = module.attention
        queries, keys, values = attention.query(memory), attention.key(stacked), attention.value(stacked)
        attended = torch.zeros_like(memory)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = queries[:, part] @ keys[:, part].T / width**0.5
            attended[:, part] = (scores.exp() / scores.exp().sum(1, keepdim=True)) @ values[:, part]
        candidate = memory + attention.output(attended)
        candidate = candidate + module.mlp(candidate)
        gates = module.word_gates(word) + module.memory_gates(memory.tanh())
        keep, forget = gates[:, : self.WIDTH].sigmoid(), gates[:, self.WIDTH :].sigmoid()
        return keep * candidate.tanh() + forget * memory

    def test_every_state_of_a_sequence(self):
        module = self.memory()
        words = torch.randn(2, 5, self.WIDTH, dtype=torch.double)
        states = module(words).unflatten(-1, (self.SLOTS, self.WIDTH))
        stepped = module.initial(2)
        for study in range(2):
            plain = torch.eye(self.SLOTS, self.WIDTH, dtype=torch.double)
            for position in range(5):
                plain = self.plain_step(plain, words[study, position], module)
                assert (states[study, position] - plain).abs().max() < 1e-12
        for position in range(5):
            stepped = module.step(words[:, position : position + 1], stepped)
            assert (stepped - states[:, position]).abs().max() < 1e-12

    def test_memory_driven_layer_normalisation(self):
        from radscribe.layers.relational_memory import MemoryDrivenLayerNorm

        torch.manual_seed(3)
        norm = MemoryDrivenLayerNorm(self.WIDTH, self.SLOTS * self.WIDTH).double()
        x = torch.randn(2, 4, self.WIDTH, dtype=torch.double)
        memory = torch.randn(2, 4, self.SLOTS * self.WIDTH, dtype=torch.double)
        mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        scale, shift = norm.scale + norm.scale_mlp(memory), norm.shift + norm.shift_mlp(memory)
        assert (norm(x, memory) - (scale * (x - mean) / (std + 1e-6) + shift)).abs().max() < 1e-12

    def test_layer_normalisation_of_rows_without_variance(self):
        """Their value is the shift, as by the formula; the formula's gradient would be no number."""
        from radscribe.layers.transformer import UnbiasedLayerNorm

        norm = UnbiasedLayerNorm(self.WIDTH)
        torch.nn.init.normal_(norm.shift)
        x = torch.full((2, 3, self.WIDTH), 5.0, requires_grad=True)
        assert torch.equal(norm(x), norm.shift.expand_as(x))
        norm(x).square().sum().backward()
        assert x.grad.isfinite().all()


class TestMemoryOfR2GenCMN:
    """Equations 4-13 against a plain transcription, and the memory of its backward pass."""

    def test_equations(self):
        from radscribe.systems.r2gen_cmn import CrossModalMemory, R2GenCMNConfig

        torch.manual_seed(1)
        config = R2GenCMNConfig(width=24, heads=4, threads=4, memory_size=10, top_k=3, dropout=0.0)
        memory = CrossModalMemory(config).double()
        with torch.no_grad():
            memory.matrix.mul_(500)
        x = torch.randn(2, 5, 24, dtype=torch.double)
        responses = memory(x, memory.slots())

        keys, values, queries = memory.key(memory.matrix), memory.value(memory.matrix), memory.query(x)
        expected = torch.zeros_like(x)
        for study in range(2):
            for token in range(5):
                for thread in range(4):
                    part = slice(6 * thread, 6 * thread + 6)
                    distances = (keys[:, part] @ queries[study, token, part]) / 6**0.5  # Eq. 7
                    nearest = distances.argsort(descending=True)[:3]
                    weights = distances[nearest].exp() / distances[nearest].exp().sum()  # Eq. 9
                    expected[study, token, part] = sum(
                        weight * values[index, part] for weight, index in zip(weights, nearest, strict=True)
                    )  # Eq. 12
        assert (responses - memory.output(expected)).abs().max() < 1e-12

    def test_gradients(self):
        from radscribe.systems.r2gen_cmn import CrossModalMemory, R2GenCMNConfig

        torch.manual_seed(1)
        config = R2GenCMNConfig(width=8, heads=2, threads=2, memory_size=6, top_k=3, dropout=0.0)
        memory = CrossModalMemory(config).double()
        with torch.no_grad():
            memory.matrix.mul_(100)
        x = torch.randn(3, 8, dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, _: memory(x, memory.slots()), (x, memory.matrix))

    def test_the_backward_pass_keeps_nothing_of_the_size_of_gathered_values(self):
        """What autograd saves stays far below tokens x threads x top-K x thread width."""
        from radscribe.systems.r2gen_cmn import CrossModalMemory, R2GenCMNConfig

        config = R2GenCMNConfig(width=256, heads=4, threads=4, memory_size=64, top_k=32, dropout=0.0)
        memory = CrossModalMemory(config)
        largest = 0

        def note(tensor):
            nonlocal largest
            largest = max(largest, tensor.numel())
            return tensor

        tokens = 200
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            memory(torch.randn(tokens, 256, requires_grad=True), memory.slots())
        gathered = tokens * 4 * 32 * 64
        assert largest < gathered / 8


def test_the_encoder_ignores_masked_tokens():
    system = built("r2gen-cmn", memory="none")
    tokens = torch.randn(1, 6, system.backbone.channels)
    mask = torch.tensor([[True, True, True, True, False, False]])
    with torch.inference_mode():
        whole = system.network.encode(VisualTokens(tokens, mask))[:, :4]
        cut = system.network.encode(VisualTokens(tokens[:, :4], mask[:, :4]))
    assert (whole - cut).abs().max() < 1e-5
