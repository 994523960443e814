"""The file of a shared store: found, made, and checked before it is believed.

Values in it are unpickled, so no other user may have written it: it has the mode 0600,
belongs to this user, is no link, and has one name.
"""

from __future__ import annotations

import mmap
import os
import stat
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Final

from cachebridge.l1.shared import layout
from cachebridge.l1.shared.lock import WriteLock
from cachebridge.l1.shared.store import SharedStore

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY_DIRECTORY: Final = "/dev/shm"  # noqa: S108 no other is in memory
SUFFIX: Final = ".cachebridge"
PATIENCE_S: Final = 1.0
"""How long to wait for another process that makes the file."""
UNUSED_S: Final = 3600.0
"""A file in which no process has proven anything for so long is removed."""
_ZEROS: Final = bytes(1 << 20)
_WORD: Final = layout.WORD


class NotSharedError(Exception):
    """There is no shared store; the text says why."""


def default_directory() -> str:
    """Return a directory in memory if there is one, else that of temporary files."""
    return MEMORY_DIRECTORY if Path(MEMORY_DIRECTORY).is_dir() else gettempdir()


def why_no_room(directory: str, size: int) -> str:
    """Return why no file of this size can be made in a directory; empty if it can."""
    try:
        about = os.statvfs(directory)
    except OSError as exc:
        return f"{directory}: {exc.strerror}"
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"{directory}: no right to make a file there"
    has_ours = any(Path(directory).glob(f"{os.geteuid()}-*{SUFFIX}"))
    if about.f_bavail * about.f_frsize < size and not has_ours:
        return f"{directory} has no room for {size:,} bytes"
    return ""


def boot_name() -> str:
    """Return a name of what the monotonic clock counts from: two can be compared."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/time').readlink()}"
    except OSError:  # another system: to the minute
        return str(round((time.time() - time.monotonic()) / 60))


def name_of(server: str, channel: str, size: int, directory: str) -> tuple[bytes, Path]:
    """Return the digest of all that processes must agree in, and the file's path.

    ``server`` is the id of one run of one server, ``channel`` that of the messages.
    """
    parts = (server, channel, size, layout.LAYOUT_VERSION, boot_name())
    digest = blake2b(repr(parts).encode(), digest_size=32).digest()
    name = f"{os.geteuid()}-{digest.hex()[:24]}{SUFFIX}"
    return digest, Path(directory) / name


def open_store(
    server: str,
    channel: str,
    size: int,
    directory: str,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> SharedStore:
    """Open the store of a server for the processes of this user, or make it.

    Raises NotSharedError, with the reason.
    """
    digest, path = name_of(server, channel, size, directory)
    remove_unused(directory, clock(), path)
    try:
        fd = _open_checked(path)
    except OSError as exc:
        raise NotSharedError(f"{path}: {exc.strerror}") from exc
    lock = WriteLock(fd)
    lock.owns(fd)
    try:
        with (hold := lock.hold(PATIENCE_S)), hold:
            _require(path, "another process keeps it locked", holds=hold.is_held)
            _make(fd, path, digest, size)
        memory = mmap.mmap(fd, size)
    except OSError as exc:
        raise NotSharedError(f"{path}: {exc.strerror}") from exc
    return SharedStore(memory, lock)


def private_store(size: int) -> SharedStore:
    """Make a store in memory that no other process has, but forked children."""
    memory = mmap.mmap(-1, size)
    words = memoryview(memory).cast("Q")
    _begin(words, bytes(32), size)
    return SharedStore(memory, WriteLock(None))


def _require(path: Path, problem: str, *, holds: bool) -> None:
    if not holds:
        raise NotSharedError(f"{path}: {problem}")


def _open_checked(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        about = os.fstat(fd)
        is_alone = stat.S_ISREG(about.st_mode) and about.st_nlink == 1
        _require(path, "no file with one name", holds=is_alone)
        _require(path, "another user's", holds=about.st_uid == os.geteuid())
        is_private = not about.st_mode & 0o077
        _require(path, "open to other users, its mode must be 600", holds=is_private)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _make(fd: int, path: Path, digest: bytes, size: int) -> None:
    """Make the file usable if it is new; under its lock."""
    found = os.pread(fd, (layout.NAME + layout.NAME_WORDS) * _WORD, 0)
    if int.from_bytes(found[:_WORD], "little") == layout.MAGIC:
        is_same = found[layout.NAME * _WORD :] == digest
        is_whole = os.fstat(fd).st_size == size
        _require(path, "of another server", holds=is_same and is_whole)
        return
    # Its maker writes this word last, and may be killed before.
    _require(path, "no file of ours", holds=not any(found[:_WORD]))
    try:
        _fill(fd, size)
    except OSError:  # no room, or no right: leave nothing that takes room
        with suppress(OSError):
            os.ftruncate(fd, 0)
            path.unlink()
        raise
    memory = mmap.mmap(fd, size)
    with memoryview(memory) as whole, whole.cast("Q") as words:
        _begin(words, digest, size)
    memory.close()


def _fill(fd: int, size: int) -> None:
    """Have room for all of it now: later, a write without room would end the process.

    That is SIGBUS, which no program survives.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
        return
    for start in range(0, size, len(_ZEROS)):
        part = _ZEROS[: size - start]
        if os.pwrite(fd, part, start) != len(part):
            raise OSError(28, "No space left on device")


def _begin(words: memoryview[int], digest: bytes, size: int) -> None:
    first = layout.layout_of(size).ring_bytes  # no position is 0
    words[layout.SIZE] = size
    words[layout.HEAD] = words[layout.TAIL] = first
    for index in range(layout.NAME_WORDS):
        part = digest[index * _WORD : (index + 1) * _WORD]
        words[layout.NAME + index] = int.from_bytes(part, "little")
    words[layout.FORMAT] = layout.MAGIC


def remove_unused(directory: str, now: float, but: Path) -> None:
    """Remove this user's files that no process has used for an hour.

    A process that has such a file open goes on with it, alone.
    """
    start = f"{os.geteuid()}-"
    with suppress(OSError):
        for path in Path(directory).glob(f"{start}*{SUFFIX}"):
            if path != but:
                with suppress(OSError):
                    _remove_if_unused(path, now)


def _remove_if_unused(path: Path, now: float) -> None:
    about = path.lstat()
    is_ours = stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid()
    if not is_ours or time.time() - about.st_ctime < UNUSED_S:
        return
    with path.open("rb") as file:
        header = file.read(layout.HEADER * _WORD)
    is_whole = len(header) == layout.HEADER * _WORD  # else its maker was killed
    proven_at = memoryview(header).cast("d")[layout.PROVEN_AT] if is_whole else 0.0
    if not now - UNUSED_S < proven_at <= now:
        path.unlink()
