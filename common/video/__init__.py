"""Videos, prompts and masks: types, readers and writers."""

from common.files import atomic_path
from common.video.images import read_image
from common.video.masks import (
    VOID,
    boxes_from_masks,
    check_annotation,
    labels_from_masks,
    masks_from_labels,
    palette,
    read_label_map,
    rle_decode,
    rle_encode,
    write_label_map,
)
from common.video.readers import ImageFolder, IteratorFrames, TensorFrames, open_video
from common.video.types import FrameMasks, MaskCandidates, Prompt
from common.video.video import Annotations, Frames, Video
from common.video.video_file import VideoFile
from common.video.writers import contact_sheet, overlay, write_video

__all__ = [
    "VOID",
    "Annotations",
    "FrameMasks",
    "MaskCandidates",
    "Frames",
    "ImageFolder",
    "IteratorFrames",
    "Prompt",
    "TensorFrames",
    "Video",
    "VideoFile",
    "atomic_path",
    "boxes_from_masks",
    "check_annotation",
    "contact_sheet",
    "labels_from_masks",
    "masks_from_labels",
    "open_video",
    "overlay",
    "palette",
    "read_image",
    "read_label_map",
    "rle_decode",
    "rle_encode",
    "write_label_map",
    "write_video",
]
