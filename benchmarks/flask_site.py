"""A Flask app of one cached page, for gunicorn; the cache comes by environment.

CACHE_CONTENDER names the contender; without it the page is made anew every time.
"""

from __future__ import annotations

import os

from flask import Flask

from benchmarks.flask_contenders import cache_of, configs

_PAGE = ("<li class='item'>An entry of a list</li>\n" * 600)[: 20 * 1024]
_CONTENDER = os.environ.get("CACHE_CONTENDER")

application = Flask(__name__)


def page() -> str:
    return _PAGE


if _CONTENDER:
    config = configs(os.environ["REDIS_URL"])[_CONTENDER]
    cache = cache_of(_CONTENDER, application, config)
    page = cache.cached(600)(page)

    @application.get("/l1-hit-ratio/")
    def l1_hit_ratio() -> str:
        """Return what this worker's L1 answered; for cachebridge only."""
        return str(cache.stats().l1_hit_ratio)


application.add_url_rule("/", view_func=page)
