"""What values of a type consist of, where a ``repr`` need not show it.

A function of this module gets a value, and returns smaller ones that together tell it
from any other.  numpy and pandas are recognised by name, and never imported.
"""

from __future__ import annotations

import copyreg
import hashlib
from collections import OrderedDict
from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection


def adds_attributes(kind: type) -> bool:
    """Return whether objects may have attributes that no field of theirs names.

    So may those of a subclass that declares no fields itself.
    """
    own = vars(kind)
    return not any(name in own for name in _DECLARED)


_DECLARED: Final = (
    *("__dataclass_fields__", "__attrs_attrs__", "_fields"),
    *("__struct_fields__", "__pydantic_fields__"),
)


def field_names(kind: type) -> tuple[str, ...] | None:
    """Return the fields that comparing or showing a value looks at, if it has such."""
    if is_dataclass(kind):
        return tuple(each.name for each in fields(kind) if each.compare or each.repr)
    attributes = getattr(kind, "__attrs_attrs__", None)
    if attributes is not None:
        return tuple(each.name for each in attributes if each.eq or each.repr)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return tuple(kind._fields)
    for listing in ("__struct_fields__", "__pydantic_fields__"):  # msgspec, pydantic
        if hasattr(kind, listing):
            return (*getattr(kind, listing), *_OF_PYDANTIC)
    return None


_OF_PYDANTIC: Final = ("__pydantic_extra__", "__pydantic_private__")
"""What its models compare besides their fields."""


def of_dict(value: dict[Any, Any]) -> Any:
    """Return what a subclass of dict stores, and its attributes."""
    is_ordered = isinstance(value, OrderedDict)
    items = list(value.items()) if is_ordered else dict(dict.items(value))
    state = object.__getstate__(value)
    if isinstance(state, dict):
        state = _without_hashes(state) or None
    return items, getattr(value, "default_factory", None), state


def of_mapping(value: Any) -> Any:
    """Return the items of a mapping of any type, and its attributes."""
    return dict(value.items()), attributes_of(value)


def of_sequence(value: Any) -> Any:
    """Return the items of a sequence of any type, and its attributes."""
    return list(value), attributes_of(value)


def attributes_of(value: Any, shown: Collection[str] = ()) -> dict[str, Any]:
    """Return the attributes of an object that are not shown otherwise.

    Those that a property has cached are made of the others.
    """
    kind = type(value)
    return {
        name: each
        for name, each in _without_hashes(getattr(value, "__dict__", {})).items()
        if name not in shown
        and not isinstance(getattr(kind, name, None), cached_property)
    }


def _without_hashes(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state without a kept hash, which depends on the seed."""
    return {name: state[name] for name in state if name not in _HASHES}


_HASHES: Final = ("_hash", "_hash_cache")
"""Where frozendict, werkzeug and others keep one."""


def of_set(value: Any) -> Any:
    """Return what a set of any type stores, and its attributes."""
    return set(value), object.__getstate__(value)


def of_array(value: Any) -> Any:
    """Return type, shape and content of a numpy array, however it lies in memory."""
    if type(value).__name__ != "ndarray":  # such as one with a mask
        return as_pickled(value)
    if value.dtype.hasobject:
        content = value.tolist()
    else:
        content = hashlib.sha256(value.tobytes()).hexdigest()
    return repr(value.dtype), value.shape, content


def of_table(value: Any) -> Any:
    """Return a pandas DataFrame's parts, whichever columns lie together in memory."""
    columns = [column.array for _, column in value.items()]
    return value.columns, value.index, columns, value.attrs


def of_column(value: Any) -> Any:
    """Return a pandas Series's parts."""
    return value.name, value.index, value.array, value.attrs


def as_pickled(value: Any) -> Any:
    """Return what pickle would keep; raises what the class raises to refuse that."""
    reduce: Any = copyreg.dispatch_table.get(type(value))
    reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
    if isinstance(reduced, str):  # the name under which pickle would look it up
        return reduced
    make, args, state, items, pairs = (*reduced, None, None, None)[:5]
    return make, args, state, list(items or ()), dict(pairs or ())


def is_from(kind: type, package: str, name: str) -> bool:
    """Return whether a class is, or extends, one of a package."""
    return any(
        each.__name__ == name and each.__module__.partition(".")[0] == package
        for each in kind.__mro__
    )


def defines(kind: type, *names: str) -> bool:
    """Return whether a class, or a base other than object, defines one of the names."""
    return any(name in vars(each) for each in kind.__mro__[:-1] for name in names)
