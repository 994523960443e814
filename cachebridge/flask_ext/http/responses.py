"""Results of decorated functions: their own timeouts, and generators."""

# No postponed annotations: tools read those of CachedResponse.
import inspect
import math
from datetime import timedelta
from typing import Any, Final, TypeAlias

from flask import Response, after_this_request, g, has_request_context

_HIT_MARK: Final = "flask_caching_hit_cache"

Timeout: TypeAlias = int | timedelta


def whole_seconds(timeout: Timeout | str | None) -> int | None:
    """Return a timeout as a number; a timedelta is rounded up to whole seconds.

    Configurations from the environment give it as text; raises ValueError if that is
    not a whole number.
    """
    if isinstance(timeout, timedelta):
        return math.ceil(timeout.total_seconds())
    return int(timeout) if isinstance(timeout, str) else timeout


class CachedResponse(Response):
    """A response with a timeout of its own, for a view under ``cached`` to return.

    It shares the state of ``response``.  With a timeout of 0 or None, that of the
    decorator applies.
    """

    timeout: int | None = None

    def __init__(self, response: Response, timeout: Timeout | None) -> None:
        self.__dict__ = response.__dict__
        self.timeout = whole_seconds(timeout)


def consume_generator(result: Any) -> Any:
    """Return what a generator yields, joined if it is all text or all bytes."""
    if not inspect.isgenerator(result):
        return result
    chunks: list[Any] = list(result)
    if all(isinstance(chunk, str) for chunk in chunks):
        return "".join(chunks)
    if all(isinstance(chunk, bytes) for chunk in chunks):
        return b"".join(chunks)
    return chunks


def indicate(*, hit: bool) -> None:
    """Add a header to the response of this request if the last look-up was a hit."""
    if not has_request_context():
        return
    if _HIT_MARK not in g:
        after_this_request(_add_hit_header)
    setattr(g, _HIT_MARK, hit)


def _add_hit_header(response: Response) -> Response:
    if g.get(_HIT_MARK):
        response.headers["hit_cache"] = "True"
    return response
