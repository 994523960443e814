"""What becomes of bytes that no value can be read from: one exception, one rule."""

from __future__ import annotations

import pickle
import signal
import struct
import zlib
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable


class UndecodableError(Exception):
    """No value can be read from these bytes; the cause is chained.

    They may be of another writer: a newer version, another serializer, a class that
    only other processes have.
    """


def decode_once(
    load: Callable[[bytes], Any], raw: bytes, own_frames: int | None = None
) -> Any:
    """Load a value; UndecodableError for whatever the bytes make ``load`` raise.

    Once, because unpickling may do something.  What has nothing to do with the bytes
    comes out: a time limit, which may strike anywhere.  It is told from their errors by
    its kind, unless code of the value has raised it: ``own_frames`` says how many calls
    deep ours goes, None that there is no other.
    """
    try:
        return load(raw)
    except UndecodableError as exc:
        raise UndecodableError(*exc.args) from exc
    except Exception as exc:
        if _came_from_outside(exc, own_frames):
            raise
        raise UndecodableError(type(exc).__name__) from exc


OF_THE_BYTES: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    RuntimeError,
    StopAsyncIteration,
    StopIteration,
    SystemError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zlib.error,
)
"""The kinds that spoilt or strange bytes make Python itself raise.

MemoryError, too: of a length that a changed bit has made terabytes.
"""


def _came_from_outside(exc: Exception, own_frames: int | None) -> bool:
    frames = [frame for frame, _ in walk_tb(exc.__traceback__)]
    codes = {frame.f_code for frame in frames}
    if not codes.isdisjoint(_signal_handlers()):
        return True
    is_ours = own_frames is None or len(frames) <= own_frames
    return is_ours and not isinstance(exc, OF_THE_BYTES)


def _signal_handlers() -> set[Any]:
    """Return the code of the functions that Python calls for signals."""
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    functions = [getattr(each, "__func__", each) for each in handlers]
    return {getattr(each, "__code__", None) for each in functions} - {None}
