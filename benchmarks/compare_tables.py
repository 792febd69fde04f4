"""Compare two files that ``leaderboard --format json`` wrote: ``equal``, or the first cell that differs.

python benchmarks/compare_tables.py before.json after.json [--all]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path


def main() -> int:
    """Print the result; return 1 where the tables differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--all", action="store_true", help="print all differences")
    args = parser.parse_args()
    before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (args.before, args.after))
    different = list(differences(before, after))
    print("\n".join(different if args.all else different[:1]) or "equal")
    return int(bool(different))


def differences(before: object, after: object, where: str = "") -> Iterator[str]:
    """Yield one line for each value that differs; the paths of records are not compared.

    Args:
        before: content of the first file, or a part of it.
        after: the same part of the second file.
        where: keys and indices that lead to the part.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after} - {"records"}):
            yield from differences(before.get(key), after.get(key), f"{where}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{where}[{_name(old, index)}]")
    elif before != after:
        yield f"{where.lstrip('.')}: {_short(before)} -> {_short(after)}"


def _name(entry: object, index: int) -> str:
    """Return the index of an entry, with its name where it is a row or a table."""
    name = entry.get("method") or entry.get("title") if isinstance(entry, dict) else None
    return f"{index}: {name}" if name else str(index)


def _short(value: object) -> str:
    return f"list of {len(value)}" if isinstance(value, list) else json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
