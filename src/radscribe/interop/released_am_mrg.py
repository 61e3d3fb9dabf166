"""The released stage 2 of AM-MRG: its weights by our names, and a run directory from its checkpoint.

A checkpoint has all that trained. Its banks are not in it: they are given as directories, or as the released
files, whose rows are then drawn as the released code draws them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from radscribe.errors import RadScribeError, unknown_name
from radscribe.interop.bank_import import import_bank
from radscribe.interop.released_banks import RECOVERED
from radscribe.interop.released_facts import released_facts
from radscribe.interop.released_hopfield import hopfield_weights
from radscribe.interruption import check_new_directory, disk_errors_explained
from radscribe.layers.q_former import q_former_weights
from radscribe.parts.memory_bank import BankKind
from radscribe.recipes import RECIPES, get_recipe
from radscribe.runs.model_card import write_model_card
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.run_parts import part_path, record_parts
from radscribe.systems.am_mrg import AMMRGConfig
from radscribe.systems.registry import get_system
from radscribe.text.cleaning import UNKNOWN_TOKEN
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.transforms import TransformConfig
from radscribe.vision.vision_mamba import VISION_MAMBAS
from radscribe.vision.vision_mamba_weights import own_names
from radscribe.weights import load_strictly, read_state_dict

#: Beginnings of the released names, and what they are called here.
_NAMES = {
    "Qformer_proj": "encoder_projection",
    "output_proj": "query_projection",
    "llama_proj": "visual_projection",
    "layer_norm": "visual_norm",
}
_HOPFIELD = {"HopfieldLayers": "visual-bank", "R_HopfieldLayers": "report-bank"}
_ENCODER = "visual_encoder"
_QUERIES = "disease_tokens"
#: BERT's heads have this width; a checkpoint does not show how many there are.
_HEAD = 64


def am_mrg_weights(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a released stage 2 to those of `AMMRG`.

    Weights of the language model, which the released code leaves out, are not expected.

    Raises:
        RadScribeError: a weight has another name.
    """
    renamed: dict[str, Tensor] = {}
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in released.items():
        first, _, rest = name.partition(".")
        groups.setdefault(first, {})[rest] = tensor
    known = {*_NAMES, *_HOPFIELD, _ENCODER, _QUERIES, "Qformer"}
    strange = sorted(groups.keys() - known)
    strange += [f"Qformer.{rest}" for rest in groups.get("Qformer", {}) if not rest.startswith("bert.")]
    if strange:
        raise RadScribeError(
            f"'{strange[0]}' is no weight of a released AM-MRG",
            f"Their names begin with {', '.join(sorted(known))}",
        )
    if _QUERIES in groups:
        renamed["queries"] = groups[_QUERIES][""].squeeze(0)
    encoder = own_names(groups.get(_ENCODER, {}))
    renamed |= {f"backbone.model.{name}": tensor for name, tensor in encoder.items()}
    renamed |= {f"q_former.{name}": tensor for name, tensor in q_former_weights(released).items()}
    for theirs, kind in _HOPFIELD.items():
        if layer := groups.get(theirs):
            own = {name.removeprefix("hopfield."): tensor for name, tensor in layer.items()}
            prefix = f"memories.{kind}.hopfield."
            renamed |= {prefix + name: tensor for name, tensor in hopfield_weights(own).items()}
    for theirs, ours in _NAMES.items():
        renamed |= {f"{ours}.{name}": tensor for name, tensor in groups.get(theirs, {}).items()}
    # Half precision is how some training strategies keep weights, and not what is computed with.
    return {name: tensor.float() for name, tensor in renamed.items()}


