"""How Sphinx builds the site from these pages: ``make docs``.

The pages are Markdown that GitHub shows as well, so a link leads to a file.  A link out
of this folder leads to the page that shows that file, or becomes plain text.
"""

from __future__ import annotations

import html
import re
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mermaidx
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent

project = "cachebridge"
author = "the cachebridge authors"
copyright = author  # noqa: A001 Sphinx's name
version = release = installed_version("cachebridge")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx_llms_txt",
]
exclude_patterns = ["prometheus"]

myst_heading_anchors = 6
myst_fence_as_directive = ["mermaid"]
myst_links_external_new_tab = False

html_theme = "furo"
html_title = "cachebridge"
html_static_path = [
    "_static",
    str(Path(mermaidx.__file__).parent / "assets/mermaid.js"),
]
html_css_files = ["site.css"]
html_js_files = ["diagrams.js"]
html_show_copyright = False
html_copy_source = True
html_show_sourcelink = False

copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False

llms_txt_title = "cachebridge"
llms_txt_summary = (
    "A two-level cache for Django, Flask and plain Python: a process's own memory in "
    "front of Redis, Valkey or Memcached, kept coherent between all processes."
)
llms_txt_full_file = True
llms_txt_uri_template = "_sources/{docname}{suffix}{sourcelink_suffix}"

SHOWN_HERE = {
    "changes": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "security": "SECURITY.md",
    "example": "example_project/README.md",
}
"""Pages that show a file from outside of this folder."""
MADE_BY_A_CACHE = {
    f"cachebridge.{name}" for name in ("BatchedCounter", "Counter", "Group", "Memoized")
}
DECISIONS = """
```{toctree}
:hidden:
:glob:

0*
```
"""
PAGE_OF = {(ROOT / file): page for page, file in SHOWN_HERE.items()}
LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")


def on_source(_app: Sphinx, page: str, source: list[str]) -> None:
    """Show the file that a page stands for, and resolve links out of this folder."""
    file = DOCS / f"{page}.md"
    if page in SHOWN_HERE:
        file = ROOT / SHOWN_HERE[page]
        source[0] = file.read_text()

    def resolved(match: re.Match[str]) -> str:
        target = (file.parent / match["target"]).resolve()
        if target in PAGE_OF:
            return f"[{match['text']}](/{PAGE_OF[target]}.md{match['anchor'] or ''})"
        if not target.is_relative_to(DOCS):
            return match["text"]
        path = target.relative_to(DOCS).as_posix()
        return f"[{match['text']}](/{path}{match['anchor'] or ''})"

    source[0] = LINK.sub(resolved, source[0])
    if page == "decisions/README":
        source[0] += DECISIONS


def on_docstring(
    _app: Sphinx, _what: str, _name: str, _it: Any, _options: Any, lines: list[str]
) -> None:
    """Make links of the pages that a docstring names."""
    lines[:] = [
        re.sub(r"``docs/([\w/-]+)\.md``", r":doc:`/\1`", line) for line in lines
    ]


def on_signature(
    _app: Sphinx, what: str, name: str, _it: Any, _options: Any, *_shown: str | None
) -> tuple[str, None] | None:
    """Show no parameters of classes whose objects a cache makes."""
    return ("", None) if what == "class" and name in MADE_BY_A_CACHE else None


class Diagram(SphinxDirective):
    """A block of Mermaid, which the browser draws (``_static/diagrams.js``)."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the text of the diagram as it is, for the script and for search."""
        text = html.escape("\n".join(self.content))
        return [nodes.raw("", f'<pre class="mermaid">{text}</pre>', format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Be called by Sphinx."""
    app.add_directive("mermaid", Diagram)
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("autodoc-process-signature", on_signature)
    app.connect("source-read", on_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
