"""Messages that quote what strangers wrote."""

from hypothesis import given
from hypothesis import strategies as st

from diffcli.errors import DiffcliError, UsageError


@given(st.text())
def test_a_message_is_one_line_that_no_terminal_obeys(text: str) -> None:
    message = str(UsageError(f"cannot read {text}; use another one", "data"))
    assert message.isprintable()
    assert message.startswith("cannot read ")
    assert message.endswith("; use another one")
    assert len(message) < 1300
    # Written to a terminal of any encoding, it is no error.
    message.encode("ascii", "backslashreplace")


def test_usual_messages_are_left_alone() -> None:
    text = "the model has the classes zero, zwei ü, 三; ᾱ is 0.5 ('a')"
    assert str(DiffcliError(text)) == text


def test_of_a_long_message_beginning_and_end_are_kept() -> None:
    message = str(DiffcliError("begin " + "x" * 10**6 + " end"))
    assert message.startswith("begin xxx")
    assert message.endswith("xxx end")
    assert len(message) < 1300


def test_escapes_are_visible() -> None:
    assert str(DiffcliError("a\nb\x1b[31m\u202e")) == r"a\nb\x1b[31m\u202e"
