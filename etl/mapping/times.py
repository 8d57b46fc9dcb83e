"""Texts to dates and times: ISO 8601 as PostgreSQL reads it, restricted to what has one meaning.

Years are 1 to 9999. Hour 24 and second 60, which PostgreSQL turns into another day or minute, are refused, as
is an offset in a TIMESTAMP without time zone, which PostgreSQL drops without a word. More than 6 digits of a
second are rounded as PostgreSQL rounds them. A TIMESTAMPTZ without an offset is UTC, whatever the session's
time zone.
"""

from __future__ import annotations

import datetime as dt
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.mapping.column_bytes import ColumnBytes
from etl.mapping.conversion import Refused, TextConversion, cast_or_none, keep_matching, keep_within
from etl.records import Kind, Reason

TIME_TYPES = {
    Kind.DATE: pa.date32(),
    Kind.TIME: pa.time64("us"),
    Kind.TIMESTAMP: pa.timestamp("us"),
    Kind.TIMESTAMPTZ: pa.timestamp("us", "UTC"),
}

NO_SUCH_DAY = Refused(Reason.RANGE, "no such day: the calendar has years 1 to 9999 and not this day or month")
NO_SUCH_TIME = Refused(Reason.RANGE, "no such time of day: 00:00:00 to 23:59:59.999999")
OUT_OF_YEARS = Refused(Reason.RANGE, "outside the years 1 to 9999")
NO_SUCH_OFFSET = Refused(Reason.RANGE, "no such offset from UTC: at most 15:59")
NOT_DATE = Refused(Reason.TYPE, "not a date: YYYY-MM-DD is expected")
NOT_TIME = Refused(Reason.TYPE, "not a time of day: HH:MM or HH:MM:SS is expected")
NOT_TIMESTAMP = Refused(Reason.TYPE, "not a timestamp: YYYY-MM-DD HH:MM:SS is expected")
NOT_TIMESTAMPTZ = Refused(Reason.TYPE, "not a timestamp: YYYY-MM-DD HH:MM:SS is expected, with an offset or without")
HAS_OFFSET = Refused(Reason.TYPE, "an offset from UTC, which a timestamp without time zone cannot keep")

_WIDTH_WITH_SECONDS = len("YYYY-MM-DD HH:MM:SS")
_OFFSET_SIZES = (len("+HH"), len("+HHMM"), len("+HH:MM"))

FIRST_DAY, LAST_DAY = dt.date.min, dt.date.max
FIRST_MOMENT, LAST_MOMENT = dt.datetime.min, dt.datetime.max

_DATE = r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?)?"
_OFFSET = r"(?P<offset>Z|(?P<sign>[+-])(?P<off_hour>[0-9]{2})(?::?(?P<off_minute>[0-9]{2}))?)"
_DATE_ONLY = re.compile(_DATE)
_TIME_ONLY = re.compile(_TIME)
_MOMENT = re.compile(rf"{_DATE}(?:[ T]{_TIME}{_OFFSET}?)?")

# What surely is a day or a time. 29 February is left to the exact parser: one row in 1,461.
_SURE_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_SURE_DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_SURE_DATE = f"{_SURE_YEAR}-{_SURE_DAY}"
_SURE_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?"
_SURE_OFFSET = "(?:Z|[+-](?:0[0-9]|1[0-5])(?::?[0-5][0-9])?)"


def time_conversion(kind: Kind) -> TextConversion:
    """Texts to DATE, TIME, TIMESTAMP or TIMESTAMPTZ by the rules of this module."""
    return _CONVERSIONS[kind]


def fraction_to_microseconds(digits: str) -> int:
    """Digits behind the point of a second as microseconds, 0 to 1,000,000, as PostgreSQL rounds them.

    PostgreSQL 15, ``datetime.c``, ParseFractionalSecond: ``rint(strtod(".digits") * 1000000)``, half to even
    on floats.
    """
    return round(float(f"0.{digits}") * 1_000_000)


# The fast ways


def _fast_dates(texts: pa.Array) -> pa.Array:
    # Of these bytes Arrow reads YYYY-MM-DD only, a day of the calendar, but from the year 0 on.
    if ColumnBytes.of(texts).all_within("-", "9") and (days := cast_or_none(texts, pa.date32())) is not None:
        return keep_within(days, FIRST_DAY, LAST_DAY)
    return keep_matching(texts, _SURE_DATE).cast(pa.date32())


def _fast_times(texts: pa.Array) -> pa.Array:
    # Arrow casts texts to timestamps, not to times: any day will do.
    moments = pc.binary_join_element_wise("1970-01-01", keep_matching(texts, _SURE_TIME), " ")
    return moments.cast(pa.timestamp("us")).cast(pa.time64("us"))


def fast_timestamps(texts: pa.Array) -> pa.Array:
    type_ = TIME_TYPES[Kind.TIMESTAMP]
    if _has_colons(ColumnBytes.of(texts)) and (moments := cast_or_none(texts, type_)) is not None:
        return keep_within(moments, FIRST_MOMENT, LAST_MOMENT)
    return keep_matching(texts, f"{_SURE_DATE}(?:[ T]{_SURE_TIME})?").cast(type_)


def _has_colons(column: ColumnBytes) -> bool:
    """Whether the texts have one width, and colons where ``YYYY-MM-DD HH:MM:SS`` has them.

    Of such texts Arrow reads what the rule reads, and the year 0; it also takes an hour without minutes, and the
    digits of a time without colons. For a type without a zone it takes no offset, for one with a zone none without.
    """
    width = column.width or 0
    return width >= _WIDTH_WITH_SECONDS and column.all_are(13, ":") and column.all_are(16, ":")


