"""The template tag ``{% cache %}``."""

from __future__ import annotations

import pytest
from flask import render_template_string
from markupsafe import Markup

from cachebridge.flask_ext import Cache, make_template_fragment_key
from tests.django.support import hits_of
from tests.flask.support import Calls, at_once

pytestmark = pytest.mark.every_store


@pytest.fixture
def render(app, cache):
    """Return a function that renders a template outside of any request."""

    def rendered(source, **names):
        with app.app_context():
            return render_template_string(source, **names)

    return rendered


def test_a_fragment_is_kept(cache, render):
    """By its name and what it varies on; numbers vary, too."""
    calls = Calls()
    source = "{% cache 60, 'price', product %}{{ calls() }}{% endcache %}"
    assert render(source, calls=calls, product=1) == "1"
    assert render(source, calls=calls, product=1) == "1"
    assert render(source, calls=calls, product=2) == "2"
    key = make_template_fragment_key("price", [1])
    assert cache.get(key) == "1"
    assert hits_of(cache, lambda: cache.get(key)) == 1


def test_without_a_name_file_and_line_tell(render):
    """Two fragments of one template are two."""
    calls = Calls()
    source = "{% cache 60 %}{{ calls() }}{% endcache %}\n" * 2
    assert render(source, calls=calls).split() == ["1", "2"]
    assert render(source, calls=calls).split() == ["1", "2"]


def test_del_deletes(render):
    """The fragment is rendered anew, and not kept."""
    calls = Calls()
    source = "{% cache timeout, 'f' %}{{ calls() }}{% endcache %}"
    answers = [render(source, calls=calls, timeout=t) for t in (60, 60, "del", 60, 60)]
    assert answers == ["1", "1", "2", "3", "3"]


def test_a_cold_fragment_is_rendered_once(render):
    """However many threads render it together."""
    calls = Calls()
    source = "{% cache 60, 'cold' %}{{ calls() }}{% endcache %}"
    assert at_once(lambda: render(source, calls=calls)) == ["1"] * 16


def test_markup_stays_markup(cache, app):
    """What was escaped is not escaped again, from L1 nor from L2."""
    cache.set("m", Markup("<b>"))
    with cache.bypass_l1():
        assert type(cache.get("m")) is Markup
    assert type(cache.get("m")) is Markup


def test_without_the_extension(app, config):
    """with_jinja2_ext=False leaves the templates alone."""
    plain = Cache(with_jinja2_ext=False, config=config)
    plain.init_app(app)
    assert "cachebridge.flask_ext.jinja.CacheExtension" not in app.jinja_env.extensions
