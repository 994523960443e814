"""From a value to the text that stands for it in a key.

Values that a function could tell apart have different texts.  Equal values have the
same text in every process, whatever the order of their items and the hash seed.  What
cannot be told apart raises UncacheableError.

The text of a value is written by its type: a literal or container as Python writes it,
with unordered items sorted; fields, or what pickle would keep, for objects whose
``repr`` need not show everything; the ``repr`` for others; a random token for an object
that only its identity tells.
"""

from __future__ import annotations

import copyreg
import hashlib
import sys
import uuid
import weakref
from array import array
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import partial
from types import (
    BuiltinMethodType,
    FunctionType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    NoneType,
)
from typing import TYPE_CHECKING, Any, Final

from cachebridge.errors import UncacheableError
from cachebridge.identity import parts
from cachebridge.identity.tokens import IDENTITY_MARK, has_token, token_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ADDRESS_MARK: Final = " at 0x"
"""Part of the default ``repr`` of objects."""

PLAIN: Final = frozenset({str, bytes, int, float, complex, bool, NoneType})
"""Types whose ``repr`` tells everything and holds no other value."""

_ABRIDGED: Final = ("...", "…")
_LONGEST_NAME: Final = 200


def text_of(value: Any) -> str:
    """Return the text of a value; UncacheableError if nothing tells what it is."""
    try:
        return _text(value)
    except RecursionError:
        raise UncacheableError(
            "an argument that contains itself, or too many containers in each other, "
            "cannot be part of a key"
        ) from None


def stable_text_of(value: Any) -> str:
    """Return the text of a value; UncacheableError unless every process writes it so.

    An object that only its identity tells is refused, alone and as a part of another.
    """
    text = text_of(value)
    require_stable(text)
    return text


def require_stable(text: str) -> None:
    """Raise UncacheableError if an object in the text has a name of this process."""
    if IDENTITY_MARK in text and has_token(text):
        raise UncacheableError(
            "an argument cannot be part of a key: only its identity in this process "
            "tells it from others. Give its class a __repr__ that does, or a "
            "__caching_id__(), or leave it out of the key (ignore)."
        )


def lasting_text_of(value: Any) -> str:
    """Return the text of a value if every process writes it so, else an empty one."""
    try:
        text = text_of(value)
    except Exception:  # noqa: BLE001 such as that of a proxy outside of a request
        return ""
    return "" if IDENTITY_MARK in text else text


def name_of(value: Any, compatible: bool = False) -> str:
    """Return the name of an object, such as a method's owner, in names and keys.

    That is its ``__caching_id__()`` if it has one, else a ``repr`` that tells it from
    others, else its text; that of a model has its ``pk``.  ``compatible``: any ``repr``
    without an address.
    """
    writer = _writer_for(type(value))
    if writer is _by_caching_id:
        return str(value.__caching_id__())
    if compatible:
        name = repr(value)
        return text_of(value) if ADDRESS_MARK in name else name
    is_model = hasattr(value, "pk")
    if writer is _by_repr and not is_model and _is_telling(name := repr(value)):
        return name
    text = text_of(value)
    if len(text) <= _LONGEST_NAME:
        return text
    return hashlib.sha256(text.encode()).hexdigest()


def type_name(kind: type) -> str:
    """Return the name of a class, with its module."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _text(value: Any) -> str:
    kind = type(value)
    if kind in PLAIN:
        return repr(value)
    return _writer_for(kind)(value)


def _writer_for(kind: type) -> Callable[[Any], str]:
    """Return how values of a type are written; each type is judged once."""
    writer = _writers.get(id(kind))
    if writer is None:
        address = id(kind)
        writer = next((write for write, fits in _RULES if fits(kind)), _by_repr)
        weakref.finalize(kind, _writers.pop, address, None).atexit = False
        _writers[address] = writer
    return writer


# -- containers and other types of Python's own ----------------------------------------


def _tuple(value: tuple[Any, ...]) -> str:
    if PLAIN.issuperset(map(type, value)):
        return repr(value)
    texts = list(map(_text, value))
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def _list(value: list[Any]) -> str:
    if PLAIN.issuperset(map(type, value)):
        return repr(value)
    return f"[{', '.join(map(_text, value))}]"


def _set(value: AbstractSet[Any]) -> str:
    return f"{{{', '.join(sorted(map(_text, value)))}}}" if value else "set()"


def _dict(value: Iterable[tuple[Any, Any]]) -> str:
    """Return the text of a dictionary's items, in any order."""
    return f"{{{', '.join(sorted(f'{_text(key)}: {_text(of)}' for key, of in value))}}}"


