"""File names: distinct, and never a path to somewhere else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcli.errors import UsageError
from diffcli.files.naming import (
    class_numbers,
    file_names,
    is_kept_by_windows,
    is_unicode,
    pattern_fields,
)


@given(st.lists(st.text(max_size=80), max_size=12))
def test_class_names_become_distinct_parts_of_a_path(names: list[str]) -> None:
    made = file_names(names)
    assert len({name.casefold() for name in made}) == len(names)
    for name in made:
        assert name not in ("", ".", "..")
        assert not set(name) & set('/\\\0\n:*?"<>|')
        assert Path("out", name).parent == Path("out")
        assert len(name.encode()) <= 255


def test_ordinary_names_stay_as_they_are() -> None:
    names = ["3", "cat", "Größe M", "c++", "T-shirt"]
    assert file_names(names) == names
    assert file_names(["../../etc", "a/b", "A_b", "con\nsole"]) == [
        "_.._etc",
        "a_b_2",
        "A_b",
        "con_sole",
    ]


@given(st.lists(st.text("aA/&_2.", max_size=4), max_size=12, unique=True))
def test_classes_are_found_by_their_names_and_by_their_files(names: list[str]) -> None:
    numbers = class_numbers(names)
    assert [numbers[name] for name in names] == list(range(len(names)))
    assert [numbers[name] for name in file_names(names)] == list(range(len(names)))


@given(st.lists(st.text("ab/&_2.", max_size=4), max_size=12, unique=True))
def test_valid_names_stay_as_they_are(names: list[str]) -> None:
    for name, file in zip(names, file_names(names), strict=True):
        assert (file_names([name]) == [name]) == (file == name)


def test_of_classes_of_one_name_the_first_is_found() -> None:
    assert class_numbers(["a", "a", "b"]) == {"a": 0, "a_2": 1, "b": 2}


def test_many_classes_of_one_name_take_no_time() -> None:
    assert file_names(["a"] * 50_000)[-1] == "a_50000"


@given(st.text(st.characters(exclude_categories=[])))
def test_unicode_is_what_can_be_encoded(text: str) -> None:
    assert is_unicode(text) == (text.encode(errors="ignore").decode() == text)


def test_devices_of_windows_are_no_file_names() -> None:
    assert file_names(["con", "Aux", "nul .png", "com¹", "_con", "console", "com10"]) == [
        "_con_2",
        "_Aux",
        "_nul .png",
        "_com¹",
        "_con",
        "console",
        "com10",
    ]


@pytest.mark.parametrize(
    "name",
    ["con", "Aux", "nul.png", "nul .png", "COM1", "com¹", "LPT³.tar.gz", "conin$", "a.", "a "],
)
def test_names_that_windows_changes(name: str) -> None:
    assert not is_kept_by_windows(name)


@pytest.mark.parametrize("name", ["console", "com10", "com⁴", "nulls.png", "a.b", "a b", "_con"])
def test_names_that_windows_keeps(name: str) -> None:
    assert is_kept_by_windows(name)


@pytest.mark.parametrize(
    ("pattern", "fields"),
    [
        ("{label}_{seed}.png", {"label", "seed"}),
        ("{index:04}.png", {"index"}),
        ("{{x}}{seed}.png", {"seed"}),
        ("{{x}}.png", set()),
    ],
)
def test_the_fields_of_patterns(pattern: str, fields: set[str]) -> None:
    assert pattern_fields(pattern) == fields


@pytest.mark.parametrize(
    "pattern",
    ["{seed.real}.png", "{0}.png", "{}.png", "{seed", "{seed:q}", "{name}{seed}"],
)
def test_other_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match=r"file name|pattern"):
        pattern_fields(pattern)
