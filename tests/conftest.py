"""Shared fixtures, one thread for each test process, and the limit on the time of a test that is not marked slow."""

from __future__ import annotations

import os
import resource
from collections.abc import Generator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: two cores are shared by the test workers
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test never downloads

import lightning  # noqa: F401  here, so that its log handler does not keep the captured stderr of the first test
import pytest
import torch

from tests.golden.folder import write_golden

ROOT = Path(__file__).resolve().parent.parent
REAL_GOLDEN = ROOT.parent / "shared" / "golden"  # not part of the project: cut from DAVIS
CPU_SECONDS = float(os.environ.get("VIDSEG_TEST_SECONDS", "10"))  # of a test without the mark `slow`; 0: no limit

torch.set_num_threads(1)


def cpu_seconds() -> float:
    """Return the processor time of this process and of the processes that it waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that takes longer than ``VIDSEG_TEST_SECONDS`` of processor time and is not marked `slow`.

    Processor time, unlike the clock, does not depend on what else the machine does.
    """
    start = cpu_seconds()
    result = yield
    spent = cpu_seconds() - start
    if CPU_SECONDS and spent > CPU_SECONDS and not item.get_closest_marker("slow"):
        pytest.fail(f"took {spent:.1f} s of processor time: mark it slow, or set VIDSEG_TEST_SECONDS", pytrace=False)
    return result


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the project."""
    return ROOT


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of real data sets: VIDSEG_DATA, else ../shared/data; the test is skipped where there is none."""
    root = Path(os.environ.get("VIDSEG_DATA") or ROOT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no real data: set VIDSEG_DATA (looked in {root})")
    return root


@pytest.fixture(scope="session", params=["generated", *(["real"] if REAL_GOLDEN.is_dir() else [])])
def golden_root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks with scores of the official tools: generated, and also real ones where ../shared/golden is present."""
    if request.param == "real":
        return REAL_GOLDEN
    return write_golden(tmp_path_factory.mktemp("golden") / "generated")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)
