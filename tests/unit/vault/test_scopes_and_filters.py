"""Who owns a key, and which entries a filter means: pure decisions, as tables and as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.exceptions import VaultError
from s3gc.vault import layout
from s3gc.vault.manifest import EntryFilter
from s3gc.vault.scopes import Scope, differ_in_namespace, find_overlap, scope_id, widened

PREFIX = st.text(alphabet="ab/", max_size=3)
PREFIXES = st.lists(PREFIX, min_size=1, max_size=3)
OUT = st.lists(PREFIX.filter(bool), max_size=2)
KEYS = st.text(alphabet="ab/", min_size=1, max_size=5)


@given(PREFIXES, OUT, PREFIXES, OUT, KEYS)
def test_without_an_overlap_no_key_has_two_owners(
    ours: list[str], ours_out: list[str], theirs: list[str], theirs_out: list[str], key: str
) -> None:
    if find_overlap(ours, ours_out, theirs, theirs_out) is not None:
        return

    def owns(prefixes: list[str], excluded: list[str]) -> bool:
        return key.startswith(tuple(prefixes)) and not key.startswith(tuple(excluded))

    assert not (owns(ours, ours_out) and owns(theirs, theirs_out))


@given(PREFIXES, OUT, PREFIXES, OUT, KEYS)
def test_what_is_widened_owns_all_that_either_owned(
    ours: list[str], ours_out: list[str], theirs: list[str], theirs_out: list[str], key: str
) -> None:
    one = Scope("one", "one", "b", None, tuple(ours), tuple(ours_out))
    two = Scope("two", "two", "b", None, tuple(theirs), tuple(theirs_out))
    prefixes, excluded = widened(one, two)
    owned = any(key.startswith(s.prefixes) and not key.startswith(s.exclude_prefixes) for s in (one, two))
    if owned:
        assert key.startswith(prefixes)
        assert not key.startswith(excluded)


@pytest.mark.parametrize(
    ("name", "other", "expected"),
    [
        ("media", "shop.media", True),
        ("shop.media", "media", True),
        ("media.v2", "shop.media.v2", True),
        ("media", "media", False),
        ("a.media", "b.media", False),
        ("media", "shop.images", False),
        ("media", "mediashop.x", False),
        ("", "shop.", False),
        ("v2", "shop.media.v2", False),
    ],
)
def test_names_that_differ_in_their_namespace(name: str, other: str, expected: bool) -> None:
    assert differ_in_namespace(name, other) is expected


def test_a_scope_id_depends_on_policy_and_bucket_and_is_a_path() -> None:
    assert scope_id("media", "b") == scope_id("media", "b")
    assert len({scope_id("media", "b"), scope_id("media", "c"), scope_id("other", "b")}) == 3
    for name in ("shop.media", "ü/../x", "", "-" * 300):
        assert layout.scope_path(scope_id(name, "b"), "lock.json").startswith("scopes/")
    for wrong in ("", "a/b", "../x", ".hidden", "a" * 300):
        with pytest.raises(VaultError):
            layout.scope_path(wrong)


def test_a_scope_comes_back_from_its_file() -> None:
    scope = Scope("id", "ü", "bucket", None, ("a/",), ("a/b/",), True, ("sqlite:///x: t",))
    assert Scope.from_json(scope.to_json()) == scope
    with pytest.raises(TypeError):
        Scope.from_json(scope.to_json().replace(b'"a/"', b"1"))


@pytest.mark.parametrize(
    ("asked", "key", "matches"),
    [
        ({"keys": ["a"]}, "a", True),
        ({"keys": ["a"]}, "ab", False),
        ({"keys": ["*"]}, "a", False),
        ({"keys": ["*"]}, "*", True),
        ({"keys": []}, "a", False),
        ({"prefixes": ["a/"]}, "a/b", True),
        ({"prefixes": ["a/"]}, "b/a/", False),
        ({"prefixes": [""]}, "anything", True),
        ({"globs": ["*.jpg"]}, "a/b/c.jpg", True),
        ({"globs": ["*.jpg"]}, "a.JPG", False),
        ({"globs": ["a/?.x"]}, "a/b.x", True),
        ({"globs": ["[ab]*"]}, "c", False),
        ({"keys": ["x"], "globs": ["y*"]}, "yes", True),
    ],
)
def test_a_filter_means_what_it_says(asked: dict[str, list[str]], key: str, matches: bool) -> None:
    wanted = EntryFilter.make(asked.get("keys"), asked.get("prefixes"), asked.get("globs"))
    assert wanted is not None
    assert wanted.matches(key) is matches


def test_nothing_asked_is_everything_and_a_string_is_a_mistake() -> None:
    assert EntryFilter.make(None, None, None) is None
    with pytest.raises(TypeError, match="list of strings"):
        EntryFilter.make("abc", None, None)


def test_only_our_own_names_have_a_number() -> None:
    assert layout.number_in("operations/X/packs/000012.pack") == 12
    assert layout.number_in("operations/X/audit/1000000.jsonl.zst") == 1_000_000
    for other in ("operations/X/packs/copy of 000012.pack", "x/000012.pack.bak", "x/12.pack", "000001.pack"):
        assert layout.number_in(other) is None
