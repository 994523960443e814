"""``cached``: for views, and for functions whose key contains no arguments."""

from __future__ import annotations

import hashlib
import inspect
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from flask import current_app, has_app_context, has_request_context, request
from werkzeug.exceptions import HTTPException

from cachebridge.core.entry import MISSING
from cachebridge.errors import UncacheableError
from cachebridge.events import event
from cachebridge.flask_ext.decorators.base import (
    DecoratedFunction,
    Decoration,
    decorated_of,
    layers_of,
    log,
)
from cachebridge.flask_ext.decorators.callbacks import (
    at_once,
    plain_key,
    require_plain,
)
from cachebridge.flask_ext.decorators.computation import Computation
from cachebridge.flask_ext.decorators.parameters import PATH_MARK
from cachebridge.flask_ext.http import targets
from cachebridge.flask_ext.http.cacheability import reason_not_to_store
from cachebridge.flask_ext.http.exchange import (
    exchange_of,
    response_of,
)
from cachebridge.flask_ext.http.responses import indicate
from cachebridge.flask_ext.signals import cache_view_hit, cache_view_miss
from cachebridge.identity.naming import (
    namespace_of,
    positional_names,
    variant_of,
)
from cachebridge.identity.pages import tags_of_page
from cachebridge.waiting.io import call

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from cachebridge.flask_ext.backend.base import Backend
    from cachebridge.flask_ext.decorators.base import DecoratorHost, Watched
    from cachebridge.flask_ext.http.exchange import PrivacyWatch
    from cachebridge.identity.arguments import Args, Kwargs
    from cachebridge.waiting.io import IO

DEFAULT_PREFIX: Final = "view/%s"
_WAYS_OUT: Final = (
    "Put the user into the key (make_cache_key), or give store_unshareable=True if all "
    "users may get the same"
)
_CACHED_METHODS: Final = frozenset({"GET", "HEAD"})


