"""Charts of a run page as inline SVG, without scripts or further files, for dark and light pages.

Positions are computed here; the SVG elements are in `templates/`, and the colours in `run_page.css`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from radscribe.pages.page_parts import render

Point = tuple[float, float]

#: Largest number of points of a line; more would not be visible, and would make the page large.
MOST_POINTS = 280
_MOST_DOTS = 40


@dataclass(frozen=True)
class _Plot:
    """A plot area of an SVG, with linear scales that begin at the first tick."""

    width: int
    height: int
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_end: float
    bottom_margin: int
    left: int = 48
    top: int = 28
    right_margin: int = 14

    @property
    def right(self) -> int:
        return self.width - self.right_margin

    @property
    def bottom(self) -> int:
        return self.height - self.bottom_margin

    def across(self, x: float) -> float:
        start = self.x_ticks[0]
        return self.left + (x - start) / (self.x_end - start) * (self.right - self.left)

    def down(self, y: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return self.bottom - (y - low) / (high - low) * (self.bottom - self.top)


@dataclass(frozen=True)
class _Line:
    """A line of a chart: its points in SVG notation, and the points that are drawn as dots."""

    path: str
    dots: Sequence[Point]


@dataclass(frozen=True)
class _Slice:
    """The vertical slice of a plot that belongs to one training step.

    Attributes:
        start, end: Left and right border of the slice.
        x: Horizontal position of the step.
        rings: Vertical positions of the values of the step.
        text: Step and its values in words.
    """

    start: float
    end: float
    x: float
    rings: Sequence[float]
    text: str


@dataclass(frozen=True)
class _Bar:
    """A bar of a histogram: the number of values from `low` to `high`."""

    low: float
    high: float
    count: int


def line_chart(
    title: str,
    series: Mapping[str, Sequence[Point]],
    *,
    notes: Mapping[float, str],
    chosen: float | None = None,
    colours: Mapping[str, int] | None = None,
) -> Markup:
    """Draw lines over training steps; the values of a step are shown when the pointer is on it.

    Args:
        title: What the chart shows; screen readers read it too.
        series: Points (step, value) of each line by its name.
        notes: Text for a step when its values are shown, such as its epoch.
        chosen: Step of the chosen weights, which is marked by a vertical line.
        colours: Number of each line's colour by its name: 1 stands for the colour `line-1`. By default each
            line has the next colour.

    Returns:
        A `<figure>`, which is empty if there are no values.
    """
    steps = sorted({x for points in series.values() for x, _ in points})
    values = [y for points in series.values() for _, y in points if math.isfinite(y)]
    if not values:
        return Markup()
    plot = _Plot(
        width=460,
        height=240,
        x_ticks=ticks(min(0.0, *steps), steps[-1]),
        y_ticks=ticks(min(0.0, *values), max(values)),
        x_end=max(steps[-1], 1),
        bottom_margin=40,
    )
    return render(
        "line_chart.html",
        title=title,
        plot=plot,
        names=list(series) if len(series) > 1 else [],
        chosen=None if chosen is None else plot.across(chosen),
        colours=colours or {name: number for number, name in enumerate(series)},
        lines={name: _line(plot, points) for name, points in series.items()},
        slices=_hover_slices(plot, series, steps, notes),
    )


def _line(plot: _Plot, points: Sequence[Point]) -> _Line:
    drawn = [(plot.across(x), plot.down(y)) for x, y in points if math.isfinite(y)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
    return _Line(path, drawn if len(drawn) <= _MOST_DOTS else [])


def _hover_slices(
    plot: _Plot, series: Mapping[str, Sequence[Point]], steps: Sequence[float], notes: Mapping[float, str]
) -> list[_Slice]:
    values = {name: dict(points) for name, points in series.items()}
    centres = [plot.across(step) for step in steps]
    borders = [plot.left, *((a + b) / 2 for a, b in pairwise(centres)), plot.right]
    slices = []
    for step, x, (start, end) in zip(steps, centres, pairwise(borders), strict=True):
        shown = [(name, values[name][step]) for name in series if step in values[name]]
        text = [notes.get(step, f"step {step:g}"), *(f"{name} {value:.3f}" for name, value in shown)]
        rings = [plot.down(value) for _, value in shown if math.isfinite(value)]
        slices.append(_Slice(start, end, x, rings, " · ".join(text)))
    return slices


def histogram(
    title: str,
    values: Sequence[float],
    marks: Sequence[tuple[float, str, str]],
    *,
    label: str,
    bins: int = 25,
) -> Markup:
    """Draw how often each value occurs, with marks below the axis that link into the page.

    Args:
        title: What the chart shows.
        values: Values from 0 to 1.
        marks: Value, link target and text of each mark.
        label: Label of the horizontal axis.
        bins: Number of bins of equal width from 0 to 1.
    """
    counts, edges = np.histogram(np.clip(values, 0, 1), bins=bins, range=(0, 1))
    plot = _Plot(
        width=620,
        height=210,
        x_ticks=ticks(0, 1),
        y_ticks=ticks(0, int(counts.max()), whole=True),
        x_end=1,
        bottom_margin=52,
        top=14,
    )
    bars = [
        _Bar(low, high, int(count))
        for count, (low, high) in zip(counts, pairwise(edges), strict=True)
        if count
    ]
    return render("histogram.html", title=title, plot=plot, label=label, bars=bars, marks=marks)


def whisker(value: float, low: float, high: float, most: float) -> Markup:
    """Draw a score and its interval on a scale from 0 to `most`, as decoration of a table cell."""
    x, left, right = (100 * max(end, 0) / most if most > 0 else 0 for end in (value, low, high))
    return render("whisker.html", x=max(x - 0.9, 0), left=left, width=max(right - left, 0.8))


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> tuple[list[Point], int]:
    """Average neighbouring points, so that at most `most` points are left.

    Returns:
        The points, each at the last step of its group, and the number of values in a group.
    """
    size = max(1, math.ceil(len(points) / most))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups], size


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Two to seven round numbers for an axis: the first is at most `low`, the last at least `high`."""
    # Scores of drafts that have nothing in common with their references are not exactly 0.
    span = high - low if high - low > 1e-9 else max(abs(high), 1.0)
    magnitude = 10 ** math.floor(math.log10(span / 5))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if span / (factor * magnitude) <= 5)
    if whole:
        step = max(1, round(step))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(index * step, 12) for index in range(first, last + 1)]
