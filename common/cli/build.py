"""A method from its short name, for verbs that are not Lightning's."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from common.cli.methods import ROOT
from common.configs import load_config
from common.errors import InputError

if TYPE_CHECKING:
    from common.segmenter import VideoSegmenter


def method_folders() -> dict[str, Path]:
    """Return the short name of every method and its folder."""
    return {path.parent.name: path.parent for path in sorted((ROOT / "methods").glob("*/method.yaml"))}


class TrackDefaults(NamedTuple):
    """What the verb ``track`` uses where the user gives nothing: ``track`` of the ``method.yaml``.

    Attributes:
        configs: where neither a config nor weights are given.
        weights: the same.
        settings: arguments of the class, where weights other than ``nano`` and no config are given.
    """

    configs: list[Path]
    weights: str | None
    settings: dict[str, Any]


def track_defaults(name: str) -> TrackDefaults:
    """Return the defaults of the verb ``track``; a method without them uses its nano config and weights.

    Args:
        name: folder below ``methods``.
    """
    folder = method_folders().get(name)
    method = yaml.safe_load((folder / "method.yaml").read_text(encoding="utf-8")) if folder else {}
    if "track" not in method:
        return TrackDefaults([], None, {})
    defaults = method["track"]
    return TrackDefaults([ROOT / defaults["config"]], str(ROOT / defaults["weights"]), defaults.get("settings", {}))


def build_method(
    name: str, weights: str | None = None, configs: Sequence[Path] = (), settings: Mapping[str, Any] | None = None
) -> VideoSegmenter:
    """Build a method as its configs say, ready to track.

    The configs are merged by the parser of the verbs ``fit`` and ``test``: in order, nested settings key by key.

    Args:
        name: folder below ``methods``.
        weights: a file or folder; default: the weights that ``configs`` name, or ``nano`` where there are no configs.
        configs: YAML files of the verbs ``fit`` and ``test``, of which only ``model`` counts. Default:
            ``configs/<name>/nano.yaml``, without what the method reads from ``weights``.
        settings: arguments of the class, which win over those of the configs.

    Raises:
        InputError: no such method, no such file, a wrong key, no weights, or weights that do not fit.
    """
    if name not in method_folders():
        raise InputError(f"--method {name}: unknown; choose from {', '.join(method_folders())}")
    default = not configs
    if default:
        configs, weights = [ROOT / "configs" / name / "nano.yaml"], weights or "nano"
    models = [model for config in configs if (model := _model(config)) is not None]
    if not models:
        raise InputError(f"{configs[0]}: it has no model; give a config of the verbs fit and test")
    if default:
        module, _, kind = models[0]["class_path"].rpartition(".")
        for argument in getattr(import_module(module), kind).read_from_weights:
            models[0]["init_args"].pop(argument, None)
    if settings:
        models.append({"init_args": dict(settings)})
    args = [word for model in models for word in ("--config", json.dumps({"model": model}))]
    segmenter = _instantiate([*args, *(["--model.weights", weights] if weights else [])])
    if segmenter.needs_weights and segmenter.weights is None:
        raise InputError(
            f"{name} has no weights, as the configs say none: give --weights FILE (random to run an untrained network "
            "on purpose)"
        )
    return segmenter


def _model(config: Path) -> dict[str, Any] | None:
    """Return the ``model`` of a config; None where it has none, as a config of data."""
    model = load_config(config).get("model")
    return model if isinstance(model, dict) else None


def _instantiate(args: list[str]) -> VideoSegmenter:
    """Build the model that the arguments of a command line describe, as ``fit`` and ``test`` would."""
    from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # documented, but not in __all__
    from lightning.pytorch.cli import LightningArgumentParser

    from common.cli.messages import one_line, unwrapped
    from common.segmenter import VideoSegmenter

    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_lightning_class_args(VideoSegmenter, "model", subclass_mode=True)
    try:
        model: VideoSegmenter = parser.instantiate(parser.parse_args(args)).model
    except argparse.ArgumentError as error:
        raise InputError(one_line(str(error), parser.get_defaults().keys())) from None
    except ValueError as error:
        raise unwrapped(error) from None
    return model
