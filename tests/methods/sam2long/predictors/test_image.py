"""The image predictor: against the ``sam2`` package on seeded weights, and its errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import InputError
from common.synthetic import SyntheticClips
from methods.sam2long.predictor import ImagePredictor
from tests.support import sam2_package
from tests.support.lively import lively_sam2

POINTS = {"point_coords": np.array([[90.0, 60.0], [20.0, 100.0]]), "point_labels": np.array([1, 0])}
BOX = {"box": np.array([50, 30, 120, 90])}
PROMPTS = {
    "point": {"point_coords": np.array([[90, 60]]), "point_labels": np.array([1])},
    "points": POINTS,
    "box": BOX,
    "box and points": BOX | POINTS,
    "boxes": {"box": np.array([[50, 30, 120, 90], [5, 5, 60, 110], [100, 40, 199, 119]])},
    "batch of points": {
        "point_coords": np.array([[[90, 60], [20, 100]], [[150, 30], [10, 10]]]),
        "point_labels": np.array([[1, 0], [1, 1]]),
    },
    "fractions": {"point_coords": np.array([[0.4, 0.5]]), "point_labels": np.array([1]), "normalize_coords": False},
}


def image(seed: int = 5, size: tuple[int, int] = (120, 200)) -> np.ndarray:
    return SyntheticClips("easy", length=1, frames=1, size=size, seed=seed, objects=1)[0][0].numpy()


@pytest.fixture(scope="module")
def pair():
    pytest.importorskip("sam2.build_sam", reason="the sam2 package is not installed; `make parity` installs it")
    module = sam2_package.package_module("sam2.sam2_image_predictor")
    official, ours = sam2_package.seeded_pair()
    theirs = module.SAM2ImagePredictor(official, max_hole_area=20, max_sprinkle_area=20)
    theirs._bb_feat_sizes = [(official.image_size // s,) * 2 for s in (4, 8, 16)]  # written for 1024 pixels only
    return theirs, ImagePredictor(ours, max_hole_area=20, max_sprinkle_area=20)


@pytest.fixture(autouse=True)
def components(monkeypatch):
    """The package's connected components on a CPU."""
    if "sam2" in __import__("sys").modules:
        monkeypatch.setattr("sam2.utils.misc.get_connected_components", sam2_package.connected_components)


def compare(theirs, ours) -> None:
    for name, a, b in zip(("masks", "ious", "logits"), theirs, ours, strict=True):
        assert a.shape == b.shape, name
        assert a.dtype == b.dtype, name
        assert np.abs(a - b).max() < (1e-3 if name != "ious" else 1e-5), name


@pytest.mark.parity
@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(name, multimask, pair):
    for predictor in pair:
        predictor.set_image(image())
    for logits in (False, True):
        answers = [
            predictor.predict(**PROMPTS[name], multimask_output=multimask, return_logits=logits) for predictor in pair
        ]
        compare(*answers)
    assert (answers[0][0] > 0).any()
    assert (answers[0][0] <= 0).any()


@pytest.mark.parity
def test_a_mask_is_fed_back_with_points_or_alone(pair):
    for predictor in pair:
        predictor.set_image(Image.fromarray(image()))
    previous = pair[0].predict(**POINTS)[2][1:2]
    for prompts in (PROMPTS["points"], PROMPTS["box"], PROMPTS["boxes"], {}):
        compare(*(p.predict(**prompts, mask_input=previous, multimask_output=False) for p in pair))
    torch.testing.assert_close(pair[0].get_image_embedding(), pair[1].get_image_embedding(), atol=1e-4, rtol=1e-4)


@pytest.mark.parity
def test_a_batch_of_images_of_different_sizes(pair):
    images = [image(), image(6, (90, 100))]
    points = ([POINTS["point_coords"], np.array([[30, 40]])], [POINTS["point_labels"], np.array([1])])
    boxes = [BOX["box"], np.array([[10, 10, 60, 70], [30, 5, 90, 80]])]
    for predictor in pair:
        predictor.set_image_batch(images)
    for arguments in ({"box_batch": boxes}, dict(zip(("point_coords_batch", "point_labels_batch"), points))):  # noqa: B905
        theirs, ours = (p.predict_batch(**arguments, multimask_output=False) for p in pair)
        for answer in zip(zip(*theirs, strict=True), zip(*ours, strict=True), strict=True):
            compare(*answer)


def test_errors_are_one_line():
    predictor = ImagePredictor(lively_sam2(seed=2, image_size=64))
    with pytest.raises(RuntimeError, match="call set_image"):
        predictor.predict(**PROMPTS["point"])
    with pytest.raises(InputError, match=r"image 0 is \(5, 6\); give RGB"):
        predictor.set_image(np.zeros((5, 6)))
    with pytest.raises(InputError, match=r"give uint8, or floating point in \[0, 1\]"):
        predictor.set_image(np.full((5, 6, 3), 255.0))
    with pytest.raises(InputError, match="list of images is empty"):
        predictor.set_image_batch([])
    predictor.set_image(image())
    with pytest.raises(InputError, match="must be given together"):
        predictor.predict(point_coords=np.zeros((1, 2)))
    with pytest.raises(InputError, match=r"points and labels must be \(N, 2\) and \(N,\)"):
        predictor.predict(np.zeros((2, 2)), np.ones(3))
    with pytest.raises(InputError, match=r"a box must be \(x0, y0, x1, y1\)"):
        predictor.predict(box=np.zeros(3))
    with pytest.raises(InputError, match="finite"):
        predictor.predict(box=np.array([0, 0, np.nan, 3]))
    with pytest.raises(InputError, match=r"mask_input must be logits \(1, 16, 16\)"):
        predictor.predict(mask_input=np.zeros((1, 4, 4)))
    with pytest.raises(RuntimeError, match="set_image_batch"):
        predictor.predict_batch()
    predictor.set_image_batch([image(), image()])
    with pytest.raises(InputError, match="1 prompts for 2 images"):
        predictor.predict_batch(box_batch=[BOX["box"]])
    with pytest.raises(InputError, match="Linear has no SAM 2"):
        ImagePredictor(torch.nn.Linear(1, 1))


def test_float_images_and_pillow_images_are_the_same():
    predictor = ImagePredictor(lively_sam2(seed=2, image_size=64))
    answers = []
    for kind in (image(), Image.fromarray(image()), image() / 255, image()[:, ::-1][:, ::-1]):
        predictor.set_image(kind)
        answers.append(predictor.predict(**PROMPTS["box"])[2])
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-3)
