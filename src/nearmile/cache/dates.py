"""HTTP dates (RFC 9110 section 5.6.7), read strictly and written.

Three forms are read: IMF-fixdate, the obsolete RFC 850 form and asctime's. Letters may have either case, and the
weekday need not fit the date, as in every cache that passes the public tests; anything else is no date.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

from nearmile.cache.remembered import remembered

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# An edge sees the same few dates (now, and its objects' Last-Modified) again and again.
MEMO_SIZE = 1024

_MONTH_NUMBER = {name.lower().encode(): number for number, name in enumerate(MONTHS, 1)}
_DAY = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY = rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_MONTH = b"(?P<month>" + b"|".join(_MONTH_NUMBER) + b")"
_TIME = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_IMF_FIXDATE = re.compile(
    _DAY + rb", (?P<day>[0-9]{2}) " + _MONTH + rb" (?P<year>[0-9]{4}) " + _TIME + rb" GMT", re.I
)
_RFC_850 = re.compile(
    _LONG_DAY + rb", (?P<day>[0-9]{2})-" + _MONTH + rb"-(?P<year>[0-9]{2}) " + _TIME + rb" GMT", re.I
)
_ASCTIME = re.compile(_DAY + b" " + _MONTH + rb" (?P<day>[ 0-9][0-9]) " + _TIME + rb" (?P<year>[0-9]{4})", re.I)


def parse_date(value: bytes, now_s: float) -> int | None:
    """Seconds since 1970, or None if it is no HTTP date.

    ``now_s`` places the two-digit years of RFC 850: never more than 50 years ahead (RFC 9110 section 5.6.7).
    """
    found = _parse(value)
    if found is None or isinstance(found, int):
        return found
    year, *rest = found
    this_year = datetime.fromtimestamp(now_s, UTC).year
    year += this_year - this_year % 100
    return _seconds(year - 100 if year > this_year + 50 else year, *rest)


@lru_cache(MEMO_SIZE)
def format_date(seconds: int) -> bytes:
    """The IMF-fixdate of a time between 1970 and 9999."""
    at = datetime.fromtimestamp(seconds, UTC)
    day, month = WEEKDAYS[at.weekday()], MONTHS[at.month - 1]
    return f"{day}, {at.day:02} {month} {at.year:04} {at.hour:02}:{at.minute:02}:{at.second:02} GMT".encode()


@remembered(MEMO_SIZE)
def _parse(value: bytes) -> int | tuple[int, int, int, int, int, int] | None:
    """Seconds since 1970, or the parts of a date whose century is not said."""
    for form in (_IMF_FIXDATE, _RFC_850, _ASCTIME):
        if found := form.fullmatch(value):
            year, day, hour, minute, second = map(int, found.group("year", "day", "hour", "minute", "second"))
            parts = year, _MONTH_NUMBER[found["month"].lower()], day, hour, minute, second
            return parts if form is _RFC_850 else _seconds(*parts)
    return None


def _seconds(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    leap = second == 60
    try:
        at = datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC)
    except ValueError:
        return None
    return int(at.timestamp()) + leap
