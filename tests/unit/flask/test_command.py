"""``flask cachebridge``: the same verbs for the caches of the current app."""

from __future__ import annotations

import json

from flask import Flask

from cachebridge.contrib.flask import command
from cachebridge.flask_ext import Cache
from tests.rig import PATIENCE_S, listening, lone_cache


def run(app, *arguments):
    return app.test_cli_runner().invoke(command, list(arguments))


def test_why(redis_url):
    """The app's cache makes the full key, and its place is asked."""
    listening(lone_cache(redis_url, KEY_PREFIX="shop:")).set("k", 1)
    app = Flask(__name__)
    config = {"CACHE_REDIS_URL": redis_url, "CACHE_KEY_PREFIX": "shop:"}
    Cache(app, config={"CACHE_TYPE": "RedisCache", **config})
    done = run(app, "why", "k", "--json", "--timeout", str(PATIENCE_S))
    assert done.exit_code == 0, done.output
    (answer,) = json.loads(done.stdout)["answers"]
    assert answer["why"]["code"] == "trusted"


def test_without_a_cache():
    """Status 2 for an app that has none of ours."""
    done = run(Flask(__name__), "who")
    assert done.exit_code == 2
    assert "0 caches of cachebridge" in done.output
