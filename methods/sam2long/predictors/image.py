"""Prediction on single images from points, boxes and masks, as ``SAM2ImagePredictor`` of the ``sam2`` package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from common.errors import InputError
from common.nn.preprocessing import normalise, resize_frame, resize_logits
from common.nn.sam2 import SAM2, FrameFeatures
from common.nn.sam2.postprocess import clean_masks
from common.nn.sam2.types import LOGIT_LIMIT
from methods.sam2long.predictors.build import find_network, load_network
from methods.sam2long.predictors.prompts import decoder_points

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
CLEANING_MARGIN = 10.0  # logit of filled holes above the threshold


class ImagePredictor:
    """Masks on an image or on a batch of images, from any number of prompts after one encoding.

    Shape legend: B prompts, N points, C = 3 candidates (1 without ``multimask_output``), S side of the network's input.

    Args:
        sam_model: a ``SAM2`` network or a module with one, e.g. ``SAM2Long``; it is put into eval mode.
        mask_threshold: logit above which a pixel is foreground.
        max_hole_area: holes up to this area in the S/4 mask are filled; 0 = none.
        max_sprinkle_area: isolated regions up to this area in the S/4 mask are removed; 0 = none.
        kwargs: ignored, as in the package.
    """

    def __init__(
        self,
        sam_model: nn.Module,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.model: SAM2 = find_network(sam_model).eval()
        self.mask_threshold = mask_threshold
        self.max_hole_area, self.max_sprinkle_area = max_hole_area, max_sprinkle_area
        self.reset_predictor()

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> ImagePredictor:
        """Make a predictor from weights on this machine.

        Args:
            model_id: see ``load_network``.
            kwargs: of ``load_network`` and of the constructor.
        """
        return cls(load_network(model_id, **kwargs), **kwargs)

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.model.position.device

    def reset_predictor(self) -> None:
        """Forget the image."""
        self._features: FrameFeatures | None = None
        self._sizes: list[tuple[int, int]] = []
        self._is_batch = False

    def set_image(self, image: np.ndarray | Image.Image) -> None:
        """Encode an image.

        Args:
            image: RGB, uint8 (H, W, 3) or float in [0, 1], or a Pillow image.

        Raises:
            InputError: another shape, type or range.
        """
        self._encode([image])

    def set_image_batch(self, image_list: Sequence[np.ndarray]) -> None:
        """Encode several images, of any sizes, for ``predict_batch``.

        Args:
            image_list: see ``set_image``.

        Raises:
            InputError: the list is empty, or see ``set_image``.
        """
        if not image_list:
            raise InputError("set_image_batch: the list of images is empty")
        self._encode(image_list)
        self._is_batch = True

    @torch.no_grad()
    def _encode(self, images: Sequence[np.ndarray | Image.Image]) -> None:
        self.reset_predictor()
        frames = [_read_image(image, index) for index, image in enumerate(images)]
        side = (self.model.image_size, self.model.image_size)
        pixels = [resize_frame(frame.to(self.device), side) for frame in frames]
        self._features = self.model.encode(normalise(torch.cat(pixels)))
        self._sizes = [(frame.shape[0], frame.shape[1]) for frame in frames]

    @torch.no_grad()
    def get_image_embedding(self) -> Tensor:
        """Return the embedding of the image or images, float (B, C, S/16, S/16), C = 256 channels (nano 64).

        Raises:
            RuntimeError: no image has been set.
        """
        return self.model.without_memory(self._image())

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Arrays:
        """Predict masks from prompts on the image.

        Args:
            point_coords: (N, 2) or (B, N, 2), x and y in pixels of the image.
            point_labels: (N,) or (B, N), 1 on the object, 0 off it.
            box: (4,) or (B, 4), x0, y0, x1, y1 in pixels of the image.
            mask_input: logits (1, S/4, S/4) of an earlier answer, or (B, 1, S/4, S/4).
            multimask_output: three candidates instead of one.
            return_logits: logits instead of masks.
            normalize_coords: points and boxes are in pixels; otherwise in fractions of the image's sides.

        Returns:
            Masks float32 in {0, 1}, or logits, (C, H, W) or (B, C, H, W) for more than one prompt; their predicted IoUs
            (C,) or (B, C); their logits (C, S/4, S/4) or (B, C, S/4, S/4), clamped to ±32.

        Raises:
            InputError: see ``decoder_points``, or a mask of another shape.
            RuntimeError: no image has been set.
        """
        self._image()
        return self._predict_image(
            -1, (point_coords, point_labels, box, mask_input), multimask_output, return_logits, normalize_coords
        )

    def predict_batch(
        self,
        point_coords_batch: Sequence[np.ndarray] | None = None,
        point_labels_batch: Sequence[np.ndarray] | None = None,
        box_batch: Sequence[np.ndarray] | None = None,
        mask_input_batch: Sequence[np.ndarray] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Predict masks on every image of a batch; every argument is a list with one entry for each image.

        Args:
            point_coords_batch: see ``predict``.
            point_labels_batch: see ``predict``.
            box_batch: see ``predict``.
            mask_input_batch: see ``predict``.
            multimask_output: three candidates instead of one.
            return_logits: logits instead of masks.
            normalize_coords: points and boxes are in pixels; otherwise in fractions of the image's sides.

        Returns:
            Three lists, see ``predict``.

        Raises:
            InputError: an argument has not one entry for each image, or see ``predict``.
            RuntimeError: no batch has been set.
        """
        self._image()
        if not self._is_batch:
            raise RuntimeError("predict_batch needs images set by set_image_batch")
        count = len(self._sizes)
        arguments = (point_coords_batch, point_labels_batch, box_batch, mask_input_batch)
        for argument in arguments:
            if argument is not None and len(argument) != count:
                raise InputError(f"predict_batch: {len(argument)} prompts for {count} images; give one for each")
        answers = [
            self._predict_image(
                index,
                [None if argument is None else argument[index] for argument in arguments],
                multimask_output,
                return_logits,
                normalize_coords,
            )
            for index in range(count)
        ]
        masks, ious, logits = zip(*answers, strict=True)
        return list(masks), list(ious), list(logits)

    def _predict_image(
        self,
        index: int,
        prompts: Sequence[np.ndarray | None],
        multimask: bool,
        return_logits: bool,
        normalize_coords: bool,
    ) -> Arrays:
        """Predict masks on one image of the batch from points, labels, box and mask."""
        size, (coords, kinds, box, mask_input) = self._sizes[index], prompts
        points, labels = decoder_points(coords, kinds, box, size, self.model.image_size, normalize_coords)
        mask = None if mask_input is None else _mask_input(mask_input, self.model.mask_size).to(self.device)
        small, ious = self.decode(points.to(self.device), labels.to(self.device), mask, multimask, index)
        masks = self.upsample(small, size)
        if not return_logits:
            masks = masks > self.mask_threshold
        masks, ious, small = (x.squeeze(0).float().cpu() for x in (masks, ious, small.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)))
        return masks.numpy(), ious.numpy(), small.numpy()

    @torch.no_grad()
    def decode(
        self, points: Tensor, labels: Tensor, mask: Tensor | None = None, multimask: bool = True, index: int = -1
    ) -> tuple[Tensor, Tensor]:
        """Decode a batch of prompts on one image, on the device.

        Args:
            points: (B, N, 2) in pixels of the network's input.
            labels: int64 (B, N).
            mask: logits (B, 1, S/4, S/4) or (1, 1, S/4, S/4), or None.
            multimask: three candidates instead of one.
            index: of the image in the batch.

        Returns:
            Mask logits float32 (B, C, S/4, S/4) as decoded, and predicted IoUs (B, C).
        """
        whole = self._image()
        features = whole.select(torch.tensor([index % len(self._sizes)], device=self.device))
        batch = max(len(points), 1 if mask is None else len(mask))
        embedding = self.model.without_memory(features).expand(batch, -1, -1, -1)
        dynamic = self.model.predictor_options.dynamic_multimask
        points, labels = points.expand(batch, -1, -1), labels.expand(batch, -1)
        candidates = self.model.decode(embedding, features, points, labels, mask, multimask, dynamic_multimask=dynamic)
        return candidates.logits.float(), candidates.ious

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Clean mask logits (B, C, S/4, S/4) and resize them to an image.

        Args:
            logits: from ``decode``.
            size: (H, W) of the image.

        Returns:
            (B, C, H, W).
        """
        areas = (self.max_hole_area, self.max_sprinkle_area)
        return resize_logits(clean_masks(logits, *areas, self.mask_threshold, CLEANING_MARGIN), size)

    def _image(self) -> FrameFeatures:
        if self._features is None:
            raise RuntimeError("no image has been set; call set_image or set_image_batch first")
        return self._features


def _read_image(image: np.ndarray | Image.Image, index: int) -> Tensor:
    """Return an image as a tensor (H, W, 3), uint8 or float in [0, 255]."""
    if isinstance(image, Image.Image):
        return torch.from_numpy(np.array(image.convert("RGB")))
    array = torch.as_tensor(np.ascontiguousarray(image))
    if array.ndim != 3 or array.shape[2] != 3 or not array.numel():
        raise InputError(f"image {index} is {tuple(array.shape)}; give RGB as (H, W, 3)")
    if array.dtype == torch.uint8:
        return array
    if not array.is_floating_point() or not ((array >= 0) & (array <= 1)).all():
        raise InputError(f"image {index} is {array.dtype}; give uint8, or floating point in [0, 1]")
    return array.float() * 255


def _mask_input(mask: np.ndarray, side: int) -> Tensor:
    """Return mask logits (B, 1, S/4, S/4)."""
    logits = torch.as_tensor(mask).float()
    logits = logits[None] if logits.ndim == 3 else logits
    if logits.ndim != 4 or logits.shape[1:] != (1, side, side):
        raise InputError(f"mask_input must be logits (1, {side}, {side}), not {tuple(torch.as_tensor(mask).shape)}")
    return logits
