"""Maps laid over the views that they belong to: which words, layer and heads, and the pictures themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError, unknown_name
from radscribe.text.observation_labeller import label_report

if TYPE_CHECKING:
    from radscribe.runs.explanation import Explanation

#: Opacity where a map has the value that its scale ends with; less in proportion below.
OPACITY = 0.75
_SIDE = 448
_LINE = 18
_NO_LETTERS = re.compile(r"[\W_]+")


def heat_colours() -> np.ndarray:
    """The colours of a map's values from 0 to its scale's end, uint8 `[256, 3]`; perceptually uniform."""
    return np.rint(colormaps["inferno"](np.arange(256))[:, :3] * 255).astype(np.uint8)


def upsample(values: np.ndarray, side: int) -> np.ndarray:
    """A map `[rows, columns]`, not negative, as float `[side, side]`: bicubic, without overshoot."""
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)).clip(0, values.max())


def overlay(view: np.ndarray, values: np.ndarray, top: float, side: int = _SIDE) -> np.ndarray:
    """A view with a map over it.

    Args:
        view: uint8 grey `[crop, crop]`.
        values: the map `[rows, columns]`; what is negative is shown as 0.
        top: the value at which colour and opacity end.
        side: of the picture.

    Returns:
        uint8 `[side, side, 3]`.
    """
    grey = np.asarray(Image.fromarray(view).resize((side, side), Image.Resampling.BICUBIC), np.float32)
    share = (upsample(values.clip(0), side) / max(top, np.finfo(np.float32).tiny)).clip(0, 1)
    colours = heat_colours()[np.rint(share * 255).astype(int)]
    opacity = OPACITY * share[..., None]
    return np.rint((1 - opacity) * grey[..., None] + opacity * colours).astype(np.uint8)


def word_attention(
    explanation: Explanation, layer: int | None = None, heads: str = "mean"
) -> np.ndarray | None:
    """Where the system looked as it wrote each word `[words, views, rows, columns]`.

    It is None where the system has no attention on the image.

    Args:
        explanation: of a draft.
        layer: of the decoder, counted from 1; the last unless given.
        heads: `mean` or `max` over the heads, or one head, counted from 1.

    Raises:
        RadScribeError: no such layer or head; it says which there are.
    """
    if explanation.attention is None:
        if layer is not None or heads != "mean":
            raise RadScribeError(
                "this system has no attention on the image, and so no layers or heads to choose from",
                "Leave out --layer and --heads",
            )
        return None
    attention = explanation.of_words(explanation.attention, axis=2)
    layers, count = attention.shape[:2]
    if layer is not None and not 1 <= layer <= layers:
        raise RadScribeError(f"no layer {layer}", f"The decoder's layers are 1 to {layers}")
    of_heads = attention[layers - 1 if layer is None else layer - 1]
    if heads == "mean":
        return of_heads.mean(axis=0)
    if heads == "max":
        return of_heads.max(axis=0)
    if not heads.isdecimal() or not 1 <= int(heads) <= count:
        raise RadScribeError(f"no heads '{heads}'", f"Give mean, max, or one head from 1 to {count}")
    return of_heads[int(heads) - 1]


def observations_of_words(explanation: Explanation) -> dict[int, tuple[str, ...]]:
    """The observations that words of the draft name, affirmed or denied, by the words' indices."""
    found: dict[int, tuple[str, ...]] = {}
    for name, evidence in label_report(explanation.draft.text).evidence.items():
        begin, end = evidence.mention
        for index, word in enumerate(explanation.words):
            if word.begin < end and begin < word.end:
                found[index] = (*found.get(index, ()), name)
    return found


def choose_words(explanations: Sequence[Explanation], words: Sequence[str] | None = None) -> list[list[int]]:
    """For each draft, which of its words get a picture.

    Args:
        explanations: of the drafts.
        words: all places where these stand, ignoring case and punctuation. Unless given: the words that the
            system selected as important, or where it selects none, those that name an observation.

    Raises:
        RadScribeError: a word that stands in no draft; it says which do.
    """
    if words is None:
        return [
            sorted(observations_of_words(each))
            if each.important is None
            else [index for index, chosen in enumerate(each.important_words) if chosen]
            for each in explanations
        ]
    keys = [[_key(word.text) for word in each.words] for each in explanations]
    known = {key for each in keys for key in each}
    for word in words:
        if _key(word) not in known:
            raise unknown_name("word", word, known - {""})
    wanted = {_key(word) for word in words}
    return [[index for index, key in enumerate(each) if key in wanted] for each in keys]


def _key(word: str) -> str:
    """A word as it is compared; a lone mark stays what it is."""
    return _NO_LETTERS.sub("", word.lower()) or word


def file_name(text: str) -> str:
    """A name for a file or folder that every system takes, of the ASCII letters and digits in `text`."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text)[:80].strip(".-") or "sign"


def write_overlays(
    explanation: Explanation, folder: Path, chosen: Sequence[int], attention: np.ndarray | None, looked: str
) -> None:
    """Write every map over every view as PNG: `vdm.view1.png`, `word-03-effusion.view1.png`, and so on.

    Each map is stretched to its own maximum over all views of the study, and its picture says so.

    Args:
        explanation: of a draft.
        folder: where to.
        chosen: indices of the words to show.
        attention: of all words `[words, views, rows, columns]`, or None; see `word_attention`.
        looked: which layer and heads that is, in words.
    """
    titles: dict[str, tuple[str, np.ndarray]] = {}
    for name, values in explanation.maps.items():
        titles[file_name(name.lower())] = (name, values)
    for name, values in _activation_titles(explanation).items():
        titles[f"cam-{file_name(name.partition(',')[0])}"] = (f"CAM {name}", values)
    if attention is not None:
        for index in chosen:
            word = explanation.words[index].text
            titles[f"word-{index + 1:02}-{file_name(word)}"] = (f"“{word}”, {looked}", attention[index])
    for name, (title, values) in titles.items():
        top = max(float(values.max()), 0.0)
        scale = (
            f"Scale 0 to {top:.3g}, stretched to this map's own maximum" if top else "Empty: nothing above 0"
        )
        for position, (view, of_view) in enumerate(zip(explanation.views, values, strict=True), start=1):
            lines = [
                f"{explanation.study.id}, view {position}: {title}",
                scale,
                f"{NOTICE.capitalize()}. Draft, not reviewed.",
            ]
            picture = _with_caption(overlay(view, of_view, top), lines)
            picture.save(folder / f"{name}.view{position}.png")


def _activation_titles(explanation: Explanation) -> Mapping[str, np.ndarray]:
    return {
        f"{name}, probability {explanation.probabilities[name]:.2f}": values
        for name, values in explanation.activation_maps.items()
    }


def _with_caption(pixels: np.ndarray, lines: Sequence[str]) -> Image.Image:
    height, width = pixels.shape[:2]
    image = Image.new("RGB", (width, height + _LINE * len(lines) + 6))
    image.paste(Image.fromarray(pixels))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=13)
    for row, line in enumerate(lines):
        # An id made from a file name may hold what UTF-8 has not.
        line = line.encode("utf-8", "replace").decode("utf-8")
        while draw.textlength(line, font) > width - 12:
            line = line[:-2].rstrip() + "…"
        draw.text((6, height + 3 + row * _LINE), line, fill="white", font=font)
    return image
