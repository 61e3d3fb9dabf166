"""Weights and checkpoints, our own and published ones: written whole or not at all, and read strictly."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from radscribe.errors import RadScribeError
from radscribe.files import replacing


def load_pretrained(model_class: Any, config: Any, weights: str, field: str) -> Any:
    """Build a `transformers` model, with published weights unless `weights` is `none`.

    Args:
        model_class: Class of `transformers` to build.
        config: Configuration with the sizes; None takes the configuration of the weights.
        weights: Name on the Hugging Face hub, a folder, or `none`.
        field: Option of the command that names the weights, for errors.

    Raises:
        RadScribeError: the weights are not there, could not be downloaded, or have other sizes.
    """
    if weights == "none":
        return model_class(config)
    given = {} if config is None else {"config": config}
    with loading(
        f"the weights '{weights}'",
        f"Pass a folder in transformers format with --{field} FOLDER, with the sizes of its config.json, or "
        f"train from random weights with --{field} none",
    ):
        model, report = model_class.from_pretrained(weights, **given, output_loading_info=True)
    strange = [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]
    if strange:
        raise RadScribeError(
            f"the weights '{weights}' do not fit: {len(strange)} are missing, unexpected or of another "
            f"shape, such as {sorted(map(str, strange))[0]}",
            f"Give the sizes of {Path(weights) / 'config.json'}",
        )
    return model


def load_whole_model(name: str, what: str, hint: str) -> Any:
    """Load a model of `transformers` with its weights, of which only those of a pooler may be missing.

    Args:
        name: Folder of the model, or its name on the Hugging Face hub.
        what: What it is to be, for errors: `encoder`.
        hint: What the user is to do where it is not there.

    Raises:
        RadScribeError: it cannot be loaded, or lacks weights.
    """
    from transformers import AutoModel

    with loading(f"the {what} '{name}'", hint):
        model, report = AutoModel.from_pretrained(name, output_loading_info=True, trust_remote_code=False)
    # The pooler is not used, and models without one are common.
    missing = [weight for weight in map(str, report["missing_keys"]) if "pooler" not in weight]
    if strange := [*missing, *map(str, report["mismatched_keys"])]:
        raise RadScribeError(
            f"the {what} '{name}' lacks {len(strange)} weights, such as {min(strange)}", hint
        )
    return model


@contextmanager
def loading(what: str, hint: str) -> Iterator[None]:
    """Turn any error of loading a published model into one line, and switch off what `transformers` prints.

    Args:
        what: What is loaded.
        hint: What the user is to do where it cannot be loaded.

    Raises:
        RadScribeError: it could not be loaded.
    """
    try:
        with without_bars():
            yield
    except Exception as error:  # every hub client and every format fails in its own way
        raise RadScribeError(
            f"{what} could not be loaded ({type(error).__name__}: {' '.join(str(error).split())[:200]})", hint
        ) from error


@contextmanager
def without_bars() -> Iterator[None]:
    """Switch off what `transformers` prints as it reads and writes files; downloads keep their bars.

    Its report on missing and unexpected weights goes too: whoever loads weights checks them.
    """
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    enable_progress_bars()  # the line above also switches off the bars of downloads
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


@contextmanager
def whole_or_not_at_all(path: Path) -> Iterator[Path]:
    """Give a temporary path to write weights to; when they are written, it replaces `path`.

    Raises:
        RadScribeError: the weights could not be written; `path` still has its old content.
    """
    try:
        with replacing(path) as partial:
            yield partial
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap the OSError
        raise RadScribeError(
            f"cannot write '{path}' ({error})", "Make room on the disk; a training run goes on with --resume"
        ) from error


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write weights by name as a safetensors file, whole or not at all."""
    with whole_or_not_at_all(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, partial)


