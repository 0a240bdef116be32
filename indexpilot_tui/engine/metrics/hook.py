"""A metric from an HTTP hook: one GET, a time limit for all of it, a bounded answer. No redirect and no proxy is followed:
a figure that decides about production comes from the place that was configured."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import ssl
from urllib.parse import urlsplit

from indexpilot_tui.engine.metrics.answer import MAX_BYTES, MetricError
from indexpilot_tui.engine.postgres.text import clean_line

_HEADERS = 16_384  # bytes that status line and headers may add to the answer


class _Reply:
    """What http.client reads a response from."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


async def get(url: str, seconds: float) -> bytes:
    """The body of a 200 answer. Raises MetricError for any other, or none within `seconds`. The certificate of an https hook
    is verified against the system's authorities."""
    try:
        async with asyncio.timeout(seconds):
            raw = await _exchange(url)
    except TimeoutError:
        raise MetricError(f"the hook gave no answer within {seconds:g} s") from None
    except ssl.SSLCertVerificationError as exc:
        raise MetricError(f"the certificate of the hook is not trusted ({exc.verify_message})") from None
    except (OSError, ValueError) as exc:
        raise MetricError(f"the hook cannot be reached ({clean_line(str(exc), 120)})") from None
    return _body(raw)


async def _exchange(url: str) -> bytes:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(host, port, ssl=ssl.create_default_context() if secure else None)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: application/json, text/plain\r\n"
            "User-Agent: indexpilot\r\nConnection: close\r\n\r\n"
        )
        writer.write(request.encode("ascii"))
        await writer.drain()
        raw, most = b"", MAX_BYTES + _HEADERS
        while part := await reader.read(most + 1 - len(raw)):
            raw += part
            if len(raw) > most:
                raise MetricError(f"the hook sent more than {MAX_BYTES} bytes")
        return raw
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(0.5):
                await writer.wait_closed()


def _body(raw: bytes) -> bytes:
    response = http.client.HTTPResponse(_Reply(raw))  # type: ignore[arg-type]
    try:
        response.begin()
        if response.status != 200:
            raise MetricError(f"the hook answered {response.status} {clean_line(response.reason or '', 60)}")
        return response.read()
    except (http.client.HTTPException, ValueError) as exc:
        raise MetricError(f"the hook's answer is no HTTP ({clean_line(str(exc) or type(exc).__name__, 80)})") from None
    finally:
        response.close()
