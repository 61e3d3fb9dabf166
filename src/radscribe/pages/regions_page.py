"""The page of regions: each view with its activation map and the patches that are kept (AM-MRG, Fig. 4).

The page is self-contained: views, maps and style are in it, and its content security policy forbids it to
load anything.
"""

from __future__ import annotations

import io
import statistics
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from radscribe.files import check_output, replace_file
from radscribe.pages.overlays import overlay
from radscribe.pages.page_parts import PAGE_MARK, jpeg_source, page_file, render
from radscribe.runs.config import DataConfig
from radscribe.runs.regions import ViewRegions, map_scores
from radscribe.studies.study import Study
from radscribe.vision.regions import RegionConfig, masked

#: A study, and the regions of its observations on its views.
StudyRegions = tuple[Study, Sequence[ViewRegions]]


def check_page(out: Path) -> None:
    """Check before the work begins that the page can be written.

    Raises:
        RadScribeError: see `check_output`.
    """
    check_output(out, PAGE_MARK.encode(), "a page")


def write_regions_page(
    found: Sequence[StudyRegions],
    out: Path,
    *,
    config: RegionConfig,
    data: DataConfig,
    name: str,
    caution: str,
) -> None:
    """Write the page.

    Args:
        found: The studies with their regions.
        out: File to write.
        config: How the regions were found.
        data: The views that were looked at, and their image geometry.
        name: Name of the disease queries.
        caution: Caution that belongs to all that they find; empty if there is none.

    Raises:
        RadScribeError: the file cannot be written.
    """
    page = render(
        "regions_page.html",
        style=page_file("page.css", "regions_page.css"),
        script="",
        kind="regions",
        caution=caution,
        system="Regions",
        recipe=name,
        title="Patches that activation maps keep",
        published="Wang et al., Activating Associative Disease-Aware Vision Token Memory (AM-MRG), Figure 4",
        introduction="",
        facts={
            "Maps": f"{config.maps}; the probability of the observation, at the encoder's last map",
            "Patches": f"{config.patch} × {config.patch} pixels; mean activation above {config.threshold:g}, "
            f"at most {config.most}",
            "Without": counted(found),
            "Findings": localised(found, data) or "no mask of a finding is known",
        },
        cards=[_card(study, regions, config) for study, regions in found],
    )
    # A study id that comes from a file name may have characters that UTF-8 cannot encode.
    replace_file(out, page.encode(errors="xmlcharrefreplace"))


def counted(found: Sequence[StudyRegions]) -> str:
    """How many of the maps keep no patch, in words."""
    maps = [regions for _, of_study in found for regions in of_study]
    empty = sum(not regions.regions for regions in maps)
    return f"{empty} of {len(maps)} maps keep no patch"


def localised(found: Sequence[StudyRegions], data: DataConfig) -> str:
    """How well the maps fit the known masks of their findings, in words; empty if no finding has a mask."""
    scores = [score for study, of_study in found for score in map_scores(study, of_study, data)]
    if not scores:
        return ""

    def mean(measure: str) -> float:
        return statistics.fmean(getattr(score, measure) for score in scores)

    return (
        f"{len(scores)} masks of findings: {mean('energy'):.3f} of a map lies in its finding (of a uniform "
        f"map {mean('energy_by_chance'):.3f}), and its highest point in {mean('pointing'):.1%} of them "
        f"({mean('pointing_by_chance'):.1%})"
    )


def _card(study: Study, found: Sequence[ViewRegions], config: RegionConfig) -> dict[str, Any]:
    """The values of a study's card."""
    return {
        "id": study.id,
        "rows": [
            {
                "observation": regions.observation,
                "view": regions.view + 1,
                "projection": study.views[regions.view].projection,
                "side": regions.pixels.shape[-1],
                "image": jpeg_source(regions.pixels.numpy()),
                "map": _png_source(overlay(regions.pixels.numpy(), regions.activation_map, 1.0)),
                "patches": jpeg_source(masked(regions.pixels, regions.regions, config.patch).numpy()),
                "outlines": [(region.left, region.top) for region in regions.regions],
                "patch": config.patch,
                "activations": [f"{region.activation:.2f}" for region in regions.regions],
            }
            for regions in found
        ],
    }


def _png_source(pixels: np.ndarray) -> str:
    """A picture, uint8 `[height, width, 3]`, as a PNG data URL for an image element."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode('ascii')}"