def _moment(value: datetime | time) -> str:
    zone = value.tzinfo
    if zone is None or type(zone) is timezone:
        return repr(value)
    return f"<{value.replace(tzinfo=None)!r} {_text(zone)}>"


def _class(value: type) -> str:
    return type.__repr__(value) if _is_global(value) else _by_token(value)


def _method(value: Any) -> str:
    if _is_global(value):
        return _by_token(value)
    function = getattr(value, "__func__", None)
    own = value.__name__ if function is None else _text(function)
    return f"<method {own} {_text(value.__self__)}>"


def _module(value: ModuleType) -> str:
    name = value.__name__
    return f"<module {name}>" if sys.modules.get(name) is value else _by_token(value)


def _is_global(value: Any) -> bool:
    """Return whether any process that imports the name gets this very thing."""
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for part in getattr(value, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return found is value


_EXACT: Final[dict[type, Callable[[Any], str]]] = {
    tuple: _tuple,
    list: _list,
    set: _set,
    frozenset: lambda value: f"frozenset({_set(value) if value else ''})",
    dict: lambda value: _dict(value.items()),
    datetime: _moment,
    time: _moment,
    **dict.fromkeys((date, timedelta, timezone, Decimal, uuid.UUID, range), repr),
    MethodType: _method,
    BuiltinMethodType: _method,
    MethodWrapperType: _method,
    FunctionType: lambda value: _by_token(value),  # noqa: PLW0108 it stands below
    ModuleType: _module,
    memoryview: lambda value: _by_parts(
        value, (value.format, value.shape, value.tobytes())
    ),
}


# -- all other types -------------------------------------------------------------------

_writers: Final = {id(kind): writer for kind, writer in _EXACT.items()}
"""By the address of a type, which goes when the type does."""
_READ_ONCE: Final = (Iterator, AsyncIterator, Awaitable)
_UPLOADS: Final = (("werkzeug", "FileStorage"), ("django", "UploadedFile"))
_SHOWN_IN_PART: Final = (
    *(("werkzeug", name) for name in ("Request", "Response")),
    *(("django", name) for name in ("HttpRequest", "HttpResponseBase")),
)
"""Classes of frameworks, by package and name: this room imports none of them."""
_KEPT_BY_PICKLE: Final = (
    *(tuple, list, str, bytes, int, float, complex, bytearray, array, deque, partial),
    *(date, time),
)


def _by_parts(value: Any, all_parts: Any) -> str:
    return f"<{type_name(type(value))} {_text(all_parts)}>"


def _by_caching_id(value: Any) -> str:
    return _by_parts(value, str(value.__caching_id__()))


def _refused_as_read_once(value: Any) -> str:
    raise UncacheableError(
        f"a {type_name(type(value))} cannot be part of a key: reading it changes it. "
        "Pass a list of what it yields, or leave the argument out of the key (ignore, "
        "in Flask args_to_ignore)."
    )


def _refused(value: Any) -> str:
    raise _unidentified(type(value))


def _by_fields(value: Any) -> str:
    kind = type(value)
    names = parts.field_names(kind) or ()
    texts = [
        f"{name}={_text(getattr(value, name))}"
        for name in names
        if hasattr(value, name)
    ]
    if parts.adds_attributes(kind) and (more := parts.attributes_of(value, names)):
        texts.append(_text(more))
    return f"<{type_name(kind)} {', '.join(texts)}>"


def _by(parts_of: Callable[[Any], Any]) -> Callable[[Any], str]:
    """Return a writer of what a function says that a value consists of."""
    return lambda value: _by_parts(value, parts_of(value))


def _by_pickle(value: Any) -> str:
    """Write what pickle would keep."""
    try:
        reduced = parts.as_pickled(value)
    except Exception as exc:
        raise _unidentified(type(value)) from exc
    return _as_reduced(value, reduced)


def _by_own_pickle(value: Any) -> str:
    """Write what pickle would keep, if the class does not refuse to be pickled."""
    try:
        reduced = parts.as_pickled(value)
    except Exception:  # noqa: BLE001 that is how they refuse
        return _by_repr(value)
    return _as_reduced(value, reduced)


def _as_reduced(value: Any, reduced: Any) -> str:
    """Write what pickle would keep; a name alone must be that of this very object."""
    is_named = getattr(value, "__module__", None) and hasattr(value, "__qualname__")
    if isinstance(reduced, str) and is_named:
        return _by_token(value)
    return _by_parts(value, reduced)


def _by_repr(value: Any) -> str:
    """Write the ``repr``, unless it says that there is more than it shows."""
    kind = type(value)
    if getattr(value, "pk", "") is None:  # of a model, and not saved yet
        return f"<{type_name(kind)} {token_of(value)}>"
    text = repr(value)
    if _is_telling(text) and str(id(value)) not in text:
        # Some models show themselves by a title that others of their kind share.
        return _by_parts(value, (text, getattr(value, "pk", None)))
    is_own = f"{id(value):x}" in text.lower() or str(id(value)) in text
    if is_own and not parts.defines(kind, "__eq__"):
        return _by_token(value)
    return _by_pickle(value)


def _is_one_of(kind: type, classes: Iterable[tuple[str, str]]) -> bool:
    """Return whether a class is, or extends, one of these."""
    return any(parts.is_from(kind, package, name) for package, name in classes)


def _is_telling(text: str) -> bool:
    """Return whether a ``repr`` shows neither addresses nor that it is abridged."""
    return ADDRESS_MARK not in text and not any(mark in text for mark in _ABRIDGED)


_RULES: Final[tuple[tuple[Callable[[Any], str], Callable[[type], bool]], ...]] = (
    (
        lambda value: _text(value._get_current_object()),  # noqa: SLF001 its interface
        lambda kind: hasattr(kind, "_get_current_object"),
    ),
    (_by_caching_id, lambda kind: hasattr(kind, "__caching_id__")),
    (
        _refused_as_read_once,
        lambda kind: issubclass(kind, _READ_ONCE) or _is_one_of(kind, _UPLOADS),
    ),
    (_refused, lambda kind: _is_one_of(kind, _SHOWN_IN_PART)),
    (_class, lambda kind: issubclass(kind, type)),
    (
        _by(lambda value: (value._name_, value._value_)),
        lambda kind: issubclass(kind, Enum),
    ),
    (_by_fields, lambda kind: parts.field_names(kind) is not None),
    (_by(parts.of_dict), lambda kind: issubclass(kind, dict)),
    (_by(parts.of_set), lambda kind: issubclass(kind, (AbstractSet, set, frozenset))),
    (_by(parts.of_array), lambda kind: parts.is_from(kind, "numpy", "ndarray")),
    (_by(parts.of_table), lambda kind: parts.is_from(kind, "pandas", "DataFrame")),
    (_by(parts.of_column), lambda kind: parts.is_from(kind, "pandas", "Series")),
    (
        _by_pickle,
        lambda kind: (
            issubclass(kind, _KEPT_BY_PICKLE)
            or kind in copyreg.dispatch_table
            or hasattr(kind, "__array__")
        ),
    ),
    (_by(parts.of_mapping), lambda kind: issubclass(kind, Mapping)),
    (_by(parts.of_sequence), lambda kind: issubclass(kind, Sequence)),
    (
        _by_own_pickle,
        lambda kind: (
            parts.defines(kind, "__reduce__", "__reduce_ex__", "__getstate__")
            and not hasattr(kind, "pk")
        ),
    ),
)
"""How values are written, and of which types; the first that fits is taken."""


def _by_token(value: Any) -> str:
    """Write the name under which every process finds this very object, or a token."""
    if _is_global(value):
        return f"<{value.__module__}.{value.__qualname__}>"
    try:
        return f"<{value!r} {token_of(value)}>"
    except TypeError:
        raise _unidentified(type(value)) from None


def _unidentified(kind: type) -> UncacheableError:
    return UncacheableError(
        f"an object of {type_name(kind)} cannot be part of a key: nothing tells it "
        "from others. Give its class a __repr__ that does, or a __caching_id__(), or "
        "leave the argument out of the key (ignore, in Flask args_to_ignore)."
    )
