"""Run the official SAM2Long beside ours on the same seeded weights and clips, and compare or record.

    python benchmarks/parity_sam2long.py --official PATH/TO/SAM2Long [--record tests/golden/sam2long/expected.json]

The official code (github.com/Mark12Ding/SAM2Long, CC BY-NC 4.0) is not part of this project: unpack a checkout and give
its path. It runs in this process on the CPU in float32, with torch's ordinary attention kernels in place of the
slow one that its wrapper insists on without CUDA (same result to 1e-6). Nothing of it is kept but the numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.nn.sam2 import SAM2
from common.video.masks import rle_encode
from methods.sam2long.picks import TreeSettings
from methods.sam2long.session import SAM2LongSession
from tests.support.seeded import CASES, case_video, seed_official, seed_ours


def official_run(predictor, folder: str, mask: torch.Tensor, settings: TreeSettings) -> dict:
    """Masks, per-slot scores and the best pathway's slots from the official predictor."""
    with torch.inference_mode():
        state = predictor.init_state(video_path=folder)
        state["num_pathway"], state["iou_thre"] = settings.pathways, settings.iou_threshold
        state["uncertainty"] = settings.confidence
        predictor.add_new_mask(state, 0, 1, mask)
        picks = {}
        run = predictor._run_single_frame_inference

        def spy(*args, **kwargs):
            out = run(*args, **kwargs)
            picks["last"] = out[2]
            return out

        predictor._run_single_frame_inference = spy
        start = time.perf_counter()
        _, masks = predictor.propagate_in_video(state)
        seconds = time.perf_counter() - start
        predictor._run_single_frame_inference = run
        outputs = state["output_dict"]["non_cond_frame_outputs"]
        totals = [float(s) for s in outputs[len(masks) - 1]["acc_score"]]
        path = picks["last"][0]
        chain = [outputs[t] for t in range(1, len(masks))]
        return {
            "masks": torch.stack([m[0, 0] > 0 for m in masks]),
            "totals": totals,
            "scores": [float(o["object_score_logits"][..., path[t]]) for t, o in enumerate(chain, 1)],
            "seconds": seconds / (len(masks) - 1),
        }


def our_run(model: SAM2, video, settings: TreeSettings) -> dict:
    """The same from our session."""
    session = SAM2LongSession(model, settings, length=len(video))
    answers, distinct = [], []
    start = time.perf_counter()
    for index, frame in enumerate(video):
        answers += session.step(frame, video.prompts if index == 0 else ())
        distinct.append(len(session.trees[1].nodes))
    answers += session.finish()
    seconds = time.perf_counter() - start
    return {
        "masks": torch.cat([a.masks for a in answers]),
        "totals": [path.total for path in session.trees[1].pathways],
        "scores": [float(a.scores) for a in answers[1:]],
        "distinct": distinct,
        "seconds": seconds / (len(video) - 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, required=True, help="an unpacked SAM2Long checkout")
    parser.add_argument("--record", type=Path, help="write the official values here")
    args = parser.parse_args()
    sys.path.insert(0, str(args.official))
    from sam2.build_sam import build_sam2_video_predictor
    from sam2.modeling.sam import transformer

    transformer.sdp_kernel_context = lambda dropout_p: nullcontext()
    record, failed = {}, False
    for name, case in CASES.items():
        predictor = build_sam2_video_predictor(
            "configs/sam2.1/sam2.1_hiera_t.yaml", None, device="cpu", apply_postprocessing=False
        )
        predictor.load_state_dict(seed_official(predictor.state_dict(), case))
        model = seed_ours(SAM2("tiny", "2.1"), case)
        video = case_video(case)
        with tempfile.TemporaryDirectory() as folder:
            for index, frame in enumerate(video):  # PNG data under the name the loader wants, so that nothing is lost
                Image.fromarray(frame.numpy()).save(f"{folder}/{index:05d}.jpg", format="PNG")
            theirs = official_run(predictor, folder, video.prompts[0].mask, case.settings)
        ours = our_run(model, video, case.settings)
        differ = int((ours["masks"] != theirs["masks"]).sum())
        drift = max(abs(a - b) for a, b in zip(ours["totals"], theirs["totals"], strict=True))
        score = max(abs(a - b) for a, b in zip(ours["scores"], theirs["scores"], strict=True))
        print(
            f"{name}: {len(video)} frames, pixels that differ {differ}, S differs by {drift:.1e}, occlusion score by "
            f"{score:.1e}, distinct pathways {ours['distinct']}, certain frames "
            f"{sum(abs(s) > case.settings.confidence for s in theirs['scores'])}, seconds a frame "
            f"{theirs['seconds']:.2f} official, {ours['seconds']:.2f} ours",
            flush=True,
        )
        failed |= differ > 0
        record[name] = {
            "totals": theirs["totals"],
            "scores": theirs["scores"],
            "masks": [rle["counts"] for rle in rle_encode(theirs["masks"])],
        }
    if args.record:
        args.record.parent.mkdir(parents=True, exist_ok=True)
        args.record.write_text(json.dumps(record, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
