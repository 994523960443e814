"""What checks the value of an option: a function of its name and the value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from cachebridge.errors import ConfigError

T = TypeVar("T")
Check = Callable[[str, Any], T]
"""Returns a valid value; raises ConfigError, which names the option, for another."""


def or_none(check: Check[T]) -> Check[T | None]:
    """Make the check of an option that may also be None."""
    return lambda name, value: None if value is None else check(name, value)


def integer(least: int) -> Check[int]:
    """Make the check of an option that is an integer."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        raise ConfigError(f"{name} must be an integer >= {least}, not {value!r}.")

    return check


def number(wanted: str, is_valid: Callable[[float], bool]) -> Check[float]:
    """Make the check of a number; ``wanted`` says which are valid, after "a number"."""

    def check(name: str, value: Any) -> float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and is_valid(value):
            return float(value)
        raise ConfigError(f"{name} must be a number {wanted}, not {value!r}.")

    return check


def choice(*valid: str) -> Check[str]:
    """Make the check of an option that is one of these names."""

    def check(name: str, value: Any) -> str:
        if value in valid:
            return str(value)
        names = " or ".join(map(repr, valid))
        hint = did_you_mean(value, valid)
        raise ConfigError(f"{name} must be {names}, not {value!r}.{hint}")

    return check


def boolean(name: str, value: Any) -> bool:
    """Check an option that is True or False."""
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{name} must be True or False, not {value!r}.")


def text(name: str, value: Any) -> str:
    """Check an option that is a text."""
    if isinstance(value, str):
        return value
    raise ConfigError(f"{name} must be a string, not {value!r}.")


def text_or_none(name: str, value: Any) -> str | None:
    """Check an option that is a URL or None."""
    if value is None or (isinstance(value, str) and value):
        return value
    # Without the value, which may hold a password.
    raise ConfigError(f"{name} must be a URL or None, not {type(value).__name__}.")


def prefixes(name: str, value: Any) -> tuple[str, ...]:
    """Check an option that is a list of beginnings of keys."""
    if isinstance(value, (list, tuple, set, frozenset)) and all(
        isinstance(item, str) and item for item in value
    ):
        return tuple(value)
    raise ConfigError(f"{name} must be a list of non-empty strings, not {value!r}.")


def mapping(name: str, value: Any) -> dict[str, Any]:
    """Check an option that is a dict."""
    if isinstance(value, Mapping):
        return dict(value)
    # Without the value, which may hold a password.
    raise ConfigError(f"{name} must be a dict, not {type(value).__name__}.")


def did_you_mean(name: object, valid: Iterable[str]) -> str:
    """Return a question with the name that is nearest, in any case of letters."""
    from difflib import get_close_matches  # noqa: PLC0415 slow to import

    by_upper = {each.upper(): each for each in valid}
    near = get_close_matches(str(name).upper(), by_upper, n=1)
    return f" Did you mean {by_upper[near[0]]!r}?" if near else ""
