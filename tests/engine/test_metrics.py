"""Metrics: what is an answer, and each way of not answering. Commands are run, hooks are served."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from indexpilot_tui.engine.metrics.answer import MAX_BYTES, MetricError, figure, parse
from indexpilot_tui.engine.metrics.reader import Metrics
from indexpilot_tui.errors import ConfigError
from indexpilot_tui.settings.load import load_settings
from indexpilot_tui.settings.model import Settings, Target
from indexpilot_tui.settings.validated import validated
from tests.faults.workshop import alive
from tests.tui.frozen import facts

FACTS = facts()


def metrics(target: str = "orders", **sources: dict[str, Any]) -> Metrics:
    return Metrics(validated(Settings, {"metrics": sources}), Target(name=target))


def printing(text: str, *, status: int = 0, seconds: float = 0, **more: Any) -> dict[str, Any]:
    code = f"import sys, time; sys.stdout.write({text!r}); sys.stdout.flush(); time.sleep({seconds}); sys.exit({status})"
    return {"command": [sys.executable, "-c", code], "max_age_seconds": 0} | more


async def reason(source: dict[str, Any], reference: str = "m") -> str:
    with pytest.raises(MetricError) as caught:
        await metrics(m=source).number(reference, FACTS)
    return caught.value.message


@pytest.mark.parametrize(("text", "value"), [("42\n", 42), ("1.5", 1.5), ("-3", -3), ("1e3", 1000), (" 7 ", 7), ("0", 0)])
async def test_a_number(text: str, value: float) -> None:
    assert await metrics(m=printing(text)).number("m", FACTS) == value


async def test_keys_of_an_object_and_its_other_values_do_not_matter() -> None:
    source = metrics(m=printing('{"free_bytes": 10, "cpu": 1.5, "host": "db1", "none": null}'))
    assert await source.number("m.cpu", FACTS) == 1.5
    assert await source.numbers("m", ("free_bytes", "cpu"), FACTS) == (10, 1.5)
    assert await source.is_object("m", FACTS)
    for key, why in (("host", "no number"), ("none", "is null"), ("gone", "has no key gone")):
        with pytest.raises(MetricError, match=why):
            await source.number(f"m.{key}", FACTS)
    with pytest.raises(MetricError, match="refer to a key"):
        await source.number("m", FACTS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("garbage", "neither a number nor JSON: garbage"),
        ("null", "is null"),
        ("NaN", "no finite number"),
        ("Infinity", "no finite number"),
        ("-Infinity", "no finite number"),
        ("1e999", "no finite number"),
        ("9" * 400, "no finite number"),
        ("true", "no number: True"),
        ('"42"', "no number: '42'"),
        ("[1]", "no number"),
        ("42 43", "neither a number nor JSON"),
        ("\x1b]52;c;x\x07", "neither a number nor JSON: \u241b"),
        ("[" * 20_000, "neither a number nor JSON"),
        ("1" * (MAX_BYTES + 1), "more than"),
    ],
)
async def test_what_is_no_answer_is_never_a_zero(text: str, why: str) -> None:
    assert why in await reason(printing(text))


async def test_a_command_that_fails_is_not_believed() -> None:
    assert "ended with status 1" in await reason(printing("42", status=1))
    assert "cannot be started" in await reason({"command": ["/nowhere/metric"]})


async def test_a_command_that_hangs_is_ended_with_all_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 30 & echo $! > {pid_file}; echo 42; exec sleep 30"
    start = time.monotonic()
    assert "no answer within 0.5 s" in await reason({"command": ["sh", "-c", script], "timeout_seconds": 0.5})
    assert time.monotonic() - start < 15
    for _ in range(20):
        if not alive(int(pid_file.read_text())):
            break
        await asyncio.sleep(0.05)
    assert not alive(int(pid_file.read_text()))


async def test_a_command_that_closes_its_output_and_hangs_is_a_hanging_one() -> None:
    script = "exec >&-; exec sleep 30"
    assert "no answer within 0.3 s" in await reason({"command": ["sh", "-c", script], "timeout_seconds": 0.3})


async def test_without_a_shell_and_with_the_targets_words(tmp_path: Path) -> None:
    code = (
        "import sys, json; print(json.dumps({'n': len(sys.argv), 'ok': sys.argv[1:] == ['; echo 1', 'orders', 'x{host}']}))"
    )
    source = metrics("orders", m={"command": [sys.executable, "-c", code, "; echo 1", "{target}", "x{host"]})
    assert await source.number("m.n", FACTS) == 4
    filled = metrics("{host}", m=printing("1") | {"command": ["sh", "-c", 'test "$0" = "{host}" && echo 7', "{target}"]})
    assert "status 1" in await _reason_of(filled)  # what was filled in is not looked at again


async def _reason_of(source: Metrics) -> str:
    with pytest.raises(MetricError) as caught:
        await source.number("m", FACTS)
    return caught.value.message


async def test_passwords_do_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPASSWORD", "DB_PASSWORD", "MINE", "OTHER"):
        monkeypatch.setenv(name, "canary")
    settings = validated(Settings, {"metrics": {"m": {"command": ["sh", "-c", "env | grep -c canary"]}}})
    assert await Metrics(settings, Target(password_env="MINE")).number("m", FACTS) == 1


async def test_an_answer_serves_for_a_while_and_a_failure_does_not(tmp_path: Path) -> None:
    counter = tmp_path / "n"
    counter.write_text("")
    script = f"echo x >> {counter}; wc -l < {counter}"
    source = metrics(m={"command": ["sh", "-c", script], "max_age_seconds": 0.4})
    assert await asyncio.gather(*(source.number("m", FACTS) for _ in range(5))) == [1] * 5
    await asyncio.sleep(0.5)
    assert await source.number("m", FACTS) == 2
    failing = metrics(m={"command": ["sh", "-c", f"{script}; exit 1"], "max_age_seconds": 60})
    for _ in range(2):
        await _reason_of(failing)
    assert len(counter.read_text().splitlines()) == 4


async def test_a_metric_that_is_not_configured() -> None:
    with pytest.raises(MetricError, match="no metric disk in the configuration"):
        await metrics().number("disk", FACTS)


@asynccontextmanager
async def hook(answer: bytes | Callable[[bytes], bytes], wait: float = 0) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.CancelledError):
                await converse(reader, writer)
        finally:
            writer.close()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(wait)
        writer.write(answer(request) if callable(answer) else answer)
        with suppress(ConnectionError):
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def ok(body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: " + str(len(body)).encode() + b"\r\n" + headers + b"\r\n" + body


async def test_a_hook_gives_numbers_too() -> None:
    seen: list[bytes] = []

    def answer(request: bytes) -> bytes:
        seen.append(request)
        return ok(b'{"free_bytes": 5}')

    async with hook(answer) as url:
        source = metrics("a b/c", m={"url": f"{url}/disk?t={{target}}"})
        assert await source.number("m.free_bytes", FACTS) == 5
    assert seen[0].startswith(b"GET /disk?t=a%20b%2Fc HTTP/1.1\r\n")
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n42\r\n0\r\n\r\n"
    async with hook(chunked) as url:
        assert await metrics(m={"url": url}).number("m", FACTS) == 42


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 500 Broken\r\n\r\n42", "answered 500"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n42", "answered 302"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "answered 204"),
        (ok(b""), "empty"),
        (ok(b"null"), "is null"),
        (ok(b"NaN"), "no finite number"),
        (ok(b"<html>"), "neither a number"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n42", "no HTTP"),  # cut off
        (b"", "no HTTP"),
        (b"42\r\n", "no HTTP"),
        (ok(b"1" * (MAX_BYTES + 20_000)), "sent more than"),
        (ok(b"1" * (MAX_BYTES + 1)), "longer than"),
    ],
)
async def test_every_other_answer_of_a_hook_is_none(answer: bytes, why: str) -> None:
    async with hook(answer) as url:
        assert why in await reason({"url": url})


async def test_a_hook_that_hangs_or_is_not_there() -> None:
    start = time.monotonic()
    async with hook(ok(b"42"), wait=30) as url:
        assert "no answer within 0.3 s" in await reason({"url": url, "timeout_seconds": 0.3})
    assert time.monotonic() - start < 15
    assert "cannot be reached" in await reason({"url": url})
    async with hook(ok(b"42")) as url:
        silent = {"url": url.replace("http:", "https:"), "timeout_seconds": 0.3}  # it speaks no TLS
        assert "no answer within 0.3 s" in await reason(silent)


def test_the_configuration_of_a_metric(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for text, why in (
        ("m: {}", "either a command or a url"),
        ("m: {command: [x], url: 'http://h/'}", "either a command or a url"),
        ("m: {url: 'ftp://h/'}", "begins with http"),
        ("m: {url: 'http://u:p@h/'}", "no user and no password"),
        ("m: {command: [x], timeout_seconds: 30}", "less than or equal to 5"),
        ("'a.b': {command: [x]}", "letters, digits"),
    ):
        path.write_text(f"metrics: {{{text}}}\n")
        with pytest.raises(ConfigError, match=why):
            load_settings(path, env={})


async def test_the_longest_answer_that_is_read() -> None:
    text = '{"a": 7}'.ljust(MAX_BYTES)
    assert await metrics(m=printing(text)).number("m.a", FACTS) == 7
    assert "more than" in await reason(printing(text + " "), "m.a")
    assert parse(text.encode()) == {"a": 7}
    with pytest.raises(MetricError, match="longer than"):
        parse(text.encode() + b" ")


def test_a_figure() -> None:
    assert figure(1, "x") == 1.0
    assert parse(b"1") == 1.0
