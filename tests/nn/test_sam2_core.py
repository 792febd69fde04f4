"""The steps of the core, one by one, as the fact sheet of SAM 2 has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from common.nn.preprocessing import normalise
from common.nn.sam2 import NO_OBJECT_LOGIT, SAM2, Bank, Candidates, FrameFeatures
from tests.support.lively import lively_sam2

SIDE = 64


@pytest.fixture(scope="module")
def model() -> SAM2:
    return lively_sam2(seed=2, image_size=SIDE)


@pytest.fixture
def features(model: SAM2) -> FrameFeatures:
    with torch.no_grad():
        return model.encode(torch.randn(2, 3, SIDE, SIDE))


def candidates(score: list[float], logits: torch.Tensor | None = None) -> Candidates:
    batch = len(score)
    logits = torch.randn(batch, 1, SIDE // 4, SIDE // 4) if logits is None else logits
    return Candidates(logits, torch.full((batch, 1), 0.5), torch.tensor(score), torch.randn(batch, 1, 64))


def test_frames_are_resized_by_pillow_and_normalised(model):
    frame = torch.randint(0, 256, (33, 47, 3), dtype=torch.uint8)
    resized = np.array(Image.fromarray(frame.numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    expected = (resized / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    got = model.preprocess(frame.permute(2, 0, 1)[None])
    torch.testing.assert_close(got[0].permute(1, 2, 0).double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
    same = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    torch.testing.assert_close(model.preprocess(same), normalise(same / 255))


def test_no_memory_is_a_learned_vector(model, features):
    added = model.without_memory(features) - features.embedding
    torch.testing.assert_close(added, model.net.no_memory_embedding.view(1, 64, 1, 1).expand_as(added))


@torch.no_grad()
def test_decoding_without_a_prompt_is_two_points_that_are_none(model, features):
    embedding = model.without_memory(features)
    nothing = model.decode(embedding, features)
    points, labels = torch.zeros(2, 1, 2), torch.full((2, 1), -1)
    explicit = model.decode(embedding, features, points, labels)
    assert torch.equal(nothing.logits, explicit.logits)
    moved = model.decode(embedding, features, points + 30, labels)  # where such a point lies does not matter
    torch.testing.assert_close(moved.logits, nothing.logits)


@torch.no_grad()
def test_decoding_is_a_batch_of_objects(model, features):
    embedding = model.without_memory(features)
    points = torch.tensor([[[3.0, 4.0], [40.0, 50.0]], [[10.0, 9.0], [20.0, 60.0]]])
    labels = torch.tensor([[1, 0], [2, 3]])
    both = model.decode(embedding, features, points, labels)
    for b in range(2):
        row = torch.tensor([b])
        alone = model.decode(embedding[row], features.select(row), points[row], labels[row])
        for kind in ("logits", "ious", "score", "pointers"):
            torch.testing.assert_close(getattr(both, kind)[row], getattr(alone, kind), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_one_frame_for_many_objects(model, features):
    one = features.select(torch.tensor([1]))
    embedding = model.without_memory(one).expand(3, -1, -1, -1)
    shared = model.decode(embedding, one)
    copied = model.decode(embedding, one.select(torch.zeros(3, dtype=torch.long)))
    torch.testing.assert_close(shared.logits, copied.logits)
    assert shared.logits.shape == (3, 3, SIDE // 4, SIDE // 4)


@torch.no_grad()
def test_single_mask_mode_is_another_token(model, features):
    embedding = model.without_memory(features)
    one, three = model.decode(embedding, features, multimask=False), model.decode(embedding, features)
    assert one.logits.shape[1] == one.ious.shape[1] == one.pointers.shape[1] == 1
    assert three.logits.shape[1] == 3
    assert all((one.logits[:, 0] - three.logits[:, k]).abs().max() > 1e-2 for k in range(3))


@torch.no_grad()
def test_every_token_has_its_pointer_and_an_absent_object_the_learned_one(model, features):
    embedding = model.without_memory(features)
    present = model.decode(embedding, features)
    assert (present.score > 0).all()
    assert (present.pointers[:, 0] - present.pointers[:, 1]).abs().max() > 1e-2
    absent = lively_sam2(seed=2, visible=-20.0, image_size=SIDE)
    answer = absent.decode(embedding, features)
    assert (answer.score < 0).all()
    assert torch.equal(answer.pointers, absent.net.no_object_pointer.expand(2, 3, -1))


def test_absent_objects_have_one_logit_everywhere():
    answer = candidates([0.5, 0.0, -1.0])
    assert torch.equal(answer.visible_logits[0], answer.logits[0])
    assert (answer.visible_logits[1:] == NO_OBJECT_LOGIT).all()
    assert answer.visible_logits.dtype == torch.float32


def test_best_is_the_highest_iou_and_the_first_on_ties():
    logits = torch.arange(6.0).view(2, 3, 1, 1)
    answer = Candidates(logits, torch.tensor([[0.2, 0.9, 0.9], [0.1, 0.0, 0.05]]), torch.ones(2), torch.randn(2, 3, 4))
    best = answer.best()
    assert best.logits.flatten().tolist() == [1.0, 3.0]
    assert best.ious.shape == (2, 1)
    assert torch.equal(best.pointers[:, 0], torch.stack([answer.pointers[0, 1], answer.pointers[1, 0]]))


@torch.no_grad()
def test_a_mask_prompt_is_the_answer(model, features):
    masks = torch.zeros(2, 1, SIDE, SIDE)
    masks[0, 0, 10:40, 20:50] = 1
    answer = model.take_mask(features, masks)
    reduced = F.interpolate(masks, (SIDE // 4,) * 2, mode="bilinear", antialias=True)
    torch.testing.assert_close(answer.logits, 20 * reduced - 10, atol=1e-4, rtol=1e-4)
    assert answer.ious.tolist() == [[1.0], [1.0]]
    assert answer.score.tolist() == [10.0, -10.0]
    # the pointer: single-mask token on the embedding without the no-memory vector, mask through the 4 x 4 convolution
    dense = model.net.mask_downsample(masks)
    seen = model.decode(features.embedding, features, mask=dense, multimask=False)
    torch.testing.assert_close(answer.pointers[0], seen.pointers[0])
    assert torch.equal(answer.pointers[1, 0], model.net.no_object_pointer[0])


@torch.no_grad()
def test_memory_of_masks(model, features):
    logits = torch.randn(2, 1, SIDE // 4, SIDE // 4) * 4
    got = model.encode_memory(features, candidates([1.0, 1.0], logits))
    full = F.interpolate(logits, (SIDE, SIDE), mode="bilinear")
    expected, _ = model.net.memory_encoder(features.embedding, full.sigmoid() * 20 - 10)
    torch.testing.assert_close(got, expected)


@torch.no_grad()
def test_memory_of_an_absent_object(model, features):
    """Its mask is empty whatever the logits, and in 2.1 a learned vector is added."""
    logits = torch.randn(2, 1, SIDE // 4, SIDE // 4)
    got = model.encode_memory(features, candidates([1.0, -1.0], logits))
    empty = torch.full((2, 1, SIDE, SIDE), -10.0)
    expected, _ = model.net.memory_encoder(features.embedding, empty)
    vector = model.net.occlusion_spatial_embedding_parameter.view(64, 1, 1)
    torch.testing.assert_close(got[1], expected[1] + vector)
    older = lively_sam2("2", seed=2, image_size=SIDE)
    got = older.encode_memory(features, candidates([1.0, -1.0], logits))
    expected, _ = older.net.memory_encoder(features.embedding, empty)
    torch.testing.assert_close(got[1], expected[1])


@torch.no_grad()
def test_pointer_positions_scale_with_the_length_and_are_none_in_version_2(model):
    bank = Bank(pointers=[torch.zeros(1, 64)] * 2, offsets=[3.0, -2.0])
    full = model._pointer_positions(bank)
    assert full.shape == (1, 2, 64)
    short = Bank(pointers=bank.pointers, offsets=[1.0, -2 / 3], max_pointers=6)  # 1 / 5 = 3 / 15
    torch.testing.assert_close(model._pointer_positions(short), full)
    older = lively_sam2("2", image_size=SIDE)
    assert older._pointer_positions(bank).abs().max() == 0


@torch.no_grad()
@pytest.mark.parametrize("name", ["score", "pointers"])
def test_points_are_seen_where_they_lie(model, features, name):
    """One Fourier matrix for points and for the image: a point's code is that of the pixel under it."""
    net = model.net
    encoder = net.prompt_encoder.shared_embedding
    assert torch.equal(encoder.positional_embedding, net.shared_image_embedding.positional_embedding)
    embedding = model.without_memory(features)
    answers = [
        getattr(model.decode(embedding, features, torch.full((2, 1, 2), at), torch.ones(2, 1).long()), name)
        for at in (5.0, 55.0)
    ]
    assert (answers[0] - answers[1]).abs().max() > 1e-3
