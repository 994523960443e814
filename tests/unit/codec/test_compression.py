"""Compressed values: every format, its bounds, and what is told by the first bytes."""

from __future__ import annotations

import lzma
import os
import pickle
import subprocess
import sys
import zlib

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from cachebridge.bounds import MAX_INFLATED_BYTES
from cachebridge.checking.codecs import COMPRESSORS as NAMES
from cachebridge.codec.compression import (
    COMPRESSORS,
    Packer,
    compressor_of,
    decompress,
    is_spoilt,
)
from cachebridge.codec.decoding import UndecodableError
from cachebridge.codec.seals import seal_of
from cachebridge.codec.values import SERIALIZERS
from tests.rig import engine_of, eventually, listening, lone_cache

HTML = ("<li class='row'>item</li>" * 400).encode()


def test_the_options_name_them_all():
    """An option has no format that is not there, and the other way round."""
    assert sorted(NAMES) == sorted(COMPRESSORS)


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name):
    """The same value makes the same bytes, which tell their format, and come back."""
    compressor = COMPRESSORS[name]
    packed = compressor.compress(HTML)
    assert packed == compressor.compress(HTML)
    assert len(packed) < len(HTML) / 10
    assert compressor_of(packed) is compressor
    assert decompress(packed) == HTML


@pytest.mark.parametrize("serializer", SERIALIZERS.values(), ids=SERIALIZERS)
@pytest.mark.parametrize("name", NAMES)
def test_every_serializer_reads_them(name, serializer):
    """Without the option COMPRESSOR, too."""
    raw = COMPRESSORS[name].compress(serializer.encode({"a": ["b"] * 99}))
    assert serializer.decode(raw) == {"a": ["b"] * 99}


