"""Names: of functions in keys, of objects in names, of template fragments.

They are Flask-Caching's, so that both libraries find each other's entries; with one
exception: an object without a ``repr`` of its own is told apart by a random token, not
by its address, which another object gets when it is gone.
"""

from __future__ import annotations

import inspect
import sys
import threading
import uuid
import weakref
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

from cachebridge.errors import UncacheableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ADDRESS_MARK: Final = " at 0x"
"""In the ``repr`` of every object that has none of its own."""

_PLAIN: Final = frozenset({str, bytes, int, float, complex, bool, NoneType})
_CONTAINERS: Final = frozenset({tuple, list, set, frozenset})
_STRIPPED: Final = {
    code: None
    for code in range(256)
    if not (chr(code).isascii() and (chr(code).isalnum() or chr(code) in "_."))
}


class _Tokens:
    """Names for living objects; nobody gets the name of a dead one.  Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, tuple[weakref.ref[Any], str]] = {}

    def of(self, value: Any) -> str:
        """Return the object's token; TypeError if its end cannot be noticed."""
        address = id(value)
        known = self._known.get(address)
        if known is not None and known[0]() is value:
            return known[1]
        reference = weakref.ref(value, lambda dead: self._forget(address, dead))
        with self._lock:
            known = self._known.get(address)
            if known is None or known[0]() is not value:
                known = self._known[address] = reference, uuid.uuid4().hex
        return known[1]

    def _forget(self, address: int, dead: weakref.ref[Any]) -> None:
        # Without the lock, which the thread in which the object dies may hold.
        known = self._known.get(address)
        if known is not None and known[0] is dead:
            self._known.pop(address, None)


_tokens: Final = _Tokens()


def name_of(value: Any) -> str:
    """Return what stands for an object, a method's owner for one, in names and keys.

    That is what its ``__caching_id__()`` says if it has one, else its ``repr``.
    Raises UncacheableError for an object of which neither tells it from others.
    """
    caching_id = getattr(value, "__caching_id__", None)
    if caching_id is not None:
        return str(caching_id())
    text = repr(value)
    return _name_by_token(value) if ADDRESS_MARK in text else text


def text_of(value: Any) -> str:
    """Return the ``repr`` of a value, with tokens in the place of addresses.

    Raises UncacheableError for a value that holds what cannot be told from others.
    """
    text = repr(value)
    if ADDRESS_MARK not in text or type(value) in _PLAIN:
        return text
    kind = type(value)
    if kind in _CONTAINERS:
        return f"{kind.__name__}({', '.join(map(text_of, value))})"
    if kind is dict:
        items = (f"{text_of(key)}: {text_of(value[key])}" for key in value)
        return f"{{{', '.join(items)}}}"
    return name_of(value)


def _name_by_token(value: Any) -> str:
    kind = type(value)
    try:
        return f"<{kind.__module__}.{kind.__qualname__} {_tokens.of(value)}>"
    except TypeError:
        raise UncacheableError(
            f"an object of {kind.__module__}.{kind.__qualname__} cannot be part of a "
            "key: nothing tells it from others. Give its class a __repr__ or a "
            "__caching_id__() that does, or name the argument in args_to_ignore."
        ) from None


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature, also if an annotation names what does not exist."""
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 as new as Python 3.14

        return inspect.signature(
            function, annotation_format=annotationlib.Format.FORWARDREF
        )
    return inspect.signature(function)


def positional_names(function: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters that may be given by position."""
    return [
        name
        for name, parameter in signature_of(function).parameters.items()
        if parameter.kind
        in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]


def namespace_of(function: Callable[..., Any]) -> str:
    """Return the name of a function, or of a method for all of its class's objects."""
    return _spell(function.__module__, _qualified_name(function))


def namespace_of_owner(function: Callable[..., Any], owner: Any) -> str:
    """Return the name of a method of one object."""
    name = _qualified_name(function)
    return _spell(function.__module__, name, name_of(owner))


def function_namespace(
    f: Callable[..., Any], args: Any = None
) -> tuple[str, str | None]:
    """Return the names of a function and, for a method, of it in its one object.

    Raises ValueError for a class method without the class as first argument.
    """
    names = positional_names(f)
    first = names[0] if names else ""
    if first == "cls" and not (args and inspect.isclass(args[0])):
        raise ValueError(CLASS_NEEDED)
    owner = getattr(f, "__self__", None)
    if owner is not None and not inspect.isclass(owner):
        return namespace_of(f), namespace_of_owner(f, owner)
    if first == "self" and args:
        return namespace_of(f), namespace_of_owner(f, args[0])
    return namespace_of(f), None


CLASS_NEEDED: Final = (
    "a class method's entries can only be told with its class as the first argument"
)


def _qualified_name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", None) or getattr(
        function, "__name__", None
    )
    return name or type(function).__qualname__


def _spell(*parts: str) -> str:
    return ".".join(parts).translate(_STRIPPED)


def make_template_fragment_key(
    fragment_name: str, vary_on: Iterable[object] | None = None
) -> str:
    """Return the key under which ``{% cache %}`` keeps a fragment."""
    varying = "_".join(map(str, vary_on or ()))
    separator = "_" if vary_on else ""
    return f"_template_fragment_cache_{fragment_name}{separator}{varying}"
