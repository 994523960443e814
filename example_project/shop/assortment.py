"""The goods of the shop, the same on every machine: Faker with a fixed seed.

Faker gives names, places, dates and choices; the words of the trade are ours.
Nothing here touches the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from faker import Faker

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SHELVES", "Goods", "Opinion", "Shelf", "goods"]

_SEED = 20
_PER_SHELF = 50
_NEWEST_REVIEW = date(2026, 6, 30)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A category, what lies on it and from what to what it costs."""

    slug: str
    name: str
    tagline: str
    icon: str
    kinds: tuple[str, ...]
    materials: tuple[str, ...]
    prices: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Opinion:
    """A review."""

    author: str
    stars: int
    text: str
    written_on: date


@dataclass(frozen=True, slots=True)
class Goods:
    """A product with its reviews."""

    sku: str
    name: str
    description: str
    specs: tuple[tuple[str, str], ...]
    hue: int
    price: Decimal
    stock: int
    opinions: tuple[Opinion, ...]


SHELVES = (
    Shelf(
        "lamps",
        "Lamps",
        "Light where you need it, shade where you don't.",
        "lamp",
        ("desk lamp", "floor lamp", "reading lamp", "pendant", "lantern"),
        ("brass", "linen", "opal glass", "powder-coated steel"),
        (29, 320),
    ),
    Shelf(
        "chairs",
        "Chairs",
        "Sit down. Stay a while.",
        "chair",
        ("armchair", "stool", "bench", "dining chair", "rocking chair"),
        ("oak", "ash", "beech", "walnut", "woven paper cord"),
        (59, 690),
    ),
    Shelf(
        "kitchen",
        "Kitchen",
        "Plain things for good food.",
        "mug",
        ("mug", "teapot", "mixing bowl", "carafe", "butter dish", "colander"),
        ("stoneware", "porcelain", "enamel", "borosilicate glass"),
        (9, 95),
    ),
    Shelf(
        "bags",
        "Bags",
        "For the market, the office and the night train.",
        "bag",
        ("backpack", "tote", "duffel", "messenger bag", "washbag"),
        ("waxed canvas", "full-grain leather", "recycled nylon"),
        (25, 280),
    ),
    Shelf(
        "paper",
        "Paper",
        "Blank pages and what belongs to them.",
        "book",
        ("notebook", "sketchbook", "diary", "letter set", "album"),
        ("laid paper", "cotton paper", "recycled paper"),
        (6, 48),
    ),
    Shelf(
        "audio",
        "Audio",
        "Hear the room, not the cable.",
        "headphones",
        ("headphones", "radio", "speaker", "turntable", "microphone"),
        ("anodised aluminium", "walnut", "recycled plastic"),
        (39, 540),
    ),
    Shelf(
        "cycling",
        "Cycling",
        "Parts that last longer than the road.",
        "wheel",
        ("saddle", "bell", "pannier", "handlebar", "track pump", "bike light"),
        ("leather", "forged steel", "aluminium", "waxed canvas"),
        (12, 190),
    ),
    Shelf(
        "garden",
        "Garden",
        "Grow something, if only patience.",
        "plant",
        ("planter", "watering can", "trowel", "herb box", "bird house"),
        ("terracotta", "galvanised steel", "cedar", "cork"),
        (8, 120),
    ),
    Shelf(
        "watches",
        "Watches",
        "Time, told quietly.",
        "watch",
        ("wristwatch", "wall clock", "alarm clock", "pocket watch", "timer"),
        ("brushed steel", "titanium", "brass", "bakelite"),
        (35, 760),
    ),
    Shelf(
        "tools",
        "Tools",
        "Sharp, heavy, made to be handed on.",
        "hammer",
        ("hammer", "hand plane", "chisel", "folding rule", "pliers", "saw"),
        ("carbon steel", "hickory", "chrome vanadium steel", "beech"),
        (11, 230),
    ),
    Shelf(
        "textiles",
        "Textiles",
        "Warm in winter, light in summer.",
        "blanket",
        ("blanket", "cushion", "tea towel", "rug", "bed throw"),
        ("lambswool", "linen", "organic cotton", "hemp"),
        (14, 340),
    ),
    Shelf(
        "games",
        "Games",
        "For long evenings and short tempers.",
        "dice",
        ("card game", "dice set", "puzzle", "chess set", "board game"),
        ("maple", "linen-finished card", "boxwood", "recycled card"),
        (9, 110),
    ),
)

