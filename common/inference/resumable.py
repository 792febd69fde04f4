"""One video tracked into a folder, a run that can be stopped and continued."""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from common.errors import InputError
from common.files import write_text
from common.inference.output import overlays, write_labels
from common.inference.session import Session
from common.segmenter import VideoSegmenter
from common.video import ImageFolder, Video, contact_sheet, rle_encode, atomic_path, write_video
from common.video.occurrences import occurrences
from common.video.types import FrameMasks, Prompt

RESULT, LINES, STATE = "masks.json", "masks.jsonl.part", "session.part"
SHEET = (3, 4)  # rows and columns of the contact sheet


class Tracking:
    """Follows the targets of a video and writes, into a folder:

    ``masks/<frame>.png`` (palette), ``masks.json`` (a list of COCO results: ``image_id`` is the frame, ``track_id`` the
    target, ``segmentation`` compressed RLE, ``score``; nothing for an empty mask), ``occurrences.json`` (each target's
    first and last frame of each run of frames that shows it), ``overlay.mp4`` (H.264) and ``contact.png``. Frames of a
    stream, which come once, are kept in ``frames/``.

    A run that is stopped by Ctrl-C ends after the frame it is at and leaves ``session.part``, from which another goes
    on to exactly the answers of a run in one go. A stream then ends there.

    Args:
        segmenter: the method.
        video: the video with its prompts.
        folder: where everything goes.
        key: changes with all that the answers depend on; a stopped run of another key is not continued.

    Attributes:
        finished: everything is written.
    """

    def __init__(self, segmenter: VideoSegmenter, video: Video, folder: Path, key: str) -> None:
        self.segmenter, self.video, self.folder, self.key = segmenter, video, folder, key
        self.finished = False

    def run(self, resume: bool = False) -> Iterator[int]:
        """Track, and yield the number of frames taken after each.

        Args:
            resume: go on where a stopped run ended.

        Raises:
            InputError: the folder holds another run, there is nothing to continue, or what ``Session.step`` raises.
        """
        session, start = self._continued() if resume else (self._begun(), 0)
        waiting: dict[int, list[Prompt]] = defaultdict(list)
        for prompt in self.video.prompts:
            if self.video.length is not None and prompt.frame >= self.video.length:
                raise InputError(
                    f"target {prompt.target} is given at frame {prompt.frame}, but {self.video.id} has "
                    f"{self.video.length} frames, counted from 0"
                )
            waiting[prompt.frame].append(prompt)
        self.segmenter.eval()
        with _until_interrupted() as stopped, torch.inference_mode():
            for index, frame in enumerate(self._frames(start), start):
                self._write(session.step(frame.to(self.segmenter.device), waiting.pop(index, ())))
                yield index + 1
                if stopped.is_set():
                    break
            if stopped.is_set() and self.video.length not in (None, index + 1):
                self._save(session, index + 1)
                return
            self._write(session.finish())
        self._finish()
        self.finished = True

    def _frames(self, start: int) -> Iterable[Tensor]:
        if self.video.length is not None:
            return (self.video[index] for index in range(start, self.video.length))
        return self._kept(self.video)

    def _kept(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        for index, frame in enumerate(frames):
            with atomic_path(self.folder / "frames" / f"{index:05d}.jpg") as part:
                Image.fromarray(frame.numpy()).save(part, "JPEG", quality=95)
            yield frame

    def _write(self, answers: Sequence[FrameMasks]) -> None:
        if not answers:
            return
        with (self.folder / LINES).open("a", encoding="utf-8") as lines:
            for answer in answers:
                write_labels(answer, self._labels / f"{self.video.name(answer.frame)}.png")
                lines.writelines(json.dumps(result) + "\n" for result in _results(answer))

    def _finish(self) -> None:
        """The files that are made of the whole."""
        lines = self.folder / LINES
        write_text(self.folder / "occurrences.json", json.dumps(_occurrences(lines)) + "\n")
        with atomic_path(self.folder / RESULT) as part, part.open("w", encoding="utf-8") as file:
            file.write("[")
            with lines.open(encoding="utf-8") as results:
                file.writelines((",\n" if number else "\n") + line.rstrip("\n") for number, line in enumerate(results))
            file.write("\n]\n")
        video = self.video
        if video.length is None:
            video = Video(video.id, ImageFolder(self.folder / "frames"), video.fps)
        write_video(self.folder / "overlay.mp4", overlays(video, self._labels), video.fps)
        rows, columns = SHEET
        shown = sorted({round(step * (len(video) - 1) / (rows * columns - 1)) for step in range(rows * columns)})
        sheet = contact_sheet(overlays(video, self._labels, shown), min(columns, len(shown)))
        with atomic_path(self.folder / "contact.png") as part:
            Image.fromarray(sheet.numpy()).save(part, "PNG")
        lines.unlink()
        (self.folder / STATE).unlink(missing_ok=True)

    @property
    def _labels(self) -> Path:
        return self.folder / "masks"

    # Stopping and going on.

    def _begun(self) -> Session:
        if self.folder.is_dir() and any(self.folder.iterdir()):
            stopped = (self.folder / STATE).is_file()
            what = "a stopped run; continue it with --resume" if stopped else "files already"
            raise InputError(f"{self.folder}: there is {what}; or give another --output, or remove it")
        self._labels.mkdir(parents=True)
        (self.folder / LINES).touch()
        return self.segmenter.session(self.video.length)

    def _save(self, session: Session, taken: int) -> None:
        state = {"key": self.key, "taken": taken, "written": (self.folder / LINES).stat().st_size, "session": session}
        with atomic_path(self.folder / STATE) as part, part.open("wb") as file:
            _Pickler(file, self.segmenter).dump(state)

    def _continued(self) -> tuple[Session, int]:
        path = self.folder / STATE
        if not path.is_file():
            raise InputError(f"{path}: there is no stopped run to continue here; leave out --resume")
        with path.open("rb") as file:
            try:
                state = _Unpickler(file, self.segmenter).load()
            except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, KeyError) as error:
                raise InputError(f"{path}: damaged or of another version ({error}); start again elsewhere") from None
        if state["key"] != self.key:
            raise InputError(
                f"{path}: the stopped run had another video, other targets or other weights; repeat its command"
            )
        os.truncate(self.folder / LINES, state["written"])
        return state["session"], state["taken"]


