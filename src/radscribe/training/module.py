"""The Lightning module of a training: optimiser, schedule, losses, and validation by drafting reports."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.evaluation.metrics import text_statistics
from radscribe.runs.config import RunConfig, selection_score
from radscribe.systems.system import Batch, MatchesReports, System, pad_tokens
from radscribe.training.data import TrainingBatches
from radscribe.training.optimizer import create_optimizer
from radscribe.training.schedule import set_learning_rates
from radscribe.weights import load_strictly

#: Studies among which a report is looked for.
_AMONG = 100


class TrainingModule(LightningModule):
    """Trains a system and scores its drafts of the validation split.

    Args:
        system: The system to train.
        config: The configuration of the run.
        batches: The training batches; checkpoints keep their position.
        validation_references: References of the validation split by study id, in the form that is scored.
        advice: Advice for the user if the loss is not finite.
    """

    def __init__(
        self,
        system: System,
        config: RunConfig,
        batches: TrainingBatches,
        validation_references: dict[str, str],
        advice: str,
    ):
        super().__init__()
        self.system = system
        self.config = config
        self.batches = batches
        self.validation_references = validation_references
        self.advice = advice
        self._drafts: dict[str, str] = {}
        self._images: list[Tensor] = []
        self._shares: dict[str, float] = {}
        self._studies = 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """See `create_optimizer`."""
        return create_optimizer(self.system, self.config.training)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the tensors of a batch to the device."""
        fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
        for name, value in fields.items():
            if isinstance(value, Tensor):
                fields[name] = value.to(device, non_blocking=True)
        return Batch(**fields)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the dropout and set the learning rates by the step, so that a resumed run has the same."""
        training = self.config.training
        torch.manual_seed(training.seed * 1_000_003 + self.batches.position)
        steps = math.ceil(len(self.batches) / training.accumulate)
        set_learning_rates(self.trainer.optimizers[0], training, self.global_step / steps)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch.

        Raises:
            RadScribeError: the loss is not finite; the last checkpoint is whole.
        """
        losses = self.system(batch)
        if not torch.isfinite(losses.total):
            studies = ", ".join(batch.study_ids[:4])
            raise RadScribeError(
                f"the loss is {losses.total.item()} at step {self.global_step} (studies {studies}, ...)",
                self.advice,
            )
        size = len(batch.study_ids)
        self.log("loss", losses.total, prog_bar=True, batch_size=size)
        for name, term in losses.terms.items():
            self.log(f"loss/{name}", term, batch_size=size)
        self._studies += size
        for name, share in losses.shares.items():
            self._shares[name] = self._shares.get(name, 0.0) + size * share.item()
        return losses.total

    def take_shares(self) -> dict[str, float]:
        """Means of `Losses.shares` over the studies since the last call; it is called after each epoch."""
        shares = {name: total / self._studies for name, total in self._shares.items()}
        self._shares, self._studies = {}, 0
        return shares

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip gradients; the trainer itself refuses this for fused optimisers in mixed precision."""
        training = self.config.training
        if training.clip_value:
            torch.nn.utils.clip_grad_value_(self.system.parameters(), training.clip_value)
        if training.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.system.parameters(), training.clip_norm)

    def on_validation_epoch_start(self) -> None:
        """Forget the drafts of the last validation."""
        self._drafts, self._images = {}, []
        self._validation_began = time.monotonic()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Draft the studies of a batch."""
        draft = self.system.generate(batch.views, batch.view_mask, self.config.decoding)
        self._drafts |= dict(zip(batch.study_ids, draft.texts, strict=True))
        if isinstance(self.system, MatchesReports):
            images = self.system.image_vectors(batch.views, batch.view_mask)
            if images is not None:
                self._images.append(images)

    def on_validation_epoch_end(self) -> None:
        """Score the drafts against the references of the protocol."""
        ids = list(self._drafts)
        statistics = text_statistics(
            [self._drafts[study] for study in ids], [self.validation_references[study] for study in ids]
        )
        scores = statistics.scores()
        selection = self.config.training.select_by
        for name, score in (scores | {selection: selection_score(selection, scores)}).items():
            self.log(f"val/{name}", score, prog_bar=name == selection)
        if self._images:
            self.log("val/retrieval", self._retrieval([self.validation_references[study] for study in ids]))
        self.log("val/distinct", float(len(set(self._drafts.values()))))
        self.log("val/seconds", time.monotonic() - self._validation_began)

    def _retrieval(self, references: list[str]) -> float:
        """The share of studies whose own report fits their images best, among 100 studies at a time.

        A report that is written the same way as the own one counts as the own one.
        """
        assert isinstance(self.system, MatchesReports)
        images, found = torch.cat(self._images), 0
        tokens = [self.system.encode_report(reference) for reference in references]
        for begin in range(0, len(tokens), _AMONG):
            some = slice(begin, begin + _AMONG)
            scores = self.system.match_reports(images[some], pad_tokens(tokens[some]).to(images.device))
            chosen = scores.argmax(dim=1).tolist()
            found += sum(
                references[begin + row] == references[begin + best] for row, best in enumerate(chosen)
            )
        return found / len(references)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The weights that a checkpoint keeps; those of a frozen language model are not among them."""
        return {f"system.{name}": tensor for name, tensor in self.system.own_state_dict().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load every weight that `state_dict` of this module gives, and no other.

        Raises:
            RadScribeError: names what is missing, unexpected, or of another shape.
        """
        weights = {name.removeprefix("system."): tensor for name, tensor in state_dict.items()}
        load_strictly(self.system, weights, "the checkpoint", own=self.system.own_state_dict())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the position over all epochs to a checkpoint; Lightning keeps that within an epoch only."""
        checkpoint["batches"] = self.batches.state_dict()
        checkpoint["shares"], checkpoint["studies"] = self._shares, self._studies

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the batch after the checkpoint."""
        self.batches.load_state_dict(checkpoint["batches"])
        # Checkpoints of earlier versions have neither shares nor studies.
        self._shares, self._studies = checkpoint.get("shares", {}), checkpoint.get("studies", 0)
