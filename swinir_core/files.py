"""Writing files so that they are there whole or not at all.

A file is written under a hidden name beside its target, flushed to the disk, and put in the place
of the target in one step. Whatever happens before that step, a full disk, SIGKILL or a power cut,
leaves the target as it was.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import WriteError
from .file_names import windows_fault

WINDOWS = os.name == "nt"

_PART = ".swinir-{}.part"
"""Hidden name of an unfinished file, which no search for images or models picks up."""

_ABANDONED_SECONDS = 24 * 60 * 60


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Make an empty file to be written, which takes the place of ``path`` when the block ends.

    It lies in the folder of ``path``, which is made where it is missing, under a name that no other
    writer uses. It gets the permissions of the file it replaces and, where that is allowed, its
    owner. A symbolic link stays, and the file it leads to is replaced; of several hard links only
    the one at ``path`` leads to the new contents.

    Raises ``WriteError`` where the block or the replacing fails with an ``OSError``, or where
    ``check_target`` does. Then the new file is removed and ``path`` stays as it was.
    """
    target = check_target(path)
    with _explained(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(_PART.format(secrets.token_hex(8)))
        part.touch(exist_ok=False)
        try:
            yield part
            _flush_file(part)
            _copy_permissions(target, part)
            part.replace(target)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        _flush_folder(target.parent)


def check_target(path: Path) -> Path:
    """Find the file that writing to ``path`` replaces: the one its symbolic links lead to.

    Raises ``WriteError`` where it cannot be written, as far as that shows beforehand: a folder or a
    device has its name, the file or its folder is read-only, a file has the name of its folder, or
    the system does not take the name.
    """
    with _explained(path):
        fault = windows_fault(path) if WINDOWS else None
        if fault:
            raise OSError(f"{fault}; choose another name")
        target = real_path(path) if path.is_symlink() else path
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
    return target


def real_path(path: Path) -> Path:
    """Resolve symbolic links, as far as they lead anywhere."""
    # Not Path.resolve, which raises a RuntimeError for links in a circle before Python 3.13.
    return Path(os.path.realpath(path))


def remove_abandoned(folder: Path) -> None:
    """Remove unfinished files in ``folder`` that have not been written to for a day: their writers
    were killed."""
    with suppress(OSError):
        for part in folder.glob(_PART.format("*")):
            if time.time() - part.lstat().st_mtime > _ABANDONED_SECONDS:
                part.unlink()


def nearest(folder: Path) -> Path:
    """Find ``folder``, or the nearest above it that exists. Raises ``OSError`` where none does,
    such as on a drive that is not there."""
    for path in (folder, *folder.parents):
        if path.exists():
            return path
    raise OSError(f"there is no {folder.anchor}")


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


def _flush_file(path: Path) -> None:
    # Else a power cut after the renaming may leave an empty file, with the old one gone.
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _copy_permissions(target: Path, part: Path) -> None:
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
