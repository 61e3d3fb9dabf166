"""What a trained system wrote and where it looked: a picture of every map, and one page to look around in.

The page needs nothing but itself: views, maps, style and script are in it, and its content security policy
forbids it to load anything. Attention is in it word by word, for every layer and head, as bytes with a scale
for each map; `explanation_page.js` unpacks and paints it.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from radscribe.about import NOTICE, VERSION
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
    caution_banner,
    jpeg_source,
    mask_legend,
    mask_outline,
    observation_list,
    page_file,
    split_sentences,
)
from radscribe.systems.registry import get_system

if TYPE_CHECKING:
    from radscribe.runs.config import RunConfig
    from radscribe.runs.explanation import Explanation

PAGE = "index.html"
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
    """Write PNG files of each study into a folder of its own, and one page of all of them.

    Args:
        explanations: as `TrainedSystem.explain` gives them, all of one run; at least one.
        out: folder; it is made.
        config: of the run.
        words: which words get PNG files; see `choose_words`. All of them are on the page.
        layer: of the decoder, counted from 1, for the PNG files; the last unless given. The page has all.
        heads: `mean`, `max`, or one head, counted from 1; likewise.

    Returns:
        The page.

    Raises:
        RadScribeError: no such word, layer or head, or nothing can be written to `out`.
    """
    out = Path(out)
    check_folder(out)
    chosen = choose_words(explanations, words)
    attention = [word_attention(each, layer, heads) for each in explanations]
    layers, count = explanations[0].attention.shape[:2]
    layer = layer or layers
    looked = f"layer {layer}, " + (f"head {heads}" if heads.isdecimal() else f"{heads} of {count} heads")
    memory = explanations[0].memory
    layout = memory_layout(memory.vectors) if memory else None
    try:
        out.mkdir(parents=True, exist_ok=True)
        taken = {PAGE}
        for each, indices, looks in zip(explanations, chosen, attention, strict=True):
            folder = out / _unused(file_name(each.study.id), taken)
            folder.mkdir(exist_ok=True)
            write_overlays(each, folder, indices, looks, looked)
            if each.memory and layout is not None and indices:
                write_memory_plot(each, each.memory, layout, indices, looks, folder / "memory.png")
        page = _page(explanations, chosen, config, layout, layer, heads)
    except OSError as error:
        raise RadScribeError(f"cannot write to '{out}': {error.strerror}", "Choose another --out") from error
    # A study id made from a file name may hold what UTF-8 has not.
    replace_file(out / PAGE, page.encode(errors="xmlcharrefreplace"))
    return out / PAGE


def check_folder(out: Path) -> None:
    """Check, before the work begins, that explanations can be written to a folder that is ours or empty.

    Raises:
        RadScribeError: it is no folder, or it holds files and no page of explanations.
    """
    with writing(out):
        if out.exists() and not out.is_dir():
            raise RadScribeError(f"'{out}' is no folder", "Explanations need one: choose another --out")
        strangers = out.is_dir() and any(out.iterdir()) and not (out / PAGE).is_file()
    if strangers:
        raise RadScribeError(f"the folder '{out}' holds other files", "Choose a new or an empty one")
    check_output(out / PAGE, PAGE_MARK.encode(), "a page")


def _unused(name: str, taken: set[str]) -> str:
    """The name, numbered where another study has it already; file systems may ignore case."""
    unused, number = name, 2
    while unused.lower() in taken:
        unused, number = f"{name}-{number}", number + 1
    taken.add(unused.lower())
    return unused


def packed(maps: np.ndarray) -> dict[str, str]:
    """Maps as bytes in 255ths of each map's maximum, in base64; what is negative becomes 0.

    Args:
        maps: float `[..., places]`, a map along the last dimension.

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
) -> str:
    entry, run = get_system(config.system_name), explanations[0].draft.run
    layers, count = explanations[0].attention.shape[:2]
    data = {
        "colours": _base64(heat_colours()),
        "names": _MAP_NAMES,
        "layout": None if layout is None else layout.round(4).tolist(),
        "studies": [_study_data(each, indices) for each, indices in zip(explanations, chosen, strict=True)],
    }
    cards = [
        _card(each, index, config.data.section, plotted=layout is not None)
        for index, each in enumerate(explanations, start=1)
    ]
    head_options = {"mean": f"mean of {count}", "max": f"maximum of {count}"}
    head_options |= {str(head): f"head {head}" for head in range(1, count + 1)}
    return Template(page_file("explanation_page.html")).substitute(
        style=page_file("page.css", "explanation_page.css"),
        script=page_file("masks.js", "explanation_page.js"),
        notice=NOTICE.capitalize(),
        caution=caution_banner(f"this run was {run.caution}" if run and run.caution else ""),
        system=escape(config.system_name),
        recipe=escape(config.recipe),
        title=escape(entry.title),
        published=escape(entry.published),
        facts=_facts(explanations, config),
        layers=_options({str(each): f"{each} of {layers}" for each in range(1, layers + 1)}, str(layer)),
        heads=_options(head_options, heads),
        opacity=round(100 * OPACITY),
        cards="".join(cards),
        remarks=_remarks(explanations),
        # "<" would be markup to the parser of the page, whatever it is to JSON.
        data=json.dumps(data).replace("<", "\\u003c"),
        version=VERSION,
    )


