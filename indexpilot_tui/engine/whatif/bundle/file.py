"""The file of a bundle, version 1.

A text file of JSON lines, compressed with gzip (a reader takes it uncompressed as well).

* Line 1, the header: {"format": "indexpilot-bundle", "version": 1, "captured_at", "made_by", "database", "session_user",
  "server_version", "in_recovery", "redacted", "relations", "statements", "cost": {"statements", "ms", "bytes"},
  "lost": [...], "notes": [...]}.
* Then the answers: {"question": "whatif/columns", "fields": ["oid", "number", ...], "rows": [[16385, 1, ...], ...]}, at
  most 1,000 rows a line, as many lines as it takes. A question is the `.sql` file of that name in the room before the
  slash; its column names are the fields. Values are JSON's own; {"$b": "..."} is bytes in base64, {"$t": "..."} a time in
  ISO 8601. A question that a reader does not know is left alone.
* The last line: {"end": {"lines": n, "rows": n}}. A file without it was cut and is refused.

The version is raised when a field changes its meaning or goes away; new questions and fields do not raise it. Rows of
tables are never in it; statistics hold values of columns (most common values, histograms) unless `redacted`.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.bundle.model import FORMAT, VERSION, Bundle, Cost, Header, Row
from indexpilot_tui.engine.whatif.bundle.shape import check_answers
from indexpilot_tui.errors import UsageError

ROWS_A_LINE = 1_000
MAX_FILE_BYTES = 1_000_000_000
# of the lines together, and of one: so that a small file cannot fill the memory
MAX_TEXT_BYTES, MAX_LINE_BYTES = 2_000_000_000, 200_000_000
_MAGIC = b"\x1f\x8b"


def write_bundle(bundle: Bundle, path: Path) -> int:
    """Write atomically and readable by the owner alone (0600); returns the bytes written. Raises UsageError."""
    folder = path.parent
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
    except OSError as exc:
        raise _bad(path, f"cannot be written: {exc.strerror}", "choose a folder that can be written to") from None
    try:
        with os.fdopen(handle, "wb") as raw:
            # no name and no time in the compressed header: the same capture gives the same bytes
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0, compresslevel=6) as out:
                for line in _lines(bundle):
                    out.write(line)
            raw.flush()
            os.fsync(raw.fileno())
        size = os.stat(temporary).st_size
        os.replace(temporary, path)
    except OSError as exc:
        _forget(temporary)
        raise _bad(path, f"cannot be written: {exc.strerror}", "check free space and permissions") from None
    except BaseException:
        _forget(temporary)
        raise
    return size


def _forget(temporary: str) -> None:
    Path(temporary).unlink(missing_ok=True)


def _lines(bundle: Bundle) -> Iterator[bytes]:
    yield _line({"format": FORMAT, "version": VERSION} | asdict(bundle.header))
    lines = count = 0
    for question, rows in bundle.answers.items():
        fields = list(rows[0]) if rows else []
        for start in range(0, max(1, len(rows)), ROWS_A_LINE):
            part = rows[start : start + ROWS_A_LINE]
            yield _line({"question": question, "fields": fields, "rows": [[row[f] for f in fields] for row in part]})
            lines, count = lines + 1, count + len(part)
    yield _line({"end": {"lines": lines, "rows": count}})


def _line(data: dict[str, Any]) -> bytes:
    return (
        json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=_encode).encode("utf-8", "surrogatepass") + b"\n"
    )


def _encode(value: object) -> dict[str, str]:
    if isinstance(value, bytes | memoryview | bytearray):
        return {"$b": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, datetime):
        return {"$t": value.isoformat()}
    raise TypeError(f"a bundle cannot hold {type(value).__name__}")


def _decode(value: dict[str, Any]) -> Any:
    if len(value) == 1:
        if isinstance(found := value.get("$b"), str):
            return base64.b64decode(found, validate=True)
        if isinstance(found := value.get("$t"), str):
            return datetime.fromisoformat(found)
    return value


def _bad(path: Path, message: str, remedy: str) -> UsageError:
    return UsageError(message, field="bundle", value=clean_line(str(path), 300), remedy=remedy)


_AGAIN = "capture again: indexpilot capture TARGET -o FILE"


def read_bundle(path: Path) -> Bundle:
    """Read and check a file. Raises UsageError that says what is wrong with it: not there, not a bundle, of a newer
    version, cut short, damaged, or with values that do not fit their question."""
    path = Path(path)
    try:
        with path.open("rb") as raw:
            if os.fstat(raw.fileno()).st_size > MAX_FILE_BYTES:
                raise _bad(path, f"the file is larger than {MAX_FILE_BYTES // 1_000_000} MB", _AGAIN)
            packed = raw.read(2) == _MAGIC
            raw.seek(0)
            source = gzip.GzipFile(fileobj=raw) if packed else raw
            return _parse(path, iter(lambda: source.readline(MAX_LINE_BYTES), b""))
    except OSError as exc:  # gzip.BadGzipFile is one
        raise _bad(path, f"the file cannot be read: {exc.strerror or exc}", "check the path, and that it is whole") from None
    except EOFError:
        raise _bad(path, "the file was cut short", _AGAIN) from None
    except (zlib.error, ValueError, RecursionError, KeyError, TypeError) as exc:
        raise _bad(path, f"this is not a bundle, or it is damaged: {clean_line(str(exc), 200)}", _AGAIN) from None


def _parse(path: Path, lines: Iterator[bytes]) -> Bundle:
    total = 0

    def next_line() -> dict[str, Any] | None:
        nonlocal total
        raw = next(lines, b"")
        total += len(raw)
        if total > MAX_TEXT_BYTES or len(raw) >= MAX_LINE_BYTES:
            raise _bad(path, f"it holds more than {MAX_TEXT_BYTES // 1_000_000_000} GB of text, or too long a line", _AGAIN)
        if not raw:
            return None
        data = json.loads(raw, object_hook=_decode)
        if not isinstance(data, dict):
            raise ValueError("a line is not an object")
        return data

    first = next_line()
    if first is None or first.get("format") != FORMAT:
        raise _bad(path, "this is not a bundle", "give a file made by: indexpilot capture TARGET -o FILE")
    if not isinstance(first.get("version"), int) or not 1 <= first["version"] <= VERSION:
        found = clean_line(str(first.get("version")), 40)
        raise _bad(path, f"it is of format version {found}; this program reads version {VERSION}", "install a newer version")
    answers: dict[str, list[Row]] = {}
    count = rows = 0
    while (data := next_line()) is not None:
        if "end" in data:
            # reading on to the end of the file has the checksum of what was compressed compared
            if data["end"] != {"lines": count, "rows": rows} or next_line() is not None:
                raise _bad(path, "the file is not whole", _AGAIN)
            check_answers(answers)
            return Bundle(_header(first), answers, clean_line(path.name, 100))
        fields, part = data["fields"], data["rows"]
        if any(len(row) != len(fields) for row in part):
            raise ValueError(f"a row of {data['question']!r} has another length than its fields")
        answers.setdefault(str(data["question"]), []).extend(dict(zip(fields, row, strict=True)) for row in part)
        count, rows = count + 1, rows + len(part)
    raise _bad(path, "the file was cut short", _AGAIN)


def _header(data: dict[str, Any]) -> Header:
    version, cost = data["server_version"], data["cost"]
    if not isinstance(version, int) or not 130_000 <= version < 1_000_000:
        raise ValueError(f"server_version is {version!r}")
    if data["statements"] is not None and not isinstance(data["statements"], int):
        raise ValueError(f"statements is {data['statements']!r}")
    return Header(
        captured_at=datetime.fromisoformat(data["captured_at"]).isoformat(),
        made_by=str(data["made_by"]),
        database=str(data["database"]),
        session_user=str(data["session_user"]),
        server_version=version,
        in_recovery=bool(data["in_recovery"]),
        redacted=bool(data["redacted"]),
        relations=int(data["relations"]),
        statements=data["statements"],
        cost=Cost(int(cost["statements"]), float(cost["ms"]), int(cost["bytes"])),
        lost=tuple(clean_line(str(x)) for x in data["lost"]),
        notes=tuple(clean_line(str(x)) for x in data["notes"]),
    )
