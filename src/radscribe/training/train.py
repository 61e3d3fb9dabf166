"""From a recipe to a trained run directory."""

from __future__ import annotations

import copy
import functools
import json
import logging
import math
import platform
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from tqdm import tqdm

from radscribe import __version__
from radscribe.errors import RadScribeError
from radscribe.studies.store import PreparedStore
from radscribe.systems.registry import get_system
from radscribe.text.vocabulary import Vocabulary
from radscribe.training.config import RunConfig, field_names, to_yaml
from radscribe.training.data import (
    TrainingBatches,
    TrainingSet,
    evaluation_batches,
    report_of,
    studies_with_report,
)
from radscribe.training.device import chosen_device
from radscribe.training.memory import keep_large_blocks
from radscribe.training.module import TrainingModule
from radscribe.training.run_directory import RunDirectory, whole_or_not_at_all
from radscribe.training.scoring import score_run, scored_references, write_drafts, write_model_card
from radscribe.training.view_classifier import ViewClassifier
from radscribe.vision.backbones import ViewEncoder
from radscribe.vision.transforms import check_store, settled_transform

#: Ends of the names of fields that training takes from its store and from the backbone's weights unless set.
_SETTLED = (
    "transform.store_short_side",
    "transform.interpolation",
    "normalisation.mean",
    "normalisation.std",
)


