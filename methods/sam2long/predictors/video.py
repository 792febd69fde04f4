"""Interactive tracking in a video, as ``SAM2VideoPredictor`` of the ``sam2`` package."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.nn.preprocessing import resize_logits
from common.nn.sam2 import NO_OBJECT_LOGIT, Candidates
from common.nn.sam2.postprocess import PostProcessing
from common.nn.sam2.prompts import resize_mask_prompts
from common.nn.sam2.types import LOGIT_LIMIT
from common.video.readers import Source
from methods.sam2long.predictors.build import find_network, load_network
from methods.sam2long.predictors.prompts import decoder_points
from methods.sam2long.predictors.state import Answer, Target, VideoState

OVERLAP_LOGIT = -10.0  # largest logit where another object is in front

Frame = tuple[int, list[Hashable], Tensor]


class VideoPredictor(nn.Module):
    """Objects given by points, boxes or masks on any frame are tracked through a video, and corrected, in any order.

    SAM 2 with one pathway. A frame is decoded and encoded when it is used, and only the features of the last one are
    kept. On a GPU there are the answers of the last 6 tracked frames and of the prompted ones; older ones (at 1024
    pixels 0.75 MiB a frame and object: mask logits and memory map) are on the CPU, and are read again when an old frame
    is corrected. ``keep_frames`` bounds their number. Objects are tracked in one batch.

    An object id is anything hashable.

    Args:
        sam_model: a ``SAM2`` network or a module with one, e.g. ``SAM2Long``; it is put into eval mode.
        postprocessing: options; default: those of the network, ``PACKAGE``.
        non_overlap_masks: a pixel belongs to the object of largest logit.
        add_all_frames_to_correct_as_cond: a corrected frame is read as a prompted one from then on.
    """

    def __init__(
        self,
        sam_model: nn.Module,
        postprocessing: PostProcessing | None = None,
        non_overlap_masks: bool = False,
        add_all_frames_to_correct_as_cond: bool = False,
    ) -> None:
        super().__init__()
        self.model = find_network(sam_model).eval()
        self.options = postprocessing or self.model.predictor_options
        self.non_overlap_masks = non_overlap_masks
        self.add_all_frames_to_correct_as_cond = add_all_frames_to_correct_as_cond

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> VideoPredictor:
        """Make a predictor from weights on this machine.

        Args:
            model_id: see ``load_network``.
            kwargs: of ``load_network``.
        """
        return cls(load_network(model_id, **kwargs))

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.model.position.device

    @property
    def image_size(self) -> int:
        """Side of the network's square input."""
        return self.model.image_size

    @torch.inference_mode()
    def init_state(
        self,
        video_path: Source,
        offload_video_to_cpu: bool = False,
        offload_state_to_cpu: bool = False,
        async_loading_frames: bool = False,
        keep_frames: int | None = None,
    ) -> VideoState:
        """Open a video.

        Args:
            video_path: a video file, a folder of images, frames uint8 (T, H, W, 3), or an iterator of frames.
            offload_video_to_cpu: has no effect: frames are always read from where they are.
            offload_state_to_cpu: keep all answers on the CPU, not only old ones.
            async_loading_frames: has no effect.
            keep_frames: only the last so many tracked frames can be corrected; their answers are kept and those of the
                15 frames before, which they read. None = all, or of an iterator 32, whose frames are kept too.

        Raises:
            InputError: the video cannot be read, or ``keep_frames`` is below 1.
        """
        return VideoState(video_path, self.model, keep_frames, offload_state_to_cpu)

    def reset_state(self, inference_state: VideoState) -> None:
        """Remove all objects.

        Args:
            inference_state: from ``init_state``.
        """
        inference_state.targets.clear()
        inference_state.dropped.clear()

    @torch.inference_mode()
    def add_new_points_or_box(
        self,
        inference_state: VideoState,
        frame_idx: int,
        obj_id: Hashable,
        points: Any = None,
        labels: Any = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: Any = None,
    ) -> Frame:
        """Give an object by points or a box on a frame, or correct its answer there.

        On a frame that has not been tracked the points are decoded without memory, on one that has with the memory of
        the frames around; the object's earlier answer on the frame is fed back in both cases.

        Args:
            inference_state: from ``init_state``.
            frame_idx: index of the frame.
            obj_id: an id; a new one makes a new object.
            points: (N, 2), x and y in pixels of the video.
            labels: (N,), 1 on the object, 0 off it.
            clear_old_points: the points replace those given on this frame before, otherwise they join them.
            normalize_coords: points and box are in pixels; otherwise in fractions of the video's sides.
            box: (4,), x0, y0, x1, y1; only with ``clear_old_points``.

        Returns:
            ``frame_idx``, the ids of the objects, and the logits float32 (N, 1, H, W) of their masks on the frame: a
            mask is where they are above 0, and an object without an answer there has -1024 everywhere.

        Raises:
            InputError: neither points nor a box, a box together with earlier points, see ``decoder_points``, no such
                frame, or a frame whose answers are no longer kept.
        """
        frame = inference_state.check_frame(frame_idx)
        if points is None and box is None:
            raise InputError("give points or a box")
        coords, kinds = (
            x.to(self.device)
            for x in decoder_points(points, labels, box, inference_state.size, self.image_size, normalize_coords)
        )
        if len(coords) != 1:
            raise InputError(f"points and box are those of one object, not of {len(coords)}")
        if box is not None and not clear_old_points:
            raise InputError("a box comes before all points of its frame; give it with clear_old_points=True")
        target, is_new, is_prompt = self._target(inference_state, frame, obj_id)
        old = None if clear_old_points else target.points.get(frame)
        if old is not None:
            coords, kinds = torch.cat([old[0], coords], 1), torch.cat([old[1], kinds], 1)
        features = inference_state.features(frame)
        latest = target.new_prompted if is_prompt else target.new_tracked
        before = latest.get(frame) or target.answer(frame)
        mask = None if before is None else before.logits.to(self.device).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        embedding = self.model.without_memory(features)
        if frame in target.backwards:
            bank = self._bank(inference_state, target, frame, target.backwards[frame])
            embedding = self.model.read(features, bank) if bank.maps else embedding
        decoded = self.model.decode(
            embedding,
            features,
            coords,
            kinds,
            mask,
            coords.shape[1] <= 1,
            dynamic_multimask=self.options.dynamic_multimask,
        ).best()
        if is_new:
            inference_state.targets[obj_id] = target
        target.points[frame] = coords, kinds
        target.masks.pop(frame, None)
        return self._store(inference_state, target, frame, is_prompt, decoded, decoded.visible_logits)

    def add_new_points(self, *args: Any, **kwargs: Any) -> Frame:
        """Call ``add_new_points_or_box``, by the name that older versions of the package have."""
        return self.add_new_points_or_box(*args, **kwargs)

    @torch.inference_mode()
    def add_new_mask(self, inference_state: VideoState, frame_idx: int, obj_id: Hashable, mask: Any) -> Frame:
        """Give an object by a mask on a frame, or replace its answer there.

        Args:
            inference_state: from ``init_state``.
            frame_idx: index of the frame.
            obj_id: an id; a new one makes a new object.
            mask: bool (H, W), resized where it has not the size of the network's input; empty = the object is absent.

        Returns:
            See ``add_new_points_or_box``.

        Raises:
            InputError: the mask has not two dimensions, no such frame, or a frame whose answers are no longer kept.
        """
        frame = inference_state.check_frame(frame_idx)
        plane = torch.as_tensor(mask)
        if plane.ndim != 2 or not plane.numel():
            raise InputError(f"frame {frame}: the mask must be (H, W), not {tuple(plane.shape)}")
        target, is_new, is_prompt = self._target(inference_state, frame, obj_id)
        features = inference_state.features(frame)
        planes = resize_mask_prompts(plane[None].to(self.device) > 0, self.image_size).float()
        decoded = self.model.take_mask(features, planes)
        if is_new:
            inference_state.targets[obj_id] = target
        target.masks[frame] = planes
        target.points.pop(frame, None)
        return self._store(inference_state, target, frame, is_prompt, decoded, decoded.logits)

    @torch.inference_mode()
    def propagate_in_video(
        self,
        inference_state: VideoState,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Frame]:
        """Track all objects from a frame on.

        Args:
            inference_state: from ``init_state``.
            start_frame_idx: first frame; default: the first prompted one.
            max_frame_num_to_track: number of frames beyond the first; default: all.
            reverse: against the direction of time.

        Yields:
            Index of the frame, ids of the objects, and the logits float32 (N, 1, H, W) of their masks.

        Raises:
            RuntimeError: there is no object, or one whose inputs have all been cleared.
            InputError: there is no such frame, or the frames before the first are no longer kept.
        """
        state = inference_state
        self.propagate_in_video_preflight(state)
        start = start_frame_idx
        if start is None:
            start = min(frame for target in state.targets.values() for frame in target.prompted)
        start = state.check_frame(start)
        sign = -1 if reverse else 1
        state.check_kept(start, reverse)
        if reverse and start == 0:
            return  # as in the package
        given = dict(state.targets)  # an object that is added meanwhile is tracked by the next propagation
        for step, frame in enumerate(itertools.count(start, sign)):
            past_end = max_frame_num_to_track is not None and step > max_frame_num_to_track
            followed = {id: target for id, target in given.items() if state.targets.get(id) is target}
            if past_end or not followed or not state.has(frame):
                return
            logits = self._track(state, list(followed.values()), frame, reverse)
            state.release(frame, reverse)
            yield frame, list(followed), self._at_video_size(state, logits)

    @torch.inference_mode()
    def propagate_in_video_preflight(self, inference_state: VideoState) -> None:
        """Memorise the answers to all inputs since the last propagation; ``propagate_in_video`` begins with it.

        Args:
            inference_state: from ``init_state``.

        Raises:
            RuntimeError: there is no object, or one whose inputs have all been cleared.
        """
        state = inference_state
        if not state.targets:
            raise RuntimeError("no object has been given; add points, a box or a mask first")
        new = [
            (target, kind) for target in state.targets.values() for kind in (target.new_tracked, target.new_prompted)
        ]
        for frame in sorted({frame for _, answers in new for frame in answers}):
            features = state.features(frame)
            for target, answers in new:
                if (answer := answers.pop(frame, None)) is None:
                    continue
                memory = self.model.encode_memory(features, answer.candidates(), self.options.binarize_clicks)
                answer.map = memory.bfloat16()
                # a correction of a prompted frame replaces its memory; the package forgets it
                prompted = answers is target.new_prompted or frame in target.prompted
                target.tracked.pop(frame, None)
                (target.prompted if prompted else target.tracked)[frame] = answer
                if self.options.clear_around_input:
                    target.clear_tracked(frame)
        for id, target in state.targets.items():
            if not target.prompted:
                raise RuntimeError(f"object {id!r} has no input left; add points, a box or a mask first")

    @torch.inference_mode()
    def clear_all_prompts_in_frame(
        self, inference_state: VideoState, frame_idx: int, obj_id: Hashable, need_output: bool = True
    ) -> Frame | None:
        """Remove the inputs of an object on a frame; a prompted frame counts as tracked from then on.

        Args:
            inference_state: from ``init_state``.
            frame_idx: index of the frame.
            obj_id: id of the object.
            need_output: return the answer.

        Returns:
            See ``add_new_points_or_box``; None without ``need_output``.

        Raises:
            InputError: there is no such frame or object.
        """
        state, frame = inference_state, inference_state.check_frame(frame_idx)
        if obj_id not in state.targets:
            raise InputError(f"object {obj_id!r} is not tracked; tracked are {list(state.targets)}")
        target = state.targets[obj_id]
        for entries in (target.points, target.masks, target.new_prompted, target.new_tracked):
            entries.pop(frame, None)
        if (answer := target.prompted.pop(frame, None)) is not None:
            target.tracked[frame] = answer
            target.backwards.pop(frame, None)
        return self._frame(state, frame) if need_output else None

    @torch.inference_mode()
    def remove_object(
        self, inference_state: VideoState, obj_id: Hashable, strict: bool = False, need_output: bool = True
    ) -> tuple[list[Hashable], list[tuple[int, Tensor]]]:
        """Remove an object.

        Args:
            inference_state: from ``init_state``.
            obj_id: id of the object.
            strict: an unknown id is an error.
            need_output: return the answers of the frames on which the object was given.

        Returns:
            The ids that are left, and for each frame on which the object had inputs the logits (N, 1, H, W) of the
            others.

        Raises:
            RuntimeError: ``strict``, and there is no such object.
        """
        state = inference_state
        target = state.targets.pop(obj_id, None)
        if target is None and strict:
            raise RuntimeError(f"object {obj_id!r} is not tracked; tracked are {list(state.targets)}")
        if not state.targets:
            self.reset_state(state)
        if target is None or not state.targets or not need_output:
            return list(state.targets), []
        frames = sorted({*target.points, *target.masks})
        return list(state.targets), [(frame, self._frame(state, frame)[2]) for frame in frames]

    def _target(self, state: VideoState, frame: int, id: Hashable) -> tuple[Target, bool, bool]:
        """Return an object, whether it is new, and whether the frame's answer is read as that of a prompted frame."""
        target = state.targets.get(id)
        found = target or Target()
        if frame in found.backwards:
            state.check_kept(frame, found.backwards[frame])
        is_prompt = frame not in found.backwards or self.add_all_frames_to_correct_as_cond
        return found, target is None, is_prompt

    def _store(
        self, state: VideoState, target: Target, frame: int, is_prompt: bool, decoded: Candidates, logits: Tensor
    ) -> Frame:
        """Store the answer to an input, to be memorised when the objects are propagated."""
        answer = Answer(self.options.clean(logits), decoded.pointers[:, 0], decoded.score)
        (target.new_prompted if is_prompt else target.new_tracked)[frame] = answer
        return self._frame(state, frame, is_prompt)

    def _track(self, state: VideoState, targets: list[Target], frame: int, reverse: bool) -> Tensor:
        """Track the objects for which a frame is not prompted; return mask logits (N, 1, S/4, S/4) of all."""
        followed = [target for target in targets if frame not in target.prompted]
        if followed:
            features = state.features(frame)
            banks = [self._bank(state, target, frame, reverse) for target in followed]
            decoded = self.model.decode(self.model.read_many(features, banks), features).best()
            maps = self.model.encode_memory(features, decoded).bfloat16()
            logits = self.options.clean(decoded.visible_logits)
            for row, target in enumerate(followed):
                here = slice(row, row + 1)  # copies: a view would keep the whole batch
                target.tracked[frame] = Answer(
                    *(x[here].clone() for x in (logits, decoded.pointers[:, 0], decoded.score, maps))
                )
        out = []
        for target in targets:
            if frame in target.prompted and self.options.clear_around_input:
                target.clear_tracked(frame)
            target.backwards[frame] = reverse
            answer = target.answer(frame)
            assert answer is not None
            out.append(answer.logits.to(self.device))
        return torch.cat(out)

    def _bank(self, state: VideoState, target: Target, frame: int, reverse: bool) -> Any:
        return target.bank(frame, reverse, state.length, self.options.max_prompted_frames, self.device)

    def _frame(self, state: VideoState, frame: int, prompted: bool | None = None) -> Frame:
        """Return the current answers of all objects on a frame.

        Args:
            state: of the video.
            frame: its index.
            prompted: of the answers to new inputs, take those for prompted frames (True), for tracked ones (False), or
                (None) the former where there are any.
        """
        targets = state.targets.values()
        if prompted is None:
            prompted = any(frame in target.new_prompted for target in targets)
        side = self.model.mask_size
        absent = torch.full((1, 1, side, side), NO_OBJECT_LOGIT, device=self.device)
        rows = []
        for target in targets:
            new = (target.new_prompted if prompted else target.new_tracked).get(frame)
            answer = new or target.answer(frame)
            rows.append(absent if answer is None else answer.logits.to(self.device))
        return frame, list(state.targets), self._at_video_size(state, torch.cat(rows))

    def _at_video_size(self, state: VideoState, logits: Tensor) -> Tensor:
        """Resize mask logits (N, 1, S/4, S/4) to (N, 1, H, W), without overlap where that is asked for."""
        out = resize_logits(logits, state.size)
        if self.non_overlap_masks and len(out) > 1:
            first = out.argmax(0, keepdim=True) == torch.arange(len(out), device=out.device).view(-1, 1, 1, 1)
            out = torch.where(first, out, out.clamp(max=OVERLAP_LOGIT))
        return out
