"""A method from its short name, for verbs that are not Lightning's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from common.cli.methods import ROOT
from common.configs import load_config
from common.errors import InputError

if TYPE_CHECKING:
    from common.segmenter import VideoSegmenter


def method_folders() -> dict[str, Path]:
    """Short name of every method and its folder."""
    return {path.parent.name: path.parent for path in sorted((ROOT / "methods").glob("*/method.yaml"))}


def build_method(name: str, weights: str | None = None, configs: Sequence[Path] = ()) -> VideoSegmenter:
    """A method as its configs say, ready to track.

    Args:
        name: folder below ``methods``.
        weights: a file or folder; default: what ``configs`` name, and where there are none the method's nano weights.
        configs: YAML files of the verbs ``fit`` and ``test``, read in order; only their ``model`` counts. Default:
            ``configs/<name>/nano.yaml``.

    Raises:
        InputError: no such method, no such file, a wrong key, or weights that do not fit.
    """
    if name not in method_folders():
        raise InputError(f"--method {name}: unknown; choose from {', '.join(method_folders())}")
    model: dict[str, Any] = {}
    for config in configs or [ROOT / "configs" / name / "nano.yaml"]:
        said = _model(config)
        model = {**model, **said, "init_args": {**model.get("init_args", {}), **said.get("init_args", {})}}
    named = model["init_args"].get("weights") if configs else nano_weights(name)
    model["init_args"]["weights"] = weights or named
    return _instantiate(model)


def nano_weights(name: str) -> str:
    """The weights of a method that were made here: ``nano`` of its ``method.yaml``."""
    method = yaml.safe_load((method_folders()[name] / "method.yaml").read_text(encoding="utf-8"))
    return str(ROOT / method["nano"])


def _model(config: Path) -> dict[str, Any]:
    settings = load_config(config)
    if not isinstance(settings.get("model"), dict):
        raise InputError(f"{config}: it has no model; give a config of the verbs fit and test")
    return settings["model"]


def _instantiate(model: dict[str, Any]) -> VideoSegmenter:
    from jsonargparse import ArgumentParser

    from common.cli.messages import one_line, unwrapped
    from common.segmenter import VideoSegmenter

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(VideoSegmenter, "model")
    try:
        return parser.instantiate(parser.parse_object({"model": model})).model
    except argparse.ArgumentError as error:
        raise InputError(one_line(str(error), model["init_args"])) from None
    except ValueError as error:
        raise unwrapped(error) from None
