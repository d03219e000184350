"""Writing files so that they are there whole or not at all.

A file is written under a hidden name beside its target, flushed to the disk, and put in the place
of the target in one step. Whatever happens before that step, a full disk, SIGKILL or a power cut,
leaves the target as it was.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil

from .errors import WriteError
from .file_names import windows_fault

WINDOWS = os.name == "nt"

_LONGEST_STEM = 40
_PART = re.compile(r"\..*-([0-9a-f]{8})-(\d{1,9})-[0-9a-f]{8}\.part", re.DOTALL)
_FORGOTTEN_SECONDS = 24 * 60 * 60


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to write, which takes the place of ``path`` when the block ends.

    The new file lies in the same folder, which is made where it is missing, under a hidden name
    with a suffix no search for images or models picks up. It takes over the permissions of the
    file it replaces and, where that is allowed, its owner. A symbolic link stays, what it leads to
    is replaced; of several hard links only the one at ``path`` leads to the new contents.

    Raises ``WriteError`` where the block or the replacing fails with an ``OSError``, or where
    ``check_target`` does. Then the new file is removed and ``path`` stays what it was.
    """
    check_target(path)
    with _explained(path):
        target = _behind_links(path)
        part = target.with_name(_part_name(target.stem))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield part
            _flush_file(part)
            _take_over_permissions(part, target)
            part.replace(target)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        _flush_folder(target.parent)


def check_target(path: Path) -> None:
    """Raise ``WriteError`` where ``path`` cannot be written, as far as that shows beforehand: a
    folder or a device is in its place, the file or its folder is read-only, what should be its
    folder is none, or the system does not take the name."""
    with _explained(path):
        fault = windows_fault(path) if WINDOWS else None
        if fault:
            raise OSError(f"{fault}; choose another name")
        target = _behind_links(path)
        folder = nearest(target.parent)
        if not folder.is_dir():
            raise OSError(f"{folder} is not a folder")
        for name in target.relative_to(folder).parts:
            with suppress(FileNotFoundError):
                (folder / name).lstat()  # Raises where the name is too long.
        if target.is_symlink():
            raise OSError("its links lead in a circle")
        if target.is_dir():
            raise OSError("it is a folder")
        if target.exists() and not target.is_file():  # A device that others need, perhaps.
            raise OSError("it is not an ordinary file")
        if target.exists() and not os.access(target, os.W_OK):
            raise OSError("it is read-only")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OSError(f"the folder {folder} is read-only")


def remove_abandoned(folder: Path) -> None:
    """Remove what writers that were killed have left in ``folder``.

    A file counts as left when its process is gone. Where that cannot be known, because it ran on
    another machine, in another container or before this machine was started, it counts as left
    when it has not been written to for a day.
    """
    with suppress(OSError):
        for path in list(folder.iterdir()):
            written_by = _PART.fullmatch(path.name)
            with suppress(OSError):
                if written_by and _is_abandoned(path, *written_by.groups()):
                    path.unlink()


def is_one_file(path: Path, other: Path) -> bool:
    """Whether the file system takes both for one path, where they may differ in the case of letters
    and in how accents are composed. Tried out in a hidden folder that is removed at once."""
    if path == other:
        return True
    differing = next(
        pair for pair in zip(path.parts, other.parts, strict=False) if pair[0] != pair[1]
    )
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=nearest(path.parent)) as trial:
            Path(trial, differing[0]).touch()
            return Path(trial, differing[1]).exists()
    except OSError:
        return False  # Nothing can be written here, which will be said of each file.


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an ``OSError``, which may name the unfinished file, into a sentence about ``path``."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise WriteError(f"{path} cannot be written: {reason}.") from error


def _behind_links(path: Path) -> Path:
    # Not Path.resolve, which raises a RuntimeError for links in a circle before Python 3.13.
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def nearest(folder: Path) -> Path:
    """``folder``, or the nearest above it that exists. Raises ``OSError`` where none does, such as
    on a drive that is not there."""
    for path in (folder, *folder.parents):
        if path.exists():
            return path
    raise OSError(f"there is no {folder.anchor}")


def _part_name(stem: str) -> str:
    # A name may have 255 bytes, not characters, and must not be cut inside of one.
    stem = stem.encode("utf-8", "ignore")[:_LONGEST_STEM].decode("utf-8", "ignore")
    return f".{stem}-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.part"


@cache
def _machine() -> str:
    """Eight digits that processes share which see each other's numbers: those in one container,
    since one start of one machine."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
        place = start + str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        place = str(uuid.getnode())
    return hashlib.sha256(place.encode()).hexdigest()[:8]


def _is_abandoned(part: Path, machine: str, process: str) -> bool:
    status = part.lstat()
    if not stat.S_ISREG(status.st_mode):
        return False
    if machine == _machine():
        return not psutil.pid_exists(int(process))
    return time.time() - status.st_mtime > _FORGOTTEN_SECONDS


def _flush_file(path: Path) -> None:
    # Else a power cut after the renaming may leave an empty file, with the old one gone.
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _take_over_permissions(part: Path, target: Path) -> None:
    # Some file systems have none and refuse to change them.
    with suppress(OSError):
        shutil.copymode(target, part)
    if not WINDOWS:
        with suppress(OSError):
            old = target.stat()
            os.chown(part, old.st_uid, old.st_gid)


def _flush_folder(folder: Path) -> None:
    """Make the renaming last; without it a power cut may bring back the old file, also whole."""
    # Windows opens no folders, and some file systems do not flush them.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
