"""``cached``: for views, and functions that take no arguments worth a key."""

from __future__ import annotations

import inspect
import logging
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from flask import (
    after_this_request,
    current_app,
    g,
    has_request_context,
    request,
    session,
    url_for,
)
from werkzeug.datastructures import Headers, MultiDict
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from cachebridge.core.entry import MISSING
from cachebridge.errors import UncacheableError
from cachebridge.flask_ext.lookup import Run, find, renew
from cachebridge.flask_ext.naming import positional_names
from cachebridge.flask_ext.sharing import Exchange, obstacle_to_sharing
from cachebridge.flask_ext.signals import cache_view_hit, cache_view_miss

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Response

    from cachebridge.flask_ext.callbacks import Callbacks
    from cachebridge.flask_ext.extension import Cache
    from cachebridge.flask_ext.responses import Timeout

_log = logging.getLogger("cachebridge.flask")
_PATH_MARK: Final = "%s"
_HIT_MARK: Final = "flask_caching_hit_cache"
_CACHED_METHODS: Final = frozenset({"GET", "HEAD"})


class CachedFunction:
    """What ``cached`` knows about the function it decorates."""

    def __init__(
        self,
        cache: Cache,
        function: Callable[..., Any],
        *,
        timeout: Timeout | None,
        key_prefix: str | Callable[[], str],
        callbacks: Callbacks,
        query_string: bool,
        hash_method: Callable[..., Any] | None,
        cache_none: bool,
        make_cache_key: Callable[..., Any] | None,
        source_check: bool | None,
        response_hit_indication: bool,
        store_unshareable: bool,
    ) -> None:
        self._cache = cache
        self._function = function
        self._timeout = timeout
        self._key_prefix = key_prefix
        self._callbacks = callbacks
        self._query_string = query_string
        self._hash_method = hash_method
        self._cache_none = cache_none
        self._make_cache_key = make_cache_key if callable(make_cache_key) else None
        self._source_check = source_check
        self._shows_hits = response_hit_indication
        self._store_unshareable = store_unshareable
        self._source: bytes | None = None
        self._names = positional_names(function)
        # Whoever makes keys may look at the method and every header of the request.
        self._has_own_keys = self._make_cache_key is not None or callable(key_prefix)
        self._is_keyed_by_request = query_string or (
            isinstance(key_prefix, str) and _PATH_MARK in key_prefix
        )

    def wrapper(self) -> Any:
        """Return the function that takes the decorated one's place."""

        def decorated(*args: Any, **kwargs: Any) -> Any:
            return self._call(args, kwargs)

        update_wrapper(decorated, self._function)
        wrapper: Any = decorated
        wrapper.uncached = self._function
        wrapper.cache_timeout = self._timeout
        wrapper.make_cache_key = self.make_key
        self._wrapper = wrapper
        return wrapper

    # -- one call ------------------------------------------------------------------

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        cache, callbacks = self._cache, self._callbacks
        run_function = partial(cache.run, self._function, args, kwargs)
        if callbacks.before and callbacks.bypasses(self._function, args, kwargs):
            return run_function()
        acting_as = self._acting_method()
        if acting_as not in _CACHED_METHODS:
            return run_function()
        try:
            key = self._key(args, kwargs)
            forced = callbacks.before and callbacks.forces(args, kwargs)
        except Exception:
            if cache.app.debug:
                raise
            _log.exception("no key for %s: it runs uncached", self._function)
            return run_function()
        value = MISSING
        if not forced and not callbacks.on_hit:
            value = cache.cache.probe(key)
        if value is MISSING or value is None:
            cookies = _SessionCookie()
            run = Run(
                function=partial(cookies.watch, run_function),
                timeout=self._wrapper.cache_timeout,
                cache_none=self._cache_none,
                keeps=partial(self._keeps, cookies),
                before=partial(self._tell, cache_view_miss, key, args, kwargs),
                heeds_response=True,
            )
            is_unwanted = partial(self._is_unwanted, args=args, kwargs=kwargs)
            if acting_as == "HEAD":
                value = self._read_only(key, run, forced, is_unwanted)
            else:
                value = self._answer(key, run, forced, is_unwanted)
            if run.has_run:
                return _returned(value)
        if self._shows_hits or cache.enable_signals:
            self._tell(cache_view_hit, key, args, kwargs)
        return _returned(value)

    def _acting_method(self) -> str:
        """Return GET to ask the cache and fill it, HEAD only to ask it, or neither."""
        method = request.method if has_request_context() else "GET"
        if method == "GET" or not self._is_view():
            return "GET"
        return "GET" if method != "HEAD" and self._has_own_keys else method

    def _answer(
        self, key: str, run: Run, forced: bool, is_unwanted: Callable[[Any], bool]
    ) -> Any:
        """Return what is kept or what the function returns, also if that cannot be."""
        backend = self._cache.cache
        try:
            if forced:
                return renew(backend, key, run)
            value = find(backend, key, run)
            if not run.has_run and is_unwanted(value):
                return renew(backend, key, run)
        except UncacheableError:
            if run.result is MISSING or self._cache.app.debug:
                raise
            _log.exception("the result of %s is not kept", self._function)
            return run.result
        return value

    def _read_only(
        self, key: str, run: Run, forced: bool, is_unwanted: Callable[[Any], bool]
    ) -> Any:
        """Return what is kept, else what the function returns for this caller alone."""
        value = MISSING if forced else self._cache.cache.lookup(key)
        return run()[0] if value is MISSING or is_unwanted(value) else value

    def _is_unwanted(self, value: Any, args: tuple[Any, ...], kwargs: Any) -> bool:
        if value is None and not self._cache_none:
            return True
        return self._callbacks.on_hit and self._callbacks.refuses(value, args, kwargs)

    def _tell(
        self, signal: Any, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Make a hit or a miss known, as far as that is wanted."""
        if self._shows_hits:
            _indicate(hit=signal is cache_view_hit)
        if self._cache.enable_signals:
            signal.send(cache=self._cache, cache_key=key, args=args, kwargs=kwargs)

    # -- what may be kept ------------------------------------------------------------

    def _keeps(self, cookies: _SessionCookie, result: Any) -> bool:
        shown = result.get_response() if isinstance(result, HTTPException) else result
        if not self._callbacks.keeps(shown):
            return False
        if self._store_unshareable:
            return True
        status, headers = _status_and_headers(shown)
        in_view = has_request_context() and self._is_view()
        obstacle = obstacle_to_sharing(
            Exchange(
                method=request.method if in_view else "GET",
                has_authorization=in_view and "Authorization" in request.headers,
                request_cache_control=(
                    request.headers.get("Cache-Control", "") if in_view else ""
                ),
                status=status,
                cache_control=", ".join(headers.getlist("Cache-Control")),
                vary=", ".join(headers.getlist("Vary")),
                sets_cookie="Set-Cookie" in headers or cookies.is_due,
                own_key=self._has_own_keys,
            )
        )
        if obstacle is not None:
            _log.debug("the result of %s is not kept: %s", self._function, obstacle)
        return obstacle is None

    def _is_view(self) -> bool:
        """Tell whether what the function gives is for the present request."""
        if self._is_keyed_by_request or self._has_own_keys:
            return True
        if request.endpoint is None:
            return False
        view = current_app.view_functions.get(request.endpoint)
        view_class = getattr(view, "view_class", None)
        if view_class is not None:
            name = self._function.__name__
            view = getattr(view_class, name, None)
        while view is not None:
            if view is self._wrapper:
                return True
            view = getattr(view, "__wrapped__", None)
        return False

    # -- keys ------------------------------------------------------------------------

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if self._make_cache_key is not None:
            return str(self._make_cache_key(*args, **kwargs))
        return str(self._wrapper.make_cache_key(*args, use_request=True, **kwargs))

    def make_key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call with these arguments.

        ``path`` and ``query_args`` stand for a request that there is not.
        """
        kwargs.update(zip(self._names, args, strict=False))
        path = query_args = None
        use_request = kwargs.pop("use_request", False)
        if not use_request:
            path = kwargs.pop("path", None)
            query_args = kwargs.pop("query_args", None)
        key = self._start_of_key(path, kwargs, use_request=use_request)
        digest = None
        if self._query_string:
            pairs = (
                request.args.items(multi=True)
                if query_args is None
                else query_pairs(query_args)
            )
            digest = self._new_hash(str(tuple(sorted(pairs))).encode())
        if self._checks_source():
            if digest is None:
                digest = self._new_hash(self._source_bytes())
            else:
                digest.update(self._source_bytes())
        return key if digest is None else f"{key}{digest.hexdigest()}"

    def _start_of_key(
        self, path: str | None, kwargs: dict[str, Any], *, use_request: bool
    ) -> str:
        prefix = self._key_prefix
        if callable(prefix):
            return prefix()
        if _PATH_MARK not in prefix:
            return prefix
        if path is None:
            if use_request or self._query_string:
                path = request.path
            else:
                path = url_for(self._function.__name__, _external=False, **kwargs)
        return prefix % path

    def _new_hash(self, content: bytes) -> Any:
        method = self._hash_method or self._cache.hash_method
        return method(content)

    def _checks_source(self) -> bool:
        own = self._source_check
        return bool(self._cache.source_check if own is None else own)

    def _source_bytes(self) -> bytes:
        if self._source is None:
            self._source = inspect.getsource(self._function).encode()
        return self._source


def query_pairs(query_args: Any) -> list[tuple[str, str]]:
    """Return names and values of a query string, a mapping, or pairs."""
    if isinstance(query_args, str):
        return parse_qsl(query_args.lstrip("?"), keep_blank_values=True)
    if isinstance(query_args, MultiDict):
        items: Any = query_args.items(multi=True)
    else:
        items = query_args.items() if hasattr(query_args, "items") else query_args
    return [(name, str(value)) for name, value in items]


class _SessionCookie:
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

    @staticmethod
    def _session_is_modified() -> bool:
        return has_request_context() and bool(getattr(session, "modified", False))


def _returned(value: Any) -> Any:
    """Return a result, and raise the exception that is one."""
    if isinstance(value, HTTPException):
        raise value
    return value


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


def _indicate(*, hit: bool) -> None:
    """Let the response of this request say whether the last look-up was a hit."""
    if not has_request_context():
        return
    if _HIT_MARK not in g:
        after_this_request(_add_hit_header)
    setattr(g, _HIT_MARK, hit)


def _add_hit_header(response: Response) -> Response:
    if g.get(_HIT_MARK):
        response.headers["hit_cache"] = "True"
    return response
