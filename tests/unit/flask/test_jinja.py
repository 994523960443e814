"""The template tag ``{% cache %}``."""

from __future__ import annotations

import asyncio

import pytest
from flask import render_template_string
from markupsafe import Markup

from cachebridge.flask_ext import Cache, make_template_fragment_key
from tests.unit.django.support import hits_of
from tests.unit.flask.support import Calls, at_once

pytestmark = pytest.mark.every_store


@pytest.fixture(params=[False, True], ids=["sync", "enable_async"])
def render(request, app, cache):
    """Return a function that renders a template outside of any request."""
    app.jinja_env.is_async = request.param

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


def test_unnamed_fragments_of_texts_and_of_one_line(render):
    """A template of text has no file, and a line may have several fragments."""
    one, two = ("{% cache 60 %}" + text + "{% endcache %}" for text in "ab")
    assert [render(one), render(two), render(one + two)] == ["a", "b", "ab"]


@pytest.mark.parametrize(
    "parts",
    [
        (("inbox", "ann_work", "in"), ("inbox", "ann", "work_in")),
        (("a_b", "c"), ("a", "b", "c"), ("a", "b_c"), ("a_b_c",)),
        (("a", None), ("a", "None"), ("a", ""), ("a",), ("a", 1), ("a", "1"), ("a", 0)),
        (("a?b",), ("a%3Fb",), ("a", "b"), ("a?",)),
    ],
    ids=["users", "parts", "types", "names"],
)
def test_no_part_moves_into_another(parts):
    """Names and what fragments vary on have one meaning in each key."""
    keys = {make_template_fragment_key(name, varying) for name, *varying in parts}
    assert len(keys) == len(parts)


def test_no_name_is_another_fragments_key():
    """Not even one that is made to look like it."""
    prefix = make_template_fragment_key("")
    key = make_template_fragment_key("inbox", ["ann"])
    assert make_template_fragment_key(key.removeprefix(prefix)) != key


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


def test_fragments_in_fragments(render):
    """The outer one is kept with the inner one in it."""
    calls = Calls()
    source = (
        "{% cache 60, 'outer' %}<{{ calls() }}"
        "{% cache 60, 'inner' %}[{{ calls() }}]{% endcache %}>{% endcache %}"
    )
    assert [render(source, calls=calls) for _ in range(2)] == ["<1[2]>"] * 2


def test_coroutines_of_one_loop(app, cache):
    """``render_async`` awaits the body's coroutines; tasks share one rendering."""
    app.jinja_env.is_async = True
    calls = Calls()

    async def price():
        await asyncio.sleep(0)
        return calls()

    source = "a{% cache 60, 'async' %}{{ price() }}{% endcache %}b"

    async def render_all():
        template = app.jinja_env.from_string(source)
        answers = [template.render_async(price=price) for _ in range(8)]
        return await asyncio.gather(*answers)

    assert asyncio.run(render_all()) == ["a1b"] * 8
    assert asyncio.run(render_all()) == ["a1b"] * 8
    assert cache.get(make_template_fragment_key("async")) == "1"


def test_without_a_cache_a_fragment_is_rendered_each_time(app, config):
    """``NullCache`` keeps nothing, under ``enable_async`` as well."""
    Cache(
        app, config={**config, "CACHE_TYPE": "NullCache", "CACHE_NO_NULL_WARNING": True}
    )
    app.jinja_env.is_async = True
    calls = Calls()
    with app.app_context():
        source = "{% cache timeout, 'f' %}{{ calls() }}{% endcache %}"
        answers = [
            render_template_string(source, calls=calls, timeout=t) for t in (60, "del")
        ]
    assert answers == ["1", "2"]


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
