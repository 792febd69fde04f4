"""The base class of every method: a session for inference, losses for training."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from common import optim
from common.benchmarks.base import Benchmark
from common.checkpoints import state_digest
from common.data.clip import Clip
from common.errors import InputError
from common.evaluation.scoring import Scoring, reason
from common.files import file_sha256, write_text
from common.inference.output import write_prediction
from common.inference.playback import Direction, evaluation_mode, play, play_directed, prompts_by_frame
from common.inference.session import Session
from common.pretrained import PretrainedModule
from common.records.run import RunInfo, class_path, code_digest, global_seed, relative_path
from common.video import FrameMasks, Video


class VideoSegmenter(PretrainedModule):
    """Base class of all methods, a thin LightningModule: training, scoring and prediction.

    A subclass defines ``session`` and ``losses``. Its constructor calls this one, builds ``network`` and at its end
    calls ``load_weights``. Further hooks have defaults: ``parameter_groups``, ``decay``, and those of
    ``PretrainedModule`` for weights.

    Attributes:
        needs_weights: False for a method without weights.
        decay: of the learning rate after the warm-up, see ``optim.schedule``.
        method_name: of the row in a table, the class's name by default.
        variant: size or setting that makes it a row of its own, e.g. ``nano``.
        total_steps: optimiser steps of the training; infinite before it starts.
        failed: videos of the last scoring or prediction that failed, with the reason.

    Args:
        weights: a file; ``nano`` for the method's own small weights in this repository; ``random`` to score an
            untrained network on purpose. A path that is not found from here is looked for in the project's folder.
        loss_weights: factor of each loss term by name; a term that is not named counts once.
        lr: peak learning rate of AdamW.
        weight_decay: decay of matrices and filters; biases and norms are not decayed.
        warmup_steps: optimiser steps of linear warm-up.
        final_lr: lowest learning rate, as a fraction of ``lr``; not reached by ``milestones``.
        milestones: optimiser steps at which the learning rate falls to a tenth, in place of the method's own ``decay``.
        save_predictions: while scoring, also write the benchmark's submission files.
    """

    needs_weights = True
    decay: ClassVar[optim.Decay] = "cosine"
    variant = ""

    def __init__(
        self,
        weights: str | None = None,
        loss_weights: dict[str, float] | None = None,
        lr: float = 1e-4,
        weight_decay: float = 0.1,
        warmup_steps: int = 0,
        final_lr: float = 0.1,
        milestones: list[int] | None = None,
        save_predictions: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.weights = weights
        self.loss_weights = loss_weights or {}
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.final_lr = final_lr
        self.milestones = milestones
        self.save_predictions = save_predictions
        self.method_name = type(self).__name__
        self.weights_note = "random" if weights == "random" else ""
        self.total_steps = math.inf
        self.failed: dict[str, str] = {}
        self._random_state: list[Tensor] = []  # of a checkpoint from which a training is resumed
        self._scoring: Scoring

    def session(self, length: int | None = None) -> Session:
        """Open a session. ``length`` is the number of frames where it is known (a stream has none)."""
        raise TypeError(f"{type(self).__name__} must define session()")

    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """Unweighted loss terms of a training batch, each a scalar tensor."""
        raise TypeError(f"{type(self).__name__} cannot be trained: it defines no losses()")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Optimiser groups; override for layer-wise learning rates (``optim.parameter_groups(..., scale=...)``)."""
        return optim.parameter_groups(self, self.lr, self.weight_decay)

    @torch.inference_mode()
    def track(self, video: Video, direction: Direction = "forward") -> Iterator[FrameMasks]:
        """Yield the answers for a whole video, frames in order, in evaluation mode whatever the mode of the module.

        Args:
            video: with its prompts.
            direction: ``forward``; ``backward`` or ``both``, for which the length must be known: see
                ``common.inference.playback.propagations``.

        Raises:
            InputError: a prompt lies beyond the last frame, or see ``propagations``, ``Session.step``.
        """
        with evaluation_mode(self.modules()):
            if video.length is None and direction == "forward":
                yield from play(self._session_for(video, None), video, prompts_by_frame(video), self.device)
            else:
                yield from play_directed(partial(self._session_for, video), video, self.device, direction)

    def _session_for(self, video: Video, length: int | None) -> Session:
        """Open a session, with overlapping masks where the video has such or its targets are visual queries."""
        session = self.session(length)
        overlap = video.overlap or any(prompt.image is not None for prompt in video.prompts)
        if overlap and "overlap" in session.settable:
            session.ask("overlap")
        return session

    def networks(self) -> dict[str, nn.Module]:
        """Return every module that a session may refer to, by name; frozen networks of other projects included."""
        return dict(self.named_modules())

    @property
    def borrowed_files(self) -> Sequence[Path]:
        """Weights of frozen networks that are in no checkpoint of the method, but that its answers depend on."""
        return ()

    # Training.

    def configure_optimizers(self) -> Any:  # Lightning's type is a union of ten
        """Return AdamW over ``parameter_groups``, with warm-up and ``milestones``, or the method's ``decay``."""
        if self._trainer is not None:
            self.total_steps = float(self.trainer.estimated_stepping_batches)
        return optim.adamw(
            self.parameter_groups(),
            self.lr,
            kind="milestones" if self.milestones else self.decay,
            warmup_steps=self.warmup_steps,
            total_steps=self.total_steps,
            final_fraction=self.final_lr,
            milestones=self.milestones or (),
        )

    def training_step(self, clip: Clip, batch_idx: int) -> Tensor:
        """The weighted sum of the loss terms; every term is logged."""
        terms = self.losses(clip)
        unknown = self.loss_weights.keys() - terms.keys()
        if unknown:
            raise InputError(f"loss_weights: no loss term {sorted(unknown)[0]!r}; the terms are {', '.join(terms)}")
        total = torch.stack([self.loss_weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        if not total.isfinite():
            self._stop_training(terms, batch_idx)
        if dist.is_available() and dist.is_initialized():
            # which parameters a batch uses depends on its prompts; every process must give every one a gradient
            total = total + 0.0 * torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum()
        batch = len(clip.frames)
        self.log("train/loss", total, prog_bar=True, batch_size=batch)
        self.log_dict({f"train/{name}": term.detach() for name, term in terms.items()}, batch_size=batch)
        return total

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the state of torch's random numbers, which draw the prompts of training clips."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["random_state"] = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the checkpoint; keep the state of the random numbers for the training that goes on from it."""
        super().on_load_checkpoint(checkpoint)
        self._random_state = checkpoint.get("random_state", [])

    def on_train_start(self) -> None:
        """Go on with the random numbers of the checkpoint from which the training is resumed."""
        states, self._random_state = self._random_state, []
        if states:
            torch.set_rng_state(states[0].cpu())
            for device, state in zip(range(torch.cuda.device_count()), states[1:], strict=False):
                torch.cuda.set_rng_state(state.cpu(), device)

    def _stop_training(self, terms: dict[str, Tensor], batch: int) -> None:
        """Stop at a loss that is not finite, before it reaches the weights, and note which batch it was.

        Raises:
            InputError: names the terms; with the seed of the data, epoch and batch identify the clips.
        """
        where = {"step": self.global_step, "epoch": self.current_epoch, "batch": batch, "rank": self.global_rank}
        values = {name: str(float(term.detach())) for name, term in terms.items()}
        note = Path(self.trainer.default_root_dir) / "failed_batch.json"
        write_text(note, json.dumps(where | {"terms": values}) + "\n")
        bad = ", ".join(f"{name} {value}" for name, value in values.items() if not math.isfinite(float(value)))
        raise InputError(
            f"the loss is not finite at step {self.global_step} (epoch {self.current_epoch}, batch {batch}; {note}): "
            f"{bad or 'the sum'}; lower lr, clip gradients, or train with precision 32-true"
        )

    # Scoring: validation and testing are the same, on other splits.

    def on_validation_epoch_start(self) -> None:
        """Open the validation benchmarks."""
        self._open(self.trainer.datamodule.val_benchmarks)  # type: ignore[attr-defined]

    def on_test_epoch_start(self) -> None:
        """Open the test benchmarks."""
        self._open(self.trainer.datamodule.test_benchmarks)  # type: ignore[attr-defined]

    def validation_step(self, video: Video | Exception, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score one video, or note the error that opening it gave."""
        self._scoring.add(dataloader_idx, video)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log every benchmark's numbers; outside ``fit`` also write their records."""
        for name, value in self._scoring.finish().items():
            self.log(name, value, sync_dist=True)
        self.failed = self._scoring.failed

    on_test_epoch_end = on_validation_epoch_end

    def on_predict_epoch_start(self) -> None:
        """Forget the failures of an earlier run."""
        self._require_weights()
        self.failed = {}

    def predict_step(self, video: Video | Exception, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Write a video's masks as palette PNGs and as an overlay; a failed video does not stop the others."""
        try:
            if isinstance(video, Exception):
                raise video
            if not video.prompts:
                raise InputError(f"{video.id}: it has no prompt; predict a data set that has, or use the verb track")
            write_prediction(video, self.track(video), Path(self.trainer.default_root_dir) / "predictions")
        except (InputError, OSError) as error:
            self.failed[video.id if isinstance(video, Video) else f"video {batch_idx}"] = reason(error)

    def _open(self, benchmarks: Sequence[Benchmark]) -> None:
        self._require_weights()
        training = self.trainer.state.fn == TrainerFn.FITTING
        self._scoring = Scoring(
            track=self.track,
            open_session=self.session,
            run=RunInfo(self.method_name) if training else self._run_info(),
            benchmarks=benchmarks,
            device=self.device,
            root=None if training else Path(self.trainer.default_root_dir),
            rank=self.global_rank,
            save_predictions=self.save_predictions,
        )

    def _run_info(self) -> RunInfo:
        """Return the settings, weights and code of this run."""
        file = self.trainer.ckpt_path or self.weights_file
        arguments = {key: value for key, value in self.hparams.items() if not key.startswith("_")}
        return RunInfo(
            method=self.method_name,
            variant=self.variant,
            config={
                "model": {"class_path": class_path(type(self)), "init_args": arguments},
                "precision": self.trainer.precision,
            },
            weights=relative_path(file) if file else self.weights or "",
            weights_sha256=file_sha256(file) if file and Path(file).is_file() else "",
            weights_note="trained here" if self.trainer.ckpt_path else self.weights_note,
            weights_digests=[state_digest(self), *map(file_sha256, self.borrowed_files)],
            code=code_digest(Path(inspect.getfile(type(self))).parent),
            seed=global_seed(),
            parameters=sum(parameter.numel() for parameter in self.parameters()) or None,
        )

    def _require_weights(self) -> None:
        """A number from an untrained network is never given unasked; validation inside ``fit`` is no such number.

        Raises:
            InputError: no weights were given.
        """
        trainer = self.trainer
        given = self.weights is not None or trainer.ckpt_path is not None or trainer.global_step > 0
        if self.needs_weights and not given and trainer.state.fn != TrainerFn.FITTING:
            raise InputError(
                f"{type(self).__name__} has no weights to score: give --ckpt_path FILE, or --model.weights with a name "
                "or a file (random to score an untrained network on purpose)"
            )
