"""The pages on adding a method, a benchmark and a metric: their files are written to a folder and run."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import cli
from common.errors import InputError
from common.synthetic import SyntheticClips
from common.video import labels_from_masks, write_label_map


@pytest.fixture
def pages(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of all three pages, on the path; the working folder."""
    for page in ("method", "metric", "benchmark"):
        text = (repository / "docs" / f"adding_a_{page}.md").read_text(encoding="utf-8")
        for name, content in re.findall(r"```\w+\n# (\S+)\n(.*?)```", text, re.DOTALL):
            (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("prototypes", "size_error", "flipbooks"):
        sys.modules.pop(name, None)


def test_a_method_trains_and_is_tested(pages: Path) -> None:
    assert cli.main(["fit", "--config", "prototypes.yaml"]) == 0
    checkpoint = next(pages.rglob("last.ckpt"))
    assert cli.main(["test", "--config", "prototypes.yaml", "--ckpt_path", str(checkpoint)]) == 0
    record = json.loads(next(pages.rglob("results.json")).read_text())
    assert record["method"] == "Prototypes"
    assert 0 < record["metrics"]["J&F"] < 1


def test_its_session_refuses_to_drop_an_unknown_target(pages: Path) -> None:
    from prototypes import Prototypes

    video = SyntheticClips("easy", 1, frames=2, size=(32, 48), seed=3, objects=2)[0]
    session = Prototypes().eval().session()
    session.step(video[0], video.prompts)
    session.drop(video.targets[0])
    assert session.step(video[1])[0].targets == video.targets[1:]
    with pytest.raises(InputError, match=f"target {video.targets[0]}"):
        session.drop(video.targets[0])


def test_a_metric_by_hand(pages: Path) -> None:
    from size_error import SizeError

    true = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    true[:2, :, :2, :2] = True  # areas 4, 4, 0
    pred = torch.zeros_like(true)
    pred[0, :, :1, :2] = True  # 2: half is missing
    pred[1, :, :2, :3] = True  # 6: half too much
    metric = SizeError()
    metric.update(pred, true)
    assert float(metric.compute()["size_error"]) == 0.5


def test_a_benchmark_takes_any_method(pages: Path) -> None:
    video = SyntheticClips("easy", 1, frames=5, size=(32, 48), seed=3, objects=2)[0]
    folder = pages / "data" / "one"
    (folder / "frames").mkdir(parents=True)
    for index, frame in enumerate(video):
        Image.fromarray(frame.numpy()).save(folder / "frames" / f"{index:05d}.jpg")
    for name, index in (("first", 0), ("last", 4)):
        write_label_map(folder / f"{name}.png", labels_from_masks(video.truth[index], video.targets))
    (pages / "run.yaml").write_text(
        "data: {test: [{class_path: flipbooks.Flipbooks, init_args: {root: data}}]}\ntrainer: {accelerator: cpu}\n"
    )
    flags = ["--config", "run.yaml", "--model", "methods.baselines.CopyFirstMask", "--model.save_predictions", "true"]
    assert cli.main(["test", *flags]) == 0
    record = json.loads(next(pages.rglob("results.json")).read_text())
    first, last = (video.truth[index].flatten(1).sum(1).double() for index in (0, 4))
    assert record["metrics"]["size_error"] == pytest.approx(float(((first - last).abs() / last).mean()))
    assert len(list(pages.rglob("predictions/one/*.png"))) == 5
