"""Machine, package versions, commit and date of a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

PACKAGES = ("vidseg-suite", "torch", "lightning", "torchmetrics", "transformers", "numpy", "pillow", "av")


def environment() -> dict[str, Any]:
    """Return the fields of a record that describe its origin: machine, versions, commit, date."""
    return {
        "machine": {"cpu": _cpu_name(), "cores": _cores(), "gpu": _gpu_name()},
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(Path(__file__).resolve().parents[2]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpu_name() -> str:
    torch = sys.modules.get("torch")  # a process that never imported torch used no GPU
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else ""


def _commit(root: Path) -> str:
    """Return the commit of a checkout with top folder ``root``, or nothing outside one (an installed package)."""

    def git(*words: str) -> str:
        call = ["git", "-C", str(root), *words]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return ""
        return git("rev-parse", "HEAD") + ("+dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
