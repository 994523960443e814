"""What Flask knows of a request and a view's result, as an ``Exchange``.

That is also what the view has done with the session and with cookies.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from flask import has_request_context, request
from flask.globals import request_ctx
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from cachebridge.flask_ext.http.cacheability import Exchange

if TYPE_CHECKING:
    from flask import Flask


_COOKIE: Final = "HTTP_COOKIE"
_AUTHORIZATION: Final = "HTTP_AUTHORIZATION"
_PERSONAL: Final = frozenset({_COOKIE, _AUTHORIZATION})
_PARSED: Final = ("cookies", "authorization")
"""Attributes in which a request keeps what it has parsed of these headers."""


class _Noticing:
    """The environment below ``request.headers``; notices which headers are read.

    Only those that tell users apart; code that lists all headers reads them.
    """

    def __init__(self, environ: Any) -> None:
        self._environ = environ
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name in _PERSONAL:
            self.read.add(name)
        return self._environ[name]

    def items(self) -> Any:
        self.read |= _PERSONAL
        return self._environ.items()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environ, name)


def watch_headers(_app: Flask) -> None:
    """Notice what the application reads of cookies; for request_started.

    What Flask has read for the session is forgotten.
    """
    held = _attributes_of_request()
    for name in _PARSED:
        held.pop(name, None)
    _noticing(held).read.clear()


def _noticing(held: dict[str, Any]) -> _Noticing:
    """Return what notices how a request is read; it begins now at the latest."""
    headers = held.get("headers")
    environ = getattr(headers, "environ", None)
    if isinstance(environ, _Noticing):
        return environ
    noticing = _Noticing(environ)
    if environ is not None:  # a request class may have other headers
        headers.environ = noticing  # type: ignore[union-attr]
    return noticing


class PrivacyWatch:
    """Notices, while it is open, what a function does with the session and cookies.

    Cookies may be read from ``request.cookies`` or ``request.headers``.  If the session
    changes, Flask adds a cookie to the response, but only after the view
    has returned.  If it was read, the result depends on the user.  Watches may be open
    within each other.
    """

    has_changed = False
    has_read = False
    had_read = False
    """Whether the session or a cookie was read before, in the same request."""
    has_read_login = False
    """Whether the header Authorization was read."""
    _parsed: dict[str, Any]
    _held: dict[str, Any] | None = None
    """The attributes of the request; None without a request."""

    def __enter__(self) -> Self:
        if has_request_context():
            self._held = held = _attributes_of_request()
            self._session = session = _session()
            self._was_modified = bool(getattr(session, "modified", False))
            self._had_session = bool(getattr(session, "accessed", False))
            self._parsed = {each: held.pop(each) for each in _PARSED if each in held}
            self._noticing = _noticing(held)
            self._read_before, self._noticing.read = self._noticing.read, set()
            self.had_read = self._had_session or _COOKIE in self._read_before
            _set_accessed(session, to=False)
        return self

    def __exit__(self, *_error: object) -> None:
        held = self._held
        if held is None:
            return
        session = self._session
        has_read_session = bool(getattr(session, "accessed", False))
        read = self._noticing.read
        self.has_read = has_read_session or _COOKIE in read
        self.has_read_login = _AUTHORIZATION in read
        self._noticing.read = read | self._read_before
        is_modified = bool(getattr(session, "modified", False))
        self.has_changed = is_modified and not self._was_modified
        _set_accessed(session, to=self._had_session or has_read_session)
        held.update(self._parsed)


def _attributes_of_request() -> dict[str, Any]:
    current: Any = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 its interface
    return current.__dict__  # type: ignore[no-any-return]


def _session() -> Any:
    """Return the session; asking Flask for it would count as reading it."""
    context = vars(request_ctx._get_current_object())  # type: ignore[attr-defined]  # noqa: SLF001 its interface
    return context.get("_session", context.get("session"))


def _set_accessed(session: Any, *, to: bool) -> None:
    with suppress(AttributeError):  # a session of another make
        session.accessed = to


def response_of(result: Any) -> Any:
    """Return the response that an HTTPException stands for; other results unchanged."""
    return result.get_response() if isinstance(result, HTTPException) else result


def exchange_of(
    response: Any,
    *,
    in_view: bool,
    sets_cookie: bool,
    reads_cookies: bool,
    own_key: bool,
) -> Exchange:
    """Describe a view's result, and the current request if ``in_view``."""
    status, headers = _status_and_headers(response)
    varying = headers.getlist("Vary") + ["Cookie"] * reads_cookies
    return Exchange(
        method=request.method if in_view else "GET",
        has_authorization=in_view and _AUTHORIZATION in request.environ,
        request_cache_control=(
            request.headers.get("Cache-Control", "") if in_view else ""
        ),
        status=status,
        cache_control=", ".join(headers.getlist("Cache-Control")),
        vary=", ".join(varying),
        sets_cookie="Set-Cookie" in headers or sets_cookie,
        own_key=own_key,
    )


def _status_and_headers(result: Any) -> tuple[int, Headers]:
    """Return the status and headers of a view's result, in all forms Flask takes."""
    if isinstance(result, BaseResponse):
        return result.status_code, result.headers
    status: Any = 200
    headers = Headers()
    if isinstance(result, tuple) and result:
        body, *rest = result
        if isinstance(body, BaseResponse):
            status, headers = body.status_code, Headers(body.headers)
        for part in rest:
            if isinstance(part, (int, str)):
                status = part
            elif isinstance(part, (Headers, dict, tuple, list)):
                headers.update(part)
    try:
        code = int(status if isinstance(status, int) else status.split()[0])
    except (ValueError, IndexError):
        code = 200  # not the result of a view
    return code, headers
