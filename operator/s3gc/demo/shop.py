"""A small shop: its tables, its objects, and how objects come to be orphans in real life.

Everything is made from one seed, so that each demo tells the same story. The database is SQLite; its columns hold
references in five ways: URLs of a CDN, JSON, HTML, Markdown and plain keys.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3gc.config import S3GCConfig

__all__ = ["BUCKET", "CDN", "DemoObject", "Shop", "make_shop", "policy_of"]

BUCKET = "shop-media"
CDN = "https://cdn.shop.example"
_TABLES = """
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, avatar_url TEXT);
CREATE TABLE products (id INTEGER PRIMARY KEY, sku TEXT NOT NULL, details TEXT NOT NULL);
CREATE TABLE posts (id INTEGER PRIMARY KEY, slug TEXT NOT NULL, body_html TEXT, body_markdown TEXT);
CREATE TABLE invoices (id INTEGER PRIMARY KEY, number TEXT NOT NULL, pdf_key TEXT NOT NULL);
"""
_WORDS = "amber birch cedar delta ember fjord grove heron indigo kelp lumen maple opal pine".split()  # noqa: SIM905  a list of words reads best as words


@dataclass(frozen=True, slots=True)
class DemoObject:
    """An object to put; `fate` is what it is to the shop: referenced, kept otherwise, or an orphan's cause."""

    key: str
    body: bytes
    content_type: str
    age_days: float
    fate: str
    storage_class: str = "STANDARD"


@dataclass(slots=True)
class Shop:
    """What was made. `late_keys` are pictures that were replaced, which their owners may want back; `missing` counts
    rows whose object was never there."""

    objects: list[DemoObject] = field(default_factory=list)
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    missing: int = 0
    late_keys: list[str] = field(default_factory=list)

    @property
    def fates(self) -> Counter[str]:
        return Counter(each.fate for each in self.objects)

    def write_database(self, path: Path) -> None:
        """Make the SQLite database."""
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode = WAL")  # the shop writes while s3gc reads
            database.executescript(_TABLES)
            for table, rows in self.rows.items():
                marks = ", ".join("?" * len(rows[0]))
                database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
            database.commit()


def policy_of(folder: Path, endpoint_url: str, **changes: Any) -> S3GCConfig:
    """The shop's policy, as somebody would write it."""
    from s3gc.builder import create_config

    settings: dict[str, Any] = {
        "endpoint_url": endpoint_url,
        "exclude_prefixes": ["exports/"],
        "base_urls": [{"url": f"{CDN}/", "keyPrefix": ""}],
        "foreign_hosts": ["www.gravatar.com"],
        "sources": [
            {
                "name": "shop",
                "url": f"sqlite:///{folder / 'shop.db'}",
                "tables": [
                    {"table": "users", "columns": ["avatar_url"]},
                    {"table": "products", "columns": [{"name": "details", "format": "json"}]},
                    {"table": "posts", "columns": ["body_html", "body_markdown"]},
                    {"table": "invoices", "columns": [{"name": "pdf_key", "format": "key"}]},
                ],
                "derivatives": ["{stem}_thumb{ext}"],
                "ignoreColumns": ["users.name", "products.sku", "posts.slug", "invoices.number"],
            }
        ],
        "vault_path": folder / "vault",
        "retention_days": 7,
    }
    return create_config(BUCKET, **{**settings, **changes})


def make_shop(seed: int = 7) -> Shop:
    """Make the shop's rows and objects, about 3,000 of them."""
    dice = random.Random(seed)  # noqa: S311  a made-up shop
    shop = Shop(rows={"users": [], "products": [], "posts": [], "invoices": []})
    for part in (_users, _products, _posts, _invoices, _exports, _left_behind):
        shop.objects.extend(part(shop, dice))
    shop.objects.sort(key=lambda each: each.key.encode())
    return shop


def _age(dice: random.Random) -> float:
    """Days: mostly within two years, never young enough to be left alone for that."""
    return 10 + 900 * float(dice.random() ** 1.6)


def _picture(dice: random.Random, least: int, most: int, kind: str = "jpeg") -> bytes:
    head = {"jpeg": b"\xff\xd8\xff\xe0", "webp": b"RIFF\0\0\0\0WEBP", "png": b"\x89PNG\r\n\x1a\n"}[kind]
    return head + dice.randbytes(dice.randint(least, most))


def _name(dice: random.Random) -> str:
    return f"{dice.getrandbits(48):012x}"


