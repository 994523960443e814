"""The template tag ``{% cache timeout [, name [, vary...]] %} ... {% endcache %}``.

A timeout of ``'del'`` deletes the fragment and renders it anew.
"""

from __future__ import annotations

import hashlib
import weakref
from typing import TYPE_CHECKING, Any, Final

from flask import current_app, has_app_context
from jinja2 import nodes
from jinja2.ext import Extension

from cachebridge.core.entry import MISSING
from cachebridge.core.loading import Loaded, unwrap_loaded
from cachebridge.flask_ext.http.exchange import PrivacyWatch
from cachebridge.flask_ext.http.responses import whole_seconds
from cachebridge.identity.values import text_of
from cachebridge.waiting.io import TASKS, THREADS, call
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Flask
    from jinja2.lexer import TokenStream
    from jinja2.parser import Parser

    from cachebridge.core.keys import Tags
    from cachebridge.flask_ext.backend.base import Backend
    from cachebridge.flask_ext.decorators.base import DecoratorHost
    from cachebridge.flask_ext.http.responses import Timeout
    from cachebridge.waiting.io import IO

CACHE_ATTRIBUTE: Final = "_template_fragment_cache"
_DELETE: Final = "del"


_latest: list[weakref.ref[DecoratorHost]] = []
"""The ``Cache`` that was initialized last, if any."""


def add_tag(app: Flask, host: DecoratorHost) -> None:
    """Add the tag to the templates of an app; it uses that ``Cache``."""
    setattr(app.jinja_env, CACHE_ATTRIBUTE, host)
    app.jinja_env.add_extension(CacheExtension)
    _latest[:] = [weakref.ref(host)]


def make_template_fragment_key(
    fragment_name: str, vary_on: Iterable[object] | None = None
) -> str:
    """Return the key under which ``{% cache %}`` keeps a fragment.

    In an app with CACHE_COMPATIBLE_KEYS it is Flask-Caching's; outside of any app the
    one decides that was initialized last.  Raises UncacheableError
    if nothing tells a value of ``vary_on`` from others.
    """
    host = _latest[0]() if _latest else None
    if has_app_context():
        host = getattr(current_app.jinja_env, CACHE_ATTRIBUTE, None)
    varying = list(vary_on or ())
    if host is not None and host.compatible_keys:
        name = "_".join(map(str, (fragment_name, *varying)))
    else:
        name = str(fragment_name).replace("%", "%25").replace("?", "%3F")
        if varying:
            text = text_of([str(v) if isinstance(v, str) else v for v in varying])
            name += f"?{hashlib.sha256(text.encode()).hexdigest()}"
    return f"_template_fragment_cache_{name}"


def _is_keyword(stream: TokenStream, name: str) -> bool:
    """Return whether ``name=`` comes next."""
    return stream.current.test(f"name:{name}") and stream.look().type == "assign"


class CacheExtension(Extension):
    """Adds the tag; CACHE_ATTRIBUTE of the environment is the ``Cache``."""

    tags = {"cache"}  # noqa: RUF012 jinja2's own way

    def parse(self, parser: Parser) -> nodes.Node:
        """Turn the tag into a call; file and line are the name if none is given."""
        line = next(parser.stream).lineno
        timeout = parser.parse_expression()
        given: list[nodes.Expr] = []
        tags: nodes.Expr = nodes.Const(None)
        while parser.stream.skip_if("comma"):
            if _is_keyword(parser.stream, "tags"):
                parser.stream.skip(2)
                tags = parser.parse_expression()
                break
            given.append(parser.parse_expression())
        body = parser.parse_statements(("name:endcache",), drop_needle=True)
        name, *varying = given or [
            nodes.Const(self._place(parser.filename, line, body))
        ]
        # Constants are the same for all users.
        tells_users = any(not isinstance(each, nodes.Const) for each in varying)
        how = nodes.Tuple([nodes.Const(not tells_users), tags], "load")
        call = self.call_method(
            "_fragment",
            [timeout, name, nodes.List(varying), how],
        )
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _place(self, filename: str | None, line: int, body: list[nodes.Node]) -> str:
        """Return the name of a fragment that has none: file, line, and what is there.

        A file alone does not do: a template of text has none, and a line may have two.
        """
        if getattr(self.environment, CACHE_ATTRIBUTE).compatible_keys:
            return f"{filename}{line}"
        return f"{filename}:{line}:{hashlib.sha256(repr(body).encode()).hexdigest()}"

    def _fragment(
        self,
        timeout: Timeout | None,
        name: str,
        varying: list[object],
        how: tuple[bool, Any],
        caller: Callable[[], Any],
    ) -> Any:
        """Return the fragment; under ``enable_async`` perhaps to be awaited.

        ``how`` says whether it may be private, and has its tags, a single one perhaps
        as text.  ``caller`` renders it; under ``enable_async`` it returns a coroutine.
        """
        host: DecoratorHost = getattr(self.environment, CACHE_ATTRIBUTE)
        backend = host.cache
        key = make_template_fragment_key(name, varying)
        if timeout != _DELETE:
            found = backend.local_get(key)
            if found is not MISSING and found is not None:
                return found
        is_async = self.environment.is_async
        may_be_private, tags = how
        rendered = _render(
            *(TASKS if is_async else THREADS, backend, key, timeout, caller),
            may_be_private=may_be_private,
            tags=[tags] if isinstance(tags, str) else tags,
        )
        return rendered if is_async else run(rendered)


async def _render(
    io: IO,
    backend: Backend,
    key: str,
    timeout: Timeout | None,
    caller: Callable[[], Any],
    *,
    may_be_private: bool,
    tags: Tags,
) -> Any:
    if timeout == _DELETE:
        await backend.calls.delete(io, key)
        return await call(io, caller)

    async def load() -> Loaded:
        with PrivacyWatch() as watch:
            html = await call(io, caller)
        is_private = watch.has_read or watch.has_read_login
        return Loaded(html, store=not (may_be_private and is_private))

    loader = load if io is TASKS else lambda: run(load())
    ttl_ms = backend.ttl_ms(whole_seconds(timeout))
    how = key, loader, ttl_ms
    found = unwrap_loaded(await backend.calls.load_here(io, *how, tags=tags))
    return await call(io, caller) if found is None else found
