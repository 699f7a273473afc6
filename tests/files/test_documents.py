import json
import math
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcli.core.parameters import ScheduleConfig, UNetConfig
from diffcli.files.documents import decode, parse_document

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300)
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@dataclass(frozen=True)
class Everything:
    """One field of each kind that a checkpoint has."""

    whole: int
    real: float
    flag: bool
    text: str
    choice: Literal["a", "b"]
    several: tuple[int, ...]
    anything: dict[str, Any]
    maybe: int | None = None


GOOD: dict[str, Any] = {
    "whole": 3,
    "real": 0.5,
    "flag": True,
    "text": "ü",
    "choice": "b",
    "several": [1, 2],
    "anything": {"a": [None]},
    "maybe": 7,
}


def test_decode_builds_what_it_is_given() -> None:
    expected = Everything(3, 0.5, True, "ü", "b", (1, 2), {"a": [None]}, 7)
    assert decode(Everything, GOOD) == expected
    assert decode(Everything, {**GOOD, "maybe": None}).maybe is None
    without = {name: value for name, value in GOOD.items() if name != "maybe"}
    assert decode(Everything, without).maybe is None
    assert decode(Everything, {**GOOD, "real": 2}).real == 2.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("whole", True),
        ("whole", 3.0),
        ("whole", "3"),
        ("whole", None),
        ("real", True),
        ("real", "0.5"),
        ("real", math.inf),
        ("real", math.nan),
        pytest.param("real", 10**400, id="real-beyond-float"),
        ("flag", 1),
        ("text", 1),
        ("choice", "c"),
        ("choice", ["a"]),
        ("several", 1),
        ("several", "12"),
        ("several", [1, "2"]),
        ("several", [[1]]),
        ("anything", []),
        ("maybe", "7"),
    ],
)
def test_decode_refuses_other_types(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"Everything.{field} "):
        decode(Everything, {**GOOD, field: value})


def test_what_is_refused_is_quoted_in_short() -> None:
    change: dict[str, Any]
    for change in ({"text": ["x" * 10**6]}, {"x" * 10**6: 1}):
        with pytest.raises(ValueError, match=r"\.\.\.") as caught:
            decode(Everything, GOOD | change)
        assert len(str(caught.value)) < 200


def test_decode_refuses_missing_and_unknown_fields() -> None:
    with pytest.raises(ValueError, match=r"Everything\.whole is missing"):
        decode(Everything, {k: v for k, v in GOOD.items() if k != "whole"})
    with pytest.raises(ValueError, match="unknown field 'other'"):
        decode(Everything, {**GOOD, "other": 1})
    documents: tuple[object, ...] = (None, [], "text", 3)
    for document in documents:
        with pytest.raises(ValueError, match="no JSON object"):
            decode(Everything, document)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": NaN}',
        '{"a": [-Infinity]}',
        '{"a": 1e999}',
        '{"a": {"b": -1e999}}',
        r'{"a": "\ud800"}',
        r'{"a": ["x", "\udc00\ud800"]}',
        r'{"\udfff": 1}',
        b'{"a": "\xed\xa0\x80"}',
    ],
    ids=ascii,
)
def test_what_could_not_be_written_again_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="no JSON: a number or a text is not valid"):
        parse_document(text)


def test_the_largest_numbers_and_all_characters_are_taken() -> None:
    assert parse_document(r'{"a": 1e308, "b": "\ud83d\ude00"}') == {"a": 1e308, "b": "\U0001f600"}


@given(st.dictionaries(st.text(st.characters(exclude_categories=[]), max_size=3), JSON))
def test_what_is_parsed_can_be_written(document: dict[str, Any]) -> None:
    with suppress(ValueError):
        parsed = parse_document(json.dumps(document))
        assert parsed == document
        json.dumps(parsed, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("config", [UNetConfig(), UNetConfig(3, 32, 64, 7), ScheduleConfig()])
def test_decode_undoes_asdict_through_json(config: UNetConfig | ScheduleConfig) -> None:
    document = json.loads(json.dumps(asdict(config)))
    assert decode(type(config), document) == config


@given(data=st.data(), cls=st.sampled_from([Everything, UNetConfig, ScheduleConfig]))
def test_decode_of_anything_works_or_is_a_value_error(data: st.DataObject, cls: type) -> None:
    names = [field.name for field in fields(cls)]
    document = data.draw(JSON | st.dictionaries(st.sampled_from(names), JSON, max_size=len(names)))
    with suppress(ValueError):
        assert isinstance(decode(cls, document), cls)
