"""Every Python example of README.md and docs/ runs beside the others of its page."""

from __future__ import annotations

from contextlib import suppress

import pytest
from django.core.cache import caches

from cachebridge.engine import registry
from tests.examples import ROOT, blocks, pages, run

PAGES = {str(page.relative_to(ROOT)): page for page in pages()}
TO_RUN = [name for name, page in PAGES.items() if any(b.is_run for b in blocks(page))]


def test_there_are_examples():
    """The pages that a new user reads first are among them."""
    assert {"README.md", "docs/flask.md", "docs/loading.md"} <= set(TO_RUN)


@pytest.mark.parametrize("name", PAGES)
def test_no_example_is_overlooked(name):
    """Each block is run, or the page says why not."""
    shown = [block for block in blocks(PAGES[name]) if block.is_shown]
    assert PAGES[name].read_text().count("```python") == len(shown)


@pytest.mark.parametrize("name", TO_RUN)
def test_a_page(name, redis_url, shared_memcached, request):
    """All its examples run, one after the other, in one process."""
    if "transaction.atomic" in PAGES[name].read_text():
        request.getfixturevalue("transactional_db")
    before = set(registry._engines)
    try:
        run(PAGES[name], redis_url, shared_memcached.url.removeprefix("memcached://"))
    finally:
        with suppress(AttributeError):  # no example has used it
            del caches["default"]
        for identity in set(registry._engines) - before:
            registry.retire(registry._engines[identity][0])
