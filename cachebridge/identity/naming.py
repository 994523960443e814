"""Names of functions, and of methods of one object, in keys.

They are Flask-Caching's, so that both libraries find each other's entries, unless a
``repr`` does not tell the object from others.
"""

from __future__ import annotations

import inspect
import logging
import sys
from contextlib import suppress
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from cachebridge.config import warn_once
from cachebridge.errors import UncacheableError
from cachebridge.identity.tokens import token_of
from cachebridge.identity.values import lasting_text_of, name_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("cachebridge.flask")

_STRIPPED: Final = {
    code: None
    for code in range(256)
    if not (chr(code).isascii() and (chr(code).isalnum() or chr(code) in "_."))
}


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature, even if an annotation cannot be resolved."""
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
    """Return the name of a function, or of a method for all objects of its class."""
    return _spell(function.__module__, _qualified_name(function))


def namespace_of_owner(
    function: Callable[..., Any], owner: Any, *, compatible: bool = False
) -> str:
    """Return the name of a method of one object; ``compatible`` as in ``name_of``."""
    name = _qualified_name(function)
    own = name_of(owner, compatible)
    return _spell(function.__module__, name, own)


def function_namespace(
    f: Callable[..., Any], args: Any = None, *, compatible: bool = False
) -> tuple[str, str | None]:
    """Return the name of a function and, for a method, its name for one object.

    Raises ValueError for a class method without the class as first argument.
    """
    names = positional_names(f)
    first = names[0] if names else ""
    if first == "cls" and not (args and inspect.isclass(args[0])):
        raise ValueError(CLASS_NEEDED)
    owner = getattr(f, "__self__", None)
    if owner is not None and not inspect.isclass(owner):
        return namespace_of(f), namespace_of_owner(f, owner, compatible=compatible)
    if first == "self" and args:
        return namespace_of(f), namespace_of_owner(f, args[0], compatible=compatible)
    return namespace_of(f), None


def variant_of(function: Callable[..., Any], scope: object = None) -> str:
    """Return what tells a function from others of its name; mostly nothing.

    Lambdas have their code, and functions in functions what their closure holds when
    one is first decorated, as far as every process writes it alike.  Objects there that
    only their identity tells count if there is a second such function in the
    ``scope``, the cache that keeps the results.  Other callables, such as bound methods
    and partial functions, are told as arguments are; UncacheableError if nothing tells
    them.
    """
    if not isinstance(function, FunctionType):
        return text_of(function)
    variant, objects = variant_and_objects_of(function)
    if scope is None or not objects:
        return variant
    return _told_from_first(function, variant, objects, scope)


def variant_and_objects_of(function: FunctionType) -> tuple[str, list[str]]:
    """Return the variant, and tokens of what only its identity tells in the closure."""
    if function not in _variants:
        objects: list[str] = []
        variant = _variant_of(function, frozenset(), objects)
        _variants[function] = variant, objects
    return _variants[function]


_variants: Final[WeakKeyDictionary[FunctionType, tuple[str, list[str]]]] = (
    WeakKeyDictionary()
)
_first_objects: Final[WeakKeyDictionary[Any, dict[tuple[CodeType, str], list[str]]]] = (
    WeakKeyDictionary()
)
"""By scope, code and variant, the objects in the closure of the first such function."""
_MOST_FIRSTS: Final = 10_000
"""How many are remembered in a scope; further functions are no first."""


def _told_from_first(
    function: FunctionType, variant: str, objects: list[str], scope: object
) -> str:
    """Return the variant; that of a second function has its objects' tokens."""
    firsts = _first_objects.setdefault(scope, {})
    place = function.__code__, variant
    if len(firsts) < _MOST_FIRSTS:
        firsts.setdefault(place, objects)
    if firsts.get(place) == objects:
        return variant
    warn_once(
        _log,
        f"there are functions {function.__module__}.{function.__qualname__} that only "
        "objects in their closures tell apart: results of all but the first serve this "
        "process alone. Give the class of the objects a __caching_id__()",
    )
    return text_of((variant, objects))


def _variant_of(
    function: FunctionType, around: frozenset[FunctionType], objects: list[str]
) -> str:
    """Return the variant of a function that stands in the closures of others.

    Adds to ``objects`` the tokens of those that only their identity tells.
    """
    code = function.__code__
    around |= {function}
    told: dict[str, str] = {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # it has no value yet
            if text := _closed_text(cell.cell_contents, around, objects):
                told[name] = text
    if "<" in function.__qualname__ and function.__kwdefaults__:
        told["*"] = lasting_text_of(function.__kwdefaults__)
    name = f"{function.__module__}.{function.__qualname__}"
    if _spell(name) != name.replace("<", "").replace(">", ""):
        told["."] = name  # keys have no accents and dashes
    is_lambda = code.co_name == "<lambda>"
    if not (told or is_lambda):
        return ""
    return text_of((told, _instructions(code) if is_lambda else None))


def _closed_text(
    value: Any, around: frozenset[FunctionType], objects: list[str]
) -> str:
    """Return the text of a value in a closure; nothing if only its identity tells."""
    if text := lasting_text_of(value):
        return text
    function = inspect.unwrap(value) if isinstance(value, FunctionType) else None
    if not isinstance(function, FunctionType):
        with suppress(Exception):  # such as that of a proxy outside of a request
            try:
                objects.append(text_of(value))
            except UncacheableError:  # nothing tells it: then the function itself does
                objects.extend(map(token_of, around))
        return ""
    if function in around:
        return ""
    variant = _variant_of(function, around, objects)
    return text_of((_instructions(function.__code__), variant))


def _instructions(code: CodeType) -> tuple[Any, ...]:
    constants = (
        _instructions(each) if isinstance(each, CodeType) else each
        for each in code.co_consts
    )
    return code.co_code, code.co_names, tuple(constants)


CLASS_NEEDED: Final = "the keys of a class method need its class as the first argument"


def _qualified_name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", None) or getattr(
        function, "__name__", None
    )
    return name or type(function).__qualname__


def _spell(*parts: str) -> str:
    return ".".join(parts).translate(_STRIPPED)
