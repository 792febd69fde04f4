"""VSPW: video semantic segmentation in the wild.

Source: Miao et al., "VSPW: A Large-scale Dataset for Video Scene Parsing in the Wild", CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from common.benchmarks.layouts.per_video import AbsentFrames, MaskFolder, first_appearances, read_list
from common.benchmarks.tasks.vos import true_masks
from common.benchmarks.tasks.vss import VSSBenchmark
from common.errors import InputError
from common.files import read_json
from common.metrics.vspw import OTHERS, VOID
from common.video import FrameMasks, ImageFolder, Prompt, Video
from common.video.masks import read_label_map

NAMES = "label_num_dic_final.json"


class VSPW(VSSBenchmark):
    """VSPW at 480p: 124 classes; pixels annotated as others or void are excluded.

    Args:
        root: folder with ``data`` and the lists.
        split: ``val``, ``train`` or ``test``.
        videos: names of the videos to use, in this order; default: all videos of the split.
    """

    name = "vspw"
    folders = ("vspw480p", "vspw")
    source = "https://github.com/sssdddwww2/vspw_dataset_download"
    splits = ("val", "train", "test")
    protocol = (
        "at the size of the annotations (480p): mIoU of one confusion matrix over all videos; mVC over all clips of 8 "
        "and 16 frames of all videos, as the official program counts them"
    )
    layout = """
        val.txt, train.txt, test.txt                names of videos, one a line
        label_num_dic_final.json                    {name: label}, labels from 1
        data/<video>/origin/<frame>.jpg
        data/<video>/mask/<frame>.png               grey: 0 others, 1 to 124, 255 void; not in test"""

    def __init__(self, root: str | Path | None = None, split: str = "val", videos: Sequence[str] | None = None) -> None:
        super().__init__(root, split, videos)

    def list_videos(self) -> list[str]:
        """Return the names in the split file."""
        return read_list(self.root / f"{self.split}.txt")

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Class names, by ascending label.

        Raises:
            InputError: the list of names is missing, or its labels are not 1, 2, 3, ...
        """
        path = self.root / NAMES
        labels = read_json(path, "list of names")
        names = {label: name for name, label in labels.items() if label not in (OTHERS, VOID)}
        if not names or sorted(names) != list(range(1, len(names) + 1)):
            raise InputError(f'{path}: must be {{"<name>": <label>}} with the labels 1, 2, 3, ...; unpack it again')
        return tuple(names[label] for label in sorted(names))

    def open(self, id: str) -> Video:
        """Open a video.

        Args:
            id: name of the video.

        Raises:
            InputError: frames or annotations are missing or inconsistent.
        """
        folder, masks = self.root / "data" / id / "origin", self.root / "data" / id / "mask"
        frames: ImageFolder | AbsentFrames
        if folder.is_dir() or not masks.is_dir():
            frames = ImageFolder(folder, gaps=True)
        else:
            frames = AbsentFrames(folder, sorted(path.stem for path in masks.glob("*.png")))
        truth = MaskFolder(masks, frames.names, frames.size) if masks.is_dir() else None
        if truth is not None:
            truth.targets = tuple(first_appearances(truth))
            if max(truth.targets, default=0) > len(self.vocabulary):
                raise InputError(f"{masks}: label {max(truth.targets)}, but {NAMES} ends at {len(self.vocabulary)}")
        targets = () if truth is None else truth.targets
        return Video(
            id=id,
            frames=frames,
            fps=15.0,
            prompts=(Prompt(1, vocabulary=self.vocabulary, stuff=self.vocabulary),),
            targets=targets,
            truth=truth,
            names=frames.names,
            vocabulary=self.vocabulary,
            stuff=self.vocabulary,
            categories={target: target - 1 for target in targets},
        )

    def true_labels(self, video: Video, answer: FrameMasks) -> Tensor:
        """Return the label map of the file: video consistency distinguishes others from void."""
        assert isinstance(video.truth, MaskFolder)
        size = true_masks(video, answer).shape[1:]  # checks the size of the prediction
        labels = read_label_map(video.truth.path(answer.frame)).to(answer.masks.device, torch.int64)
        return labels.reshape(size)
