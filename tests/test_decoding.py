"""Decoding against brute force and against a plain transcription of the rules."""

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radscribe.decoding.search import END, DecodingConfig, _restrain, beams_of, decode, decode_steps


class MarkovState:
    """A decoder whose next word depends on all words so far, by a table from a seeded generator."""

    def __init__(self, studies: int, beams: int, logits: int, seed: int):
        self.logits, self.seed = logits, seed
        self.prefixes = [[() for _ in range(beams)] for _ in range(studies)]

    def logprobs(self, study: int, prefix: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, study, prefix)) % 2**31)
        return (2 * torch.randn(self.logits, generator=generator)).log_softmax(-1)

    def step(self, tokens: torch.Tensor, _: object) -> torch.Tensor:
        rows = []
        for study, row in enumerate(tokens.tolist()):
            self.prefixes[study] = [
                (*prefix, token) for prefix, token in zip(self.prefixes[study], row, strict=True)
            ]
            rows.append(torch.stack([self.logprobs(study, prefix[1:]) for prefix in self.prefixes[study]]))
        return torch.stack(rows)

    def reorder(self, parents: torch.Tensor) -> None:
        self.prefixes = [
            [self.prefixes[study][parent] for parent in row] for study, row in enumerate(parents.tolist())
        ]


def search(config: DecodingConfig, *, studies: int = 1, logits: int = 4, seed: int = 0):
    state = MarkovState(studies, beams_of(config), logits, seed)
    return state, decode(state.step, state, studies, config, torch.device("cpu"))


def penalised(state: MarkovState, study: int, words: tuple[int, ...], penalty: float) -> float:
    """What a hypothesis competes by: log-probabilities of words that it has already times the penalty."""
    return sum(
        state.logprobs(study, words[:n])[word].item() * (penalty if word in words[:n] else 1)
        for n, word in enumerate(words)
    )


def total_logprob(state: MarkovState, study: int, words: tuple[int, ...]) -> float:
    return sum(state.logprobs(study, words[:n])[word].item() for n, word in enumerate(words))


def all_reports(logits: int, longest: int):
    """Every report: words and an end, or as many words as there may be."""
    for length in range(longest):
        for words in itertools.product(range(1, logits), repeat=length):
            yield (*words, END)
    yield from itertools.product(range(1, logits), repeat=longest)


def repeats_ngram(words: tuple[int, ...], n: int) -> bool:
    ngrams = list(zip(*(words[k:] for k in range(n)), strict=False))
    return len(set(ngrams)) < len(ngrams)


def pad(words: tuple[int, ...], longest: int) -> list[int]:
    return list(words) + [END] * (longest - len(words))


@settings(max_examples=60, deadline=None)
@given(
    logits=st.integers(2, 4),
    longest=st.integers(1, 4),
    minimum=st.integers(0, 4),
    no_repeat=st.integers(0, 2),
    penalty=st.sampled_from([0.0, 0.7, 2.0, -1.0]),
    repetition=st.sampled_from([1.0, 2.0, 0.5]),
    scoring=st.sampled_from(["captioning", "full"]),
    seed=st.integers(0, 10_000),
)
def test_a_beam_wide_enough_for_everything_finds_the_best_report(
    logits, longest, minimum, no_repeat, penalty, repetition, scoring, seed
):
    minimum = min(minimum, longest)
    config = DecodingConfig(
        beams=logits**longest,
        scoring=scoring,
        maximum_length=longest,
        minimum_length=minimum,
        no_repeat_ngram=no_repeat,
        length_penalty=penalty,
        repetition_penalty=repetition,
    )
    state, found = search(config, logits=logits, seed=seed)
    allowed = [
        words
        for words in all_reports(logits, longest)
        if len([word for word in words if word]) >= minimum
        and not (no_repeat and repeats_ngram(words, no_repeat))
    ]
    if not allowed:
        return
    score = {words: penalised(state, 0, words, repetition) / len(words) ** penalty for words in allowed}
    best = max(score, key=score.__getitem__)
    assert found.tokens[0].tolist() == pad(best, longest)
    assert math.isclose(found.logprob.item(), total_logprob(state, 0, best), abs_tol=1e-5)


Hypothesis = tuple[float, tuple[int, ...]]  # its total log-probability and its words


def ranked(hypotheses: list[Hypothesis], config: DecodingConfig) -> list[tuple[int, ...]]:
    """The words of the hypotheses, the best first."""
    score = {words: total / len(words) ** config.length_penalty for total, words in hypotheses}
    return sorted(score, key=score.__getitem__, reverse=True)


