"""Published weights in `transformers` format, from the hub or from a folder, strictly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError


def load_pretrained(model_class: Any, config: Any, weights: str, field: str) -> Any:
    """A `transformers` model of a configuration, with published weights unless `weights` is `none`.

    Args:
        model_class: of `transformers`.
        config: with the sizes; None for the weights' own.
        weights: a hub name, a folder, or `none`.
        field: the option of the command that names the weights, for errors.

    Raises:
        RadScribeError: the weights are not there, could not be downloaded, or are of other sizes.
    """
    if weights == "none":
        return model_class(config)
    try:
        given = {} if config is None else {"config": config}
        with without_bars():
            model, report = model_class.from_pretrained(weights, **given, output_loading_info=True)
    except Exception as error:  # every hub client and every format fails in its own way
        raise RadScribeError(
            f"the weights '{weights}' could not be loaded ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]})",
            f"Pass a folder in transformers format with --{field} FOLDER, with the sizes of its config.json, "
            f"or train from random weights with --{field} none",
        ) from error
    strange = [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]
    if strange:
        raise RadScribeError(
            f"the weights '{weights}' do not fit: {len(strange)} are missing, unexpected or of another "
            f"shape, such as {sorted(map(str, strange))[0]}",
            f"Give the sizes of {Path(weights) / 'config.json'}",
        )
    return model


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep `transformers` from drawing bars for files that it reads and writes; downloads keep theirs."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    enable_progress_bars()  # the line above switches those of downloads off too
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
