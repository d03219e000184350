"""Files are on the disk whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import random
import secrets
import signal
import stat
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from swinir_core.errors import WriteError
from swinir_core.files import remove_abandoned, replacing
from tests.support.file_writers import (
    WRITERS,
    cuts,
    ended,
    every_writer,
    forked,
    posix,
    versions,
    visible,
)

if sys.platform != "win32":
    import resource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    return path


# Killed


@posix
@every_writer
def test_killed_after_any_number_of_bytes(folder: Path, name: str) -> None:
    path, old, new = versions(folder, name)

    def write(limit: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # The kernel ends us at that byte.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        WRITERS[name](path, 2)

    for size in cuts(new):
        assert ended(forked(lambda size=size: write(size))) == -signal.SIGXFSZ
        assert path.read_bytes() == old
        assert visible(folder) == [name]
    left = [path.name for path in folder.iterdir() if path.name != name]
    assert len(left) == len(cuts(new))
    assert all(name.endswith(".part") for name in left)


@posix
@every_writer
def test_killed_at_any_step(folder: Path, name: str) -> None:
    path, old, new = versions(folder, name)
    found = []
    for last in count():
        steps = count()

        def die(event: str, _: object, last: int = last, steps: Iterator[int] = steps) -> None:
            if event.startswith(("open", "os.")) and next(steps) == last:
                os.kill(os.getpid(), signal.SIGKILL)

        def write(die=die) -> None:
            sys.addaudithook(die)
            WRITERS[name](path, 2)

        status = ended(forked(write))
        found.append(path.read_bytes())
        assert visible(folder) == [name]
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert found == sorted(found, key=[old, new].index)  # Never anything else, never back.
    assert found.count(old) >= 3
    assert found.count(new) >= 2


@posix
@every_writer
def test_killed_from_outside(folder: Path, name: str) -> None:
    path, old, new = versions(folder, name)

    def write() -> None:
        for version in count():
            WRITERS[name](path, 1 + version % 2)

    for _ in range(8):
        process = forked(write)
        time.sleep(random.uniform(0, 0.03))
        os.kill(process, signal.SIGKILL)
        assert ended(process) == -signal.SIGKILL
        assert path.read_bytes() in (old, new)
        assert visible(folder) == [name]


@posix
@every_writer
def test_two_writers_of_one_file(folder: Path, name: str) -> None:
    path, old, new = versions(folder, name)

    def write(version: int) -> None:
        for _ in range(10):
            WRITERS[name](path, version)

    processes = [forked(lambda version=version: write(version)) for version in (1, 2)]
    for _ in range(50):
        assert path.read_bytes() in (old, new)
    assert [ended(process) for process in processes] == [0, 0]
    assert [entry.name for entry in folder.iterdir()] == [name]


def test_a_file_is_on_the_disk_before_its_name_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def fsync(descriptor: int, fsync=os.fsync) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        done.append("flush the folder" if is_folder else "flush the file")
        fsync(descriptor)

    def replace(self: Path, target: Path, replace=Path.replace) -> None:
        done.append("rename")
        replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    with replacing(folder / "a.txt") as part:
        part.write_text("new")
    assert done[:2] == ["flush the file", "rename"]
    assert done[2:] == ["flush the folder"] * (os.name == "posix")


# Replaced


@posix
def test_permissions_stay(folder: Path) -> None:
    path = folder / "a.png"
    for mode in (0o600, 0o664, 0o755):
        WRITERS[path.name](path, 1)
        path.chmod(mode)
        WRITERS[path.name](path, 2)
        assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_the_owner_stays_where_that_is_allowed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "a.png"
    WRITERS[path.name](path, 1)
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "chown", lambda _, *owner: given.append(owner))
    WRITERS[path.name](path, 2)
    assert given == [(path.stat().st_uid, path.stat().st_gid)]

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    before = path.read_bytes()
    WRITERS[path.name](path, 1)
    assert path.read_bytes() != before


@posix
@every_writer
def test_a_link_stays_and_what_it_leads_to_is_replaced(folder: Path, name: str) -> None:
    path, _, new = versions(folder, name)
    file = folder / "other" / "name"
    file.parent.mkdir()
    path.rename(file)
    path.symlink_to("other/name")
    WRITERS[name](path, 2)
    assert path.is_symlink()
    assert file.read_bytes() == new
    file.unlink()
    WRITERS[name](path, 2)
    assert path.is_symlink()
    assert file.read_bytes() == new
    assert os.listdir(file.parent) == ["name"]  # noqa: PTH208


@posix
def test_of_two_hard_links_one_is_replaced(folder: Path) -> None:
    path, old, new = versions(folder, "a.png")
    (folder / "b.png").hardlink_to(path)
    WRITERS[path.name](path, 2)
    assert path.read_bytes() == new
    assert (folder / "b.png").read_bytes() == old


# Left behind


def test_only_what_nobody_has_written_to_for_a_day_is_removed(folder: Path) -> None:
    with replacing(folder / "a.png") as part:
        part.touch()
        old = part.with_name(part.name.replace(".swinir-", ".swinir-0"))
        for path, hours in ((part, 23), (old, 25), (folder / ".a-12.part", 25)):
            path.touch()
            written = time.time() - hours * 3600
            os.utime(path, (written, written))
        remove_abandoned(folder)
        assert sorted(folder.iterdir()) == sorted([part, folder / ".a-12.part"])
    remove_abandoned(folder / "missing")


def test_no_writer_takes_the_unfinished_file_of_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "a.txt"
    with replacing(path) as part, replacing(path) as other:
        assert part != other
        part.write_text("one")
        other.write_text("two")
    assert path.read_text() == "one"

    monkeypatch.setattr(secrets, "token_hex", lambda _: "equal")
    with replacing(path) as part:
        part.write_text("three")
        with pytest.raises(WriteError, match="File exists"), replacing(path):
            pass
    assert path.read_text() == "three"
