"""Run the official Cutie beside our core on the same seeded weights and clips, and compare, record or time.

    python benchmarks/parity_sslvos.py --official PATH/TO/Cutie [--record tests/golden/sslvos/expected.json] [--time]

The official code (github.com/hkchengrex/Cutie, MIT) is not part of this project: unpack a checkout, install omegaconf,
and give its path. It runs in this process on the CPU in float32; its trunks are made without downloading weights.
Nothing of it is kept but the numbers.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import math
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.video import Video
from methods.sslvos.settings import CoreSettings, LongTermSettings, MemorySettings
from methods.sslvos.tracker import Tracker
from methods.sslvos.weights import load_cutie
from tests.methods.seeded_sslvos import CASES, Case, case_video, seed_official, seed_ours, summarise


def official_model(case: Case):
    """The official network and inference class with a case's settings and weights."""
    from cutie.inference.inference_core import InferenceCore
    from cutie.model.cutie import CUTIE
    from cutie.model.utils import resnet
    from omegaconf import OmegaConf

    for name in ("resnet18", "resnet50"):
        make = getattr(resnet, name)
        if not isinstance(make, functools.partial):
            setattr(resnet, name, functools.partial(_untrained, make))
    core, memory = case.core, case.memory
    long = memory.long_term or LongTermSettings()
    folder = Path(sys.modules["cutie"].__path__[0]) / "config" / "model"
    model = OmegaConf.load(folder / "base.yaml")
    model.pixel_encoder.type = f"resnet{case.trunk}"
    model.pixel_encoder.ms_dims = [1024, 512, 256] if case.trunk == 50 else [256, 128, 64]
    model.update({f"{name}_dim": getattr(core, name) for name in ("key", "value", "sensory", "pixel", "embed")})
    model.object_transformer.update(
        num_blocks=core.blocks, num_queries=core.queries, num_heads=core.heads, ff_dim=core.feedforward
    )
    model.mask_decoder.up_dims = [core.embed, *core.up]
    config = OmegaConf.create(
        {
            "model": model,
            "mem_every": memory.every,
            "stagger_updates": memory.stagger,
            "max_mem_frames": memory.frames,
            "top_k": memory.top_k,
            "use_long_term": memory.long_term is not None,
            "long_term": {
                "count_usage": True,
                "max_mem_frames": memory.frames,
                "min_mem_frames": long.keep,
                "num_prototypes": long.prototypes,
                "max_num_tokens": long.tokens,
                "buffer_tokens": long.spare,
            },
            "chunk_size": -1,
            "save_aux": False,
            "max_internal_size": -1,
            "flip_aug": case.flip,
        }
    )
    network = CUTIE(config).eval()
    state = seed_official(network.state_dict(), case)
    network.load_state_dict(state)
    return network, state, InferenceCore(network, config)


def _untrained(make, pretrained=True, extra_dim=0, model_dir=None):
    return make(pretrained=False, extra_dim=extra_dim)


def prompts_at(case: Case, video: Video, index: int) -> dict[int, torch.Tensor]:
    """Masks given at a frame: the second target's may come late, where the first frame's mask is its shape then."""
    masks = {prompt.target: prompt.mask for prompt in video.prompts}
    joins = {1: 0, 2: case.late}
    return {target: mask for target, mask in masks.items() if joins.get(target, 0) == index}


@torch.inference_mode()
def official_run(case: Case, video: Video, core) -> tuple[list[torch.Tensor], float]:
    """Probabilities of every frame, and seconds a frame after the first."""
    out, start = [], 0.0
    for index, frame in enumerate(video):
        if index == 1:
            start = time.perf_counter()
        given = prompts_at(case, video, index)
        image = frame.permute(2, 0, 1).float() / 255
        if given:
            labels = sum(mask.long() * target for target, mask in reversed(given.items()))
            prob = core.step(image, labels, list(given))
        else:
            prob = core.step(image)
        out.append(prob)
        if index == case.drop:
            core.delete_objects([1])
            core.last_mask = core.last_mask[:, 1:]  # it keeps the dropped target's and fails otherwise
    return out, (time.perf_counter() - start) / max(1, len(out) - 1)


@torch.inference_mode()
def our_run(case: Case, video: Video, core) -> tuple[list[torch.Tensor], float]:
    """The same from ours."""
    tracker, out, start = Tracker(core, case.memory, None, case.flip), [], 0.0
    for index, frame in enumerate(video):
        if index == 1:
            start = time.perf_counter()
        out.append(tracker.step(frame, prompts_at(case, video, index)))
        if index == case.drop:
            tracker.drop(1)
    return out, (time.perf_counter() - start) / max(1, len(out) - 1)


def compare(name: str, case: Case) -> tuple[bool, dict]:
    """Print the largest differences of a case; True if they are too large."""
    _, state, official = official_model(case)
    video, ours = case_video(case), seed_ours(case)
    with tempfile.TemporaryDirectory() as folder:  # through the file, so that the names are proven too
        torch.save(state, file := Path(folder) / "cutie.pth")
        for value in ours.parameters():
            value.data.fill_(float("nan"))
        load_cutie(ours, file)
    theirs, _ = official_run(case, video, official)
    mine, _ = our_run(case, video, ours)
    prob = max(float((a - b).abs().max()) for a, b in zip(theirs, mine, strict=True))
    logit = max(float((a.logit(1e-4) - b.logit(1e-4)).abs().max()) for a, b in zip(theirs, mine, strict=True))
    pixels = sum(int((a.argmax(0) != b.argmax(0)).sum()) for a, b in zip(theirs, mine, strict=True))
    shares = [
        [round(float(x), 2) for x in (p.argmax(0).flatten().bincount(minlength=len(p)) / p[0].numel())] for p in mine
    ]
    print(
        f"{name}: {len(mine)} frames, probability within {prob:.1e}, logit within {logit:.1e}, pixels {pixels}",
        flush=True,
    )
    print("   shares", shares)
    return prob > 1e-4 or logit > 1e-2, summarise(theirs)


def speed() -> int:
    """Seconds a frame of both, in turn, at the same trunk and memory: full widths, ResNet-18 and -50."""
    for trunk in (18, 50):
        for targets in (1, 3, 10):
            case = Case(trunk, CoreSettings(), MemorySettings(every=2, skip_absent=False), frames=8)
            video = case_video(case, targets)
            _, _, official = official_model(case)
            ours, best = seed_ours(case), [math.inf, math.inf]
            for _ in range(2):
                official.clear_memory()
                official.memory.clear_sensory_memory()
                official.object_manager.__init__()
                best[0] = min(best[0], official_run(case, video, official)[1])
                best[1] = min(best[1], our_run(case, video, ours)[1])
            print(f"ResNet-{trunk}, {targets} targets: ours {best[0] / best[1]:.2f} times as fast", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, required=True, help="an unpacked Cutie checkout")
    parser.add_argument("--record", type=Path, help="write the official values here")
    parser.add_argument("--time", action="store_true", help="time 1, 3 and 10 targets instead")
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    args = parser.parse_args()
    sys.path.insert(0, str(args.official))
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.disable(logging.WARNING)
    if args.time:
        return speed()
    record, failed = {}, False
    for name in args.cases:
        bad, record[name] = compare(name, CASES[name])
        failed |= bad
    if args.record:
        args.record.parent.mkdir(parents=True, exist_ok=True)
        args.record.write_text(json.dumps(record, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
