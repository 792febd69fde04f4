"""The mask generator: against the ``sam2`` package on seeded weights, and its parts by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from common.errors import InputError
from common.video.masks import boxes_from_masks
from methods.sam2long.predictor import AutomaticMaskGenerator
from methods.sam2long.predictors.generator import crop_boxes, suppress, uncompressed_rle
from tests.methods.sam2long.predictors.test_image import image
from tests.support import sam2_package
from tests.support.lively import lively_sam2

# random masks cover the image; their peaks are small
LOOSE = {
    "points_per_side": 4,
    "mask_threshold": 4.0,
    "pred_iou_thresh": 0.25,
    "stability_score_thresh": 0.3,
    "stability_score_offset": 0.1,
    "box_nms_thresh": 0.95,
}
CASES = {
    "plain": {},
    "all": {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "points_per_batch": 5},
    "crops": {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2, "output_mode": "coco_rle"},
    "refined": {"use_m2m": True, "pred_iou_thresh": 0.0, "box_nms_thresh": 1.0, "points_per_side": 3},
    "single": {"multimask_output": False, "output_mode": "uncompressed_rle", "box_nms_thresh": 1.0},
    "grids": {"points_per_side": None, "point_grids": [np.array([[0.3, 0.4], [0.7, 0.6], [0.1, 0.1]])]},
    "small regions": {"min_mask_region_area": 25},
}


def generators(settings):
    pytest.importorskip("sam2.build_sam", reason="the sam2 package is not installed; `make parity` installs it")
    module = sam2_package.package_module("sam2.automatic_mask_generator")
    official, ours = sam2_package.seeded_pair()
    theirs = module.SAM2AutomaticMaskGenerator(official, **settings)
    theirs.predictor._bb_feat_sizes = [(official.image_size // s,) * 2 for s in (4, 8, 16)]
    return theirs, AutomaticMaskGenerator(ours, **settings)


def binary(segmentation):
    """The mask (H, W) of any output mode."""
    if not isinstance(segmentation, dict):
        assert segmentation.dtype == bool
        return segmentation
    if isinstance(segmentation["counts"], list):
        segmentation = coco.frPyObjects(segmentation, *segmentation["size"])
    return coco.decode(segmentation).astype(bool)


@pytest.mark.parity
@pytest.mark.parametrize("name", CASES)
def test_same_masks_as_the_package(name, monkeypatch):
    theirs, ours = (generator.generate for generator in generators(LOOSE | CASES[name]))
    if "sam2.utils.misc" in sys.modules:
        monkeypatch.setattr("sam2.utils.misc.get_connected_components", sam2_package.connected_components)
    expected, got = theirs(image()), ours(image())
    assert len(got) == len(expected) > 1, "the case is trivial"
    for a, b in zip(got, expected, strict=True):
        assert a.keys() == b.keys()
        assert type(a["segmentation"]) is type(b["segmentation"])
        differ = int((binary(a["segmentation"]) ^ binary(b["segmentation"])).sum())
        assert differ <= 2  # rounding may move a logit across the threshold
        assert abs(a["area"] - b["area"]) <= differ
        for key in ("bbox", "crop_box", "point_coords", "predicted_iou"):
            np.testing.assert_allclose(a[key], b[key], atol=1e-4, err_msg=key)
        # a ratio of pixel counts; NaN for a mask without any
        assert a["stability_score"] == pytest.approx(b["stability_score"], abs=1e-3, nan_ok=True)


def test_crops_of_two_layers():
    crops = crop_boxes((60, 100), 2, 0.5)
    assert [layer for _, layer in crops] == [0, *[1] * 4, *[2] * 16]
    # first layer: overlap 30, 65 x 45 pixels, 35 and 15 pixels apart
    assert [box for box, _ in crops[:5]] == [
        (0, 0, 100, 60),
        (0, 0, 65, 45),
        (0, 15, 65, 60),
        (35, 0, 100, 45),
        (35, 15, 100, 60),
    ]
    assert max(box[2] for box, _ in crops) == 100


def test_suppression_keeps_the_better_of_two_duplicates():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 10, 6], [5, 5, 5, 5], [5, 5, 5, 5]])
    scores = torch.tensor([0.5, 0.9, 0.1, 0.4, 0.2, 0.2])
    # IoU with the second: .9, 0, .67; lines have no area and are no duplicates of each other
    assert suppress(boxes, scores, 0.7).tolist() == [1, 3, 4, 5, 2]
    assert suppress(boxes, scores, 0.95).tolist() == [1, 0, 3, 4, 5, 2]
    assert suppress(boxes[:0], scores[:0], 0.7).tolist() == []


def test_boxes_and_run_lengths():
    masks = torch.zeros(2, 4, 5, dtype=torch.bool)
    masks[0, 1:3, 2:5] = True
    assert boxes_from_masks(masks, inclusive=True).tolist() == [[2, 1, 4, 2], [0, 0, 0, 0]]
    assert uncompressed_rle(masks[0]) == {"size": [4, 5], "counts": [9, 2, 2, 2, 2, 2, 1]}
    assert uncompressed_rle(masks[1])["counts"] == [20]
    assert uncompressed_rle(~masks[1])["counts"] == [0, 20]
    back = coco.decode(coco.frPyObjects(uncompressed_rle(~masks[0]), 4, 5))
    np.testing.assert_array_equal(back, ~masks[0].numpy())


def test_nothing_found_is_an_empty_list():
    settings = {"points_per_side": 2, "pred_iou_thresh": 1.0, "crop_n_layers": 1}
    assert AutomaticMaskGenerator(lively_sam2(seed=2, image_size=64), **settings).generate(image()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"point_grids": [np.zeros((1, 2))]}, "exactly one"),
        ({"points_per_side": None}, "exactly one"),
        ({"output_mode": "png"}, "'png' is unknown; choose one of binary_mask"),
        ({"points_per_side": None, "point_grids": [np.zeros((1, 2))], "crop_n_layers": 1}, "1 grids for 2 layers"),
        ({"points_per_side": 1, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2}, "a layer has no points"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(InputError, match=message):
        AutomaticMaskGenerator(lively_sam2(seed=2, image_size=64), **settings)