class CachedFunction(DecoratedFunction):
    """What ``cached`` knows about the function it decorates."""

    hit_signal = cache_view_hit
    miss_signal = cache_view_miss
    returns_responses = True

    def __init__(
        self,
        function: Callable[..., Any],
        decoration: Decoration,
        *,
        key_prefix: str | Callable[[], str],
        query_string: bool,
        make_cache_key: Callable[..., Any] | None,
        shows_hits: bool,
        store_unshareable: bool,
        purgeable: bool,
    ) -> None:
        super().__init__(function, decoration)
        self._is_purgeable = purgeable
        self._key_prefix = key_prefix
        self._query_string = query_string
        self._make_cache_key = make_cache_key if callable(make_cache_key) else None
        self._shows_hits = shows_hits
        self._store_unshareable = store_unshareable
        self._admits = self._is_for_cache
        self._names = positional_names(self.function)
        self._url_format: Any = (
            f"view/{_full_name(function, self.host)}/%s"
            if key_prefix == DEFAULT_PREFIX
            else key_prefix
        )
        self._prefix_is_async = inspect.iscoroutinefunction(key_prefix)
        # A callable that makes keys may read the method and every header.
        self._has_own_keys = self._make_cache_key is not None or callable(key_prefix)
        self._is_keyed_by_request = query_string or (
            isinstance(key_prefix, str) and PATH_MARK in key_prefix
        )

    def wrapper(self) -> Any:
        """Return the function that takes the decorated one's place."""
        require_plain(
            self.function,
            make_cache_key=self._make_cache_key,
            key_prefix=self._key_prefix,
        )
        return super().wrapper()

    # -- one call ------------------------------------------------------------------

    async def _find(
        self, io: IO, key: str, args: Args, kwargs: Kwargs, *, forced: bool
    ) -> Any:
        """Return the result even if it cannot be kept; raise an HTTPException."""
        computation = Computation(self, io, key, args, kwargs)
        is_read_only = self._acting_method() == "HEAD"
        find = computation.read if is_read_only else computation.answer
        try:
            value = await find(forced=forced)
        except UncacheableError as exc:
            if computation.result is MISSING or self.host.app.debug:
                raise
            self.log_error("the result of %s is not kept. This is said once", exc)
            value = computation.result
        if not computation.has_run:
            self.announce(cache_view_hit, key, args, kwargs)
        if isinstance(value, HTTPException):
            raise value
        return value

    def _is_for_cache(self, _args: Args, _kwargs: Kwargs) -> bool:
        return self._acting_method() in _CACHED_METHODS

    def _acting_method(self) -> str:
        """Return GET if the cache is read and filled, HEAD if it is only read.

        Any other method leaves the cache out.
        """
        method = targets.method_of_request()
        if method == "GET" or not self._is_view():
            return "GET"
        return "GET" if method != "HEAD" and self._has_own_keys else method

    def announce(self, signal: Any, key: str, args: Args, kwargs: Kwargs) -> None:
        """Mark a hit or a miss in the response and send its signal, as configured."""
        if self._shows_hits:
            indicate(hit=signal is cache_view_hit)
        if self.host.enable_signals:
            signal.send(cache=self.host, cache_key=key, args=args, kwargs=kwargs)

    # -- purging -----------------------------------------------------------------------

    def tags_for(self, args: Args, kwargs: Kwargs) -> tuple[str, ...]:
        """Return the tags of a page: of its URL and view, and the decorator's."""
        tags = super().tags_for(args, kwargs)
        if not self._is_purgeable or not has_request_context() or not self._is_view():
            return tags
        path, query = request.root_path + request.path, request.query_string.decode()
        own = tags_of_page(path, query, self.function, request.endpoint)
        return (*own, *tags)

    def require_purgeable(self) -> None:
        """Raise TypeError for pages that have no tags of their URLs."""
        if not self._is_purgeable:
            raise TypeError(
                f"the pages of {self.function!r} cannot be purged: say "
                "@cache.cached(purgeable=True)"
            )

    def targets_of(self, values: Kwargs) -> list[targets.Target]:
        """Return where the view is with these arguments, on any host."""
        return self._targets(None, None, values, needs_host=False)[0]

    # -- what may be kept ------------------------------------------------------------

    async def keeps(self, io: IO, computation: Watched, result: Any) -> bool:
        """Return whether a response may be kept: as the filter and RFC 9111 say."""
        response = response_of(result)
        return await super().keeps(io, computation, response) and (
            self._store_unshareable or self._is_cacheable(response, computation.watch)
        )

    def _is_cacheable(self, response: Any, watch: PrivacyWatch) -> bool:
        in_view = has_request_context() and self._is_view()
        # A view's own Authorization is judged by the response, which may be public.
        is_private = (
            watch.has_read or watch.had_read
            if in_view
            else watch.has_read or watch.has_read_login
        )
        exchange = exchange_of(
            response,
            in_view=in_view,
            sets_cookie=watch.has_changed,
            reads_cookies=is_private,
            own_key=self._has_own_keys,
        )
        reason = reason_not_to_store(exchange)
        if reason is None:
            return True
        told = event("flask.not_kept")
        text = "the result of %s is not kept: %s"
        log.debug(text, self.function, reason, extra=told)
        if is_private:
            self.tell_privacy(_WAYS_OUT)
        return False

    def _is_view(self) -> bool:
        """Return whether the function's result is for the current request."""
        if self._is_keyed_by_request or self._has_own_keys:
            return True
        if request.endpoint is None:
            return False
        return self._is_served_by(current_app.view_functions.get(request.endpoint))

    def _is_served_by(self, view: Any) -> bool:
        """Return whether a view is the wrapper, or calls it."""
        # The decorator may stand at the whole view, or at one method of a class.
        view_class = getattr(view, "view_class", None)
        name = getattr(self.function, "__name__", "")
        method = getattr(view_class, name, None)
        return self._is_within(view) or self._is_within(method)

    def _is_within(self, function: Any) -> bool:
        """Return whether the function is the wrapper, or wraps it."""
        return any(each is self._wrapper for each in layers_of(function))

    # -- keys ------------------------------------------------------------------------

    def _key_at_hand(self, _backend: Backend, args: Args, kwargs: Kwargs) -> str | None:
        return None if self._is_async else plain_key(self._ask_for_key(args, kwargs))

    async def _key(self, io: IO, _backend: Backend, args: Args, kwargs: Kwargs) -> str:
        return plain_key(await call(io, self._ask_for_key, args, kwargs))

    def _ask_for_key(self, args: Args, kwargs: Kwargs) -> Any:
        """Return the key, or an awaitable if a coroutine function makes it."""
        if self._make_cache_key is not None:
            return self._make_cache_key(*args, **kwargs)
        return self._wrapper.make_cache_key(*args, use_request=True, **kwargs)

    def make_key(self, *args: Any, **kwargs: Any) -> Any:
        """Return the key of a call with these arguments.

        ``path`` and ``query_args`` replace those of the request.  If ``key_prefix`` is
        a coroutine function, the result is an awaitable of the key.
        """
        kwargs.update(zip(self._names, args, strict=False))
        path = query_args = None
        use_request = kwargs.pop("use_request", False)
        if not use_request:
            path = kwargs.pop("path", None)
            query_args = kwargs.pop("query_args", None)
        if callable(self._key_prefix):
            return self._key_of_callable(self._key_prefix, query_args)
        if PATH_MARK not in self._key_prefix:
            return self._whole_key(self._key_prefix, query_args)
        if use_request:
            return self._key_at(targets.of_request(), None)
        target, query_args = self._targets(path, query_args, kwargs)
        return self._key_at(target[0], query_args)

    def keys(self, path: str | None, query_args: Any, kwargs: Kwargs) -> list[str]:
        """Return all keys under which a page may be kept; see ``make_key``.

        That are those of all its URLs, over HTTP and HTTPS.
        """
        found, query_args = self._targets(path, query_args, kwargs)
        if not self.host.compatible_keys:
            found = [each for target in found for each in target.on_both_schemes()]
        return [self._key_at(target, query_args) for target in found]

    @property
    def is_keyed_by_url(self) -> bool:
        """Whether the key is made here, of the URL."""
        return (
            isinstance(self._key_prefix, str)
            and PATH_MARK in self._key_prefix
            and self._wrapper.make_cache_key == self.make_key
        )

    def _key_of_callable(self, prefix: Callable[[], Any], query_args: Any) -> Any:
        if self._prefix_is_async:
            return self._whole_key_later(prefix, query_args)
        start = prefix()
        if not inspect.isawaitable(start):
            return self._whole_key(start, query_args)
        if not self._is_async:
            at_once(start)
        return self._whole_key_later(lambda: start, query_args)

    async def _whole_key_later(self, start: Any, query_args: Any) -> str:
        return self._whole_key(await start(), query_args)

    def _key_at(self, target: targets.Target, query_args: Any) -> str:
        """Return the key of a page; without ``query_args`` the request has the query.

        The function is part of the default key: one that a view calls is no page.
        """
        if self.host.compatible_keys:
            prefix: Any = self._key_prefix
            return self._whole_key(prefix % target.path, query_args)
        return self._whole_key(self._url_format % target.text(), query_args, "?")

    def _whole_key(self, start: str, query_args: Any, separator: str = "") -> str:
        if not (self._query_string or self._checks_source()):
            return start
        digest: Any = None
        new_hash = self._hash_method or self.host.hash_method
        if self._query_string:
            pairs = targets.query_pairs(
                request.args if query_args is None else query_args
            )
            # Views tell the order of one parameter's values, but not that of names.
            of_pair = None if self.host.compatible_keys else itemgetter(0)
            digest = new_hash(str(tuple(sorted(pairs, key=of_pair))).encode())
        if self._checks_source():
            if digest is None:
                digest = new_hash(self._source_bytes())
            else:
                digest.update(self._source_bytes())
        return f"{start}{separator}{digest.hexdigest()}"

    # -- where the view is -------------------------------------------------------------

    def _targets(
        self,
        path: str | None,
        query_args: Any,
        kwargs: Kwargs,
        *,
        needs_host: bool = True,
    ) -> tuple[list[targets.Target], Any]:
        """Return where a page is, and its query.

        That is ``path`` if given, else the URLs of the view with these arguments.
        """
        app = self._app()
        query = ""
        endpoints = [
            name
            for name, view in app.view_functions.items()
            if self._is_served_by(view)
        ]
        if path is not None and self.host.compatible_keys:
            found = [targets.Target("", "", "", path)]
        elif path is not None:
            target, query = targets.of_path(app, path)
            found = [target]
        elif (
            self._query_string
            and not kwargs
            and has_request_context()
            and (request.endpoint in endpoints or not endpoints)
        ):
            found = [targets.of_request()]
        else:
            values = {name: kwargs[name] for name in kwargs if name != "self"}
            names = endpoints or [self.function.__name__]
            found = targets.of_view(app, names, values, needs_host=needs_host)
        if query_args is None and not self._is_request(found[0]):
            query_args = query
        return found, query_args

    def _is_request(self, target: targets.Target) -> bool:
        """Return whether the current request is for a target, or has to be taken."""
        if not has_request_context():
            return False
        return self.host.compatible_keys or target == targets.of_request()

    def _app(self) -> Flask:
        """Return the current app; outside of any, the one that was made last."""
        if not has_app_context():
            return self.host.app
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 its interface
        return app


def _full_name(function: Callable[..., Any], host: DecoratorHost) -> str:
    """Return a name that no other function has."""
    name = namespace_of(function)
    variant = variant_of(function, host)
    if variant:
        name += f":{hashlib.sha256(variant.encode()).hexdigest()[:16]}"
    return name


def cached_of(f: object) -> CachedFunction:
    """Return what ``cached`` knows of a function; TypeError if it has not made it."""
    cached = decorated_of(f, CachedFunction)
    if cached is not None:
        return cached
    raise TypeError(
        f"{f!r} is not cached: give the function that @cache.cached() has returned"
    )
