"""Compressed bytes: recognised by how they begin, and read within bounds.

The formats are those of django-redis: the bytes of each tell by themselves what they
are, and no serializer writes bytes that begin so.
"""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cachebridge.bounds import MAX_INFLATED_BYTES, MAX_WINDOW_BYTES, inflate
from cachebridge.checking.extras import MissingExtraError, module_of
from cachebridge.codec.decoding import OF_THE_BYTES, UndecodableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.bounds import Inflating

_ZLIB_MARK: Final = b"\x78"
_WINDOW_BITS: Final = MAX_WINDOW_BYTES.bit_length() - 1
_OF_GZIP: Final = 31
_XZ_PRESET: Final = 4


class Compressor(NamedTuple):
    """A format of compressed bytes."""

    name: str
    start: bytes
    compress: Callable[[bytes], bytes]
    """Returns the same bytes for the same value: caches compare them."""
    stream: Callable[[], Inflating]
    """Makes what decompresses one value."""


def _zlib_stream() -> Inflating:
    return zlib.decompressobj()


def _gzip_stream() -> Inflating:
    return zlib.decompressobj(_OF_GZIP)


def _lzma_stream() -> Inflating:
    stream: Inflating = module_of("lzma").LZMADecompressor(memlimit=MAX_WINDOW_BYTES)
    return stream


def _compress_lzma(content: bytes) -> bytes:
    packed: bytes = module_of("lzma").compress(content, preset=_XZ_PRESET)
    return packed


def _zstd_stream() -> Inflating:
    zstd = module_of("zstd")
    bound = {zstd.DecompressionParameter.window_log_max: _WINDOW_BITS}
    stream: Inflating = zstd.ZstdDecompressor(options=bound)
    return stream


def _compress_zstd(content: bytes) -> bytes:
    packed: bytes = module_of("zstd").compress(content)
    return packed


def _lz4_stream() -> Inflating:
    stream: Inflating = module_of("lz4").LZ4FrameDecompressor()
    return stream


def _compress_lz4(content: bytes) -> bytes:
    packed: bytes = module_of("lz4").compress(content)
    return packed


COMPRESSORS: Final = {
    each.name: each
    for each in (
        Compressor("zlib", _ZLIB_MARK, zlib.compress, _zlib_stream),
        Compressor(
            "gzip",
            b"\x1f\x8b",
            lambda content: gzip.compress(content, 6, mtime=0),
            _gzip_stream,
        ),
        Compressor(
            "lzma",
            b"\xfd7zXZ\x00",
            _compress_lzma,
            _lzma_stream,
        ),
        Compressor("zstd", b"\x28\xb5\x2f\xfd", _compress_zstd, _zstd_stream),
        Compressor("lz4", b"\x04\x22\x4d\x18", _compress_lz4, _lz4_stream),
    )
}
_BY_FIRST_BYTE: Final = {each.start[0]: each for each in COMPRESSORS.values()}


def compressor_of(raw: bytes) -> Compressor | None:
    """Return the format that the bytes begin as, None if they are not compressed."""
    found = _BY_FIRST_BYTE.get(raw[0]) if len(raw) > 1 else None
    if found is None or not raw.startswith(found.start):
        return None
    if raw[:1] == _ZLIB_MARK and (raw[0] << 8 | raw[1]) % 31:  # RFC 1950, section 2.2
        return None
    return found


def decompress(raw: bytes) -> bytes:
    """Return what was compressed, or the bytes as they are if they were not.

    Raises UndecodableError, with the cause chained, for what is spoilt, cut off or
    longer than MAX_INFLATED_BYTES, and if the package for it is missing.
    """
    found = compressor_of(raw)
    if found is None:
        return raw
    try:
        return inflate(raw, found.stream())
    except MissingExtraError as exc:
        raise UndecodableError(f"compressed with {found.name}: {exc}") from exc
    except _errors_of(found.name) as exc:
        text = str(exc) if isinstance(exc, OverflowError) else type(exc).__name__
        raise UndecodableError(f"compressed with {found.name}: {text}") from exc


_OWN_ERRORS: Final = {"zstd": "ZstdError", "lzma": "LZMAError"}


def _errors_of(name: str) -> tuple[Any, ...]:
    """Return the kinds of errors that spoilt bytes of a format raise."""
    own = _OWN_ERRORS.get(name)
    return (*OF_THE_BYTES, getattr(module_of(name), own)) if own else OF_THE_BYTES


def is_spoilt(raw: bytes) -> bool:
    """Return whether no process can decompress these bytes, which begin as zlib's do.

    Of the other formats another process may have what is missing here: a package, a
    dictionary.
    """
    if raw[:1] != _ZLIB_MARK or compressor_of(raw) is None:
        return False
    try:
        inflate(raw)
    except zlib.error:
        return True
    except OverflowError:  # a process with a higher limit, or none, reads it
        return False
    return False


class Packer(NamedTuple):
    """Compresses the values of a cache that are long enough."""

    compressor: Compressor
    least: int
    """Bytes: shorter values stay as they are."""

    def pack(self, content: bytes) -> bytes:
        """Return the bytes compressed, if that makes them shorter.

        What begins as compressed bytes do is compressed in any case: a reader would
        take it for some.
        """
        looks_packed = compressor_of(content) is not None
        if looks_packed or self.least <= len(content) <= MAX_INFLATED_BYTES:
            packed = self.compressor.compress(content)
            if looks_packed or len(packed) < len(content):
                return packed
        return content
