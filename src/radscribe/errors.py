"""Errors and warnings for users: each says what is wrong or doubtful, and what to do next."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class RadScribeError(Exception):
    """Something that the user can put right.

    Args:
        message: One sentence that names the study, file, field or value at fault.
        hint: What the user should type or look at next.
        exit_code: Exit code of the command line: 2 if the command cannot be run as it was typed, 1 if it ran
            and produced no result.
    """

    def __init__(self, message: str, hint: str = "", *, exit_code: int = 2):
        super().__init__(f"{message.rstrip('.')}. {hint}".strip() if hint else message)
        self.exit_code = exit_code


class InterruptionError(RadScribeError):
    """The user stopped a command; the message says what is saved and how to go on."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message, hint, exit_code=130)


#: Names of options and fields in other programs, and the names that RadScribe has for them.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "accumulate_grad_batches": ("accumulate",),
    "annotations": ("annotation",),
    "augment": ("augmentation",),
    "batch": ("batch_size",),
    "batch_size": ("batch",),
    "beam": ("beams",),
    "beam_size": ("beams",),
    "beam_width": ("beams",),
    "beams": ("beam",),
    "bs": ("batch_size", "batch"),
    "clip": ("clip_norm", "clip_value"),
    "crop_size": ("crop",),
    "d_ff": ("feed_forward",),
    "d_model": ("width",),
    "data_dir": ("store",),
    "dataset": ("store", "dataset"),
    "dim": ("width",),
    "drop": ("dropout",),
    "early_stopping": ("patience",),
    "epoch": ("epochs",),
    "epochs_max": ("epochs",),
    "eps": ("epsilon",),
    "flip": ("horizontal_flip",),
    "gpu": ("device",),
    "grad_clip": ("clip_norm", "clip_value"),
    "gradient_accumulation_steps": ("accumulate",),
    "hflip": ("horizontal_flip",),
    "hidden_size": ("width",),
    "input": ("source", "images"),
    "l2": ("weight_decay",),
    "len_penalty": ("length_penalty",),
    "lr": ("learning_rate",),
    "lr_backbone": ("backbone_learning_rate",),
    "lr_scheduler": ("schedule",),
    "max_epochs": ("epochs",),
    "max_grad_norm": ("clip_norm",),
    "max_len": ("maximum_length",),
    "max_length": ("maximum_length",),
    "max_new_tokens": ("maximum_length",),
    "max_seq_length": ("maximum_length",),
    "min_count": ("minimum_count",),
    "min_freq": ("minimum_count",),
    "min_length": ("minimum_length",),
    "n_epochs": ("epochs",),
    "no_repeat_ngram_size": ("no_repeat_ngram",),
    "num_beams": ("beams",),
    "num_epochs": ("epochs",),
    "num_heads": ("heads",),
    "num_layers": ("layers",),
    "num_threads": ("threads",),
    "num_workers": ("workers",),
    "o": ("out",),
    "optim": ("optimizer",),
    "output": ("out",),
    "output_dir": ("out",),
    "preds": ("predictions",),
    "random_seed": ("seed",),
    "refs": ("references",),
    "save_dir": ("out",),
    "scheduler": ("schedule",),
    "threshold": ("minimum_count",),
    "topk": ("top_k",),
    "topp": ("top_p",),
    "vocab": ("vocabulary",),
    "vocab_size": ("vocabulary_size",),
    "warmup": ("warm_up_epochs",),
    "warmup_epochs": ("warm_up_epochs",),
    "wd": ("weight_decay",),
}


def closest(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """The known names that a user who typed `name` may have meant, the likeliest first.

    Args:
        name: Name that was typed and does not exist, such as `training.lr`.
        known: Names that exist.
        count: Largest number of names to return.
    """
    known = list(known)
    section, _, word = name.lower().replace("-", "_").rpartition(".")
    words = (word, *SYNONYMS.get(word, ()))
    same = [candidate for candidate in known if candidate.rpartition(".")[2] in words]
    same.sort(key=lambda candidate: not candidate.startswith(f"{section}."))
    if same:
        return same[:count]
    last_words = {candidate.rpartition(".")[2]: candidate for candidate in reversed(known)}
    close = difflib.get_close_matches(name, known, n=count)
    return close or [last_words[near] for near in difflib.get_close_matches(word, last_words, count, 0.75)]


def unknown_name(kind: str, name: str, known: Iterable[str]) -> RadScribeError:
    """The error for a name that does not exist: it offers the closest name and lists the known names."""
    known = sorted(known)
    close = closest(name, known)
    suggestion = f"Did you mean '{close[0]}'? " if close else ""
    return RadScribeError(f"unknown {kind} '{name}'", f"{suggestion}Known: {', '.join(known) or 'none'}")


def warn(message: str, hint: str) -> None:
    """Print a warning about something doubtful on standard error; the command goes on.

    Args:
        message: One sentence that says what is doubtful.
        hint: What it means, and what to do about it.
    """
    print(f"warning: {message.rstrip('.')}. {hint}", file=sys.stderr)
