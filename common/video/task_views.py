"""Conversion of an annotated video to each task: prompts, targets and ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from common.errors import InputError
from common.video.types import Prompt
from common.video.video import Annotations, Video


def as_instances(video: Video) -> Video:
    """Convert to video instance segmentation (VIS): the thing classes as vocabulary, and their targets.

    Args:
        video: a video with categories.
    """
    names = tuple(name for name in video.vocabulary if name not in video.stuff)
    category_names = {target: _name(video, target) for target in video.targets}
    things = tuple(target for target in video.targets if category_names[target] in names)
    return replace(
        _with_targets(video, things, [[video.targets.index(target)] for target in things]),
        prompts=(Prompt(1, vocabulary=names),),
        vocabulary=names,
        stuff=(),
        categories={target: names.index(category_names[target]) for target in things},
        expressions={target: texts for target, texts in video.expressions.items() if target in things},
    )


def as_panoptic(video: Video) -> Video:
    """Convert to video panoptic segmentation (VPS): the vocabulary with its stuff classes, and all targets.

    Args:
        video: a video with categories.
    """
    return replace(video, prompts=(Prompt(1, vocabulary=video.vocabulary, stuff=video.stuff),))


def as_semantic(video: Video) -> Video:
    """Convert to video semantic segmentation (VSS): all classes are stuff; the target id is the category plus 1.

    Args:
        video: a video with categories.
    """
    rows: dict[int, list[int]] = {}
    for row, target in enumerate(video.targets):
        _name(video, target)
        rows.setdefault(video.categories[target], []).append(row)
    rows = dict(sorted(rows.items()))
    return replace(
        _with_targets(video, tuple(category + 1 for category in rows), list(rows.values())),
        prompts=(Prompt(1, vocabulary=video.vocabulary, stuff=video.vocabulary),),
        stuff=video.vocabulary,
        categories={category + 1: category for category in rows},
        expressions={},
    )


def as_referred(video: Video) -> Video:
    """Convert to referring segmentation (RefVOS): one target per expression, numbered from 1 and given in frame 0.

    ``attributes["objects"]`` maps each target to its object.

    Args:
        video: a video with expressions.
    """
    expressions = [(target, text) for target in video.targets for text in video.expressions.get(target, ())]
    targets = tuple(range(1, len(expressions) + 1))
    return replace(
        _with_targets(video, targets, [[video.targets.index(target)] for target, _ in expressions]),
        prompts=tuple(Prompt(number, text=text) for number, (_, text) in enumerate(expressions, start=1)),
        attributes={
            **video.attributes,
            "objects": dict(zip(targets, (target for target, _ in expressions), strict=True)),
        },
        categories={n: video.categories[t] for n, (t, _) in enumerate(expressions, start=1) if t in video.categories},
        expressions={number: (text,) for number, (_, text) in enumerate(expressions, start=1)},
    )


class UnionMasks:
    """Annotations whose rows are unions of rows of other annotations.

    Args:
        truth: annotations with N rows.
        rows: for each new row, the rows whose union it is.
    """

    def __init__(self, truth: Annotations, rows: Sequence[Sequence[int]]) -> None:
        self.truth, self.rows = truth, rows

    def __getitem__(self, frame: int) -> Tensor | None:
        """Return masks bool (len(rows), H, W); None if the frame is not annotated."""
        masks = self.truth[frame]
        if masks is None:
            return None
        unions = [masks[rows[0]] if len(rows) == 1 else masks[list(rows)].any(0) for rows in self.rows]
        return torch.stack(unions) if unions else masks[:0]


def _with_targets(video: Video, targets: tuple[int, ...], rows: Sequence[Sequence[int]]) -> Video:
    """Replace the targets of a video and the rows of its ground truth."""
    return replace(video, targets=targets, truth=None if video.truth is None else UnionMasks(video.truth, rows))


def _name(video: Video, target: int) -> str:
    """Return the name of a target's category."""
    if target not in video.categories:
        raise InputError(f"{video.id}: target {target} has no category; this task needs videos with categories")
    return video.vocabulary[video.categories[target]]
