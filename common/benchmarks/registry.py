"""Registry of benchmarks by name, for the command line. In YAML a benchmark is given by its class path."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from common.benchmarks.base import Benchmark
from common.errors import InputError

# name -> (class below common.benchmarks, constructor arguments)
BENCHMARKS: dict[str, tuple[str, dict[str, Any]]] = {
    "davis2016": ("davis.DAVIS", {"year": 2016}),
    "davis2017": ("davis.DAVIS", {"year": 2017}),
    "youtubevos2018": ("youtube_vos.YouTubeVOS", {"year": 2018}),
    "youtubevos2019": ("youtube_vos.YouTubeVOS", {"year": 2019}),
    "mose": ("mose.MOSE", {}),
    "mosev2": ("mose.MOSEv2", {}),
    "lvosv1": ("lvos.LVOS", {"version": 1}),
    "lvosv2": ("lvos.LVOS", {"version": 2}),
    "vost": ("vost.VOST", {}),
    "sav": ("sav.SAV", {}),
    "pumavos": ("pumavos.PUMaVOS", {}),
    "longvideo": ("long_video.LongVideo", {}),
    "folder": ("own_folder.Folder", {}),
    "vqs4k": ("vqs.VQS4K", {}),
    "vq2d": ("vq2d.VQ2D", {}),
    "ytvis2019": ("youtube_vis.YouTubeVIS", {"edition": "ytvis2019"}),
    "ytvis2021": ("youtube_vis.YouTubeVIS", {"edition": "ytvis2021"}),
    "ovis": ("youtube_vis.YouTubeVIS", {"edition": "ovis"}),
    "vspw": ("vspw.VSPW", {}),
    "vipseg": ("vipseg.VIPSeg", {}),
    "viposeg": ("viposeg.VIPOSeg", {}),
    "refdavis": ("ref_davis.RefDAVIS", {}),
    "refyoutubevos": ("ref_youtube_vos.RefYouTubeVOS", {}),
    "burst": ("burst.BURSTGuided", {}),
    "vots2023": ("vots.VOTS", {"edition": "vots2023"}),
    "vots2024": ("vots.VOTS", {"edition": "vots2024"}),
    "votst2024": ("vots.VOTS", {"edition": "votst2024", "split": "val"}),
    **{
        f"tiny-{preset}": ("tiny.Tiny", {"preset": preset})
        for preset in ("easy", "occlusion", "distractor", "reappear", "topology", "long")
    },
    "tiny-vots-reappear": ("tiny.TinyVOTS", {"preset": "reappear"}),
    "tiny-vqs": ("tiny.TinyVQS", {"preset": "query"}),
    "tiny-vqs-distractor": ("tiny.TinyVQS", {"preset": "query-distractor"}),
    "tiny-vis": ("tiny.TinyVIS", {}),
    "tiny-vss": ("tiny.TinyVSS", {}),
    "tiny-vps": ("tiny.TinyVPS", {}),
    "tiny-ref": ("tiny.TinyRef", {}),
    "tiny-pvos": ("tiny.TinyPVOS", {}),
}


def benchmark_class(name: str) -> type[Benchmark]:
    """Import and return the class of a benchmark.

    Args:
        name: a key of ``BENCHMARKS``.

    Raises:
        InputError: no benchmark has this name.
    """
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(BENCHMARKS)}"
        raise InputError(f"{name}: no such benchmark; {hint}")
    module, class_name = BENCHMARKS[name][0].split(".")
    cls: type[Benchmark] = getattr(import_module(f"common.benchmarks.{module}"), class_name)
    return cls


def make_benchmark(name: str, **options: Any) -> Benchmark:
    """Construct a benchmark.

    Args:
        name: a key of ``BENCHMARKS``.
        options: further constructor arguments, e.g. ``root`` and ``split``.
    """
    return benchmark_class(name)(**{**BENCHMARKS[name][1], **options})
