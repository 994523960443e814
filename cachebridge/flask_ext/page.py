"""The page of ``docs/admin-page.md`` as a blueprint.

Forms are guarded by a cookie that other sites can neither read nor send along
(``SameSite``), and by what browsers say of where a request comes from.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, abort, current_app, jsonify, redirect, request, url_for
from flask import Response as FlaskResponse

from cachebridge.dashboard.markup import Html, tag
from cachebridge.dashboard.page import TITLE, Place, document
from cachebridge.dashboard.serving import (
    ASSETS,
    CLEAR,
    INSPECT,
    VIEW,
    Serving,
    asset,
    policy,
)
from cachebridge.errors import ConfigError
from cachebridge.flask_ext.backend.backend import CacheBridgeBackend
from cachebridge.flask_ext.extension import Cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response

GUARD: Final = "cachebridge_guard"
"""Name of the cookie, and of the field that must have the same."""
_OF_OTHERS: Final = frozenset({"cross-site", "same-site"})


def dashboard(
    *,
    authorize: Callable[[str], bool],
    name: str = "cachebridge",
    url_prefix: str = "/caches",
) -> Blueprint:
    """Return a blueprint with a page of all caches of the app it is registered with.

    ``authorize`` is called in each request, and says whether its sender may do what its
    argument names: ``"view_cache"`` (see the page), ``"inspect_key"`` (ask where a key
    is), ``"clear_cache"`` (clear caches, switch L1).  It may be a coroutine function
    if the app has Flask's extra ``async``.  False is answered with 403; it may also
    call ``abort`` itself, as a redirect to a login does.  An answer that is no bool
    raises TypeError.

    ``name`` is that of the blueprint, for ``url_for``.  Raises ConfigError if
    ``authorize`` cannot be called.  Thread safe.
    """
    if not callable(authorize):
        raise ConfigError(
            f"dashboard(authorize={authorize!r}): give a function that takes "
            "'view_cache', 'inspect_key' or 'clear_cache', and returns whether the "
            "sender of the request may do that. There is no default."
        )
    blueprint = Blueprint(name, __name__, url_prefix=url_prefix)
    _Views(authorize).add_to(blueprint)
    return blueprint


class _Views:
    """The views of one blueprint.  Thread safe."""

    def __init__(self, authorize: Callable[[str], Any]) -> None:
        self._authorize = authorize
        self._serving = Serving()

    def add_to(self, blueprint: Blueprint) -> None:
        """Add the addresses; those that change something take POST alone."""
        add = blueprint.add_url_rule
        add("/", "page", self.page)
        add("/state/", "state", self.state)
        add("/key/", "key", self.key, methods=["GET", "POST"])
        add("/act/", "act", self.act, methods=["GET", "POST"])
        for each in ASSETS:
            endpoint = each.replace(".", "_")
            add(f"/{each}", endpoint, self.asset, defaults={"name": each})

    def page(self) -> Response:
        """Show the page."""
        place = self._place()
        query = request.args.to_dict()
        return _framed(place, self._serving.page(place, _caches(), query))

    def state(self) -> Response:
        """Return the same as JSON."""
        response = jsonify(self._serving.state(self._place(), _caches()))
        response.headers["Cache-Control"] = "no-store"
        return response

    def key(self) -> Response:
        """Show the page with what each level has of a key."""
        place = self._place(INSPECT)
        if request.method != "POST":
            return redirect(place.page)
        _require_guard()
        form = request.form.to_dict()
        return _framed(place, self._serving.key(place, _caches(), form))

    def act(self) -> Response:
        """Ask whether to throw a switch, or throw it."""
        place = self._place(CLEAR)
        if request.method != "POST":
            return redirect(place.page)
        _require_guard()
        outcome = self._serving.act(place, _caches(), request.form.to_dict(), "Flask")
        if outcome.content is None:
            return redirect(_url("page", **(outcome.done or {})), 303)
        return _framed(place, outcome.content, outcome.status)

    def asset(self, name: str) -> Response:
        """Return the style or the script, which every visitor may see."""
        content, mark = asset(name)
        response = FlaskResponse(content, content_type=f"{ASSETS[name]}; charset=utf-8")
        response.headers["Cache-Control"] = "max-age=86400"
        response.set_etag(mark)
        return response

    def _place(self, *needed: str) -> Place:
        """Return what the viewer may; answers 403 without the needed."""
        if not self._may(VIEW):
            abort(403)
        may = {VIEW: True, INSPECT: self._may(INSPECT), CLEAR: self._may(CLEAR)}
        if not all(may[each] for each in needed):
            abort(403)
        token = request.cookies.get(GUARD) or secrets.token_urlsafe(16)
        return Place(
            page=_url("page"),
            state=_url("state"),
            key=_url("key"),
            act=_url("act"),
            may_inspect=may[INSPECT],
            may_clear=may[CLEAR],
            guard=tag("input", type="hidden", name=GUARD, value=token),
            token=token,
        )

    def _may(self, right: str) -> bool:
        answer = current_app.ensure_sync(self._authorize)(right)
        if not isinstance(answer, bool):
            raise TypeError(
                f"authorize({right!r}) of the cache dashboard returned a "
                f"{type(answer).__name__}: return True or False."
            )
        return answer


def _caches() -> dict[str, CacheBridgeBackend]:
    """Return the app's caches by number, as ``flask cachebridge --cache`` has them."""
    known = current_app.extensions.get("cache", {})
    found = [known[each] for each in known if type(each) is Cache]
    return {
        f"cache {number}": each
        for number, each in enumerate(found, 1)
        if isinstance(each, CacheBridgeBackend)
    }


def _require_guard() -> None:
    """Answer 403 to a form that another site may have sent."""
    ours, given = request.cookies.get(GUARD, ""), request.form.get(GUARD, "")
    if not ours or not secrets.compare_digest(ours.encode(), given.encode()):
        abort(403)
    if request.headers.get("Sec-Fetch-Site", "") in _OF_OTHERS:
        abort(403)


def _url(view: str, **query: Any) -> str:
    return url_for(f".{view}", **query)


def _framed(place: Place, content: Html, status: int = 200) -> Response:
    urls = {each: _url(each.replace(".", "_"), mark=asset(each)[1]) for each in ASSETS}
    whole = document(TITLE, content, urls["page.css"], urls["page.js"])
    response = FlaskResponse(whole, status, content_type="text/html; charset=utf-8")
    response.headers.setdefault("Content-Security-Policy", policy())
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.set_cookie(
        GUARD,
        place.token,
        path=place.page,
        secure=request.is_secure,
        httponly=True,
        samesite="Strict",
    )
    return response
