"""Fetching a distribution from an index: a real one on the loopback interface."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.proofs.suites import sources
from tests.proofs.suites.sources import Pin, SourceError, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        pass


def archive(**files: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as sdist:
        for name, text in files.items():
            member = tarfile.TarInfo(f"some_thing-1.0/{name}")
            member.size = len(text)
            sdist.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


CONTENT = archive(module="found")
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def _index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve an index with one project, and keep what is fetched out of the store."""
    project = tmp_path / "index" / "some-thing"
    project.mkdir(parents=True)
    (project / "some_thing-1.0.tar.gz").write_bytes(CONTENT)
    (project / "index.html").write_text(
        '<a href="some_thing-0.9.tar.gz#sha256=0">some_thing-0.9.tar.gz</a>'
        f'<a href="some_thing-1.0.tar.gz#sha256={SHA256}">some_thing-1.0.tar.gz</a>'
    )
    handler = partial(QuietHandler, directory=str(tmp_path / "index"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(sources, "STORE", tmp_path / "store")
        try:
            yield
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.usefixtures("_index")
@pytest.mark.parametrize("sha256", [SHA256, None], ids=["pinned", "by the index"])
def test_unpacks_the_pinned_version_once(sha256: str | None):
    """The version asked for is taken, checked and kept."""
    pin = Pin("some-thing", "1.0", sha256)
    folder = unpacked(pin)
    assert (folder / "module").read_text() == "found"
    (folder / "module").write_text("kept")
    assert (unpacked(pin) / "module").read_text() == "kept"


@pytest.mark.usefixtures("_index")
def test_refuses_another_content():
    """A file that is not the pinned one is not unpacked."""
    pin = Pin("some-thing", "1.0", "0" * 64)
    with pytest.raises(SourceError, match="does not have the sha256"):
        unpacked(pin)
    assert not pin.folder.exists()


@pytest.mark.usefixtures("_index")
@pytest.mark.parametrize("name", ["some-thing", "other-thing"])
def test_names_what_the_index_lacks(name: str):
    """A missing version or project is an error, not a skip."""
    with pytest.raises(SourceError, match=name):
        unpacked(Pin(name, "2.0"))