_COLOURS = (
    "Chalk",
    "Charcoal",
    "Fern",
    "Honey",
    "Ink",
    "Moss",
    "Oxblood",
    "Rust",
    "Sand",
    "Slate",
    "Storm blue",
    "Natural",
)
_OPENINGS = (
    "A {kind} that does one thing and does it well.",
    "Drawn in {city}, made in small runs.",
    "The {kind} we wanted for ourselves and could not find.",
    "Made by a family workshop that has built nothing else since {year}.",
    "An old pattern, made the way it was in {year}.",
)
_MIDDLES = (
    "The {material} ages well and can be repaired; spare parts stay in stock.",
    "Every piece of {material} is chosen by hand, so no two are quite alike.",
    "We kept the {material} untreated: it gets better with use.",
    "It is made of {material}, with nothing glued that could be joined.",
)
_CLOSINGS = (
    "Wipe it clean with a damp cloth.",
    "Comes in a plain box without plastic.",
    "Guaranteed for ten years, and we mean it.",
    "If it breaks, send it back; we mend it.",
)
_PRAISE = (
    "Better made than I expected. Would buy again.",
    "Looks even nicer than on the picture.",
    "Bought one as a present, kept it, bought a second one.",
    "Solid, simple, no nonsense.",
    "In daily use for months and still like new.",
)
_DOUBT = (
    "Good, but heavier than I thought.",
    "The colour is darker than on the picture. I got used to it.",
    "Does what it should. The delivery took its time.",
)
_COMPLAINT = (
    "Arrived with a scratch. The exchange was quick, though.",
    "Nice to look at, not made for my hands.",
)


def goods() -> Iterator[tuple[Shelf, list[Goods]]]:
    """Each shelf with what lies on it."""
    fake = Faker("en_GB")
    fake.seed_instance(_SEED)
    for shelf in SHELVES:
        fake.unique.clear()
        yield shelf, [_goods(fake, shelf, n) for n in range(1, _PER_SHELF + 1)]


def _goods(fake: Faker, shelf: Shelf, number: int) -> Goods:
    kind = fake.random_element(shelf.kinds)
    material = fake.random_element(shelf.materials)
    words = {
        "kind": kind,
        "material": material,
        "city": fake.city(),
        "year": fake.random_int(1870, 1990),
    }
    sentences = (_OPENINGS, _MIDDLES, _CLOSINGS)
    text = " ".join(fake.random_element(choice) for choice in sentences)
    low, high = shelf.prices
    return Goods(
        sku=f"{shelf.slug[:3].upper()}-{number:03}",
        name=f"{fake.unique.last_name()} {kind}",
        description=text.format_map(words),
        specs=(
            ("Material", material.capitalize()),
            ("Colour", fake.random_element(_COLOURS)),
            ("Weight", f"{fake.random_int(8, 900) * 10} g"),
            ("Size", f"{fake.random_int(8, 90)} x {fake.random_int(8, 120)} cm"),
            ("Made in", fake.country()),
        ),
        hue=fake.random_int(0, 359),
        price=Decimal(fake.random_int(low, high)) - Decimal("0.10"),
        stock=fake.random_int(0, 120),
        opinions=tuple(_opinion(fake) for _ in range(fake.random_int(2, 7))),
    )


def _opinion(fake: Faker) -> Opinion:
    stars = fake.random_element((2, 3, 3, 4, 4, 4, 5, 5, 5, 5))
    texts = {2: _COMPLAINT, 3: _DOUBT}.get(stars, _PRAISE)
    return Opinion(
        author=fake.name(),
        stars=stars,
        text=fake.random_element(texts),
        written_on=_NEWEST_REVIEW - timedelta(days=fake.random_int(0, 700)),
    )
