"""What the HTML pages have in common: views, finding masks, observations, sentences, and their files."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable
from html import escape
from importlib.resources import files

import numpy as np
from contourpy import contour_generator
from PIL import Image

from radscribe.observations import OBSERVATIONS, ObservationState
from radscribe.studies.study import Study
from radscribe.text.cleaning import is_cleaned

_JPEG_QUALITY = 92
# A full stop ends a sentence; the one after a lone digit ends a number in a list.
_SENTENCE_BREAK = re.compile(r"(?<=[.!?])(?<!\b\d\.)\s+")
_LONE_FULL_STOPS = re.compile(r"(\s+\.)+(?=\s|$)")


#: Stands in every page, and in no file of others.
PAGE_MARK = " · RadScribe</title>"


def caution_banner(caution: str) -> str:
    """A banner that says what to bear in mind with all drafts of a run; empty where there is nothing."""
    return f'<p class="banner caution" role="note">Caution: {escape(caution)}.</p>' if caution else ""


def page_file(*names: str) -> str:
    """The text of these files beside the pages' code, one after the other."""
    folder = files("radscribe.pages")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


def split_sentences(text: str) -> list[str]:
    """Sentences of a report as written, or of a draft in the benchmarks' cleaned form.

    A cleaned draft (`the heart is normal . no effusion .`) gets capitals and its full stops closed up; its
    words stay as they are. Other texts are only split.
    """
    cleaned = is_cleaned(text)
    if cleaned:
        text = _LONE_FULL_STOPS.sub(".", text)
    sentences = [sentence for sentence in _SENTENCE_BREAK.split(text.strip()) if sentence.strip(" .")]
    return [sentence[:1].upper() + sentence[1:] for sentence in sentences] if cleaned else sentences


def mask_path(mask: np.ndarray) -> str:
    """The outline of a mask as data of an SVG path in pixels of the view, to be filled by `evenodd`.

    Args:
        mask: bool [height, width].
    """
    # The border of zeros closes outlines at the edge of the image; pixel centres lie at halves.
    padded = np.pad(mask.astype(np.float32), 1)
    path = []
    for line in contour_generator(z=padded).lines(0.5):
        points = np.asarray(line)[:-1] - 0.5
        steps = np.diff(points, axis=0, append=points[:1])
        before = np.roll(steps, 1, axis=0)
        corners = points[np.abs(steps[:, 0] * before[:, 1] - steps[:, 1] * before[:, 0]) > 1e-9]
        path.append("M" + "L".join(f"{x:g} {y:g}" for x, y in corners) + "Z")
    return "".join(path)


def mask_outline(observation: str, mask: np.ndarray) -> str:
    """A finding's mask `[height, width]` for an SVG whose view box is the view in pixels."""
    return (
        f'<path class="mask {observation_class(observation)}" data-observation="{escape(observation)}" '
        f'fill-rule="evenodd" d="{mask_path(mask)}"><title>{escape(observation)}</title></path>'
    )


def jpeg_source(pixels: np.ndarray) -> str:
    """A view, uint8 grey `[height, width]`, as the source of an image element."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def observation_class(observation: str) -> str:
    """The CSS class with an observation's colour: the same on every card."""
    return f"colour-{OBSERVATIONS.index(observation)}" if observation in OBSERVATIONS else "colour-other"


def mask_legend(masked: Iterable[str]) -> str:
    """A switch for each observation that has a mask in a view of the study; works with `masks.js`."""
    masked = list(masked)
    if not masked:
        return ""
    chips = "".join(
        f'<button type="button" class="chip {observation_class(name)}" data-observation="{escape(name)}" '
        f'aria-pressed="true"><i></i>{escape(name)}</button>'
        for name in masked
    )
    return f'<div class="legend" role="group" aria-label="Finding masks to show">{chips}</div>'


def observation_list(study: Study) -> str:
    """The observations that the store has of a study, by their state."""
    if not study.observations:
        return '<p class="observations none">The store has no observations of this study.</p>'
    states: list[tuple[ObservationState, str]] = [
        ("present", "present"),
        ("uncertain", "uncertain"),
        ("absent", "stated absent"),
    ]
    rows = []
    for state, label in states:
        names = [name for name, found in study.observations.items() if found == state]
        if names:
            items = "".join(
                f'<li class="normal">{name}</li>' if name == "No Finding" else f"<li>{escape(name)}</li>"
                for name in names
            )
            rows.append(f'<div class="{state}"><dt>{label}</dt><dd><ul>{items}</ul></dd></div>')
    if not rows:
        return '<p class="observations none">No observation is mentioned in this study.</p>'
    return f'<dl class="observations">{"".join(rows)}</dl>'