def _options(texts: dict[str, str], selected: str) -> str:
    return "".join(
        f'<option value="{value}"{" selected" if value == selected else ""}>{text}</option>'
        for value, text in texts.items()
    )


def _facts(explanations: Sequence[Explanation], config: RunConfig) -> str:
    layers, count, _, _, rows, columns = explanations[0].attention.shape
    transform = config.data.transform
    seen = "centre" if transform.evaluation == "center_crop" else "whole view"
    pairs = {
        "Drafts": f"{len(explanations)}, the section “{config.data.section}”",
        "Views": f"as the system saw them: {seen}, {transform.crop} × {transform.crop} pixels",
        "Regions": f"{rows} × {columns} of each view; between them, maps are smoothed",
        "Attention": f"{layers} layer{'s' if layers > 1 else ''} of {count} heads",
    }
    return "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in pairs.items())


def _remarks(explanations: Sequence[Explanation]) -> str:
    remarks = [
        "A map shows where a network looked, not why it wrote a word, nor that the word is right.",
        "Colour and opacity begin at 0. Each map is stretched to its own maximum over all views of the "
        "study, so a faint map looks as strong as a clear one: read the number at the end of the scale, or "
        "let all words share one scale.",
        "A word's attention is that of the step that wrote it; where it was written in several pieces, the "
        "mean of their steps.",
    ]
    if any(each.activation_maps for each in explanations):
        remarks.append("All class activation maps share one scale, too, once that is switched on.")
    return f"<ul>{''.join(f'<li>{remark}</li>' for remark in remarks)}</ul>"


def _study_data(explanation: Explanation, chosen: Sequence[int]) -> dict[str, Any]:
    """What the page's script knows of a study."""
    attention = explanation.of_words(explanation.attention, axis=2)
    layers, count, words, views, rows, columns = attention.shape
    named, logprobs = observations_of_words(explanation), explanation.draft.token_logprobs
    memory = explanation.memory
    maps = [name for name, values in explanation.maps.items() if values.max() > 0]
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
        "attention": packed(attention.reshape(layers, count, words, views * rows * columns)),
        "maps": {name: packed(values.reshape(1, -1)) for name, values in explanation.maps.items()},
        "cams": {name: packed(values.reshape(1, -1)) for name, values in explanation.activation_maps.items()},
        "memory": {
            "words": packed(explanation.of_words(memory.of_pieces, axis=0)),
            "regions": packed(memory.of_regions.reshape(-1, len(memory.vectors))),
        }
        if memory
        else None,
    }


def _card(explanation: Explanation, index: int, section: str, *, plotted: bool) -> str:
    """One study as HTML."""
    study = explanation.study
    masked = {name for masks in explanation.masks for name, mask in masks.items() if mask.any()}
    regions = plotted and explanation.memory is not None
    figures = [_figure(explanation, position, regions) for position in range(len(explanation.views))]
    return f"""
<article class="study" id="study-{index}">
  <div class="film"><div class="film-inner">
    <div class="views">{"".join(figures)}</div>
    <div class="scale"><span>0</span><i></i><span class="most"></span></div>
    <p class="status" aria-live="polite"></p>
    {mask_legend(sorted(masked))}
  </div></div>
  <div class="reading">
    <header><h3>{escape(study.id)}</h3></header>
    <div class="pair">
      <section class="draft"><h4>Draft <span class="badge">draft — not reviewed</span></h4>
      {_words(explanation)}</section>
      {_reference(explanation, section)}
    </div>
    {observation_list(study) if study.observations else ""}
    {_maps(explanation)}
    {_observations(explanation)}
    {_memory(explanation, plotted)}
  </div>
</article>"""


