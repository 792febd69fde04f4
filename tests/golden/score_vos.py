"""Run the official scorers of video object segmentation on the cases of ``masks.py``.

Each function takes the cases by name and returns the tool's values for each case and for the whole set. The tools are
imported from checkouts that ``make.py`` puts on the path.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.folder import write_davis, write_pngs
from tests.golden.masks import VOID, Case

Scores = tuple[dict[str, Any], dict[str, Any]]  # of each case, and of the set

UNSEEN = ("p02_dilate480", "p05_empty", "p08_three_absent", "p11_spurious_id", "p14_vanish_return")  # for LVOS
LVOS_STEP = 5  # its annotated frames are 1, 6, 11, ...


def objects(case: Case) -> list[int]:
    """Return the ids of the annotated objects."""
    return [int(i) for i in np.unique(case.gt) if i not in (0, VOID)]


def per_frame(cases: dict[str, Case]) -> Scores:
    """J and F of every frame, rows are objects, by the functions of davis2017-evaluation."""
    from davis2017.metrics import db_eval_boundary, db_eval_iou

    out = {}
    for name, case in cases.items():
        scores: dict[str, Any] = {"objects": objects(case)}
        void = case.gt == VOID
        for suffix, ignored in (("", None), *([("_void", void)] if void.any() else [])):
            pairs = [(case.gt == i, case.pred == i) for i in objects(case)]
            scores["J" + suffix] = [db_eval_iou(*pair, ignored).tolist() for pair in pairs]
            scores["F" + suffix] = [db_eval_boundary(*pair, ignored).tolist() for pair in pairs]
        out[name] = scores
    return out, {}


def davis2017(cases: dict[str, Case]) -> Scores:
    """Mean, recall and decay of each object; None where the tool refuses an id that the first frame does not have."""
    from davis2017.evaluation import DAVISEvaluation

    out: dict[str, Any] = {}
    for name, case in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "davis"
            write_davis(root, {name: case})
            evaluation = DAVISEvaluation(str(root), "semi-supervised", "val", codalab=True)
            try:
                found = evaluation.evaluate(str(root / "pred"))
            except SystemExit:
                out[name] = None
                continue
        out[name] = {
            str(i): {m: {s: found[m][s][row] for s in "MRD"} for m in "JF"}
            for row, i in enumerate(range(1, len(found["J"]["M"]) + 1))
        }
    accepted = [name for name, scores in out.items() if scores]
    short = [name for name in accepted if len(cases[name].gt) < 256]
    return out, {"davis2017_semi_with_long": means(out, accepted), "davis2017_semi": means(out, short)}


def means(scores: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return the means over all objects of the cases, as evaluation_method.py of davis2017-evaluation takes them."""
    rows = [one for name in names for one in scores[name].values()]
    found = {(m, s): float(np.mean([row[m][s] for row in rows])) for m in "JF" for s in "MRD"}
    words = {"M": "Mean", "R": "Recall", "D": "Decay"}
    out = {f"{m}-{words[s]}": value for (m, s), value in found.items()}
    return {"cases": names, "J&F-Mean": (found["J", "M"] + found["F", "M"]) / 2, **out}


