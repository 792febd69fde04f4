"""Command line entry point: dispatches to the module of a verb, which is imported only when it is needed."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

# verb -> (module with a ``main(argv)``, whether it takes the verb too, what it does)
LIGHTNING = "common.cli.suite"
VERBS = {
    "fit": (LIGHTNING, "train a method"),
    "validate": (LIGHTNING, "score it on its validation benchmarks"),
    "test": (LIGHTNING, "score it on its test benchmarks and write results.json"),
    "predict": (LIGHTNING, "write masks and overlays of videos without annotations"),
    "track": ("common.cli.track", "track targets in your own video"),
    "vot": ("common.cli.vot", "run as a tracker of the VOT toolkit"),
    "evaluate": ("common.cli.evaluate", "score a submission written by any tool"),
    "leaderboard": ("common.leaderboard.command", "tables of results next to the published numbers"),
    "report": ("common.report.command", "one page with tables, plots and frames of all methods"),
    "methods": ("common.cli.methods", "the methods, their papers, tasks and configs"),
    "weights": ("common.cli.weights", "weights of each method: which are installed, where to get others; convert"),
    "speed": ("common.cli.speed", "time and memory of a frame, by size of the video and number of targets"),
    "doctor": ("common.cli.doctor", "check the installation: packages, GPU, data, weights"),
    "benchmarks": ("common.cli.benchmarks", "the benchmarks, and where their data is"),
}
EXAMPLE = "python cli.py test --config configs/sam2long/nano.yaml"


def usage() -> str:
    """Return the text of ``--help``."""
    rows = "\n".join(f"  {verb:<12}{what}" for verb, (_, what) in VERBS.items())
    return f"usage: python cli.py VERB ...\n\n{rows}\n\nVERB --help tells more. Example:\n  {EXAMPLE}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: arguments without the program name; default ``sys.argv[1:]``.

    Returns:
        Exit status: 0 = success, 1 = a check found problems or a run was interrupted, 2 = invalid input (one line on
        standard error).
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    verb, rest = argv[0], argv[1:]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        print(
            f"error: unknown verb {verb!r}; " + (f"did you mean {near[0]!r}?" if near else "see --help"),
            file=sys.stderr,
        )
        return 2
    from common.errors import InputError

    module = VERBS[verb][0]
    try:
        return import_module(module).main(argv if module == LIGHTNING else rest) or 0
    except InputError as error:
        # An error from a data loader's worker carries that worker's traceback in front of the message.
        print(
            "error: " + str(error).strip().splitlines()[-1].removeprefix("common.errors.InputError: "), file=sys.stderr
        )
        return 2


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    sys.exit(main())
