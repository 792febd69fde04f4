"""Run the official SAMURAI or DAM4SAM beside ours on the same seeded weights and clips, and compare or record.

    python benchmarks/parity_samurai.py --method samurai --official PATH/TO/samurai [--record FILE]
    python benchmarks/parity_samurai.py --method dam4sam --official PATH/TO/DAM4SAM [--record FILE]
    python benchmarks/parity_samurai.py --method samurai --official PATH/TO/samurai --cases samurai --side 512

The official codes (github.com/yangchris11/samurai, Apache-2.0; github.com/jovanavidenovic/DAM4SAM, no licence) are
not part of this project: unpack a checkout and give its path. SAMURAI also needs loguru, DAM4SAM vot-toolkit 0.7.1.
They run on the CPU in float32 at 256 pixels, one target at a time, without post-processing; DAM4SAM's tracker, which
is written for a GPU, is given the CPU in its place and frames that are resized as SAM 2 does.

Of one target the median processor time of a tracked frame is printed too, of both in one process on one thread. Reading
the frames from files is not in it; resizing them is, for DAM4SAM and for ours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.nn.sam2 import SAM2
from common.video.masks import rle_encode
from methods.sam2long.session import SAM2LongSession
from tests.support.seeded import FAMILY_CASES, Case, case_prompts, case_video, seed_official, seed_ours


def timed(seconds: list[float], call: Callable, *args):
    """The result of a call, whose processor time is appended."""
    start = time.process_time()
    result = call(*args)
    seconds.append(time.process_time() - start)
    return result


def run_samurai(root: Path, case: Case, seconds: list[float]) -> list[torch.Tensor]:
    """Logits (frames, H, W) of each target from SAMURAI's predictor."""
    sys.path.insert(0, str(root / "sam2"))
    from sam2.build_sam import build_sam2_video_predictor

    out = []
    for prompt in case_prompts(case):
        predictor = build_sam2_video_predictor(  # anew: the filter is never reset
            "configs/samurai/sam2.1_hiera_t.yaml",
            None,
            device="cpu",
            apply_postprocessing=False,
            hydra_overrides_extra=[f"++model.image_size={case.side}"],
        )
        predictor.load_state_dict(seed_official(predictor.state_dict(), case))
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            for index, frame in enumerate(case_video(case)):
                Image.fromarray(frame.numpy()).save(f"{folder}/{index:05d}.jpg", format="PNG")
            state = predictor.init_state(folder)
            predictor.add_new_mask(state, 0, 1, prompt.mask)
            run = predictor.propagate_in_video(state)
            out.append(torch.stack([timed(seconds, next, run)[2][0, 0] for _ in range(case.frames)]))
    return out


