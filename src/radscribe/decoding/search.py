"""Beam search, greedy decoding and sampling over any system that decodes token by token.

The search is vectorised over studies and beams. It never waits for the device between tokens, and it stops
when no open hypothesis can still win. There are two scorings:

- `captioning` (the default, which the papers used): a hypothesis that ends leaves its slot empty for the next
  step, and the best total log-probability wins.
- `full`: the slots of ended hypotheses are filled with the next best open hypotheses. This changes the result
  under a length penalty only: without one, a hypothesis that fills a slot can never win over the one that
  ended there.

Both accept a length penalty, a minimum length, no-repeat n-grams and a repetition penalty. Both can give the
`n_best` drafts instead of the best alone. Token 0 begins, ends and pads. `decode` gives the result.
`decode_steps` also gives the leading hypotheses after every token, so that a draft can be shown while it is
written.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, Protocol, get_args, get_type_hints

import torch
from torch import Tensor

END = 0

#: The only method that uses a field; fields that every method uses are not listed.
METHOD_OF_FIELD = {
    "beams": "beam",
    "n_best": "beam",
    "scoring": "beam",
    "length_penalty": "beam",
    "temperature": "sample",
    "top_k": "sample",
    "top_p": "sample",
    "seed": "sample",
}
#: Least and greatest value of each number; None means that there is no bound.
_RANGES: dict[str, tuple[float | None, float | None]] = {
    "beams": (1, 1000),
    "n_best": (1, 1000),
    "maximum_length": (1, 5000),  # systems have 5000 positions
    "minimum_length": (0, 5000),
    "no_repeat_ngram": (0, None),
    "top_k": (0, None),
    "seed": (0, 2**63 - 1),
}
_ABOVE_0 = ("repetition_penalty", "temperature", "top_p")


@dataclass(kw_only=True, slots=True)
class DecodingConfig:
    """How drafts are decoded.

    Attributes:
        method: How tokens are chosen: `beam` search, `greedy` (the most probable token), or `sample` (at
            random).
        beams: Number of hypotheses kept per study (method `beam`).
        n_best: Number of drafts given per study, best first (method `beam`); at most `beams`.
        scoring: What happens to the place of a hypothesis that has ended: `captioning` leaves it empty for
            one step, as the papers' code does, and `full` fills it with the next best hypothesis. They differ
            under a length penalty only.
        maximum_length: Largest number of tokens of a draft; a draft that reaches it has no end token.
        minimum_length: Smallest number of tokens of a draft; the end is not counted.
        no_repeat_ngram: No sequence of this many tokens occurs twice in a draft; 0 allows all sequences.
        repetition_penalty: The log-probability of each token that is already in the draft is multiplied by
            this number: values above 1 penalise repetitions, and 1 changes nothing. The penalty decides which
            hypotheses win, as in the beam search of `transformers`; reported log-probabilities are without
            it.
        length_penalty: Hypotheses compete by log-probability / length ** length_penalty; the length includes
            the end.
        temperature: Number that logits are divided by (method `sample`).
        top_k: Sampling chooses among this many most probable tokens; 0 chooses among all tokens.
        top_p: Sampling chooses among the most probable tokens: as few as together have this probability.
        seed: Random seed of the sampling.
    """

    method: Literal["beam", "greedy", "sample"] = "beam"
    beams: int = 3
    n_best: int = 1
    scoring: Literal["captioning", "full"] = "captioning"
    maximum_length: int = 60
    minimum_length: int = 0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    length_penalty: float = 0.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check all fields.

        Raises:
            ValueError: a field has another type, is out of range or not finite, or two do not go together.
        """
        types = get_type_hints(type(self))
        for name in (field.name for field in fields(self)):
            _check_field(name, types[name], getattr(self, name))
        if self.minimum_length > self.maximum_length:
            raise ValueError("decoding.minimum_length must not exceed decoding.maximum_length")
        if self.top_p > 1:
            raise ValueError(f"decoding.top_p must be in (0, 1], not {self.top_p}")
        if self.n_best > beams_of(self):
            wide = "the method 'beam'" if self.method != "beam" else f"decoding.beams {self.n_best} or more"
            raise ValueError(f"decoding.n_best {self.n_best} needs {wide}")


