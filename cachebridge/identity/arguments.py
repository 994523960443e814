"""From the arguments of a call to the text that stands for them in a key.

Equal calls have one text, however their arguments are passed; what tells values apart
stands in ``values.py``.  The signature is inspected once.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cachebridge.identity.naming import CLASS_NEEDED, signature_of
from cachebridge.identity.values import (
    ADDRESS_MARK,
    PLAIN,
    name_of,
    text_of,
    type_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]
"""What one call of a decorated function is given."""

NO_REST: Final = str(OrderedDict())
"""How the text of a call ends that has positional arguments alone."""


class _Text(str):
    """Text that is shown in a ``repr`` as it is."""

    __slots__ = ()
    __repr__ = str.__str__


class CallShape:
    """How a function takes its arguments, and which of them are part of a key."""

    def __init__(
        self,
        function: Callable[..., Any],
        ignored: Collection[str],
        *,
        name_owner: Callable[[Any, bool], str] = name_of,
    ) -> None:
        """``name_owner`` names the object or class of a method."""
        parameters = signature_of(function).parameters.values()
        self._name_owner = name_owner
        self._home = _class_around(function)
        positional = [
            each
            for each in parameters
            if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]
        self.names = tuple(each.name for each in positional)
        self.owner = self.names[0] if self.names[:1] in {("self",), ("cls",)} else ""
        self._by_position_only = sum(
            each.kind is each.POSITIONAL_ONLY for each in positional
        )
        self._ignored = frozenset(ignored)
        self._defaults = tuple(
            None if each.default is each.empty else each.default for each in positional
        )
        self._required = sum(each.default is each.empty for each in positional)
        self._takes_more = any(each.kind is each.VAR_POSITIONAL for each in parameters)
        self._keywords_required = frozenset(
            each.name
            for each in parameters
            if each.kind is each.KEYWORD_ONLY and each.default is each.empty
        )
        self._keyword_defaults = {
            each.name: each.default
            for each in parameters
            if each.kind is each.KEYWORD_ONLY and each.default is not each.empty
        }
        self._ignores = bool(self._ignored.intersection(self.names))
        self._most = sys.maxsize if self._takes_more else len(self.names)
        self._tails = tuple(
            self._defaults[count:] for count in range(len(self.names) + 1)
        )

    def admits(self, args: Args, kwargs: Mapping[str, Any]) -> bool:
        """Return whether the call has every argument it needs, and none twice.

        The function itself must refuse any other call, whose text could be that of a
        valid one.
        """
        if not kwargs:
            return (
                self._required <= len(args) <= self._most
                and not self._keywords_required
            )
        given = zip(self.names, args, strict=False)
        return (
            len(args) <= self._most
            and not any(kwargs.get(name, value) is not value for name, value in given)
            and all(name in kwargs for name in self.names[len(args) : self._required])
            and len(args) >= min(self._by_position_only, self._required)
            and self._keywords_required.issubset(kwargs)
        )

    def text(
        self, args: Args, kwargs: Mapping[str, Any], compatible: bool = False
    ) -> str:
        """Return the text; UncacheableError if an argument cannot be identified.

        ``compatible``: as Flask-Caching writes it, if it has no address.
        """
        if kwargs or self._ignores:
            given, others = self.sorted_arguments(args, kwargs, compatible)
            rest = self._text_of_rest(others, compatible) if others else NO_REST
        else:
            count = len(args)
            given = args + self._tails[count] if count < len(self.names) else args
            if self.owner:
                given = (self._owner(args, compatible), *given[1:])
            rest = NO_REST
        for each in given:
            if type(each) not in PLAIN:
                return _written(given, compatible) + rest
        return str(given) + rest

    def _text_of_rest(self, others: dict[str, Any], compatible: bool) -> str:
        if compatible:
            return _written(OrderedDict(others), compatible)
        texts = {name: _Text(text_of(value)) for name, value in others.items()}
        for name, default in self._keyword_defaults.items():
            if name in texts and texts[name] == text_of(default):
                del texts[name]
        return str(OrderedDict(texts))

    def sorted_arguments(
        self, args: Args, kwargs: Mapping[str, Any], compatible: bool = False
    ) -> tuple[tuple[Any, ...], OrderedDict[str, Any]]:
        """Return the arguments that have a position, by position, then the others."""
        rest = {name: kwargs[name] for name in kwargs if name not in self._ignored}
        given: list[Any] = []
        remaining = iter(args)
        for position, name in enumerate(self.names):
            default = self._defaults[position]
            if name in self._ignored:
                next(remaining, None)
                given.append(None)
            elif position == 0 and self.owner:
                given.append(self._owner(args, compatible))
                next(remaining)
            elif name in kwargs and position >= self._by_position_only:
                given.append(rest.pop(name))
            else:
                given.append(next(remaining, default))
        given.extend(args[len(self.names) :])
        return tuple(given), OrderedDict(sorted(rest.items()))

    def _owner(self, args: Args, compatible: bool) -> str | tuple[str, str]:
        """Return the owner's name; with its class, if that inherits the method."""
        if not args:
            raise ValueError(_OWNER_NEEDED[self.owner])
        name = self._name_owner(args[0], compatible)
        if compatible or self.owner == "cls":
            return name
        kind = type(args[0])
        if (kind.__module__, kind.__qualname__) == self._home:
            return name
        return type_name(kind), name


def _class_around(function: Callable[..., Any]) -> tuple[str, str]:
    """Return module and name of the class in whose body a function stands."""
    name = getattr(function, "__qualname__", "")
    return getattr(function, "__module__", ""), name.rpartition(".")[0]


def _written(value: Any, compatible: bool) -> str:
    if compatible and ADDRESS_MARK not in (text := str(value)):
        return text
    return text_of(value)


_OWNER_NEEDED: Final = {
    "self": "the keys of a method need its object as the first argument",
    "cls": CLASS_NEEDED,
}
