"""A benchmark from the command line: its name, and the arguments of its class as typed options."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from common.benchmarks.registry import BENCHMARKS, benchmark_class
from common.cli.messages import one_line
from common.errors import InputError


def typed_name(argv: Sequence[str]) -> str | None:
    """The value of ``--benchmark``, in some arguments or their ``--config``, before any other key is known.

    Raises:
        InputError: it has no value, or the config cannot be read.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--benchmark")
    parser.add_argument("--config")
    try:
        given = parser.parse_known_args(argv)[0]
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; see --help") from None
    if given.benchmark is None and given.config is not None:
        try:
            settings = yaml.safe_load(Path(given.config).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"--config {given.config}: {' '.join(str(error).split())}") from None
        return settings.get("benchmark") if isinstance(settings, dict) else None
    return given.benchmark


def add_benchmark(parser: ArgumentParser, name: str) -> None:
    """Add the arguments of a benchmark's class, but for those that make it this benchmark.

    Raises:
        InputError: no benchmark has this name.
    """
    kind, made = benchmark_class(name), dict(BENCHMARKS[name][1])
    split = {"split": made.pop("split")} if "split" in made else {}  # a default: there may be others
    parser.add_class_arguments(kind, skip=set(made), fail_untyped=False)
    parser.set_defaults(**split)


def parsed(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """Parse, with a mistake told in one line. The parser must have ``exit_on_error=False``."""
    try:
        return parser.parse_args(list(argv))
    except argparse.ArgumentError as error:
        raise InputError(one_line(str(error), parser.get_defaults().keys())) from None


def options(settings: Namespace, own: Iterable[str]) -> dict[str, Any]:
    """The benchmark's part of what was parsed, for ``make_benchmark``.

    Args:
        settings: what was parsed.
        own: the keys that are not the benchmark's.
    """
    skipped = {*own, "config"}
    return {key: value for key, value in settings.as_dict().items() if key not in skipped}
