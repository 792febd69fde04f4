"""Semantic segmentation (VSS): a class for each pixel from the learnable queries, a clip after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from common.video import FrameMasks
from methods.univs.inference.mask_ops import quality, to_frame
from methods.univs.inference.settings import InferenceSettings
from methods.univs.inference.window import Window, float32
from methods.univs.network.model import UniVSNetwork


class Semantic:
    """See ``Task``. The released code feeds the names as prompts too, which learnable queries do not see (SepSA)."""

    idle = False

    def __init__(self, model: UniVSNetwork, settings: InferenceSettings, vocabulary: Sequence[str]) -> None:
        self.model, self.stride = model, settings.clip
        self.concepts = model.concepts(vocabulary)
        self._frames = range(0)
        self._masks = torch.empty(0)  # (Q, T, h, w)
        self._classes = torch.empty(0)  # (Q, K)

    def look(self, window: Window) -> None:
        """Take the next clip."""
        found = self.model.decode(window.scene, every=False)[-1].learnable
        classes = self.model.class_logits(found.classes, self.concepts)[0].float().sigmoid()
        self._frames, self._masks = window.frames, float32(found).masks
        self._classes = classes * quality(self._masks)[:, None]

    def answer(self, frame: int, window: Window) -> FrameMasks:
        """Each pixel to its best class; the score is its mean share of all scores there."""
        masks = to_frame(self._masks[:, self._frames.index(frame)], window.scene.size)
        return class_masks(frame, class_scores(self._classes, masks), window.size)


def class_scores(classes: Tensor, masks: Tensor) -> Tensor:
    """Score (K, H, W) of each class at each pixel: sum over queries of class probability (Q, K) times mask."""
    return torch.einsum("qk,qhw->khw", classes, masks.sigmoid())


def class_masks(frame: int, scores: Tensor, size: tuple[int, int]) -> FrameMasks:
    """The answer for the scores (K, h, w) of the classes, at ``size`` by the nearest pixel; the target is class + 1."""
    share = scores / scores.sum(0).clamp(min=1e-6)
    labels = scores.argmax(0)
    found = labels.unique()
    sure = torch.stack([share[k][labels == k].mean() for k in found])
    labels = F.interpolate(labels[None, None].float(), size, mode="nearest")[0, 0]
    masks = labels == found[:, None, None]
    shown = masks.flatten(1).any(1)
    places = tuple(found[shown].tolist())
    return FrameMasks(frame, tuple(place + 1 for place in places), masks[shown], sure[shown], places)
