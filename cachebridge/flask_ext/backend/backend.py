"""The two-level cache as a backend: from settings to an engine and a binding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import Flask, current_app, has_app_context
from markupsafe import Markup

from cachebridge.config import parse_options
from cachebridge.core.keys import pattern_of_prefix
from cachebridge.engine.admin import AdminMethods
from cachebridge.engine.binding import Binding
from cachebridge.engine.registry import engine_apart, engine_for
from cachebridge.flask_ext.backend.base import Backend
from cachebridge.flask_ext.backend.calls import BackendCalls
from cachebridge.flask_ext.backend.serializers import (
    BridgeSerializer,
    engine_serializer,
)
from cachebridge.flask_ext.settings.backend_settings import (
    BRIDGE_NAMES,
    BackendSettings,
    backend_settings,
    bridge_options,
)
from cachebridge.flask_ext.settings.config import REDIS, merged
from cachebridge.l1.copies import register_immutable
from cachebridge.l1.local_get import find_nothing
from cachebridge.texts import hide_password

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from cachelib.serializers import BaseSerializer

    from cachebridge.engine.engine import Engine

register_immutable(Markup)

_BOUND: Final = frozenset({"serializer", "key_prefix"})
"""Attributes that a binding is made with."""


class CacheBridgeBackend(AdminMethods, Backend):
    """The two-level cache behind cachelib's interface.  Thread safe.

    ``CacheBridgeBackend("redis://host/0", key_prefix="...", options={...})``, with the
    options of ``CACHE_BRIDGE``.  Flask-Caching makes one if its ``CACHE_TYPE`` is this
    class's path; Flask-Session takes one as its cachelib store.

    Its methods are in ``CacheMethods`` and ``Backend``.
    """

    serializer: BaseSerializer = BridgeSerializer()
    """As in cachelib it may be set in a subclass, or on an object at any time."""

    def __init__(
        self,
        location: str | Flask,
        config: Mapping[str, Any] | None = None,
        args: Sequence[Any] = (),
        cache_options: Mapping[str, Any] | None = None,
        *,
        default_timeout: int | timedelta = 300,
        key_prefix: str | Callable[[], str] = "",
        ignore_delete_many_errors: bool = True,
        serializer: BaseSerializer | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(location, Flask):
            settings = backend_settings(
                merged(config), kind=REDIS, arguments=args, options=cache_options
            )
        else:
            engine_options, own_options = parse_options(
                bridge_options(options or {}), valid=BRIDGE_NAMES - {"LOCATION"}
            )
            settings = BackendSettings(
                location=location,
                engine_options=engine_options,
                cache_options=own_options,
                default_timeout=default_timeout,
                key_prefix=key_prefix,
                ignore_delete_many_errors=ignore_delete_many_errors,
                serializer=serializer,
            )
        self._open(settings)

    @classmethod
    def from_settings(cls, settings: BackendSettings) -> CacheBridgeBackend:
        """Make a backend from a whole configuration."""
        backend = cls.__new__(cls)
        backend._open(settings)  # noqa: SLF001 of this very class
        return backend

    def _open(self, settings: BackendSettings) -> None:
        super().__init__(
            settings.default_timeout,
            ignore_delete_many_errors=settings.ignore_delete_many_errors,
        )
        self.key_prefix = settings.key_prefix
        if settings.serializer is not None:
            self.serializer = settings.serializer
        self._engine = _engine_of(settings)
        self._options = settings.cache_options
        self._bind()
        self._engine.listening.register_adapter(self)

    def _bind(self) -> None:
        is_ours = type(self.serializer) is BridgeSerializer
        self._binding = binding = Binding(
            self._engine,
            self._options,
            serializer=None if is_ours else engine_serializer(self.serializer),
            in_background=_in_app,
            tag_prefix=self.key_prefix if type(self.key_prefix) is str else "",
            name=str(self.key_prefix or "").strip(":_")
            if type(self.key_prefix) is str
            else "",
        )
        self.local_get = find_nothing
        if type(self.key_prefix) is str:
            self.local_get = binding.local_get
            binding.makes_keys_by(self.key_prefix)
            if self.key_prefix:
                binding.can_be_cleared_by(pattern_of_prefix(self.key_prefix))
        self.calls = BackendCalls(binding, self.key_prefix)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in _BOUND and "calls" in self.__dict__:
            self._bind()


def _engine_of(settings: BackendSettings) -> Engine:
    if settings.memory_threshold is not None:
        engine = engine_apart(settings.location, settings.engine_options)
        engine.memory_server.max_entries = settings.memory_threshold
        return engine
    shown = hide_password(str(settings.location))
    return engine_for(
        settings.location,
        settings.engine_options,
        user=f"the Flask cache {shown!r} with prefix {settings.key_prefix!r}",
    )


def _in_app(loader: Callable[[], Any]) -> Callable[[], Any]:
    """Return a loader that runs in the current app, also in the background."""
    if not has_app_context():
        return loader
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001

    def load() -> Any:
        with app.app_context():
            return loader()

    return load
