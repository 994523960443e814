"""Whatever is no HTML is escaped, in content and in attributes."""

from __future__ import annotations

import pytest
from django.template import engines

from cachebridge.dashboard.markup import join, tag


@pytest.mark.parametrize("text", ["<b>", "a & b", "'\"", "</td><script>"])
def test_texts(text):
    """Neither leaves its place."""
    made = tag("p", text, title=text)
    assert made.count("<") == 2
    assert made.count('"') == 2
    assert text not in made


def test_attributes():
    """Names as HTML has them; True is bare, False and None are none."""
    made = tag("input", class_="a", aria_label="b", hidden=True, id=None, name="c", x=0)
    assert made == '<input class="a" aria-label="b" hidden name="c" x="0">'


def test_parts():
    """Elements stay elements; None is left out."""
    assert join(tag("i", "1"), None, "<", 2) == "<i>1</i>&lt;2"


def test_in_templates():
    """Django takes it as it is; a text that was added to it is a text."""
    made = tag("i", "&")
    django = engines["django"].from_string("{{ made }}{{ text }}")
    shown = django.render({"made": made, "text": made + "<"})
    assert shown == "<i>&amp;</i>" + "&lt;i&gt;&amp;amp;&lt;/i&gt;&lt;"


def test_elements_end():
    """Those of pictures too: one that does not end swallows the next."""
    assert tag("line", x1=0) == '<line x1="0"></line>'
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'
