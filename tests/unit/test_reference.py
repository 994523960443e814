"""The reference has a page for each public module; the build looks at its names."""

from __future__ import annotations

from pathlib import Path

from tests.unit.test_public_names import PUBLIC
from tools import check_reference


def test_every_public_module_has_its_page():
    """Neither more nor less; ``make docs`` then looks for each name."""
    assert sorted(check_reference.documented_modules()) == sorted(PUBLIC)


def test_a_name_that_is_missing_is_found():
    """Unless a second public module has the same thing."""
    names = {f"{module}.{name}" for module in PUBLIC for name in PUBLIC[module]}
    assert check_reference.missing_of(names) == []
    names -= {"cachebridge.local.ObjCache", "cachebridge.ConfigError"}
    assert check_reference.missing_of(names) == ["cachebridge.local.ObjCache"]


def test_every_page_stands_in_the_contents():
    """A new page needs its line in docs/index.md; the build would warn as well."""
    pages = {page.stem for page in Path("docs").glob("*.md")} - {"index"}
    contents = Path("docs/index.md").read_text().splitlines()
    missing = {page for page in pages if page not in contents}
    assert not missing


def test_a_long_page_begins_with_its_gist():
    """A reader in a hurry does not find it in more than 1,500 words."""
    long = [page for page in Path("docs").glob("*.md") if is_long(page.read_text())]
    assert len(long) > 5
    assert [page.name for page in long if "**TL;DR** " not in page.read_text()] == []


def is_long(text):
    return len(text.split()) > 1500
