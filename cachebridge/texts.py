"""What may be seen of texts from outside: without secrets, line breaks, or length.

Every text that leaves the process (errors, logs, labels, views, checks) and that holds
a URL, a key, or words of a server, comes through here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SHOWN: Final = 80
"""Characters of a key that are shown."""
SHOWN_REPLY: Final = 500
"""Characters of a server's text that are shown."""
HIDDEN: Final = "***"
LEAST_SECRET: Final = 4
"""A shorter text occurs everywhere: taking it out would tell what it is."""

_WITH_ARGUMENTS: Final = re.compile(r",? with args beginning with:.*", re.DOTALL)
"""How a server repeats a command that it does not know, with the values or the password
in it."""

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}")
_HOST: Final = re.compile(
    r"(?:\[[0-9A-Fa-f:.%]{1,60}\]|[\w.-]*)(?::[0-9]{1,5})?|unix:/[\w./-]*"
)
_USER: Final = re.compile(r"[\w.-]{1,64}")
_DATABASE: Final = re.compile(r"/*(?:[0-9]{0,9}/?)?")
_PATH: Final = re.compile(r"[\w./-]*")
_PLAIN_VALUE: Final = re.compile(r"[\w./+-]{0,200}")
_SECRET_NAME: Final = re.compile(
    r"pass|secret|signing|token|auth|login|user", re.IGNORECASE
)
_KNOWN_NAME: Final = re.compile(
    r"db|protocol|virtual_host|client_name|lib_\w+|health_check_interval|encoding\w*"
    r"|decode_responses|max_connections|retry\w*|timeout|(?:sentinel_)?socket_\w+"
    r"|(?:sentinel_)?ssl(?:_\w+)?|bus\w*|l1_\w+|(?:sentinel_)?(?:\w+_)?password"
    r"|(?:sentinel_)?username",
    re.IGNORECASE,
)
"""Query options that are shown by name: any other may be the end of a password."""


def shown(text: str, most: int = SHOWN) -> str:
    """Return a text of others in one line: escaped if need be, and shortened."""
    cut = text[:most]
    if not cut.isprintable():
        cut = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in cut)
    return cut if len(text) <= most else f"{cut}..."


def shown_reply(text: str) -> str:
    """Return an error text of a server, without the arguments that it repeats."""
    return shown(_WITH_ARGUMENTS.sub("", text), SHOWN_REPLY)


# -- URLs ------------------------------------------------------------------------------


def hide_password(location: str) -> str:
    """Return a URL, also a wrong one, without anything that may be a login's."""
    scheme, slashes, rest = location.partition("://")
    if not slashes:
        scheme, rest = "", location
    elif not _SCHEME.fullmatch(scheme):
        return HIDDEN
    login, at, address = rest.rpartition("@")
    if "?" in login or "#" in login:
        # A password with these marks, or one of the query's options with an "@".
        return f"{scheme}{slashes}{HIDDEN}"
    head, mark, query = address.partition("?")
    host, slash, path = head.partition("/") if "unix:/" not in head else (head, "", "")
    if all(map(_HOST.fullmatch, re.split("[,; ]", host))):
        path = slash + path
        is_sure = at or scheme == "unix" or "sentinel" in scheme or ":" not in host
        is_plain = (_PATH if is_sure else _DATABASE).fullmatch(path)
        host += path if is_plain else f"/{HIDDEN}"
    else:  # without "@": a login whose host was forgotten
        host = host.partition(":")[0] if not at and _USER.match(host) else ""
        host = f"{host[:64]}:{HIDDEN}" if _USER.fullmatch(host) else HIDDEN
    user = f"{_shown_user(login)}@" if at else ""
    return f"{scheme}{slashes}{user}{host}{mark}{_shown_query(query)}"


def is_told_from_login(location: str) -> bool:
    """Return whether the query of a URL cannot be the end of a password."""
    before, _, query = location.partition("?")
    if "@" in before.partition("#")[2]:
        return False
    names = [option.partition("=")[0] for option in query.split("&")]
    is_simple = "@" not in query and not any(map(_SECRET_NAME.search, names))
    return is_simple or all(map(_KNOWN_NAME.fullmatch, names))


def _shown_user(login: str) -> str:
    """Return the user's name if a password follows it; alone it may be the password."""
    name, colon, _ = login.partition(":")
    shows = bool(colon) and (not name or _USER.fullmatch(name))
    return f"{name}:{HIDDEN}" if shows else HIDDEN


def _shown_query(query: str) -> str:
    """Return the options up to a secret or an unknown one, which the rest may be of."""
    parts: list[str] = []
    for option in filter(None, query.split("&")):
        name, equals, value = option.partition("=")
        if not equals or not _KNOWN_NAME.fullmatch(name):
            return "&".join([*parts, HIDDEN])
        if _SECRET_NAME.search(name):
            return "&".join([*parts, f"{name}={HIDDEN}"])
        parts.append(f"{name}={value if _PLAIN_VALUE.fullmatch(value) else HIDDEN}")
    return "&".join(parts)


# -- secrets that are known ------------------------------------------------------------


def secrets_in(value: object, name: str = "") -> Iterator[str]:
    """Yield the passwords in settings: those of URLs, and values by their names.

    ``value`` may be a mapping, a sequence, or a text, of any depth.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from secrets_in(inner, str(key))
    elif isinstance(value, (bytes, bytearray)):
        yield from secrets_in(value.decode("utf-8", "replace"), name)
    elif isinstance(value, str):
        found = [value] if _SECRET_NAME.search(name) else _passwords_in_url(value)
        for secret in filter(None, found):
            yield from _forms_of(secret)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from secrets_in(inner, name)
    elif isinstance(value, int) and _SECRET_NAME.search(name):
        yield str(value)


def _forms_of(secret: str) -> set[str]:
    """Return a password as written, as the server is told it, and as a URL has it."""
    plain = {secret, unquote(secret), unquote_plus(secret)}
    forms = set(plain)
    for each in plain:
        raw = each.encode("utf-8", "surrogatepass")
        forms |= {quote(raw), quote(raw, safe=""), quote_plus(raw), ascii(each)[1:-1]}
        forms |= {repr(each)[1:-1], repr(raw)[2:-1]}
    return forms


def _passwords_in_url(text: str) -> list[str]:
    _, slashes, rest = text.partition("://")
    if not slashes:
        return []
    login, at, _ = rest.rpartition("@")
    name, colon, password = login.partition(":")
    found = [password if colon else name] if at else []
    for option in rest.partition("?")[2].split("&"):
        key, _, value = option.partition("=")
        if _SECRET_NAME.search(key):
            found.append(value)
    return found


def conceal(text: str, secrets: Iterable[str], public: str = "") -> str:
    """Return the text without the secrets, but those that ``public`` holds anyway.

    Replacing a password that is also a word of the address ("redis") would reveal it.
    """
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= LEAST_SECRET and secret not in public:
            text = text.replace(secret, HIDDEN)
    return text


def clean(exc: BaseException, secrets: Iterable[str], public: str = "") -> None:
    """Take secrets, line breaks and length out of an exception, and out of its causes.

    For exceptions of client libraries, which quote what a server has sent.
    """
    hidden, seen = set(secrets), set[int]()
    chain: list[BaseException | None] = [exc]
    while chain:
        each = chain.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.args = tuple(
            shown_reply(conceal(arg, hidden, public)) if isinstance(arg, str) else arg
            for arg in each.args
        )
        chain += [each.__cause__, each.__context__]
