"""Run the official SAM2Long beside ours on the same seeded weights and clips, and compare or record.

    python benchmarks/parity_sam2long.py --official PATH/TO/SAM2Long [--cases NAME ...]
        [--record tests/golden/sam2long/expected.json]

The official code (github.com/Mark12Ding/SAM2Long, CC BY-NC 4.0) is not part of this project: unpack a checkout and give
its path. It runs in this process on the CPU in float32, with torch's ordinary attention kernels in place of the
slow one that its wrapper insists on without CUDA (same result to 1e-6), and, where a case is not at 1024 pixels, with
that size's number of tokens in place of its constant 4096. Nothing of it is kept but the numbers.
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
from methods.sam2long.session import SAM2LongSession
from tests.support.seeded import CASES, Case, case_prompts, case_video, seed_official, seed_ours

CONFIGS = {"2": "configs/sam2/sam2_hiera_t.yaml", "2.1": "configs/sam2.1/sam2.1_hiera_t.yaml"}


def official_run(predictor, folder: str, case: Case, prompt) -> dict:
    """Logits, per-slot scores and the best pathway's slots from the official predictor, for one target."""
    with torch.inference_mode():
        state = predictor.init_state(video_path=folder)
        state["num_pathway"], state["iou_thre"] = case.settings.pathways, case.settings.iou_threshold
        state["uncertainty"] = case.settings.confidence
        predictor.add_new_mask(state, case.start, 1, prompt.mask)
        picks = {}
        run = predictor._run_single_frame_inference

        def spy(*args, **kwargs):
            out = run(*args, **kwargs)
            picks["last"] = out[2]
            return out

        predictor._run_single_frame_inference = spy
        start = time.perf_counter()
        _, logits = predictor.propagate_in_video(state, start_frame_idx=case.start)
        seconds = time.perf_counter() - start
        predictor._run_single_frame_inference = run
        outputs = state["output_dict"]["non_cond_frame_outputs"]
        path = picks["last"][0]
        tracked = range(case.start + 1, case.frames)
        return {
            "logits": torch.stack([frame[0, 0] for frame in logits[-len(tracked) - 1 :]]),
            "totals": [float(s) for s in outputs[case.frames - 1]["acc_score"]],
            "scores": [float(outputs[t]["object_score_logits"][..., path[t]]) for t in tracked],
            "seconds": seconds / len(tracked),
        }


def our_run(model: SAM2, case: Case) -> dict:
    """The same from our session, all targets at once."""
    video = case_video(case)
    session = SAM2LongSession(model, case.settings, length=len(video))
    session.overlap = True  # the official program tracks one target at a time: no pixel goes from one to another
    answers, distinct = [], []
    start = time.perf_counter()
    for index, frame in enumerate(video):
        answers += session.step(frame, case_prompts(case) if index == case.start else ())
        distinct.append(max((len(tree.nodes) for tree in session.trees.values()), default=0))
    totals = [[path.total for path in tree.pathways] for tree in session.trees.values()]
    answers += session.finish()
    seconds = time.perf_counter() - start
    answers = answers[case.start :]
    return {
        "masks": torch.stack([answer.masks for answer in answers], 1),
        "totals": totals,
        "scores": torch.stack([answer.scores for answer in answers[1:]], 1).tolist(),
        "distinct": distinct,
        "seconds": seconds / (len(answers) - 1),
    }


def build(case: Case):
    """The official predictor with the weights of a case."""
    from sam2.build_sam import build_sam2_video_predictor
    from sam2.modeling.memory_attention import MemoryAttentionLayer

    predictor = build_sam2_video_predictor(
        CONFIGS[case.version],
        None,
        device="cpu",
        apply_postprocessing=False,
        hydra_overrides_extra=[f"++model.image_size={case.side}"],
    )
    predictor.load_state_dict(seed_official(predictor.state_dict(), case))
    code, tokens = MemoryAttentionLayer._forward_ca.__code__, (case.side // 16) ** 2
    constants = tuple(tokens if constant in (4096, build.tokens) else constant for constant in code.co_consts)
    MemoryAttentionLayer._forward_ca.__code__ = code.replace(co_consts=constants)
    build.tokens = tokens
    return predictor


build.tokens = 4096


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, required=True, help="an unpacked SAM2Long checkout")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    parser.add_argument("--record", type=Path, help="write the official values of these cases here")
    args = parser.parse_args()
    sys.path.insert(0, str(args.official))
    from sam2.modeling.sam import transformer

    transformer.sdp_kernel_context = lambda dropout_p: nullcontext()
    record, failed = {}, False
    for name in args.cases:
        case = CASES[name]
        predictor = build(case)
        with tempfile.TemporaryDirectory() as folder:
            for index, frame in enumerate(
                case_video(case)
            ):  # PNG data under the name the loader wants: nothing is lost
                Image.fromarray(frame.numpy()).save(f"{folder}/{index:05d}.jpg", format="PNG")
            theirs = [official_run(predictor, folder, case, prompt) for prompt in case_prompts(case)]
        official = torch.stack([run["logits"] > 0 for run in theirs])  # targets, frames, H, W
        ours = our_run(seed_ours(SAM2("tiny", case.version, case.side), case), case)
        differ = int((ours["masks"] != official).sum())
        pairs = list(zip(ours["totals"], theirs, strict=True))
        drift = max(abs(a - b) for mine, run in pairs for a, b in zip(mine, run["totals"], strict=True))
        pairs = list(zip(ours["scores"], theirs, strict=True))
        score = max(abs(a - b) for mine, run in pairs for a, b in zip(mine, run["scores"], strict=True))
        certain = sum(abs(s) > case.settings.confidence for run in theirs for s in run["scores"])
        print(
            f"{name}: {case.frames} frames, {len(theirs)} targets, pixels that differ {differ} of "
            f"{int(official.sum())} in masks, S differs by {drift:.1e}, "
            f"occlusion score by {score:.1e}, distinct pathways "
            f"{ours['distinct']}, certain frames {certain}, "
            f"seconds a frame {sum(run['seconds'] for run in theirs):.2f} official, "
            f"{ours['seconds']:.2f} ours",
            flush=True,
        )
        failed |= differ > 0
        record[name] = {
            "totals": [run["totals"] for run in theirs],
            "scores": [run["scores"] for run in theirs],
            "masks": [[rle["counts"] for rle in rle_encode(of_target)] for of_target in official],
        }
    if args.record:
        args.record.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(args.record.read_text()) if args.record.exists() else {}
        args.record.write_text(json.dumps(known | record, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
