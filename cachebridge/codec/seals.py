"""Seals: values that only holders of a key can write, and with encryption read.

A sealed value, big-endian::

    mark 0xCB | kind u8 | key id 4 bytes | ...
    kind 0x10, signed:    ... | BLAKE2b of key and content, 16 bytes | content
    kind 0x11, encrypted: ... | nonce 12 bytes | AES-256-GCM of content, its tag last

The full key of the value is signed, too, and is the associated data of AES-GCM: a
value that was moved to another key does not open.  The lifetime is not.  Each secret
makes keys of its own for either kind and for each *scope*, the format of the content:
what was signed as JSON is never taken for a pickle.
"""

from __future__ import annotations

import os
import struct
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from cachebridge.checking.extras import module_of
from cachebridge.codec.decoding import UndecodableError

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK: Final = 0xCB
SIGNED: Final = bytes((MARK, 0x10))
ENCRYPTED: Final = bytes((MARK, 0x11))
LEAST_KIND: Final = 0x10

_ID_BYTES: Final = 4
_ID_END: Final = 2 + _ID_BYTES
_MAC_BYTES: Final = 16
_SIGNED_START: Final = _ID_END + _MAC_BYTES
_NONCE_BYTES: Final = 12
_NONCE_END: Final = _ID_END + _NONCE_BYTES
_GCM_TAG_BYTES: Final = 16
_LENGTH: Final = struct.Struct(">I").pack

UNSIGNED: Final = "it has no signature"
NOT_ENCRYPTED: Final = "it is not encrypted"
UNKNOWN_KEY: Final = "its key is none of ours"
FORGED: Final = "it was changed, or written for another key"


class SealError(UndecodableError):
    """The value is not sealed as it should be; the text says why, without its bytes."""

    @property
    def is_forged(self) -> bool:
        """Whether no process can open it: our own key has not sealed it so."""
        return bool(self.args[0] == FORGED)


class Seal(Protocol):
    """Closes values, and opens what it, or another with one of its keys, has closed.

    Thread safe.
    """

    accepts_unsigned: bool
    """Whether bytes without a seal pass, as they are."""

    def close(self, key: str, content: bytes) -> bytes:
        """Return the bytes for L2 under this full key."""

    def open(self, key: str, raw: bytes) -> bytes:
        """Return the content, or raise SealError.

        Bytes without a seal are returned as they are if ``accepts_unsigned``.
        """

    def content(self, key: str, raw: bytes) -> bytes:
        """Return the content of bytes that this process has closed or opened before."""


def is_sealed(raw: bytes) -> bool:
    """Return whether the bytes begin as a sealed value, of any kind to come."""
    # A float of MessagePack begins so, too, and has nine bytes.
    return len(raw) > _ID_END + 3 and raw[0] == MARK and raw[1] >= LEAST_KIND


def unverified(raw: bytes) -> bytes:
    """Return the content of a signed value for a reader that knows no keys.

    It trusts what it reads anyway: see ``docs/signing.md``.  Raises UndecodableError
    for what it cannot read, and for bytes that are not sealed.
    """
    if raw.startswith(SIGNED) and len(raw) >= _SIGNED_START:
        return raw[_SIGNED_START:]
    if raw.startswith(ENCRYPTED) and is_sealed(raw):
        raise UndecodableError("encrypted")
    raise UndecodableError("written by a newer version of cachebridge")


class _Derived(NamedTuple):
    id: bytes
    secret: bytes


def _derive(secret: bytes, kind: bytes, scope: str) -> _Derived:
    """Return the key that a secret makes for one kind and scope, and its public id."""
    person = b"cachebridge-" + kind.hex().encode()
    salt = blake2b(scope.encode(), digest_size=blake2b.SALT_SIZE).digest()
    derived = blake2b(secret, digest_size=48, person=person, salt=salt).digest()
    return _Derived(derived[32 : 32 + _ID_BYTES], derived[:32])


