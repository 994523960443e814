"""``sale``: open and close a sale, change its lists, set its counters right."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from example_project.sale import records
from example_project.sale.live import sale
from example_project.sale.selling import is_user

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Open and close a flash sale, change its lists, set its counters right."

    def add_arguments(self, parser: ArgumentParser) -> None:
        does = parser.add_subparsers(dest="does", required=True)
        opens = does.add_parser("open", help="open a new sale; print its number")
        opens.add_argument("--product", type=int, default=300)
        opens.add_argument("--price", type=Decimal, default=Decimal("9.90"))
        opens.add_argument("--stock", type=int, default=500)
        opens.add_argument("--per-user", type=int, default=2)
        opens.add_argument("--invited-only", action="store_true")
        opens.add_argument("--deny", nargs="*", default=[], metavar="USER")
        for name, text in (
            ("deny", "refuse these users"),
            ("allow", "invite these users"),
            ("unlist", "take these users from both lists"),
        ):
            does.add_parser(name, help=text).add_argument("users", nargs="+")
        does.add_parser("close", help="end the newest sale")
        does.add_parser(
            "recount",
            help="set the counters of the newest sale to what was recorded; no "
            "process may be selling meanwhile",
        )

    def handle(self, *, does: str, **options: Any) -> None:
        if does == "open":
            names = ("product", "price", "stock", "per_user", "invited_only")
            number = records.open_sale(sale, **{name: options[name] for name in names})
            if options["deny"]:
                self._change_lists(number, "deny", options["deny"])
            self.stdout.write(str(number))
            return
        newest = records.newest.refresh()
        if newest is None:
            raise CommandError("there is no sale yet: open one")
        match does:
            case "close":
                records.close(sale, newest)
                self.stdout.write(f"sale {newest} is closed")
            case "recount":
                left = records.recount(sale, newest)
                self.stdout.write(f"sale {newest}: {left} left")
            case _:
                self._change_lists(newest, does, options["users"])
                self.stdout.write(f"sale {newest}: {does} {len(options['users'])}")

    def _change_lists(self, number: int, does: str, users: list[str]) -> None:
        if wrong := [user for user in users if not is_user(user)]:
            raise CommandError(f"no names of users: {', '.join(wrong)}")
        kind = "" if does == "unlist" else does
        records.change_lists(sale, number, kind, set(users), "manage.py")
