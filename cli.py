"""The front door: one verb, handled elsewhere. Nothing heavy is imported before the verb is known."""

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
    "predict": (LIGHTNING, "write masks and overlays of plain videos"),
    "track": ("common.cli.track", "follow what you point at in your own video"),
    "vot": ("common.cli.vot", "be a tracker of the VOT toolkit"),
    "evaluate": ("common.cli.evaluate", "score a submission that any tool wrote"),
    "leaderboard": ("common.leaderboard.command", "tables of results beside the published numbers"),
    "report": ("common.report.command", "one page with tables, plots and frames of all methods"),
    "methods": ("common.cli.methods", "the methods, their papers, tasks and configs"),
    "weights": ("common.cli.weights", "weights that each method loads, and which are here; convert"),
    "doctor": ("common.cli.doctor", "what this machine has, and what is missing for what"),
    "benchmarks": ("common.cli.benchmarks", "the benchmarks, and whether their data is here"),
}
EXAMPLE = "python cli.py test --config configs/sam2long/nano.yaml"


def usage() -> str:
    """What ``--help`` prints."""
    rows = "\n".join(f"  {verb:<12}{what}" for verb, (_, what) in VERBS.items())
    return f"usage: python cli.py VERB ...\n\n{rows}\n\nVERB --help tells more. Example:\n  {EXAMPLE}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; 0 = done, 1 = a check found something, 2 = bad input, told in one line."""
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