def am_mrg_sizes(weights: Mapping[str, Tensor], config: AMMRGConfig) -> AMMRGConfig:
    """A configuration of these sizes; what weights do not show has the released code's values.

    Args:
        weights: Weights by our names; see `am_mrg_weights`.
        config: The configuration of the released form.

    Raises:
        KeyError: a weight is missing.
        RadScribeError: there is no encoder of this size.
    """
    queries = weights["queries"]
    encoder = weights["backbone.model.pos_embed"]
    fitting = [
        name
        for name, sizes in VISION_MAMBAS.items()
        if (1, sizes.side**2 + 1, sizes.width) == tuple(encoder.shape)
    ]
    if not fitting:
        raise RadScribeError(
            f"there is no vision Mamba with position embeddings {list(encoder.shape)}",
            f"There are {', '.join(VISION_MAMBAS)}",
        )
    read = "q_former.encoder.layer.0.crossattention.attention.key.weight"
    layers = {name.split(".")[3] for name in weights if name.startswith("q_former.encoder.layer.")}
    heads = config.hopfield.heads
    hidden = len(weights["memories.visual-bank.hopfield.query.bias"]) // heads
    return replace(
        config,
        backbone=replace(config.backbone, architecture=fitting[0], weights="none"),
        q_former=replace(
            config.q_former,
            weights="none",
            width=queries.size(1),
            layers=len(layers),
            heads=max(queries.size(1) // _HEAD, 1),
            channels=weights[read].size(1),
        ),
        hopfield=replace(config.hopfield, hidden=hidden),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AMMRGFiles:
    """What a released stage 2 needs beside its checkpoint.

    Attributes:
        language_model: Folder of the language model, or its name on the Hugging Face hub.
        visual_bank: Directory of the visual bank, or the released `CAM.pkl`.
        report_bank: Directory of the report bank, or the released `Report_Memory.pkl`.
        stage_1: Released `Stage1ckpt.pth`, whose queries are the first rows of a visual bank from `CAM.pkl`.
    """

    language_model: str
    visual_bank: Path
    report_bank: Path
    stage_1: Path | None = None

    def check(self) -> None:
        """Check that the files fit each other.

        Raises:
            RadScribeError: they do not.
        """
        if self.report_bank.is_file() and not self.visual_bank.is_file():
            raise RadScribeError(
                f"the released code draws from CAM.pkl before it draws from '{self.report_bank}'",
                "Give --visual_bank CAM.pkl, or a directory for --report_bank",
            )
        if self.stage_1 and not self.visual_bank.is_file():
            raise RadScribeError(
                "--stage_1 is for a visual bank from a released file", "Give --visual_bank CAM.pkl too"
            )

    def banks(self, out: Path, width: int) -> dict[BankKind, Path]:
        """The directories of the banks; those of released files are made.

        Args:
            out: Run directory, in which they are made.
            width: Width that they must have.

        Raises:
            RadScribeError: a released file is not there or holds anything else.
        """
        given: dict[BankKind, Path] = {"visual-bank": self.visual_bank, "report-bank": self.report_bank}
        options: dict[BankKind, dict[str, Path | None]] = {
            "visual-bank": {"stage_1": self.stage_1},
            "report-bank": {"visual_bank": self.visual_bank},
        }
        places = dict(given)
        for kind, file in given.items():
            if file.is_file():
                places[kind] = part_path(out, kind)
                import_bank(file, kind, places[kind], recover=True, width=width, **options[kind])
        return places

    @property
    def source(self) -> str:
        """The banks that were drawn from released files, in words."""
        drawn = [file.name for file in (self.visual_bank, self.report_bank) if file.is_file()]
        return f", banks from {' and '.join(drawn)} ({RECOVERED})" if drawn else ""


def import_am_mrg(checkpoint: Path, files: AMMRGFiles, out: Path, dataset: str) -> RunDirectory:
    """Write a run directory from a released checkpoint of stage 2.

    Args:
        checkpoint: Checkpoint of the released code; it has neither the language model nor the banks.
        files: Language model and banks.
        out: Run directory to write; it must not exist.
        dataset: Data set of the checkpoint: `iu-xray`, `mimic-cxr` or `chexpert-plus`.

    Raises:
        RadScribeError: a file is missing or has the wrong content, or a weight does not fit.
    """
    check_new_directory(out)
    files.check()
    name = f"am-mrg/{dataset}/released"
    if name not in RECIPES:
        raise unknown_name("data set", dataset, ["iu-xray", "mimic-cxr", "chexpert-plus"])
    config = get_recipe(name).build()
    weights = am_mrg_weights(read_state_dict(checkpoint))
    system: Any = config.system
    system.language_model.name = files.language_model
    try:
        config.system = am_mrg_sizes(weights, system)
    except KeyError as error:
        raise RadScribeError(
            f"'{checkpoint}' is no whole checkpoint of AM-MRG's stage 2: it lacks {error}",
            "Give the checkpoint that the released training of stage 2 wrote",
        ) from error
    config.data.transform = _released_views(config.data.transform, config.system.backbone.architecture)
    vocabulary = Vocabulary((UNKNOWN_TOKEN,), cleaning=config.data.cleaning, minimum_count=1)
    run = RunDirectory(out)
    with (
        _nothing_left_of(out),
        disk_errors_explained(out, "Make room there or put it right, and import again"),
    ):
        for kind, place in files.banks(out, weights["queries"].size(1)).items():
            setattr(config.system, kind.replace("-", "_"), str(place))
        built = get_system("am-mrg").build(config.system, vocabulary, config.data.maximum_length)
        _check_language_model(built, weights)
        load_strictly(built, weights, f"'{checkpoint}'", own=built.own_state_dict())
        source = f"{checkpoint.name}{files.source}"
        run.create(config, vocabulary, released_facts(config.recipe, "am-mrg", source))
        run.record_language_model(built)
        record_parts(out, config)
        run.save_weights(built)
        write_model_card(run)
    return run


def _released_views(transform: TransformConfig, encoder: str) -> TransformConfig:
    """Views as the released code makes them: resized to the square that the encoder takes, as for a Swin."""
    return replace(
        transform,
        store_short_side=transform.short_side,
        crop=VISION_MAMBAS[encoder].image_size,
        evaluation="squash",
        interpolation="bicubic",
    )


def _check_language_model(system: Any, weights: Mapping[str, Tensor]) -> None:
    """Check that the language model has the width of the one that the checkpoint was trained with.

    Raises:
        RadScribeError: it has another.
    """
    projection, model = weights.get("visual_projection.weight"), system.language_model
    if projection is not None and len(projection) != model.width:
        raise RadScribeError(
            f"the checkpoint was trained with a language model of width {len(projection)}, and "
            f"'{model.files.name}' has width {model.width}",
            "Give --language_model the one that it was trained with. The released code writes IU X-Ray with "
            "Qwen1.5-0.5B-Chat, whatever it is asked for",
        )


@contextmanager
def _nothing_left_of(out: Path) -> Iterator[None]:
    """Remove a directory that did not exist before, if what fills it fails."""
    try:
        yield
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
