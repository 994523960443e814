"""From the arguments of a call to the text that stands for them in a key.

Equal calls have one text, however their arguments are passed.  The signature is
inspected once.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from cachebridge.errors import UncacheableError
from cachebridge.flask_ext.naming import (
    ADDRESS_MARK,
    CLASS_NEEDED,
    name_of,
    signature_of,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_NO_REST: Final = str(OrderedDict())


class CallShape:
    """How a function takes its arguments, as keys are concerned."""

    def __init__(self, function: Callable[..., Any], ignored: Collection[str]) -> None:
        parameters = signature_of(function).parameters.values()
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
        self._is_plain = not self.owner and not self._ignored.intersection(self.names)
        self._most = sys.maxsize if self._takes_more else len(self.names)
        self._tails = tuple(
            self._defaults[count:] for count in range(len(self.names) + 1)
        )

    def admits(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Tell whether the call has every argument it needs, and none in two ways.

        One that does not must reach the function, which says so; its text could be that
        of a sound call.
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

    def text(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the text; UncacheableError for an argument that nothing tells."""
        if self._is_plain and not kwargs:
            count = len(args)
            given = args + self._tails[count] if count < len(self.names) else args
            rest = _NO_REST
        else:
            given, others = self.sorted_arguments(args, kwargs)
            rest = str(others) if others else _NO_REST
            if ADDRESS_MARK in rest:
                rest = text_of(dict(others))
        try:
            text = str(given)
            if ADDRESS_MARK in text:
                text = text_of(given)
        except RecursionError:
            raise UncacheableError(
                "an argument that contains itself cannot be part of a key"
            ) from None
        return text + rest

    def sorted_arguments(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], OrderedDict[str, Any]]:
        """Return the arguments by position as far as that is possible, and the rest."""
        rest = {name: kwargs[name] for name in kwargs if name not in self._ignored}
        given: list[Any] = []
        remaining = iter(args)
        for position, name in enumerate(self.names):
            default = self._defaults[position]
            if name in self._ignored:
                next(remaining, None)
                given.append(None)
            elif position == 0 and self.owner:
                if not args:
                    raise ValueError(_OWNER_NEEDED[self.owner])
                given.append(name_of(next(remaining)))
            elif name in kwargs and position >= self._by_position_only:
                given.append(rest.pop(name))
            else:
                given.append(next(remaining, default))
        given.extend(args[len(self.names) :])
        return tuple(given), OrderedDict(sorted(rest.items()))


_OWNER_NEEDED: Final = {
    "self": "a method's entries can only be told with its object as the first argument",
    "cls": CLASS_NEEDED,
}
