"""A submission as it comes: a folder, a zip or one JSON file, with or without folders around it."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from common.benchmarks.submissions.masks import visible
from common.errors import InputError

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)
LEVELS = 5  # VOT: results/<tracker>/baseline/<sequence>, in a folder of its own


@dataclass
class Submission:
    """What ``Benchmark.read`` is given.

    Attributes:
        path: as the user gave it.
        folder: in which the videos lie; for a zip below a temporary folder.
        inner: path of the videos inside the submission.
        others: names beside the videos.
    """

    path: Path
    folder: Path
    inner: PurePosixPath = field(default_factory=PurePosixPath)
    others: list[str] = field(default_factory=list)

    def plain(self, message: str) -> str:
        """A message about a file, with the path by which the user knows it."""
        return message.replace(str(self.folder), str(self.path / self.inner))


@contextmanager
def open_submission(path: str | Path, ids: Collection[str]) -> Iterator[Submission]:
    """Find the videos of a submission.

    In a folder without a video of that name, the only folder in it is looked into; several that all have videos are
    parts of one submission (Ref-DAVIS). A zip is extracted to a temporary
    folder, as far as it holds these videos, and removed in the end.

    Args:
        path: a folder, a ``.zip``, or one ``.json``.
        ids: the videos' names.

    Raises:
        InputError: nothing there, none of the videos, or an archive that is damaged or not to be trusted.
    """
    path = Path(path)
    if path.is_dir():
        yield _found(path, path, ids)
        return
    if not path.is_file() or path.suffix.lower() not in (".zip", ".json"):
        raise InputError(f"{path}: no submission; give a folder, a .zip or a .json file")
    with tempfile.TemporaryDirectory(prefix="submission-") as temporary:
        top = Path(temporary)
        left_out: list[tuple[str, ...]] = []
        if path.suffix.lower() == ".json":
            shutil.copyfile(path, top / path.name)
        else:
            left_out = extract(path, top, ids)
        submission = _found(path, top, ids, left_out)
        above = submission.inner.parts
        beside = [parts[len(above) :] for parts in left_out if parts[: len(above)] == above]
        submission.others = sorted({*submission.others, *(parts[0] for parts in beside if len(parts) > 1)})
        yield submission


def _found(path: Path, top: Path, ids: Collection[str], left_out: Sequence[tuple[str, ...]] = ()) -> Submission:
    """Go down to the folder of the videos."""
    wanted = set(ids)
    folder, names = top, list(dict.fromkeys(parts[-2] for parts in left_out if len(parts) > 1))
    for _ in range(LEVELS):
        inside = visible(folder)
        here = {entry.name if entry.is_dir() else entry.name.removesuffix(".json") for entry in inside}
        folders = [entry for entry in inside if entry.is_dir()]
        names = [entry.name for entry in folders] or names
        parts = len(folders) > 1 and all({path.name for path in visible(part)} & wanted for part in folders)
        if here & wanted or parts or (not folders and [entry.suffix for entry in inside].count(".json") == 1):
            others = sorted(entry.name for entry in folders if entry.name not in wanted and not parts)
            return Submission(path, folder, PurePosixPath(folder.relative_to(top).as_posix()), others)
        if len(folders) != 1:
            break
        folder = folders[0]
    inside = visible(top)
    if not inside and not left_out:
        raise InputError(f"{path}: the submission is empty")
    found = ", ".join((names or [entry.name for entry in inside])[:3])
    raise InputError(
        f"{path}: none of the benchmark's videos is in it; it has {found}, expected folders like "
        f"{', '.join(sorted(wanted)[:3])}; check --benchmark, --split and the layout"
    )


def extract(path: Path, top: Path, ids: Collection[str]) -> list[tuple[str, ...]]:
    """Unpack what belongs to some videos, and JSON files.

    Returns:
        The parts of the paths of all others.

    Raises:
        InputError: the archive is empty or damaged, or a member is encrypted, a link, or leads out of its folder.
    """
    wanted = set(ids)
    left_out = []
    try:
        with zipfile.ZipFile(path) as archive:
            members = [(member, parts) for member in archive.infolist() if (parts := checked(path, member))]
            if not any(not member.is_dir() for member, _ in members):
                raise InputError(f"{path}: the zip is empty")
            for member, parts in members:
                if member.is_dir():
                    if not wanted.isdisjoint(parts):
                        top.joinpath(*parts).mkdir(parents=True, exist_ok=True)
                    continue
                if wanted.isdisjoint(parts) and not parts[-1].endswith(".json"):
                    left_out.append(parts)
                    continue
                unpack(path, archive, member, top.joinpath(*parts))
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{path}: the zip is damaged ({error}); make it again") from error
    return left_out


def checked(path: Path, member: zipfile.ZipInfo) -> tuple[str, ...]:
    """The parts of a member's path; none for what is passed over: hidden files and what macOS adds.

    Raises:
        InputError: it is encrypted, a link, or leads out of the folder.
    """
    where, name = f"{path}: the member {member.orig_filename!r}", member.orig_filename
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or "\\" in name or name[1:2] == ":" or "\0" in name:
        raise InputError(f"{where} leads out of the folder; refused, make the zip again with plain relative names")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(f"{where} is a link; refused, put the file itself into the zip")
    if any(part.startswith((".", "__MACOSX")) for part in parts):
        return ()
    if member.flag_bits & 1:
        raise InputError(f"{where} is encrypted; make the zip without a password")
    return parts


def unpack(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Write one member.

    Raises:
        InputError: its data is damaged.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except FileExistsError:
        raise InputError(f"{path}: {member.filename} is in the zip twice; make the zip again") from None
    except DAMAGED as error:
        raise InputError(f"{path}: the entry {member.filename} is damaged ({error}); make the zip again") from error
