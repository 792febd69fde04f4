"""Run the official DeAOT and this project's on the same seeded weights and clips; compare, record or time them.

    python benchmarks/parity_deaot.py --official PATH/TO/aot-benchmark [--record tests/golden/deaot] [--time]

The official code (github.com/yoxu515/aot-benchmark, BSD-3-Clause) is not part of this project: unpack a checkout and
pass its path. It runs in this process on the CPU in float32, with its own fallback for the correlation extension.
Memory per object is DMAOT's (yamy-cheng/DMAOT-VOTS2023, BSD-3-Clause):

    python benchmarks/parity_deaot.py --official PATH/TO/DMAOT-VOTS2023/dmaot --cases "DM L"
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.checkpoints import load_state, load_strict
from common.video import Video
from methods.hqsmem.deaot.network import DeAOT
from methods.hqsmem.deaot.weights import released_state
from methods.hqsmem.preprocessing import prepare
from tests.support.seeded_deaot import (
    CASES,
    Case,
    case_video,
    prompt_masks_at,
    seed_official,
    seed_ours,
    summarise,
    tracker_of,
)


def official_model(case: Case) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """Build the official network with the weights of a case; return it and its state dict."""
    config = importlib.import_module(f"configs.models.{case.official}").ModelConfig()
    defaults = importlib.import_module("configs.default").DefaultEngineConfig("parity", case.official)
    for name, value in vars(defaults).items():
        setattr(config, name, value)
    config.TEST_LONG_TERM_MEM_MAX = case.capacity
    models = importlib.import_module("networks.models.deaot")
    network = models.DeAOT(config, encoder=config.MODEL_ENCODER).eval()
    state = seed_official(network.state_dict(), case)
    network.load_state_dict(state)
    return network, state


def record_logits(decoder: torch.nn.Module) -> list[Tensor]:
    """Return a list to which the decoder appends its logits (11, H / 4, W / 4), for each engine and predicted frame."""
    out: list[Tensor] = []
    decoder.register_forward_hook(lambda _, __, logits: out.append(logits[0].clone()))
    return out


@torch.inference_mode()
def official_run(case: Case, video: Video, network: torch.nn.Module) -> tuple[list[Tensor], list[Tensor], float]:
    """Track like the official evaluator; return logits at stride 4, label maps, and seconds per frame."""
    from networks.engines import build_engine

    engine = build_engine(
        "dmdeaotengine" if case.capacity else "deaotengine",
        phase="eval",
        aot_model=network,
        gpu_id=0,
        long_term_mem_gap=case.gap or 9999,
        short_term_mem_skip=case.skip,
    )
    engine.eval()
    logits, labels, start = record_logits(network.decoder), [], 0.0
    for index, frame in enumerate(video):
        if index == 1:
            start = time.process_time()
        image, prompt_masks = prepare(frame, case.size), prompt_masks_at(case, video, index)
        label = torch.zeros(1, 1, *case.size)
        if index:
            engine.match_propogate_one_frame(image)
            merged = engine.decode_current_logits(case.size)
            label = merged.softmax(1).argmax(1, keepdim=True).float()
        for target, mask in prompt_masks.items():
            label[0, 0][mask] = target
        if prompt_masks:
            engine.add_reference_frame(image, label, obj_nums=[int(label.max())], frame_step=index)
        if index:
            engine.update_memory(label)
        labels.append(label[0, 0].long())
    return logits, labels, (time.process_time() - start) / max(1, len(labels) - 1)


@torch.inference_mode()
def our_run(case: Case, video: Video, network: DeAOT) -> tuple[list[Tensor], list[Tensor], float]:
    """Track with this project's network; see ``official_run``."""
    tracker = tracker_of(case, network)
    logits, labels, start = record_logits(network.decoder), [], 0.0
    for index, frame in enumerate(video):
        if index == 1:
            start = time.process_time()
        prompt_masks = prompt_masks_at(case, video, index)
        prob = tracker.predict(frame)
        ids = torch.tensor([0, *tracker.targets])
        label = ids[prob.argmax(0)]
        for target, mask in prompt_masks.items():
            label[mask] = target
        tracker.write(label, new_targets=list(prompt_masks))
        labels.append(label)
    return logits, labels, (time.process_time() - start) / max(1, len(labels) - 1)


def compare(name: str, case: Case) -> tuple[bool, dict[str, Any]]:
    """Print the largest differences of a case; return whether they are too large, and values and names to record."""
    network, state = official_model(case)
    video, ours = case_video(case), seed_ours(case)
    with tempfile.TemporaryDirectory() as folder:  # loaded from a file, so that the translation of names is tested too
        torch.save({"state_dict": state}, file := Path(folder) / "official.pth")
        for value in ours.parameters():
            value.data.fill_(float("nan"))
        load_strict(ours, released_state(ours, load_state(file), file), file)
    theirs, their_labels, _ = official_run(case, video, network)
    mine, labels, _ = our_run(case, video, ours)
    differ = max(float((a - b).abs().max()) for a, b in zip(theirs, mine, strict=True))
    pixels = sum(int((a != b).sum()) for a, b in zip(their_labels, labels, strict=True))
    seen = [len(label.unique()) for label in labels]
    largest = max(float(a.abs().max()) for a in theirs)
    print(
        f"{name}: {len(labels)} frames, {min(seen)} to {max(seen)} labels a frame, {len(state)} entries, logits up to "
        f"{largest:.1f} within {differ:.1e}, {pixels} pixels differ",
        flush=True,
    )
    return differ > 1e-4 or pixels > 0, {
        "logits": summarise(mine),
        "names": {k: list(v.shape) for k, v in state.items()},
    }


def speed() -> int:
    """Print the CPU time per frame of both, run alternately, best of two runs, while the long-term memory grows."""
    torch.set_num_threads(1)
    for name, size in (("L", (241, 433)), ("R50-L", (241, 433)), ("SwinB-L", (240, 432)), ("L", (481, 849))):
        case = replace(CASES[name], size=size, frames=5)
        video, best = case_video(case), [math.inf, math.inf]
        theirs, ours = official_model(case)[0], seed_ours(case)
        for _ in range(2):
            best[0] = min(best[0], official_run(case, video, theirs)[2])
            best[1] = min(best[1], our_run(case, video, ours)[2])
        print(f"{name}, {size}: {best[1]:.2f} s a frame, {best[0] / best[1]:.2f} times as fast", flush=True)
    return 0


def main() -> int:
    """Run the command line; return 1 if a case differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--official", type=Path, required=True, help="an unpacked aot-benchmark checkout")
    parser.add_argument("--record", type=Path, help="write our values and the released names into this folder")
    parser.add_argument("--time", action="store_true", help="time both instead")
    parser.add_argument("--cases", nargs="*", default=[name for name in CASES if not name.startswith("DM")])
    args = parser.parse_args()
    sys.path.insert(0, str(args.official))
    if args.time:
        return speed()
    logits, names, failed = {}, {}, False
    for name in args.cases:
        bad, record = compare(name, CASES[name])
        failed |= bad
        logits[name], names[CASES[name].variant] = record["logits"], record["names"]
    if args.record:
        args.record.mkdir(parents=True, exist_ok=True)
        for name, new in (("expected.json", logits), ("names.json", names)):
            path = args.record / name
            old = json.loads(path.read_text()) if path.is_file() else {}
            path.write_text(json.dumps(old | new) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
