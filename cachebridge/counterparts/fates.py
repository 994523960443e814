"""What can become of a setting of another backend, and how it is carried out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cachebridge.checking.checks import did_you_mean
from cachebridge.config import warn_once
from cachebridge.errors import ConfigError

_log = logging.getLogger("cachebridge.config")

NO_EFFECT: Final = "has no effect with cachebridge"


@dataclass(slots=True)
class Settled:
    """What a group of settings amounts to."""

    options: dict[str, Any] = field(default_factory=dict)
    """Options of cachebridge, not checked yet."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of connections."""
    unknown: dict[str, Any] = field(default_factory=dict)
    """Names that stand in no table."""


@dataclass(frozen=True, slots=True)
class Option:
    """The setting is an option of cachebridge; None leaves that option's default."""

    name: str
    convert: Callable[[Any], Any] = lambda value: value
    note: str = ""

    def apply(self, where: str, name: str, value: Any, settled: Settled) -> None:
        """Set the option; ConfigError for a value that has no counterpart."""
        del name
        try:
            converted = None if value is None else self.convert(value)
        except ConfigError as exc:
            raise ConfigError(f"{where}: {exc}") from None
        if converted is not None:
            settled.options[self.name] = converted

    def __str__(self) -> str:
        return f"`{self.name}`" + (f": {self.note}" if self.note else "")


@dataclass(frozen=True, slots=True)
class Argument:
    """The setting goes to each connection as it is, in lower case."""

    def apply(self, where: str, name: str, value: Any, settled: Settled) -> None:
        """Hand the value on."""
        del where
        settled.arguments[name.lower()] = value

    def __str__(self) -> str:
        return "the same, of the connection"


@dataclass(frozen=True, slots=True)
class Ignored:
    """The setting changes nothing here, which one line in the log says.

    With ``only``, values other than these would change what the cache does: refused.
    """

    why: str
    only: frozenset[Any] = frozenset()
    instead: str = ""

    def apply(self, where: str, name: str, value: Any, settled: Settled) -> None:
        """Warn once per process."""
        del name, settled
        if self.only and path_of(value) not in self.only:
            raise ConfigError(
                f"{where} = {path_of(value)!r} is not supported: {self.instead}."
            )
        warn_once(_log, f"{where} {NO_EFFECT}: {self.why}")

    def __str__(self) -> str:
        if not self.only:
            return f"ignored: {self.why}"
        names = {str(each).rpartition(".")[2] for each in self.only}
        shown = " or ".join(f"`{each}`" for each in sorted(names))
        return f"{shown}: ignored, {self.why}; else refused: {self.instead}"


@dataclass(frozen=True, slots=True)
class Refused:
    """The setting would change what the cache does, and has no counterpart.

    The values of ``unless`` ask for what cachebridge does anyway.
    """

    instead: str
    unless: tuple[Any, ...] = ()

    def apply(self, where: str, name: str, value: Any, settled: Settled) -> None:
        """Raise ConfigError, which says what to do instead."""
        del name, settled
        if value not in self.unless:
            raise ConfigError(f"{where} is not supported: {self.instead}.")

    def __str__(self) -> str:
        return f"refused: {self.instead}"


@dataclass(frozen=True, slots=True)
class Group:
    """The setting is a dict of settings, which have a table of their own."""

    rows: Mapping[str, Fate]
    note: str
    is_whole: bool = False
    """Whether a member that stands in no row is refused."""

    def apply(self, where: str, name: str, value: Any, settled: Settled) -> None:
        """Settle the members; unknown ones are left to the connection, or refused."""
        del where
        if not isinstance(value, Mapping):
            # Without the value, which may hold a password.
            raise ConfigError(f"{name} must be a dict, not {type(value).__name__}.")
        inner = settle(value, self.rows, name)
        for each in inner.unknown if self.is_whole else ():
            raise ConfigError(
                f"{name}[{each!r}] is unknown.{did_you_mean(each, self.rows)} Valid "
                f"ones: {', '.join(sorted(self.rows))}."
            )
        settled.options.update(inner.options)
        settled.arguments.update(inner.unknown | inner.arguments)

    def __str__(self) -> str:
        return self.note


Fate = Option | Argument | Ignored | Refused | Group


def settle(
    given: Mapping[str, Any],
    rows: Mapping[str, Fate],
    place: str | Callable[[object], str],
) -> Settled:
    """Carry out what ``rows`` say about the settings that stand in ``place``.

    ``place`` is the name of a dict, or says for errors where a name stands.  Upper-case
    rows are found in either case.  Groups come last: as with django-redis, their
    members win.  Raises ConfigError for a setting that is refused.
    """
    settled = Settled()
    found = [(name, rows.get(name) or rows.get(str(name).upper())) for name in given]
    found.sort(key=lambda each: isinstance(each[1], Group))
    for name, fate in found:
        if fate is None:
            settled.unknown[name] = given[name]
        else:
            where = f"{place}[{name!r}]" if isinstance(place, str) else place(name)
            fate.apply(where, name, given[name], settled)
    return settled


def path_of(value: Any) -> Any:
    """Return the dotted path of a class or of an object's class; a text as it is."""
    if isinstance(value, (str, int, float, type(None))):
        return value
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
