"""Tracking of one video into a folder, which can be interrupted and resumed."""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import groupby
from pathlib import Path
from shutil import rmtree
from time import monotonic
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from common.checkpoints import load_pickled
from common.errors import InputError
from common.files import write_text
from common.inference.output import overlays, write_labels
from common.inference.playback import (
    Direction,
    Propagation,
    empty_answers,
    evaluation_mode,
    first_frames,
    in_video,
    nearest_prompts,
    prompt_ahead,
    prompts_by_frame,
    propagations,
    steps,
)
from common.inference.session import Method, Session
from common.video import ImageFolder, Video, atomic_path, contact_sheet, rle_decode, rle_encode, write_video
from common.video.occurrences import occurrences
from common.video.types import FrameMasks

RESULT, LINES, STATE = "masks.json", "masks.jsonl.part", "session.part"
SAVE_EVERY = 60.0  # seconds
SHEET = (3, 4)  # rows and columns of the contact sheet
# A saved session may hold classes of this suite and these; everything else in a file is refused.
SUITE = ("common.", "methods.")
PLAIN = {
    "builtins": {"bytearray", "complex", "dict", "frozenset", "int", "list", "range", "set", "slice", "tuple"},
    "collections": {"Counter", "OrderedDict", "defaultdict", "deque"},
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "torch": {"Size", "device", *(name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype))},
}


