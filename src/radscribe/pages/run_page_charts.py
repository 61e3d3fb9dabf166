"""Charts of a run page as inline SVG: no script, no file beside it, readable in the dark and in the light.

Text that comes from outside is escaped here; colours are classes of `run_page.css`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

Point = tuple[float, float]

#: More points than pixels show nothing more, and make the page heavy.
MOST_POINTS = 280
_MOST_DOTS = 40


@dataclass(frozen=True)
class _Plot:
    """A plot area of an SVG, with linear scales that begin at the first ticks."""

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

    def axes(self, label: str) -> str:
        """Grid lines, ticks, the horizontal axis and its label."""
        parts = []
        for y in self.y_ticks:
            height = f"{self.down(y):.1f}"
            parts.append(
                f'<line class="grid" x1="{self.left}" x2="{self.right}" y1="{height}" y2="{height}"/>'
                f'<text class="tick" x="{self.left - 7}" y="{self.down(y) + 4:.1f}" text-anchor="end">'
                f"{_tick(y)}</text>"
            )
        parts += [
            f'<text class="tick" x="{self.across(x):.1f}" y="{self.height - 22}" text-anchor="middle">'
            f"{_tick(x)}</text>"
            for x in self.x_ticks
            if x <= self.x_end
        ]
        parts.append(
            f'<line class="axis" x1="{self.left}" x2="{self.right}" y1="{self.bottom}" y2="{self.bottom}"/>'
            f'<text class="label" x="{(self.left + self.right) / 2:g}" y="{self.height - 4}" '
            f'text-anchor="middle">{escape(label)}</text>'
        )
        return "".join(parts)

    def figure(self, title: str, content: str, *, legend: str = "", role: str = "img") -> str:
        return (
            f'<figure class="chart"><figcaption><b>{escape(title)}</b>{legend}</figcaption>'
            f'<svg viewBox="0 0 {self.width} {self.height}" role="{role}" aria-label="{escape(title)}">'
            f"{content}</svg></figure>"
        )


def line_chart(
    title: str,
    series: Mapping[str, Sequence[Point]],
    *,
    notes: Mapping[float, str],
    chosen: float | None = None,
) -> str:
    """Lines over training steps, with the values of a step shown where the pointer is.

    Args:
        title: what the chart shows, for those who cannot see it too.
        series: points (step, value) by name, drawn in the colours `line-0`, `line-1`, ...
        notes: what to call a step where its values are shown, such as its epoch.
        chosen: the step of the chosen weights, marked by a vertical line.

    Returns:
        A `<figure>`, empty where there are no values.
    """
    steps = sorted({x for points in series.values() for x, _ in points})
    values = [y for points in series.values() for _, y in points if math.isfinite(y)]
    if not values:
        return ""
    plot = _Plot(
        width=460,
        height=240,
        x_ticks=ticks(min(0.0, *steps), steps[-1]),
        y_ticks=ticks(min(0.0, *values), max(values)),
        x_end=max(steps[-1], 1),
        bottom_margin=40,
    )
    parts = [plot.axes("training step")]
    if chosen is not None:
        x = f"{plot.across(chosen):.1f}"
        parts.append(f'<line class="chosen" x1="{x}" x2="{x}" y1="{plot.top}" y2="{plot.bottom}"/>')
    for index, points in enumerate(series.values()):
        drawn = [(plot.across(x), plot.down(y)) for x, y in points if math.isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        parts.append(f'<polyline class="line line-{index}" points="{path}"/>')
        if len(drawn) <= _MOST_DOTS:
            parts += [
                f'<circle class="dot line-{index}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in drawn
            ]
    parts += _hover_slices(plot, series, steps, notes)
    names = series if len(series) > 1 else ()
    entries = [f'<span><i class="line-{index}"></i>{escape(name)}</span>' for index, name in enumerate(names)]
    return plot.figure(title, "".join(parts), legend=f'<span class="series">{"".join(entries)}</span>')


def _hover_slices(
    plot: _Plot, series: Mapping[str, Sequence[Point]], steps: Sequence[float], notes: Mapping[float, str]
) -> list[str]:
    """For each step an invisible slice of the plot that shows the step's values while it is pointed at."""
    values = {name: dict(points) for name, points in series.items()}
    centres = [plot.across(step) for step in steps]
    borders = [plot.left, *((a + b) / 2 for a, b in pairwise(centres)), plot.right]
    slices = []
    for step, x, (start, end) in zip(steps, centres, pairwise(borders), strict=True):
        shown = [(name, values[name][step]) for name in series if step in values[name]]
        text = [notes.get(step, f"step {step:g}"), *(f"{name} {value:.3f}" for name, value in shown)]
        rings = [
            f'<circle cx="{x:.1f}" cy="{plot.down(value):.1f}" r="4.5"/>'
            for _, value in shown
            if math.isfinite(value)
        ]
        slices.append(
            f'<g class="slice"><rect x="{start:.1f}" y="{plot.top}" width="{end - start:.1f}" '
            f'height="{plot.bottom - plot.top}"/><g class="shown">{"".join(rings)}'
            f'<text x="{plot.right}" y="{plot.top - 12}" text-anchor="end">{escape(" · ".join(text))}</text>'
            "</g></g>"
        )
    return slices


