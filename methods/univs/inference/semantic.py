"""Semantic segmentation (VSS): a category for each pixel from the learnable queries, in clips that do not overlap.

Legend: Q learnable queries, K categories, T frames of the clip.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from common.video import FrameMasks
from methods.univs.inference.mask_ops import mask_quality, upsample_logits
from methods.univs.inference.window import Window, first_clip
from methods.univs.network.model import UniVSNetwork
from methods.univs.settings import InferenceSettings


class SemanticClasses:
    """Task of semantic segmentation, see ``Task``.

    The released code decodes the category names as prompts too. Learnable queries do not attend to them (SepSA), so
    they are left out here.

    Args:
        network: in eval mode.
        settings: length of the clips.
        vocabulary: K category names.
    """

    idle = False

    def __init__(self, network: UniVSNetwork, settings: InferenceSettings, vocabulary: Sequence[str]) -> None:
        self.network, self.stride = network, settings.clip
        self.concepts = network.concepts(vocabulary)
        self._frames = range(0)
        self._masks = torch.empty(0)  # (Q, T, h, w)
        self._classes = torch.empty(0)  # (Q, K)

    def observe(self, window: Window) -> None:
        """Process the next clip."""
        learnable = self.network.decode(window.scene, all_layers=False)[-1].learnable
        classes = self.network.class_logits(learnable.classes, self.concepts)[0].float().sigmoid()
        self._frames, self._masks = window.frames, first_clip(learnable).masks
        self._classes = classes * mask_quality(self._masks)[:, None]

    def predict(self, frame: int, window: Window) -> FrameMasks:
        """Return a mask for each category on the frame; each pixel gets the category of largest score.

        Args:
            frame: index of the frame in the video.
            window: the last clip.
        """
        masks = upsample_logits(self._masks[:, self._frames.index(frame)], window.scene.size)
        return class_masks(frame, class_scores(self._classes, masks), window.size)


def class_scores(classes: Tensor, masks: Tensor) -> Tensor:
    """Return the score of each category at each pixel, (K, H, W): sum over queries of class x mask probability.

    Args:
        classes: class probabilities (Q, K).
        masks: logits (Q, H, W).
    """
    return torch.einsum("qk,qhw->khw", classes, masks.sigmoid())


def class_masks(frame: int, scores: Tensor, size: tuple[int, int]) -> FrameMasks:
    """Return the masks of the categories that are present; the target id is the category plus 1.

    The score of a mask is the category's share of all scores, averaged over its pixels.

    Args:
        frame: index of the frame in the video.
        scores: (K, h, w).
        size: (H, W) of the masks, which are resized by nearest neighbour.
    """
    share = scores / scores.sum(0).clamp(min=1e-6)
    labels = scores.argmax(0)
    categories: Tensor = torch.unique(labels)
    confidence = torch.stack([share[k][labels == k].mean() for k in categories])
    # one map of labels is resized, not the K maps of scores
    labels = F.interpolate(labels[None, None].float(), size, mode="nearest")[0, 0]
    masks = labels == categories[:, None, None]
    present = masks.flatten(1).any(1)  # a small region can vanish in resizing
    places = tuple(categories[present].tolist())
    return FrameMasks(frame, tuple(place + 1 for place in places), masks[present], confidence[present], places)
