"""A moment as an operator types it, in UTC as on the screen: `14:02`, `14:02:30`, `-5` (minutes ago), nothing for now."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

LONGEST = timedelta(hours=1)  # so far back the statements are remembered


def moment(text: str, now: datetime) -> tuple[datetime | None, str]:
    """The moment (None: now), and what is wrong with the text."""
    text = text.strip()
    if not text:
        return None, ""
    if back := re.fullmatch(r"-\s*(\d{1,3})\s*m?(?:in)?", text):
        at = now - timedelta(minutes=int(back[1]))
    elif clock := re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?", text):
        hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        at = now.replace(hour=hours, minute=minutes, second=seconds, microsecond=0)
        if at > now:
            at -= timedelta(days=1)
    else:
        return None, f"{text!r} is no time: 14:02, 14:02:30 or -5 for five minutes ago"
    if now - at > LONGEST:
        return None, f"{text} is more than an hour ago: no more is remembered"
    return at, ""
