"""Training of a system, from its configuration to a run directory with scores."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import logging
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger

from radscribe.about import VERSION
from radscribe.device import chosen_device
from radscribe.errors import RadScribeError
from radscribe.evaluation.summary import short_summary
from radscribe.interruption import (
    StopRequest,
    disk_errors_explained,
    memory_errors_explained,
    only_training,
    worker_errors_explained,
)
from radscribe.runs.config import RunConfig, TrainingConfig, field_names
from radscribe.runs.model_card import write_model_card
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.run_parts import check_origin, check_parts, parts_of, record_parts, with_own_parts
from radscribe.runs.scoring import score_run, scored_references, write_drafts
from radscribe.runs.views import evaluation_batches, projections_of, studies_with_report
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import PROJECTIONS, Study
from radscribe.systems.registry import get_system
from radscribe.text.vocabulary import Vocabulary
from radscribe.training.callbacks import RunKeeper, ShownProgress
from radscribe.training.data import TrainingBatches, TrainingSet
from radscribe.training.memory import check_fits, keep_large_blocks, peak_memory_gb
from radscribe.training.module import TrainingModule
from radscribe.training.resuming import (
    Checkpoint,
    changes_between,
    check_best_weights,
    check_changes,
    check_new,
    check_same_store,
    may_start_over,
    newest_checkpoint,
    record_changes,
    resume_command,
    store_facts,
)
from radscribe.training.unlikeness import learn_training_features
from radscribe.vision.backbones import ViewEncoder
from radscribe.vision.transforms import check_store, settled_transform

#: Endings of names of fields that, unless set, take their values from the store or the backbone's weights.
_SETTLED = (
    "transform.store_short_side",
    "transform.interpolation",
    "normalisation.mean",
    "normalisation.std",
)


def train(config: RunConfig, out: Path | str, *, resume: bool = False, progress: bool = True) -> RunDirectory:
    """Train a system by its configuration, choose its weights on validation, and score the test split once.

    Args:
        config: The complete configuration; `config.store` names the prepared store.
        out: The run directory.
        resume: Go on from the last checkpoint of the run, exactly as if it had not been interrupted. The
            configuration may differ from that of the run in the fields of `CHANGEABLE`.
        progress: Show the progress of the training.

    Raises:
        RadScribeError: the run exists or does not, the store lacks a split, the loss is not finite, ...
        InterruptionError: it was stopped by Ctrl-C; the error says what is saved.
    """
    run = RunDirectory(out)
    if resume and not run.config.is_file():
        raise RadScribeError(f"there is no run to resume in '{run.path}'", "Leave out --resume to begin it")
    config = with_store(config)
    training = _Training(run, config, progress)
    command = resume_command(run, config)
    with (
        only_training(run.path),
        disk_errors_explained(run.path, f"Make room there or put it right, and go on: {command}"),
        memory_errors_explained("--training.batch_size"),
        worker_errors_explained(f"Go on with fewer: {resume_command(run, config, workers=0)}"),
        StopRequest(training.what_is_saved) as stop,
    ):
        training.run_all(stop, resume)
    return run


def with_store(config: RunConfig) -> RunConfig:
    """A copy of a configuration, with the absolute path of its store.

    Raises:
        RadScribeError: it names no store.
    """
    if not config.store:
        raise RadScribeError(
            f"recipe {config.recipe} needs a prepared store",
            "Make one with radscribe prepare SOURCE --out STORE, and pass --store STORE",
        )
    return dataclasses.replace(copy.deepcopy(config), store=str(Path(config.store).absolute()))


def check_rates(training: TrainingConfig) -> None:
    """Check that a warm-up can rise to the learning rates.

    Raises:
        RadScribeError: it begins above one of them.
    """
    lowest = min(training.backbone_learning_rate, training.learning_rate)
    if training.warm_up_epochs and training.warm_up_from > lowest:
        raise RadScribeError(
            f"training.warm_up_from {training.warm_up_from:g} is above a learning rate that the warm-up "
            f"shall rise to, {lowest:g}",
            "Pass a lower one, such as --training.warm_up_from 0",
        )


def open_studies(config: RunConfig) -> tuple[PreparedStore, list[Study], list[Study]]:
    """Open the store of a configuration: the store, and the studies of its train and val splits.

    Raises:
        RadScribeError: there is no store, its views have another size than the configuration needs, or no
            study of a split has the section to draft.
    """
    store = PreparedStore(config.store)
    check_store(store, config.data.transform)
    train_studies, validation_studies = (
        studies_with_report(store.studies(split), config.data.section, split) for split in ("train", "val")
    )
    return store, train_studies, validation_studies


class _Training:
    """One call of `train`.

    Attributes:
        saved: The newest checkpoint of the run, or None.
        changes: Changes that a resumed run makes to its configuration; see `changes_between`.
    """

    def __init__(self, run: RunDirectory, config: RunConfig, progress: bool):
        self.run = run
        self.config = config
        self.progress = progress
        self.saved: Checkpoint | None = None
        self.changes: dict[str, tuple[Any, Any]] = {}

    def run_all(self, stop: StopRequest, resume: bool) -> None:
        """Do everything, from opening the store to scoring the test split."""
        run, training = self.run, self.config.training
        check_rates(training)
        if resume:
            resume = self._resume()
        else:
            check_new(run)
        config, device = self.config, chosen_device(training.device)
        keep_large_blocks()
        if training.threads:
            torch.set_num_threads(training.threads)
        store, train_studies, validation_studies = open_studies(config)
        if resume:
            vocabulary = Vocabulary.load(run.vocabulary)
            check_same_store(run, store)
            check_parts(run.path, config, run.read_facts())
            config.system = with_own_parts(run.path, config).system
        else:
            parts_of(config)
            check_origin(config, store)
            reports = [study.report(config.data.section) for study in train_studies]
            vocabulary = Vocabulary.build(reports, config.data.cleaning, config.data.minimum_count)
        check_fits(config, vocabulary, device)
        seed_everything(training.seed, verbose=False)
        system = get_system(config.system_name).build(config.system, vocabulary, config.data.maximum_length)
        if resume:
            run.check_language_model(system)
        else:
            assert isinstance(system.backbone, ViewEncoder)
            config.data.transform = settled_transform(config.data.transform, store, system.backbone.pixels)
        system.check_views(config.data.transform)
        training_set = TrainingSet.of(
            train_studies, system, config.data, training.seed, training.device, progress=self.progress
        )
        if system.learns_projections:
            _warn_of_unknown_projections(training_set, config)
        batches = TrainingBatches(training_set, training.batch_size, training.workers)
        references = scored_references(validation_studies, config.data, vocabulary, system.tokenizer)
        if not resume:  # the run directory is made only now, when nothing is missing
            assert isinstance(system.backbone, ViewEncoder)
            system.backbone.keep_normalisation()
            run.create(config, vocabulary, _facts(run, config, store))
            run.record_language_model(system)
            record_parts(run.path, config)
        if self.changes:
            record_changes(run, config, self.changes, self.saved.step if self.saved else 0)
        module = TrainingModule(system, config, batches, references, _advice(run, config))
        self._fit(module, validation_studies, stop)
        learn_training_features(run, train_studies, validation_studies, progress=self.progress)
        _score_test_split(run, store, self.progress)
        write_model_card(run)

    def _resume(self) -> bool:
        """Find the checkpoint and take over what was changed; return False if the run begins again."""
        run = self.run
        before = run.load_config()
        if not before.store:
            raise RadScribeError(
                f"the run in '{run.path}' was imported, not trained", "Train one with another --out"
            )
        before = dataclasses.replace(before, store=str(Path(before.store).absolute()))
        if self.config.store == before.store:  # the store may have been moved together with the run
            self.config = dataclasses.replace(self.config, store=str(run.find_store()))
        self.config = _settled_as(before, self.config)
        changes = changes_between(before, self.config)
        check_changes(run, changes)
        self.saved = newest_checkpoint(run)
        if self.saved is None:
            if not may_start_over(run):
                raise RadScribeError(
                    f"the run in '{run.path}' has no checkpoint to go on from: '{run.checkpoint}' is missing",
                    "Restore it from a copy, or begin anew with another --out",
                )
            print(f"radscribe: '{run.path}' has no checkpoint yet; it begins again", file=sys.stderr)
        else:
            check_best_weights(run)
        self.changes = changes
        return self.saved is not None

    def _fit(self, module: TrainingModule, validation_studies: Sequence[Study], stop: StopRequest) -> None:
        """Do all steps and validations that are left."""
        run, config, training = self.run, self.config, self.config.training
        log_every = min(50, len(module.batches))
        began, in_one_piece = time.monotonic(), self.saved is None
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it prints advertising at the start
        trainer = Trainer(
            accelerator=chosen_device(training.device).type,
            devices=1,
            precision=training.precision,
            max_epochs=training.epochs,
            accumulate_grad_batches=training.accumulate,
            check_val_every_n_epoch=training.validate_every,
            num_sanity_val_steps=0,
            log_every_n_steps=log_every,
            callbacks=[
                RunKeeper(run, module, log_every, stop, self._keep),
                EarlyStopping(
                    f"val/{training.select_by}", mode="max", patience=training.patience, check_finite=False
                ),
                ShownProgress(module, show=self.progress),
            ],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=TensorBoardLogger(run.path, name="", version="tensorboard"),
        )
        with warnings.catch_warnings():
            # Lightning's advice does not fit here: the loaders are small, and our batches keep the position.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
            warnings.filterwarnings("ignore", message=".*treespec.*")
            warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
            try:
                trainer.fit(
                    module,
                    train_dataloaders=module.batches,
                    val_dataloaders=evaluation_batches(
                        validation_studies, config.data, training.batch_size, training.workers
                    ),
                    ckpt_path=self.saved.path if self.saved else None,
                    weights_only=True,
                )
            finally:
                stop.stepping = False
        cost = {"peak_memory_gb": round(peak_memory_gb(chosen_device(training.device)), 3)}
        if in_one_piece:  # the time that an interrupted training took before is not known
            cost["training_seconds"] = round(time.monotonic() - began, 1)
        run.update_facts(
            finished=True, steps=trainer.global_step, epochs_trained=trainer.current_epoch, **cost
        )

    def _keep(self, checkpoint: Checkpoint) -> None:
        self.saved = checkpoint

    def what_is_saved(self) -> tuple[str, str]:
        """Message and advice for a user who stops the training: what is saved, and how to go on."""
        run, config = self.run, self.config
        command = resume_command(run, config)
        if not run.config.is_file():
            return "stopped before the training began; nothing was written", "Give the same command again"
        if run.read_facts().get("finished"):
            return (
                f"stopped after the training, which is saved in '{run.path}'; the test split is not scored",
                f"Score it: {command}",
            )
        if self.saved is None:
            return "stopped before the first checkpoint", f"Begin again: {command}"
        return (
            f"stopped; the training up to step {self.saved.step} (in epoch {self.saved.epoch} of "
            f"{config.training.epochs}) is saved in '{run.checkpoint}'",
            f"Go on: {command}",
        )


def _advice(run: RunDirectory, config: RunConfig) -> str:
    """Advice if the loss is not finite: a tenth of the learning rates, and gradients clipped."""
    training = config.training
    changes = {
        "learning_rate": training.learning_rate / 10,
        "backbone_learning_rate": training.backbone_learning_rate / 10,
    }
    if not training.clip_value and not training.clip_norm:
        changes["clip_norm"] = 1.0
    return f"Go on from the last checkpoint with lower rates: {resume_command(run, config, **changes)}"


def _warn_of_unknown_projections(training_set: TrainingSet, config: RunConfig) -> None:
    """Warn how many training views have no known projection; for systems that learn from projections."""
    unknown = PROJECTIONS.index("unknown")
    projections = [
        number for study in training_set.studies for number in projections_of(study, training_set.config)
    ]
    if count := projections.count(unknown):
        print(
            f"radscribe: {count:,} of {len(projections):,} training views have no known projection, but "
            f"{config.system_name} learns from projections. To have them predicted: radscribe pretrain "
            "view-classifier STORE --out view-classifier, with a store that states projections, and pass "
            "--data.view_classifier view-classifier",
            file=sys.stderr,
        )


def _settled_as(kept: RunConfig, config: RunConfig) -> RunConfig:
    """A copy of `config`; fields that it leaves to store and weights have the values of the run `kept`."""
    config, settled = copy.deepcopy(config), field_names(kept)
    for name, value in field_names(config).items():
        if name.endswith(_SETTLED) and not value and name in settled:
            *path, last = name.split(".")
            setattr(functools.reduce(getattr, path, config), last, settled[name])
    return config


def _facts(run: RunDirectory, config: RunConfig, store: PreparedStore) -> dict[str, Any]:
    return {
        "radscribe": VERSION,
        "recipe": config.recipe,
        "system": config.system_name,
        **store_facts(run, store.path),
        "store_source": store.manifest["source"],
        "store_content_hash": store.manifest["content_hash"],
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "python": platform.python_version(),
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "finished": False,
    }


def _score_test_split(run: RunDirectory, store: PreparedStore, progress: bool) -> None:
    if not any(study.sections for study in store.studies("test")):
        return
    evaluation, drafts = score_run(run, store, "test", progress=progress)
    write_drafts(drafts, run.drafts("test"))
    run.metrics.write_text(json.dumps(evaluation.to_json(), indent=2) + "\n")
    run.scores.write_text(f"{evaluation}\n")
    run.summary.write_text(f"{short_summary(evaluation)}\n")
