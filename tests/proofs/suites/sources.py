"""Source distributions, fetched once from a package index and unpacked.

Neither pip nor uv unpacks a source distribution without building it, so this speaks
the simple repository API (PEP 503) itself; every index and mirror has it. Each file is
checked against the hash in pins.toml, or the index's own where none is pinned.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
import tomllib
import urllib.parse
import urllib.request
import zipfile
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from packaging.tags import sys_tags
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

HERE = Path(__file__).parent
STORE = HERE.parents[2] / ".cache" / "suites"
PINS = tomllib.loads((HERE / "pins.toml").read_text())
TIMEOUT_S = 60.0


class SourceError(RuntimeError):
    """A distribution could not be fetched, or is not the one we asked for."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One distribution at one version; without a sha256 the index's own is taken."""

    name: str
    version: str
    sha256: str | None = None
    path: str = "."
    wheel: bool = False

    @property
    def folder(self) -> Path:
        """Where it is kept; a wheel is for one kind of interpreter only."""
        kind = f"-{next(sys_tags())}" if self.wheel else ""
        return STORE / f"{self.name}-{self.version}{kind}"


def pinned(name: str) -> Pin:
    """Return what pins.toml says of a distribution."""
    return Pin(name, **PINS[name])


def unpacked(pin: Pin) -> Path:
    """Return the importable folder of a distribution, fetched if it is not here yet."""
    if not pin.folder.exists():
        _unpack(_download(pin), pin)
    return pin.folder / pin.path


def _unpack(archive: bytes, pin: Pin) -> None:
    """Unpack beside the final place and rename, so that no process sees half of it."""
    STORE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STORE) as scratch:
        packed, tree = Path(scratch, "packed"), Path(scratch, "tree")
        packed.write_bytes(archive)
        if pin.wheel:
            with zipfile.ZipFile(packed) as wheel:
                wheel.extractall(tree)
        else:
            with tarfile.open(packed) as sdist:
                # The patch releases before 3.11.4 have no filters, and need none here:
                # the content is what the pin says.
                filtered = getattr(tarfile, "data_filter", None)
                sdist.extraction_filter = filtered or (lambda member, _: member)
                sdist.extractall(tree)
            (tree,) = tree.iterdir()
        try:
            tree.rename(pin.folder)
        except OSError:
            # Another run was quicker: rename refuses a folder that is not empty.
            if not pin.folder.exists():
                raise


def _download(pin: Pin) -> bytes:
    links = _links(pin.name)
    wanted = _wheel(pin, links) if pin.wheel else _sdist(pin, links)
    with _open(wanted) as response:
        content = response.read()
    expected = pin.sha256 or _index_hash(wanted)
    if hashlib.sha256(content).hexdigest() != expected:
        raise SourceError(f"{wanted} does not have the sha256 {expected}")
    return content


def _links(name: str) -> dict[str, str]:
    """Return the files an index has of a project: name to address with its hash."""
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL")
    page = f"{(index or 'https://pypi.org/simple').rstrip('/')}/{name}/"
    with _open(page) as response:
        parser = _Links(page)
        parser.feed(response.read().decode())
    return parser.found


def _sdist(pin: Pin, links: dict[str, str]) -> str:
    for filename, url in links.items():
        try:
            name, version = parse_sdist_filename(filename)
        except InvalidSdistFilename:
            continue
        if name == canonicalize_name(pin.name) and version == Version(pin.version):
            return url
    raise SourceError(f"the index has no source distribution {pin.name} {pin.version}")


def _wheel(pin: Pin, links: dict[str, str]) -> str:
    """Return the wheel that suits this interpreter best, as an installer would."""
    rank = {tag: place for place, tag in enumerate(sys_tags())}
    suitable = []
    for filename, url in links.items():
        try:
            _, version, _, tags = parse_wheel_filename(filename)
        except InvalidWheelFilename:
            continue
        places = [rank[tag] for tag in tags if tag in rank]
        if places and version == Version(pin.version):
            suitable.append((min(places), url))
    if not suitable:
        raise SourceError(f"the index has no wheel of {pin.name} {pin.version} for us")
    return min(suitable)[1]


def _index_hash(url: str) -> str:
    kind, _, value = urllib.parse.urlsplit(url).fragment.partition("=")
    if kind != "sha256":
        raise SourceError(f"the index gives no sha256 for {url}")
    return value


def _open(url: str):
    request = urllib.request.Request(url, headers={"Accept": "text/html, */*;q=0.1"})
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except OSError as exc:
        raise SourceError(f"cannot fetch {url}: {exc}") from exc


class _Links(HTMLParser):
    """Collects the links of a project page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.page = page
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "a" and href:
            url = urllib.parse.urljoin(self.page, href)
            self.found[urllib.parse.urlsplit(url).path.rpartition("/")[2]] = url
