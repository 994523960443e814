"""The template tag ``{% cache timeout [, name [, vary...]] %} ... {% endcache %}``.

A timeout of ``'del'`` deletes the fragment and renders it anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jinja2 import nodes
from jinja2.ext import Extension

from cachebridge.flask_ext.naming import make_template_fragment_key
from cachebridge.flask_ext.responses import whole_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2.parser import Parser

    from cachebridge.flask_ext.extension import Cache
    from cachebridge.flask_ext.responses import Timeout

CACHE_ATTRIBUTE: Final = "_template_fragment_cache"
_DELETE: Final = "del"


class CacheExtension(Extension):
    """Adds the tag; the environment's attribute CACHE_ATTRIBUTE is the ``Cache``."""

    tags = {"cache"}  # noqa: RUF012 jinja2's own way

    def parse(self, parser: Parser) -> nodes.Node:
        """Turn the tag into a call; without a name it is told by file and line."""
        line = next(parser.stream).lineno
        timeout = parser.parse_expression()
        name: nodes.Expr = nodes.Const(f"{parser.filename}{line}")
        varying: list[nodes.Expr] = []
        if parser.stream.skip_if("comma"):
            name = parser.parse_expression()
        while parser.stream.skip_if("comma"):
            varying.append(parser.parse_expression())
        body = parser.parse_statements(("name:endcache",), drop_needle=True)
        call = self.call_method("_fragment", [timeout, name, nodes.List(varying)])
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _fragment(
        self,
        timeout: Timeout | None,
        name: str,
        varying: list[object],
        caller: Callable[[], str],
    ) -> Any:
        cache: Cache = getattr(self.environment, CACHE_ATTRIBUTE)
        backend = cache.cache
        key = make_template_fragment_key(name, varying)
        if timeout == _DELETE:
            backend.delete(key)
            return caller()
        found = backend.load_here(key, caller, whole_seconds(timeout))
        return caller() if found is None else found
