"""What holds for every metric: order, share of the processes, and a stored state do not change a digit."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

from common import metrics
from common.metrics import (
    GroupedJAndF,
    HOTAMetrics,
    JAndF,
    MOSEv2Metrics,
    ReferringMetrics,
    STQMetrics,
    VIPOSegMetrics,
    VISMetrics,
    VOSTMetrics,
    VOTSMetrics,
    VPQMetrics,
    VQ2DMetrics,
    VQSMetrics,
    VSPWMetrics,
)
from common.metrics.rows import RowMetric

Video = dict[str, Tensor]


def unit(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64)


def flags(*shape: int) -> Tensor:
    return torch.randint(2, shape).double()


def j_and_f(n: int) -> Video:
    return {"j": unit(6 + n, 1 + n % 3), "f": unit(6 + n, 1 + n % 3)}


def groups(n: int) -> Video:
    objects = 1 + n % 3
    return {**j_and_f(n), "unseen": flags(objects), "missing": flags(objects)}


def hota(n: int) -> Video:
    """Two classes, and 5 + n tracks of them."""
    nothing, outcome = torch.full((7 + n,), torch.nan, dtype=torch.float64), torch.randint(2, (10, 7 + n)).double()
    counts = torch.randint(1, 50, (4, 19, 7 + n)).double()
    counts[3] = counts[0] * unit(19, 7 + n)
    rank, track = torch.arange(7 + n).double() - 4, torch.arange(7 + n) >= 2
    outcome[:, rank < 0] = 1
    keys = {"score": unit(7 + n).masked_fill(rank < 0, torch.nan), "video": torch.full_like(nothing, n)}
    keys = {key: value.where(track, nothing) for key, value in {**keys, "rank": rank.clamp(min=-1)}.items()}
    category = torch.arange(7 + n).double() % 2
    return {
        "category": category,
        **keys,
        "outcome": outcome.where(track, nothing),
        "counts": counts.where(~track, nothing),
    }


def mose_v2(n: int) -> Video:
    return {**j_and_f(n), "f_dot": unit(6 + n, 1 + n % 3), "present": flags(6 + n, 1 + n % 3)}


def referring(n: int) -> Video:
    values = {key: unit(6 + n, 1 + n % 3) for key in ("j", "f", "j_fixed", "f_fixed")}
    return {**values, "group": torch.arange(1 + n % 3).double()}


def stq(n: int) -> Video:
    common, only_true, only_said = torch.randint(1, 9000, (3, 3)).double()
    tubes = torch.tensor([0, 0, 1 + n], dtype=torch.float64)
    category = torch.tensor([-1, 0, 1 + n % 2], dtype=torch.float64)
    common, true = common.masked_fill(category < 0, 0), (common + only_true).masked_fill(category < 0, 0)
    counts = {"common": common, "predicted": common + only_said, "true": true}
    return {"category": category, **counts, "tubes": tubes, "association": tubes * unit(3)}


def viposeg(n: int) -> Video:
    frames, objects = 6 + n, 4 + n % 3
    known = (1 + torch.arange(frames) // 2)[:, None].expand(-1, objects).double()
    subset = torch.arange(objects).double() % 4
    return {
        "mask_iou": unit(frames, objects),
        "boundary_iou": unit(frames, objects),
        "object_count": known,
        "subset": subset,
    }


def vis(n: int) -> Video:
    tracks = 6 + n
    outcome = torch.tensor([0, 1, torch.nan], dtype=torch.float64)[torch.randint(3, (4, 10, tracks))]
    rank, true = torch.arange(tracks).double(), torch.arange(tracks) % 3 == 0
    outcome[:, :, true] = 1
    return {
        "category": torch.randint(2, (tracks,)).double(),
        "score": unit(tracks).round(decimals=1).masked_fill(true, torch.nan),
        "video": torch.full((tracks,), n, dtype=torch.float64),
        "rank": rank.masked_fill(true, -1),
        "outcome": outcome,
    }


def vost(n: int) -> Video:
    return {"j": unit(6 + n, 1 + n % 3)}


def vots(n: int) -> Video:
    shape = (30 + n, 1 + n % 3)
    given = torch.zeros(shape, dtype=torch.float64)
    given[0] = 1
    return {"overlap": unit(*shape), "present": flags(*shape), "reported": flags(*shape), "initialised": given}


def vpq(n: int) -> Video:
    window, category = torch.tensor([1, 1, 2, 2]).double(), torch.tensor([0, 1, 0, 1 + n % 2]).double()
    tp, fp, fn = torch.randint(1, 9, (3, 4)).double()
    return {"window": window, "category": category, "iou": tp * unit(4), "tp": tp, "fp": fp, "fn": fn}


def vq2d(n: int) -> Video:
    return {"score": unit(1), "tiou": unit(1), "stiou": unit(1), "frame_iou": unit(4 + n, 1)}


def vqs(n: int) -> Video:
    common, only_truth, only_said = torch.randint(0, 9000, (3, 5 + n, 1)).double()
    return {"intersection": common, "union": common + only_truth + only_said, "area": common + only_truth}


def vspw(n: int) -> Video:
    common, only_true, only_said = torch.randint(1, 9000, (3, 3)).double()
    clips = torch.zeros(2, 3, dtype=torch.float64)
    clips[:, -1] = n + 1
    category = torch.tensor([0, 1 + n % 2, -1], dtype=torch.float64)
    pixels = {"common": common, "predicted": common + only_said, "true": common + only_true}
    pixels = {key: value.masked_fill(category < 0, 0) for key, value in pixels.items()}
    return {"category": category, **pixels, "consistency": unit(2, 3) * clips, "clips": clips}


CASES: dict[str, tuple[Callable[[], RowMetric], Callable[[int], Video]]] = {
    "GroupedJAndF": (GroupedJAndF, groups),
    "HOTAMetrics": (HOTAMetrics, hota),
    "JAndF": (JAndF, j_and_f),
    "MOSEv2Metrics": (MOSEv2Metrics, mose_v2),
    "ReferringMetrics": (ReferringMetrics, referring),
    "STQMetrics": (STQMetrics, stq),
    "STQMetrics, clean": (lambda: STQMetrics(official_compat=False), stq),
    "VIPOSegMetrics": (VIPOSegMetrics, viposeg),
    "VISMetrics": (VISMetrics, vis),
    "VOSTMetrics": (VOSTMetrics, vost),
    "VOTSMetrics": (VOTSMetrics, vots),
    "VOTSMetrics, skip": (lambda: VOTSMetrics(init_frame="skip"), vots),
    "VPQMetrics": (lambda: VPQMetrics(things=[0], windows=[1, 2]), vpq),
    "VQ2DMetrics": (VQ2DMetrics, vq2d),
    "VQSMetrics": (VQSMetrics, vqs),
    "VQSMetrics, macro": (lambda: VQSMetrics(rec_average="macro", stiou="frames"), vqs),
    "VSPWMetrics": (VSPWMetrics, vspw),
}
SHARES = ([[0, 1, 2, 3, 4], []], [[4], [2, 1, 0, 3]])  # one process idle; unequal shares in another order

every_metric = pytest.mark.parametrize("name", CASES)


def videos(name: str) -> list[Video]:
    torch.manual_seed(5)
    return [CASES[name][1](n) for n in range(5)]


def filled(name: str, order: list[int]) -> RowMetric:
    """A metric that has seen these videos."""
    metric, seen = CASES[name][0](), videos(name)
    for index in order:
        metric.extend(**seen[index])
    return metric


def numbers(metric: RowMetric) -> dict[str, str]:
    """Every digit, NaN included."""
    return {key: float(value).hex() for key, value in metric.compute().items()}


def test_every_metric_is_here() -> None:
    public = {name for name in metrics.__all__ if isinstance(getattr(metrics, name), type)}
    assert {name.split(",")[0] for name in CASES} == public


@every_metric
def test_order_changes_no_digit(name: str) -> None:
    assert numbers(filled(name, [0, 1, 2, 3, 4])) == numbers(filled(name, [3, 1, 4, 0, 2]))


@every_metric
def test_the_last_dimension_is_the_object(name: str) -> None:
    whole = filled(name, [0, 1, 2, 3, 4])
    if name.startswith("VOTS"):
        pytest.skip("a mean over sequences of means over objects")
    apart = CASES[name][0]()
    for video in videos(name):
        for n in range(next(iter(video.values())).shape[-1]):
            apart.extend(**{key: value[..., [n]] for key, value in video.items()})
    assert numbers(apart) == numbers(whole)


@every_metric
def test_a_stored_state_goes_on(name: str) -> None:
    stored, other = filled(name, [0, 1, 2]), CASES[name][0]()
    other.load_state_dict(stored.state_dict())
    for index in (3, 4):
        other.extend(**videos(name)[index])
    assert numbers(other) == numbers(filled(name, [0, 1, 2, 3, 4]))
    stored.reset()
    assert len(stored.rows) == 0


@every_metric
def test_compute_follows_what_is_added(name: str) -> None:
    metric = filled(name, [0])
    before = numbers(metric)
    metric.extend(**videos(name)[1])
    assert numbers(metric) == numbers(filled(name, [0, 1])) != before


@every_metric
def test_nothing_added_is_nan(name: str) -> None:
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert all(math.isnan(value) for value in CASES[name][0]().compute().values())


@every_metric
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same(name: str) -> None:
    metric = CASES[name][0]().to("cuda")
    for video in videos(name):
        metric.extend(**{key: value.cuda() for key, value in video.items()})
    want = filled(name, [0, 1, 2, 3, 4]).compute()
    assert {k: float(v) for k, v in metric.compute().items()} == pytest.approx(
        {k: float(v) for k, v in want.items()}, abs=1e-12, nan_ok=True
    )


def worker(rank: int, port: int, folder: str) -> None:
    """One of two processes: measures its share and writes what ``compute`` says."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    said = {}
    for name in CASES:
        for turn, shares in enumerate(SHARES):
            metric = filled(name, shares[rank])
            kept = len(metric.rows)
            said[name, turn] = (numbers(metric), numbers(metric), len(metric.rows) == kept)
    torch.save(said, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_answer_of_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(worker, (port, str(tmp_path)), nprocs=2)
    for rank in range(2):
        for (name, _), (first, again, own_rows_only) in torch.load(tmp_path / f"{rank}.pt").items():
            assert first == again == numbers(filled(name, [0, 1, 2, 3, 4])), name
            assert own_rows_only, name
