"""Local times of a zone to moments: exactly what Python's ``zoneinfo`` says, a column at a time.

A day on which the zone's clock is not set has one offset from UTC, which is looked up once for each distinct day.
The times of other days are decided one by one, once for each distinct time. A time that the clock skips when it is
set forward, or shows twice when it is set back, names no moment, and is refused: which one was meant is not written.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.mapping.conversion import Converted, Refused, TextConversion, keep_where, places
from etl.mapping.times import (
    FIRST_MOMENT,
    HAS_OFFSET,
    LAST_MOMENT,
    NOT_TIMESTAMP,
    NOT_TIMESTAMPTZ,
    OUT_OF_YEARS,
    TIME_TYPES,
    fast_timestamps,
    fast_timestamptzs,
    parse_timestamp,
    parse_timestamptz,
)
from etl.records import Kind, Reason

_MOMENTS = TIME_TYPES[Kind.TIMESTAMPTZ]
_EPOCH = dt.datetime(1970, 1, 1)
_MICROSECOND = dt.timedelta(microseconds=1)
_DAY = 24 * 3600 * 10**6  # microseconds
_NOT_ONE = np.iinfo(
    np.int64
).min  # in place of the offset of a day that has several, or is the calendar's first or last
_FIRST, _LAST = ((moment - _EPOCH) // _MICROSECOND for moment in (FIRST_MOMENT, LAST_MOMENT))


class LocalTimes:
    """The clock of one zone. ``name`` is an IANA name that is known."""

    def __init__(self, name: str) -> None:
        from zoneinfo import ZoneInfo  # on demand: few loads name a zone

        self._zone = ZoneInfo(name)
        self._offsets: dict[int, int] = {}
        self._skipped = Refused(Reason.RANGE, f"no such time: the clock of {name} is set forward over it")
        self._doubled = Refused(Reason.RANGE, f"two moments: the clock of {name} is set back and shows it twice")

    def fast_moments(self, times: pa.Array) -> pa.Array:
        """The moments of a ``timestamp[us]`` column in UTC, NULL where the day has more than one offset."""
        ticks = pc.fill_null(times.view(pa.int64()), 0).to_numpy(zero_copy_only=False)
        days, day_of = np.unique(ticks // _DAY, return_inverse=True)
        offsets = np.array([self._offset_of_day(int(day)) for day in days], np.int64)[day_of]
        moments = ticks - np.where(offsets == _NOT_ONE, 0, offsets)
        is_sure = (offsets != _NOT_ONE) & (moments >= _FIRST) & (moments <= _LAST)
        return keep_where(pa.array(moments), pc.and_(times.is_valid(), pa.array(is_sure))).view(_MOMENTS)

    def moment(self, time: dt.datetime) -> dt.datetime | Refused:
        """The exact rule for one time."""
        early, late = (time.replace(tzinfo=self._zone, fold=fold).utcoffset() or dt.timedelta() for fold in (0, 1))
        if early != late:
            return self._doubled if early > late else self._skipped
        try:
            return (time - early).replace(tzinfo=dt.UTC)
        except OverflowError:
            return OUT_OF_YEARS

    def moments(self, times: pa.Array) -> Converted:
        """A ``timestamp[us]`` column as moments in UTC."""
        moments = self.fast_moments(times)
        if moments.null_count == times.null_count:
            return Converted(moments)
        doubtful = pc.and_(moments.is_null(), times.is_valid())
        decided = [self.moment(time) for time in times.filter(doubtful).to_pylist()]
        values = pa.array([None if isinstance(moment, Refused) else moment for moment in decided], _MOMENTS)
        refused = {
            place: moment
            for place, moment in zip(places(doubtful), decided, strict=True)
            if isinstance(moment, Refused)
        }
        return Converted(pc.replace_with_mask(moments, doubtful, values), refused)

    def _offset_of_day(self, day: int) -> int:
        if day not in self._offsets:
            self._offsets[day] = self._looked_up(day)
        return self._offsets[day]

    def _looked_up(self, day: int) -> int:
        try:
            hours = [_EPOCH + dt.timedelta(days=day, hours=hour) for hour in range(25)]
        except OverflowError:
            return _NOT_ONE
        offsets = {time.replace(tzinfo=self._zone, fold=fold).utcoffset() for time in hours for fold in (0, 1)}
        return (offsets.pop() or dt.timedelta()) // _MICROSECOND if len(offsets) == 1 else _NOT_ONE

    # Texts in ISO notation

    def conversion(self) -> TextConversion:
        """The rule of TIMESTAMPTZ, but that a text without an offset is a time of this zone."""
        return TextConversion(_MOMENTS, self.fast_texts, self.parse)

    def fast_texts(self, texts: pa.Array) -> pa.Array:
        """The fast conversion of ``conversion``."""
        times = fast_timestamps(texts)
        moments = self.fast_moments(times)
        if times.null_count == texts.null_count:
            return moments
        with_offset = keep_where(fast_timestamptzs(texts), times.is_null())
        return pc.coalesce(moments, with_offset)

    def parse(self, text: str) -> dt.datetime | Refused:
        """The exact rule for one text."""
        time = parse_timestamp(text)
        if time is HAS_OFFSET:
            return parse_timestamptz(text)
        if isinstance(time, Refused):
            return NOT_TIMESTAMPTZ if time is NOT_TIMESTAMP else time
        return self.moment(time)
