"""An attacker who may publish on the channel can cost hits, and nothing else."""

from __future__ import annotations

import os
import pickle
import random
import threading

import pytest
import redis
from django.core.cache import caches

from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.engine.report import stats_of
from tests.rig import engine_of, eventually
from tests.unit.django.support import entry, hits_of, trusted

VALUES = {"text": "old", "list": [1, [2]], "none": None, "number": 7}
exploded = []


class Bomb:
    def __reduce__(self):
        return exploded.append, (1,)


def _frames(origin, seed):
    """Make frames from well-formed lies to noise."""
    draw = random.Random(seed)
    keys = tuple(f":1:{key}" for key in VALUES)
    for kind in MessageType:
        for who in (origin, b"stranger", bytes(8)):
            for write_id in (0, 1, 2, 2**64 - 1):
                for on in (True, False):
                    yield encode_message(Message(kind, who, write_id, 0, keys, on))
                    yield encode_message(
                        Message(kind, who, write_id, 2**64 - 1, (), on)
                    )
    whole = encode_message(Message(MessageType.KEYS, origin, 1, 1, keys))
    for version in (0, 2, 255):
        yield whole[:1] + bytes([version]) + whole[2:]
    for kind in (3, 6, 255):
        yield whole[:2] + bytes([kind]) + whole[3:]
    for end in range(0, len(whole), 3):
        yield whole[:end]
    for _ in range(150):
        torn = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            torn[draw.randrange(len(torn))] = draw.randrange(256)
        yield bytes(torn)
        yield draw.randbytes(draw.randint(0, 80))
    yield pickle.dumps(Bomb())
    yield whole + pickle.dumps(Bomb())
    yield os.urandom(300_000)
    yield b"\xcb\x01\x00\x00" + b"\xff" * 100


@pytest.mark.parametrize("seed", range(2))
def test_forged_frames_cost_misses_and_nothing_else(set_caches, redis_url, seed):
    """Readers get the right values all along, and L1 works again afterwards."""
    set_caches(default=entry(redis_url))
    cache = trusted(caches["default"])
    engine = engine_of(cache)
    cache.set_many(VALUES)
    listeners = [t for t in threading.enumerate() if t.name == "cachebridge-listener"]
    wrong = []
    channel = f"cachebridge:{engine.location.db}"
    with redis.Redis.from_url(redis_url) as forger:
        for frame in _frames(engine.rules.origin, seed):
            assert forger.publish(channel, frame) == 1
            found = cache.get_many(VALUES)
            if found != VALUES or cache.get("list") != VALUES["list"]:
                wrong.append(frame)
        assert wrong == []
        assert exploded == []
        eventually(lambda: stats_of(engine).messages_malformed > 50, "all handled")
        private = f"{channel}:{engine.rules.origin.hex()}"
        for noise in (b"", b"x" * 16, os.urandom(100_000)):
            forger.publish(private, noise)
        cache.set("number", 8)
        assert cache.get("number") == 8
        trusted(cache)
        eventually(lambda: hits_of(cache, lambda: cache.get("text")), "L1 hits again")
        forger.set(":1:text", b"9")
        message = Message(MessageType.KEYS, b"stranger", 1, 1, (":1:text",))
        forger.publish(channel, encode_message(message))
        eventually(lambda: cache.get("text") == 9, "an honest message is heard")
    alive = [t for t in threading.enumerate() if t.name == "cachebridge-listener"]
    assert alive == listeners
