"""The benchmarks by name, for the command line. In YAML a benchmark is its class path."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from common.benchmarks.base import Benchmark
from common.errors import InputError

# name -> (class, arguments that make it this benchmark)
KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "davis2016": ("davis.Davis", {"year": 2016}),
    "davis2017": ("davis.Davis", {"year": 2017}),
    "youtubevos2018": ("youtube_vos.YouTubeVos", {"year": 2018}),
    "youtubevos2019": ("youtube_vos.YouTubeVos", {"year": 2019}),
    "mose": ("mose.Mose", {}),
    "mosev2": ("mose.MoseV2", {}),
    "lvosv1": ("lvos.Lvos", {"version": 1}),
    "lvosv2": ("lvos.Lvos", {"version": 2}),
    "vost": ("vost.Vost", {}),
    "sav": ("sav.Sav", {}),
    "pumavos": ("pumavos.PumaVos", {}),
    "longvideo": ("long_video.LongVideo", {}),
    "folder": ("folder.Folder", {}),
    "vqs4k": ("vqs.Vqs4k", {}),
    "vq2d": ("vq2d.Vq2d", {}),
    "ytvis2019": ("youtube_vis.YouTubeVis", {"edition": "ytvis2019"}),
    "ytvis2021": ("youtube_vis.YouTubeVis", {"edition": "ytvis2021"}),
    "ovis": ("youtube_vis.YouTubeVis", {"edition": "ovis"}),
    "vspw": ("vspw.Vspw", {}),
    "vipseg": ("vipseg.VipSeg", {}),
    "viposeg": ("viposeg.VipoSeg", {}),
    "refdavis": ("ref_davis.RefDavis", {}),
    "refyoutubevos": ("ref_youtube_vos.RefYouTubeVos", {}),
    "burst": ("burst_guided.BurstGuided", {}),
    "vots2023": ("vots.Vots", {"edition": "vots2023"}),
    "vots2024": ("vots.Vots", {"edition": "vots2024"}),
    "votst2024": ("vots.Vots", {"edition": "votst2024", "split": "val"}),
    **{
        f"tiny-{preset}": ("tiny.Tiny", {"preset": preset})
        for preset in ("easy", "occlusion", "distractor", "reappear", "topology", "long")
    },
    "tiny-vots-reappear": ("tiny.TinyVots", {"preset": "reappear"}),
    "tiny-vqs": ("tiny_vqs.TinyVqs", {"preset": "query"}),
    "tiny-vqs-distractor": ("tiny_vqs.TinyVqs", {"preset": "query-distractor"}),
    "tiny-vis": ("tiny_tasks.TinyVis", {}),
    "tiny-vss": ("tiny_tasks.TinyVss", {}),
    "tiny-vps": ("tiny_tasks.TinyVps", {}),
    "tiny-ref": ("tiny_tasks.TinyRef", {}),
    "tiny-pvos": ("tiny_tasks.TinyPvos", {}),
}


def benchmark_class(name: str) -> type[Benchmark]:
    """Class of a benchmark; it is imported only now.

    Raises:
        InputError: no benchmark has this name.
    """
    if name not in KNOWN:
        near = difflib.get_close_matches(name, KNOWN, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(KNOWN)}"
        raise InputError(f"{name}: no such benchmark; {hint}")
    module, kind = KNOWN[name][0].split(".")
    return getattr(import_module(f"common.benchmarks.{module}"), kind)


def known_benchmark(name: str, **options: Any) -> Benchmark:
    """Make a benchmark.

    Args:
        name: a key of ``KNOWN``.
        options: further arguments of its class, e.g. ``root`` and ``split``.
    """
    kind = benchmark_class(name)
    return kind(**{**KNOWN[name][1], **options})
