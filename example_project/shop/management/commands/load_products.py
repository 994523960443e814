"""``load_products``: fill the shop's shelves."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand
from django.db import transaction

from example_project.shop.assortment import goods
from example_project.shop.models import Category, Product, Review

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Fill an empty shop with its assortment; a filled one stays as it is."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--fresh", action="store_true", help="empty the shop first")

    @transaction.atomic
    def handle(self, *, fresh: bool, **_options: Any) -> None:
        if fresh:
            Category.objects.all().delete()
        if not Category.objects.exists():
            self._fill()
        self.stdout.write(
            f"{Product.objects.count()} products in {Category.objects.count()} "
            f"categories with {Review.objects.count()} reviews"
        )

    def _fill(self) -> None:
        numbers = count(1)  # the same addresses however often the shop is filled
        for shelf, articles in goods():
            category = Category.objects.create(
                slug=shelf.slug,
                name=shelf.name,
                tagline=shelf.tagline,
                icon=shelf.icon,
            )
            products = Product.objects.bulk_create(
                Product(
                    pk=next(numbers),
                    category=category,
                    sku=article.sku,
                    name=article.name,
                    description=article.description,
                    specs=article.specs,
                    hue=article.hue,
                    price=article.price,
                    stock=article.stock,
                )
                for article in articles
            )
            Review.objects.bulk_create(
                Review(
                    product=product,
                    author=opinion.author,
                    stars=opinion.stars,
                    text=opinion.text,
                    written_on=opinion.written_on,
                )
                for product, article in zip(products, articles, strict=True)
                for opinion in article.opinions
            )
