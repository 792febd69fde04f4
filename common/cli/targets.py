"""What a person points at on the command line, as prompts."""

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
    """``[ID:]VALUE[@FRAME]``, taken apart."""

    text: str
    target: int | None
    value: str
    frame: int


def parse_spec(text: str) -> Spec:
    """``2:10,20,30,40@5`` is target 2, the value ``10,20,30,40`` and frame 5; frame 0 where none is named."""
    match = re.fullmatch(r"(?:(\d+):)?(.*?)(?:@(\d+))?", text, re.DOTALL)
    assert match is not None  # every part may be missing
    return Spec(text, int(match[1]) if match[1] else None, match[2], int(match[3] or 0))


def prompts(
    masks: Sequence[str] = (),
    boxes: Sequence[str] = (),
    points: Sequence[str] = (),
    texts: Sequence[str] = (),
    queries: Sequence[str] = (),
    query_masks: Sequence[str] = (),
    vocabulary: str | None = None,
) -> tuple[Prompt, ...]:
    """Prompts by frame and target. Everything but a mask file without an id is target 1 where no id is given.

    Args:
        masks: ``[ID:]FILE[@FRAME]``; without an id every label of the file is a target.
        boxes: ``[ID:]x0,y0,x1,y1[@FRAME]`` in pixels.
        points: ``[ID:]x,y[,-][@FRAME]``, ``-`` = not on the target.
        texts: ``[ID:]EXPRESSION[@FRAME]``.
        queries: ``[ID:]FILE``, images from outside the video.
        query_masks: ``FILE`` for each of ``queries``, the target on it.
        vocabulary: names, separated by commas, of which the method finds what there is.

    Raises:
        InputError: something cannot be read, or a target is told twice on a frame; names what was typed.
    """
    said: dict[tuple[int, int], dict[str, Any]] = defaultdict(dict)
    for spec in map(parse_spec, masks):
        for target, mask in _mask(spec):
            _set_once(said[spec.frame, target], "mask", mask, spec.text)
    for spec in map(parse_spec, boxes):
        _set_once(said[spec.frame, spec.target or 1], "box", _numbers(spec, 4, "x0,y0,x1,y1"), spec.text)
    for spec in map(parse_spec, points):
        about = said[spec.frame, spec.target or 1]
        off = spec.value.endswith(",-")
        about.setdefault("points", []).append(
            _numbers(spec._replace(value=spec.value.removesuffix(",-")), 2, "x,y[,-]")
        )
        about.setdefault("labels", []).append(0 if off else 1)
    for spec in map(parse_spec, texts):
        _set_once(said[spec.frame, spec.target or 1], "text", spec.value, spec.text)
    if len(queries) != len(query_masks):
        raise InputError(
            f"{len(queries)} --query and {len(query_masks)} --query-mask: every query image needs its mask"
        )
    for spec, file in zip(map(parse_spec, queries), query_masks, strict=True):
        about = said[spec.frame, spec.target or 1]
        labels = read_label_map(file)
        _set_once(about, "mask", (labels > 0), spec.text)
        about["image"] = read_image(spec.value)
    if vocabulary is not None:
        _set_once(
            said[0, 1], "vocabulary", tuple(name.strip() for name in vocabulary.split(",") if name.strip()), vocabulary
        )
    if not said:
        raise InputError("nothing to follow: give --mask, --box, --point, --text, --query or --vocabulary")
    return tuple(_prompt(target, frame, about) for (frame, target), about in sorted(said.items()))


def _prompt(target: int, frame: int, about: dict[str, Any]) -> Prompt:
    if "points" in about:
        about["points"], about["labels"] = torch.tensor(about["points"]), torch.tensor(about["labels"])
    return Prompt(target, frame, **about)


def _set_once(about: dict[str, Any], kind: str, value: Any, text: str) -> None:
    if kind in about:
        raise InputError(f"{text}: this target has a {kind} on this frame already; give another id, as in 2:{text}")
    about[kind] = value


def _mask(spec: Spec) -> Iterable[tuple[int, torch.Tensor]]:
    """Targets of a mask file and their masks, bool (H, W)."""
    labels = read_label_map(spec.value)
    found = [int(label) for label in labels.unique() if label]
    if spec.target is not None or found == [VOID]:  # one target; 255 alone is a mask drawn in black and white
        return [(spec.target or 1, labels > 0)]
    targets = [label for label in found if label != VOID]
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
