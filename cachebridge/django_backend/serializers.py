"""Values as django-redis's JSONSerializer stores them, with Django's encoder."""

from __future__ import annotations

import json
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from cachebridge.codec.values import JsonSerializer


class DjangoJsonSerializer(JsonSerializer):
    """JSON with dates, Decimals, UUIDs and lazy texts as strings, in ASCII."""

    def encode(self, value: Any) -> bytes:
        """Return the bytes of ``value``; TypeError for what JSON cannot express."""
        return json.dumps(value, cls=DjangoJSONEncoder).encode()
