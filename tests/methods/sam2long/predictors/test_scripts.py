"""Scripts written for the ``sam2`` package give the same results with their import lines changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.methods.sam2long.predictors.test_image import image
from tests.methods.sam2long.predictors.test_video import write_frames
from tests.support import sam2_package

pytestmark = [pytest.mark.parity, pytest.mark.slow]

IMPORTS = """
from sam2.build_sam import build_sam2, build_sam2_video_predictor
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
"""
OUR_IMPORTS = """
from methods.sam2long.predictor import build_sam2, build_sam2_video_predictor
from methods.sam2long.predictor import ImagePredictor as SAM2ImagePredictor
from methods.sam2long.predictor import AutomaticMaskGenerator as SAM2AutomaticMaskGenerator
"""
IMAGE = """
model = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", checkpoint, device="cpu", hydra_overrides_extra=[side])
predictor = SAM2ImagePredictor(model)
with torch.inference_mode():
    predictor.set_image(image)
    point, label = np.array([[80, 60]]), np.array([1])
    masks, scores, logits = predictor.predict(point_coords=point, point_labels=label, multimask_output=True)
    order = np.argsort(scores)[::-1]
    masks, scores, logits = masks[order], scores[order], logits[order]
    points, labels = np.array([[80, 60], [20, 20]]), np.array([1, 0])
    refined, _, _ = predictor.predict(
        point_coords=points, point_labels=labels, mask_input=logits[0, :, :][None, :, :], multimask_output=False
    )
    boxes = np.array([[50, 30, 120, 90], [5, 5, 60, 110]])
    several, several_scores, _ = predictor.predict(
        point_coords=None, point_labels=None, box=boxes, multimask_output=False
    )
    predictor.set_image_batch([image, image[:100, :90]])
    batch, _, _ = predictor.predict_batch(box_batch=[boxes, boxes[:1]], multimask_output=False)
results = [masks, scores, logits, refined, several, several_scores, *batch, predictor.get_image_embedding().numpy()]
"""
EVERYTHING = """
sam2 = build_sam2(
    "configs/sam2.1/sam2.1_hiera_t.yaml", checkpoint, device="cpu", hydra_overrides_extra=[side],
    apply_postprocessing=False,
)
mask_generator = SAM2AutomaticMaskGenerator(
    model=sam2, points_per_side=4, points_per_batch=8, pred_iou_thresh=0.2, stability_score_thresh=0.2,
    stability_score_offset=0.1, mask_threshold=4.0, crop_n_layers=1, box_nms_thresh=1.0,
    crop_n_points_downscale_factor=2,
)
anns = sorted(mask_generator.generate(image), key=lambda ann: ann["area"], reverse=True)
keys = ("area", "bbox", "predicted_iou", "point_coords", "crop_box")
results = [np.array([ann[key] for ann in anns]) for key in keys]
results += [ann["segmentation"] for ann in anns]
"""
VIDEO = """
predictor = build_sam2_video_predictor(
    "configs/sam2.1/sam2.1_hiera_t.yaml", checkpoint, device="cpu", hydra_overrides_extra=[side]
)
inference_state = predictor.init_state(video_path=video_dir)
predictor.reset_state(inference_state)
results = []

def keep(out_frame_idx, out_obj_ids, out_mask_logits):
    segments = {id: (out_mask_logits[i] > 0.0).cpu().numpy() for i, id in enumerate(out_obj_ids)}
    results.append(np.array([out_frame_idx, *out_obj_ids]))
    results.extend(segments.values())

box, points = np.array([50, 30, 120, 90], dtype=np.float32), np.array([[80, 60], [20, 10]], dtype=np.float32)
keep(*predictor.add_new_points_or_box(inference_state, 0, 1, box=box))
keep(*predictor.add_new_points_or_box(
    inference_state=inference_state, frame_idx=0, obj_id=2, points=points, labels=np.array([1, 0], np.int32)
))
for answer in predictor.propagate_in_video(inference_state):
    keep(*answer)
keep(*predictor.add_new_points_or_box(
    inference_state=inference_state, frame_idx=3, obj_id=2, points=points[:1], labels=np.array([0], np.int32)
))
for answer in predictor.propagate_in_video(inference_state, start_frame_idx=3):
    keep(*answer)
for answer in predictor.propagate_in_video(inference_state, start_frame_idx=4, reverse=True):
    keep(*answer)
ids, frames = predictor.remove_object(inference_state, 1)
results.append(np.array(ids))
for answer in predictor.propagate_in_video(inference_state):
    keep(*answer)
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """The seeded weights in the file that the package publishes."""
    pytest.importorskip("sam2.build_sam", reason="the sam2 package is not installed; `make parity` installs it")
    path = tmp_path_factory.mktemp("weights") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": sam2_package.seeded_pair()[0].state_dict()}, path)
    return str(path)


@pytest.mark.parametrize("name", ["IMAGE", "EVERYTHING", "VIDEO"])
def test_same_results(name, checkpoint, tmp_path, monkeypatch):
    predictors = sam2_package.package_module("sam2.sam2_image_predictor")
    sam2_package.package_module("sam2.automatic_mask_generator")
    monkeypatch.setattr("sam2.utils.misc.get_connected_components", sam2_package.connected_components)
    side = sam2_package.VIDEO_SIDE if name == "VIDEO" else sam2_package.SIDE
    build = predictors.SAM2ImagePredictor.__init__

    def any_side(self: Any, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        self._bb_feat_sizes = [(side // stride,) * 2 for stride in (4, 8, 16)]  # written for 1024 pixels only

    monkeypatch.setattr(predictors.SAM2ImagePredictor, "__init__", any_side)
    given = {
        "np": np,
        "torch": torch,
        "image": image(),
        "checkpoint": checkpoint,
        "side": f"++model.image_size={side}",
        "video_dir": write_frames(tmp_path, 6),
    }
    theirs, ours = dict(given), dict(given)
    exec(IMPORTS + globals()[name], theirs)
    exec(OUR_IMPORTS + globals()[name], ours)
    assert len(ours["results"]) == len(theirs["results"]) > 6
    differ = 0
    for a, b in zip(ours["results"], theirs["results"], strict=True):
        assert a.shape == b.shape
        if a.dtype == bool:
            differ += int((a != b).sum())
        else:
            np.testing.assert_allclose(a, b, atol=1e-3)
    assert differ <= 2, "more pixels differ than rounding explains"
