"""Installs pip into this environment from the package index.

For a Python without ensurepip, as Debian's; uses the standard library alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple")
JSON = "application/vnd.pypi.simple.v1+json"
TIMEOUT_S = 60


def main() -> None:
    """Download the newest wheel of pip, and let it install itself."""
    page = f"{INDEX.rstrip('/')}/pip/"
    wheel = newest_wheel(json.loads(download(page, {"Accept": JSON}))["files"])
    content = download(urllib.parse.urljoin(page, wheel["url"]))
    if hashlib.sha256(content).hexdigest() != wheel["hashes"]["sha256"]:
        sys.exit(f"the download of {wheel['filename']} is damaged")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, wheel["filename"])
        path.write_bytes(content)
        # A wheel can be run as it is: it is a zip file with pip's __main__ inside.
        command = [sys.executable, str(path / "pip"), "install", "--quiet"]
        subprocess.run([*command, "--no-index", str(path)], check=True)


def download(url: str, headers: dict[str, str] | None = None) -> bytes:
    """Return what is at the address."""
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        return bytes(response.read())


def newest_wheel(files: list[dict]) -> dict:
    """Choose the wheel of the highest final release."""
    wheels = {}
    for file in files:
        name, _, rest = file["filename"].partition("-")
        version = rest.split("-")[0].split(".")
        is_final_wheel = file["filename"].endswith(".whl") and all(
            part.isdigit() for part in version
        )
        if name == "pip" and is_final_wheel and not file.get("yanked"):
            wheels[tuple(map(int, version))] = file
    return wheels[max(wheels)]


if __name__ == "__main__":
    main()
