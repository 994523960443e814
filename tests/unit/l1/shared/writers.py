"""Processes that write into a shared store, and what one sees of them.

``python -m tests.unit.l1.shared.writers WHAT PATH COUNT`` forks its writers itself, so
it is a process of one thread.  It ends with an error if something does not hold.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING
from zlib import crc32

from cachebridge.l1.shared import layout
from cachebridge.l1.shared.files import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.l1.shared.store import SharedStore

KEYS, FEW = 300, 40
PATIENT_S = 20.0
STAGES = (
    *("lengths", "head", "key", "content", "life", "slot"),
    *("filler", "bump", "kill", "tail"),
)


def open_here(path: str) -> SharedStore:
    return open_store("run", "channel", layout.LEAST_BYTES, path)


def value_of(key: str, number: int, size: int) -> bytes:
    """Return a value that shows whether it is whole, and whose it is."""
    body = f"{key} {number} ".encode() + bytes([number % 251]) * size
    return crc32(body).to_bytes(4, "big") + body


def is_whole(key: str, value: bytes) -> bool:
    check, body = value[:4], value[4:]
    is_own = body.startswith(f"{key} ".encode())
    return is_own and crc32(body) == int.from_bytes(check, "big")


def write(store: SharedStore, seed: int, keys: int = KEYS) -> None:
    chance = random.Random(seed)
    number, parent = 0, os.getppid()
    while os.getppid() == parent:  # else the test was ended
        number += 1
        key = f"key {chance.randrange(keys)}"
        with (hold := store.hold(PATIENT_S)), hold:
            assert hold.is_held
            if chance.random() < 0.2:
                store.drop(key)
            else:
                size = chance.randrange(2000)
                store.put(key, value_of(key, number, size), 1e12)


def started(work: Callable[[], None]) -> int:
    """Return the number of a forked process that does this and nothing else."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        os._exit(1)


def check(store: SharedStore) -> None:
    """See that the log can be walked, nothing is torn, and writing goes on."""
    ring = store.ring
    with (hold := store.hold(PATIENT_S)), hold:
        assert hold.is_held, "the lock has outlived its owner"
        at, head = ring.words[layout.TAIL], ring.words[layout.HEAD]
        assert head - at <= ring.ring_bytes
        while at < head:
            lengths = ring.words[ring.word_of(at) + layout.LENGTHS]
            at += layout.span_of(
                lengths >> layout.LENGTH_BITS, lengths & layout.LENGTH_MASK
            )
        assert at == head, "the log is broken"
        store.put("one more", value_of("one more", 1, 100), 1e12)
    assert store.look("one more")
    for number in range(KEYS):
        found = store.look(key := f"key {number}")
        assert found is None or is_whole(key, found[1]), f"{key} is torn"


def kill_at_random(path: str, count: int) -> None:
    """Kill writers at any instant; the others go on with what there is."""
    chance, store = random.Random(1), open_here(path)
    for seed in range(count):
        child = started(lambda seed=seed: write(open_here(path), seed))
        other = started(lambda seed=seed: write(open_here(path), -seed))
        time.sleep(chance.uniform(0.002, 0.02))  # whenever it is, all must hold
        for each in (child, other):
            os.kill(each, signal.SIGKILL)
            os.waitpid(each, 0)
        check(store)


def kill_at_stages(path: str, count: int) -> None:
    """Kill a writer between any two of its steps, each several times."""
    store = open_here(path)
    for stage in STAGES:
        for number in range(1, count + 1):

            def work(stage: str = stage, number: int = number) -> None:
                own, left = open_here(path), [number]

                def die(name: str) -> None:
                    left[0] -= name == stage
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)

                own.ring.step = die
                write(own, number)

            _, status = os.waitpid(started(work), 0)
            assert os.WTERMSIG(status) == signal.SIGKILL, stage
            check(store)


def read_torn(path: str, count: int) -> None:
    """Read while others write around the ring; nothing is ever of two entries."""
    store = open_here(path)
    writers = [
        started(lambda seed=seed: write(open_here(path), seed, FEW))
        for seed in range(2)
    ]
    try:
        found = 0
        first, chance = store.ring.words[layout.HEAD], random.Random(5)
        while found < count:
            key = f"key {chance.randrange(FEW)}"
            if (entry := store.look(key)) is not None:
                found += 1
                assert is_whole(key, entry[1]), key
        laps = (store.ring.words[layout.HEAD] - first) // store.ring.ring_bytes
        print(f"{found} reads, {laps} laps of the ring")
        assert laps
    finally:
        for child in writers:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def stop_owner(path: str, _count: int) -> None:
    """Stop a process that holds the lock: others read, and wait no longer than told."""
    store = open_here(path)
    with (hold := store.hold(PATIENT_S)), hold:
        store.put("key 1", value_of("key 1", 1, 10), 1e12)

    def work() -> None:
        own = open_here(path)
        with (hold := own.hold(PATIENT_S)), hold:
            os.kill(os.getpid(), signal.SIGSTOP)
            own.drop("key 1")

    child = started(work)
    os.waitpid(child, os.WUNTRACED)
    with (hold := store.hold(0.05)), hold:
        assert not hold.is_held
    assert store.look("key 1")
    os.kill(child, signal.SIGCONT)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert store.look("key 1") is None
    check(store)


if __name__ == "__main__":
    WHAT = {
        each.__name__: each
        for each in (kill_at_random, kill_at_stages, read_torn, stop_owner)
    }
    WHAT[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