def decay_without_wrap(scores: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Decay with bin edges that do not wrap at 256 frames. This is not official."""
    out = {}
    for row, i in enumerate(scores["objects"]):
        out[str(i)] = {}
        for measure in "JF":
            values = np.array(scores[measure][row])[1:-1]
            edges = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(int)
            first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
            out[str(i)][measure] = float(first.mean() - last.mean())
    return out


def vos_benchmark(cases: dict[str, Case], skip: bool) -> Scores:
    """J and F of each object in percent by vos-benchmark, for which 255 is an object."""
    from vos_benchmark.benchmark import benchmark

    with tempfile.TemporaryDirectory() as folder:
        roots = [Path(folder) / kind for kind in ("gt", "pred")]
        for name, case in cases.items():
            write_pngs(roots[0] / name, case.gt)
            write_pngs(roots[1] / name, case.pred)
        found = benchmark([str(roots[0])], [str(roots[1])], num_processes=2, verbose=False, skip_first_and_last=skip)
    both, j, f, each = (values[0] for values in found)
    out = {name: {m: by_object(values) for m, values in zip("JF", pair, strict=True)} for name, pair in each.items()}
    key = "vos_benchmark_skip" if skip else "vos_benchmark_all"
    return out, {key: {"cases": sorted(cases), "J&F": both, "J": j, "F": f}}


def by_object(values: dict[Any, float]) -> dict[str, float]:
    """Return scores by id, in the order of the ids."""
    return {str(i): float(values[i]) for i in sorted(values)}


def sav(cases: dict[str, Case]) -> Scores:
    """J and F of each object in percent by the SA-V evaluator, which takes one folder of masks an object."""
    from utils.sav_benchmark import benchmark

    with tempfile.TemporaryDirectory() as folder:
        roots = [Path(folder) / kind for kind in ("gt", "pred")]
        for name, case in cases.items():
            for i in objects(case):
                write_pngs(roots[0] / name / f"{i:03d}", (case.gt == i).astype(np.uint8))
                write_pngs(roots[1] / name / f"{i:03d}", (case.pred == i).astype(np.uint8))
        found = benchmark([str(roots[0])], [str(roots[1])], num_processes=2, verbose=False)
    both, j, f, each = (values[0] for values in found)
    out = {name: {m: by_object(values) for m, values in zip("JF", pair, strict=True)} for name, pair in each.items()}
    return out, {"sav": {"cases": sorted(cases), "J&F": both, "J": j, "F": f}}


def vost(cases: dict[str, Case]) -> Scores:
    """[mean, recall, decay] of J and of J in the last quarter, for each object of the first frame."""
    from source.evaluation import Evaluation

    out: dict[str, Any] = {}
    for name, case in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_pngs(root / "Annotations" / name, case.gt)
            write_pngs(root / "pred" / name, case.pred)
            (root / "ImageSets").mkdir()
            (root / "ImageSets" / "val.txt").write_text(name)
            found = Evaluation(str(root), "val").evaluate(str(root / "pred"))
        out[name] = {
            str(row + 1): {m: [found[m][s][row] for s in "MRD"] for m in ("J", "J_last")}
            for row in range(len(found["J"]["M"]))
        }
    rows = [one for scores in out.values() for one in scores.values()]
    suite = {
        f"{m}-{word}": float(np.mean([row[m][column] for row in rows]))
        for m in ("J", "J_last")
        for column, word in enumerate(("Mean", "Recall", "Decay"))
    }
    return out, {"vost": {"cases": list(cases), **suite}}


def lvos(cases: dict[str, Case]) -> Scores:
    """J, F and V of each object by lvos-evaluation; a case with void pixels is left out."""
    from lvos.evaluation import LVOSEvaluation

    cases = {name: case for name, case in cases.items() if VOID not in case.gt}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        videos = {}
        for name, case in cases.items():
            frames = [f"{1 + LVOS_STEP * n:08d}" for n in range(len(case.gt))]
            write_pngs(root / "Annotations" / name, case.gt, frames)
            write_pngs(root / "pred" / name, case.pred, frames)
            videos[name] = {"objects": {str(i): {"frame_range": seen_range(case, i, frames)} for i in objects(case)}}
        (root / "valid_meta.json").write_text(json.dumps({"videos": videos}))
        (root / "unseen_videos.txt").write_text("\n".join(UNSEEN))
        (root / "unsupervised_videos.txt").write_text("")
        evaluation = LVOSEvaluation(str(root), "semi-supervised", "valid", codalab=True)
        found, seen, unseen = evaluation.evaluate(str(root / "pred"))
    out = {
        name: {
            str(i): {m: float(found[m]["M_per_object"][f"{name}_{row + 1}"]) for m in "JFV"}
            for row, i in enumerate(objects(case))
        }
        for name, case in cases.items()
    }
    suite: dict[str, Any] = {"cases": sorted(cases), "unseen": list(UNSEEN)}
    for m in "JFV":
        groups = float(np.mean(seen[m]["M"])), float(np.mean(unseen[m]["M"]))
        suite |= {f"{m}-Mean": sum(groups) / 2, f"{m}-seen-Mean": groups[0], f"{m}-unseen-Mean": groups[1]}
    suite["J&F-Mean"] = (suite["J-Mean"] + suite["F-Mean"]) / 2
    return out, {"lvos": suite}


def seen_range(case: Case, i: int, frames: list[str]) -> dict[str, str]:
    """Return the range of frames of an object: from where it is first visible to the end."""
    first = int(np.flatnonzero((case.gt == i).any((1, 2)))[0])
    return {"start": frames[first], "end": frames[-1], "frame_nums": str(len(frames) - first)}


def mose_v2(cases: dict[str, Case]) -> Scores:
    """The seven values of the MOSE v2 scorer for each object, before they are rounded."""
    from score import MAX_FRAMES_PER_CHUNK, merge_chunk_results, process_video_chunk

    keys = ("J", "F_dot", "F", "J_disappear", "F_dot_disappear", "J_reappear", "F_dot_reappear")
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        gt_root, pred_root = (Path(folder) / kind for kind in ("gt", "pred"))
        for name, case in cases.items():
            write_pngs(gt_root / name, case.gt)
            write_pngs(pred_root / name, case.pred)
            frames, height, width = case.gt.shape
            meta = {name: {"length": frames, "height": height, "width": width}}
            out[name] = {}
            for i in objects(case):
                chunks = [
                    process_video_chunk(
                        name, meta, str(pred_root), str(gt_root), n, min(n + MAX_FRAMES_PER_CHUNK, frames - 1), i, 0
                    )
                    for n in range(1, frames - 1, MAX_FRAMES_PER_CHUNK)
                ]
                out[name][str(i)] = dict(zip(keys, merge_chunk_results(chunks, name, i), strict=True))
    return out, {"mose_v2": {"cases": list(cases), **mose_means(out)}}


def mose_means(scores: dict[str, Any]) -> dict[str, float]:
    """Return the means over objects in percent, as score.py of MOSE-api takes them."""
    rows = [one for case in scores.values() for one in case.values()]

    def mean(key: str) -> float:
        return 100 * float(np.mean([row[key] for row in rows if row[key] is not None]))

    out = {key: mean(key) for key in ("J", "F_dot", "F")}
    out |= {"J&F_dot": (out["J"] + out["F_dot"]) / 2, "J&F": (out["J"] + out["F"]) / 2}
    for part in ("disappear", "reappear"):
        out[f"J&F_dot_{part}"] = (mean(f"J_{part}") + mean(f"F_dot_{part}")) / 2
    return out


def score(cases: dict[str, Case]) -> dict[str, Any]:
    """Return what ``vos_expected.json`` holds, without the versions of the tools."""
    tools = {
        "per_frame": per_frame(cases),
        "davis2017": davis2017(cases),
        "vos_benchmark_skip": vos_benchmark(cases, skip=True),
        "vos_benchmark_all": vos_benchmark(cases, skip=False),
        "sav": sav(cases),
        "vost": vost(cases),
        "lvos": lvos(cases),
        "mose_v2": mose_v2(cases),
    }
    out: dict[str, Any] = {}
    for name, case in cases.items():
        described = {"description": case.description, "sha256": case.sha256}
        out[name] = described | {key: each[name] for key, (each, _) in tools.items() if name in each}
        if len(case.gt) > 256:
            out[name]["decay_without_uint8_wrap"] = decay_without_wrap(out[name]["per_frame"])
    return {"cases": out, "suite": {key: value for _, suite in tools.values() for key, value in suite.items()}}
