"""Explanations as pictures and as one HTML page: what a system wrote, and where it looked.

The page is self-contained: views, maps, style and script are in it, and its content security policy forbids
it to load anything. It holds the attention of every word, layer and head as bytes with one scale for each
map; `explanation_page.js` unpacks and draws them.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from radscribe.errors import RadScribeError
from radscribe.files import check_output, replace_file, writing
from radscribe.pages.memory_plot import NO_SCIKIT_LEARN, memory_layout, write_memory_plot
from radscribe.pages.overlays import (
    OPACITY,
    choose_words,
    file_name,
    heat_colours,
    observations_of_words,
    word_attention,
    write_overlays,
)
from radscribe.pages.page_parts import (
    PAGE_MARK,
    jpeg_source,
    mask_path,
    observations_by_state,
    page_file,
    render,
    split_sentences,
)
from radscribe.pages.recalled_entries import RecalledSource
from radscribe.systems.registry import get_system

if TYPE_CHECKING:
    from radscribe.runs.config import RunConfig
    from radscribe.runs.explanation import Explanation

PAGE = "index.html"
_INTRODUCTION = (
    "Point at a word of a draft, or move to it with the arrow keys: its map lies over each view. A click, a "
    "tap or Enter keeps it there."
)
_MAP_NAMES = {
    "VDM": "VDM: visual discriminative map",
    "TDM": "TDM: textual discriminative map",
}


def write_explanations(
    explanations: Sequence[Explanation],
    out: Path | str,
    *,
    config: RunConfig,
    words: Sequence[str] | None = None,
    layer: int | None = None,
    heads: str = "mean",
) -> Path:
    """Write PNG files of each study into its own folder, and one page with all studies.

    Args:
        explanations: Explanations that `TrainedSystem.explain` gives, all from one run; at least one.
        out: Folder to write; it is made.
        config: Configuration of the run.
        words: Words for which PNG files are written; see `choose_words`. The page always shows all words.
        layer: Decoder layer that the PNG files show, counted from 1; the last by default. The page has all
            layers.
        heads: Attention heads that the PNG files show: `mean`, `max`, or the number of one head, counted from
            1. The page has all heads.

    Returns:
        The path of the page.

    Raises:
        RadScribeError: a word, layer or head does not exist, or `out` cannot be written.
    """
    out = Path(out)
    check_folder(out)
    chosen = choose_words(explanations, words)
    attention = [word_attention(explanation, layer, heads) for explanation in explanations]
    layers, count = explanations[0].layers_and_heads
    layer = layer or layers
    looked = f"layer {layer}, " + (f"head {heads}" if heads.isdecimal() else f"{heads} of {count} heads")
    memory = explanations[0].memory
    layout = memory_layout(memory.vectors) if memory else None
    try:
        out.mkdir(parents=True, exist_ok=True)
        taken = {PAGE}
        for explanation, indices, looks in zip(explanations, chosen, attention, strict=True):
            folder = out / _unused(file_name(explanation.study.id), taken)
            folder.mkdir(exist_ok=True)
            write_overlays(explanation, folder, indices, looks, looked)
            memory = explanation.memory
            if memory and layout is not None and looks is not None and indices:
                write_memory_plot(explanation, memory, layout, indices, looks, folder / "memory.png")
        page = _page(explanations, chosen, config, layout, layer, heads)
    except OSError as error:
        raise RadScribeError(f"cannot write to '{out}': {error.strerror}", "Choose another --out") from error
    # A study id that comes from a file name may have characters that UTF-8 cannot encode.
    replace_file(out / PAGE, page.encode(errors="xmlcharrefreplace"))
    return out / PAGE


def check_folder(out: Path) -> None:
    """Check before the work begins that explanations can be written to a folder: it is new, empty or ours.

    Raises:
        RadScribeError: the path is no folder, or the folder has files but no page of explanations.
    """
    with writing(out):
        if out.exists() and not out.is_dir():
            raise RadScribeError(f"'{out}' is no folder", "Explanations need a folder: choose another --out")
        strangers = out.is_dir() and any(out.iterdir()) and not (out / PAGE).is_file()
    if strangers:
        raise RadScribeError(f"the folder '{out}' holds other files", "Choose a new or an empty one")
    check_output(out / PAGE, PAGE_MARK.encode(), "a page")


def _unused(name: str, taken: set[str]) -> str:
    """The name, with a number if another study has it already; file systems may ignore case."""
    unused, number = name, 2
    while unused.lower() in taken:
        unused, number = f"{name}-{number}", number + 1
    taken.add(unused.lower())
    return unused


def packed(maps: np.ndarray) -> dict[str, str]:
    """Maps as bytes in base64: each value is in 255ths of the map's maximum, and negative values become 0.

    Args:
        maps: Maps along the last dimension, float `[..., places]`.

    Returns:
        `values`, uint8 like `maps`, and `scales`, little-endian float32 `[...]`.
    """
    maps = maps.clip(0).astype(np.float32)
    scales = maps.max(axis=-1)
    steps = np.rint(maps / np.maximum(scales, np.finfo(np.float32).tiny)[..., None] * 255)
    return {"scales": _base64(scales.astype("<f4")), "values": _base64(steps.astype(np.uint8))}


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def _page(
    explanations: Sequence[Explanation],
    chosen: Sequence[Sequence[int]],
    config: RunConfig,
    layout: np.ndarray | None,
    layer: int,
    heads: str,
) -> Markup:
    entry, run = get_system(config.system_name), explanations[0].draft.run
    layers, count = explanations[0].layers_and_heads
    read = [phrase for each in explanations if each.phrases for phrase in each.phrases.attention]
    data = {
        "colours": _base64(heat_colours()),
        "names": _MAP_NAMES | {_read(phrase): f"attention to the phrase “{phrase}”" for phrase in read},
        "layout": None if layout is None else layout.round(4).tolist(),
        "studies": [
            _study_data(explanation, indices)
            for explanation, indices in zip(explanations, chosen, strict=True)
        ],
    }
    source = RecalledSource(config) if any(explanation.recall for explanation in explanations) else None
    cards = [
        _card(explanation, index, config.data.section, source, plotted=layout is not None)
        for index, explanation in enumerate(explanations, start=1)
    ]
    head_options = {"mean": f"mean of {count}", "max": f"maximum of {count}"}
    head_options |= {str(head): f"head {head}" for head in range(1, count + 1)}
    return render(
        "explanation_page.html",
        style=page_file("page.css", "explanation_page.css"),
        script=page_file("masks.js", "explanation_page.js"),
        kind="explanation",
        caution=run.caution if run else "",
        system=config.system_name,
        recipe=config.recipe,
        title=entry.title,
        published=entry.published,
        introduction=_INTRODUCTION if layers else "",
        has_attention=explanations[0].attention is not None,
        facts=_facts(explanations, config),
        layers={str(number): f"{number} of {layers}" for number in range(1, layers + 1)},
        layer=str(layer),
        heads=head_options,
        head=heads,
        opacity=round(100 * OPACITY),
        cards=cards,
        activation_maps=any(explanation.activation_maps for explanation in explanations),
        # The HTML parser would read "<" as markup, also within JSON.
        data=Markup(json.dumps(data).replace("<", "\\u003c")),
    )


def _facts(explanations: Sequence[Explanation], config: RunConfig) -> dict[str, str]:
    (layers, count), (rows, columns) = explanations[0].layers_and_heads, explanations[0].grid
    transform = config.data.transform
    seen = "centre" if transform.evaluation == "center_crop" else "whole view"
    return {
        "Drafts": f"{len(explanations)}, the section “{config.data.section}”",
        "Views": f"as the system saw them: {seen}, {transform.crop} × {transform.crop} pixels",
        "Regions": f"{rows} × {columns} of each view; between them, maps are smoothed" if rows else "none",
        "Attention": f"{layers} layer{'s' if layers > 1 else ''} of {count} heads" if layers else "none",
    }


def _study_data(explanation: Explanation, chosen: Sequence[int]) -> dict[str, Any]:
    """The data of a study for the script of the page."""
    (layers, count), (rows, columns) = explanation.layers_and_heads, explanation.grid
    attention = explanation.attention
    if attention is not None:
        attention = explanation.of_words(attention, axis=2)
        attention = attention.reshape(*attention.shape[:3], math.prod(attention.shape[3:]))
    named, logprobs = observations_of_words(explanation), explanation.draft.token_logprobs
    memory = explanation.memory
    maps = [name for name, values in explanation.maps.items() if values.max() > 0]
    shown = dict(explanation.maps)
    if explanation.phrases:
        shown |= {_read(phrase): values for phrase, values in explanation.phrases.attention.items()}
    return {
        "layers": layers,
        "heads": count,
        "rows": rows,
        "columns": columns,
        "side": explanation.views.shape[-1],
        "words": [
            {
                "text": word.text,
                "probability": math.exp(sum(logprobs[piece] for piece in word.pieces)),
                "observations": named.get(index, ()),
            }
            for index, word in enumerate(explanation.words)
        ],
        "start": f"map:{maps[0]}" if maps else f"word:{chosen[0] if chosen else 0}",
        "probabilities": explanation.probabilities,
        "attention": None if attention is None else packed(attention),
        "maps": {name: packed(values.reshape(1, -1)) for name, values in shown.items()},
        "cams": {name: packed(values.reshape(1, -1)) for name, values in explanation.activation_maps.items()},
        "memory": {
            "words": packed(explanation.of_words(memory.of_pieces, axis=0)),
            "regions": packed(memory.of_regions.reshape(-1, len(memory.vectors))),
        }
        if memory
        else None,
    }


def _read(phrase: str) -> str:
    """The name of the map of a phrase."""
    return f"read {phrase}"


@dataclass(frozen=True)
class _Word:
    """A word of a draft.

    Attributes:
        index: Index of the word in the draft.
        text: Word as it was written.
        important: Whether the system itself selected the word as important.
        named: Whether the word names an observation.
    """

    index: int
    text: str
    important: bool
    named: bool


def _card(
    explanation: Explanation, index: int, section: str, source: RecalledSource | None, *, plotted: bool
) -> Markup:
    """One study as HTML."""
    study, memory, unlikeness = explanation.study, explanation.memory, explanation.draft.unlikeness
    words = _words(explanation)
    views = [
        {
            "number": position + 1,
            "projection": study.views[position].projection,
            "source": jpeg_source(pixels),
            "masks": {name: mask_path(mask) for name, mask in masks.items() if mask.any()},
        }
        for position, (pixels, masks) in enumerate(zip(explanation.views, explanation.masks, strict=True))
    ]
    probabilities = explanation.probabilities
    return render(
        "explanation_card.html",
        index=index,
        id=study.id,
        unlike="" if unlikeness is None else str(unlikeness),
        flagged=unlikeness is not None and unlikeness.flagged,
        notes=explanation.draft.notes,
        side=explanation.views.shape[-1],
        views=views,
        masked=sorted({name for masks in explanation.masks for name, mask in masks.items() if mask.any()}),
        sentences=_sentences(words),
        any_important=any(word.important for word in words),
        any_named=any(word.named for word in words),
        reference=split_sentences(study.report(section)),
        stored_observations=study.observations,
        observations=observations_by_state(study),
        maps={name: _MAP_NAMES.get(name, name) for name in explanation.maps},
        recognised=[
            {
                "name": name,
                "probability": probabilities[name],
                "reported": study.observations.get(name) == "present",
            }
            for name in sorted(explanation.activation_maps, key=lambda name: -probabilities[name])
        ],
        read=explanation.phrases,
        recalled=source.card(explanation.recall) if source and explanation.recall else [],
        no_store=source.problem if source else "",
        plotted=plotted and memory is not None,
        memory_vectors=len(memory.vectors) if memory else 0,
        no_plot=NO_SCIKIT_LEARN,
    )


def _words(explanation: Explanation) -> list[_Word]:
    named, important = observations_of_words(explanation), explanation.important_words
    return [
        _Word(index, word.text, bool(important[index]), index in named)
        for index, word in enumerate(explanation.words)
    ]


def _sentences(words: Sequence[_Word]) -> list[list[list[_Word]]]:
    """The words of each sentence, in groups that stay on one line: punctuation is with the word before it."""
    sentences: list[list[list[_Word]]] = [[]]
    for word in words:
        if sentences[-1] and not any(letter.isalnum() for letter in word.text):
            sentences[-1][-1].append(word)
        else:
            sentences[-1].append([word])
        if word.text.endswith((".", "!", "?")):
            sentences.append([])
    return [sentence for sentence in sentences if sentence]