def histogram(
    title: str,
    values: Sequence[float],
    marks: Sequence[tuple[float, str, str]],
    *,
    label: str,
    bins: int = 25,
) -> str:
    """How often each value occurs, with marked values below the axis that link into the page.

    Args:
        title: what the chart shows.
        values: from 0 to 1.
        marks: value, link target and text of each mark.
        label: of the horizontal axis.
        bins: of equal width from 0 to 1.
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
    parts = [plot.axes(label)]
    for count, (low, high) in zip(counts, pairwise(edges), strict=True):
        if count:
            x, width = plot.across(low) + 0.5, plot.across(high) - plot.across(low) - 1
            parts.append(
                f'<rect class="bar" x="{x:.1f}" width="{width:.1f}" y="{plot.down(count):.1f}" '
                f'height="{plot.bottom - plot.down(count):.1f}">'
                f"<title>{low:.2f} to {high:.2f}: {count}</title></rect>"
            )
    for value, target, text in marks:
        tip = f"M{plot.across(value):.1f} {plot.bottom + 2}"
        parts.append(
            f'<a href="#{escape(target)}" aria-label="{escape(text)}"><path class="mark" d="{tip}l5 10h-10z">'
            f"<title>{escape(text)}</title></path></a>"
        )
    return plot.figure(title, "".join(parts), role="group")


def whisker(value: float, low: float, high: float, most: float) -> str:
    """A score and its interval on a scale from 0 to `most`, for a cell of a table; decorative."""
    x, left, right = (100 * max(each, 0) / most if most > 0 else 0 for each in (value, low, high))
    return (
        '<svg class="whisker" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="range" x="0" y="3" width="100" height="2"/>'
        f'<rect class="interval" x="{left:.1f}" y="1.5" width="{max(right - left, 0.8):.1f}" height="5"/>'
        f'<rect class="value" x="{max(x - 0.9, 0):.1f}" y="0" width="1.8" height="8"/></svg>'
    )


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> tuple[list[Point], int]:
    """Means of as many neighbouring points as needed to be left with at most `most`.

    Returns:
        The points, each at the last step of those it stands for, and how many values it is the mean of.
    """
    size = max(1, math.ceil(len(points) / most))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups], size


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Two to seven round numbers, the first at or below `low` and the last at or above `high`."""
    # Scores of drafts that share nothing with their references are not quite 0.
    span = high - low if high - low > 1e-9 else max(abs(high), 1.0)
    magnitude = 10 ** math.floor(math.log10(span / 5))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if span / (factor * magnitude) <= 5)
    if whole:
        step = max(1, round(step))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _tick(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
