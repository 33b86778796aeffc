"""What others say can be kept and shown: encoded, stored, sent by msgpack, and never taken for a line of ours."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest

from airflow_brayns.errors import BraynsError, ConnectionLost, InvalidSetting, RpcFailed
from airflow_brayns.errors.plain import DEEPEST, LONGEST, Changes, one_line, plain, plain_text, shown, visible


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("\ud800evil", "\ufffdevil"),
        ("a\x00b", "ab"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b2Jgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("a\x1bc", "ac"),
        ("\u202egnp.exe\u2066", "gnp.exe"),
        ("zero\u200bwidth\ufeff\u061c\U000e0041", "zerowidth"),
        ("no\u00a0break", "no break"),
        ("\ttab é 日本 🧠", "\ttab é 日本 🧠"),
    ],
)
def test_what_cannot_be_seen_or_sent_goes(said: str, kept: str) -> None:
    assert visible(said) == plain_text(said) == kept


@pytest.mark.parametrize(
    "end", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
)
def test_no_line_can_look_like_one_of_ours(end: str) -> None:
    forged = f"cannot load{end}[2026-11-25 10:00:00] INFO - all is well"
    told = plain_text(forged)
    assert told == "cannot load\n    [2026-11-25 10:00:00] INFO - all is well"
    assert plain_text(told) == told
    assert len(visible(forged).split("\n")) == len(visible(forged).splitlines()) == 2
    assert one_line(forged) == "cannot load [2026-11-25 10:00:00] INFO - all is well"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (float("nan"), None), (float("inf"), None), (-float("inf"), None), (1 << 63, float(1 << 63)), (-(1 << 63), -(1 << 63)),
        (10**400, None), (True, True), (0, 0), (1.5, 1.5), ({"\ud800k\n": ["\ud800", {"a": "\x00"}]}, {"\ufffdk": ["\ufffd", {"a": ""}]}),
        ({1: (2, "x")}, {"1": [2, "x"]}), (b"\xff", "b'\\xff'"),
    ],
)  # fmt: skip
def test_values_are_as_json_and_msgpack_have_them(said: Any, kept: Any) -> None:
    found = plain(said)
    assert found == kept
    assert type(found) is type(kept)
    msgspec.msgpack.encode(found)
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()


def test_what_is_nested_without_end_has_one() -> None:
    value: Any = "x"
    for _ in range(900):
        value = {"a": [value]}
    assert json.dumps(plain(value)).count("[") == DEEPEST // 2


def test_a_text_has_a_bound_and_keeps_both_ends() -> None:
    told = plain_text("first " + "x" * 10**6 + " last")
    assert len(told) == LONGEST
    assert told.startswith("first ")
    assert told.endswith(" last")
    assert len(one_line("x" * 10**6)) == 200


def test_megabytes_of_hostile_text_are_no_work() -> None:
    for piece in ("\x1b[", "\x1b]0;", "\x1b[0000 ", "\ud800", "\u2028", "\x1b]" + "0" * 2000):
        text = piece * ((1 << 20) // len(piece))
        began = time.process_time()
        plain_text(text)
        assert time.process_time() - began < 5, piece


@pytest.mark.parametrize(
    "error",
    [
        BraynsError("one\nINFO two \ud800\x1b[2J"),
        ConnectionLost("one\nINFO two \ud800\x1b[2J"),
        InvalidSetting("one\n", "INFO two \ud800\x1b[2J"),
        RpcFailed("one", 1, "\rINFO two", ["\u2028INFO three \ud800"]),
    ],
)
def test_every_error_of_ours_is_safe_to_tell(error: BraynsError) -> None:
    told = str(error)
    assert not set(told) & {"\r", "\x1b", "\ud800", "\u2028"}
    assert all(line.startswith("    ") for line in told.splitlines()[1:])
    assert len(told.splitlines()) > 1


def test_what_goes_on_is_told_once() -> None:
    changes = Changes()
    assert [changes.new(text) for text in ("down", "down", "lost", "down", "", "down")] == [
        True,
        False,
        True,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("value", "told"), [(5, "5"), ("5", "'5'"), (None, "null"), (True, "true"), ([1], "[1]"), (10**5000, "a number of very many digits")], ids=range(6)
)  # fmt: skip
def test_a_value_is_shown_as_it_was_given(value: Any, told: str) -> None:
    """A number that should have been a text was shown as the text that it should have been."""
    assert shown(value) == told