def hash_of_weights(module: nn.Module) -> str:
    """The SHA-256 of the weights of a module, by name, in hexadecimal digits."""
    found = hashlib.sha256()
    for name, weight in sorted(module.state_dict().items()):
        found.update(name.encode())
        found.update(weight.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def load_strictly(
    module: nn.Module, weights: Mapping[str, Tensor], what: str, own: Mapping[str, Tensor] | None = None
) -> None:
    """Load weights into a module; they must be exactly the weights that the module has.

    Args:
        module: Module that the weights are loaded into.
        weights: Weights by name.
        what: Name of the weights in errors.
        own: Weights that must be there, if these are not all weights of the module.

    Raises:
        RadScribeError: names the weights that are missing, unexpected, or of another shape.
    """
    own = module.state_dict() if own is None else own
    problems = [f"missing {name}" for name in sorted(own.keys() - weights.keys())]
    problems += [f"unexpected {name}" for name in sorted(weights.keys() - own.keys())]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        for name in sorted(own.keys() & weights.keys())
        if own[name].shape != weights[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise RadScribeError(f"{what} does not fit the configuration: {'; '.join(problems[:5])}{more}")
    # Names and shapes were checked. Weights of the module that are not in `own` stay as they are.
    module.load_state_dict(dict(weights), strict=False)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a published `.safetensors` or pickled file; nothing in a pickle is run.

    Of a pickle only tensors, plain containers and what released codes keep beside them are read: NumPy
    scalars, and configurations as plain dictionaries.

    Raises:
        RadScribeError: there is no such file, it holds anything else, or a number is not finite.
    """
    if not path.is_file():
        raise RadScribeError(f"there is no checkpoint '{path}'", "Give the path of the released checkpoint")
    try:
        if path.suffix == ".safetensors":
            checkpoint: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(_harmless_globals()):
                checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle may raise any exception
        raise RadScribeError(
            f"'{path}' could not be read as a checkpoint ({type(error).__name__})",
            "It must be a checkpoint of the released code: tensors and plain containers, nothing that runs",
        ) from error
    state = checkpoint
    if isinstance(checkpoint, dict):
        state = next(
            (checkpoint[name] for name in ("state_dict", "model_state_dict", "model") if name in checkpoint),
            checkpoint,
        )
    if not isinstance(state, dict) or not state or not all(map(_is_weight, state.items())):
        raise RadScribeError(
            f"'{path}' holds no state dict: names with tensors",
            "Give the checkpoint that the released code wrote",
        )
    if broken := [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]:
        raise RadScribeError(
            f"'{path}' is damaged: {broken[0]} holds a number that is not finite",
            "Take it from its source again",
        )
    return state


def _is_weight(entry: tuple[Any, Any]) -> bool:
    name, tensor = entry
    return isinstance(name, str) and isinstance(tensor, Tensor)


def _harmless_globals() -> list[Any]:
    import numpy as np
    from numpy._core.multiarray import scalar

    # NumPy 2 renamed the module; older checkpoints contain the old name.
    scalars = [np.dtype, type(np.dtype(np.float64)), scalar, (scalar, "numpy.core.multiarray.scalar")]
    # An OrderedDict takes items and attributes alike. The packages of these classes are not imported.
    configurations = [
        "argparse.Namespace",
        "lightning.fabric.utilities.data.AttributeDict",
        "lightning_fabric.utilities.data.AttributeDict",
        "yacs.config.CfgNode",
    ]
    return [*scalars, *((OrderedDict, name) for name in configurations)]


def read_newest(last: Path, previous: Path, parts: Sequence[str]) -> tuple[Path, dict[str, Any]] | None:
    """Read the last checkpoint, or the one before it if the last is missing or damaged.

    If the checkpoint before the last is read, standard error says so; a damaged last checkpoint is kept with
    `.damaged` added to its name.

    Args:
        last: Path of the last checkpoint.
        previous: Path of the checkpoint before it.
        parts: Names of the parts that a checkpoint must have.

    Returns:
        The path and the parts of the checkpoint that was read, or None if no checkpoint was ever written.

    Raises:
        RadScribeError: there are checkpoints, and all are damaged.
    """
    problems = []
    for path in (last, previous):
        if not path.exists():
            continue
        try:
            state = _read(path, parts)
        except _DamagedError as error:
            problems.append(f"'{path}' is damaged ({error})")
            continue
        if path == previous:
            if problems:
                os.replace(last, last.with_name(f"{last.name}.damaged"))
            reason = problems[0] if problems else f"'{last}' is missing"
            print(f"radscribe: {reason}; going on from the one before it, '{path}'", file=sys.stderr)
        return path, state
    if problems:
        raise RadScribeError(
            f"the training cannot go on: {'; '.join(problems)}",
            "Restore a checkpoint from a copy, or begin anew with another --out",
        )
    return None


class _DamagedError(Exception):
    """A checkpoint cannot be used."""


def _read(path: Path, parts: Sequence[str]) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as file:  # torch does not compare the checksums that it writes
            broken = file.testzip()
        if broken:
            raise _DamagedError(f"the checksum of {broken} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _DamagedError:
        raise
    except Exception as error:  # torch raises errors of many kinds for a broken file
        raise _DamagedError(" ".join(f"{type(error).__name__}: {error}".split())[:100]) from error
    missing = [name for name in parts if not isinstance(state, dict) or name not in state]
    if missing:
        raise _DamagedError(f"it is no checkpoint of this kind of training: it has no {missing[0]}")
    return state


def save_checkpoint(last: Path, previous: Path, save: Callable[[Path], object]) -> None:
    """Write a checkpoint, and keep the one before it.

    Args:
        last: Path of the checkpoint to write.
        previous: Path where the checkpoint before it is kept.
        save: Function that writes the checkpoint to a path.

    Raises:
        RadScribeError: the checkpoint could not be written; the earlier checkpoints are still there.
    """
    with whole_or_not_at_all(last) as partial:
        save(partial)
        if last.exists():
            os.replace(last, previous)