def _has_small_offsets(column: ColumnBytes) -> bool:
    """Whether texts that ``_has_colons`` is true of and Arrow takes have offsets below 16 hours, all of one form."""
    width = column.width or 0
    if column.all_are(width - 1, "Z"):
        return True
    signs = [width - size for size in _OFFSET_SIZES if width - size >= _WIDTH_WITH_SECONDS]
    return any(_are_signs(column.at(place)) and _are_small_hours(column, place + 1) for place in signs)


def _are_signs(characters: NDArray[np.uint8]) -> bool:
    return bool(((characters == ord("+")) | (characters == ord("-"))).all())


def _are_small_hours(column: ColumnBytes, place: int) -> bool:
    tens, ones = column.at(place), column.at(place + 1)
    return bool(((tens == ord("0")) | ((tens == ord("1")) & (ones <= ord("5")))).all())


def fast_timestamptzs(texts: pa.Array) -> pa.Array:
    type_ = TIME_TYPES[Kind.TIMESTAMPTZ]
    aware = _aware_of_one_form(texts)
    if aware is None:
        aware = keep_matching(texts, f"{_SURE_DATE}[ T]{_SURE_TIME}{_SURE_OFFSET}").cast(type_)
    if aware.null_count > texts.null_count:
        aware = pc.coalesce(aware, fast_timestamps(texts).cast(type_))
    utc = dt.UTC  # an offset may lead out of the calendar
    return keep_within(aware, FIRST_MOMENT.replace(tzinfo=utc), LAST_MOMENT.replace(tzinfo=utc))


def _aware_of_one_form(texts: pa.Array) -> pa.Array | None:
    column = ColumnBytes.of(texts)
    if not _has_colons(column) or not _has_small_offsets(column):
        return None
    return cast_or_none(texts, TIME_TYPES[Kind.TIMESTAMPTZ])


# The exact rules


def parse_date(text: str) -> dt.date | Refused:
    """``YYYY-MM-DD``, a day of the calendar."""
    match = _DATE_ONLY.fullmatch(text)
    return NOT_DATE if match is None else _date_of(match)


def parse_time(text: str) -> dt.time | Refused:
    """``HH:MM[:SS[.f…]]``, before 24:00 also after rounding."""
    match = _TIME_ONLY.fullmatch(text)
    if match is None:
        return NOT_TIME
    since_midnight = _time_of_day(match)
    if isinstance(since_midnight, Refused) or since_midnight >= dt.timedelta(days=1):
        return NO_SUCH_TIME
    return (dt.datetime.min + since_midnight).time()


def parse_timestamp(text: str) -> dt.datetime | Refused:
    """A date, or a date and a time separated by one space or T; no offset."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return NOT_TIMESTAMP
    return HAS_OFFSET if match["offset"] else _moment_of(match)


def parse_timestamptz(text: str) -> dt.datetime | Refused:
    """As ``parse_timestamp``, with the offset ``Z``, ``+HH``, ``+HHMM`` or ``+HH:MM``, or without: UTC."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return NOT_TIMESTAMPTZ
    moment, offset = _moment_of(match), _offset_of(match)
    if isinstance(moment, Refused) or isinstance(offset, Refused):
        return moment if isinstance(moment, Refused) else NO_SUCH_OFFSET
    try:
        return (moment - offset).replace(tzinfo=dt.UTC)
    except OverflowError:
        return OUT_OF_YEARS


def _date_of(match: re.Match[str]) -> dt.date | Refused:
    try:
        return dt.date(int(match["year"]), int(match["month"]), int(match["day"]))
    except ValueError:
        return NO_SUCH_DAY


def _time_of_day(match: re.Match[str]) -> dt.timedelta | Refused:
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"] or 0)
    if hour > 23 or minute > 59 or second > 59:
        return NO_SUCH_TIME
    microseconds = fraction_to_microseconds(match["fraction"] or "0")
    return dt.timedelta(hours=hour, minutes=minute, seconds=second, microseconds=microseconds)


def _moment_of(match: re.Match[str]) -> dt.datetime | Refused:
    date = _date_of(match)
    if isinstance(date, Refused):
        return date
    time = _time_of_day(match) if match["hour"] else dt.timedelta()
    if isinstance(time, Refused):
        return time
    try:
        return dt.datetime.combine(date, dt.time()) + time
    except OverflowError:
        return OUT_OF_YEARS


def _offset_of(match: re.Match[str]) -> dt.timedelta | Refused:
    if not match["sign"]:
        return dt.timedelta()
    hours, minutes = int(match["off_hour"]), int(match["off_minute"] or 0)
    if hours > 15 or minutes > 59:  # PostgreSQL's MAX_TZDISP_HOUR
        return NO_SUCH_OFFSET
    offset = dt.timedelta(hours=hours, minutes=minutes)
    return -offset if match["sign"] == "-" else offset


_CONVERSIONS = {
    Kind.DATE: TextConversion(TIME_TYPES[Kind.DATE], _fast_dates, parse_date),
    Kind.TIME: TextConversion(TIME_TYPES[Kind.TIME], _fast_times, parse_time),
    Kind.TIMESTAMP: TextConversion(TIME_TYPES[Kind.TIMESTAMP], fast_timestamps, parse_timestamp),
    Kind.TIMESTAMPTZ: TextConversion(TIME_TYPES[Kind.TIMESTAMPTZ], fast_timestamptzs, parse_timestamptz),
}