JSON_LIKE = st.recursive(
    st.none() | st.floats() | st.text(max_size=9) | st.integers(-(2**63), 2**63 - 1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=50)
@given(JSON_LIKE)
def test_no_serializer_writes_what_looks_compressed(value):
    """So the first bytes tell in any case."""
    for serializer in SERIALIZERS.values():
        try:
            raw = serializer.encode(value)
        except (TypeError, UnicodeEncodeError):  # half of a surrogate pair
            continue
        assert compressor_of(raw) is None


@pytest.mark.parametrize("name", NAMES)
def test_spoilt(name):
    """Cut off or changed bytes are undecodable, with the cause."""
    packed = COMPRESSORS[name].compress(HTML)
    for raw in (packed[:-1], packed[:9], packed[:8] + b"\xff" * 40):
        with pytest.raises(UndecodableError, match=name) as raised:
            decompress(raw)
        assert raised.value.__cause__ is not None
        assert is_spoilt(raw) is (name == "zlib")


@pytest.mark.parametrize(("name", "extra"), [("zstd", "zstd"), ("lz4", "lz4")])
def test_a_package_is_missing(name, extra, redis_url, without_packages, caplog):
    """The value is a miss and stays; the log names the extra."""
    cache = lone_cache(redis_url)
    raw = COMPRESSORS[name].compress(pickle.dumps("x" * 99))
    with redis.Redis.from_url(redis_url) as client:
        client.set("k", raw)
        without_packages(extra)
        assert cache.get("k") is None
        assert client.get("k") == raw
    assert f"cachebridge[{extra}]" in caplog.text


# -- bombs -----------------------------------------------------------------------------

BOMB = """
import resource, sys
from cachebridge.codec.compression import decompress
from cachebridge.codec.decoding import UndecodableError
for warm in (b"x\\x9c\\x03\\x00\\x00\\x00\\x00\\x01", sys.stdin.buffer.read()):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        decompress(warm)
    except UndecodableError as exc:
        print(exc, exc.__cause__.__class__.__name__, sep="|")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def bomb(name):
    """Return a few kilobytes of which a format makes twice what is allowed."""
    megabytes = 2 * MAX_INFLATED_BYTES // 2**20
    block = bytes(2**20)
    if name == "zlib":
        stream = zlib.compressobj()
    elif name == "gzip":
        stream = zlib.compressobj(wbits=31)
    elif name == "lzma":
        stream = lzma.LZMACompressor(preset=0)
    elif name == "zstd":
        zstd = pytest.importorskip("backports.zstd", reason="makes the bomb")
        stream = zstd.ZstdCompressor()
    else:
        frame = pytest.importorskip("lz4.frame", reason="makes the bomb")
        stream = frame.LZ4FrameCompressor()
        packed = [stream.begin()]
        packed += [stream.compress(block) for _ in range(megabytes)]
        return b"".join((*packed, stream.flush()))
    packed = [stream.compress(block) for _ in range(megabytes)]
    return b"".join((*packed, stream.flush()))


@pytest.mark.parametrize("name", NAMES)
def test_bombs(name):
    """One takes no more memory than twice the bound, and is a miss."""
    said = subprocess.run(
        [sys.executable, "-c", BOMB], input=bomb(name), capture_output=True, check=True
    )
    *lines, kilobytes = said.stdout.decode().splitlines()
    assert lines == [
        f"compressed with {name}: longer than {MAX_INFLATED_BYTES} bytes|OverflowError"
    ]
    assert int(kilobytes) * 1024 < 2.5 * MAX_INFLATED_BYTES


def test_far_references_take_no_memory():
    """What refers back further than is allowed is refused at its beginning."""
    zstd = pytest.importorskip("backports.zstd", reason="makes what refers so far")
    options = {zstd.CompressionParameter.window_log: 28}
    stream = zstd.ZstdCompressor(options=options)
    raw = stream.compress(os.urandom(999)) + stream.flush()
    with pytest.raises(UndecodableError, match="zstd"):
        decompress(raw)
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**28}]
    with pytest.raises(UndecodableError, match="lzma"):
        decompress(lzma.compress(b"x" * 999, filters=filters))


# -- writing ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_packer(name):
    """Long values that get shorter are compressed, others stay."""
    packer = Packer(COMPRESSORS[name], 100)
    assert compressor_of(packer.pack(HTML)) is COMPRESSORS[name]
    noise = b"\x80" + os.urandom(500)
    for content in (HTML[:99], noise, b"123", b""):
        assert packer.pack(content) == content


def test_what_looks_compressed_is_compressed():
    """A foreign serializer may compress by itself: its bytes come back as they were."""
    packer = Packer(COMPRESSORS["zlib"], 10_000)
    for content in (zlib.compress(b"short"), COMPRESSORS["gzip"].compress(b"")):
        packed = packer.pack(content)
        assert packed != content
        assert decompress(packed) == content


@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("name", NAMES)
def test_a_cache_that_compresses(redis_url, name, serializer):
    """L2 has the short form, L1 and its hits the long one; integers stay digits."""
    options = {"compressor": name, "serializer": serializer}
    cache = listening(lone_cache(redis_url, **options))
    peer = listening(lone_cache(redis_url, **options))
    plain = lone_cache(redis_url, serializer=serializer)
    value = {"rows": [{"name": "x" * 50}] * 60, "text": "y" * 999}
    cache.set("k", value)
    cache.set("n", 7)
    cache.set_many({"a": value, "b": "short"})
    assert cache.incr("n") == 8
    assert cache.get_or_load("l", lambda: value) == value
    with redis.Redis.from_url(redis_url) as client:
        assert client.get("n") == b"8"
        for key in ("k", "a", "l"):
            assert compressor_of(client.get(key)) is COMPRESSORS[name]
        assert compressor_of(client.get("b")) is None
    at_length = 3 * len(SERIALIZERS[serializer].encode(value))

    def hits_of_a_round(reader):
        before = reader.stats().l1_hits
        assert reader.get_many(["k", "l", "a"]) == dict.fromkeys("kla", value)
        assert reader.get("n") == 8
        return reader.stats().l1_hits - before

    for reader in (cache, peer, plain):
        for _ in range(2):
            hits_of_a_round(reader)
    # A message of the changes above may come late, and drop what the peer has read.
    eventually(lambda: hits_of_a_round(peer) == 4 and peer.stats().l1_bytes > at_length)
    assert engine_of(cache).counters.undecodable == 0


@pytest.mark.parametrize("keys", [{}, {"signing_keys": ["k" * 32]}])
@pytest.mark.parametrize("name", NAMES)
def test_a_cache_that_compresses_reads_what_is_spoilt(redis_url, name, keys):
    """A miss as in any other cache, whichever call reads it."""
    cache = lone_cache(redis_url, compressor="gzip", **keys)
    secrets = tuple(key.encode() for key in keys.get("signing_keys", ()))
    seal = seal_of(secrets, (), "pickle", accepts_unsigned=False)
    spoilt = COMPRESSORS[name].compress(HTML)[:-1]
    raw = spoilt if seal is None else seal.close("k", spoilt)
    with redis.Redis.from_url(redis_url) as client:
        for read in (
            lambda: cache.get("k", "none"),
            lambda: cache.get_many(["k"]).get("k", "none"),
            lambda: cache.get_or_load("k", lambda: "none"),
        ):
            client.set("k", raw)
            assert read() == "none"
        client.set("k", raw)
        with pytest.raises(ValueError, match="'k' not found"):
            cache.incr("k")


def test_a_cache_that_compresses_reads_a_bomb(redis_url):
    """A miss that stays: a process with a higher bound may read it."""
    cache = lone_cache(redis_url, compressor="gzip")
    with redis.Redis.from_url(redis_url) as client:
        client.set("k", bomb("zlib"))
        assert cache.get("k", "none") == "none"
        assert client.get("k") == bomb("zlib")
