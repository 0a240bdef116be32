"""The boundary for server text, and the SQL loader."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.text import clean, clean_line, without_passwords


@pytest.mark.parametrize(
    "hostile",
    [
        "\x1b]52;c;aGk=\x07",
        "\x1b[2J",
        "\x9b2J",
        "a\u202eb",
        "a\u200bb",
        "\x00",
        "\x7f",
        "\u2066x\u2069",
        "\ufeff",
        "\U000e0041",
        "\xad",
    ],
)
def test_controls_become_visible_marks(hostile: str) -> None:
    result = clean(hostile)
    assert result != hostile
    assert result.isprintable()


def test_every_control_and_format_character_there_is() -> None:
    for code in range(0x110000):
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs") and chr(code) not in "\t\n":
            assert clean(chr(code)) != chr(code), hex(code)


@given(st.text())
def test_nothing_that_a_terminal_obeys_gets_through(text: str) -> None:
    for ch in clean(text, limit=10_000):
        assert ch in "\t\n" or unicodedata.category(ch) not in ("Cc", "Cf", "Cs"), hex(ord(ch))
    assert "\n" not in clean_line(text)


def test_long_text_is_cut_and_says_so() -> None:
    assert clean("x" * 50, limit=10) == "x" * 10 + "… (40 more characters)"


def test_ordinary_text_stays() -> None:
    text = "select 'Größe', '日本', [x] from \"T\" where a = $1 -- 🙂"
    assert clean(text) == text


def test_the_newest_variant_that_fits_is_chosen() -> None:
    assert "session_user" in load("indexpilot_tui.engine.postgres", "session_facts", 150000)
    with pytest.raises(KeyError):
        load("indexpilot_tui.engine.postgres", "no_such_question", 150000)


CANARY = "C4nary"


@pytest.mark.family(24, no_oracle="text only")
@pytest.mark.parametrize(
    "statement",
    [
        "alter role x password '{}'",
        "ALTER ROLE x ENCRYPTED PASSWORD E'{}\\'x' valid until 'tomorrow'",
        "create user x password $${}$$",
        "create user x password $a${}$b${}$a$ login",
        "alter role x password'{}'",
        "alter role x password '{}",  # cut off by track_activity_query_size
        "-- don't\nalter role x password '{}'",
        "create user mapping for x server s options (user 'u', password '{}''x')",
        "create server s foreign data wrapper w options (\"password\" '{}', a 'b')",
        "create subscription s connection 'host=h password={} dbname=d' publication p",
        "select dblink('host=h password=''{}'' dbname=d')",
        "select dblink_connect('postgresql://u:{}@h/db')",
        "select set_config('x.password', '{}', false)",
        "select f(user_password => '{}')",
    ],
)
def test_passwords_in_statements_are_hidden(statement: str) -> None:
    shown = clean(statement.format(*[CANARY] * 2))
    assert CANARY not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "statement",
    [
        "select * from users where password = crypt($1, password)",
        "update t set password=$1, b = 'x'",
        "select password, secret from t where secret = 'a'",
        'password authentication failed for user "x"',
        "select 'password' where a = 'b'",
        "http://host:80/a@b",
    ],
)
def test_what_only_speaks_of_passwords_stays(statement: str) -> None:
    assert clean(statement) == statement


@pytest.mark.parametrize("part", ["password ", "password '", "'password=a ", "a://b:", "a", "password $a$", "password ''a",
                                  "password e'\\", "passwor"])  # fmt: skip
def test_hiding_passwords_takes_no_time_on_any_text(part: str) -> None:
    start = time.thread_time()
    without_passwords((part * 20_000)[:100_000] + "password")
    assert time.thread_time() - start < 1.0
