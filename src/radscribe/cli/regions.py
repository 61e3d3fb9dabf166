"""The command that shows which patches of images activation maps keep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from radscribe.about import NOTICE
from radscribe.cli.output import require_studies
from radscribe.errors import unknown_name

if TYPE_CHECKING:
    from radscribe.studies.rejection import Rejection


def regions(
    queries: Path,
    source: list[str],
    *,
    out: Path,
    maps: Literal["grad", "grad++", "hires", "xgrad", "eigen", "layer"] = "grad",
    threshold: float = 0.75,
    most: int = 6,
    patch: int = 16,
    observation: list[str] | None = None,
    split: str | None = None,
    studies: int = 50,
    chest_only: bool = True,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    progress: bool = True,
) -> None:
    """Write a page with the patches of images that activation maps of disease queries keep.

    Each view has a row for each observation: the image, the activation map, and the patches. It prints how
    many maps keep no patch and, where masks of findings are known, how well the maps fit these. Studies that
    cannot be read are named on standard error and left out.

    Args:
        queries: Directory that 'radscribe pretrain disease-queries' wrote.
        source: Prepared stores, folders of images, tables of studies, or single image files.
        out: HTML file to write.
        maps: Way of making the maps: Grad-CAM, Grad-CAM++, HiResCAM, XGrad-CAM, Eigen-CAM or LayerCAM.
        threshold: A patch is kept if its mean activation, from 0 to 1, exceeds this.
        most: Largest number of patches that are kept of a map.
        patch: Side of a patch in pixels.
        observation: Names of the observations to show; without it those whose probability reaches its
            threshold.
        split: Split to show where the source is a prepared store: train, val, test or all; without it all
            studies are looked at.
        studies: Largest number of studies that are shown.
        chest_only: Refuse DICOM files that are no radiographs of the chest by their tags or their pixels;
            --no_chest_only takes every DICOM file with pixels.
        device: Device to compute on; auto takes a GPU where there is one.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from itertools import islice

    from radscribe.observations import OBSERVATIONS
    from radscribe.pages.regions_page import check_page, counted, localised, write_regions_page
    from radscribe.parts.activation_maps import ActivationMaps
    from radscribe.parts.disease_queries import DiseaseQueries
    from radscribe.progress import track
    from radscribe.ranges import COUNT, check_options
    from radscribe.runs.observing import synthetic_caution
    from radscribe.runs.regions import RegionFinder
    from radscribe.studies.given import given_studies
    from radscribe.studies.opening import Opening
    from radscribe.vision.regions import RegionConfig

    check_options({"--studies": (studies, COUNT)})
    for name in observation or []:
        if name not in OBSERVATIONS:
            raise unknown_name("observation", name, OBSERVATIONS)
    check_page(out)
    config = RegionConfig(maps=maps, threshold=threshold, most=most, patch=patch)
    part = DiseaseQueries.load(queries, device)
    finder = RegionFinder(ActivationMaps(part, maps), config)
    rejections: list[Rejection] = []
    opening = Opening(chest_only)
    given = islice(given_studies(source, rejections.append, split=split, opening=opening), studies)
    found_regions = finder.of_studies(given, observation or finder.above, rejections.append)
    found = list(track(found_regions, studies, "regions", "studies", show=progress))
    require_studies(len(found), source, rejections)
    caution = synthetic_caution(DiseaseQueries.part(queries))
    name = queries.resolve().name
    write_regions_page(found, out, config=config, data=finder.data, name=name, caution=caution)
    print(f"{len(found)} studies: {counted(found)}; {NOTICE}")
    if fit := localised(found, finder.data):
        print(fit)
    print(f"look at it: {out.resolve().as_uri()}")
