"""Copies of an exception for several callers that share one failure.

Each caller's frames go into the traceback of what it raises: with one exception for all
of them, the threads would write into each other's traceback.
"""

from __future__ import annotations

from contextlib import suppress
from types import GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, TypeVar

from cachebridge.core.loading import LoaderError

if TYPE_CHECKING:
    from types import TracebackType

E = TypeVar("E", bound=BaseException)

_FIELDS = (GetSetDescriptorType, MemberDescriptorType)
_OF_EACH = {"__dict__", "__weakref__"}


class Failure:
    """An exception as it was when it was raised; ``again`` gives copies of it."""

    __slots__ = ("_error", "_traceback")

    def __init__(self, error: Exception) -> None:
        self._error = error
        raised = error.error if isinstance(error, LoaderError) else error
        self._traceback = raised.__traceback__

    def again(self) -> Exception:
        """Return a copy; the exception itself if it cannot be copied."""
        error = self._error
        if isinstance(error, LoaderError):
            return LoaderError(copy_of(error.error, self._traceback))
        return copy_of(error, self._traceback)


def copy_of(error: E, traceback: TracebackType | None) -> E:
    """Return a copy of the exception that has ``traceback``, without its ``__init__``.

    That may want other arguments, or have effects.  So the copy is made as Python's own
    base class makes it, and gets every attribute.  If even this fails, the exception
    itself is returned, with this traceback.
    """
    kind = type(error)
    try:
        base = next(each for each in kind.__mro__ if each.__module__ == "builtins")
        copied = base.__new__(kind, *error.args)
        for each in kind.__mro__:
            for name, field in vars(each).items():
                if isinstance(field, _FIELDS) and name not in _OF_EACH:
                    with suppress(AttributeError, TypeError):  # unset, or read-only
                        value = getattr(error, name)
                        if value is not getattr(copied, name, None):
                            setattr(copied, name, value)
        vars(copied).update(vars(error))
    except Exception:  # noqa: BLE001 a class can do anything
        return error.with_traceback(traceback)
    return copied.with_traceback(traceback)
