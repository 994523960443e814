"""The URL that a view's key holds: host, mount point and path, as RFC 9111 has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from flask import has_request_context, request
from werkzeug.datastructures import MultiDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flask import Flask

_ESCAPED: Final = str.maketrans({"%": "%25", "?": "%3F", "|": "%7C"})
"""So that no path can look like another path with a mount point or a query."""
_GET_WITH_BODY: Final = "GET with a body"
_NO_BODY: Final = (None, "", "0")
_PORTS: Final = {"http": ":80", "https": ":443"}


class Target(NamedTuple):
    """Where a view is reached."""

    scheme: str
    host: str
    root: str
    """The mount point, SCRIPT_NAME; mostly empty."""
    path: str
    """The path below the mount point, decoded, as ``request.path``."""

    def text(self) -> str:
        """Return the text for a key."""
        scheme, host, root, path = self
        if "%" in path or "?" in path or "|" in path:
            path = path.translate(_ESCAPED)
        if root:
            path = f"{root.translate(_ESCAPED)}|{path}"
        return f"{scheme}://{host}{path}"

    def on_both_schemes(self) -> list[Target]:
        """Return it over HTTP and HTTPS: outside of requests only a guess is known."""
        return [self._replace(scheme=scheme) for scheme in _PORTS]


def of_request() -> Target:
    """Return the target of the current request."""
    current = _current_request()
    return Target(current.scheme, current.host, current.root_path, current.path)


def method_of_request() -> str:
    """Return the method of the current request, GET without one.

    A GET with a body has a name of its own: the view may read it, and no key has it.
    """
    if not has_request_context():
        return "GET"
    method: str = request.method
    return _GET_WITH_BODY if method == "GET" and _has_body() else method


def _has_body() -> bool:
    environ = request.environ
    length = environ.get("CONTENT_LENGTH")
    return length not in _NO_BODY or "HTTP_TRANSFER_ENCODING" in environ


def of_path(app: Flask, path: str) -> tuple[Target, str]:
    """Return the target and the query of a path below the mount point, or of a URL.

    A path has no query, and the host of the current request or SERVER_NAME.  Raises
    RuntimeError if neither is known.
    """
    if "://" not in path:
        return _base(app)._replace(path=path), ""
    url = urlsplit(path)
    root = _mount_point(app)
    whole = unquote(url.path) or "/"
    if not whole.startswith(f"{root}/"):
        root = ""
    host = url.netloc.removesuffix(_PORTS.get(url.scheme, ""))
    return Target(url.scheme, host, root, whole.removeprefix(root)), url.query


def of_view(
    app: Flask,
    endpoints: Sequence[str],
    values: dict[str, Any],
    *,
    needs_host: bool = True,
) -> list[Target]:
    """Return all targets of endpoints that take these arguments of the view.

    Raises BuildError if none does, and RuntimeError as ``of_path``, unless the caller
    asks for no host.
    """
    adapter = app.create_url_adapter(
        _current_request() if has_request_context() else None
    )
    if adapter is None and not needs_host:
        adapter = app.url_map.bind("")
        base = Target("", "", _mount_point(app), "/")
    else:
        base = _base(app)
    assert adapter is not None  # noqa: S101 otherwise there is no base
    has_hosts = app.url_map.host_matching or app.subdomain_matching
    found = []
    for endpoint in endpoints:
        given = dict(values)
        app.inject_url_defaults(endpoint, given)
        for rule in app.url_map.iter_rules(endpoint):
            built = rule.build(given) if rule.suitable_for(given, "GET") else None
            if built is not None:
                host = adapter.get_host(built[0]) if has_hosts else base.host
                path = unquote(built[1].partition("?")[0])
                found.append(base._replace(host=host, path=path))
    if not found:
        adapter.build(endpoints[0], values)
    return found


def _base(app: Flask) -> Target:
    """Return host and mount point of the request, else those of the configuration."""
    if has_request_context():
        return of_request()
    adapter = app.create_url_adapter(None)
    if adapter is None:
        raise RuntimeError(
            "the key of a view holds its host, which is not known outside of a "
            "request: give the whole URL ('https://shop.example/page'), or set "
            "SERVER_NAME"
        )
    host = adapter.get_host(None).removesuffix(_PORTS.get(adapter.url_scheme, ""))
    return Target(adapter.url_scheme, host, _mount_point(app), "/")


def _mount_point(app: Flask) -> str:
    if has_request_context():
        return request.root_path
    root: str = app.config["APPLICATION_ROOT"]
    return root.rstrip("/")


def _current_request() -> Any:
    return request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 its interface


def query_pairs(query_args: Any) -> list[tuple[str, str]]:
    """Return names and values of a query string, a mapping, or pairs.

    A value that is a list stands for a repeated parameter.
    """
    if isinstance(query_args, str):
        return parse_qsl(
            query_args.lstrip("?"), keep_blank_values=True, errors="werkzeug.url_quote"
        )
    if isinstance(query_args, MultiDict):
        return list(query_args.items(multi=True))
    items = query_args.items() if hasattr(query_args, "items") else query_args
    return [
        (name, str(each))
        for name, value in items
        for each in (value if isinstance(value, (list, tuple)) else (value,))
    ]
