"""Folders in the layouts of LVOS, MOSE v2 and VOST score like their official tools: late and vanishing objects."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from common.benchmarks.registry import make_benchmark
from common.benchmarks.submissions.errors import SubmissionErrors
from tests.support.miniatures.drawing import write_maps

CASES = ("p08_three_absent", "p09_late_object", "p14_vanish_return", "p11_spurious_id")


def lvos(root: Path, case: str, maps: Tensor) -> list[str]:
    names = [f"{1 + 5 * n:08d}" for n in range(len(maps))]
    objects = {}
    for target in maps.unique().tolist()[1:]:
        first = int((maps == target).flatten(1).any(1).nonzero()[0])
        ranges = {"start": names[first], "end": names[-1], "frame_nums": str(len(maps) - first)}
        objects[target] = {"frame_range": ranges}
    (root / "valid_meta.json").write_text(json.dumps({"videos": {case: {"objects": objects}}}))
    (root / "unseen_videos.txt").write_text("another\n")
    write_maps(root / "valid/Annotations" / case, names, maps)
    return names


def mosev2(root: Path, case: str, maps: Tensor) -> list[str]:
    names = [f"{n:05d}" for n in range(len(maps))]
    described = {"videos": {case: {"objects": maps.unique().tolist()[1:]}}}
    (root / "valid").mkdir()
    (root / "valid/meta.json").write_text(json.dumps(described))
    write_maps(root / "valid/Annotations" / case, names, maps)
    return names


def vost(root: Path, case: str, maps: Tensor) -> list[str]:
    names = [f"frame{12 * n:05d}" for n in range(len(maps))]
    (root / "ImageSets").mkdir()
    (root / "ImageSets/val.txt").write_text(f"{case}\n")
    write_maps(root / "Annotations" / case, names, maps)
    return names


def expected(name: str, case: dict) -> dict[str, list[float | None]]:
    """Of each object the official numbers, named like ours."""
    if name == "vost":
        return {target: [said["J"][0], said["J_last"][0]] for target, said in case["vost"].items()}
    tool = {"lvosv2": "lvos", "mosev2": "mose_v2"}[name]
    return {target: list(said.values()) for target, said in case[tool].items()}


NAMES = {
    "lvosv2": ("J", "F", "V"),
    "mosev2": ("J", "Fdot", "F", "J_d", "Fdot_d", "J_r", "Fdot_r"),
    "vost": ("J", "J_tr"),
}
LAYOUTS = {"lvosv2": lvos, "mosev2": mosev2, "vost": vost}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_object(golden_root: Path, tmp_path: Path, name: str, case: str) -> None:
    arrays = np.load(golden_root / "vos" / f"{case}.npz")
    root, out = tmp_path / "data", tmp_path / "out"
    root.mkdir()
    frames = LAYOUTS[name](root, case, torch.from_numpy(arrays["gt"]))
    write_maps(out / case, frames, torch.from_numpy(arrays["pred"]))
    benchmark = make_benchmark(name, root=root)
    video = benchmark[0]
    measured = benchmark.measure(video, benchmark.read(video, out, SubmissionErrors(strict=False)))
    want = expected(name, json.loads((golden_root / "vos_expected.json").read_text())["cases"][case])
    assert [str(target) for target in video.targets] == list(want)
    for column, values in enumerate(want.values()):
        got = benchmark.item_scores({key: value[..., [column]] for key, value in measured.items()})
        assert [got[key] for key in NAMES[name]] == pytest.approx(
            [float("nan") if value is None else value for value in values], abs=1e-6, nan_ok=True
        )
