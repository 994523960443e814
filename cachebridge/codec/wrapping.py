"""What a cache puts around the bytes of its serializer in L2: compression, then a seal.

L1 has the bytes within, so that a hit neither decompresses nor checks anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cachebridge.codec.compression import COMPRESSORS, Packer, decompress
from cachebridge.codec.seals import is_sealed, seal_of

if TYPE_CHECKING:
    from cachebridge.codec.seals import Seal
    from cachebridge.config import CacheOptions


ABSENCES: Final = "absence"
"""The scope of marks of absence: the name of no serializer."""


class Wrapping(NamedTuple):
    """How the bytes of a serializer, the *content*, stand in L2.  Thread safe."""

    packer: Packer | None
    seal: Seal | None
    absences: Seal | None = None
    """The seal of marks of absence.  Neither seal opens what the other has closed."""

    def wrap(self, key: str, content: bytes) -> bytes:
        """Return the bytes for L2 under this full key."""
        if self.packer is not None:
            content = self.packer.pack(content)
        return content if self.seal is None else self.seal.close(key, content)

    def open(self, key: str, raw: bytes) -> bytes:
        """Return the content; raises SealError, and UndecodableError if it is spoilt.

        Nothing is decompressed that the seal has not passed.
        """
        content = raw if self.seal is None else self.seal.open(key, raw)
        return content if self.packer is None else decompress(content)

    def passes_unsigned(self, raw: bytes) -> bool:
        """Return whether ``open`` lets these bytes pass although they have no seal."""
        return self.seal is not None and not is_sealed(raw)

    def content(self, key: str, raw: bytes) -> bytes:
        """Return the content of bytes that this process has wrapped or opened."""
        content = self.packed(key, raw)
        return content if self.packer is None else decompress(content)

    def packed(self, key: str, raw: bytes) -> bytes:
        """Return the same, as it was compressed."""
        return raw if self.seal is None else self.seal.content(key, raw)


def wrapping_of(options: CacheOptions, scope: str) -> Wrapping | None:
    """Return what the options of a cache ask for, None if they ask for nothing.

    ``scope`` is the format of its serializer.  Equal options give equal wrappings.
    """
    seal, absences = (
        seal_of(
            options.signing_keys,
            options.encryption_keys,
            each,
            accepts_unsigned=options.signing_accept_unsigned,
        )
        for each in (scope, ABSENCES)
    )
    packer = None
    if options.compressor is not None:
        compressor = COMPRESSORS[options.compressor]
        packer = Packer(compressor, options.compress_min_bytes)
    if packer is None and seal is None:
        return None
    return Wrapping(packer, seal, absences)
