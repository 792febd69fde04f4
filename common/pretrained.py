"""Weights of a LightningModule: loaded, checked against their settings, exported, and kept in checkpoints."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import yaml
from torch import Tensor, nn

from common.checkpoints import (
    PREFIX,
    WeightsFile,
    check_fits,
    find_weights,
    read_weights,
    save_weights,
    weights_file,
)
from common.errors import InputError
from common.files import PROJECT
from common.precision import Float32Module
from common.records.run import class_path

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger(__name__)


class PretrainedModule(Float32Module, L.LightningModule):
    """A LightningModule whose ``network`` is loaded from files of this suite or from published ones.

    Hooks with defaults: ``from_published`` (weights of the authors' release), ``find_published`` (where they are),
    ``architecture`` (settings that a file of weights depends on) and the class attributes.

    Attributes:
        network: all that is trained and stored; plain torch.
        weights: the constructor argument: a file, ``nano``, ``random`` or None.
        weights_file: where the weights were read from, for their checksum.
        weights_note: where they come from, one of ``common.records.record.WEIGHTS_NOTES``.
        published_weights: where the authors' weights are, for an error message.
        read_from_weights: constructor arguments that are read from the file of weights where they are not given.
        start_files: constructor arguments that name a file which only the start of a training needs, each with the
            value that a checkpoint stores in its place.
        nano_of: folder below ``methods`` whose nano weights the class loads, where that is not its own.
    """

    network: nn.Module
    weights: str | None = None
    weights_file: Path | None = None
    weights_note = ""
    published_weights: ClassVar[str] = ""
    read_from_weights: ClassVar[tuple[str, ...]] = ()
    start_files: ClassVar[dict[str, str | None]] = {}
    nano_of: ClassVar[str] = ""
    _content: WeightsFile | None = None  # of ``weights_file``, until it is loaded

    @classmethod
    def from_pretrained(cls, name: str | Path, **settings: Any) -> Self:
        """Build a module in evaluation mode from weights on this machine; nothing is downloaded.

        Args:
            name: what the argument ``weights`` takes: a file, a folder, or a name that ``find_published`` knows.
            settings: further arguments of the class.

        Raises:
            InputError: no such weights, or they do not fit.
        """
        return cls(weights=str(name), **settings).eval()

    def read_weights(self) -> WeightsFile | None:
        """Read ``weights`` and set ``weights_file``; None where no file is named.

        The content is kept until ``load_weights`` copies it, so that a file is read once.

        Raises:
            InputError: no such file, or an unreadable one.
        """
        if self.weights is None or self.weights == "random":
            return None
        if self._content is None:
            nano = self.nano_weights()
            if self.weights == "nano" and nano is None:
                raise InputError(f"weights nano: {type(self).__name__} has none; give a file")
            path = nano if self.weights == "nano" and nano else self.find_published(self.weights)
            self.weights_file = weights_file(path, self.published_weights)
            self._content = read_weights(self.weights_file)
        return self._content

    def load_weights(self) -> None:
        """Load ``weights`` into the network, and set ``weights_file`` and ``weights_note``.

        Raises:
            InputError: no such file, or one that does not fit.
        """
        file = self.read_weights()
        if file is None:
            return
        assert self.weights_file is not None
        self._content = None
        self.load(file, self.weights_file)
        nano = self.nano_weights()
        if nano is not None and self.weights_file.resolve() == nano.resolve():
            self.weights_note = "nano"

    def load(self, file: WeightsFile, path: Path) -> None:
        """Copy weights into the network: of a file of this suite, or of one in a published layout.

        Settings that the file was saved with and that differ from the model's are named, in the error where the tensors
        do not fit, else in a warning.

        Args:
            file: its content.
            path: where it was read, for messages.

        Raises:
            InputError: keys or sizes do not fit.
        """
        state = {key.removeprefix(PREFIX): value for key, value in file.state.items()}
        of_suite = any(key.startswith(PREFIX) for key in file.state)
        self.weights_note = "trained here" if of_suite else "published"
        if not of_suite or not state.keys() & self.network.state_dict().keys():  # or of a network inside this one
            state = self.from_published(state, path)
        broken = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
        if broken:
            raise InputError(f"{path}: {broken[0]} has values that are not finite; the training diverged, take another")
        _check(self.network, state, path, _differences(file.settings, self.architecture()))
        self.network.load_state_dict(state)

    def find_published(self, name: str) -> Path:
        """Return the file or folder of weights that a name means; a path that is not there is returned as it is.

        Args:
            name: the argument ``weights``.
        """
        return find_weights(name)

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