def plain_beam_search(
    state: MarkovState, study: int, config: DecodingConfig, logits: int
) -> Iterator[list[tuple[int, ...]]]:
    """The rules of both scorings, one study and one hypothesis at a time: what competes after every step."""
    open_beams: list[Hypothesis] = [(0.0, ())]
    ended: list[Hypothesis] = []
    for length in range(config.maximum_length):
        candidates = sorted(
            (
                (total + state.logprobs(study, words)[word].item(), (*words, word))
                for total, words in open_beams
                for word in range(logits)
            ),
            reverse=True,
        )
        within = candidates[: config.beams]
        ended += [candidate for candidate in within if candidate[1][-1] == END]
        if config.scoring == "full":
            open_beams = [candidate for candidate in candidates if candidate[1][-1] != END][: config.beams]
        else:
            open_beams = [candidate for candidate in within if candidate[1][-1] != END]
        yield ranked(ended + open_beams, config)
        if length + 1 == config.maximum_length:
            ended += open_beams
        if not open_beams:
            break
    yield ranked(ended, config)


@settings(max_examples=60, deadline=None)
@given(
    logits=st.integers(2, 6),
    longest=st.integers(1, 7),
    beams=st.integers(1, 4),
    n_best=st.integers(1, 4),
    penalty=st.sampled_from([0.0, 1.0]),
    scoring=st.sampled_from(["captioning", "full"]),
    seed=st.integers(0, 10_000),
)
def test_beam_search_is_its_plain_transcription(logits, longest, beams, n_best, penalty, scoring, seed):
    config = DecodingConfig(
        beams=beams,
        n_best=min(n_best, beams),
        scoring=scoring,
        maximum_length=longest,
        length_penalty=penalty,
    )
    state, found = search(config, studies=3, logits=logits, seed=seed)
    for study in range(3):
        *_, ended = plain_beam_search(state, study, config, logits)
        expected = ended[: config.n_best]
        drafts = [draft for draft in (found, *found.alternatives) if draft.logprob[study] > -math.inf]
        assert [draft.tokens[study].tolist() for draft in drafts] == [
            pad(words, longest) for words in expected
        ]
        assert [draft.logprob[study].item() for draft in drafts] == pytest.approx(
            [total_logprob(state, study, words) for words in expected], abs=1e-4
        )


@pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
@pytest.mark.parametrize("scoring", ["captioning", "full"])
def test_log_probabilities_that_are_no_numbers_are_seen(method, scoring):
    """In the study in which they are, whatever step they come at, and in no other."""
    fields = {"scoring": scoring, "beams": 3} if method == "beam" else {}
    config = DecodingConfig(method=method, maximum_length=6, minimum_length=4, **fields)
    state = MarkovState(3, beams_of(config), 5, 0)
    steps = 0

    def step(tokens, state):
        nonlocal steps
        steps += 1
        logprobs = state.step(tokens, state)
        if steps == 3:
            logprobs[1, :, 2] = math.nan
        return logprobs

    found = decode(step, state, 3, config, torch.device("cpu"))
    assert found.logprob.isnan().tolist() == [False, True, False]
    assert found.logprob[[0, 2]].isfinite().all()


@pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
def test_a_decoding_that_allows_no_draft_finds_none(method):
    config = DecodingConfig(method=method, maximum_length=8, minimum_length=8, no_repeat_ngram=1)
    assert search(config, studies=2, logits=4)[1].logprob.tolist() == [-math.inf] * 2


def test_the_scorings_differ():
    """Only under a length penalty: without one, what refills a slot is behind what ended there for good."""

    def differences(penalty):
        found = []
        for seed in range(60):
            both = [
                DecodingConfig(beams=2, scoring=scoring, maximum_length=6, length_penalty=penalty)
                for scoring in ("captioning", "full")
            ]
            found.append(not torch.equal(*(search(config, seed=seed)[1].tokens for config in both)))
        return sum(found)

    assert differences(0.0) == 0
    assert differences(1.0) > 0


def test_greedy_takes_the_best_word_each_time():
    state, found = search(DecodingConfig(method="greedy", maximum_length=8), studies=2, logits=6, seed=5)
    for study in range(2):
        words: tuple[int, ...] = ()
        while len(words) < 8 and (not words or words[-1] != END):
            words = (*words, int(state.logprobs(study, words).argmax()))
        assert found.tokens[study].tolist() == pad(words, 8)


@settings(max_examples=40, deadline=None)
@given(penalty=st.sampled_from([0.5, 1.0, 1.3, 2.0]), length=st.integers(0, 6), seed=st.integers(0, 10_000))
def test_the_repetition_penalty_is_that_of_transformers(penalty, length, seed):
    from transformers import RepetitionPenaltyLogitsProcessor

    generator = torch.Generator().manual_seed(seed)
    logprobs = torch.randn(2, 3, 9, generator=generator).log_softmax(-1)
    tokens = torch.randint(1, 9, (2, 3, 7), generator=generator)
    config = DecodingConfig(repetition_penalty=penalty)
    ours = _restrain(logprobs.clone(), tokens, length, config)
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(
        tokens[..., :length].flatten(0, 1), logprobs.flatten(0, 1)
    )
    assert torch.equal(ours.flatten(0, 1), theirs)


@pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
def test_steps_lead_to_the_result(method):
    config = DecodingConfig(method=method, beams=3, maximum_length=8)
    for seed in range(10):
        _, found = search(config, studies=3, logits=5, seed=seed)
        state = MarkovState(3, beams_of(config), 5, seed)
        shown = [leading() for leading in decode_steps(state.step, state, 3, config, torch.device("cpu"))]
        assert torch.equal(shown[-1].tokens, found.tokens)
        assert torch.equal(shown[-1].token_logprobs, found.token_logprobs)
        for count, each in enumerate(shown, start=1):
            assert bool((each.tokens[:, count:] == END).all())
            if method != "beam":
                assert torch.equal(each.tokens[:, :count], found.tokens[:, :count])


@pytest.mark.parametrize("scoring", ["captioning", "full"])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_what_leads_in_a_beam_search_is_its_best_hypothesis_so_far(scoring, length_penalty):
    config = DecodingConfig(beams=3, maximum_length=6, scoring=scoring, length_penalty=length_penalty)
    changed = 0
    for seed in range(10):
        state = MarkovState(2, 3, 4, seed)
        expected = [list(plain_beam_search(state, study, config, 4)) for study in range(2)]
        previous = None
        for number, leading in enumerate(decode_steps(state.step, state, 2, config, torch.device("cpu"))):
            shown = leading()
            for study, row in enumerate(shown.tokens.tolist()):
                words = expected[study][min(number, len(expected[study]) - 1)][0]
                assert row == pad(words, 6)
                assert shown.logprob[study].item() == pytest.approx(
                    total_logprob(state, study, words), abs=1e-5
                )
            if previous is not None:
                changed += not torch.equal(shown.tokens[:, :number], previous[:, :number])
            previous = shown.tokens
    assert changed, "no search changed its mind, so that nothing of it was tested"


def test_token_logprobs_are_those_of_the_words():
    state, found = search(DecodingConfig(beams=3, maximum_length=6), studies=2, logits=5, seed=2)
    for study, row in enumerate(found.tokens.tolist()):
        length = row.index(END) + 1 if END in row else len(row)
        expected = [state.logprobs(study, tuple(row[:n]))[row[n]].item() for n in range(length)]
        assert found.token_logprobs[study, :length].tolist() == pytest.approx(expected, abs=1e-5)
        assert found.token_logprobs[study, length:].tolist() == [0.0] * (len(row) - length)


def test_sampling_is_seeded_and_restricted():
    def sample(**fields):
        return search(DecodingConfig(method="sample", maximum_length=12, **fields), studies=4, logits=8)[
            1
        ].tokens

    assert torch.equal(sample(seed=1), sample(seed=1))
    assert not torch.equal(sample(seed=1), sample(seed=2))
    greedy = search(DecodingConfig(method="greedy", maximum_length=12), studies=4, logits=8)[1].tokens
    assert torch.equal(sample(top_k=1), greedy)
    assert torch.equal(sample(top_p=1e-6), greedy)


def test_sampling_follows_the_probabilities():
    config = DecodingConfig(method="sample", maximum_length=1, seed=3)
    state = MarkovState(1, 1, 4, 0)
    first = state.logprobs(0, ()).exp()
    state.logprobs = lambda study, prefix: first.log()
    state.prefixes = [[()] for _ in range(4000)]
    tokens = decode(state.step, state, 4000, config, torch.device("cpu")).tokens
    share = torch.bincount(tokens[:, 0], minlength=4) / 4000
    assert (share - first).abs().max() < 0.03


def test_minimum_length_forces_every_token():
    _, found = search(DecodingConfig(beams=3, maximum_length=9, minimum_length=9), studies=3)
    assert bool((found.tokens != END).all())


def test_the_search_stops_when_nothing_can_win():
    """A model that ends at once is asked for few steps, not for the maximum length."""
    steps = 0

    class Ending:
        def reorder(self, parents):
            pass

    def step(tokens, state):
        nonlocal steps
        steps += 1
        logprobs = torch.full((*tokens.shape, 5), -20.0)
        logprobs[..., END] = -1e-6
        return logprobs

    decode(step, Ending(), 2, DecodingConfig(beams=3, maximum_length=60), torch.device("cpu"))
    assert steps <= 2


@pytest.mark.parametrize(
    "fields",
    [
        {"beams": 0},
        {"maximum_length": 0},
        {"minimum_length": 61},
        {"temperature": 0.0},
        {"top_p": 0.0},
        {"no_repeat_ngram": -1},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": math.nan},
        {"length_penalty": math.inf},
        {"method": "beams"},
        {"scoring": None},
        {"beams": 2.0},
        {"beams": True},
        {"beams": "3"},
        {"seed": -1},
        {"n_best": 4},
        {"method": "greedy", "n_best": 2},
    ],
)
def test_impossible_configurations_are_refused(fields):
    with pytest.raises(ValueError, match=r"decoding\."):
        DecodingConfig(**fields)
