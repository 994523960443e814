"""Fails on relative links and pictures of the Markdown files that lead nowhere.

Looks at the files beside README.md and under docs/; at headings that links point to as
well. Does not use the network.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

HTML_TARGET = re.compile(r"""\b(?:href|src|srcset)\s*=\s*["']([^"'\s]+)""")
HTML_ANCHOR = re.compile(r"""\b(?:id|name)\s*=\s*["']([^"'\s]+)""")


def main() -> int:
    """Name the links that lead nowhere."""
    pages = [*Path().glob("*.md"), *Path("docs").rglob("*.md")]
    checked = broken = 0
    for page in sorted(pages):
        for link in links(page):
            checked += 1
            if not leads_somewhere(page, link):
                broken += 1
                print(f"{page}: {link} leads nowhere")
    print(f"{len(pages)} pages, {checked} relative links, {broken} broken")
    return 1 if broken else 0


def links(page: Path) -> Iterator[str]:
    """Yield the targets of links and pictures that stay inside of the project."""
    for token in tokens(page):
        targets = [token.attrGet("href"), token.attrGet("src")]
        if token.type in {"html_block", "html_inline"}:
            targets = HTML_TARGET.findall(token.content)
        for target in targets:
            parts = urlsplit(str(target or ""))
            if target and not parts.scheme and not parts.netloc:
                yield str(target)


def leads_somewhere(page: Path, link: str) -> bool:
    """Return whether the file, and the heading in it, exist."""
    parts = urlsplit(link)
    target = page.parent / unquote(parts.path) if parts.path else page
    if not target.exists():
        return False
    if not parts.fragment or target.suffix != ".md":
        return True
    return unquote(parts.fragment) in anchors(target)


@cache
def tokens(page: Path) -> tuple[Token, ...]:
    """Parse a page; inline tokens come after the block that holds them."""
    blocks = MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))
    return tuple(
        token for block in blocks for token in (block, *(block.children or ()))
    )


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page, named as GitHub and PyPI name them."""
    found: Counter[str] = Counter()
    names: set[str] = set()
    page_tokens = tokens(page)
    for before, token in pairwise(page_tokens):
        if token.type in {"html_block", "html_inline"}:
            names.update(HTML_ANCHOR.findall(token.content))
        if before.type == "heading_open":
            text = "".join(
                part.content
                for part in token.children or ()
                if part.type in {"text", "code_inline"}
            )
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            names.add(f"{slug}-{found[slug]}" if found[slug] else slug)
            found[slug] += 1
    return frozenset(names)


if __name__ == "__main__":
    sys.exit(main())
