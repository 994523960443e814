"""Z1 to Z4: a page of 10 KiB with zstd, beside django-redis; what a seal costs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import redis
from django.core.cache import caches

from benchmarks.contenders import DJANGO_REDIS, OURS, configure, database
from benchmarks.harness import interleave, timed_batch
from benchmarks.report import Limit, Row, Verdict
from cachebridge.codec.seals import Encryption, Signature

if TYPE_CHECKING:
    from cachebridge.codec.seals import Seal

__all__ = ["measure"]

_ROUNDS = 21
_PAGE_BYTES = 10 * 1024
_MOST_S = 3e-6
PLAIN = "cachebridge, plain"
SIGNED = "cachebridge, signed"
_SERIES = "size shirt price order stock linen basket colour cotton delivery return blue"


def page() -> str:
    """Return HTML of a list of products, the same each time."""
    chance, words = random.Random(7), _SERIES.split()
    rows = []
    while sum(map(len, rows)) < _PAGE_BYTES:
        number = chance.randrange(10**6)
        text = " ".join(chance.choices(words, k=9))
        rows.append(
            f'<li class="product"><a href="/products/{number}/">{text}</a>'
            f'<span class="price">{number % 900 / 7:.2f}</span></li>\n'
        )
    return "".join(rows)[:_PAGE_BYTES]


def measure(redis_url: str) -> list[Row]:
    """Time both backends with one compressor, and the seals by themselves."""
    configure(redis_url)
    return [*_compressed(redis_url), _sealed()]


def _compressed(redis_url: str) -> list[Row]:
    past_l1 = {"L1_MAX_ENTRIES": 0}
    entries = {
        OURS: ("cachebridge.django_backend.CacheBridge", {"COMPRESSOR": "zstd"}),
        PLAIN: ("cachebridge.django_backend.CacheBridge", {}),
        SIGNED: (
            "cachebridge.django_backend.CacheBridge",
            {"SIGNING_KEYS": ["only for benchmarks, 32 bytes long"]},
        ),
        DJANGO_REDIS: (
            "django_redis.cache.RedisCache",
            {"COMPRESSOR": "django_redis.compressors.zstd.ZStdCompressor"},
        ),
    }
    made = {}
    for number, (label, (backend, options)) in enumerate(entries.items()):
        is_ours = "cachebridge" in backend
        caches.settings[f"zstd {label}"] = {
            **caches.settings["default" if "default" in caches.settings else OURS],
            "BACKEND": backend,
            "LOCATION": database(redis_url, 8 + number),
            "OPTIONS": {**options, **(past_l1 if is_ours else {})},
        }
        made[label] = caches[f"zstd {label}"]
    html = page()
    for cache in made.values():
        cache.set("page", html)
    rows = []
    for name, title, statement in (
        ("Z1", "set of 10 KiB of HTML, zstd", "cache.set('page', html)"),
        ("Z2", "get of it from L2", "cache.get('page')"),
    ):
        batches = {
            label: timed_batch(statement, {"cache": cache, "html": html})
            for label, cache in made.items()
        }
        figures = interleave(batches, _ROUNDS)
        limits = (
            Limit(OURS, DJANGO_REDIS, 1.1, "at most", f"<= 1.1 of {DJANGO_REDIS}"),
            Limit(SIGNED, PLAIN, 1.2, "at most", "signed <= 1.2 of plain"),
        )
        verdicts = [limit.judge(figures) for limit in limits]
        rows.append(Row(name, title, "s", figures, verdicts))
    sizes: dict[str, list[float]] = {}
    for number, label in enumerate(entries):
        with redis.Redis.from_url(database(redis_url, 8 + number)) as client:
            (key,) = client.keys("*page")
            sizes[label] = [float(client.strlen(key))]
    limit = Limit(OURS, DJANGO_REDIS, 1.0, "at most", f"<= {DJANGO_REDIS}")
    rows.append(Row("Z3", "its bytes in Redis", "B", sizes, [limit.judge(sizes)]))
    return rows


def _sealed() -> Row:
    content, secret = random.Random(7).randbytes(1024), bytes(32)
    seals: dict[str, Seal] = {
        "signature": Signature([secret], "pickle"),
        "AES-GCM": Encryption([secret], "pickle"),
    }
    batches = {}
    for label, seal in seals.items():
        names = {"seal": seal, "content": content, "raw": seal.close("k", content)}
        batches[f"{label}, write"] = timed_batch("seal.close('k', content)", names)
        batches[f"{label}, read"] = timed_batch("seal.open('k', raw)", names)
    figures = interleave(batches, _ROUNDS)
    slowest = max(min(samples) for label, samples in figures.items() if "sig" in label)
    verdict = Verdict(
        "<= 3 µs a signature", f"{slowest * 1e6:.2f} µs", slowest <= _MOST_S
    )
    return Row("Z4", "seal 1 KiB, and open it", "s", figures, [verdict])