def _check_field(name: str, kind: Any, value: Any) -> None:
    """Raise ValueError if a decoding field has the wrong type or is out of its range."""
    if names := get_args(kind):
        if value not in names:
            raise ValueError(f"decoding.{name} must be {' or '.join(names)}, not {value!r}")
        return
    whole = kind is int
    words = "a whole number" if whole else "a number"
    if not isinstance(value, Integral if whole else Real) or isinstance(value, bool):
        raise ValueError(f"decoding.{name} must be {words}, not {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"decoding.{name} must be finite, not {value}")
    least, greatest = _RANGES.get(name, (None, None))
    if least is not None and number < least:
        raise ValueError(f"decoding.{name} must be at least {least}, not {value}")
    if greatest is not None and number > greatest:
        raise ValueError(f"decoding.{name} must be at most {greatest}, not {value}")
    if name in _ABOVE_0 and number <= 0:
        raise ValueError(f"decoding.{name} must be above 0, not {value}")


class DecoderState(Protocol):
    """What a system keeps between steps; the search does nothing with it but reorder it."""

    def reorder(self, parents: Tensor) -> None:
        """Let beam `b` of study `s` continue beam `parents[s, b]`; `parents` is `[studies, beams]`."""


#: `step(tokens [studies, beams], state) -> log-probabilities [studies, beams, logits]`
Step = Callable[[Tensor, Any], Tensor]


@dataclass(slots=True)
class Decoded:
    """The result of a search.

    Attributes:
        tokens: int `[studies, maximum_length]`, 0 after the end.
        token_logprobs: Log-probability of each token, including the end token, and 0 after it,
            `[studies, maximum_length]`.
        logprob: Sum of the log-probabilities `[studies]`. A study without a draft has NaN, because the system
            gave a log-probability that is not a number, or -inf, because minimum length and no-repeat n-grams
            allow no draft.
        alternatives: The second best result, the third best and so on, up to `n_best`. If a search found
            fewer, the `logprob` of the missing ones is -inf.
    """

    tokens: Tensor
    token_logprobs: Tensor
    logprob: Tensor
    alternatives: tuple[Decoded, ...] = ()


#: Gives the leading hypotheses at one moment of a search.
Leading = Callable[[], Decoded]


def decode(
    step: Step, state: DecoderState, studies: int, config: DecodingConfig, device: torch.device
) -> Decoded:
    """Decode one draft per study.

    Args:
        step: The step function of the system.
        state: The system's state before the first token, made for `beams_of(config)` beams.
        studies: Number of studies that are decoded together.
        config: The settings of the decoding.
        device: The device that holds the tensors of the search.
    """
    (last,) = deque(decode_steps(step, state, studies, config, device), maxlen=1)
    return last()


def decode_steps(
    step: Step, state: DecoderState, studies: int, config: DecodingConfig, device: torch.device
) -> Iterator[Leading]:
    """Decode as `decode` does, token by token.

    After each token, a function is yielded that gives the leading hypothesis of every study. It may be called
    only before the next function is requested. The last function gives the result. A beam search may change
    its mind: the leading hypothesis need not begin with the one that led before.

    Args:
        step: The step function of the system.
        state: The system's state before the first token, made for `beams_of(config)` beams.
        studies: Number of studies that are decoded together.
        config: The settings of the decoding.
        device: The device that holds the tensors of the search.
    """
    search = _sample if config.method == "sample" else _beam_search
    return search(step, state, studies, config, device)


def beams_of(config: DecodingConfig) -> int:
    """Number of beams that the state must hold per study."""
    return config.beams if config.method == "beam" else 1


def _restrain(logprobs: Tensor, tokens: Tensor, length: int, config: DecodingConfig) -> Tensor:
    """Penalise repeated tokens, and give -inf to tokens that minimum length or no-repeat n-grams forbid.

    Args:
        logprobs: Log-probabilities of the next token `[studies, beams, logits]`.
        tokens: Tokens of each beam `[studies, beams, maximum_length]`; the first `length` are filled.
        length: Number of tokens so far.
        config: The settings of the decoding.
    """
    if config.repetition_penalty != 1 and length:
        seen = tokens[..., :length]
        # Log-probabilities are never positive, so a penalty above 1 lowers all of them.
        logprobs = logprobs.scatter(-1, seen, logprobs.gather(-1, seen) * config.repetition_penalty)
    if length < config.minimum_length:
        logprobs = logprobs.clone()
        logprobs[..., END] = -torch.inf
    n = config.no_repeat_ngram
    if n and length >= n:
        ngrams = tokens[..., :length].unfold(-1, n, 1)  # [studies, beams, length - n + 1, n]
        last = tokens[..., length - n + 1 : length].unsqueeze(-2)
        repeats = (ngrams[..., : n - 1] == last).all(-1)
        # Only repeated n-grams have a penalty; for all others a harmless 0 is added.
        penalty = torch.zeros_like(ngrams[..., -1], dtype=logprobs.dtype).masked_fill(repeats, -torch.inf)
        logprobs = logprobs.scatter_reduce(-1, ngrams[..., -1], penalty, reduce="sum")
    return logprobs


class _EndedHypotheses:
    """The best ended hypotheses of each study, best first.

    Args:
        studies: Number of studies.
        config: Says how many hypotheses are kept, how long they may be, and how their length is penalised.
        device: The device that holds the hypotheses.

    Attributes:
        scores: Scores `[studies, n_best]`; minus infinity where there is no hypothesis.
        tokens: Tokens `[studies, n_best, maximum_length]`.
        logprobs: Log-probability of each token `[studies, n_best, maximum_length]`.
    """

    def __init__(self, studies: int, config: DecodingConfig, device: torch.device):
        shape = (studies, config.n_best, config.maximum_length)
        self.config = config
        self.scores = torch.full(shape[:2], -torch.inf, device=device)
        self.tokens = torch.zeros(shape, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(shape, device=device)

    def add(self, total: Tensor, length: int, tokens: Tensor, logprobs: Tensor) -> None:
        """Add candidates `[studies, candidates, ...]` and keep the best; the `total` of open ones is -inf."""
        # Among hypotheses with equal scores, the one that ended first stays in front.
        scores = torch.cat([self.scores, total / length**self.config.length_penalty], dim=1)
        scores, which = scores.sort(dim=1, descending=True, stable=True)
        kept = self.config.n_best
        along = which[:, :kept, None].expand(-1, -1, self.tokens.size(-1))
        self.scores = scores[:, :kept]
        self.tokens = torch.cat([self.tokens, tokens], dim=1).gather(1, along)
        self.logprobs = torch.cat([self.logprobs, logprobs], dim=1).gather(1, along)

    def decoded(self, not_a_number: Tensor) -> Decoded:
        """The best hypothesis of each study, with the others as alternatives.

        Args:
            not_a_number: bool `[studies]`, True for studies that had a NaN among their log-probabilities.
        """

        def of_rank(rank: int) -> Decoded:
            missing = self.scores[:, rank] == -torch.inf
            sums = self.logprobs[:, rank].sum(dim=1).masked_fill(missing, -torch.inf)
            return Decoded(
                self.tokens[:, rank], self.logprobs[:, rank], sums.masked_fill(not_a_number, torch.nan)
            )

        return replace(of_rank(0), alternatives=tuple(map(of_rank, range(1, self.config.n_best))))


def _beam_search(
    step: Step, state: DecoderState, studies: int, config: DecodingConfig, device: torch.device
) -> Iterator[Leading]:
    beams = beams_of(config)
    longest = config.maximum_length
    refill = config.scoring == "full"
    tokens = torch.zeros(studies, beams, longest, dtype=torch.long, device=device)
    token_logprobs = torch.zeros(studies, beams, longest, device=device)
    # Only the first beam is open at the start, so that the first step expands one hypothesis.
    total = torch.full((studies, beams), -torch.inf, device=device)
    total[:, 0] = 0.0
    last = torch.zeros(studies, beams, dtype=torch.long, device=device)
    ended = _EndedHypotheses(studies, config, device)
    not_a_number = torch.zeros(studies, dtype=torch.bool, device=device)

    def leading() -> Decoded:
        """The best hypothesis of each study, ended or open."""
        open_score, which = (total / (length + 1) ** config.length_penalty).max(dim=1)
        rows = torch.arange(studies, device=device)
        ahead = (open_score > ended.scores[:, 0])[:, None]
        logprobs = torch.where(ahead, token_logprobs[rows, which], ended.logprobs[:, 0])
        sums = logprobs.sum(dim=1).masked_fill(not_a_number, torch.nan)
        return Decoded(torch.where(ahead, tokens[rows, which], ended.tokens[:, 0]), logprobs, sums)

    check_every = 1 if device.type == "cpu" else 8  # on a GPU, each check waits for the device
    for length in range(longest):
        raw = step(last, state).float()
        allowed = _restrain(raw, tokens, length, config)
        logits = raw.size(-1)
        candidates = (total.unsqueeze(-1) + allowed).flatten(1)
        # Each beam ends in at most one way, so twice the beams always hold enough open hypotheses.
        scores, index = candidates.topk(2 * beams if refill else beams, dim=1)
        # NaN sorts above all numbers, so that no NaN is missed here.
        not_a_number = not_a_number | scores.isnan().any(dim=1)
        parents, chosen = index // logits, index % logits
        along = parents.unsqueeze(-1).expand(-1, -1, longest)
        new_tokens, new_logprobs = tokens.gather(1, along), token_logprobs.gather(1, along)
        new_tokens[..., length] = chosen
        new_logprobs[..., length] = raw.flatten(1).gather(1, index)

        ends = chosen == END
        # Only hypotheses within the beam may end.
        within = torch.arange(scores.size(1), device=device) < beams
        ended.add(scores.masked_fill(~(ends & within), -torch.inf), length + 1, new_tokens, new_logprobs)
        scores = scores.masked_fill(ends, -torch.inf)
        if refill:
            keep = scores.argsort(dim=1, descending=True, stable=True)[:, :beams]
            scores, parents, chosen = (x.gather(1, keep) for x in (scores, parents, chosen))
            along = keep.unsqueeze(-1).expand(-1, -1, longest)
            new_tokens, new_logprobs = new_tokens.gather(1, along), new_logprobs.gather(1, along)
        total, last, tokens, token_logprobs = scores, chosen, new_tokens, new_logprobs
        if length + 1 == longest:
            ended.add(total, longest, tokens, token_logprobs)
        elif length % check_every == 0 and not bool(
            # The search does not wait for studies with a NaN.
            ((ended.scores[:, -1] < _reachable(total, length + 1, config)) & ~not_a_number).any()
        ):
            break
        else:
            yield leading
            state.reorder(parents)
    yield lambda: ended.decoded(not_a_number)


def _reachable(total: Tensor, length: int, config: DecodingConfig) -> Tensor:
    """An upper bound of the scores that the open hypotheses of each study can still reach, `[studies]`.

    Log-probabilities only fall, so the bound is today's best, divided by the most favourable later length.
    """
    best = total.max(dim=1).values
    lengths = (length + 1, config.maximum_length)
    return torch.stack([best / later**config.length_penalty for later in lengths]).max(dim=0).values


def _sample(
    step: Step, state: DecoderState, studies: int, config: DecodingConfig, device: torch.device
) -> Iterator[Leading]:
    generator = torch.Generator(device).manual_seed(config.seed)
    longest = config.maximum_length
    tokens = torch.zeros(studies, 1, longest, dtype=torch.long, device=device)
    token_logprobs = torch.zeros(studies, longest, device=device)
    last = torch.zeros(studies, 1, dtype=torch.long, device=device)
    open_ = torch.ones(studies, dtype=torch.bool, device=device)
    # 0 for a study with a draft; otherwise NaN or -inf, which is added to its sum of log-probabilities.
    fault = torch.zeros(studies, device=device)
    for length in range(longest):
        raw = step(last, state).float()
        logprobs = _restrain(raw, tokens, length, config)[:, 0] / config.temperature
        fault.masked_fill_(open_ & (logprobs == -torch.inf).all(dim=-1), -torch.inf)
        fault.masked_fill_(open_ & logprobs.isnan().any(dim=-1), torch.nan)
        # Something must be drawn even for a study without a draft.
        logprobs = logprobs.masked_fill((fault != 0)[:, None], 0.0)
        probabilities = _restrict(logprobs.softmax(-1), config.top_k, config.top_p)
        chosen = torch.multinomial(probabilities, 1, generator=generator)
        token_logprobs[:, length] = raw[:, 0].gather(1, chosen)[:, 0].where(open_, 0.0)
        last = chosen.where(open_.unsqueeze(1), END)
        tokens[:, :, length] = last
        open_ = open_ & (last[:, 0] != END)
        yield lambda: Decoded(tokens[:, 0].clone(), token_logprobs.clone(), token_logprobs.sum(dim=1) + fault)
        if length % 8 == 0 and not bool(open_.any()):
            break


def _restrict(probabilities: Tensor, top_k: int, top_p: float) -> Tensor:
    """Set the probability of tokens outside the `top_k` most probable or outside the nucleus `top_p` to 0."""
    ordered, index = probabilities.sort(dim=-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    if top_k:
        outside[..., top_k:] = True
    return probabilities.scatter(-1, index, ordered.masked_fill(outside, 0.0))
