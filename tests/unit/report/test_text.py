"""Numbers, times and hostile keys as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.report.text import ago, bytes_text, count, duration, money, percent, plural, visible


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (100 * 1024, "100 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
        (9000 * 1024**6, "9000 EiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (86400 * 4 + 3 * 3600, "4 d 3 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("gap", "text"),
    [(5, "just now"), (300, "5 min ago"), (86400 * 3, "3 d ago"), (-7300, "in 2 h"), (-1, "in a moment")],
)
def test_relative_times(gap: float, text: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert ago(now - timedelta(seconds=gap), now) == text
    assert ago(None, now) == "–"


def test_percentages_never_round_to_all_or_nothing() -> None:
    assert [
        percent(a, b) for a, b in ((0, 5), (5, 5), (1, 10_000), (9_999, 10_000), (1, 3), (1, 50), (1, 0))
    ] == [
        "0 %",
        "100 %",
        "<0.1 %",
        ">99.9 %",
        "33 %",
        "2.0 %",
        "–",
    ]


def test_small_words() -> None:
    assert (count(12345), plural(1, "object"), plural(2, "query", "queries")) == (
        "12,345",
        "1 object",
        "2 queries",
    )
    assert (money(0), money(0.001), money(12.345), money(1234.5)) == ("$0.00", "<$0.01", "$12.35", "$1,234")


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("uploads/ä 漢.jpg", "uploads/ä 漢.jpg"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("\x1b[31mred\x07", "\\u001b[31mred\\u0007"),
        ("a\u00a0b", "a\\u00a0b"),
        ("\U000e0041", "\\U000e0041"),
        ("a\\nb", "a\\\\nb"),
        ("\u2028", "\\u2028"),
    ],
)
def test_what_would_hide_is_shown(key: str, shown: str) -> None:
    assert visible(key) == shown


@given(st.text())
def test_what_is_shown_is_one_printable_line_and_tells_any_two_keys_apart(key: str) -> None:
    shown = visible(key)
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert visible(shown) == shown or "\\" in shown
    undone = shown.encode("ascii", "backslashreplace").decode("unicode_escape")
    if all(ord(letter) < 0x10000 for letter in key):
        assert undone == key


@given(st.text(min_size=1), st.integers(min_value=3, max_value=40))
def test_a_long_key_keeps_both_ends(key: str, limit: int) -> None:
    shown = visible(key, limit)
    whole = visible(key)
    assert len(shown) <= limit
    assert shown == whole or (shown[0] == whole[0] and shown[-1] == whole[-1])
