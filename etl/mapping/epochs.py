"""Numbers of seconds or milliseconds since 1970 in UTC, as texts, to dates and moments.

A number may have a sign, a fraction and an exponent. More than six decimals of a second are rounded, half to even.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from etl.mapping.conversion import Refused, TextConversion, keep_matching, keep_where, keep_within
from etl.mapping.times import FIRST_MOMENT, LAST_MOMENT, OUT_OF_YEARS, TIME_TYPES
from etl.records import Kind, Reason

EPOCHS = {"epoch": 10**6, "epoch_ms": 10**3}  # microseconds in one of the number
NOT_EPOCH = Refused(Reason.TYPE, "not in the format that the load gives for it: a number since 1970 is expected")
HAS_TIME = Refused(Reason.TYPE, "a time of day, which a date cannot keep")

_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_SURE = "-?[0-9]{1,15}"
_EPOCH = dt.datetime(1970, 1, 1)
_MOST = 10**18  # microseconds, more than the calendar has


def epoch_conversion(kind: Kind, unit: str) -> TextConversion:
    """Texts to DATE, TIMESTAMP or TIMESTAMPTZ; a DATE takes midnights in UTC."""
    factor = EPOCHS[unit]
    fast = partial(_fast_epochs, kind=kind, factor=factor)
    return TextConversion(TIME_TYPES[kind], fast, partial(parse_epoch, kind=kind, factor=factor), trims=False)


def epoch_pattern(unit: str) -> str:
    """What every text matches (RE2) that ``unit`` reads."""
    return rf"\A{_NUMBER}\z"


def _fast_epochs(texts: pa.Array, kind: Kind, factor: int) -> pa.Array:
    most = _MOST // factor
    numbers = keep_within(keep_matching(texts, _SURE).cast(pa.int64()), -most, most)
    moments = pc.multiply(numbers, factor).view(pa.timestamp("us"))
    inside = keep_within(moments, FIRST_MOMENT, LAST_MOMENT)
    if kind is not Kind.DATE:
        return inside.view(TIME_TYPES[kind])
    days = inside.cast(pa.date32(), safe=False)
    return keep_where(days, pc.equal(days.cast(inside.type), inside))


def parse_epoch(text: str, kind: Kind, factor: int) -> dt.date | Refused:
    """The exact rule for one text."""
    if not re.fullmatch(_NUMBER, text):
        return NOT_EPOCH
    ticks = Decimal(text) * factor
    if abs(ticks) > _MOST:
        return OUT_OF_YEARS
    try:
        moment = _EPOCH + dt.timedelta(microseconds=round(ticks))
    except OverflowError:
        return OUT_OF_YEARS
    if kind is Kind.DATE:
        return moment.date() if moment.time() == dt.time() else HAS_TIME
    return moment if kind is Kind.TIMESTAMP else moment.replace(tzinfo=dt.UTC)
