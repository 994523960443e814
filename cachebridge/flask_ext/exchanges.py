"""What Flask knows of a request and a view's result, in the words of ``sharing.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import has_request_context, request, session
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from cachebridge.flask_ext.sharing import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable


class SessionCookie:
    """Tells whether a function changed the session, so that its response sets a cookie.

    Flask adds the cookie to the response after the view has returned.
    """

    is_due = False

    def watch(self, run_function: Callable[[], Any]) -> Any:
        """Run a view; an HTTPException is returned, being an answer, too."""
        was_due = self._session_is_modified()
        try:
            return run_function()
        except HTTPException as exc:
            return exc
        finally:
            self.is_due = not was_due and self._session_is_modified()

    async def awatch(self, run_function: Callable[[], Any]) -> Any:
        """See ``watch``; for a coroutine function."""
        was_due = self._session_is_modified()
        try:
            return await run_function()
        except HTTPException as exc:
            return exc
        finally:
            self.is_due = not was_due and self._session_is_modified()

    @staticmethod
    def _session_is_modified() -> bool:
        return has_request_context() and bool(getattr(session, "modified", False))


def shown_by(result: Any) -> Any:
    """Return the response of an exception that is an answer, anything else as it is."""
    return result.get_response() if isinstance(result, HTTPException) else result


def exchange_of(
    shown: Any, *, in_view: bool, sets_cookie: bool, own_key: bool
) -> Exchange:
    """Describe the present request, unless it is no matter, and what it gets."""
    status, headers = _status_and_headers(shown)
    return Exchange(
        method=request.method if in_view else "GET",
        has_authorization=in_view and "Authorization" in request.headers,
        request_cache_control=(
            request.headers.get("Cache-Control", "") if in_view else ""
        ),
        status=status,
        cache_control=", ".join(headers.getlist("Cache-Control")),
        vary=", ".join(headers.getlist("Vary")),
        sets_cookie="Set-Cookie" in headers or sets_cookie,
        own_key=own_key,
    )


def _status_and_headers(result: Any) -> tuple[int, Headers]:
    """Return what a view's result says about itself, in all the forms Flask takes."""
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
        code = 200  # no view's result
    return code, headers
