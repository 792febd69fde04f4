"""Score the cases of ``masks.py`` with the official tools and write ``*_expected.json``.

    python -m tests.golden.make CHECKOUTS

CHECKOUTS is a folder with clones of davis2017-evaluation, vos-benchmark, sam2, VOST, lvos-evaluation and MOSE-api. Run
it from the root of the project in an environment of its own: numpy<2, opencv-python-headless, scikit-image, pandas,
tqdm, pillow, rich, vot-toolkit==0.9.0 and attributee==0.1.9. No test needs any of them.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden import folder, masks, score_vos, score_vots, score_vqs

# Clone, and the folder in it that goes on the path.
CHECKOUTS = {
    "davis2017-evaluation": ".",
    "vos-benchmark": ".",
    "sam2": "sav_dataset",
    "VOST": "evaluation",
    "lvos-evaluation": ".",
    "MOSE-api": "MOSEv2/sam2_rcms/tools",
}


def main() -> None:
    """Write the three files of expected values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path)
    checkouts = parser.parse_args().checkouts.resolve()
    np.bool = bool  # VOST uses the alias that numpy 1.24 removed
    sys.path += [str(checkouts / name / place) for name, place in CHECKOUTS.items()]
    commits = {name: commit(checkouts / name) for name in CHECKOUTS}
    write("vqs_expected.json", {"tool": "reference implementation in numpy", **score_vqs.score(folder.vqs_cases())})
    sequences = folder.vots_cases()
    with tempfile.TemporaryDirectory() as place:
        folder.write_vots(Path(place), sequences)
        vots = score_vots.score(Path(place) / "vots", sequences)
    write("vots_expected.json", {"toolkit": version("vot-toolkit"), **vots})
    vos = score_vos.score({name: make() for name, make in masks.VOS.items()})
    write("vos_expected.json", {"tools": commits, **vos})


def commit(checkout: Path) -> str:
    """Return the commit of a clone, from git or from a file COMMIT in it."""
    if (checkout / "COMMIT").is_file():
        return (checkout / "COMMIT").read_text().strip()
    return subprocess.check_output(["git", "-C", checkout, "rev-parse", "HEAD"], text=True).strip()


def write(name: str, values: dict[str, Any]) -> None:
    """Write numbers with 10 digits after the point, NaN as null, and each list of numbers in one line."""
    text = json.dumps(plain(values), indent=1)
    text = re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)
    (folder.HERE / name).write_text(text + "\n")


def plain(value: Any) -> Any:
    """Return a value of Python's own types for JSON."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 10)
    return value


if __name__ == "__main__":
    main()
