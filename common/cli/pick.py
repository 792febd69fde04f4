"""Selection of a benchmark on the command line: its name, and the arguments of its class as options."""

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
    """Return the value of ``--benchmark`` in the arguments or their ``--config``, before the other options are known.

    Args:
        argv: arguments after the verb.

    Raises:
        InputError: it has no value, or the config cannot be read.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--benchmark")
    parser.add_argument("--config")
    try:
        namespace = parser.parse_known_args(argv)[0]
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; see --help") from None
    if namespace.benchmark is None and namespace.config is not None:
        try:
            settings = yaml.safe_load(Path(namespace.config).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"--config {namespace.config}: {' '.join(str(error).split())}") from None
        name = settings.get("benchmark") if isinstance(settings, dict) else None
    else:
        name = namespace.benchmark
    return None if name is None else str(name)


def add_benchmark(parser: ArgumentParser, name: str) -> None:
    """Add the arguments of a benchmark's class to a parser, except those that the name fixes.

    Args:
        parser: of the verb.
        name: of the benchmark.

    Raises:
        InputError: no benchmark has this name.
    """
    kind, fixed = benchmark_class(name), dict(BENCHMARKS[name][1])
    split = {"split": fixed.pop("split")} if "split" in fixed else {}  # only a default: there are other splits
    parser.add_class_arguments(kind, skip=set(fixed), fail_untyped=False)
    parser.set_defaults(**split)


def parsed(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """Parse arguments.

    Args:
        parser: with ``exit_on_error=False``.
        argv: arguments after the verb.

    Raises:
        InputError: the arguments are invalid; one line.
    """
    try:
        return parser.parse_args(list(argv))
    except argparse.ArgumentError as error:
        raise InputError(one_line(str(error), parser.get_defaults().keys())) from None


def options(settings: Namespace, verb_options: Iterable[str]) -> dict[str, Any]:
    """Return the benchmark's part of parsed settings, for ``make_benchmark``.

    Args:
        settings: result of ``parsed``.
        verb_options: keys that belong to the verb.
    """
    skipped = {*verb_options, "config"}
    return {key: value for key, value in settings.as_dict().items() if key not in skipped}