def _occurrences(lines: Path) -> dict[int, list[tuple[int, int]]]:
    """First and last frame of every occurrence of each target."""
    shown: dict[int, set[int]] = defaultdict(set)
    with lines.open(encoding="utf-8") as results:
        for line in results:
            result = json.loads(line)
            shown[result["track_id"]].add(result["image_id"])
    return {target: occurrences([t in at for t in range(max(at) + 1)]) for target, at in sorted(shown.items())}


def _results(answer: FrameMasks) -> Iterator[dict[str, Any]]:
    categories = answer.categories or (0,) * len(answer.targets)
    some = answer.masks.flatten(1).any(1).tolist()
    rows = zip(answer.targets, categories, answer.scores.tolist(), rle_encode(answer.masks), some, strict=True)
    for target, category, score, rle, visible in rows:
        if visible:
            yield {
                "image_id": answer.frame,
                "category_id": category + 1,
                "track_id": target,
                "segmentation": rle,
                "score": round(score, 4),
            }


class _Pickler(pickle.Pickler):
    """Saves a session without the network, which it names by its place in the segmenter."""

    def __init__(self, file: Any, segmenter: nn.Module) -> None:
        super().__init__(file)
        self.names = {id(module): name for name, module in segmenter.named_modules()}

    def persistent_id(self, obj: Any) -> str | None:
        """Name of a module."""
        return self.names.get(id(obj)) if isinstance(obj, nn.Module) else None


class _Unpickler(pickle.Unpickler):
    """Reads what ``_Pickler`` wrote: plain data, tensors, and classes of this suite."""

    def __init__(self, file: Any, segmenter: nn.Module) -> None:
        super().__init__(file)
        self.modules = dict(segmenter.named_modules())

    def persistent_load(self, name: str) -> nn.Module:
        """The module of this name."""
        return self.modules[name]


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
