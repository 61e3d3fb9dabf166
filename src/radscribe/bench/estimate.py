"""Estimating hours and memory of a whole training, from a measured step or from a plan for a GPU.

Systems without a large language model are measured: a few studies with random views and reports of full
length are trained for one step and drafted here, and all steps and drafts of the training take as long for
each study. For a large language model, `bench plan` counts what a GPU has to do at least.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, replace

import torch

from radscribe.bench.plan import Accelerator, bench_plan, is_known
from radscribe.bench.speed import random_batch
from radscribe.bench.timing import kept_bytes
from radscribe.device import chosen_device
from radscribe.runs.config import RunConfig
from radscribe.systems.registry import get_system
from radscribe.text.cleaning import UNKNOWN_TOKEN
from radscribe.text.vocabulary import Vocabulary
from radscribe.training.optimizer import create_optimizer

#: Largest number of studies that are measured; the time and the memory of more grow with their number.
_STUDIES = 4
#: Bytes of a parameter that is trained: its value, its gradient, and two moments of the optimiser.
_BYTES_PER_PARAMETER = 16


@dataclass(frozen=True, slots=True)
class Estimate:
    """Hours and memory of one training with its validations and the drafts of its test split.

    Attributes:
        hours: Hours of the training.
        memory_gb: Memory for weights, optimiser and activations, in 10^9 bytes.
        how: How it was found, in words.
    """

    hours: float
    memory_gb: float
    how: str


def estimate(config: RunConfig, studies: dict[str, int], accelerator: Accelerator) -> Estimate | None:
    """Estimate a training.

    Args:
        config: Configuration of the training, with the parts that the system starts from.
        studies: Number of studies of each split.
        accelerator: The GPU that a system with a large language model is planned for.

    Returns:
        The estimate; None if parts of the system are not made yet, so that nothing can be measured.

    Raises:
        RadScribeError: the system cannot be built.
    """
    model, training = config.system.language_model, config.training
    if model is not None and is_known(model.name):
        plan = bench_plan(config, accelerator)
        step, draft = (
            plan["training_step"]["seconds_at_least"],
            plan["drafting"]["seconds_per_batch_at_least"],
        )
        gigabytes, batch = plan["training_gb"]["all"], training.batch_size
        how = f"at least, counted for a GPU of {accelerator.memory_gb:g} GB"
    elif model is None:
        step, draft, gigabytes, batch = _measured(config)
        how = f"measured here on {batch} studies"
    else:
        return None
    steps = math.ceil(studies["train"] / batch) * training.epochs
    validations = training.epochs // training.validate_every
    drafts = math.ceil(studies["val"] / batch) * validations + math.ceil(studies["test"] / batch)
    return Estimate((steps * step + drafts * draft) / 3600, gigabytes, how)


def _measured(config: RunConfig) -> tuple[float, float, float, int]:
    """Seconds of a step and of drafting, memory of the whole batch in GB, and the number of studies."""
    config = copy.deepcopy(config)
    training, data = config.training, config.data
    device = chosen_device(training.device)
    studies = min(training.batch_size, _STUDIES)
    config.system.start_from_nothing()
    words = tuple(f"word{number:04}" for number in range(759))
    vocabulary = Vocabulary((UNKNOWN_TOKEN, *words), cleaning="none", minimum_count=1)
    system = get_system(config.system_name).build(config.system, vocabulary, data.maximum_length).to(device)
    batch = random_batch(studies, data.views, data.maximum_length, data.transform.crop, device)
    optimizer = create_optimizer(system, training)
    system.train()
    kept, loss = kept_bytes(lambda: system(batch).total, [*system.parameters(), *system.buffers()])
    loss.backward()  # the first step, which allocates, is not measured
    optimizer.step()
    began = time.perf_counter()
    optimizer.zero_grad()
    system(batch).total.backward()
    optimizer.step()
    _wait(device)
    trained = time.perf_counter()
    # Random weights end a draft anywhere, and trained ones at the length of a report at most.
    decoding = replace(config.decoding, minimum_length=config.decoding.maximum_length)
    system.eval().generate(batch.views, batch.view_mask, decoding)
    _wait(device)
    drafted = time.perf_counter()
    parameters = sum(parameter.numel() for parameter in system.parameters())
    whole = _BYTES_PER_PARAMETER * parameters + kept * training.batch_size / studies
    return trained - began, drafted - trained, whole / 1e9, studies


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
