"""The Python examples of README.md and docs/.

All blocks of a page run in one namespace, one after the other, as a reader would type
them.  Two comments that readers do not see help: ``<!-- run: ... -->`` is code that the
page takes for granted, and ``<!-- not run: why -->`` stands before a block that is no
program.  ``<!-- file: ... -->`` and ``<!-- append: ... -->`` belong to a tutorial,
which ``tests/tutorial.py`` goes through.  Addresses of servers are replaced by those
given.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"^<!-- run:\s*(?P<hidden>.*?)-->$"
    r"|(?P<mark>^ *<!-- (?:not run|file|append): \S[^>]*-->\s*)?"
    r"^ *```python\n(?P<shown>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)

_MEMCACHED = r"[\d.]+:11211((,|\", \")[\d.]+:11211)*"


class Block(NamedTuple):
    """An example of a page."""

    line: int
    code: str
    is_run: bool
    is_shown: bool


def blocks(page: Path) -> list[Block]:
    """Return the examples of a page, in their order."""
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        code = match["hidden"] or inspect.cleandoc("\n" + match["shown"])
        group = "hidden" if match["hidden"] else "shown"
        line = text.count("\n", 0, match.start(group)) + 1
        is_shown = match["hidden"] is None
        found.append(Block(line, code, not match["mark"], is_shown))
    return found


def pages() -> list[Path]:
    """Return the pages that have examples."""
    every = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")]
    return sorted({page for page in every if "```python" in page.read_text()})


def run(page: Path, redis_url: str, memcached: str) -> None:
    """Run the examples; raises what one of them raises."""
    names: dict[str, Any] = {"__name__": "example"}
    with asyncio.Runner() as runner:
        for block in blocks(page):
            if not block.is_run:
                continue
            code = re.sub(r"redis(\+sentinel)?://[^\"]+/0\b", redis_url, block.code)
            code = re.sub(r"redis\+cluster://[^\"]+", redis_url, code)
            code = re.sub(_MEMCACHED, memcached, code)
            compiled = compile(
                "\n" * (block.line - 1) + code,
                str(page.relative_to(ROOT)),
                "exec",
                ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            )

            result = eval(compiled, names)
            if inspect.iscoroutine(result):  # the block awaits something
                runner.run(result)
            use_settings(code, names, redis_url)


def use_settings(code: str, names: dict[str, Any], redis_url: str) -> None:
    """Make the caches that a block is the configuration of, and use them."""
    if "CACHES" in code:
        from django.core.cache import CacheHandler

        check(CacheHandler(names["CACHES"])["default"])
    elif "OPTIONS = {" in code:
        from django.core.cache import CacheHandler

        backend = "cachebridge.django_backend.CacheBridge"
        entry = {"BACKEND": backend, "OPTIONS": names["OPTIONS"]}
        location = f"memory://example-{len(code)}-{hash(code)}"
        check(CacheHandler({"default": {**entry, "LOCATION": location}})["default"])
    if "CACHE_TYPE =" in code:
        import flask
        import flask_caching

        from cachebridge import flask_ext

        app = flask.Flask("example")
        config = {name: names[name] for name in names if name.startswith("CACHE_")}
        app.config.update({"CACHE_REDIS_URL": redis_url, **config})
        is_theirs = "cachebridge" in names["CACHE_TYPE"]
        check((flask_caching if is_theirs else flask_ext).Cache(app))
    if "SESSION_TYPE" in code:
        import flask
        import flask_session

        app = flask.Flask("example")
        app.config.update({name: names[name] for name in names if "SESSION" in name})
        flask_session.Session(app)
        app.add_url_rule("/", "page", lambda: flask.session.setdefault("a", "kept"))
        assert app.test_client().get("/").text == "kept"


def check(cache: Any) -> None:
    """Write to a cache and read from it."""
    cache.set("example", 1)
    assert cache.get("example") == 1
