"""Targets given on the command line, as prompts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from common.errors import InputError
from common.video import Prompt
from common.video.images import read_image
from common.video.masks import VOID, masks_from_labels, read_label_map


class Spec(NamedTuple):
    """Parts of ``[ID:]VALUE[@FRAME]``.

    Attributes:
        text: the whole.
        target: id, or None where it is left out.
        value: the middle part.
        frame: index, 0 where it is left out.
    """

    text: str
    target: int | None
    value: str
    frame: int


def parse_spec(text: str) -> Spec:
    """Split ``2:10,20,30,40@5`` into target 2, value ``10,20,30,40`` and frame 5.

    Args:
        text: as typed.
    """
    match = re.fullmatch(r"(?:(\d+):)?(.*?)(?:@(\d+))?", text, re.DOTALL)
    assert match is not None  # every part may be missing
    return Spec(text, int(match[1]) if match[1] else None, match[2], int(match[3] or 0))


def _target(spec: Spec) -> int:
    """Return the id of a target; 1 where it is left out.

    Raises:
        InputError: it is 0, the background of label maps, or above 254.
    """
    target = 1 if spec.target is None else spec.target
    if not 1 <= target < VOID:
        raise InputError(f"{spec.text}: target ids are 1 to {VOID - 1} (0 is the background); write 1:{spec.value}")
    return target


def prompts(
    masks: Sequence[str] = (),
    boxes: Sequence[str] = (),
    points: Sequence[str] = (),
    texts: Sequence[str] = (),
    queries: Sequence[str] = (),
    query_masks: Sequence[str] = (),
    vocabulary: str | None = None,
) -> tuple[Prompt, ...]:
    """Return prompts, sorted by frame and target. Without an id a target is 1, except in mask files.

    Args:
        masks: ``[ID:]FILE[@FRAME]``; without an id every label of the file is a target.
        boxes: ``[ID:]x0,y0,x1,y1[@FRAME]`` in pixels.
        points: ``[ID:]x,y[,-][@FRAME]``; ``-`` marks a negative click.
        texts: ``[ID:]EXPRESSION[@FRAME]``.
        queries: ``[ID:]FILE``, images from outside the video.
        query_masks: ``FILE`` for each of ``queries``, the target on it.
        vocabulary: category names separated by commas; the method finds their instances.

    Raises:
        InputError: an argument cannot be read, or a target has two prompts of one kind on a frame.
    """
    arguments: dict[tuple[int, int], dict[str, Any]] = defaultdict(dict)
    for spec in map(parse_spec, masks):
        for target, mask in _mask(spec):
            _set_once(arguments[spec.frame, target], "mask", mask, spec.text)
    for spec in map(parse_spec, boxes):
        _set_once(arguments[spec.frame, _target(spec)], "box", _numbers(spec, 4, "x0,y0,x1,y1"), spec.text)
    for spec in map(parse_spec, points):
        fields = arguments[spec.frame, _target(spec)]
        off = spec.value.endswith(",-")
        fields.setdefault("points", []).append(
            _numbers(spec._replace(value=spec.value.removesuffix(",-")), 2, "x,y[,-]")
        )
        fields.setdefault("labels", []).append(0 if off else 1)
    for spec in map(parse_spec, texts):
        _set_once(arguments[spec.frame, _target(spec)], "text", spec.value, spec.text)
    if len(queries) != len(query_masks):
        raise InputError(
            f"{len(queries)} --query and {len(query_masks)} --query-mask: every query image needs its mask"
        )
    for spec, file in zip(map(parse_spec, queries), query_masks, strict=True):
        fields = arguments[spec.frame, _target(spec)]
        labels = read_label_map(file)
        _set_once(fields, "mask", (labels > 0), spec.text)
        fields["image"] = read_image(spec.value)
    if vocabulary is not None:
        _set_once(
            arguments[0, 1],
            "vocabulary",
            tuple(name.strip() for name in vocabulary.split(",") if name.strip()),
            vocabulary,
        )
    if not arguments:
        raise InputError("nothing to follow: give --mask, --box, --point, --text, --query or --vocabulary")
    return tuple(_prompt(target, frame, fields) for (frame, target), fields in sorted(arguments.items()))


def _prompt(target: int, frame: int, fields: dict[str, Any]) -> Prompt:
    if "points" in fields:
        fields["points"], fields["labels"] = torch.tensor(fields["points"]), torch.tensor(fields["labels"])
    return Prompt(target, frame, **fields)


def _set_once(fields: dict[str, Any], kind: str, value: Any, text: str) -> None:
    if kind in fields:
        raise InputError(f"{text}: this target has a {kind} on this frame already; give another id, as in 2:{text}")
    fields[kind] = value


def _mask(spec: Spec) -> Iterable[tuple[int, torch.Tensor]]:
    """Return the targets of a mask file with their masks, bool (H, W)."""
    labels = read_label_map(spec.value)
    values = [int(label) for label in torch.unique(labels) if label]
    # One target. 255 as the only value is a black and white mask, not the void label.
    if spec.target is not None or values == [VOID]:
        return [(_target(spec), labels > 0)]
    targets = [label for label in values if label != VOID]
    if not targets:
        raise InputError(f"{Path(spec.value)}: the mask is empty; a target needs at least one pixel that is not 0")
    return zip(targets, masks_from_labels(labels, targets), strict=True)


def _numbers(spec: Spec, count: int, form: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in spec.value.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise InputError(f"{spec.text}: cannot be read; write [ID:]{form}[@FRAME], in pixels")
    return numbers