def train(config: RunConfig, out: Path | str, *, resume: bool = False, progress: bool = True) -> RunDirectory:
    """Train a system by its configuration, choose its weights on validation, and score the test split once.

    Args:
        config: complete configuration; `config.store` names the prepared store.
        out: the run directory.
        resume: go on from the run's last checkpoint, exactly as if it had not been interrupted.
        progress: show progress bars.

    Raises:
        RadScribeError: the run exists or does not, the store lacks a split, the loss is not finite, ...
    """
    run = RunDirectory(out)
    config = _checked_start(run, config, resume)
    keep_large_blocks()
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    store = PreparedStore(config.store)
    check_store(store, config.data.transform)
    train_studies = studies_with_report(store.studies("train"), config.data.section, "train")
    validation_studies = studies_with_report(store.studies("val"), config.data.section, "val")

    seed_everything(config.training.seed, verbose=False)
    if resume:
        vocabulary = Vocabulary.load(run.vocabulary)
        _check_same_inputs(run, config, store)
    else:
        reports = [report_of(study, config.data.section) for study in train_studies]
        vocabulary = Vocabulary.build(reports, config.data.cleaning, config.data.minimum_count)
    system = get_system(config.system_name).build(config.system, vocabulary, config.data.maximum_length)
    training = config.training
    # Before there is a run: a label file or a view classifier that cannot be read leaves none behind.
    training_set = TrainingSet.of(train_studies, system, config.data, training.seed, training.device)
    if resume:
        run.check_language_model(system)
    else:
        assert isinstance(system.backbone, ViewEncoder)
        config.data.transform = settled_transform(config.data.transform, store, system.backbone.pixels)
        system.backbone.keep_normalisation()
        run.create(config, vocabulary, _facts(config, store))
        run.record_language_model(system)

    batches = TrainingBatches(training_set, training.batch_size, training.workers)
    tokenizer = system.language_model.tokenizer if system.language_model else None
    references = scored_references(validation_studies, config.data, vocabulary, tokenizer)
    module = TrainingModule(system, config, batches, references)
    log_every = min(50, len(batches))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it advertises at every start
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
            _RunKeeper(run, module, log_every),
            EarlyStopping(
                f"val/{training.select_by}", mode="max", patience=training.patience, check_finite=False
            ),
            *([_ProgressBar(leave=False)] if progress else []),
        ],
        enable_progress_bar=progress,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=TensorBoardLogger(run.path, name="", version="tensorboard"),
    )
    with warnings.catch_warnings():
        # Advice of Lightning that does not fit: the loaders are small, and the position is kept by ours.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
        warnings.filterwarnings("ignore", message=".*treespec.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
        trainer.fit(
            module,
            train_dataloaders=batches,
            val_dataloaders=evaluation_batches(
                validation_studies, config.data, training.batch_size, training.workers
            ),
            ckpt_path=run.checkpoint if resume else None,
            weights_only=True,
        )
    if trainer.interrupted:
        raise RadScribeError(f"training was interrupted at step {trainer.global_step}", "Go on with --resume")
    run.update_facts(finished=True, steps=trainer.global_step, epochs_trained=trainer.current_epoch)
    _score_test_split(run, store, progress)
    write_model_card(run)
    return run


def _checked_start(run: RunDirectory, config: RunConfig, resume: bool) -> RunConfig:
    """The configuration to train by: a copy, which training may complete, or that of the run to resume."""
    if not config.store:
        raise RadScribeError(
            f"recipe {config.recipe} needs a prepared store",
            "Make one with radscribe prepare SOURCE --out STORE, and pass --store STORE",
        )
    training = config.training
    lowest = min(training.backbone_learning_rate, training.learning_rate)
    if training.warm_up_epochs and training.warm_up_from > lowest:
        raise RadScribeError(
            f"training.warm_up_from {training.warm_up_from:g} is above a learning rate that the warm-up "
            f"shall rise to, {lowest:g}",
            "Pass a lower one, such as --training.warm_up_from 0",
        )
    exists = run.config.is_file()
    if resume and not exists:
        raise RadScribeError(f"there is no run to resume in '{run.path}'", "Leave out --resume to begin it")
    if resume:
        kept = run.load_config()
        if to_yaml(kept) != to_yaml(_settled_as(kept, config)):
            raise RadScribeError(
                f"the run in '{run.path}' was begun with another configuration",
                f"Resume it with the values in {run.config}, or begin anew with another --out",
            )
        if not run.checkpoint.is_file():
            raise RadScribeError(
                f"the run in '{run.path}' has no checkpoint yet", "Remove the directory and begin it again"
            )
        return kept
    if exists:
        raise RadScribeError(
            f"there is a run in '{run.path}' already", "Go on with it by --resume, or choose another --out"
        )
    return copy.deepcopy(config)


def _settled_as(kept: RunConfig, config: RunConfig) -> RunConfig:
    """A copy of `config` with what it leaves to its store and weights as the begun run has it."""
    config, settled = copy.deepcopy(config), field_names(kept)
    for name, value in field_names(config).items():
        if name.endswith(_SETTLED) and not value and name in settled:
            *path, last = name.split(".")
            setattr(functools.reduce(getattr, path, config), last, settled[name])
    return config


def _inputs(config: RunConfig, store: PreparedStore) -> dict[str, str]:
    """Hashes of what training learns from, by their names in `run.json`."""
    hashes = {"store_content_hash": store.manifest["content_hash"]}
    if config.data.view_classifier:
        hashes["view_classifier_sha256"] = ViewClassifier.sha256(config.data.view_classifier)
    return hashes


def _check_same_inputs(run: RunDirectory, config: RunConfig, store: PreparedStore) -> None:
    before, places = run.read_facts(), [store.path, config.data.view_classifier]
    for (name, now), place in zip(_inputs(config, store).items(), places, strict=False):
        if before[name] != now:
            raise RadScribeError(
                f"'{place}' has changed since the run began", f"Its hash was {before[name]}, it is {now}"
            )


def _facts(config: RunConfig, store: PreparedStore) -> dict[str, Any]:
    return {
        "radscribe": __version__,
        "recipe": config.recipe,
        "system": config.system_name,
        "store": str(store.path),
        "store_source": store.manifest["source"],
        **_inputs(config, store),
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


class _ProgressBar(TQDMProgressBar):
    """Without the logger's version, which a run directory does not have."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return dict(metrics)


class _RunKeeper(Callback):
    """Writes what a run keeps: the log, the best weights, and the last state, each whole at any moment."""

    def __init__(self, run: RunDirectory, module: TrainingModule, log_every: int):
        self.run = run
        self.module = module
        self.training = module.config.training
        self.log_every = log_every
        self.best = -math.inf

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.best = state_dict["best"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.run.checkpoint.parent.mkdir(parents=True, exist_ok=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop log lines of steps that a killed run made after its last checkpoint."""
        kept = [line for line in self.run.read_log() if line["step"] <= trainer.global_step]
        self.run.log.write_text("".join(f"{json.dumps(line)}\n" for line in kept))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stepped = (batch_idx + 1) % self.training.accumulate == 0
        if trainer.global_step % self.log_every == 0 and stepped:
            terms = {
                name.removeprefix("loss/"): float(value)
                for name, value in trainer.callback_metrics.items()
                if name.startswith("loss/")
            }
            rate = trainer.optimizers[0].param_groups[-1]["lr"]
            self._log(trainer, loss=outputs["loss"].item(), terms=terms, learning_rate=rate)
        if (
            trainer.global_step % self.training.checkpoint_every == 0
            and stepped
            and not trainer.is_last_batch
        ):
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scores = {
            name.removeprefix("val/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        self._log(trainer, validation=scores)
        score = scores[self.training.select_by]
        if score > self.best:
            self.best = score
            best = {self.training.select_by: score, "epoch": trainer.current_epoch}
            self.run.save_weights(self.module.system, best=best)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if shares := self.module.take_shares():
            self._log(trainer, shares=shares)
            if warning := self.module.system.warning(shares):
                tqdm.write(f"radscribe: epoch {trainer.current_epoch + 1}: {warning}", file=sys.stderr)
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        with whole_or_not_at_all(self.run.checkpoint) as partial:
            trainer.save_checkpoint(partial, weights_only=False)

    def _log(self, trainer: Trainer, **values: Any) -> None:
        line = {"step": trainer.global_step, "epoch": trainer.current_epoch, **values}
        with self.run.log.open("a") as log:
            log.write(json.dumps(line) + "\n")
