"""SAM-HQ against the released program (SysCV/sam-hq, Apache-2.0) on the same seeded weights and image.

    python benchmarks/parity_sam_hq.py --official PATH/TO/sam-hq              # ViT-B at 1024 pixels
    python benchmarks/parity_sam_hq.py --official PATH/TO/sam-hq --record tests/golden/sam_hq/expected.safetensors

The record is of a small trunk at 128 pixels. Of the released program only ``segment_anything/modeling`` is imported.
"""

from __future__ import annotations

import argparse
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from methods.hqsmem.refinement.weights import from_sam_hq
from tests.support.seeded_sam_hq import BASE, SMALL, Sizes, build, prompts, seed


def released(path: Path, sizes: Sizes) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Build the image encoder, prompt encoder and mask decoder of the released program."""
    sys.path.insert(0, str(path))
    package = types.ModuleType("segment_anything")  # its __init__ needs torchvision and timm, which the networks do not
    package.__path__ = [str(path / "segment_anything")]
    modeling = types.ModuleType("segment_anything.modeling")
    modeling.__path__ = [str(path / "segment_anything" / "modeling")]
    sys.modules |= {"segment_anything": package, "segment_anything.modeling": modeling}
    from segment_anything.modeling.image_encoder import ImageEncoderViT
    from segment_anything.modeling.mask_decoder_hq import MaskDecoderHQ
    from segment_anything.modeling.prompt_encoder import PromptEncoder
    from segment_anything.modeling.transformer import TwoWayTransformer

    grid = sizes.side // 16
    encoder = ImageEncoderViT(
        img_size=sizes.side,
        embed_dim=sizes.width,
        depth=sizes.depth,
        num_heads=sizes.heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=sizes.whole,
    )
    prompt_encoder = PromptEncoder(
        embed_dim=256, image_embedding_size=(grid, grid), input_image_size=(sizes.side,) * 2, mask_in_chans=16
    )
    decoder = MaskDecoderHQ(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        transformer_dim=256,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
        vit_dim=sizes.width,
    )
    return encoder.eval(), prompt_encoder.eval(), decoder.eval()


def answer(parts: tuple[Any, Any, Any], image: Tensor, boxes: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
    """Return logits (N, K, S/4, S/4) and predicted IoUs (N, K) of the released program; K = 1 is the best of three."""
    encoder, prompt_encoder, decoder = parts
    embedding, intermediate = encoder(image)
    sparse, dense = prompt_encoder(points=None, boxes=boxes, masks=None)
    logits, ious = decoder(
        image_embeddings=embedding,
        image_pe=prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
        hq_token_only=False,
        interm_embeddings=intermediate,
    )
    return logits, ious


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, required=True)
    parser.add_argument("--record", type=Path, help="write the released program's values of the small network here")
    args = parser.parse_args()
    sizes = SMALL if args.record else BASE
    parts = released(args.official, sizes)
    names = ("image_encoder", "prompt_encoder", "mask_decoder")
    state = {
        f"{name}.{key}": value
        for name, part in zip(names, parts, strict=True)
        for key, value in part.state_dict().items()
    }
    mapped = from_sam_hq(state)
    network = build(sizes)
    seed(network)
    ours = network.state_dict()
    for key, value in state.items():  # the released program gets our seeded values
        value.copy_(ours[next(iter(from_sam_hq({key: value})))])
    assert mapped.keys() == ours.keys(), mapped.keys() ^ ours.keys()
    image, boxes = prompts(sizes)
    record = {}
    with torch.inference_mode():
        for multimask in (False, True):
            logits, ious = answer(parts, image, boxes, multimask)
            out = network(pixel_values=image, input_boxes=boxes[None], multimask_output=multimask)
            mine = out.pred_masks[0][:, : logits.shape[1]]
            # of three masks the released program returns the best, transformers all by descending predicted IoU
            record |= {f"logits {multimask}": logits.contiguous(), f"ious {multimask}": ious.contiguous()}
            difference, size = float((mine - logits).abs().max()), float(logits.abs().mean())
            pixels = int(((mine > 0) ^ (logits > 0)).sum())
            iou_difference = float((out.iou_scores[0][:, : ious.shape[1]] - ious).abs().max())
            print(
                f"multimask {multimask}: logits differ by {difference:.2g} (mean size {size:.2g}), {pixels} of "
                f"{logits.numel()} pixels, predicted IoUs by {iou_difference:.2g}"
            )
    if args.record:
        args.record.parent.mkdir(parents=True, exist_ok=True)
        save_file(record, args.record)


if __name__ == "__main__":
    main()