class Signature:
    """Signs values with keyed BLAKE2b.  Thread safe."""

    def __init__(
        self, secrets: Sequence[bytes], scope: str, *, accepts_unsigned: bool = False
    ) -> None:
        """The first of the secrets signs; a value that any of them signed is read."""
        self.accepts_unsigned = accepts_unsigned
        keys = [_derive(each, SIGNED, scope) for each in secrets]
        # As it is before the first byte: copying it is faster than making one.
        self._fresh = {
            each.id: blake2b(key=each.secret, digest_size=_MAC_BYTES)
            for each in reversed(keys)
        }
        self._head = SIGNED + keys[0].id
        self._first = self._fresh[keys[0].id]

    def close(self, key: str, content: bytes) -> bytes:
        """See ``Seal.close``."""
        return b"".join((self._head, _mac(self._first, key, content), content))

    def open(self, key: str, raw: bytes) -> bytes:
        """See ``Seal.open``."""
        if not raw.startswith(SIGNED) or len(raw) < _SIGNED_START:
            if not self.accepts_unsigned or is_sealed(raw):
                raise SealError(UNKNOWN_KEY if is_sealed(raw) else UNSIGNED)
            return raw
        fresh = self._fresh.get(raw[2:_ID_END])
        if fresh is None:
            raise SealError(UNKNOWN_KEY)
        content = raw[_SIGNED_START:]
        if not compare_digest(_mac(fresh, key, content), raw[_ID_END:_SIGNED_START]):
            raise SealError(FORGED)
        return content

    def content(self, key: str, raw: bytes) -> bytes:
        """See ``Seal.content``."""
        del key
        return raw[_SIGNED_START:] if is_sealed(raw) else raw


def _mac(fresh: Any, key: str, content: bytes) -> bytes:
    name = key.encode("utf-8", "surrogatepass")
    mac = fresh.copy()
    mac.update(_LENGTH(len(name)) + name)
    mac.update(content)
    digest: bytes = mac.digest()
    return digest


class Encryption:
    """Encrypts values with AES-256-GCM.  Thread safe.

    Needs the package cryptography: raises MissingExtraError without it.
    """

    def __init__(
        self, secrets: Sequence[bytes], scope: str, *, accepts_unsigned: bool = False
    ) -> None:
        """The first of the secrets encrypts; what any of them encrypted is read."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 an extra

        self._invalid = InvalidTag
        self.accepts_unsigned = accepts_unsigned
        cipher = module_of("crypto").AESGCM
        keys = [_derive(each, ENCRYPTED, scope) for each in secrets]
        self._ciphers = {each.id: cipher(each.secret) for each in reversed(keys)}
        self._head = ENCRYPTED + keys[0].id
        self._first = self._ciphers[keys[0].id]

    def close(self, key: str, content: bytes) -> bytes:
        """See ``Seal.close``."""
        nonce = os.urandom(_NONCE_BYTES)
        name = key.encode("utf-8", "surrogatepass")
        return b"".join((self._head, nonce, self._first.encrypt(nonce, content, name)))

    def open(self, key: str, raw: bytes) -> bytes:
        """See ``Seal.open``."""
        if not raw.startswith(ENCRYPTED) or len(raw) < _NONCE_END + _GCM_TAG_BYTES:
            if not self.accepts_unsigned or is_sealed(raw):
                raise SealError(UNKNOWN_KEY if is_sealed(raw) else NOT_ENCRYPTED)
            return raw
        cipher = self._ciphers.get(raw[2:_ID_END])
        if cipher is None:
            raise SealError(UNKNOWN_KEY)
        name = key.encode("utf-8", "surrogatepass")
        try:
            content: bytes = cipher.decrypt(
                raw[_ID_END:_NONCE_END], raw[_NONCE_END:], name
            )
        except self._invalid:
            raise SealError(FORGED) from None
        return content

    def content(self, key: str, raw: bytes) -> bytes:
        """See ``Seal.content``."""
        return self.open(key, raw) if is_sealed(raw) else raw


@lru_cache
def seal_of(
    signing: tuple[bytes, ...],
    encryption: tuple[bytes, ...],
    scope: str,
    *,
    accepts_unsigned: bool,
) -> Seal | None:
    """Return the seal of a cache, the same for equal arguments; None without keys."""
    if encryption:
        return Encryption(encryption, scope, accepts_unsigned=accepts_unsigned)
    if signing:
        return Signature(signing, scope, accepts_unsigned=accepts_unsigned)
    return None
