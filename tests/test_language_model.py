"""The frozen language model: three families, each small and with random weights, through one suite."""

import hashlib
import itertools
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_language_models import FAMILIES, TEXTS, tiny_language_model
from transformers import LlamaConfig, LlamaForCausalLM

from radscribe.decoding.search import DecodingConfig, beams_of, decode, decode_steps
from radscribe.errors import RadScribeError
from radscribe.layers.frozen_language_model import Embedded, FrozenLanguageModel, LanguageModelConfig
from radscribe.layers.low_rank import LowRankConfig
from radscribe.systems.system import pad_tokens
from radscribe.text.language_model_files import LanguageModelFiles
from radscribe.text.language_model_tokenizer import LanguageModelTokenizer
from radscribe.text.prompts import REPORT_PROMPT

CPU = torch.device("cpu")
STUDIES, VISUAL = 3, 6


def build(family: str, **fields) -> FrozenLanguageModel:
    return FrozenLanguageModel(LanguageModelConfig(name=str(tiny_language_model(family)), **fields))


@pytest.fixture(params=FAMILIES)
def model(request) -> FrozenLanguageModel:
    return build(request.param)


def visual_of(model: FrozenLanguageModel, seed: int = 0) -> Embedded:
    """Visual embeddings of three studies, of which one lacks the second half and one the first."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(STUDIES, VISUAL, dtype=torch.bool)
    mask[1, VISUAL // 2 :] = False
    mask[2, : VISUAL // 2] = False
    return Embedded(torch.randn(STUDIES, VISUAL, model.width, generator=generator), mask)


def prompt_of(model: FrozenLanguageModel, visual: Embedded | None = None):
    return model.prompt(REPORT_PROMPT[0], visual or visual_of(model), REPORT_PROMPT[1])


def compact(model: FrozenLanguageModel, prompt, row: int) -> torch.Tensor:
    """The prompt of one study as a plain row of embeddings, without what is masked."""
    embed = model.model.get_input_embeddings()
    inside = prompt.inside.embeddings[row][prompt.inside.mask[row]]
    return torch.cat([embed(prompt.before), inside, embed(prompt.after)]).unsqueeze(0)


def reports_of(model: FrozenLanguageModel) -> torch.Tensor:
    rows = [model.encode(text, 60) for text in (*TEXTS[:2], "clear .")]
    return pad_tokens(rows)


# --- what differs between families --------------------------------------------------------------------------


def test_begin_and_end_are_the_tokenizer_s():
    special = {family: build(family).tokenizer for family in FAMILIES}
    assert (special["llama"].begin, special["llama"].end) == ([1], 2)
    assert special["gpt2"].begin == [special["gpt2"].end]
    assert special["qwen2"].begin == []


def test_a_prompt_is_its_parts_tokenized_apart(model):
    prompt = prompt_of(model)
    plain = model.tokenizer._tokenizer
    front, back = (plain(text, add_special_tokens=False).input_ids for text in REPORT_PROMPT)
    assert prompt.before.tolist() == model.tokenizer.begin + front
    assert prompt.after.tolist() == back


def test_tokens_are_ids_plus_1_between_zeros(model):
    ids = model.tokenizer.encode(TEXTS[0])
    tokens = model.encode(TEXTS[0], 100)
    assert tokens == [0, *(index + 1 for index in ids), 0]
    assert model.encode(TEXTS[0], 5) == tokens[:6]
    assert model.ids(tokens[1:]) == ids
    assert model.tokenizer.decode(ids) == TEXTS[0]
    assert model.tokenizer.cut(TEXTS[0], 5) == model.tokenizer.decode(ids[:5])


@settings(max_examples=60, deadline=None)
@given(family=st.sampled_from(FAMILIES), text=st.text(max_size=12), ids=st.lists(st.integers(0, 355)))
def test_pieces_join_to_the_text(family, text, ids):
    tokenizer = LanguageModelTokenizer(LanguageModelFiles.find(str(tiny_language_model(family))))
    for row in (tokenizer.encode(text), ids):
        pieces = tokenizer.pieces(row)
        assert len(pieces) == len(row)
        assert "".join(pieces) == tokenizer.decode(row)


def test_a_character_belongs_to_the_token_that_completes_it(model):
    pieces = model.tokenizer.pieces(model.tokenizer.encode("a 漢 b"))
    assert "漢" in pieces
    assert pieces[pieces.index("漢") - 1] == ""


# --- teacher-forced -----------------------------------------------------------------------------------------


def test_the_loss_is_that_of_transformers_with_masked_labels(model):
    prompt, tokens = prompt_of(model), reports_of(model)
    embed, end = model.model.get_input_embeddings(), model.tokenizer.end
    total, count = 0.0, 0
    for row in range(STUDIES):
        ids = [*model.ids(tokens[row, 1:].tolist()), end]
        given_ = compact(model, prompt, row)
        whole = torch.cat([given_, embed(torch.tensor([ids]))], dim=1)
        labels = torch.tensor([[-100] * given_.size(1) + ids])
        with torch.no_grad():
            total += model.model(inputs_embeds=whole, labels=labels).loss.item() * len(ids)
        count += len(ids)
    assert model.loss(prompt, tokens).item() == pytest.approx(total / count, abs=1e-5)
    assert model.loss(prompt, tokens, "sum").item() == pytest.approx(total / STUDIES, rel=1e-5)
    padded = F.pad(tokens, (0, 4))
    assert model.loss(prompt, padded).item() == pytest.approx(total / count, abs=1e-5)


def test_states_that_precede_given_embeddings(model):
    prompt = prompt_of(model)
    following = visual_of(model, seed=3)
    states = model.preceding(prompt, following)
    assert states.shape == following.embeddings.shape
    for row in range(STUDIES):
        there = following.mask[row]
        given_ = compact(model, prompt, row)
        whole = torch.cat([given_, following.embeddings[row][there].unsqueeze(0)], dim=1)
        plain = model.model.base_model(inputs_embeds=whole).last_hidden_state[0]
        expected = plain[given_.size(1) - 1 : -1]
        assert (states[row][there] - expected).abs().max() < 1e-4


def test_logits_are_made_of_preceding_states(model):
    """Both directions of a system look at the same states."""
    prompt, tokens = prompt_of(model), reports_of(model)
    states = model.preceding(prompt, model.embed_words(tokens[:, 1:]))
    logits = model.model.get_output_embeddings()(states)
    there = tokens[:, :-1] != 0
    there[:, 0] = True
    assert (logits - model.logits(prompt, tokens[:, :-1]))[there].abs().max() < 1e-4


def test_expected_words_are_means_of_words_with_their_probabilities(model):
    prompt, following = prompt_of(model), visual_of(model, seed=3)
    logits = model.model.get_output_embeddings()(model.preceding(prompt, following))
    expected = logits.softmax(dim=-1) @ model.model.get_input_embeddings().weight
    found = model.expected_words(prompt, following)
    assert (found - expected)[following.mask].abs().max() < 1e-4


def test_gradients_pass_through_and_nothing_of_the_model_changes(model):
    visual = visual_of(model)
    embeddings = visual.embeddings.requires_grad_()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.loss(prompt_of(model, Embedded(embeddings, visual.mask)), reports_of(model)).backward()
    assert bool((embeddings.grad.abs().sum(-1) > 0)[visual.mask].all())
    assert bool((embeddings.grad == 0)[~visual.mask].all())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_dropout_is_never_on(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    model.train()
    assert not any(module.training for module in model.model.modules())
    first, second = (model.loss(prompt_of(model), reports_of(model)).item() for _ in range(2))
    assert first == second


def test_gradient_checkpointing_keeps_less_and_changes_nothing(model, request):
    family = request.node.callspec.params["model"]
    found = []
    for checkpointing in (False, True):
        each = build(family, gradient_checkpointing=checkpointing).train()
        visual = visual_of(each)
        embeddings = visual.embeddings.requires_grad_()
        kept = 0

        def note(tensor):
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = each.loss(prompt_of(each, Embedded(embeddings, visual.mask)), reports_of(each))
        loss.backward()
        found.append((kept, loss.item(), embeddings.grad))
    plain, saving = found
    assert saving[0] < 0.6 * plain[0]
    assert saving[1] == pytest.approx(plain[1], abs=1e-6)
    assert (saving[2] - plain[2]).abs().max() < 1e-6


def test_attention_goes_to_what_is_there(model):
    prompt, tokens = prompt_of(model), reports_of(model)[:, :-1]
    with torch.no_grad():
        attention = model.attention(prompt, tokens)
    assert attention.shape == (STUDIES, 2, 4, tokens.size(1), VISUAL)
    absent = ~prompt.inside.mask[:, None, None, None, :].expand_as(attention)
    assert bool((attention[absent] == 0).all())
    assert bool((attention.sum(-1) <= 1 + 1e-5).all())
    assert model.model.config._attn_implementation == "sdpa"
    # Under the usual implementation it has the same effect.
    eager = build_eager(model)
    assert (eager.logits(prompt, tokens) - model.logits(prompt, tokens)).abs().max() < 1e-3


def build_eager(model: FrozenLanguageModel) -> FrozenLanguageModel:
    other = FrozenLanguageModel(LanguageModelConfig(name=model.files.name))
    other.model.set_attn_implementation("eager")
    return other


# --- word by word -------------------------------------------------------------------------------------------


def search(model: FrozenLanguageModel, prompt, **fields):
    config = DecodingConfig(**{"maximum_length": 14, **fields})
    with torch.inference_mode():
        return decode(
            model.step, model.start(prompt, beams_of(config)), prompt.inside.mask.size(0), config, CPU
        )


DECODINGS = [
    {"method": "greedy"},
    {"beams": 3},
    {
        "beams": 3,
        "scoring": "full",
        "repetition_penalty": 2.0,
        "length_penalty": 2.0,
        "minimum_length": 6,
    },
    {"beams": 2, "no_repeat_ngram": 2},
]


@pytest.mark.parametrize("fields", DECODINGS, ids=["greedy", "beam", "r2gen-gpt", "ngram"])
def test_cached_decoding_equals_uncached(model, fields):
    prompt = prompt_of(model)
    decoded = search(model, prompt, **fields)
    with torch.no_grad():
        logits = model.logits(prompt, F.pad(decoded.tokens[:, :-1], (1, 0)))
    again = model.token_logprobs(logits).gather(-1, decoded.tokens.unsqueeze(-1)).squeeze(-1)
    for row, tokens in enumerate(decoded.tokens.tolist()):
        length = min(len(tokens), sum(token != 0 for token in tokens) + 1)
        assert (again[row, :length] - decoded.token_logprobs[row, :length]).abs().max() < 1e-5


@pytest.mark.parametrize("fields", DECODINGS, ids=["greedy", "beam", "r2gen-gpt", "ngram"])
def test_a_batch_gives_what_single_studies_give(model, fields):
    visual = visual_of(model)
    together = search(model, prompt_of(model, visual), **fields)
    for row in range(STUDIES):
        there = visual.mask[row]
        alone = Embedded(visual.embeddings[row][there].unsqueeze(0), there[there].unsqueeze(0))
        single = search(model, prompt_of(model, alone), **fields)
        assert single.tokens[0].tolist() == together.tokens[row].tolist()
        assert (single.token_logprobs[0] - together.token_logprobs[row]).abs().max() < 1e-5


def generate(model: FrozenLanguageModel, embeddings: torch.Tensor, **options) -> list[int]:
    """What `transformers` writes, up to the end."""
    (ids,) = model.model.generate(
        inputs_embeds=embeddings,
        attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long),
        max_new_tokens=14,
        do_sample=False,
        eos_token_id=model.tokenizer.end,
        pad_token_id=model.tokenizer.end,
        **options,
    ).tolist()
    return ids[: ids.index(model.tokenizer.end)] if model.tokenizer.end in ids else ids


@pytest.mark.slow
def test_greedy_is_that_of_transformers_to_the_token(model):
    for seed in range(5):
        prompt = prompt_of(model, visual_of(model, seed))
        decoded = search(model, prompt, method="greedy")
        for row in range(STUDIES):
            expected = generate(model, compact(model, prompt, row))
            assert model.ids(decoded.tokens[row].tolist()) == expected


@pytest.mark.slow
def test_beam_search_is_that_of_transformers(model):
    """`full` scoring, with the penalties of R2GenGPT, as long as `transformers` does not stop too early."""
    penalties = {"repetition_penalty": 2.0, "length_penalty": 2.0}
    for seed in range(5):
        prompt = prompt_of(model, visual_of(model, seed))
        decoded = search(model, prompt, beams=3, scoring="full", minimum_length=5, **penalties)
        for row in range(STUDIES):
            options = {"num_beams": 3, "min_new_tokens": 5, "early_stopping": "never", **penalties}
            expected = generate(model, compact(model, prompt, row), **options)
            assert model.ids(decoded.tokens[row].tolist()) == expected


def test_the_text_in_front_is_read_once_for_all_studies(model, monkeypatch):
    rows = []
    forward = type(model.model.base_model).forward

    def noting(self, *args, **kwargs):
        rows.append(tuple(kwargs["inputs_embeds"].shape[:2]))
        return forward(self, *args, **kwargs)

    prompt = prompt_of(model)
    monkeypatch.setattr(type(model.model.base_model), "forward", noting)
    search(model, prompt, beams=3, maximum_length=2, minimum_length=2)
    rest = VISUAL + prompt.after.numel()
    assert rows == [(1, prompt.before.numel()), (STUDIES, rest), (STUDIES * 3, 1)]


@pytest.mark.slow
def test_streaming_shows_every_token_and_ends_with_the_result(model):
    prompt = prompt_of(model)
    for fields in DECODINGS:
        config = DecodingConfig(**{"maximum_length": 14, **fields})
        with torch.inference_mode():
            state = model.start(prompt, beams_of(config))
            shown = [leading() for leading in decode_steps(model.step, state, STUDIES, config, CPU)]
        assert torch.equal(shown[-1].tokens, search(model, prompt, **fields).tokens)
        if config.method == "greedy":
            for earlier, later in itertools.pairwise(shown):
                written = earlier.tokens != 0
                assert torch.equal(earlier.tokens[written], later.tokens[written])
                assert bool((earlier.token_logprobs != 0).sum() <= (later.token_logprobs != 0).sum())


# --- how it is held -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_adapters_train_and_nothing_else(model, request):
    family = request.node.callspec.params["model"]
    adapted = build(family, adapters=LowRankConfig(rank=2, dropout=0.5)).train()
    trainable = adapted.trainable_names()
    assert trainable
    assert all("lora_" in name for name in trainable)
    adapted.loss(prompt_of(adapted), reports_of(adapted)).backward()
    for name, parameter in adapted.named_parameters():
        assert (parameter.grad is not None) == (name in trainable)
    # An adapter begins as nothing.
    adapted.eval()
    with torch.no_grad():
        ours, plain = (each.logits(prompt_of(each), reports_of(each)) for each in (adapted, model))
    assert (ours - plain).abs().max() < 1e-5


def test_bfloat16(model, request):
    half = build(request.node.callspec.params["model"], dtype="bfloat16")
    visual = visual_of(half)
    embeddings = visual.embeddings.requires_grad_()
    loss = half.loss(prompt_of(half, Embedded(embeddings, visual.mask)), reports_of(half))
    loss.backward()
    assert loss.dtype == embeddings.grad.dtype == torch.float32
    assert loss.item() == pytest.approx(model.loss(prompt_of(model), reports_of(model)).item(), rel=0.1)
    assert search(half, prompt_of(half), beams=2).token_logprobs.dtype == torch.float32


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_in_8_or_4_bits(kind, tmp_path):
    """Nearly the same model, through which gradients pass. NF4 counts in blocks of 64."""
    pytest.importorskip("bitsandbytes", reason="pip install 'radscribe[quantisation]'")
    folder = shutil.copytree(tiny_language_model("llama"), tmp_path / "wide")
    sizes = LlamaConfig.from_pretrained(folder, hidden_size=128, intermediate_size=256, head_dim=32)
    torch.manual_seed(0)
    LlamaForCausalLM(sizes).save_pretrained(folder)
    plain, few = (
        FrozenLanguageModel(LanguageModelConfig(name=str(folder), quantisation=each))
        for each in ("none", kind)
    )
    assert not few.trainable_names()
    layer = few.model.model.layers[0].self_attn.q_proj.weight
    assert layer.dtype != torch.float32
    assert layer.numel() == 128 * 128 * {"int8": 1, "nf4": 0.5}[kind]
    losses = []
    for each in (plain, few):
        visual = visual_of(each)
        visual.embeddings.requires_grad_()
        losses.append(each.loss(prompt_of(each, visual), reports_of(each)))
        losses[-1].backward()
        losses.append(visual.embeddings.grad)
    assert losses[2].item() != losses[0].item()
    assert losses[2].item() == pytest.approx(losses[0].item(), rel=0.02)
    assert F.cosine_similarity(losses[1].flatten(), losses[3].flatten(), dim=0) > 0.9
    assert search(few, prompt_of(few), beams=3).tokens.shape[0] == STUDIES


def test_quantisation_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RadScribeError, match=r"quantisation nf4 needs bitsandbytes.*pip install"):
        build("llama", quantisation="nf4")


class TestFiles:
    def copy(self, tmp_path: Path) -> Path:
        return Path(shutil.copytree(tiny_language_model("llama"), tmp_path / "model"))

    def sha256(self, folder: Path) -> str:
        return LanguageModelFiles.find(str(folder)).record().sha256

    def test_the_hash_is_of_the_content_and_not_of_the_place(self, tmp_path):
        folder = self.copy(tmp_path)
        assert self.sha256(folder) == self.sha256(tiny_language_model("llama"))
        assert LanguageModelFiles.find(str(folder)).record().name == str(folder)

    @pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
    def test_every_file_that_matters_counts(self, tmp_path, name):
        folder = self.copy(tmp_path)
        before = self.sha256(folder)
        content = bytearray((folder / name).read_bytes())
        content[-2] ^= 1
        (folder / name).write_bytes(bytes(content))
        assert self.sha256(folder) != before

    def test_a_readme_does_not_count(self, tmp_path):
        folder = self.copy(tmp_path)
        before = self.sha256(folder)
        (folder / "README.md").write_text("hello")
        assert self.sha256(folder) == before

    def test_the_hash_is_written_down(self, tmp_path):
        """By hand, so that a run of today still fits tomorrow."""
        folder = self.copy(tmp_path)
        names = ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]
        lines = [f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n" for name in names]
        assert self.sha256(folder) == hashlib.sha256("".join(lines).encode()).hexdigest()

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("", "no language model is named.*radscribe pretrain language-model"),
            ("./nothing/there", "no language model in './nothing/there'.*pretrain language-model"),
            ("somebody/something", "no folder 'somebody/something'.*could not be downloaded.*hf auth login"),
        ],
    )
    def test_what_is_not_there(self, name, message, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(RadScribeError, match=message):
            FrozenLanguageModel(LanguageModelConfig(name=name))

    def test_a_folder_that_holds_something_else(self, tmp_path):
        with pytest.raises(RadScribeError, match="no config.json"):
            FrozenLanguageModel(LanguageModelConfig(name=str(tmp_path)))

    def test_a_model_without_weights_or_tokenizer(self, tmp_path):
        folder = self.copy(tmp_path)
        (folder / "model.safetensors").unlink()
        with pytest.raises(RadScribeError, match="cannot be loaded"):
            FrozenLanguageModel(LanguageModelConfig(name=str(folder)))
        with pytest.raises(RadScribeError, match="has no weights"):
            LanguageModelFiles.find(str(folder)).record()
        (folder / "tokenizer.json").unlink()
        with pytest.raises(RadScribeError, match="has no tokenizer"):
            FrozenLanguageModel(LanguageModelConfig(name=str(folder)))

    def test_a_tokenizer_without_an_end(self, tmp_path):
        folder = Path(shutil.copytree(tiny_language_model("qwen2"), tmp_path / "model"))
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": None}))
        with pytest.raises(RadScribeError, match="no end-of-text token"):
            FrozenLanguageModel(LanguageModelConfig(name=str(folder)))

    def test_a_model_whose_code_would_have_to_run(self, tmp_path):
        folder = self.copy(tmp_path)
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "homemade", "auto_map": {"AutoModelForCausalLM": "code.Model"}}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(RadScribeError, match="cannot be loaded"):
            FrozenLanguageModel(LanguageModelConfig(name=str(folder)))