def _figure(explanation: Explanation, position: int, regions: bool) -> str:
    projection = explanation.study.views[position].projection
    side = explanation.views.shape[-1]
    outlines = [mask_outline(name, mask) for name, mask in explanation.masks[position].items() if mask.any()]
    focus = ' tabindex="0" aria-label="Choose a region with the arrow keys"' if regions else ""
    # Painted at the size of the view, but of small views at one that looks smooth.
    fine = max(side, 224)
    return (
        f'<figure><div class="picture{" regions" if regions else ""}"{focus}>'
        f'<img alt="{projection} view" width="{side}" height="{side}" '
        f'src="{jpeg_source(explanation.views[position])}"><canvas width="{fine}" height="{fine}"></canvas>'
        f'<svg viewBox="0 0 {side} {side}" aria-hidden="true">{"".join(outlines)}'
        f'<rect class="region" visibility="hidden"/></svg></div>'
        f"<figcaption>view {position + 1} · {projection}</figcaption></figure>"
    )


def _words(explanation: Explanation) -> str:
    """The draft, a sentence in a line, every word a button."""
    if not explanation.words:
        return '<p class="empty">The draft is empty.</p>'
    named, important = observations_of_words(explanation), explanation.important_words
    sentences: list[list[str]] = [[]]
    for index, word in enumerate(explanation.words):
        kinds = "word" + " important" * important[index] + " named" * (index in named)
        button = (
            f'<button type="button" class="{kinds}" data-show="word:{index}" aria-pressed="false">'
            f"{escape(word.text)}</button>"
        )
        if sentences[-1] and not any(letter.isalnum() for letter in word.text):
            # A lone mark stays on the line of the word before it.
            button = f'<span class="together">{sentences[-1].pop()} {button}</span>'
        sentences[-1].append(button)
        if word.text.endswith((".", "!", "?")):
            sentences.append([])
    lines = "".join(f"<p>{' '.join(sentence)}</p>" for sentence in sentences if sentence)
    marks = []
    if any(important):
        marks.append('<span><span class="word important">word</span> important to the system itself</span>')
    if named:
        marks.append('<span><span class="word named">word</span> names an observation</span>')
    return f'<div class="words">{lines}</div><p class="marks">{"".join(marks)}</p>'


def _reference(explanation: Explanation, section: str) -> str:
    report = explanation.study.report(section)
    if not report.strip():
        return ""
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in split_sentences(report))
    return f'<section class="reference"><h4>Reference report</h4>{sentences}</section>'


def _maps(explanation: Explanation) -> str:
    if not explanation.maps:
        return ""
    buttons = "".join(
        f'<button type="button" class="choice" data-show="map:{escape(name)}" aria-pressed="false">'
        f"{escape(_MAP_NAMES.get(name, name))}</button>"
        for name in explanation.maps
    )
    return f'<section><h4>Maps of the whole study</h4><div class="maps">{buttons}</div></section>'


def _observations(explanation: Explanation) -> str:
    """A button for each class activation map, the most probable observation first."""
    probabilities = explanation.probabilities
    rows = []
    for name in sorted(explanation.activation_maps, key=lambda name: -probabilities[name]):
        present = explanation.study.observations.get(name) == "present"
        rows.append(
            f'<button type="button" class="choice" data-show="cam:{escape(name)}" aria-pressed="false">'
            f"<span>{escape(name)}{' <small>reported</small>' if present else ''}</span>"
            f'<span class="bar"><i style="width:{probabilities[name]:.1%}"></i></span>'
            f'<span class="value">{probabilities[name]:.2f}</span></button>'
        )
    if not rows:
        return ""
    return (
        "<section><h4>What it recognises: probability, and class activation map</h4>"
        f'<div class="cams">{"".join(rows)}</div></section>'
    )


def _memory(explanation: Explanation, plotted: bool) -> str:
    if explanation.memory is None:
        return ""
    if not plotted:
        return f'<section><h4>Memory</h4><p class="empty">{NO_SCIKIT_LEARN}</p></section>'
    return f"""<section><h4>Memory: the vectors that a word and a region address</h4>
    <div class="plot"><canvas width="640" height="640" role="img"
      aria-label="The memory vectors in a plane, those that the word and the region address marked"></canvas>
    <div>
      <p><i class="dot of-word"></i><b class="the-word"></b> as the decoder reads it</p>
      <p><i class="dot of-region"></i><b class="the-region"></b>, framed in the view: where the system
      looked most, or any other that you point at</p>
      <p><b class="common"></b> of their weight is on the same vectors.</p>
      <p class="note">{len(explanation.memory.vectors)} memory vectors, laid out by t-SNE; the larger a
      mark, the more weight. Distances in such a layout show neighbours only.</p>
    </div></div></section>"""
