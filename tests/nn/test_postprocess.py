"""Post-processing of SAM 2: hand-made masks, and the choice of prompted frames against the ``sam2`` package."""

from __future__ import annotations

import itertools

import pytest
import torch

from common.errors import InputError
from common.nn.sam2 import SAM2, Candidates
from common.nn.sam2.postprocess import PACKAGE, PLAIN, PostProcessing, clean_masks, closest_prompted
from tests.support.lively import lively_sam2

PICTURE = """
............
.#########..
.#.#######..
.#########..
.##...####..
.##.#.####..
.##...###.#.
.#########..
#...........
...........#
"""


def logits_of(picture: str) -> torch.Tensor:
    """Logits +3 at ``#`` and -2 at ``.``."""
    rows = picture.split()
    return torch.tensor([[3.0 if pixel == "#" else -2.0 for pixel in row] for row in rows])


def test_small_components_by_eight_neighbours():
    """Holes of 1 and 8 pixels, an island of 1 in the larger one and one of 1 at (9, 11).

    (8, 0) and (6, 10) touch the object at a corner, hence belong to it; (6, 9) touches the background at one.
    """
    logits = logits_of(PICTURE)
    assert clean_masks(logits) is logits

    filled = clean_masks(logits, hole_area=7)
    assert (filled != logits).nonzero().tolist() == [[2, 2]]
    assert float(filled[2, 2]) == pytest.approx(0.1)
    filled = clean_masks(logits, hole_area=8, margin=10)
    ring = [[y, x] for y, x in itertools.product((4, 5, 6), (3, 4, 5)) if (y, x) != (5, 4)]
    assert (filled != logits).nonzero().tolist() == [[2, 2], *ring]
    assert float(filled[4, 3]) == pytest.approx(10.0)

    cleaned = clean_masks(logits, sprinkle_area=1)
    assert (cleaned != logits).nonzero().tolist() == [[5, 4], [9, 11]]
    assert float(cleaned[9, 11]) == pytest.approx(-0.1)
    # both are found in the given mask: the island stays an island although its hole is filled
    both = clean_masks(logits, hole_area=8, sprinkle_area=1)
    assert both[5, 4] < 0 < both[5, 3]


def test_masks_of_a_batch_are_cleaned_one_by_one():
    logits = torch.stack([logits_of(PICTURE), -logits_of(PICTURE)]).view(2, 1, 10, 12).half()
    out = clean_masks(logits, 8, 1)
    assert out.dtype == torch.float16
    for row in range(2):
        torch.testing.assert_close(out[row, 0], clean_masks(logits[row, 0], 8, 1))


def test_a_threshold_other_than_zero():
    logits = logits_of(PICTURE) + 5
    torch.testing.assert_close(clean_masks(logits, 8, 1, threshold=5.0) - 5, clean_masks(logits - 5, 8, 1))


def test_an_empty_mask_and_a_full_one():
    empty = torch.full((1, 1, 4, 4), -1.0)
    assert torch.equal(clean_masks(empty, 8, 8), empty)
    assert (clean_masks(empty, 16) > 0).all()  # the package's rule: the background is one small component
    assert torch.equal(clean_masks(-empty, 8, 8), -empty)


def test_options():
    logits = logits_of(PICTURE)
    assert PostProcessing() == PLAIN
    assert PLAIN.clean(logits) is logits
    torch.testing.assert_close(PACKAGE.clean(logits), clean_masks(logits, 8))
    with pytest.raises(InputError, match="hole_area is -1"):
        PostProcessing(hole_area=-1)
    with pytest.raises(InputError, match="at least 2, or -1"):
        PostProcessing(max_prompted_frames=1)


@pytest.fixture(scope="module")
def model() -> SAM2:
    return lively_sam2(seed=2, image_size=64)


@torch.no_grad()
def test_an_unstable_mask_is_replaced_by_the_best_candidate(model):
    features = model.encode(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    embedding = model.without_memory(features)
    points, labels = torch.tensor([[[3.0, 4.0], [40.0, 50.0]]]), torch.tensor([[1, 0]])
    single = model.decode(embedding, features, points, labels, multimask=False)
    three = model.decode(embedding, features, points, labels, multimask=True)
    dynamic = model.decode(embedding, features, points, labels, multimask=False, dynamic_multimask=True)
    area = [int((single.logits > bound).sum()) for bound in (0.05, -0.05)]
    chosen = single if area[0] / area[1] >= 0.98 else three.best()
    assert chosen is not single, "the case is trivial"
    assert torch.equal(dynamic.logits, chosen.logits)
    assert torch.equal(dynamic.ious, chosen.ious)
    assert torch.equal(dynamic.pointers, single.pointers)
    again = model.decode(embedding, features, points, labels, multimask=False)
    assert torch.equal(again.logits, single.logits), "the choice of one call reaches the next"


@torch.no_grad()
def test_a_mask_alone_has_no_point(model):
    features = model.encode(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    embedding, mask = model.without_memory(features), torch.randn(1, 1, 16, 16)
    none = model.decode(embedding, features, torch.zeros(1, 0, 2), torch.zeros(1, 0, dtype=torch.long), mask)
    padded = model.decode(embedding, features, mask=mask)
    assert none.logits.shape == padded.logits.shape
    assert not torch.allclose(none.logits, padded.logits)


@torch.no_grad()
def test_binarised_memory_is_that_of_saturated_logits(model):
    features = model.encode(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    logits = torch.where(torch.rand(1, 1, 64, 64) > 0.5, 1.0, -1.0)[:, :, :16, :16]
    flat = Candidates(logits, torch.ones(1, 1), torch.ones(1), torch.randn(1, 1, 64))
    sharp = Candidates(logits * 1e4, flat.ious, flat.score, flat.pointers)
    torch.testing.assert_close(model.encode_memory(features, flat, binarize=True), model.encode_memory(features, sharp))
    assert not torch.allclose(model.encode_memory(features, flat), model.encode_memory(features, sharp))


@pytest.mark.parity
def test_prompted_frames_are_chosen_as_in_the_package():
    select = pytest.importorskip("sam2.modeling.sam2_utils").select_closest_cond_frames
    generator = torch.Generator().manual_seed(0)
    for frame, limit in itertools.product((0, 7, 12, 30), (-1, 2, 3, 5)):
        prompted = torch.randperm(25, generator=generator)[:6].tolist()
        expected, _ = select(frame, dict.fromkeys(prompted), limit)
        assert closest_prompted(frame, prompted, limit) == list(expected)
