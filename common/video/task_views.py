"""One annotated video as the tasks see it: what is asked for, and what counts as true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from common.errors import InputError
from common.video.types import Prompt
from common.video.video import Annotations, Video


def as_instances(video: Video) -> Video:
    """Instance segmentation (VIS): the countable names as the vocabulary, targets without the stuff."""
    names = tuple(name for name in video.vocabulary if name not in video.stuff)
    places = {target: _name(video, target) for target in video.targets}
    kept = tuple(target for target in video.targets if places[target] in names)
    return replace(
        _of(video, kept, [[video.targets.index(target)] for target in kept]),
        prompts=(Prompt(1, vocabulary=names),),
        vocabulary=names,
        stuff=(),
        categories={target: names.index(places[target]) for target in kept},
        expressions={target: texts for target, texts in video.expressions.items() if target in kept},
    )


def as_panoptic(video: Video) -> Video:
    """Panoptic segmentation (VPS): the vocabulary, and which names are stuff; all targets."""
    return replace(video, prompts=(Prompt(1, vocabulary=video.vocabulary, stuff=video.stuff),))


def as_semantic(video: Video) -> Video:
    """Semantic segmentation (VSS): all names are stuff; one target for each that is annotated, the category plus 1."""
    rows: dict[int, list[int]] = {}
    for row, target in enumerate(video.targets):
        _name(video, target)
        rows.setdefault(video.categories[target], []).append(row)
    rows = dict(sorted(rows.items()))
    return replace(
        _of(video, tuple(category + 1 for category in rows), list(rows.values())),
        prompts=(Prompt(1, vocabulary=video.vocabulary, stuff=video.vocabulary),),
        stuff=video.vocabulary,
        categories={category + 1: category for category in rows},
        expressions={},
    )


def as_referred(video: Video) -> Video:
    """Referring segmentation (RefVOS): a target for each expression, in order, numbered from 1; all given in frame 0.

    ``attributes["objects"]`` names each target's object.
    """
    said = [(target, text) for target in video.targets for text in video.expressions.get(target, ())]
    targets = tuple(range(1, len(said) + 1))
    return replace(
        _of(video, targets, [[video.targets.index(target)] for target, _ in said]),
        prompts=tuple(Prompt(number, text=text) for number, (_, text) in enumerate(said, start=1)),
        attributes={**video.attributes, "objects": dict(zip(targets, (target for target, _ in said), strict=True))},
        categories={n: video.categories[t] for n, (t, _) in enumerate(said, start=1) if t in video.categories},
        expressions={number: (text,) for number, (_, text) in enumerate(said, start=1)},
    )


class Joined:
    """Annotations whose rows are those of others, taken together.

    Args:
        truth: annotations with N rows.
        rows: for each new row those that it is the union of.
    """

    def __init__(self, truth: Annotations, rows: Sequence[Sequence[int]]) -> None:
        self.truth, self.rows = truth, rows

    def __getitem__(self, frame: int) -> Tensor | None:
        """Masks bool (len(rows), H, W); None where the frame is not annotated."""
        masks = self.truth[frame]
        if masks is None:
            return None
        joined = [masks[rows[0]] if len(rows) == 1 else masks[list(rows)].any(0) for rows in self.rows]
        return torch.stack(joined) if joined else masks[:0]


def _of(video: Video, targets: tuple[int, ...], rows: Sequence[Sequence[int]]) -> Video:
    """A video with other targets."""
    return replace(video, targets=targets, truth=None if video.truth is None else Joined(video.truth, rows))


def _name(video: Video, target: int) -> str:
    """Name of a target's category.

    Raises:
        InputError: it has none.
    """
    if target not in video.categories:
        raise InputError(f"{video.id}: target {target} has no category; this task needs videos with categories")
    return video.vocabulary[video.categories[target]]
