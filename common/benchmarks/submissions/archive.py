"""Open a submission: a folder, a zip or one JSON file, with or without enclosing folders."""

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
from unicodedata import normalize

from common.benchmarks.submissions.masks import list_visible
from common.errors import InputError

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)
MAX_RATIO, MIN_SUSPECT = 100, 1 << 30  # unpacked size of an archive, in its packed size and in bytes
MAX_DEPTH = 5  # VOT: results/<tracker>/baseline/<sequence>, in an enclosing folder


@dataclass
class Submission:
    """An opened submission, the input of ``Benchmark.read``.

    Attributes:
        path: path given by the user.
        folder: folder that contains the videos; for a zip, in a temporary folder.
        inner: path of ``folder`` inside the submission.
        unexpected: names of folders that are not videos of the benchmark.
    """

    path: Path
    folder: Path
    inner: PurePosixPath = field(default_factory=PurePosixPath)
    unexpected: list[str] = field(default_factory=list)

    def with_user_path(self, message: str) -> str:
        """Replace the (temporary) folder in a message by the path that the user gave.

        Args:
            message: a message that may contain paths.
        """
        return message.replace(str(self.folder), str(self.path / self.inner))


@contextmanager
def open_submission(path: str | Path, ids: Collection[str]) -> Iterator[Submission]:
    """Locate the videos of a submission.

    Enclosing folders are descended as long as there is a single one. Several folders that all contain videos are parts
    of one submission (Ref-DAVIS). The requested videos of a zip are extracted to a temporary folder, which is removed
    on exit.

    Args:
        path: a folder, a ``.zip``, or one ``.json``.
        ids: names of the benchmark's videos.

    Yields:
        The opened submission.

    Raises:
        InputError: the path does not exist or contains none of the videos, or the archive is damaged or unsafe.
    """
    path = Path(path)
    if path.is_dir():
        yield _locate_videos(path, path, ids)
        return
    if not path.is_file() or path.suffix.lower() not in (".zip", ".json"):
        raise InputError(f"{path}: no submission; give a folder, a .zip or a .json file")
    with tempfile.TemporaryDirectory(prefix="submission-") as temporary:
        top = Path(temporary)
        skipped: list[tuple[str, ...]] = []
        if path.suffix.lower() == ".json":
            shutil.copyfile(path, top / path.name)
        else:
            skipped = extract_zip(path, top, ids)
        submission = _locate_videos(path, top, ids, skipped)
        inner = submission.inner.parts
        siblings = [parts[len(inner) :] for parts in skipped if parts[: len(inner)] == inner]
        submission.unexpected = sorted({*submission.unexpected, *(parts[0] for parts in siblings if len(parts) > 1)})
        yield submission


def _locate_videos(path: Path, top: Path, ids: Collection[str], skipped: Sequence[tuple[str, ...]] = ()) -> Submission:
    """Descend to the folder that contains the videos."""
    videos = {normalize("NFC", id) for id in ids}
    folder, names = top, list(dict.fromkeys(parts[-2] for parts in skipped if len(parts) > 1))
    for _ in range(MAX_DEPTH):
        entries = list_visible(folder)
        stems = {_name(entry).removesuffix("" if entry.is_dir() else ".json") for entry in entries}
        folders = [entry for entry in entries if entry.is_dir()]
        names = [entry.name for entry in folders] or names
        parts = len(folders) > 1 and all({_name(path) for path in list_visible(part)} & videos for part in folders)
        one_json = not folders and [entry.suffix for entry in entries].count(".json") == 1
        if stems & videos or parts or one_json:
            unexpected = sorted(entry.name for entry in folders if _name(entry) not in videos and not parts)
            return Submission(path, folder, PurePosixPath(folder.relative_to(top).as_posix()), unexpected)
        if len(folders) != 1:
            break
        folder = folders[0]
    entries = list_visible(top)
    if not entries and not skipped:
        raise InputError(f"{path}: the submission is empty")
    listing = ", ".join((names or [entry.name for entry in entries])[:3])
    raise InputError(
        f"{path}: none of the benchmark's videos is in it; it has {listing}, expected folders like "
        f"{', '.join(sorted(videos)[:3])}; check --benchmark, --split and the layout"
    )


def _name(entry: Path) -> str:
    """Return the name of a file or folder in composed Unicode form."""
    return normalize("NFC", entry.name)


def extract_zip(path: Path, top: Path, ids: Collection[str]) -> list[tuple[str, ...]]:
    """Extract the files of the requested videos, and JSON files.

    Args:
        path: the zip.
        top: folder to extract to.
        ids: names of the videos.

    Returns:
        Path components of all members that were skipped.

    Raises:
        InputError: the archive is empty or damaged, or a member is encrypted, a link, or points outside the folder.
    """
    videos = {normalize("NFC", id) for id in ids}
    skipped = []
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(path, archive)
            members = [(member, parts) for member in archive.infolist() if (parts := member_parts(path, member))]
            if not any(not member.is_dir() for member, _ in members):
                raise InputError(f"{path}: the zip is empty")
            for member, parts in members:
                if member.is_dir():
                    if not videos.isdisjoint(parts):
                        top.joinpath(*parts).mkdir(parents=True, exist_ok=True)
                    continue
                if videos.isdisjoint(parts) and not parts[-1].endswith(".json"):
                    skipped.append(parts)
                    continue
                extract_member(path, archive, member, top.joinpath(*parts))
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{path}: the zip is damaged ({error}); make it again") from error
    return skipped


def _check_size(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive that would fill the disk: images and RLE are not compressed to a hundredth by a zip."""
    unpacked, packed = (sum(getattr(m, key) for m in archive.infolist()) for key in ("file_size", "compress_size"))
    if unpacked > max(MAX_RATIO * packed, MIN_SUSPECT):
        raise InputError(
            f"{path}: {packed >> 20} MiB would become {unpacked >> 20} MiB; refused, give the folder instead"
        )


def member_parts(path: Path, member: zipfile.ZipInfo) -> tuple[str, ...]:
    """Return the path components of a zip member; empty for hidden files and files added by macOS.

    Args:
        path: the zip, for error messages.
        member: the member.

    Raises:
        InputError: the member is encrypted, a link, or points outside the folder.
    """
    where, name = f"{path}: the member {member.orig_filename!r}", member.orig_filename
    parts = tuple(normalize("NFC", part) for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or "\\" in name or name[1:2] == ":" or "\0" in name:
        raise InputError(f"{where} leads out of the folder; refused, make the zip again with plain relative names")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(f"{where} is a link; refused, put the file itself into the zip")
    if any(part.startswith((".", "__MACOSX")) for part in parts):
        return ()
    if member.flag_bits & 1:
        raise InputError(f"{where} is encrypted; make the zip without a password")
    return parts


def extract_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Extract one member of a zip.

    Args:
        path: the zip, for error messages.
        archive: the opened zip.
        member: the member.
        target: file to write.

    Raises:
        InputError: the data is damaged, or the file exists already.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except FileExistsError:
        raise InputError(f"{path}: {member.filename} is in the zip twice; make the zip again") from None
    except DAMAGED as error:
        raise InputError(f"{path}: the entry {member.filename} is damaged ({error}); make the zip again") from error
