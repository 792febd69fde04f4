"""The verbs ``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with stricter handling of checkpoints."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint, ProgressBar, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from common.checkpoints import load_pickled
from common.cli.messages import one_line, unwrapped
from common.configs import with_rows
from common.data.datamodule import VideoDataModule
from common.errors import InputError
from common.files import atomic_path
from common.records.run import class_path
from common.segmenter import VideoSegmenter

NOT_FROM_CHECKPOINT = ("weights", "save_predictions")  # a checkpoint holds weights; predictions are saved on request

OWN_CLASSES = ("common.", "methods.", "torch.", "lightning.")
"""Where classes that a checkpoint names may come from; a module is run when it is imported."""

SHARDED = ("fsdp", "FSDP", "deepspeed", "DeepSpeed", "ModelParallel")
"""Strategies that write their checkpoints themselves."""

TERMINATED = 128 + 15
"""Exit status of a process that SIGTERM ended, as shells report it."""

# Warnings of Lightning and torch about what is intended here.
QUIET = (
    "predict returned None",
    "Total length of `list` across ranks is zero",
    "Be aware that when using `ckpt_path`, callbacks",
    "`isinstance.treespec, LeafSpec.` is deprecated",
    "The '.*dataloader' does not have many workers",
)


class SaveConfig(SaveConfigCallback):
    """Saves the settings as ``<root>/config.yaml`` (fit) or ``<root>/<verb>.yaml``; a rerun replaces the file."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the settings; called on rank zero.

        Args:
            trainer: gives the root folder.
            pl_module: not used.
            stage: not used.
        """
        root = Path(trainer.default_root_dir)
        root.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, str(root / self.config_filename), skip_unset=False, overwrite=True)


class SaveOnTermination(Callback):
    """Saves ``last.ckpt`` when the process is asked to end (SIGTERM), as a queue of jobs does before it stops one."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save a training that was ended.

        Args:
            trainer: of the training.
            pl_module: not used.
            exception: what ended it.
        """
        folder = getattr(trainer.checkpoint_callback, "dirpath", None)
        if isinstance(exception, SIGTERMException) and trainer.training and folder:
            path = Path(folder) / "last.ckpt"
            trainer.save_checkpoint(path)
            logging.getLogger(__name__).info(
                f"ended by SIGTERM after step {trainer.global_step}; the same command with --ckpt_path {path} goes on"
            )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it; Lightning's way by a temporary folder may copy it there."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint; one that is cut short leaves the old one.

        Args:
            checkpoint: its content.
            path: of the file.
            storage_options: not used.
        """
        with atomic_path(path) as part, part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())