def run_dam4sam(root: Path, case: Case, seconds: list[float]) -> list[torch.Tensor]:
    """Masks, as logits of 1 and -1, (frames, H, W) of each target from DAM4SAM's tracker."""
    sys.path.insert(0, str(root))
    # only resizes frames, which is replaced below; the tracker needs no more of it than its name
    sys.modules.setdefault("torchvision", ModuleType("torchvision"))
    for name in ("transforms", "transforms.functional"):
        sys.modules.setdefault(f"torchvision.{name}", ModuleType(name))
    for name in ("Normalize", "Resize", "ToTensor"):
        setattr(sys.modules["torchvision.transforms"], name, None)
    sys.modules["torchvision.transforms"].functional = sys.modules["torchvision.transforms.functional"]
    import dam4sam_tracker as official

    class OnCPU(SimpleNamespace):
        """torch, but every device is the CPU."""

        def __getattr__(self, name: str):
            return getattr(torch, name)

    official.torch = OnCPU(device=lambda name: torch.device("cpu"))
    torch.Tensor.cuda = lambda tensor, *args, **how: tensor
    build = sys.modules["sam2.build_sam"].build_sam2_video_predictor  # as it is, also for the second case
    ours = SAM2("tiny", case.version, case.side)

    def seeded_predictor(config, checkpoint, device):
        predictor = build(
            config,
            None,
            device="cpu",
            apply_postprocessing=False,
            hydra_overrides_extra=[f"++model.image_size={case.side}"],
        )
        predictor.load_state_dict(seed_official(predictor.state_dict(), case))
        return predictor

    official.build_sam2_video_predictor = seeded_predictor
    video, out = case_video(case), []
    images = [Image.fromarray(frame.numpy()) for frame in video]
    for prompt in case_prompts(case):
        tracker = official.DAM4SAMTracker("sam21pp-T")
        tracker._prepare_image = lambda image: ours.preprocess(
            torch.from_numpy(official.np.array(image)).permute(2, 0, 1)[None]
        )[0]
        masks = [tracker.initialize(images[0], prompt.mask.numpy())["pred_mask"]]
        masks += [timed(seconds, tracker.track, image)["pred_mask"] for image in images[1:]]
        print("frames of the DRM:", sorted(tracker.inference_state["output_dict"]["cond_frame_outputs"]), flush=True)
        out.append(torch.stack([torch.from_numpy(mask).float() * 2 - 1 for mask in masks]))
    return out


def our_run(case: Case, seconds: list[float]) -> tuple[list[torch.Tensor], SAM2LongSession]:
    """Masks (frames, H, W) of each target, and the session after the last frame."""
    video, session = (
        case_video(case),
        SAM2LongSession(seed_ours(SAM2("tiny", case.version, case.side), case), case.settings),
    )
    session.overlap = True
    answers = []
    for index, frame in enumerate(video):
        answers += timed(seconds, session.step, frame, case_prompts(case) if index == 0 else ())
    return list(torch.stack([answer.masks for answer in answers], 1)), session


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=("samurai", "dam4sam"), required=True)
    parser.add_argument("--official", type=Path, required=True, help="an unpacked checkout")
    parser.add_argument("--cases", nargs="+", choices=FAMILY_CASES, default=list(FAMILY_CASES), help="default: all")
    parser.add_argument("--side", type=int, help="another input size, to measure the time")
    parser.add_argument("--frames", type=int, help="another number of frames, likewise")
    parser.add_argument("--record", type=Path, help="write the official masks here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    record, failed = {}, False
    for name in args.cases:
        if not name.startswith(args.method):
            continue
        case = replace(
            FAMILY_CASES[name], **{key: getattr(args, key) for key in ("side", "frames") if getattr(args, key)}
        )
        their_seconds, our_seconds = [], []
        official = run_samurai if args.method == "samurai" else run_dam4sam
        theirs = official(args.official.resolve(), case, their_seconds)
        ours, session = our_run(case, our_seconds)
        differ = sum(int((mine != (logits > 0)).sum()) for mine, logits in zip(ours, theirs, strict=True))
        total = sum(int((logits > 0).sum()) for logits in theirs)
        memories = [[m.frame for m in tree.prompted] for tree in session.trees.values()]
        print(
            f"{name}: {case.frames} frames, pixels that differ {differ} of {total}, prompted memories {memories}",
            flush=True,
        )
        if case.targets == 1:
            theirs_ms, ours_ms = (
                1000 * statistics.median(s[-(case.frames - 1) :]) for s in (their_seconds, our_seconds)
            )
            print(f"  ms a frame: official {theirs_ms:.0f}, ours {ours_ms:.0f}, ratio {theirs_ms / ours_ms:.2f}")
        failed |= differ > 0
        record[name] = [[rle["counts"] for rle in rle_encode(logits > 0)] for logits in theirs]
    if args.record:
        known = json.loads(args.record.read_text()) if args.record.exists() else {}
        args.record.parent.mkdir(parents=True, exist_ok=True)
        args.record.write_text(json.dumps(known | record, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
