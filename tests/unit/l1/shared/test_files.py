from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cachebridge.l1.shared import files, layout
from cachebridge.l1.shared.files import NotSharedError, name_of, open_store
from tests.children import ROOT

if TYPE_CHECKING:
    from cachebridge.l1.shared.store import SharedStore

SIZE = layout.LEAST_BYTES
DESCRIPTORS = Path("/proc/self/fd")


def open_here(directory: Path, server: str = "run", **how: object) -> SharedStore:
    return open_store(server, "0", SIZE, str(directory), **how)  # type: ignore[arg-type]


def file_of(directory: Path, server: str = "run") -> Path:
    return name_of(server, "0", SIZE, str(directory))[1]


def put(store: SharedStore, key: str) -> None:
    with (hold := store.hold(1.0)), hold:
        store.put(key, b"value", 1e12)


def test_two_see_the_same(tmp_path: Path) -> None:
    """What one stores the other finds; only this user may read the file."""
    one, other = open_here(tmp_path), open_here(tmp_path)
    put(one, "k")
    assert other.look("k") == (1e12, b"value")
    assert file_of(tmp_path).stat().st_mode & 0o777 == 0o600


def test_files_are_apart(tmp_path: Path) -> None:
    """Another run of a server, database or size is another file."""
    put(open_here(tmp_path), "k")
    assert open_here(tmp_path, "another run").look("k") is None
    assert open_store("run", "1", SIZE, str(tmp_path)).look("k") is None
    assert open_store("run", "0", 2 * SIZE, str(tmp_path)).look("k") is None


def test_locks_exclude_each_other(tmp_path: Path) -> None:
    """Two that opened the file are two, as a parent and its forked child are."""
    one, other = open_here(tmp_path), open_here(tmp_path)
    with (hold := one.hold(1.0)), hold:
        assert hold.is_held
        with (second := other.hold(0.0)), second:
            assert not second.is_held
        with (third := one.hold(0.0)), third:
            assert not third.is_held
    with (hold := other.hold(0.0)), hold:
        assert hold.is_held


def test_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    """Whatever ends the block."""
    store = open_here(tmp_path)
    with pytest.raises(ZeroDivisionError), (hold := store.hold(1.0)), hold:
        raise ZeroDivisionError
    with (hold := store.hold(0.0)), hold:
        assert hold.is_held


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (lambda path: path.symlink_to("elsewhere"), "symbolic links"),
        (lambda path: path.mkdir(), "directory"),
        (lambda path: (path.touch(0o600), os.link(path, f"{path}2")), "one name"),
        (lambda path: (path.touch(), path.chmod(0o644)), "mode must be 600"),
        (lambda path: (path.write_bytes(b"text"), path.chmod(0o600)), "no file of"),
        (
            lambda path: (
                path.write_bytes(layout.MAGIC.to_bytes(8, "little") + bytes(SIZE - 8)),
                path.chmod(0o600),
            ),
            "another server",
        ),
    ],
)
def test_planted_file_is_refused(tmp_path: Path, plant: object, reason: str) -> None:
    """Its values are unpickled: it is believed only if no other user made it."""
    plant(file_of(tmp_path))  # type: ignore[operator]
    with pytest.raises(NotSharedError, match=reason):
        open_here(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")
def test_file_of_another_user_is_refused(tmp_path: Path) -> None:
    """Also if it says all that ours says."""
    put(open_here(tmp_path), "k")
    os.chown(file_of(tmp_path), 65534, 65534)
    with pytest.raises(NotSharedError, match="another user's"):
        open_here(tmp_path)


@pytest.mark.parametrize("written", [(), (layout.SIZE, layout.HEAD)])
def test_half_made_file_is_made_again(tmp_path: Path, written: tuple[int, ...]) -> None:
    """Its maker was killed before the last word, or before the first."""
    put(open_here(tmp_path), "k")
    with file_of(tmp_path).open("r+b") as file:
        file.write(bytes(SIZE))
        for word in written:
            file.seek(word * layout.WORD)
            file.write(SIZE.to_bytes(layout.WORD, "little"))
    store = open_here(tmp_path)
    put(store, "k")
    assert store.look("k")


def test_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The reason names the path."""
    with pytest.raises(NotSharedError, match=r"missing.*No such file"):
        open_here(tmp_path / "missing")


NO_ROOM = """
import resource, sys
from cachebridge.l1.shared.files import NotSharedError, open_store
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    open_store("run", "0", 1 << 20, sys.argv[1])
except NotSharedError as exc:
    print(exc)
"""


def test_without_room_there_is_no_file(tmp_path: Path) -> None:
    """The room is taken at once, or not at all: a later lack of it would kill."""
    command = [sys.executable, "-c", NO_ROOM, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "too large" in done.stdout
    assert not list(tmp_path.iterdir())


def test_lack_of_room_is_foreseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless a file is there already, which has its room."""
    full = SimpleNamespace(f_bavail=1, f_frsize=4096)
    assert files.why_no_room(str(tmp_path), SIZE) == ""
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    assert "no room for 65,536 bytes" in files.why_no_room(str(tmp_path), SIZE)
    open_here(tmp_path)
    assert files.why_no_room(str(tmp_path), SIZE) == ""


@pytest.mark.proof
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_full_tmpfs_is_told(tmp_path: Path) -> None:
    """As in a container whose /dev/shm is small."""
    mounting = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(tmp_path)]
    if subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount")
    try:
        with pytest.raises(NotSharedError, match="No space left"):
            open_store("run", "0", 1 << 20, str(tmp_path))
        assert not list(tmp_path.iterdir())
    finally:
        gc.collect()
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_unused_files_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of servers and layouts of long ago; others' stay, and those in use."""
    old, used = open_here(tmp_path, "old"), open_here(tmp_path, "used")
    (tmp_path / f"{os.geteuid() + 1}-0{files.SUFFIX}").touch()
    now = time.monotonic()
    old.prove(now)
    used.prove(now + files.UNUSED_S)
    later = SimpleNamespace(time=lambda: time.time() + 2 * files.UNUSED_S)
    monkeypatch.setattr(files, "time", later)
    monkeypatch.setattr(files, "boot_name", lambda: "this one")
    open_here(tmp_path, "new", clock=lambda: now + files.UNUSED_S + 1.0)
    monkeypatch.undo()
    assert not file_of(tmp_path, "old").exists()
    assert file_of(tmp_path, "used").exists()
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("size", [0, 5, 16])
def test_short_file_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """It has no whole header, and keeps no process from its own file."""
    short = tmp_path / f"{os.geteuid()}-0{files.SUFFIX}"
    short.write_bytes(b"x" * size)
    monkeypatch.setattr(files, "UNUSED_S", -1.0)
    open_here(tmp_path)
    assert not short.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")
def test_unused_file_of_another_user_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its name says."""
    planted = tmp_path / f"{os.geteuid()}-0{files.SUFFIX}"
    planted.touch()
    os.chown(planted, 65534, 65534)
    monkeypatch.setattr(files, "UNUSED_S", -1.0)
    open_here(tmp_path)
    assert planted.exists()


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="no list of descriptors")
def test_closed_with_its_last_user(tmp_path: Path) -> None:
    """No descriptor is left behind."""
    store = open_here(tmp_path)
    put(store, "k")
    assert descriptors_of(file_of(tmp_path))
    del store
    gc.collect()
    assert not descriptors_of(file_of(tmp_path))


def descriptors_of(path: Path) -> list[Path]:
    found = []
    for each in DESCRIPTORS.iterdir():
        with suppress(OSError):  # closed by now
            if each.readlink() == path:
                found.append(each)
    return found
