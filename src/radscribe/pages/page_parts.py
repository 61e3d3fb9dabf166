"""Parts that the HTML pages share: views, finding masks, observations, sentences, and their files."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from contourpy import contour_generator
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from radscribe.about import NOTICE, VERSION
from radscribe.evaluation.scores import direction
from radscribe.observations import OBSERVATIONS, ObservationState
from radscribe.studies.study import Study
from radscribe.text.cleaning import is_cleaned

_JPEG_QUALITY = 92
# A full stop ends a sentence; the one after a lone digit ends a number in a list.
_SENTENCE_BREAK = re.compile(r"(?<=[.!?])(?<!\b\d\.)\s+")
_LONE_FULL_STOPS = re.compile(r"(\s+\.)+(?=\s|$)")


#: Text in every page, by which RadScribe recognises its own pages.
PAGE_MARK = " · RadScribe</title>"


#: Names of the states of observations, in the order in which they are shown.
_STATES: dict[ObservationState, str] = {
    "present": "present",
    "uncertain": "uncertain",
    "absent": "stated absent",
}


@dataclass(frozen=True)
class PlainRow:
    """A row of a `PlainTable`: its name, its cells, and whether it is marked."""

    name: str
    cells: Sequence[str]
    marked: bool


@dataclass(frozen=True)
class PlainTable:
    """A table of texts, for `plain_table` of `tables.html`. Each row has one cell for each heading."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[PlainRow]


def render(template: str, **values: Any) -> Markup:
    """Fill a template of `templates/` with values, which are escaped unless they are `Markup`.

    Raises:
        jinja2.UndefinedError: the template names a value that is not given.
    """
    return Markup(_environment().get_template(template).render(**values))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("radscribe.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"notice": NOTICE.capitalize(), "version": VERSION}
    environment.filters |= {
        "fixed": lambda value, digits=3: f"{value:.{digits}f}",
        "percent": lambda value: f"{value:.1%}",
        "signed": lambda value: f"{value:+.3f}".replace("-", "−"),
        "tick": lambda value: f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}",
        "direction": direction,
        "observation_class": observation_class,
    }
    return environment


def page_file(*names: str) -> Markup:
    """The text of these style or script files, which are in this package, one after the other."""
    folder = files("radscribe.pages")
    return Markup("\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names))


def split_sentences(text: str) -> list[str]:
    """Split a report into sentences, or a draft in the cleaned form of the benchmarks.

    In a cleaned draft (`the heart is normal . no effusion .`), sentences get a capital letter, and the blank
    before a full stop is removed; the words stay as they are. Other texts are only split.
    """
    cleaned = is_cleaned(text)
    if cleaned:
        text = _LONE_FULL_STOPS.sub(".", text)
    sentences = [sentence for sentence in _SENTENCE_BREAK.split(text.strip()) if sentence.strip(" .")]
    return [sentence[:1].upper() + sentence[1:] for sentence in sentences] if cleaned else sentences


def mask_path(mask: np.ndarray) -> str:
    """The outline of a mask as data of an SVG path in pixels of the view, for the fill rule `evenodd`.

    Args:
        mask: Mask, bool [height, width].
    """
    # A border of zeros closes outlines at the edge of the image. Pixel centres have coordinates that end in
    # .5.
    padded = np.pad(mask.astype(np.float32), 1)
    path = []
    for line in contour_generator(z=padded).lines(0.5):
        points = np.asarray(line)[:-1] - 0.5
        steps = np.diff(points, axis=0, append=points[:1])
        before = np.roll(steps, 1, axis=0)
        corners = points[np.abs(steps[:, 0] * before[:, 1] - steps[:, 1] * before[:, 0]) > 1e-9]
        path.append("M" + "L".join(f"{x:g} {y:g}" for x, y in corners) + "Z")
    return "".join(path)


def jpeg_source(pixels: np.ndarray) -> str:
    """A view, uint8 grey `[height, width]`, as a JPEG data URL for an image element."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def observation_class(observation: str) -> str:
    """The CSS class with the colour of an observation, which is the same on every card."""
    return f"colour-{OBSERVATIONS.index(observation)}" if observation in OBSERVATIONS else "colour-other"


def observations_by_state(study: Study) -> dict[str, tuple[str, list[str]]]:
    """The observations that the store has of a study, for `observation_list` of `parts.html`.

    Returns:
        The name of each state and its observations, by state; states without observations are left out.
    """
    found = {
        state: (label, [name for name, its_state in study.observations.items() if its_state == state])
        for state, label in _STATES.items()
    }
    return {state: (label, names) for state, (label, names) in found.items() if names}
