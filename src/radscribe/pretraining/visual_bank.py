"""The disease-aware visual bank (AM-MRG, section III-C): features of regions of the train split's views.

For each observation the studies that have it are taken in random order, until their regions fill the rows
that an observation may have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from radscribe.device import chosen_device
from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.parts.activation_maps import ActivationMaps
from radscribe.parts.disease_queries import DiseaseQueries
from radscribe.parts.memory_bank import MemoryBank
from radscribe.pretraining.bank_settings import VisualBankSettings
from radscribe.pretraining.memory_bank import (
    Filled,
    counts_table,
    labelled_train_studies,
    lines_of,
    make_bank,
    notes_of,
)
from radscribe.pretraining.model_card import Section
from radscribe.progress import track
from radscribe.runs.regions import RegionFinder, ViewRegions
from radscribe.runs.views import evaluation_views
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study
from radscribe.vision.backbones import BackboneConfig, Grid, ViewEncoder
from radscribe.vision.regions import RegionConfig, cells_of, cropped, masked
from radscribe.vision.transformers_backbone import create_view_encoder
from radscribe.vision.transforms import check_store
from radscribe.weights import hash_of_weights

KIND: Literal["visual-bank"] = "visual-bank"


def make(store: PreparedStore, out: Path, settings: VisualBankSettings, *, progress: bool = True) -> str:
    """Make a visual bank from the train split.

    Args:
        store: Prepared store; its val and test splits are not read.
        out: Directory to write.
        settings: Settings of the bank.
        progress: Show how far it is.

    Returns:
        What is printed of the bank.

    Raises:
        RadScribeError: a setting is out of range, the disease queries cannot be loaded, are no rows of such a
            bank or learnt from views of another size, the encoder cannot be loaded, no study has an
            observation, no map keeps a patch, or the disk is full.
    """
    settings.check()
    queries = DiseaseQueries.load(settings.queries, settings.device)
    content_hash = DiseaseQueries.part(settings.queries).content_hash
    check_store(store, queries.transform)
    config = RegionConfig(
        maps=settings.maps, threshold=settings.threshold, most=settings.most, patch=settings.patch
    )
    finder = RegionFinder(ActivationMaps(queries, settings.maps), config)
    first = _first_rows(queries, settings)

    def fill() -> Filled:
        encoder = _encoder(queries, settings)
        filling = _Filling(finder, encoder, settings)
        train = labelled_train_studies(store, settings)
        for column, name in track(
            enumerate(OBSERVATIONS), len(OBSERVATIONS), KIND, "observations", show=progress
        ):
            positive = [train.studies[number] for number in np.flatnonzero(train.labels[:, column] == 1)]
            random = np.random.default_rng([settings.seed, column])
            filling.take(name, [positive[number] for number in random.permutation(len(positive))])
        if not filling.rows:
            raise RadScribeError(
                f"no map of a study with an observation keeps a patch above {settings.threshold:g}",
                "Choose a lower --threshold, or train the disease queries for longer",
            )
        names = OBSERVATIONS if first is not None else ()
        rows = [*({"observation": name, "query": True} for name in names), *filling.rows]
        of_encoder = {"encoder_sha256": hash_of_weights(encoder)} if settings.encoder else {}
        return Filled(
            MemoryBank.make(torch.cat(filling.features), rows, settings.width, settings.seed, first),
            settings.recorded() | {"queries_content_hash": content_hash} | of_encoder,
            {"observations": filling.counts},
        )

    return summary(make_bank(KIND, store, out, fill, section))


def _first_rows(queries: DiseaseQueries, settings: VisualBankSettings) -> Tensor | None:
    """The disease queries as rows `[observations, width]`; None unless they are asked for.

    Raises:
        RadScribeError: there are none, or they have another width than the bank.
    """
    if not settings.with_queries:
        return None
    if queries.queries is None:
        raise RadScribeError(
            f"the disease queries in '{settings.queries}' have no Q-Former, and so no queries: their head is "
            "pooled-mlp",
            "Train them with --head per-query, or leave out --with_queries",
        )
    if (width := queries.queries.size(1)) != settings.width:
        raise RadScribeError(
            f"the queries in '{settings.queries}' have width {width}, and the bank has {settings.width}",
            f"Give --width {width}, or leave out --with_queries",
        )
    return queries.queries


def _encoder(queries: DiseaseQueries, settings: VisualBankSettings) -> ViewEncoder:
    """What encodes the regions.

    Raises:
        RadScribeError: it cannot be loaded, or takes views of another size.
    """
    if not settings.encoder:
        return queries.backbone
    config = BackboneConfig(architecture=settings.encoder, weights=settings.encoder_weights)
    try:
        encoder = create_view_encoder(config, queries.transform.crop)
    except RadScribeError as error:
        raise RadScribeError(
            f"the encoder of the regions: {error}",
            f"Give --encoder and --encoder_weights of one for views of {queries.transform.crop} pixels",
        ) from error
    return encoder.eval().requires_grad_(False).to(chosen_device(settings.device))


class _Filling:
    """A bank that is being filled.

    Attributes:
        features: Raw features `[rows, channels]` of each taken view.
        rows: What each row is of.
        counts: Numbers of studies and rows of each observation.
    """

    def __init__(self, finder: RegionFinder, encoder: ViewEncoder, settings: VisualBankSettings):
        self.finder = finder
        self.encoder = encoder
        self.settings = settings
        self.features: list[Tensor] = []
        self.rows: list[Mapping[str, Any]] = []
        self.counts: dict[str, dict[str, int]] = {}

    def take(self, name: str, studies: Sequence[Study]) -> None:
        """Take the regions of an observation from studies in their order, until its rows are full."""
        most = self.settings.most_rows
        looked_at = without = taken = 0
        for study in studies:
            if taken == most:
                break
            looked_at += 1
            views = evaluation_views(study, self.finder.data)
            found = [of_view for of_view in self.finder.regions(study, views, [name]) if of_view.regions]
            without += not found
            for of_view in found:
                features, places = self._encode(of_view)
                features, places = features[: most - taken], places[: most - taken]
                taken += len(places)
                self.features.append(features)
                source = study.views[of_view.view].name
                row = {"study": study.id, "observation": name, "view": of_view.view, "source": source}
                self.rows += [row | place for place in places]
        self.counts[name] = {
            "studies": len(studies),
            "looked_at": looked_at,
            "without_region": without,
            "rows": taken,
        }

    @torch.inference_mode()
    def _encode(self, found: ViewRegions) -> tuple[Tensor, list[dict[str, Any]]]:
        """Raw features of the regions of a view, `[rows, channels]` on the CPU, and the place of each."""
        encoder, side = self.encoder, self.settings.patch
        device = self.finder.maps.part.temperatures.device
        if self.settings.form == "crop":
            patches = cropped(found.pixels, found.regions, side)
            encoded = [
                encoder.encode_views(some.to(device)).mean(dim=1)
                for some in patches.split(self.settings.batch)
            ]
            places = [region._asdict() | {"side": side} for region in found.regions]
            return torch.cat(encoded).cpu(), places
        view = masked(found.pixels, found.regions, side)
        tokens = encoder.encode_views(view.unsqueeze(0).to(device))[0]
        grid = Grid.of_square(len(tokens))
        if grid is None:
            raise RadScribeError(
                f"the {len(tokens)} visual tokens of {self.settings.encoder} lie on no square grid",
                "Choose another --encoder, or --form crop",
            )
        cells = cells_of(found.regions, side, len(view), grid.rows)
        length = len(view) // grid.rows
        places = [
            {"cell": cell, "top": row * length, "left": column * length, "side": length}
            for cell in cells
            for row, column in [divmod(cell, grid.columns)]
        ]
        return tokens[cells].cpu(), places


def summary(facts: Mapping[str, Any]) -> str:
    """What is printed of a bank that was made."""
    settings = facts["settings"]
    lines = [
        f"visual bank    {settings['form']}, maps {settings['maps']}, mean activation above "
        f"{settings['threshold']:g}",
        f"encoder        {settings['encoder'] or 'that of the disease queries'}",
        *lines_of(facts),
        f"no region      {_without(facts)}",
        "",
        f"{'':26}{'studies':>9}{'looked at':>11}{'no region':>11}{'rows':>7}",
    ]
    for name, counts in facts["observations"].items():
        studies, looked_at, without, rows = counts.values()
        lines.append(f"{name:26}{studies:>9,}{looked_at:>11,}{without:>11,}{rows:>7,}")
    return "\n".join(lines)


def section(facts: Mapping[str, Any]) -> Section:
    """What the model card says."""
    settings = facts["settings"]
    return Section(
        title="Disease-aware visual bank",
        purpose="Features of regions of chest X-ray views in which an observation is reported. A system "
        "retrieves from them when it drafts.",
        caution="A region is where a network's probability comes from, and need not show the observation. "
        "The rows name studies of the store: where these may not be passed on, ask before the bank is.",
        learnt=f"{facts['rows']:,} rows, at most {settings['most_rows']:,} of an observation"
        + (", and before them the disease queries" if settings["with_queries"] else ""),
        notes=[
            f"Regions that activation maps of disease queries keep (content hash "
            f"{settings['queries_content_hash'][:12]}); {_without(facts)}.",
            f"Encoder of the regions: {_encoder_in_words(settings)}.",
            *notes_of(facts),
        ],
        rest=counts_table(facts, "studies", "looked at", "no region", "rows"),
    )


def _encoder_in_words(settings: Mapping[str, Any]) -> str:
    if not settings["encoder"]:
        return "that of the disease queries"
    return f"{settings['encoder']} (sha256 of its weights {settings['encoder_sha256'][:12]})"


def _without(facts: Mapping[str, Any]) -> str:
    counts = facts["observations"].values()
    without, looked_at = (sum(count[name] for count in counts) for name in ("without_region", "looked_at"))
    return f"{without:,} of {looked_at:,} studies that were looked at keep no patch"
