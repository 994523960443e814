"""What the decorators are given, checked when they are applied."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from math import isfinite
from typing import Any, Final

from cachebridge.core.keys import named, tags_of

PATH_MARK: Final = "%s"
"""In ``key_prefix``, the place of the URL."""


def check_timeout(decorator: str, timeout: Any) -> None:
    """Raise TypeError unless it is a timeout; it may be the function to decorate."""
    if callable(timeout):
        raise TypeError(
            f"@cache.{decorator} needs its parentheses: @cache.{decorator}() above "
            f"{getattr(timeout, '__qualname__', timeout)!r}"
        )
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not (
        timeout is None
        or isinstance(timeout, timedelta)
        or (is_number and isfinite(timeout))
        or (isinstance(timeout, str) and timeout.strip().isdecimal())
    ):
        raise TypeError(
            f"{decorator}: timeout must be a number of seconds, a timedelta, or None "
            f"for the default, not {timeout!r}"
        )


def check_callables(decorator: str, **given: Any) -> None:
    """Raise TypeError for a parameter that is neither callable nor None."""
    for name, value in given.items():
        if value is not None and not callable(value):
            raise TypeError(
                f"{decorator}: {name} must be a function or None, not {value!r}"
            )


def check_tags(decorator: str, tags: Any) -> None:
    """Raise TypeError or ValueError unless they are tags, or a function."""
    if not callable(tags):
        try:
            tags_of(tags)
        except (TypeError, ValueError) as exc:
            raise named(exc, decorator)  # noqa: B904 the same exception


def check_flags(decorator: str, **given: Any) -> None:
    """Raise TypeError for a parameter that is neither True, False nor None."""
    for name, value in given.items():
        if value is not None and not isinstance(value, int):
            raise TypeError(f"{decorator}: {name} must be True or False, not {value!r}")


def check_key_prefix(key_prefix: Any) -> None:
    """Raise TypeError unless it is text or a function, ValueError for unusable text."""
    if callable(key_prefix):
        return
    if not isinstance(key_prefix, str):
        raise TypeError(
            "cached: key_prefix must be text, in which %s stands for the URL, or a "
            f"function that returns the key, not {key_prefix!r}"
        )
    if PATH_MARK in key_prefix:
        try:
            key_prefix % "url"
        except (TypeError, ValueError) as exc:
            raise ValueError(
                f"cached: key_prefix {key_prefix!r} is no format of one URL ({exc}): "
                "%s may stand in it once, and a percent sign is %%"
            ) from None


def check_names(args_to_ignore: Any) -> None:
    """Raise TypeError unless it is a collection of names."""
    if args_to_ignore is None:
        return
    is_list = isinstance(args_to_ignore, Collection) and type(args_to_ignore) is not str
    if not (is_list and all(isinstance(each, str) for each in args_to_ignore)):
        raise TypeError(
            "memoize: args_to_ignore must be a list of the names of arguments, such "
            f"as ['session'], not {args_to_ignore!r}"
        )
