"""Run the official Cutie beside our core on the same seeded weights and clips, and compare or record.

    python benchmarks/parity_sslvos.py --official PATH/TO/Cutie [--record tests/golden/sslvos/expected.json]

The official code (github.com/hkchengrex/Cutie, MIT) is not part of this project: unpack a checkout, install omegaconf,
and give its path. It runs in this process on the CPU in float32; its trunks are made without downloading weights.
Nothing of it is kept but the numbers.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.checkpoints import load_state, load_strict
from common.video import Video
from methods.sslvos.settings import LongTermSettings
from methods.sslvos.tracker import Tracker
from methods.sslvos.weights import cutie_state
from tests.support.seeded_sslvos import CASES, Case, case_video, prompts_at, seed_official, seed_ours, summarise


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


@torch.inference_mode()
def official_run(case: Case, video: Video, core) -> list[torch.Tensor]:
    """Probabilities of every frame."""
    out = []
    for index, frame in enumerate(video):
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
            core.last_mask = core.last_mask[:, 1:]  # else the next frame reads the dropped target's as the other's
    return out


@torch.inference_mode()
def our_run(case: Case, video: Video, core) -> list[torch.Tensor]:
    """The same from ours."""
    tracker, out = Tracker(core, case.memory, None, case.flip), []
    for index, frame in enumerate(video):
        out.append(tracker.step(frame, prompts_at(case, video, index)))
        if index == case.drop:
            tracker.drop(1)
    return out


def compare(name: str, case: Case) -> tuple[bool, dict]:
    """Print the largest differences of a case; True if they are too large."""
    _, state, official = official_model(case)
    video, ours = case_video(case), seed_ours(case)
    with tempfile.TemporaryDirectory() as folder:  # through the file, so that the names are proven too
        torch.save(state, file := Path(folder) / "cutie.pth")
        for value in ours.parameters():
            value.data.fill_(float("nan"))
        load_strict(ours, cutie_state(ours, load_state(file)), file)
    theirs = official_run(case, video, official)
    mine = our_run(case, video, ours)
    differ = max(float((a - b).abs().max()) for a, b in zip(theirs, mine, strict=True))
    pixels = sum(int((a.argmax(0) != b.argmax(0)).sum()) for a, b in zip(theirs, mine, strict=True))
    seen = sum(bool(a.argmax(0).any()) for a in theirs)
    print(
        f"{name}: {len(mine)} frames, {seen} with a target, probabilities within {differ:.1e}, {pixels} pixels differ"
    )
    return differ > 1e-4, summarise(theirs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, required=True, help="an unpacked Cutie checkout")
    parser.add_argument("--record", type=Path, help="write the official values here")
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    args = parser.parse_args()
    sys.path.insert(0, str(args.official))
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.disable(logging.WARNING)
    record, failed = {}, False
    for name in args.cases:
        bad, record[name] = compare(name, CASES[name])
        failed |= bad
    if args.record:
        args.record.parent.mkdir(parents=True, exist_ok=True)
        args.record.write_text(json.dumps(record) + "\n")
        state = official_model(CASES["base"])[1]
        names = {key: list(value.shape) for key, value in state.items()}
        args.record.with_name("cutie_base_names.json").write_text(json.dumps(names) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
