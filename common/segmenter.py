"""The base class of every method: a session for inference, losses for training."""

from __future__ import annotations

import inspect
import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
import torch.distributed as dist
import yaml
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from common import optim
from common.benchmarks.base import Benchmark
from common.checkpoints import (
    PREFIX,
    PROJECT,
    check_fits,
    find_weights,
    read_weights,
    save_weights,
    state_digest,
    weights_file,
)
from common.data.clip import Clip
from common.errors import InputError
from common.evaluation.scoring import Scoring, reason
from common.files import file_sha256
from common.inference.output import write_prediction
from common.inference.playback import evaluation_mode, play, prompts_by_frame
from common.inference.session import Session
from common.records.run import RunInfo, class_path, code_digest, global_seed, relative_path
from common.video import FrameMasks, Video

logger = logging.getLogger(__name__)


class VideoSegmenter(L.LightningModule):
    """Base class of all methods, a thin LightningModule: training, scoring, prediction, and weights.

    A subclass defines ``session`` and ``losses``. Its constructor calls this one, builds ``network`` and at its end
    calls ``load_weights``. Further hooks have defaults: ``from_published`` (weights of the authors' release),
    ``architecture`` (settings that a file of weights depends on), ``parameter_groups``, ``decay`` and ``start_files``.

    Attributes:
        network: all that is trained and stored; plain torch.
        needs_weights: False for a method without weights.
        published_weights: where the authors' weights are, for an error message.
        start_files: constructor arguments that name a file which only the start of a training needs, each with the
            value that a checkpoint stores in its place.
        nano_of: folder below ``methods`` whose nano weights the class loads, where that is not its own.
        decay: of the learning rate after the warm-up, see ``optim.schedule``.
        method_name: of the row in a table, the class's name by default.
        variant: size or setting that makes it a row of its own, e.g. ``nano``.
        weights_file: where the weights were read from, for their checksum.
        weights_note: where they come from, one of ``common.records.record.WEIGHTS_NOTES``.
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

    network: nn.Module
    needs_weights = True
    published_weights: ClassVar[str] = ""
    start_files: ClassVar[dict[str, str | None]] = {}
    nano_of: ClassVar[str] = ""
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
        self.weights_file: Path | None = None
        self.weights_note = "random" if weights == "random" else ""
        self.total_steps = math.inf
        self.failed: dict[str, str] = {}
        self._scoring: Scoring

    # Weights.

    def load_weights(self) -> None:
        """Load ``weights`` into the network, and set ``weights_file`` and ``weights_note``.

        Raises:
            InputError: no such file, or one that does not fit.
        """
        if self.weights is None or self.weights == "random":
            return
        nano = self.nano_weights()
        if self.weights == "nano" and nano is None:
            raise InputError(f"weights nano: {type(self).__name__} has none; give a file")
        path = nano if self.weights == "nano" and nano else find_weights(self.weights)
        self.weights_file = weights_file(path, self.published_weights)
        self.load(self.weights_file)
        if nano is not None and self.weights_file.resolve() == nano.resolve():
            self.weights_note = "nano"

    def load(self, path: Path) -> None:
        """Copy a file of weights into the network: one of this suite, or one in a published layout.

        Settings that the file was saved with and that differ from the model's are named, in the error where the tensors
        do not fit, else in a warning.

        Args:
            path: a file that ``read_weights`` reads.

        Raises:
            InputError: keys or sizes do not fit.
        """
        file = read_weights(path)
        state = {key.removeprefix(PREFIX): value for key, value in file.state.items()}
        self.weights_note = "trained here"
        if not state.keys() & self.network.state_dict().keys():
            self.weights_note = "trained here" if file.class_path else "published"
            state = self.from_published(state, path)
        _check(self.network, state, path, _differences(file.settings, self.architecture()))
        self.network.load_state_dict(state)

    def from_published(self, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
        """Return weights of the authors' release under the network's names.

        A subclass that completes a file which has only a part of the network sets ``weights_note`` to ``partial``.

        Args:
            state: tensors by their published names.
            path: the file, for messages.
        """
        return state

    def architecture(self) -> dict[str, Any]:
        """Return the settings, as plain data, that the shapes of the weights or the size of the input depend on.

        They are stored with the weights and compared when those are loaded.
        """
        return {}

    def export(self, path: str | Path, half: bool = False, data: str = "") -> None:
        """Write the network as safetensors, with ``architecture`` in the file's metadata.

        Args:
            path: a name that ends in ``.safetensors``.
            half: in half precision.
            data: what the weights were trained on, in words.
        """
        state = {
            PREFIX + key: value.half() if half and value.is_floating_point() else value
            for key, value in self.network.state_dict().items()
        }
        save_weights(state, path, class_path(type(self)), self.architecture(), data)

    @classmethod
    def nano_weights(cls) -> Path | None:
        """Return the file of the method's nano weights, ``nano`` of its ``method.yaml``; None where it has none."""
        folders = [PROJECT / "methods" / cls.nano_of] if cls.nano_of else map(_folder, cls.__mro__)
        for folder in folders:
            if (folder / "method.yaml").is_file():
                method = yaml.safe_load((folder / "method.yaml").read_text(encoding="utf-8"))
                return PROJECT / method["nano"] if "nano" in method else None
        return None

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
    def track(self, video: Video) -> Iterator[FrameMasks]:
        """Yield the answers for a whole video, frames in order, in evaluation mode whatever the mode of the module.

        Args:
            video: with its prompts.

        Raises:
            InputError: a prompt lies beyond the last frame, or see ``Session.step``.
        """
        prompts = prompts_by_frame(video)
        with evaluation_mode(self.modules()):
            yield from play(self.session(video.length), video, prompts, self.device)

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
        if dist.is_available() and dist.is_initialized():
            # which parameters a batch uses depends on its prompts; every process must give every one a gradient
            total = total + 0.0 * torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum()
        batch = len(clip.frames)
        self.log("train/loss", total, prog_bar=True, batch_size=batch)
        self.log_dict({f"train/{name}": term.detach() for name, term in terms.items()}, batch_size=batch)
        return total

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the class and the hyper-parameters as plain data: nothing else is read back safely.

        Files that only the start of the training needed are not named: the checkpoint holds all weights.
        """
        checkpoint["class_path"], checkpoint["settings"] = class_path(type(self)), self.architecture()
        stored = checkpoint.get("hyper_parameters", {})
        checkpoint["hyper_parameters"] = {
            key: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
            for key, value in stored.items()
        }
        for name, value in self.start_files.items():
            if stored.get(name) is not None:
                checkpoint["hyper_parameters"][name] = value

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another class, and weights that do not fit, by name.

        Raises:
            InputError: another class, or missing, extra and wrong-size keys.
        """
        where = f"checkpoint {self.trainer.ckpt_path or ''}".strip() if self._trainer else "checkpoint"
        stored = checkpoint.get("class_path", class_path(type(self)))
        if stored != class_path(type(self)):
            raise InputError(f"{where}: it is of {stored}, but the model is {class_path(type(self))}")
        _check(self, checkpoint["state_dict"], where, _differences(checkpoint.get("settings", {}), self.architecture()))

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


def _folder(kind: type) -> Path:
    """Return the folder of the file that defines a class."""
    return Path(getattr(sys.modules.get(kind.__module__), "__file__", None) or "/").parent


def _check(module: nn.Module, state: Mapping[str, Tensor], where: str | Path, different: str) -> None:
    """Check that a state dict fits; say which settings differ, in the error or in a warning."""
    try:
        check_fits(module, state, where)
    except InputError as error:
        raise InputError(f"{error}; {different}" if different else str(error)) from None
    if different:
        logger.warning("%s: %s", where, different)


def _differences(stored: dict[str, Any], settings: dict[str, Any]) -> str:
    """Return one clause that names the settings of a file and of the model where they differ; empty = nowhere."""
    settings = json.loads(json.dumps(settings))  # tuples as lists, as in the file
    names = [name for name in settings if name in stored and stored[name] != settings[name]]
    if not names:
        return ""
    trained, here = (", ".join(f"{name} {values[name]}" for name in names) for values in (stored, settings))
    return f"trained with {trained}, but the model has {here}"