class Tracking:
    """Tracks the targets of a video and writes the answers into a folder.

    Files: ``masks/<frame>.png`` (palette), ``masks.json`` (a list of COCO results: ``image_id`` is the frame,
    ``track_id`` the target, ``segmentation`` compressed RLE, ``score``; empty masks are left out), ``occurrences.json``
    (first and last frame of every run of frames that shows a target), ``overlay.mp4`` (H.264) and ``contact.png``.
    Frames of a stream, which can be read only once, are stored in ``frames/``.

    Where asked for: in ``masks.json``, ``candidates`` of a target on the frame of an ambiguous prompt, each with
    ``segmentation`` and ``predicted_iou``, also where the mask itself is empty; ``logits/<frame>.npz``, mask logits
    float16 (H, W) under the id of each target.

    Ctrl-C ends the run after the current frame and leaves ``session.part``, from which a later run continues to exactly
    the answers of an uninterrupted run. So does a frame that cannot be read; a run that is killed continues from the
    last ``session.part``, which is written every minute. A stream ends there instead. The folder is made with the first
    answer, so a run that is refused leaves none.

    Args:
        method: opens the session.
        video: the video with its prompts.
        folder: output folder.
        key: digest of everything that the answers depend on; a run with another key is not resumed.
        direction: see ``common.inference.playback.propagations``.
        asked: see ``Session.ask``.

    Attributes:
        finished: whether everything was written.
    """

    def __init__(
        self,
        method: Method,
        video: Video,
        folder: Path,
        key: str,
        direction: Direction = "forward",
        asked: Sequence[str] = (),
    ) -> None:
        self.method, self.video, self.folder, self.key = method, video, folder, key
        self.direction, self.asked = direction, asked
        self.finished = False

    def run(self, resume: bool = False) -> Iterator[int]:
        """Track the video.

        Args:
            resume: continue an interrupted run.

        Yields:
            The number of frames done, after each frame.

        Raises:
            InputError: the folder holds another run, there is nothing to resume, or see ``prompts_by_frame`` and
                ``Session.step``.
        """
        plan = self._plan()
        length = len(plan[0].frames) if plan else None
        session, start = self._resume() if resume else (self._begin(length), 0)
        with (
            _until_interrupted() as interrupted,
            evaluation_mode(self.method.networks().values()),
            torch.inference_mode(),
        ):
            done, saved = start, monotonic()
            try:
                for number, propagation in enumerate(plan):
                    before = sum(len(earlier.frames) for earlier in plan[:number])
                    if start > before + len(propagation.frames):
                        continue
                    if number and start <= before:
                        session = self._session(len(propagation.frames))
                    begun = start > before
                    first = start - before if begun else 0
                    propagation = prompt_ahead(session, self.video, propagation, self.method.device, begun)
                    frames = (self.video[index] for index in propagation.frames[first:])
                    taken = steps(session, frames, propagation.prompts, self.method.device, first)
                    for done, answers in enumerate(taken, before + first + 1):
                        self._write(in_video(propagation, answers))
                        yield done
                        if interrupted.is_set() and done < sum(len(part.frames) for part in plan):
                            self._save(session, done)
                            return
                        if monotonic() - saved > SAVE_EVERY:
                            self._save(session, done)
                            saved = monotonic()
                    self._write(in_video(propagation, session.finish()))
                if plan:
                    self._write(empty_answers(self.video, plan))
                else:
                    yield from self._stream(session, interrupted)
            except (InputError, OSError):
                # the frame was refused or cannot be read: the session is as it was after the frame before
                if plan and done:
                    self._save(session, done)
                elif not self._labels.is_dir():
                    rmtree(self.folder / "frames", ignore_errors=True)  # of a stream whose first frame was refused
                raise
        self._finish()
        self.finished = True

    def _plan(self) -> list[Propagation]:
        """The propagations through a video of known length; none for a stream."""
        if self.video.length is None and self.direction == "forward":
            return []
        return propagations(self.video, self.direction)

    def _stream(self, session: Session, interrupted: threading.Event) -> Iterator[int]:
        """Track a stream, which ends with an interruption."""
        prompts = prompts_by_frame(self.video)
        taken = steps(session, self._stored(self.video), prompts, self.method.device)
        for done, answers in enumerate(taken, 1):
            self._write(answers)
            yield done
            if interrupted.is_set():
                break
        self._write(session.finish())

    def _stored(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        for index, frame in enumerate(frames):
            with atomic_path(self.folder / "frames" / f"{index:05d}.jpg") as part:
                Image.fromarray(frame.numpy()).save(part, "JPEG", quality=95)
            yield frame

    def _write(self, answers: Iterable[FrameMasks]) -> None:
        if not self._labels.is_dir():
            self._labels.mkdir(parents=True)
            (self.folder / LINES).touch()
        if not (answers := list(answers)):
            return
        with (self.folder / LINES).open("a", encoding="utf-8") as lines:
            for answer in answers:
                write_labels(answer, self._labels / f"{self.video.name(answer.frame)}.png")
                lines.writelines(json.dumps(result) + "\n" for result in _results(answer))
                if answer.logits is not None:
                    self._write_logits(answer)

    def _write_logits(self, answer: FrameMasks) -> None:
        """Write the logits of a frame, in both directions next to those of the first."""
        assert answer.logits is not None
        path = self.folder / "logits" / f"{self.video.name(answer.frame)}.npz"
        planes = zip(map(str, answer.targets), answer.logits.half().cpu().numpy(), strict=True)
        arrays = dict(planes)
        if self.direction == "both" and path.is_file():
            with np.load(path) as before:
                arrays |= dict(before)
        with atomic_path(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def _finish(self) -> None:
        """The files that are made of the whole."""
        lines = self.folder / LINES
        if self.direction != "forward":
            with lines.open(encoding="utf-8") as results:
                ordered = sorted(results, key=lambda line: json.loads(line)["image_id"])
            write_text(lines, "".join(ordered))
        if self.direction == "both" and len(set(first_frames(self.video).values())) > 1:
            self._join(lines)
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

    def _join(self, lines: Path) -> None:
        """Join the answers of both directions where there are such for one frame, see ``playback.nearest_prompts``."""
        first = first_frames(self.video)
        with lines.open(encoding="utf-8") as results, atomic_path(lines) as part, part.open("w") as file:
            for frame, group in groupby(map(json.loads, results), key=lambda result: result["image_id"]):
                by_target: dict[int, dict[str, Any]] = {}
                for result in group:
                    by_target.setdefault(result["track_id"], result)  # of the forward direction, which came first
                rows = [by_target[target] for target in sorted(by_target)]
                masks = rle_decode([row["segmentation"] for row in rows])
                answer = FrameMasks(frame, tuple(sorted(by_target)), masks, torch.ones(len(rows)))
                if "overlap" not in self.asked:
                    answer = nearest_prompts(answer, first)
                write_labels(answer, self._labels / f"{self.video.name(frame)}.png")
                encoded = zip(rows, rle_encode(answer.masks), answer.masks.flatten(1).any(1).tolist(), strict=True)
                file.writelines(
                    json.dumps(row | {"segmentation": rle}) + "\n"
                    for row, rle, some in encoded
                    if some or "candidates" in row
                )

    @property
    def _labels(self) -> Path:
        return self.folder / "masks"

    # Stopping and going on.

    def _begin(self, length: int | None) -> Session:
        if self.folder.is_dir() and any(self.folder.iterdir()):
            stopped = (self.folder / STATE).is_file()
            what = "a stopped run; continue it with --resume" if stopped else "files already"
            raise InputError(f"{self.folder}: there is {what}; or give another --output, or remove it")
        return self._session(length)

    def _session(self, length: int | None) -> Session:
        session = self.method.session(length)
        session.ask(*self.asked)
        return session

    def _save(self, session: Session, taken: int) -> None:
        state = {"key": self.key, "taken": taken, "written": (self.folder / LINES).stat().st_size, "session": session}
        with atomic_path(self.folder / STATE) as part, part.open("wb") as file:
            _dump(state, self.method, file)

    def _resume(self) -> tuple[Session, int]:
        path = self.folder / STATE
        if not path.is_file():
            raise InputError(f"{path}: there is no stopped run to continue here; leave out --resume")
        state = _load(path, self.method)
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
            if "candidates" in result and not rle_decode([result["segmentation"]]).any():
                continue
            shown[result["track_id"]].add(result["image_id"])
    return {target: occurrences([t in at for t in range(max(at) + 1)]) for target, at in sorted(shown.items())}


def _results(answer: FrameMasks) -> Iterator[dict[str, Any]]:
    categories = answer.categories or (0,) * len(answer.targets)
    some = answer.masks.flatten(1).any(1).tolist()
    rows = zip(answer.targets, categories, answer.scores.tolist(), rle_encode(answer.masks), some, strict=True)
    for target, category, score, rle, visible in rows:
        result = {
            "image_id": answer.frame,
            "category_id": category + 1,
            "track_id": target,
            "segmentation": rle,
            "score": round(score, 4),
        }
        offered = (answer.candidates or {}).get(target)
        if offered is not None:
            result["candidates"] = [
                {"segmentation": mask, "predicted_iou": round(iou, 4)}
                for mask, iou in zip(rle_encode(offered.masks), offered.ious.tolist(), strict=True)
            ]
        if visible or offered is not None:
            yield result


class _Pickler(pickle.Pickler):
    """Pickles a session, with modules replaced by their names in the method and tensors by their place in a list."""

    def __init__(self, file: BytesIO, networks: dict[str, nn.Module]) -> None:
        super().__init__(file)
        self.names = {id(module): name for name, module in networks.items()}
        self.tensors: list[Tensor] = []
        self.places: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> tuple[str, str | int] | None:
        """Return what stands for a module of the method or for a tensor."""
        if isinstance(obj, nn.Module) and id(obj) in self.names:
            return "module", self.names[id(obj)]
        if isinstance(obj, Tensor):
            if id(obj) not in self.places:
                self.places[id(obj)] = len(self.tensors)
                self.tensors.append(obj)
            return "tensor", self.places[id(obj)]
        return None


class _Unpickler(pickle.Unpickler):
    """Reads what ``_Pickler`` wrote, and nothing that could run code: see ``SUITE`` and ``PLAIN``."""

    def __init__(self, file: BytesIO, networks: dict[str, nn.Module], tensors: list[Tensor]) -> None:
        super().__init__(file)
        self.parts: dict[str, Any] = {"module": networks, "tensor": tensors}

    def persistent_load(self, pid: tuple[str, str | int]) -> Any:
        """Return the module or the tensor."""
        kind, place = pid
        return self.parts[kind][place]

    def find_class(self, module: str, name: str) -> Any:
        """Return a class of this suite, or one of plain data.

        Raises:
            UnpicklingError: anything else, e.g. a function.
        """
        if name in PLAIN.get(module, ()):
            return super().find_class(module, name)
        if module.startswith(SUITE):
            found = super().find_class(module, name)
            # A name may lead through a module to what it imports; only its own classes count.
            if isinstance(found, type) and found.__module__ == module and found.__qualname__ == name:
                return found
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which no session is made of")


def _dump(state: dict[str, Any], method: Method, file: IO[bytes]) -> None:
    pickler = _Pickler(content := BytesIO(), method.networks())
    pickler.dump(state)
    torch.save({"state": content.getvalue(), "tensors": pickler.tensors}, file)


def _load(path: Path, method: Method) -> dict[str, Any]:
    """Read what ``_dump`` wrote; nothing in the file is run.

    Raises:
        InputError: the file is damaged, of another version, or holds something else.
    """
    saved = load_pickled(path)
    try:
        state = _Unpickler(BytesIO(saved["state"]), method.networks(), saved["tensors"]).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"{path}: not the state of an interrupted run ({error}); start again elsewhere") from None
    if isinstance(state, dict) and state.keys() == {"key", "taken", "written", "session"}:
        return state
    raise InputError(f"{path}: not the state of an interrupted run; start again elsewhere")


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
