"""Plotting the memory matrix, with the vectors that a word and a region address (R2GenCMN, Figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from radscribe.about import NOTICE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from radscribe.runs.explanation import AddressedMemory, Explanation

#: Why there is no plot, and what to do about it.
NO_SCIKIT_LEARN = "The plot of the memory needs scikit-learn. Type: pip install 'radscribe[explain]'"
#: Largest number of rows of the plot; more would not fit on a screen.
MOST_WORDS = 4
WORD_COLOUR, REGION_COLOUR = "#d1495b", "#00798c"

Region = tuple[int, int, int]


def memory_layout(vectors: np.ndarray) -> np.ndarray | None:
    """A position in the plane for each memory vector, by t-SNE; every call gives the same positions.

    Args:
        vectors: Memory matrix `[vectors, width]`.

    Returns:
        Positions float `[vectors, 2]` between 0 and 1, or None if scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        return None
    size = len(vectors)
    if size < 4:  # too few vectors for t-SNE
        return np.full((size, 2), 0.5) + np.arange(size)[:, None] / 10
    places = TSNE(perplexity=min(30, (size - 1) / 3), init="pca", random_state=0).fit_transform(vectors)
    low, high = places.min(axis=0), places.max(axis=0)
    return (places - low) / np.maximum(high - low, np.finfo(np.float32).tiny)


def most_attended(attention: np.ndarray) -> Region:
    """View, row and column of the largest value in `[views, rows, columns]`."""
    view, row, column = np.unravel_index(int(attention.argmax()), attention.shape)
    return int(view), int(row), int(column)


def shared_weight(first: np.ndarray, second: np.ndarray) -> float:
    """The weight that both put on the same vectors: 1 for equal weights, 0 if they share no vector."""
    return float(np.minimum(first, second).sum())


def write_memory_plot(
    explanation: Explanation,
    memory: AddressedMemory,
    layout: np.ndarray,
    chosen: Sequence[int],
    attention: np.ndarray,
    path: Path,
) -> None:
    """Write a PNG with a row for each of the first `MOST_WORDS` words.

    Each row shows the region that the system looked at most when it wrote the word, and the memory vectors
    that the word and the region address.

    Args:
        explanation: Explanation of a draft.
        memory: Addressed memory of the explanation.
        layout: Positions of the memory vectors; see `memory_layout`.
        chosen: Indices of the words to show.
        attention: Attention of all words of the draft `[words, views, rows, columns]`.
        path: PNG file to write.
    """
    from matplotlib.figure import Figure

    chosen = chosen[:MOST_WORDS]
    of_words = explanation.of_words(memory.of_pieces, axis=0)
    figure = Figure(figsize=(10, 4.6 * len(chosen) + 0.6), dpi=110, layout="constrained")
    figure.suptitle(f"{explanation.study.id}: {len(layout)} memory vectors by t-SNE. {NOTICE.capitalize()}.")
    rows = figure.subplots(len(chosen), 2, squeeze=False)
    for index, (picture, plot) in zip(chosen, rows, strict=True):
        region, word = most_attended(attention[index]), explanation.words[index].text
        _draw_region(picture, explanation, region, word)
        _draw_memory(plot, layout, of_words[index], memory.of_regions[region], word)
    figure.savefig(path)


def _draw_region(axes: Axes, explanation: Explanation, region: Region, word: str) -> None:
    from matplotlib.patches import Rectangle

    view, row, column = region
    rows, columns = explanation.grid
    axes.imshow(explanation.views[view], cmap="gray", vmin=0, vmax=255, extent=(0, columns, rows, 0))
    axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=REGION_COLOUR, linewidth=3))
    axes.set_title(
        f"looked at most for “{word}”: view {view + 1}, row {row + 1}, column {column + 1}", size=10
    )
    axes.set_axis_off()


def _draw_memory(
    axes: Axes, layout: np.ndarray, of_word: np.ndarray, of_region: np.ndarray, word: str
) -> None:
    x, y = layout.T
    axes.scatter(x, y, s=5, color="#b8c0c8", linewidths=0)
    most = max(of_word.max(), of_region.max())
    axes.scatter(x, y, s=220 * of_region / most, facecolors="none", edgecolors=REGION_COLOUR, linewidths=1.6)
    axes.scatter(x, y, s=220 * of_word / most, color=WORD_COLOUR, alpha=0.65, linewidths=0)
    for name, weights, colour, where in (
        ("region", of_region, REGION_COLOUR, 0.15),
        (f"“{word}”", of_word, WORD_COLOUR, 0.85),
    ):
        arrow = {"arrowstyle": "->", "color": colour}
        axes.annotate(
            name,
            layout[weights.argmax()],
            xytext=(where, 1.03),
            textcoords="axes fraction",
            color=colour,
            ha="center",
            arrowprops=arrow,
        )
    axes.set_xlabel(f"share of weight on the same vectors: {shared_weight(of_word, of_region):.2f}")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal")
