"""Installs pip into this environment from the package index.

For a Python without ensurepip, as Debian's; uses the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin

INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple")
FINAL_WHEEL = re.compile(r"pip-(\d+(?:\.\d+)*)-py3-none-any\.whl")
TIMEOUT_S = 60


class Wheels(HTMLParser):
    """The wheels of pip's releases on an index page, by version."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[tuple[int, ...], str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        link = dict(attrs)
        href = link.get("href") or ""
        match = FINAL_WHEEL.fullmatch(urldefrag(href).url.rpartition("/")[2])
        if tag == "a" and match and "data-yanked" not in link:
            self.found[tuple(map(int, match[1].split(".")))] = href


def main() -> None:
    """Download the newest wheel of pip, and let it install itself."""
    # The page in HTML, since that is what every mirror has.
    page = f"{INDEX.rstrip('/')}/pip/"
    wheels = Wheels()
    wheels.feed(download(page).decode())
    address, checksum = urldefrag(urljoin(page, wheels.found[max(wheels.found)]))
    content = download(address)
    if checksum != f"sha256={hashlib.sha256(content).hexdigest()}":
        sys.exit(f"{address} does not have the checksum {checksum!r}")
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder, address.rpartition("/")[2])
        wheel.write_bytes(content)
        # A wheel can be run as it is: it is a zip file with pip's __main__ inside.
        command = [sys.executable, str(wheel / "pip"), "install", "--quiet"]
        subprocess.run([*command, "--no-index", str(wheel)], check=True)


def download(url: str) -> bytes:
    """Return what is at the address."""
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
        return bytes(response.read())


if __name__ == "__main__":
    main()
