"""VQ-SAM on VQ2D from end to end: box on a query image, masks, last occurrence, track of boxes, numbers, submission."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.vq2d.benchmark import VQ2D
from common.data import VideoDataModule
from common.evaluation.submission import evaluate
from methods.vqsam import VQSAM
from methods.vqsam.session import VQSAMSession
from tests.support.fake_vqsam import Fake
from tests.support.lively import enliven
from tests.support.miniatures.vq2d import make

SIDE = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vq2d")
    make(root, "vq2d")
    return root


def module(**settings) -> VQSAM:
    torch.manual_seed(0)
    made = VQSAM(image_size=SIDE, weights="random", clip_length=3, **settings).eval()
    enliven(made, seed=2, visible=4.0)
    return made


def told(scores: list[list[float]]) -> Callable[..., VQSAMSession]:
    """Sessions of a network that draws (8, 18, 24, 30), in pixels of 64 x 48, wherever the score is positive."""
    drawn = torch.zeros(1, SIDE // 4, SIDE // 4, dtype=torch.bool)
    drawn[:, 6:10, 2:6] = True  # a place is 4 x 3 pixels
    return lambda *_: VQSAMSession(Fake(module().network.sam2, scores, drawn), 3)  # type: ignore[arg-type]


# Frames 4 to 7, over the border of two clips, after an earlier one; 8 and 9, after a much surer one; never.
SCORES = [
    [[-1, 2, -1], [-1, 1, 1], [3, 3, -1], [-2, -2, -2]],
    [[-1, -1, 9], [9, -1, -1], [-1, -1, 1], [1]],
    [[-1, -2, -3]] * 3,
]


def test_tracks_and_numbers_by_hand_and_the_submission_there_and_back(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The truth of frame f is (4 + 2 f, 20, 16 + 2 f, 28): in frames 4 to 7, 8 to 9, 2 to 4 of the three queries."""
    benchmark, method, metric = VQ2D(root), module(), VQ2D(root).metric()
    for video, scores in zip(benchmark, SCORES, strict=True):
        monkeypatch.setattr(method, "session", told(scores))
        measured = benchmark.measure(video, benchmark.write(video, method.track(video), tmp_path / "out"))
        read = benchmark.measure(video, benchmark.read(video, tmp_path / "out", SubmissionErrors()))
        assert all(torch.equal(measured[name], read[name]) for name in measured)
        metric.extend(**measured)
    rows = (
        metric.sorted_rows().tolist()
    )  # by score: its columns are score, tIoU, stIoU, frames recovered at ..., frames
    areas = 192, 96
    assert [row[:3] for row in rows] == [
        [-2.0, 0.0, 0.0],
        [1.0, 1.0, (32 + 16) / (2 * sum(areas) - 48)],
        [2.0, 1.0, (96 + 80 + 64 + 48) / (4 * sum(areas) - 288)],
    ]
    got = {name: metric.compute()[name].item() for name in benchmark.numbers}
    # stIoU 1/3, 1/11, 0; the tracks that are right come first; of 9 annotated frames one has IoU 1/2
    assert got == pytest.approx(
        {"stAP25": 1 / 3, "stAP": 1 / 12, "tAP25": 2 / 3, "tAP": 2 / 3, "success": 2 / 3, "recovery": 1 / 9}
    )
    packed = benchmark.pack(tmp_path / "out")
    assert packed is not None
    first = json.loads(packed.read_text())["results"]["videos"][0]["clips"][0]["predictions"][0]["query_sets"]["1"]
    box = {"x1": 8, "y1": 18, "x2": 24, "y2": 30}
    assert first == {"bboxes": [{"fno": frame} | box for frame in range(4, 8)], "score": 2.0}


def test_a_run_writes_what_it_is_scored_by(root: Path, tmp_path: Path) -> None:
    """The verb ``test`` with a real network, small and seeded; then the submission by itself."""
    runner = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    runner.test(module(save_predictions=True), VideoDataModule(test=[VQ2D(root)]), verbose=False)
    record = json.loads((tmp_path / "vq2d-val/results.json").read_text())
    assert record["metrics"]["tAP25"] > 0  # it sees its target in some frames
    scores = evaluate(VQ2D(root), tmp_path / "vq2d-val/predictions.json")
    assert record["metrics"] == scores.numbers
    assert record["protocol_id"] == scores.protocol_id
