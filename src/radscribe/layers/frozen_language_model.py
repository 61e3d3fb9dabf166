"""A frozen causal language model of `transformers`, which reads embeddings in a prompt and writes words.

Its weights never change, and its dropout is never on, not even in training; gradients pass through it to its
inputs. It reads a prompt: text around embeddings that another network made (visual tokens, or the features of
a text encoder). Then it

- scores a report, teacher-forced (`logits`, `loss`);
- writes a report, word by word, and keeps keys and values (`start`, `step`);
- tells what it would generate at the places of further embeddings (`preceding`, `expected_words`);
- gives its attention (`attention`).

Tokens are those of `Batch` and `Draft`: the model's ids plus 1. So 0 can begin, end and pad as everywhere in
RadScribe, and the model's id 0 is still a token. An absent embedding is masked, and the position numbers skip
it, so that an absent view and no view are the same to the model. The prompts of a batch are right-aligned;
their padding is masked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radscribe.layers.language_model_loading import load_language_model, recompute_layers
from radscribe.layers.low_rank import LowRankConfig, add_adapters, train_adapters
from radscribe.layers.transformer import beam_rows
from radscribe.text.language_model_files import LanguageModelFiles
from radscribe.text.language_model_tokenizer import LanguageModelTokenizer


@dataclass(kw_only=True, slots=True)
class LanguageModelConfig:
    """Which language model is used, and how its weights are stored.

    Attributes:
        name: Language model: a folder in `transformers` format, or a name on the Hugging Face hub.
        revision: Branch, tag or commit of the model on the hub.
        dtype: Number format of the model's weights and of its arithmetic.
        quantisation: Format that the weights are stored in: `int8` has 8 bits and `nf4` has 4 bits per
            weight, by `bitsandbytes`.
        gradient_checkpointing: Keep only the input of each layer in training, and compute the layer again in
            the backward pass. This takes less memory and a third more time.
        adapters: Low-rank adapters in the language model, which then train; rank 0 means no adapters.
    """

    name: str = "meta-llama/Llama-2-7b-chat-hf"
    revision: str = "main"
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantisation: Literal["none", "int8", "nf4"] = "none"
    gradient_checkpointing: bool = False
    adapters: LowRankConfig = field(default_factory=LowRankConfig)


class Embedded(NamedTuple):
    """Embeddings that the model reads in the place of words.

    Attributes:
        embeddings: The embeddings `[studies, length, width]`.
        mask: bool `[studies, length]`, True for embeddings that are there.
    """

    embeddings: Tensor
    mask: Tensor


class Prompt(NamedTuple):
    """What the model reads before it writes.

    Attributes:
        before: Ids `[length]` of the text before the embeddings, with the begin; the same for every study.
        inside: Embeddings of each study, between the two texts.
        after: Ids `[length]` of the text after the embeddings; at least one id.
    """

    before: Tensor
    inside: Embedded
    after: Tensor

    @property
    def length(self) -> int:
        """Number of positions of the prompt."""
        return self.before.numel() + self.inside.mask.size(1) + self.after.numel()


@dataclass(slots=True)
class LanguageModelState:
    """The state between two decoding steps.

    Attributes:
        cache: Keys and values of every beam, as a cache of `transformers`.
        mask: bool `[studies * beams, length so far]`, True for positions that are there.
        first: Log-probabilities `[studies, beams, tokens]` of the first word; None after the first step.
        beams: Number of hypotheses per study.
    """

    cache: Any
    mask: Tensor
    first: Tensor | None
    beams: int

    def reorder(self, parents: Tensor) -> None:
        """Let beam `b` of study `s` continue beam `parents[s, b]`."""
        if self.beams > 1:  # the mask is the same for all beams of a study
            self.cache.reorder_cache(beam_rows(parents))


class FrozenLanguageModel(nn.Module):
    """A frozen language model with its tokenizer; the text of the module says what it does.

    Args:
        config: Which language model is loaded, and how.

    Attributes:
        files: The files that the model was loaded from.
        tokenizer: The model's tokenizer.
        width: Width of an embedding and of a hidden state.
        tokens: Number of different tokens: the number of the model's ids, plus 1 for the token 0.

    Raises:
        RadScribeError: it is not there, cannot be loaded, or needs a package that is not installed.
    """

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.files = LanguageModelFiles.find(config.name, config.revision)
        self.tokenizer = LanguageModelTokenizer(self.files)
        self.model = load_language_model(
            self.files.folder, config.name, dtype=config.dtype, quantisation=config.quantisation
        )
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        if config.adapters.rank:
            add_adapters(self.model, config.adapters)
        if config.gradient_checkpointing:
            recompute_layers(self.model)
        self.width: int = self.model.get_input_embeddings().embedding_dim
        self.tokens: int = self.model.config.get_text_config().vocab_size + 1
        self.train()

    def train(self, mode: bool = True) -> FrozenLanguageModel:
        """Switch the dropout of adapters; the model itself is always in evaluation mode."""
        super().train(mode)
        self.model.eval()
        train_adapters(self.model, mode)
        return self

    def trainable_names(self) -> set[str]:
        """Names of the parameters that train, such as the adapters' weights; the model's own never train."""
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    # --- text -------------------------------------------------------------------------------------------

    def encode(self, text: str, maximum_length: int) -> list[int]:
        """Tokens of a report: 0, its words, 0. Words and end together are cut to `maximum_length`.

        The begin is not counted, because the model reads the prompt in its place.
        """
        words = [index + 1 for index in self.tokenizer.encode(text)]
        return [0, *[*words, 0][:maximum_length]]

    def ids(self, tokens: list[int]) -> list[int]:
        """The model's ids of the tokens before the first 0."""
        return [token - 1 for token in tokens[: tokens.index(0) if 0 in tokens else None]]

    def prompt(self, before: str, inside: Embedded, after: str) -> Prompt:
        """A prompt of two texts, which are tokenized separately, and the embeddings between them."""
        device = inside.mask.device
        ids = [self.tokenizer.begin + self.tokenizer.encode(before), self.tokenizer.encode(after)]
        front, back = (torch.tensor(text, dtype=torch.long, device=device) for text in ids)
        return Prompt(front, inside, back)

    # --- teacher-forced ---------------------------------------------------------------------------------

    def logits(self, prompt: Prompt, tokens: Tensor) -> Tensor:
        """Logits `[studies, length, ids]` of the token after each token, in the order of the model's ids.

        Args:
            prompt: What the model reads first.
            tokens: int `[studies, length]`. The first token is 0 (the begin, which the model does not read:
                the prompt's end replaces it); the tokens after the last word are 0.
        """
        inputs = self._inputs(_joined(*self._prompt_parts(prompt), self.embed_words(tokens[:, 1:])))
        return self.model(**inputs, use_cache=False, logits_to_keep=tokens.size(1)).logits

    def loss(self, prompt: Prompt, tokens: Tensor, words: Literal["mean", "sum"] = "mean") -> Tensor:
        """Negative log-probability of reports; the end counts as a word.

        Args:
            prompt: What the model reads first; it is not part of the loss.
            tokens: int `[studies, length]`: begin, words, end, padding, as in `Batch`.
            words: `mean` averages over all words of all studies; `sum` adds up the words of each report, and
                averages the sums over studies.
        """
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        there = inputs != 0
        there[:, 0] = True  # the begin and each word have a target: the next word, or the end
        labels = self._to_ids(targets).masked_fill(~there, -100)
        logits = self.logits(prompt, inputs).float().flatten(0, 1)
        loss = F.cross_entropy(logits, labels.flatten(), reduction=words)
        return loss / len(tokens) if words == "sum" else loss

    def token_logprobs(self, logits: Tensor) -> Tensor:
        """Turn logits by id `[..., ids]` into log-probabilities by token `[..., tokens]`; 0 is the end."""
        logprobs = logits.float().log_softmax(dim=-1)
        end = logprobs[..., self.tokenizer.end].unsqueeze(-1)
        # The end has one token only.
        ends = torch.tensor([self.tokenizer.end], device=logits.device)
        return torch.cat([end, logprobs.index_fill(-1, ends, -torch.inf)], dim=-1)

    def preceding(self, prompt: Prompt, following: Embedded) -> Tensor:
        """Hidden states `[studies, length, width]` that predict each of the embeddings `following`.

        The model reads `following` itself (teacher-forced): the state for a position has seen the prompt and
        all positions before this one. The states for masked positions are meaningless.

        Args:
            prompt: What the model reads first.
            following: The embeddings after the prompt.
        """
        whole = _joined(*self._prompt_parts(prompt), following)
        states = self.model.base_model(**self._inputs(whole), use_cache=False).last_hidden_state
        return _in_front(states, following.mask)

    def expected_words(self, prompt: Prompt, following: Embedded) -> Tensor:
        """The expected word embedding at the place of each of `following` `[studies, length, width]`.

        It is the mean of all word embeddings, weighted with the probability that the model gives each word
        there: softmax(logits) W. It therefore lies in the convex hull of the word embeddings.

        Args:
            prompt: What the model reads first.
            following: The embeddings after the prompt; the model reads them, as in `preceding`.
        """
        whole = _joined(*self._prompt_parts(prompt), following)
        # Logits are by far the largest tensor here: for the prompt, only those of its last position are made.
        positions = following.mask.size(1) + 1
        logits = self.model(**self._inputs(whole), use_cache=False, logits_to_keep=positions).logits
        words = self.model.get_input_embeddings().weight
        return _in_front(logits, following.mask).float().softmax(dim=-1).to(words.dtype) @ words

    def attention(self, prompt: Prompt, tokens: Tensor) -> Tensor:
        """Attention to the embeddings inside the prompt, by the step that writes the token after each token.

        Args:
            prompt: What the model reads first.
            tokens: int `[studies, length]` as in `logits`.

        Returns:
            Weights `[studies, layers, heads, length, embeddings]`; the rest of the sum of 1 went to text.
        """
        inputs = self._inputs(_joined(*self._prompt_parts(prompt), self.embed_words(tokens[:, 1:])))
        with self._eager_attention():
            weights = self.model.base_model(**inputs, use_cache=False, output_attentions=True).attentions
        start, count = prompt.before.numel(), prompt.inside.mask.size(1)
        steps = tokens.size(1)
        return torch.stack([layer[:, :, -steps:, start : start + count] for layer in weights], dim=1)

    # --- word by word -----------------------------------------------------------------------------------

    def start(self, prompt: Prompt, beams: int) -> LanguageModelState:
        """Read the prompt; the text before the embeddings is read once for all studies."""
        from transformers import DynamicCache

        studies = prompt.inside.mask.size(0)
        cache = DynamicCache(config=self.model.config)
        before, inside, after = self._prompt_parts(prompt)
        if prompt.before.numel():
            once = Embedded(before.embeddings[:1], before.mask[:1])
            self.model.base_model(**self._inputs(once), cache=cache, use_cache=True)
            cache.batch_repeat_interleave(studies)
        inputs = self._inputs(_joined(before, inside, after), seen=prompt.before.numel())
        logits = self.model(**inputs, cache=cache, use_cache=True, logits_to_keep=1).logits
        cache.batch_repeat_interleave(beams)
        first = self.token_logprobs(logits).expand(-1, beams, -1)
        return LanguageModelState(cache, inputs["attention_mask"].repeat_interleave(beams, 0), first, beams)

    def step(self, tokens: Tensor, state: LanguageModelState) -> Tensor:
        """Log-probabilities `[studies, beams, tokens]` after one more token `[studies, beams]` of every beam.

        The first call gives the first word; its `tokens` are the begin.
        """
        if state.first is not None:
            first, state.first = state.first, None
            return first
        word = self.model.get_input_embeddings()(self._to_ids(tokens.view(-1, 1)))
        state.mask = F.pad(state.mask, (0, 1), value=True)
        inputs = self._inputs(Embedded(word, state.mask), seen=state.mask.size(1) - 1)
        logits = self.model(**inputs, cache=state.cache, use_cache=True, logits_to_keep=1).logits
        return self.token_logprobs(logits).view(*tokens.shape, -1)

    # --- embeddings -------------------------------------------------------------------------------------

    def _to_ids(self, tokens: Tensor) -> Tensor:
        return torch.where(tokens == 0, self.tokenizer.end, tokens - 1)

    def embed_words(self, tokens: Tensor) -> Embedded:
        """The model's own embeddings of tokens `[studies, length]`, masked where they are 0."""
        return Embedded(self.model.get_input_embeddings()(self._to_ids(tokens)), tokens != 0)

    def _prompt_parts(self, prompt: Prompt) -> Iterator[Embedded]:
        """The embeddings of the prompt's three parts for every study; text is embedded once."""
        studies = prompt.inside.mask.size(0)
        for part in prompt:
            if isinstance(part, Embedded):
                yield part
            else:
                embedded = self.model.get_input_embeddings()(part).expand(studies, -1, -1)
                yield Embedded(embedded, torch.ones_like(embedded[..., 0], dtype=torch.bool))

    def _inputs(self, embedded: Embedded, seen: int = 0) -> dict[str, Tensor]:
        """The arguments of the model's `forward`.

        Args:
            embedded: The whole sequence; the embeddings of the first `seen` positions may be missing.
            seen: Number of positions that are in the cache already.
        """
        positions = (embedded.mask.cumsum(dim=1) - 1).clamp(min=0)
        new = embedded.mask.size(1) - seen
        return {
            "inputs_embeds": embedded.embeddings[:, -new:],
            "attention_mask": embedded.mask,
            "position_ids": positions[:, seen:],
        }

    @contextmanager
    def _eager_attention(self) -> Iterator[None]:
        """Compute attention by the only implementation that returns its weights."""
        usual = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.model.set_attn_implementation(usual)


def _in_front(outputs: Tensor, mask: Tensor) -> Tensor:
    """The output before each of the last positions: that of the nearest earlier position that is there.

    Args:
        outputs: Outputs `[studies, longer, width]` of a sequence that ends with the positions of `mask`. In
            every study, the position before these is there.
        mask: bool `[studies, length]`, True for positions that are there.
    """
    count = mask.size(1)
    places = torch.arange(1, count, device=mask.device)
    # 0 is the position before those of `mask`; it precedes the first of them.
    before = F.pad(torch.where(mask[:, :-1], places, 0).cummax(dim=1).values, (1, 0))
    return outputs[:, -count - 1 :].gather(1, before.unsqueeze(-1).expand(-1, -1, outputs.size(-1)))


def _joined(*parts: Embedded) -> Embedded:
    """Join sequences, in the number format of the first, which the model made itself."""
    dtype = parts[0].embeddings.dtype
    embeddings = torch.cat([part.embeddings.to(dtype) for part in parts], dim=1)
    return Embedded(embeddings, torch.cat([part.mask for part in parts], dim=1))