class SuiteCLI(LightningCLI):
    """LightningCLI for any ``VideoSegmenter`` on any ``VideoDataModule``.

    Flags and YAML files win over the values stored in a checkpoint, which replace the remaining defaults.

    Args:
        argv: the verb and its arguments.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self.parsers: list[LightningArgumentParser] = []
        config_filename = "config.yaml" if argv[0] == "fit" else f"{argv[0]}.yaml"
        super().__init__(
            VideoSegmenter,
            VideoDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False, "config_filename": config_filename},
            parser_kwargs={verb: {"exit_on_error": False} for verb in self.subcommands()} | {"exit_on_error": False},
            args=with_rows(argv),
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add Lightning's arguments, and store the parser: its keys are needed for error messages.

        Args:
            parser: of one verb.
        """
        super().add_core_arguments_to_parser(parser)
        self.parsers.append(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; where a checkpoint is given, parse again with its stored values as the first config file.

        Args:
            parser: of all verbs.
            args: the verb and its arguments.
        """
        self.config = self._parse(parser, args)
        settings = self.config[args[0]]
        path = settings.get("ckpt_path")
        if path and path not in ("best", "last", "hpc"):
            stored = stored_values(path, settings.model.class_path)
            self.config = self._parse(parser, [args[0], "--config", json.dumps({"model": stored}), *args[1:]])

    def _parse(self, parser: LightningArgumentParser, args: list[str]) -> Any:
        try:
            return parser.parse_args(args)
        except argparse.ArgumentError as error:
            keys = dict(zip(self.subcommands(), self.parsers, strict=True))[args[0]].get_defaults().keys()
            raise InputError(one_line(str(error), keys)) from None

    def _parse_ckpt_path(self) -> None:
        """Do nothing: LightningCLI would let the checkpoint overrule the user's settings, the class included."""

    def instantiate_classes(self) -> None:
        """Instantiate model, data and trainer, without the parser's wrapping around an ``InputError``."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise unwrapped(error) from None

    def before_instantiate_classes(self) -> None:
        """Set the root folder to ``runs/<method>`` where none is given."""
        settings = self.config[self.subcommand]
        if settings.trainer.default_root_dir is None:
            settings.trainer.default_root_dir = f"runs/{settings.model.class_path.rpartition('.')[2].lower()}"

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Instantiate the trainer: all files go below the root folder; the progress bar is for terminals.

        Args:
            kwargs: see ``LightningCLI``.
        """
        settings = self.config_init[self.subcommand].trainer
        root, configured = Path(settings.default_root_dir), settings.callbacks or []
        callbacks = list(configured) if isinstance(configured, (list, tuple)) else [configured]
        training = self.subcommand == "fit"
        if not training:  # the config may be that of a training run; scoring saves no checkpoint
            callbacks = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
        elif settings.enable_checkpointing is not False and not _has(callbacks, Checkpoint):
            callbacks.append(ModelCheckpoint(root / "checkpoints", save_last=True, enable_version_counter=False))
        if training:
            callbacks.append(SaveOnTermination())
            strategy, plugins = str(settings.strategy), settings.plugins or []
            if not plugins and not any(word in strategy for word in SHARDED):
                kwargs["plugins"] = [AtomicCheckpointIO()]
        keep = training and settings.enable_checkpointing is not False
        bar = sys.stderr.isatty() if settings.enable_progress_bar is None else settings.enable_progress_bar
        if bar and not _has(callbacks, ProgressBar):
            callbacks.append(RichProgressBar())
        logger = settings.logger
        if logger is None:
            logger = CSVLogger(root, name="logs") if training else False
        arguments = {"callbacks": callbacks, "enable_checkpointing": keep, "enable_progress_bar": bar, "logger": logger}
        return super().instantiate_trainer(**arguments, **kwargs)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the verbs, without ``verbose``: Lightning's table of results truncates the names of benchmarks."""
        return {verb: skipped | {"verbose"} for verb, skipped in LightningCLI.subcommands().items()}

    def validate(self, **kwargs: Any) -> None:
        """Score, then print one line per benchmark.

        Args:
            kwargs: see ``Trainer``.
        """
        self.trainer.validate(verbose=False, **kwargs)
        self._print_numbers()

    def test(self, **kwargs: Any) -> None:
        """Score, then print one line per benchmark.

        Args:
            kwargs: see ``Trainer``.
        """
        self.trainer.test(verbose=False, **kwargs)
        self._print_numbers()

    def _print_numbers(self) -> None:
        """Print the first three numbers of each benchmark, those of its tables; the record holds all."""
        lines: dict[str, list[str]] = {}
        for name, value in self.trainer.callback_metrics.items():
            benchmark, _, number = name.partition("/")
            lines.setdefault(benchmark, []).append(f"{number} {float(value):.4f}")
        for benchmark, numbers in lines.items() if self.trainer.is_global_zero else ():
            print(f"{self.model.method_name} on {benchmark}:  {'  '.join(numbers[:3])}")

    def after_fit(self) -> None:
        """Raise an error if videos failed.

        Raises:
            InputError: names the videos and the reasons.
        """
        failed = self.model.failed
        if failed and self.trainer.is_global_zero:
            what = "; ".join(f"{video} ({reason})" for video, reason in failed.items())
            raise InputError(f"{len(failed)} of the videos failed, the rest is saved: {what}")

    after_validate = after_test = after_predict = after_fit


def stored_values(path: str, chosen: str) -> dict[str, Any]:
    """Return the constructor arguments stored in a checkpoint, as a config of the model.

    Args:
        path: of the checkpoint.
        chosen: class path of the model in the user's settings.

    Raises:
        InputError: not a checkpoint of a training run, or one of another class than ``chosen``.
    """
    if not Path(path).is_file():
        raise InputError(f"--ckpt_path {path}: no such file")
    checkpoint = load_pickled(path)
    if "state_dict" not in checkpoint:
        raise InputError(
            f"--ckpt_path {path}: not a checkpoint of a training run; give bare weights as --model.weights"
        )
    stored = dict(checkpoint.get("hyper_parameters", {}))
    module, _, name = chosen.rpartition(".")
    chosen = class_path(getattr(import_module(module), name))
    stored_class = checkpoint.get("class_path", chosen)
    if stored_class != chosen:
        raise InputError(
            f"--ckpt_path {path}: of {stored_class}, but the model is {chosen}; give --model {stored_class}"
        )
    arguments = {
        key: value for key, value in stored.items() if not key.startswith("_") and key not in NOT_FROM_CHECKPOINT
    }
    for named in _classes(arguments):
        if not str(named).startswith((*OWN_CLASSES, chosen.partition(".")[0] + ".")):
            raise InputError(
                f"--ckpt_path {path}: its settings name the class {named}, which is none of this suite; give the "
                "settings in a config"
            )
    return {"class_path": chosen, "init_args": arguments}


def _classes(value: Any) -> Iterator[object]:
    """Yield every class path in nested settings."""
    if isinstance(value, dict):
        yield from [value["class_path"]] if "class_path" in value else []
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _classes(item)


def _has(callbacks: Sequence[object], kind: type) -> bool:
    return any(isinstance(callback, kind) for callback in callbacks)


def main(argv: Sequence[str]) -> int:
    """Run a verb.

    Args:
        argv: the verb and its arguments.

    Returns:
        0, or ``TERMINATED`` where SIGTERM ended it.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for message in QUIET:
        warnings.filterwarnings("ignore", message)
    lightning = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    lightning.addFilter(lambda record: "Tip:" not in record.getMessage())  # advertisements
    try:
        SuiteCLI(argv)
    except SIGTERMException:  # a SystemExit of status 0
        return TERMINATED
    return 0
