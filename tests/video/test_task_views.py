"""One annotated video as each task sees it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from common.errors import InputError
from common.synthetic import SyntheticPanoptic
from common.video import Video
from common.video.task_views import as_instances, as_panoptic, as_referred, as_semantic

# 1 x 6 pixels, by hand: two dogs, the sky, a cat, and a pixel that nobody labelled
LABELS = torch.tensor([[1, 1, 4, 2, 7, 0]])
VIDEO = Video(
    "v",
    [torch.zeros(1, 6, 3, dtype=torch.uint8)],
    targets=(1, 2, 4, 7),
    truth=[torch.stack([LABELS.eq(target) for target in (1, 2, 4, 7)])],
    vocabulary=("sky", "dog", "cat", "sea"),
    stuff=("sky", "sea"),
    categories={1: 1, 2: 1, 4: 0, 7: 2},
    expressions={2: ("the right dog", "a dog"), 7: ("the cat",)},
)


def rows(video: Video) -> list[list[int]]:
    return video.truth[0].int().flatten(1).tolist()  # type: ignore[index, union-attr]


def test_instances_leave_stuff_out_and_number_the_rest_of_the_vocabulary_anew() -> None:
    video = as_instances(VIDEO)
    assert video.targets == (1, 2, 7)
    assert video.prompts[0].vocabulary == video.vocabulary == ("dog", "cat")
    assert video.prompts[0].stuff == video.stuff == ()
    assert video.categories == {1: 0, 2: 0, 7: 1}
    assert rows(video) == [[1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]]


def test_semantic_joins_the_targets_of_a_category() -> None:
    video = as_semantic(VIDEO)
    assert video.prompts[0].stuff == video.prompts[0].vocabulary == VIDEO.vocabulary
    assert video.targets == (1, 2, 3)
    assert video.categories == {1: 0, 2: 1, 3: 2}
    assert rows(video) == [[0, 0, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]]


def test_panoptic_keeps_everything() -> None:
    video = as_panoptic(VIDEO)
    assert video.targets == VIDEO.targets
    assert video.prompts[0].stuff == ("sky", "sea")
    assert rows(video) == rows(VIDEO)


def test_each_expression_is_a_target_of_its_own() -> None:
    video = as_referred(VIDEO)
    assert [(prompt.target, prompt.text) for prompt in video.prompts] == [
        (1, "the right dog"),
        (2, "a dog"),
        (3, "the cat"),
    ]
    assert rows(video) == [[0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]]
    assert video.attributes["objects"] == {1: 2, 2: 2, 3: 7}
    assert video.categories == {1: 1, 2: 1, 3: 2}


def test_without_things_nothing_is_left_but_the_question() -> None:
    video = as_instances(replace(VIDEO, targets=(4,), truth=[LABELS[None] == 4]))
    assert video.targets == ()
    assert video.truth[0].shape == (0, 1, 6)  # type: ignore[index, union-attr]


def test_hidden_truth_stays_hidden_and_a_missing_category_is_named() -> None:
    assert as_semantic(replace(VIDEO, truth=None)).truth is None
    with pytest.raises(InputError, match="v: target 2 has no category"):
        as_instances(replace(VIDEO, categories={1: 0}))


def test_generated_videos_have_a_category_everywhere() -> None:
    clips = SyntheticPanoptic(length=4, frames=9, size=(40, 56))
    for video in clips:
        assert {video.vocabulary[category] for category in video.categories.values()} & set(video.stuff)
        assert tuple(video.categories) == video.targets == tuple(prompt.target for prompt in video.prompts)
        stuff = [target for target in video.targets if video.vocabulary[video.categories[target]] in video.stuff]
        assert set(video.targets) - set(stuff) == set(video.expressions)
        assert len({video.categories[target] for target in stuff}) == len(stuff)
        for frame in range(9):
            masks = video.truth[frame]  # type: ignore[index]
            assert (masks.sum(0) == 1).all()  # type: ignore[union-attr]
            semantic = as_semantic(video)
            for target, mask in zip(semantic.targets, semantic.truth[frame], strict=True):  # type: ignore
                same = [video.categories[t] == target - 1 for t in video.targets]
                assert torch.equal(mask, masks[same].any(0))  # type: ignore[index]
        for row, prompt in enumerate(video.prompts):
            assert torch.equal(prompt.mask, video.truth[prompt.frame][row])  # type: ignore
    again = SyntheticPanoptic(length=4, frames=9, size=(40, 56))[3]
    assert torch.equal(again[7], clips[3][7])
    assert torch.equal(again.truth[7], clips[3].truth[7])  # type: ignore


def test_regions_look_like_what_they_are() -> None:
    """Over 20 videos the mean colour of a region tells the three apart: the sky is lightest, the water bluest."""
    colours: dict[str, list[torch.Tensor]] = {}
    for video in SyntheticPanoptic(length=20, frames=1, size=(32, 32)):
        for target, mask in zip(video.targets, video.truth[0], strict=True):  # type: ignore
            if mask.sum() > 20:
                name = video.vocabulary[video.categories[target]]
                colours.setdefault(name, []).append(video[0][mask].float().mean(0))
    mean = {name: torch.stack(values).mean(0) for name, values in colours.items()}
    assert set(mean) >= {"sky", "ground", "water"}
    assert mean["sky"].mean() > max(mean["ground"].mean(), mean["water"].mean()) + 40
    assert mean["water"][2] - mean["water"][0] > 60 > mean["ground"][2] - mean["ground"][0]
