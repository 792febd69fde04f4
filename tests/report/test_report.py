"""The page: what it shows, that it needs nothing else, and how it looks in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from PIL import Image

import cli
from common.leaderboard.collect import collect
from common.records.record import ResultRecord
from common.report.plots import lines, scatter
from common.report.sequences import figures, worst_first

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two baselines on a benchmark as its name stands for it, with their predictions."""
    root = tmp_path_factory.mktemp("runs")
    tiny = {"class_path": "common.benchmarks.tiny.Tiny", "init_args": {}}
    (root / "tiny.yaml").write_text(yaml.safe_dump({"data": {"test": [tiny]}, "trainer": {"accelerator": "cpu"}}))
    for name in ("CopyFirstMask", "AnswerNothing"):
        flags = ["--model", f"methods.baselines.baselines.{name}", "--trainer.default_root_dir", str(root / name)]
        keep = ["--model.save_predictions", "true"]
        assert cli.main(["test", "--config", str(root / "tiny.yaml"), *flags, *keep]) == 0
    return root


class Checked(HTMLParser):
    """Every tag closed in its place; what the page asks for from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in ("meta", "img", "input", "line", "polyline", "br"):
            self.open.append(tag)
        self.outside += [value for key, value in attrs if key == "src" and not value.startswith("data:")]

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_of_two_methods(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.html"
    assert cli.main(["report", str(runs), "--output", str(path), "--sequences", "2", "--frames", "6"]) == 0
    assert "2 records, 2 sequences with frames" in capsys.readouterr().out
    text = path.read_text(encoding="utf-8")
    checked = Checked()
    checked.feed(text)
    assert not checked.open
    assert not checked.outside
    assert text.count('class="sequence"') == 2
    assert text.count('class="tile"') == 2 * 3  # annotation and two methods
    assert text.count("<circle") == 2
    assert path.stat().st_size < 2e6


def test_figures_hold_the_worst_and_agree_with_the_records(runs: Path) -> None:
    records = collect([runs])
    made, notes = figures(records, sequences=2, frames=6)
    assert not notes
    assert [figure.video for figure in made] == worst_first(records)[:2]
    copy = next(record for record in records if record.method == "CopyFirstMask")
    for figure in made:
        assert len(figure.frames) == 6
        assert all(len(images) == 6 for images in figure.images.values())
        name = next(name for name in figure.curves if name.startswith("CopyFirstMask"))
        assert figure.scores[name] == pytest.approx(100 * copy.videos[figure.video]["J&F"])
        values = [value for _, value in figure.curves[name]]
        # targets of one video all have the same frames, so the mean over both is the same in either order
        assert sum(values) / len(values) == pytest.approx(figure.scores[name])


def test_runs_without_predictions_or_with_other_settings_are_told() -> None:
    record = ResultRecord("A", "tiny-easy", "test", {"Q": 0.5}, videos={"v": {"Q": 0.5}}, protocol="other")
    assert figures([record], 1, 6)[1] == [
        "tiny-easy test: no frames are shown: no run saved its predictions (--model.save_predictions true)"
    ]


def test_other_settings_than_the_name_stands_for(runs: Path, tmp_path: Path) -> None:
    record = collect([runs])[0]
    record.protocol = "other"
    record.path = record.write(tmp_path).as_posix()
    (tmp_path / "predictions").mkdir()
    assert "other settings" in figures([record], 1, 6)[1][0]


def test_worst_first_with_undefined_numbers() -> None:
    videos = {"a": {"Q": 0.5}, "b": {"Q": float("nan")}, "c": {"Q": 0.1}}
    assert worst_first([ResultRecord("A", "x", "test", {"Q": 0.5}, videos=videos)]) == ["c", "a", "b"]


def test_plots_by_hand() -> None:
    curve = lines({"A": [(0, 0.0), (10, 100.0)]})
    # the plane is 640 x 200 with edges of 44, 28 and 10
    assert 'points="44.0,172.0 630.0,10.0"' in curve
    assert lines({}) == scatter([], "J&F") == ""
    dots = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"', scatter([("A", 1, 50, 4), ("B", 100, 60, 1)], "Q"))
    # the speeds span 10^0 to 10^2.5, the values 50 to 70; the dot of most memory has radius 5 + 9, of a quarter 5 + 4.5
    assert dots == [("44.0", "172.0", "14.0"), ("512.8", "91.0", "9.5")]


def test_no_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "run the verb test first" in capsys.readouterr().err


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [420, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_it_looks_right_in_a_browser(runs: Path, tmp_path: Path, width: int, dark: bool) -> None:
    page, shot = tmp_path / "report.html", tmp_path / "shot.png"
    assert cli.main(["report", str(runs), "--output", str(page), "--sequences", "1", "--frames", "4"]) == 0
    theme = [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *theme]
    size = [f"--window-size={width},1600", f"--screenshot={shot}"]
    subprocess.run([BROWSER, *flags, *size, page.as_uri()], check=True, capture_output=True, timeout=120)
    image = Image.open(shot).convert("L")
    assert image.width == width
    assert len(image.getcolors(256) or range(999)) > 20  # something is drawn
    background = image.getpixel((2, 2))
    assert (background < 80) if dark else (background > 200)


def test_the_data_of_a_figure_survives_the_attribute(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert cli.main(["report", str(runs), "--output", str(page), "--sequences", "1", "--frames", "3"]) == 0

    (written,) = re.findall(r'data-sequence="([^"]*)"', page.read_text(encoding="utf-8"))
    data = json.loads(unescape(written))
    assert len(data["frames"]) == 3
    assert [len(images) for images in data["images"]] == [3, 3, 3]
