"""When a denial is about one key, about a folder, about everything."""

from __future__ import annotations

from s3gc.exceptions import AccessDeniedError
from s3gc.sweep.denials import Denials


def denied(action: str = "s3:DeleteObject") -> AccessDeniedError:
    return AccessDeniedError(f"{action} was denied: bucket 'b'.", details={"action": action})


def test_nothing_denied_is_nothing_to_say() -> None:
    denials = Denials([""])
    assert denials.hopeless(at_end=True) is None
    assert denials.folder_given_up("a/b") is None


def test_one_denied_key_gives_up_nothing_while_others_can_go() -> None:
    denials = Denials([""], give_up_after=3)
    denials.deleted("a/0")
    denials.denied("a/1", denied())
    assert denials.folder_given_up("a/2") is None
    assert denials.hopeless(at_end=True) is None


def test_a_success_in_between_begins_the_count_anew() -> None:
    denials = Denials([""], give_up_after=3)
    for number in range(10):
        denials.denied(f"a/{number}x", denied())
        denials.denied(f"a/{number}y", denied())
        denials.deleted(f"a/{number}z")
    assert denials.folder_given_up("a/1") is None


def test_the_innermost_folder_is_given_up_and_not_what_lies_beside_it() -> None:
    denials = Denials([""], give_up_after=3)
    for number in range(3):
        denials.denied(f"uploads/legal/{number}", denied())
    assert denials.folder_given_up("uploads/legal/9") == "uploads/legal/"
    assert denials.folder_given_up("uploads/other") is None
    assert denials.hopeless() is None


def test_denials_spread_over_small_folders_give_up_the_folder_around_them() -> None:
    denials = Denials([""], give_up_after=3)
    denials.deleted("z/1")
    for number in range(3):
        denials.denied(f"legal/{number}/x", denied())
    assert denials.folder_given_up("legal/9/x") == "legal/"
    assert denials.folder_given_up("z/2") is None


def test_three_folders_given_up_give_up_the_one_around_them_once_and_no_more() -> None:
    denials = Denials([""], give_up_after=2)
    for folder in ("legal/a/", "legal/b/", "legal/c/"):
        assert denials.folder_given_up("legal/z/1") is None
        for number in range(2):
            denials.denied(f"{folder}{number}", denied())
    assert denials.folder_given_up("legal/z/1") == "legal/"
    assert denials.folder_given_up("uploads/1") is None
    assert denials.hopeless() is None


def test_everything_is_denied_where_the_folders_given_up_are_the_whole_scope() -> None:
    denials = Denials(["uploads/a/", "uploads/b/"], give_up_after=3)
    for folder in ("uploads/a/", "uploads/b/"):
        for number in range(3):
            assert denials.hopeless() is None
            denials.denied(f"{folder}{number}", denied())
    error = denials.hopeless()
    assert error is not None
    assert (
        "s3:DeleteObject was denied for every object that was tried (6, in 'uploads/a/', 'uploads/b/')"
        in error.message
    )


def test_a_denied_folder_among_others_does_not_end_the_sweep_before_the_others_were_tried() -> None:
    denials = Denials([""], give_up_after=3)
    for number in range(3):
        denials.denied(f"a/{number}", denied())
    assert denials.hopeless() is None
    assert denials.folder_given_up("a/9") == "a/"
    assert denials.hopeless(at_end=True) is not None
    denials.deleted("b/1")
    assert denials.hopeless(at_end=True) is None


def test_three_folders_given_up_without_a_single_success_are_everything() -> None:
    denials = Denials([""], give_up_after=2)
    for folder in ("a/", "b/", "c/"):
        assert denials.hopeless() is None
        for number in range(2):
            denials.denied(f"{folder}{number}", denied())
    assert denials.hopeless() is not None


def test_keys_without_a_folder_are_everything_after_the_same_number() -> None:
    denials = Denials([""], give_up_after=3)
    for number in range(3):
        assert denials.hopeless() is None
        denials.denied(f"{number}.jpg", denied("s3:Other"))
    error = denials.hopeless()
    assert error is not None
    assert "Allow s3:Other" in error.message
