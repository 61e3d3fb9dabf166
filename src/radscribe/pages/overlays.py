"""Drawing maps over views as PNG files, and choosing the words, layer and heads that are shown."""

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

#: Opacity of a map at the end of its scale; smaller values have proportionally less opacity.
OPACITY = 0.75
_SIDE = 448
_LINE = 18
_NO_LETTERS = re.compile(r"[\W_]+")


def heat_colours() -> np.ndarray:
    """Colours of map values from 0 to the end of the scale, uint8 `[256, 3]`; perceptually uniform."""
    return np.rint(colormaps["inferno"](np.arange(256))[:, :3] * 255).astype(np.uint8)


def upsample(values: np.ndarray, side: int) -> np.ndarray:
    """Enlarge a map `[rows, columns]` that is not negative to float `[side, side]`: bicubic, no overshoot."""
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)).clip(0, values.max())


def overlay(view: np.ndarray, values: np.ndarray, top: float, side: int = _SIDE) -> np.ndarray:
    """Draw a map over a view.

    Args:
        view: View, uint8 grey `[crop, crop]`.
        values: Map `[rows, columns]`; negative values are shown as 0.
        top: Value at which the scale of colour and opacity ends.
        side: Side of the picture in pixels.

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
    """Attention on the views when the system wrote each word `[words, views, rows, columns]`.

    None if the system has no attention on the image.

    Args:
        explanation: Explanation of a draft.
        layer: Decoder layer, counted from 1; the last by default.
        heads: `mean` or `max` over the heads, or the number of one head, counted from 1.

    Raises:
        RadScribeError: the layer or head does not exist; the message says which ones exist.
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
    """The observations that each word of the draft names, affirmed or denied, by index of the word."""
    found: dict[int, tuple[str, ...]] = {}
    for name, evidence in label_report(explanation.draft.text).evidence.items():
        begin, end = evidence.mention
        for index, word in enumerate(explanation.words):
            if word.begin < end and begin < word.end:
                found[index] = (*found.get(index, ()), name)
    return found


def choose_words(explanations: Sequence[Explanation], words: Sequence[str] | None = None) -> list[list[int]]:
    """For each draft, the indices of the words that get a picture.

    Args:
        explanations: Explanations of the drafts.
        words: Words to choose wherever they occur, ignoring case and punctuation. By default these are the
            words that the system selected as important; if it selects none, the words that name an
            observation.

    Raises:
        RadScribeError: a word is in no draft; the message suggests words that are.
    """
    if words is None:
        return [
            sorted(observations_of_words(explanation))
            if explanation.important is None
            else [index for index, chosen in enumerate(explanation.important_words) if chosen]
            for explanation in explanations
        ]
    keys = [[_key(word.text) for word in explanation.words] for explanation in explanations]
    known = {key for of_draft in keys for key in of_draft}
    for word in words:
        if _key(word) not in known:
            raise unknown_name("word", word, known - {""})
    wanted = {_key(word) for word in words}
    return [[index for index, key in enumerate(of_draft) if key in wanted] for of_draft in keys]


def _key(word: str) -> str:
    """A word in the form that is compared; a lone punctuation mark stays as it is."""
    return _NO_LETTERS.sub("", word.lower()) or word


def file_name(text: str) -> str:
    """A file name that every file system accepts, made of the ASCII letters and digits of `text`."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text)[:80].strip(".-") or "sign"


def write_overlays(
    explanation: Explanation, folder: Path, chosen: Sequence[int], attention: np.ndarray | None, looked: str
) -> None:
    """Write every map over every view as PNG: `vdm.view1.png`, `word-03-effusion.view1.png`, and so on.

    Each map is scaled to its own maximum over all views of the study, and its picture says so.

    Args:
        explanation: Explanation of a draft.
        folder: Folder to write to.
        chosen: Indices of the words to show.
        attention: Attention of all words `[words, views, rows, columns]`, or None; see `word_attention`.
        looked: Layer and heads of the attention, in words.
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
        # An id that comes from a file name may have characters that UTF-8 cannot encode.
        line = line.encode("utf-8", "replace").decode("utf-8")
        while draw.textlength(line, font) > width - 12:
            line = line[:-2].rstrip() + "…"
        draw.text((6, height + 3 + row * _LINE), line, fill="white", font=font)
    return image
