"""What a stored gigabyte costs a month: an estimate's only unknown, so it is a setting and says where it is
from.

The defaults are Amazon S3's list prices of us-east-1 for the first tier, in US dollars for a GiB and month,
without requests, minimum durations, transfer or taxes. `S3GC_PRICES` (JSON, by storage class) or `s3gc
report --price STANDARD=0.02` replace single ones. A class that is not listed costs what STANDARD costs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from s3gc.exceptions import ConfigurationError

__all__ = ["LIST_PRICES", "Prices"]

LIST_PRICES: Mapping[str, float] = MappingProxyType(
    {
        "STANDARD": 0.023,
        "INTELLIGENT_TIERING": 0.023,
        "STANDARD_IA": 0.0125,
        "ONEZONE_IA": 0.01,
        "GLACIER_IR": 0.004,
        "GLACIER": 0.0036,
        "DEEP_ARCHIVE": 0.00099,
        "REDUCED_REDUNDANCY": 0.024,
        "EXPRESS_ONEZONE": 0.11,
    }
)
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a GiB and month, by storage class; `origin` says for people whose prices they are."""

    by_class: Mapping[str, float] = field(default_factory=lambda: LIST_PRICES)
    origin: str = "list prices of Amazon S3 in us-east-1"

    @classmethod
    def of(cls, environ: Mapping[str, str], entries: Iterable[str] = ()) -> Prices:
        """The defaults with those of `S3GC_PRICES`, then of ``CLASS=DOLLARS`` entries. Raises
        ConfigurationError."""
        changed: dict[str, float] = {}
        text = environ.get("S3GC_PRICES", "").strip()
        try:
            given = json.loads(text) if text else {}
            pairs = [(str(name), value) for name, value in given.items()]
            pairs += [(name, value) for name, _, value in (entry.partition("=") for entry in entries)]
            for name, value in pairs:
                changed[name.strip().upper()] = float(value)
        except (ValueError, TypeError, AttributeError):
            raise ConfigurationError(
                'prices are dollars for a GiB and month by storage class: S3GC_PRICES={"STANDARD": 0.02}, '
                "or --price STANDARD=0.02"
            ) from None
        if any(not 0 <= price < 1e6 for price in changed.values()):
            raise ConfigurationError("a price is a number of dollars, at least 0")
        return cls({**LIST_PRICES, **changed}, "your prices" if changed else cls().origin)

    def monthly(self, storage_class: str, size: int) -> float:
        """Dollars a month for `size` bytes of a class."""
        return self.by_class.get(storage_class, self.by_class["STANDARD"]) * size / _GIB
