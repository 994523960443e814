"""What a process asks the others, and their answers: JSON in bounded frames.

::

    0xCB | kind u8 | version u8 | nonce 16 bytes | JSON

An ask goes to a channel of its own, never to that of the invalidations: a process of an
older release does not hear it, so it need not understand it.  Its answers go to a
channel that the nonce names.  Nothing here is ever unpickled; a client that may publish
may ask.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any, Final, NamedTuple

MAGIC: Final = 0xCB
VERSION: Final = 1
ASK: Final = ord("?")
ANSWER: Final = ord("!")
NONCE_BYTES: Final = 16
MOST_ASK: Final = 4 * 1024
"""Bytes of an ask that are read: a longer one is counted, and dropped."""
MOST_ANSWER: Final = 64 * 1024
"""Bytes of an answer; a longer one is replaced by an error."""
_HEAD: Final = 3 + NONCE_BYTES
_DIGITS: Final = 20
"""Of an int of 64 bits, with its sign."""


class BadFrameError(Exception):
    """The frame is no ask or answer, too long, or of another version."""


class Ask(NamedTuple):
    """What is asked: a verb, and what belongs to it."""

    verb: str
    arguments: dict[str, Any]
    nonce: bytes


def new_ask(verb: str, arguments: dict[str, Any]) -> Ask:
    """Return an ask that no other one's answers are taken for."""
    return Ask(verb, arguments, os.urandom(NONCE_BYTES))


def ask_channel(shared: str) -> str:
    """Name the channel on which the processes of a shared channel are asked."""
    return f"{shared}:ask"


def answer_channel(shared: str, nonce: bytes) -> str:
    """Name the channel on which one ask is answered."""
    return f"{shared}:re:{nonce.hex()}"


def encode_ask(ask: Ask) -> bytes:
    """Return the frame; raises BadFrameError if it is too long."""
    frame = _frame(ASK, ask.nonce, {"verb": ask.verb, "arguments": ask.arguments})
    if len(frame) > MOST_ASK:
        raise BadFrameError(f"an ask has {MOST_ASK} bytes at most")
    return frame


def decode_ask(frame: bytes) -> Ask:
    """Return what is asked; raises BadFrameError, and nothing else."""
    nonce, body = _parts(ASK, frame, MOST_ASK)
    verb, arguments = body.get("verb"), body.get("arguments")
    if not isinstance(verb, str) or not isinstance(arguments, dict):
        raise BadFrameError("no verb with arguments")
    return Ask(verb, arguments, nonce)


def encode_answer(nonce: bytes, answer: dict[str, Any]) -> bytes:
    """Return the frame, of an error in its place if the answer is too long."""
    frame = _frame(ANSWER, nonce, answer)
    if len(frame) > MOST_ANSWER:
        error = f"the answer has more than {MOST_ANSWER} bytes"
        return _frame(ANSWER, nonce, {"who": answer.get("who"), "error": error})
    return frame


def decode_answer(frame: bytes, nonce: bytes) -> dict[str, Any]:
    """Return the answer to this ask; raises BadFrameError, and nothing else."""
    found, answer = _parts(ANSWER, frame, MOST_ANSWER)
    if found != nonce:
        raise BadFrameError("an answer to something else")
    return answer


def _frame(kind: int, nonce: bytes, body: dict[str, Any]) -> bytes:
    return bytes((MAGIC, kind, VERSION)) + nonce + json.dumps(body).encode()


def _parts(kind: int, frame: bytes, most: int) -> tuple[bytes, dict[str, Any]]:
    if len(frame) > most:
        raise BadFrameError(f"longer than {most} bytes")
    if frame[:3] != bytes((MAGIC, kind, VERSION)) or len(frame) < _HEAD:
        raise BadFrameError("no such frame, or of another version")
    try:
        body = json.loads(
            frame[_HEAD:], parse_int=_int, parse_float=_float, parse_constant=_float
        )
    except (ValueError, RecursionError) as exc:
        raise BadFrameError("no JSON") from exc
    if not isinstance(body, dict):
        raise BadFrameError("no JSON object")
    return frame[3:_HEAD], body


def _int(digits: str) -> int:
    """Raise ValueError for what no counter, size or identity of ours can be."""
    if len(digits) > _DIGITS:
        raise ValueError("too large")
    return int(digits)


def _float(text: str) -> float:
    """Raise ValueError for NaN and infinity, also written as 1e999."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value
