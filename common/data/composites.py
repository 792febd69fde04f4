"""Clips composed of still images for pretraining: cut-out objects move and deform over a moving background."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor

from common.data.clips import VideoSet
from common.video import Video

MIN_PIXELS = 100  # area of the smallest object that is cut out
ATTEMPTS = 20  # pictures drawn to find one with such an object
GRID = 4  # control points of a deformation along each side


class CompositeClips(Sequence[Video]):
    """Videos composed of annotated pictures; a video is the same on every access.

    The background is a picture with its own objects under a moving camera. Objects cut out of other pictures move over
    it along smooth paths, change their size, turn, deform and occlude each other. The objects of the background and the
    pasted ones are targets. This follows the pretraining of STM (Oh et al., ICCV 2019), with smooth paths instead of
    independent frames.

    Args:
        sources: annotated videos; any annotated frame may be used as a picture.
        weights: probability of each source, up to a common factor; default: equal.
        length: number of videos.
        frames: number of frames of each video.
        size: (H, W) of the frames.
        aspect: smallest and largest ratio of width to height of the scene, which is resized to ``size``.
        objects: probabilities of 0, 1, 2, ... pasted objects.
        twin: probability that a pasted object is a copy of the one before, as a distractor.
        motion: factor on all movements.
        seed: of all random choices.
    """

    def __init__(
        self,
        sources: list[VideoSet],
        weights: list[float] | None = None,
        length: int = 1_000_000,
        frames: int = 8,
        size: tuple[int, int] = (256, 256),
        aspect: tuple[float, float] = (1.2, 1.9),
        objects: tuple[float, ...] = (0.3, 0.4, 0.2, 0.1),
        twin: float = 0.15,
        motion: float = 1.0,
        seed: int = 0,
    ) -> None:
        shares = np.array(weights or [1.0] * len(sources), dtype=float)
        self.sources, self.shares = sources, shares / shares.sum()
        self.length, self.frames, self.size = length, frames, (size[0], size[1])
        self.aspect, self.objects, self.twin, self.motion, self.seed = aspect, objects, twin, motion, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Video:  # type: ignore[override]
        scene = self._scene(np.random.default_rng((self.seed, index)))
        targets = tuple(range(1, scene.targets + 1))
        return Video(f"composite_{index}", _Frames(scene), targets=targets, truth=_Truth(scene))

    def _scene(self, rng: np.random.Generator) -> _Scene:
        aspect = float(rng.uniform(*self.aspect))
        image, masks = self._picture(rng)
        layers = [_background(image, masks, aspect, self.motion, rng)]
        count = int(rng.choice(len(self.objects), p=np.array(self.objects) / sum(self.objects)))
        cut: tuple[np.ndarray, np.ndarray] | None = None
        for _ in range(count):
            if cut is None or rng.random() >= self.twin:
                cut = self._object(rng)
            layers.append(_pasted(*cut, aspect, self.size[0], self.motion, rng))
        blur = float(rng.uniform(0.4, 1.4)) if rng.random() < 0.3 else 0.0
        noise = float(rng.uniform(1, 6)) if rng.random() < 0.3 else 0.0
        return _Scene(layers, self.size, aspect, self.frames, blur, noise, int(rng.integers(1 << 31)))

    def _picture(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw an annotated frame uint8 (H, W, 3) of one of the sources, with its masks bool (N, H, W)."""
        source = self.sources[int(rng.choice(len(self.sources), p=self.shares))]
        video = source[int(rng.integers(len(source)))]
        assert video.truth is not None
        frames = range(len(video)) if video.annotated is None else video.annotated
        time = frames[int(rng.integers(len(frames)))]
        masks = video.truth[time]
        assert masks is not None
        return video[time].numpy(), masks.numpy()

    def _object(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Cut an object out of a picture: pixels uint8 (h, w, 3) and mask bool (h, w), with a margin."""
        for _ in range(ATTEMPTS):
            image, masks = self._picture(rng)
            rows = np.flatnonzero(masks.sum((1, 2)) >= MIN_PIXELS)
            if len(rows):
                break
        mask = masks[int(rng.choice(rows))]
        ys, xs = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        box = (slice(max(0, ys[0] - 4), ys[-1] + 5), slice(max(0, xs[0] - 4), xs[-1] + 5))
        return image[box], mask[box]


@dataclass
class _Layer:
    """A picture that moves through the scene. The scene has height 1 and its origin in the centre.

    Attributes:
        image: uint8 (h, w, 3).
        labels: uint8 (h, w), 0 is background.
        targets: number of targets, visible or not.
        whole: the picture fills the frame; otherwise only labelled pixels are drawn.
        unit: pixels of the picture per unit of the scene at scale 1.
        path: (3, 5) control points of x, y, log scale, angle, shear.
        bend: (2, 2, GRID, GRID), deformation in pixels of the picture at the start and at the end.
        light: (2, 3), factors on the colours at the start and at the end.
    """

    image: np.ndarray
    labels: np.ndarray
    targets: int
    whole: bool
    unit: float
    path: np.ndarray
    bend: np.ndarray
    light: np.ndarray

    def render(self, time: float, size: tuple[int, int], aspect: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Render the layer at a time.

        Args:
            time: 0 to 1.
            size: (H, W) of the frame.
            aspect: ratio of width to height of the scene.

        Returns:
            Pixels float32 (H, W, 3), opacity float32 (H, W, 1) and labels uint8 (H, W).
        """
        maps = self._maps(time, size, aspect)
        border = cv2.BORDER_REFLECT_101 if self.whole else cv2.BORDER_REPLICATE
        pixels = cv2.remap(self.image, *maps, cv2.INTER_LINEAR, borderMode=border).astype(np.float32)
        pixels *= (1 - time) * self.light[0] + time * self.light[1]
        if self.whole:
            labels = cv2.remap(self.labels, *maps, cv2.INTER_NEAREST, borderMode=border)
            return pixels, np.ones((*size, 1), np.float32), labels
        opacity = cv2.remap(self._soft, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        return pixels, opacity[..., None].astype(np.float32) / 255, (opacity > 127).astype(np.uint8)

    @cached_property
    def _soft(self) -> np.ndarray:
        """Opacity uint8 (h, w), smooth at the edge."""
        return cv2.GaussianBlur(self.labels * 255, (3, 3), 0.8)

    def _maps(self, time: float, size: tuple[int, int], aspect: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the position in the picture of each pixel of the frame: x and y, float32 (H, W)."""
        x, y, scale, angle, shear = np.array([(1 - time) ** 2, 2 * time * (1 - time), time**2]) @ self.path
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        linear = np.array([[1.0, shear], [0.0, 1.0]]) @ turn * (self.unit / np.exp(scale))
        across = (np.arange(size[1], dtype=np.float32) + 0.5) / size[1] - 0.5
        down = (np.arange(size[0], dtype=np.float32) + 0.5) / size[0] - 0.5
        across, down = np.float32(aspect) * across - np.float32(x), down - np.float32(y)
        middle = (self.image.shape[1] / 2 - 0.5, self.image.shape[0] / 2 - 0.5)
        bend = ((1 - time) * self.bend[0] + time * self.bend[1]).astype(np.float32)
        maps = []
        for axis in range(2):
            shift = cv2.resize(bend[axis], size[::-1], interpolation=cv2.INTER_CUBIC)
            row, column = linear[axis].astype(np.float32)
            maps.append(shift + (row * across)[None] + (column * down + np.float32(middle[axis]))[:, None])
        return maps[0], maps[1]


def _background(image: np.ndarray, masks: np.ndarray, aspect: float, motion: float, rng: np.random.Generator) -> _Layer:
    """Make the background: a picture that covers the frame, enlarged by up to 1.7, with all its objects."""
    labels = np.zeros(masks.shape[1:], np.uint8)
    for number, mask in enumerate(masks, 1):
        labels[mask] = number
    if rng.random() < 0.5:
        image, labels = image[:, ::-1].copy(), labels[:, ::-1].copy()
    unit = min(image.shape[0], image.shape[1] / aspect)
    zoom = float(np.exp(rng.uniform(0.0, np.log(1.7))))
    room = np.array([image.shape[1] / unit * zoom - aspect, image.shape[0] / unit * zoom - 1.0]) / 2
    start = np.array([*(rng.uniform(-1, 1, 2) * room), np.log(zoom), rng.normal(0, 0.08), rng.normal(0, 0.05)])
    steps = _steps(np.array([0.12, 0.06, 0.08, 0.06, 0.03]), motion, rng)
    return _Layer(image, labels, len(masks), True, unit, start + steps, _bend(unit * 0.01, rng), _light(0.05, rng))


def _pasted(
    image: np.ndarray, mask: np.ndarray, aspect: float, height: int, motion: float, rng: np.random.Generator
) -> _Layer:
    """Make a pasted object: 0.1 to 0.6 of the frame's height in size, at a random position."""
    size = float(np.exp(rng.uniform(np.log(0.1), np.log(0.6))))
    labels = mask.astype(np.uint8)
    shrink = size * height / np.sqrt(mask.sum())
    if shrink < 0.7:
        shape = (max(4, round(shrink * mask.shape[1])), max(4, round(shrink * mask.shape[0])))
        image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
        labels = (cv2.resize(labels * 255, shape, interpolation=cv2.INTER_AREA) > 127).astype(np.uint8)
    if rng.random() < 0.5:
        image, labels = image[:, ::-1].copy(), labels[:, ::-1].copy()
    unit = float(np.sqrt(max(1, labels.sum())))
    place = rng.uniform(-0.45, 0.45, 2) * (aspect, 1.0)
    start = np.array([*place, np.log(size), rng.normal(0, 0.3), rng.normal(0, 0.1)])
    steps = _steps(np.array([0.3, 0.2, 0.25, 0.35, 0.1]), motion, rng)
    return _Layer(image, labels, 1, False, unit, start + steps, _bend(unit * 0.06, rng), _light(0.15, rng))


def _steps(spread: np.ndarray, motion: float, rng: np.random.Generator) -> np.ndarray:
    """Draw control points (3, 5) of a movement that starts at 0; most movements are small."""
    walk = rng.normal(0, 1, (2, 5)) * spread * motion * rng.uniform(0.05, 1.0) ** 1.5
    return np.concatenate([np.zeros((1, 5)), walk.cumsum(0)])


def _bend(reach: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a deformation at the start and at the end of the clip."""
    start = rng.normal(0, 1, (2, GRID, GRID))
    drift = rng.normal(0, 1, (2, GRID, GRID)) * rng.uniform(0, 1.5)
    return np.stack([start, start + drift]) * reach * rng.uniform(0, 1)


def _light(spread: float, rng: np.random.Generator) -> np.ndarray:
    """Draw factors (2, 3) on the colours: mostly common to all, with a small part for each."""
    start = rng.normal(0, spread, 1) + rng.normal(0, spread / 3, 3)
    return np.exp(np.stack([start, start + rng.normal(0, spread / 2, 1)])).astype(np.float32)


@dataclass
class _Scene:
    """Layers, the background first, with the blur and noise of the camera."""

    layers: list[_Layer]
    size: tuple[int, int]
    aspect: float
    frames: int
    blur: float
    noise: float
    seed: int
    done: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def targets(self) -> int:
        """Number of objects of the background and of pasted objects."""
        return sum(layer.targets for layer in self.layers)

    def frame(self, index: int) -> tuple[Tensor, Tensor]:
        """Return frame uint8 (H, W, 3) and masks bool (N, H, W).

        Args:
            index: of the frame.
        """
        if not 0 <= index < self.frames:
            raise IndexError(f"frame {index} of {self.frames}")
        if index not in self.done:
            self.done[index] = self._draw(index)
        return self.done[index]

    def _draw(self, index: int) -> tuple[Tensor, Tensor]:
        time = index / max(1, self.frames - 1)
        pixels, _, labels = self.layers[0].render(time, self.size, self.aspect)
        for number, layer in enumerate(self.layers[1:], self.layers[0].targets + 1):
            over, opacity, inside = layer.render(time, self.size, self.aspect)
            pixels += opacity * (over - pixels)
            labels = np.where(inside > 0, np.uint8(number), labels)
        if self.blur:
            pixels = cv2.GaussianBlur(pixels, (0, 0), self.blur)
        if self.noise:
            pixels += np.random.default_rng((self.seed, index)).normal(0, self.noise, pixels.shape).astype(np.float32)
        image = torch.from_numpy(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))
        masks = torch.from_numpy(labels)[None] == torch.arange(1, self.targets + 1)[:, None, None]
        return image, masks


@dataclass(frozen=True)
class _Frames:
    scene: _Scene

    def __len__(self) -> int:
        return self.scene.frames

    def __getitem__(self, frame: int) -> Tensor:
        return self.scene.frame(frame)[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[frame] for frame in range(len(self)))


@dataclass(frozen=True)
class _Truth:
    scene: _Scene

    def __getitem__(self, frame: int) -> Tensor:
        return self.scene.frame(frame)[1]
