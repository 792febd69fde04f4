"""Every benchmark by its name, on a miniature of its data: opens, is found whole, and reads back what a run writes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch

from common.benchmarks import Benchmark
from common.benchmarks.checks.dataset import check_benchmark
from common.benchmarks.registry import BENCHMARKS, benchmark_class, make_benchmark
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import annotation_size
from common.benchmarks.table import DOCS, update_table
from common.errors import InputError
from common.video import FrameMasks, Video

MINIATURES = Path(__file__).resolve().parents[1] / "support" / "miniatures"
GENERATED = {"videos": 2, "frames": 6, "size": (32, 32)}  # of those that the code makes


def options(name: str, root: Path) -> dict:
    """Arguments that open a miniature of a benchmark, which is written to ``root``."""
    if "root" not in inspect.signature(benchmark_class(name)).parameters:
        return GENERATED
    module = BENCHMARKS[name][0].split(".")[0]
    path = MINIATURES / f"{module}.py"
    assert path.is_file(), f"{name} has no miniature: write {path.name} with make(root, name) into tests/benchmarks"
    import_module(f"tests.support.miniatures.{module}").make(root, name)
    return {"root": root}


@pytest.fixture(params=BENCHMARKS)
def named(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict]:
    """A name and the arguments of its miniature."""
    return request.param, options(request.param, tmp_path / "data")


def splits(name: str, chosen: dict) -> Iterator[Benchmark]:
    """The parts that the miniature has, the default one first."""
    default = make_benchmark(name, **chosen)
    assert default.split in default.splits
    assert len(default) > 0
    yield default
    for split in default.splits:
        if split != default.split:
            other = make_benchmark(name, **chosen, split=split)
            try:
                len(other)
            except InputError:
                continue
            yield other


def imperfect(video: Video) -> Iterator[FrameMasks]:
    """The truth moved by a pixel to the right; where it is not known, the last that was."""
    targets = video.targets
    masks = torch.zeros(len(targets), *size_of(video), dtype=torch.bool)
    given: dict[int, list] = {}
    for prompt in video.prompts:
        given.setdefault(prompt.frame, []).append(prompt)
    for frame in range(len(video)):
        truth = None if video.truth is None else video.truth[frame]
        if truth is not None:
            masks = truth.roll(1, -1)
        for prompt in given.get(frame, ()) if video.truth is None else ():
            if prompt.mask is not None and prompt.mask.shape == masks.shape[1:]:
                masks[targets.index(prompt.target)] = prompt.mask.roll(1, -1)
        yield FrameMasks(frame, targets, masks.clone(), torch.ones(len(targets)), *classes(video))


def classes(video: Video) -> tuple:
    """Categories and class scores of the targets, the second best guess being another category."""
    if not video.prompts or video.prompts[0].vocabulary is None:
        return ()
    names = len(video.vocabulary)
    scores = torch.zeros(len(video.targets), names)
    for row, target in enumerate(video.targets):
        category = video.categories[target]
        scores[row, (category + 1) % names], scores[row, category] = 0.25, 0.5 + 0.25 / target
    return tuple(video.categories[target] for target in video.targets), scores


def size_of(video: Video) -> tuple[int, int]:
    if video.truth is None:
        return tuple(video[0].shape[:2])
    frames = range(len(video)) if video.annotated is None else video.annotated
    return annotation_size(video, frames)


def test_it_says_what_it_is(named: tuple[str, dict]) -> None:
    name, chosen = named
    benchmark = make_benchmark(name, **chosen)
    assert benchmark.name == name
    assert benchmark.source
    assert "\n" not in benchmark.protocol
    assert bool(benchmark.layout) == ("root" in chosen), "a benchmark with files on disk must say how they lie"
    metric = benchmark.metric()
    metric.distributed_available_fn = lambda: False
    for video in benchmark:
        if video.truth is not None:
            metric.extend(**benchmark.measure(video, imperfect(video)))
    if any(video.truth is not None for video in benchmark):
        assert set(benchmark.numbers) <= set(metric.compute())


def test_nothing_is_wrong_with_the_miniature(named: tuple[str, dict]) -> None:
    name, chosen = named
    benchmark = make_benchmark(name, **chosen)
    checked = list(check_benchmark(benchmark, jobs=2))
    assert [one.video for one in checked] == benchmark.ids
    assert [problem for one in checked for problem in one.problems] == []
    hidden = benchmark.task in ("VIS", "VSS", "VPS") and benchmark[0].truth is None
    assert all(one.frames and (one.objects or hidden) for one in checked)


def test_every_target_is_given_where_it_is_first_seen(named: tuple[str, dict]) -> None:
    name, chosen = named
    for benchmark in splits(name, chosen):
        for video in benchmark:
            if benchmark.task in ("VIS", "VSS", "VPS"):
                prompt = video.prompts[0]
                kind = {(): "VIS", prompt.vocabulary: "VSS"}.get(prompt.stuff, "VPS")
                assert (len(video.prompts), kind) == (1, benchmark.task)
                assert prompt.vocabulary == video.vocabulary
                assert tuple(video.categories) == (video.targets if video.truth is not None else ())
                continue
            assert sorted(prompt.target for prompt in video.prompts) == list(video.targets)
            for prompt in video.prompts:
                if benchmark.task == "RefVOS":
                    assert prompt.text
                    continue
                if prompt.image is not None:
                    assert (prompt.mask is None) != (prompt.box is None)
                    continue
                assert prompt.mask.shape == video[prompt.frame].shape[:2]
                if video.truth is None or not benchmark.layout:  # generated: given where it is well seen
                    continue
                row = video.targets.index(prompt.target)
                assert torch.equal(video.truth[prompt.frame][row], prompt.mask)
                earlier = range(prompt.frame) if video.annotated is None else video.annotated
                before = [video.truth[frame] for frame in earlier if frame < prompt.frame]
                assert not any(masks[row].any() for masks in before if masks is not None)


def test_what_a_run_writes_reads_back_to_the_same_score(named: tuple[str, dict], tmp_path: Path) -> None:
    name, chosen = named
    scored = 0
    for benchmark in splits(name, chosen):
        ran, read = benchmark.metric(), benchmark.metric()
        folder = tmp_path / benchmark.split
        for video in benchmark:
            answers = benchmark.write(video, imperfect(video), folder)
            if video.truth is None:
                assert len(list(answers)) == len(video)  # written for the server
                continue
            measured = benchmark.measure(video, answers)
            again = benchmark.measure(video, benchmark.read(video, folder, SubmissionErrors()))
            one, other = benchmark.item_scores(measured), benchmark.item_scores(again)
            assert one == pytest.approx(other, abs=0, nan_ok=True), f"{benchmark.split} {video.id}"
            ran.extend(**measured)
            read.extend(**again)
            scored += 1
        assert any(path.is_file() for path in folder.rglob("*")), "nothing was written"
        benchmark.pack(folder)
        if len(ran.rows):
            numbers = {key: float(value) for key, value in ran.compute().items()}
            assert {key: float(value) for key, value in read.compute().items()} == pytest.approx(
                numbers, abs=0, nan_ok=True
            )
            assert any(0 < value < 1 for value in numbers.values()), "a shift by a pixel must show in some number"
    assert scored, "no part of the miniature has annotations"


def test_the_documentation_has_the_table_of_today() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert text == update_table(text), "docs/benchmarks.md is out of date: run `python -m common.benchmarks.table`"
    for name in BENCHMARKS:
        assert f"| `{name}` |" in text