def _users(shop: Shop, dice: random.Random) -> Iterator[DemoObject]:
    """Avatars as URLs of the CDN, each with a thumbnail; who changes a picture leaves the old one behind."""
    for number in range(1, 481):
        name = f"{dice.choice(_WORDS).title()} {dice.choice(_WORDS).title()}"
        kind = number % 12
        if kind == 0:
            shop.rows["users"].append((number, name, f"https://www.gravatar.com/avatar/{_name(dice)}"))
            continue
        if kind == 1:
            shop.rows["users"].append((number, name, None))
            continue
        key = f"avatars/{number:04d}/{_name(dice)}.jpg"
        shop.rows["users"].append((number, name, f"{CDN}/{key}"))
        yield from _avatar(key, dice, "referenced", _age(dice))
        if kind == 5:
            old = f"avatars/{number:04d}/{_name(dice)}.jpg"
            yield from _avatar(old, dice, "replaced", _age(dice) + 60)
            shop.late_keys.append(old)


def _avatar(key: str, dice: random.Random, fate: str, age: float) -> Iterator[DemoObject]:
    yield DemoObject(key, _picture(dice, 2_000, 9_000), "image/jpeg", age, fate)
    yield DemoObject(key.replace(".jpg", "_thumb.jpg"), _picture(dice, 300, 900), "image/jpeg", age, fate)


def _products(shop: Shop, dice: random.Random) -> Iterator[DemoObject]:
    """Lists of images in JSON; a product that was deleted leaves its images behind."""
    for number in range(1, 331):
        sku = f"{dice.choice(_WORDS)}-{number:03d}"
        sold = number % 15 != 7
        keys = [f"products/{sku}/{view}.webp" for view in range(1, 4)]
        if sold:
            images = [{"src": f"/{key}", "alt": f"{sku}, view {view}"} for view, key in enumerate(keys, 1)]
            details = {"title": sku.title(), "price": dice.randint(5, 400), "images": images}
            shop.rows["products"].append((number, sku, json.dumps(details)))
        for key in keys:
            cold = "STANDARD_IA" if number % 10 == 7 else "STANDARD"
            body = _picture(dice, 4_000, 24_000, "webp")
            yield DemoObject(key, body, "image/webp", _age(dice), "referenced" if sold else "deleted", cold)


def _posts(shop: Shop, dice: random.Random) -> Iterator[DemoObject]:
    """Articles in HTML and in Markdown, with pictures by every kind of URL."""
    for number in range(1, 161):
        slug = f"{dice.choice(_WORDS)}-{dice.choice(_WORDS)}-{number}"
        month = f"20{dice.randint(23, 25)}/{dice.randint(1, 12):02d}"
        keys = [f"posts/{month}/{slug}-{part}.png" for part in (1, 2)]
        first, second = keys
        html = f'<h1>{slug}</h1>\n<p>As seen in <img src="https://{BUCKET}.s3.amazonaws.com/{first}?v=2" alt=""></p>'
        markdown = f"# {slug}\n\nOnce more:\n\n![{slug}]({CDN}/{second})\n"
        shop.rows["posts"].append((number, slug, html, markdown))
        for key in keys:
            yield DemoObject(key, _picture(dice, 3_000, 30_000, "png"), "image/png", _age(dice), "referenced")


def _invoices(shop: Shop, dice: random.Random) -> Iterator[DemoObject]:
    """Plain keys; five rows name a file that somebody lost."""
    for number in range(1, 561):
        key = f"invoices/{2023 + number % 3}/INV-{number:05d}.pdf"
        shop.rows["invoices"].append((number, f"INV-{number:05d}", key))
        if number % 112 == 0:
            shop.missing += 1
            continue
        lines = "\n".join(
            f"{dice.choice(_WORDS):<12}{dice.randint(1, 99):>6}.00" for _ in range(dice.randint(20, 90))
        )
        yield DemoObject(key, b"%PDF-1.4\n" + lines.encode(), "application/pdf", _age(dice), "referenced")


def _exports(shop: Shop, dice: random.Random) -> Iterator[DemoObject]:
    """Exports that no row names and nobody may touch: the policy excludes them."""
    for number in range(1, 41):
        rows = "\n".join(f"{number},{dice.randint(1, 999)},{dice.choice(_WORDS)}" for _ in range(200))
        key = f"exports/2025/orders-{number:03d}.csv"
        yield DemoObject(key, rows.encode(), "text/csv", _age(dice), "excluded")


def _left_behind(shop: Shop, dice: random.Random) -> Iterator[DemoObject]:
    """Uploads that were never attached to anything, an import that somebody tried out, and uploads of today."""
    for _ in range(90):
        key = f"uploads/tmp/{_name(dice)}.part"
        yield DemoObject(
            key, _picture(dice, 500, 40_000), "application/octet-stream", _age(dice), "abandoned"
        )
    for number in range(30):
        key = f"import-test/{number:03d} copy of {dice.choice(_WORDS)}.jpg"
        yield DemoObject(key, _picture(dice, 2_000, 6_000), "image/jpeg", _age(dice), "trial")
    for _ in range(25):
        key = f"uploads/tmp/{_name(dice)}.jpg"
        yield DemoObject(key, _picture(dice, 2_000, 6_000), "image/jpeg", 2 * dice.random(), "young")
