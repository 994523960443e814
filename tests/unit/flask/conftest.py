"""Apps of the Flask tests: real configuration, real server, one database each."""

from __future__ import annotations

import flask
import pytest

from cachebridge.engine import registry
from cachebridge.flask_ext import Cache
from tests.unit.django.support import trusted


@pytest.fixture(autouse=True)
def own_engines():
    """Stop the engines that the test made."""
    before = set(registry._engines)
    yield
    for identity, (engine, _) in list(registry._engines.items()):
        if identity not in before:
            registry.retire(engine)


@pytest.fixture
def config(place):
    """Return the configuration of an app on a shared level of its own."""
    return place.flask_config()


@pytest.fixture
def app(config):
    made = flask.Flask("scratch")
    made.testing = True
    made.config.update(config)
    return made


@pytest.fixture
def cache(app):
    """Return the cache of ``app``, with L1 at work."""
    return trusted(Cache(app))


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def set_caches(settings):
    """Return a function that puts entries into Django's CACHES until the test's end."""

    def put(**entries):
        settings.CACHES = entries

    return put
