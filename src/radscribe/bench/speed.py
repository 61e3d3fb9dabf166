"""Measuring speed and memory of a system, as ratios to its own backbone.

Absolute seconds mean little on shared machines. So RadScribe only claims the ratio to the time of the
backbone alone, measured in the same run on the same input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch.optim import Optimizer

from radscribe.bench.timing import (
    check_ranges,
    device_on,
    kept_bytes,
    measured_on,
    medians_in_turn,
    rounded,
    seconds,
)
from radscribe.decoding.search import DecodingConfig
from radscribe.errors import RadScribeError
from radscribe.layers.relational_memory import RelationalMemory
from radscribe.observations import OBSERVATIONS
from radscribe.ranges import COUNT, Range, check_options
from radscribe.recipes import get_recipe
from radscribe.systems.r2gen import R2GenConfig
from radscribe.systems.registry import get_system
from radscribe.systems.system import Batch, System
from radscribe.text.cleaning import UNKNOWN_TOKEN
from radscribe.text.vocabulary import Vocabulary
from radscribe.training.memory import keep_large_blocks, peak_memory_gb
from radscribe.training.optimizer import create_optimizer
from radscribe.vision.selective_scan import selective_scan, sequential_scan
from radscribe.vision.vision_mamba import VISION_MAMBAS

#: Number of entries of the IU X-Ray vocabulary, for which the papers' sizes are meant.
IU_XRAY_WORDS = 760
#: Number of studies in one epoch of training, and in one pass over the test split, on IU X-Ray.
IU_XRAY_STUDIES = {"train": 2069, "decode": 590}


def bench(
    task: Literal["decode", "train"],
    *,
    system: str,
    variant: str,
    batch: int,
    views: int,
    beam: int,
    length: int,
    threads: int,
    repeats: int,
    paper_size: bool,
) -> dict[str, Any]:
    """Measure a system with random weights on random views.

    Args:
        task: `decode` drafts and forces all `length` tokens; `train` runs forward, backward and one optimiser
            step.
        system: Name of the system.
        variant: Variant of its recipe, such as `base`; empty for the full system.
        batch: Number of studies in a batch.
        views: Number of views per study.
        beam: Number of beams (only `decode`).
        length: Number of tokens of each report.
        threads: Number of CPU threads.
        repeats: Number of measured runs after one warm-up; their median is the result.
        paper_size: Use the sizes of the recipe for IU X-Ray; otherwise those of the recipe for the phantom.

    Returns:
        Seconds, their ratio to the time of the backbone alone, and peak memory in GB, as JSON values.

    Raises:
        RadScribeError: a number is out of range, or there is no such system or variant.
    """
    get_system(system)
    check_ranges(batch=batch, length=length, threads=threads, repeats=repeats)
    check_options({"--views": (views, Range(1, 1000)), "--beam": (beam, Range(1, 1000))})
    if task == "train":
        keep_large_blocks()  # training does this too; drafting does not
    device = device_on(threads)
    name = "/".join(filter(None, [system, "iu-xray" if paper_size else "phantom", variant]))
    config = get_recipe(name).build()
    config.system.backbone.weights = "none"
    words = [f"word{number:04}" for number in range(IU_XRAY_WORDS - 1)]
    vocabulary = Vocabulary((UNKNOWN_TOKEN, *words), cleaning="none", minimum_count=1)
    model = get_system(system).build(config.system, vocabulary, length).to(device)
    study_batch = random_batch(batch, views, length, config.data.transform.crop, device)
    if task == "decode":
        passes = _drafting_passes(
            model, study_batch, DecodingConfig(beams=beam, maximum_length=length, minimum_length=length)
        )
    else:
        passes = _training_passes(model, study_batch, create_optimizer(model, config.training))
    whole_seconds, backbone_seconds = medians_in_turn(passes, repeats, device)
    return {
        "task": task,
        "recipe": name,
        "batch": batch,
        "views": views,
        **({"beam": beam} if task == "decode" else {}),
        "length": length,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": rounded(whole_seconds),
        "backbone_seconds": rounded(backbone_seconds),
        "ratio_to_backbone": rounded(whole_seconds / backbone_seconds),
        "iu_xray_minutes": rounded(whole_seconds * math.ceil(IU_XRAY_STUDIES[task] / batch) / 60),
        # The peak is that of the whole system, which includes everything that the backbone needs.
        "peak_memory_gb": rounded(peak_memory_gb(device)),
        **measured_on(threads, device),
    }


def random_batch(studies: int, views: int, length: int, side: int, device: torch.device) -> Batch:
    """A batch with random views, random reports of full length, and random labels."""
    images = torch.randint(0, 256, (studies, views, side, side), dtype=torch.uint8, device=device)
    mask = torch.ones(studies, views, dtype=torch.bool, device=device)
    tokens = torch.randint(1, IU_XRAY_WORDS, (studies, length), device=device)
    tokens[:, 0] = 0
    labels = torch.randint(0, 2, (studies, len(OBSERVATIONS)), device=device).float()
    return Batch([str(number) for number in range(studies)], images, mask, tokens, labels)


#: The two functions that are measured: the whole system, and its backbone alone.
_Passes = tuple[Callable[[], object], Callable[[], object]]


def _drafting_passes(model: System, batch: Batch, decoding: DecodingConfig) -> _Passes:
    model.eval()

    def backbone_only() -> None:
        with torch.inference_mode():
            model.backbone(batch.views, batch.view_mask)

    return partial(model.generate, batch.views, batch.view_mask, decoding), backbone_only


def _training_passes(model: System, batch: Batch, optimizer: Optimizer) -> _Passes:
    model.train()

    def whole() -> None:
        optimizer.zero_grad()
        model(batch).total.backward()
        optimizer.step()

    def backbone_only() -> None:
        model.zero_grad()
        model.backbone(batch.views, batch.view_mask).tokens.sum().backward()

    return whole, backbone_only


def bench_memory(*, batch: int, length: int, threads: int, repeats: int) -> dict[str, Any]:
    """Compare the time of R2Gen's relational memory with that of the released code's loop.

    The released loop projects memory and word again for each word, one matrix after the other. Here it is
    written with the same weights. Both run forward and backward over training reports at the paper's size,
    alternately.

    Args:
        batch: Number of reports.
        length: Number of words of each report.
        threads: Number of CPU threads.
        repeats: Number of measured runs after one warm-up; their median is the result.

    Returns:
        Seconds, their ratio and the largest difference of a state, as JSON values.

    Raises:
        RadScribeError: a number is out of range.
    """
    check_ranges(batch=batch, length=length, threads=threads, repeats=repeats)
    device = device_on(threads)
    sizes = R2GenConfig()
    memory = RelationalMemory(sizes.memory_slots, sizes.width, sizes.memory_heads, dropout=0.0).to(device)
    words = torch.randn(batch, length, sizes.width, device=device, requires_grad=True)

    def run(states: Callable[[], torch.Tensor]) -> None:
        memory.zero_grad()
        states().sum().backward()

    released_loop = partial(_released_memory_loop, memory, words)
    ours, released = medians_in_turn(
        [partial(run, partial(memory, words)), partial(run, released_loop)], repeats, device
    )
    with torch.no_grad():
        difference = (memory(words) - released_loop()).abs().max().item()
    return {
        "task": "memory",
        "batch": batch,
        "length": length,
        "seconds": rounded(ours),
        "released_seconds": rounded(released),
        "ratio_to_released": rounded(ours / released),
        "largest_difference": rounded(difference),
        **measured_on(threads, device),
    }


def _released_memory_loop(memory: RelationalMemory, words: torch.Tensor) -> torch.Tensor:
    """States `[reports, words, slots * width]` of a memory, computed with one projection per word."""
    state, states = memory.initial(words.size(0)), []
    for position in range(words.size(1)):
        word = words[:, position : position + 1]
        state_and_word = torch.cat([state, word], dim=1)
        candidate = state + memory.attention(state, state_and_word, None)
        candidate = candidate + memory.mlp(candidate)
        gates = memory.word_gates(word) + memory.memory_gates(state.tanh())
        input_gate, forget_gate = gates.sigmoid().chunk(2, dim=-1)
        state = input_gate * candidate.tanh() + forget_gate * state
        states.append(state.flatten(1))
    return torch.stack(states, dim=1)


def bench_scan(*, batch: int, length: int, threads: int, repeats: int) -> dict[str, Any]:
    """Compare the time of the parallel selective scan with that of the sequential one, at the base size.

    Both scan random tokens in one direction, alternately: once without gradients, once forward and backward.

    Args:
        batch: Number of views.
        length: Number of tokens of each view; those of the vision Mamba are 197.
        threads: Number of CPU threads.
        repeats: Number of measured runs after one warm-up; their median is the result.

    Returns:
        Seconds, their ratios, what autograd keeps for the backward pass in GB (10^9 bytes), and the largest
        difference of an output, as JSON values.

    Raises:
        RadScribeError: a number is out of range.
    """
    check_ranges(batch=batch, length=length, threads=threads, repeats=repeats)
    device = device_on(threads)
    sizes = VISION_MAMBAS["arm_base_pz16"]
    channels, state = sizes.width, sizes.state
    x, step = (torch.randn(batch, length, channels, device=device) for _ in range(2))
    write, read = (torch.randn(batch, length, state, device=device) for _ in range(2))
    decay = -torch.arange(1.0, state + 1, device=device).repeat(channels, 1)
    inputs = [
        tensor.requires_grad_() for tensor in (x, torch.nn.functional.softplus(step), decay, write, read)
    ]

    def without_gradients(scan: Callable[..., torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            return scan(*inputs)

    def with_gradients(scan: Callable[..., torch.Tensor]) -> None:
        torch.autograd.grad(scan(*inputs).sum(), inputs)

    forms = (selective_scan, sequential_scan)
    forward, sequential_forward = medians_in_turn(
        [partial(without_gradients, form) for form in forms], repeats, device
    )
    ours, sequential = medians_in_turn([partial(with_gradients, form) for form in forms], repeats, device)
    difference = (without_gradients(selective_scan) - without_gradients(sequential_scan)).abs().max().item()
    kept, sequential_kept = (kept_bytes(partial(form, *inputs), inputs)[0] for form in forms)
    return {
        "task": "scan",
        "batch": batch,
        "length": length,
        "forward_seconds": rounded(forward),
        "sequential_forward_seconds": rounded(sequential_forward),
        "forward_ratio_to_sequential": rounded(forward / sequential_forward),
        "seconds": rounded(ours),
        "sequential_seconds": rounded(sequential),
        "ratio_to_sequential": rounded(ours / sequential),
        "kept_gb": rounded(kept / 1e9),
        "sequential_kept_gb": rounded(sequential_kept / 1e9),
        "largest_difference": rounded(difference),
        **measured_on(threads, device),
    }


def bench_scoring(*, pairs: int, resamples: int) -> dict[str, Any]:
    """Compare the time of scoring with intervals with that of the reference implementation scoring once.

    Args:
        pairs: Number of pairs of draft and reference, which are made of phantom reports.
        resamples: Number of bootstrap resamples; the reference implementation has no bootstrap.

    Returns:
        Seconds, their ratio and the largest difference of a score, as JSON values.

    Raises:
        RadScribeError: a number is out of range, or pycocoevalcap is not installed.
    """
    check_options({"--pairs": (pairs, COUNT), "--resamples": (resamples, COUNT)})
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise RadScribeError("pycocoevalcap is not installed", "pip install 'radscribe[meteor]'") from error
    from radscribe.evaluation.bootstrap import scores_with_intervals
    from radscribe.evaluation.metrics import text_statistics
    from radscribe.studies.phantom.reader import describe, sample_study
    from radscribe.text.cleaning import clean_iu_xray

    reports = [clean_iu_xray(describe(sample_study(0, number))[0]["findings"]) for number in range(2 * pairs)]
    drafts, references = reports[:pairs], reports[pairs:]
    cpu = torch.device("cpu")
    found: dict[str, float] = {}

    def ours() -> None:
        scores = scores_with_intervals([text_statistics(drafts, references)], resamples, seed=0)
        found.update({name: score.value for name, score in scores.items()})

    expected: dict[str, float] = {}

    def theirs() -> None:
        hypotheses, truths = (
            {number: [text] for number, text in enumerate(texts)} for texts in (drafts, references)
        )
        bleu, _ = Bleu(4).compute_score(truths, hypotheses, verbose=0)
        expected.update({f"BLEU-{order}": score for order, score in enumerate(bleu, start=1)})
        expected["ROUGE-L"] = Rouge().compute_score(truths, hypotheses)[0]
        expected["CIDEr"] = Cider().compute_score(truths, hypotheses)[0]

    own_seconds, reference_seconds = seconds(ours, cpu), seconds(theirs, cpu)
    return {
        "task": "score",
        "pairs": pairs,
        "resamples": resamples,
        "seconds": rounded(own_seconds),
        "reference_seconds": rounded(reference_seconds),
        "ratio_to_reference": rounded(own_seconds / reference_seconds),
        "largest_difference": max(abs(found[name] - score) for name, score in expected.items()),
    }
