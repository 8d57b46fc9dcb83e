"""Texts to dates and times by a ``format``, with the meaning of Python's ``datetime.strptime``, exactly.

A format made of ``%Y %m %d %H %M %S`` and separators gives every field a fixed place, so its bytes can be
moved into ISO order for a whole column and read by the ISO rules. Texts of another width, and other formats
(names, ``%f``, ``%z``), go through ``strptime``, once for each distinct text.

``epoch`` and ``epoch_ms`` are formats too (``epochs.py``). Of several formats the first decides that reads the
text; a later one may do so for a whole column only where it is sure that none before it does.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.errors import ConfigError
from etl.mapping.conversion import Refused, TextConversion, always_in_doubt, keep_where
from etl.mapping.epochs import EPOCHS, NOT_EPOCH, epoch_conversion, epoch_pattern
from etl.mapping.fixed_width import fixed_width_bytes, texts_of_bytes
from etl.mapping.local_times import LocalTimes
from etl.mapping.times import NO_SUCH_DAY, OUT_OF_YEARS, TIME_TYPES, time_conversion
from etl.records import Kind, Reason

NOT_IN_FORMAT = Refused(Reason.TYPE, "not in the format that the load gives for it")
NOT_IN_FORMATS = Refused(Reason.TYPE, "in none of the formats that the load gives for it")
HAS_TIME = Refused(Reason.TYPE, "a time of day, which a date cannot keep")
HAS_DATE = Refused(Reason.TYPE, "a date, which a time of day cannot keep")

_ISO = b"1970-01-01 00:00:00"
_PLACES = {
    "Y": range(4),
    "m": range(5, 7),
    "d": range(8, 10),
    "H": range(11, 13),
    "M": range(14, 16),
    "S": range(17, 19),
}
_TOKEN = re.compile(r"%(?P<field>.)|(?P<literal>.)", re.DOTALL)
_SEPARATORS = frozenset(" -/.,:;_T")
_FIELDS_OF = {
    Kind.DATE: frozenset("Ymd"),
    Kind.TIME: frozenset("HMS"),
    Kind.TIMESTAMP: frozenset("YmdHMS"),
    Kind.TIMESTAMPTZ: frozenset("YmdHMS"),
}


def format_conversion(kind: Kind, format_: str, local: LocalTimes | None = None) -> TextConversion:
    """Texts to DATE, TIME, TIMESTAMP or TIMESTAMPTZ by ``format_``; white space around it counts.

    A TIMESTAMPTZ without an offset is a time of ``local``, or of UTC. Raises ConfigError for a format that ``strptime``
    cannot use or that reads what the type cannot keep.
    """
    check_format(kind, format_)
    if format_ in EPOCHS:
        return epoch_conversion(kind, format_)
    layout = _layout_of(kind, format_)
    read = time_conversion(kind).fast if local is None else local.fast_texts
    fast = always_in_doubt(TIME_TYPES[kind]) if layout is None else partial(_fast_formatted, layout=layout, read=read)
    exact = partial(parse_formatted, kind=kind, format_=format_, local=local)
    return TextConversion(TIME_TYPES[kind], fast, exact, trims=False)


def formats_conversion(kind: Kind, formats: Sequence[str], local: LocalTimes | None = None) -> TextConversion:
    """The same by the first of several formats that reads the text as something that the type can keep."""
    conversions = [format_conversion(kind, format_, local) for format_ in formats]
    if len(conversions) == 1:
        return conversions[0]
    patterns = [_pattern_of_all(kind, format_) for format_ in formats]
    ways = tuple(zip([conversion.fast for conversion in conversions], patterns, strict=True))
    rules = tuple(conversion.exact for conversion in conversions)
    fast = partial(_fast_in_order, ways=ways, type_=TIME_TYPES[kind])
    return TextConversion(TIME_TYPES[kind], fast, partial(_parse_in_order, rules=rules), trims=False)


def check_format(kind: Kind, format_: str) -> None:
    """Raise ConfigError, without naming the column, if ``format_`` cannot serve for ``kind``."""
    if kind not in TIME_TYPES:
        raise ConfigError(f"a format is for dates and times, not for {kind.value}", "Leave the format out.")
    if format_ in EPOCHS:
        if kind is Kind.TIME:
            raise ConfigError(f"{format_} has a date, which a time of day cannot keep", "Correct the format.")
        return
    fields = set(re.findall("%(.)", format_.replace("%%", ""), re.DOTALL))
    if "Z" in fields:  # it reads any name of the machine's zone and keeps nothing of it
        raise ConfigError("%Z reads the name of a time zone and drops it", "Use %z, for an offset.")
    if "z" in fields and kind is not Kind.TIMESTAMPTZ:
        raise ConfigError(f"%z reads an offset, which {kind.value} cannot keep", "Leave %z out.")
    if not _reads_what_it_writes(format_):
        raise ConfigError("the format is none that Python's strptime can read", "Correct the format.")


def _reads_what_it_writes(format_: str) -> bool:
    try:
        dt.datetime.strptime(dt.datetime(2001, 10, 12, 13, 14, 15, tzinfo=dt.UTC).strftime(format_), format_)
    except (ValueError, re.error):  # re.error: a directive given twice, before Python 3.13
        return False
    return bool(re.search("%[^%]", format_))


# The fast way


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a format of fixed width puts the fields of ISO notation.

    What ``strptime`` reads beyond the fixed width, such as a day of one digit, matches ``wide_pattern`` at least.
    """

    pattern: str
    wide_pattern: str
    width: int
    moves: tuple[tuple[int, int], ...]  # from byte of the text, to byte of the ISO text
    iso: slice


def _layout_of(kind: Kind, format_: str) -> _Layout | None:
    pattern, wide, width, moves, fields = "", "", 0, [], []
    for token in _TOKEN.finditer(format_):
        places = _PLACES.get(token["field"] or "", range(0))
        if not places and token[0] not in _SEPARATORS:
            return None
        pattern += f"[0-9]{{{len(places)}}}" if places else re.escape(token[0])
        # Any digit of Unicode is one to strptime, and any white space stands for a space.
        wide += f".{{1,{len(places)}}}" if places else ".+" if token[0] == " " else re.escape(token[0])
        moves += [(width + offset, place) for offset, place in enumerate(places)]
        fields += [token["field"]] if places else []
        width += len(places) or 1
    needed = {"H"} if kind is Kind.TIME else {"Y", "m", "d"}
    if not needed <= set(fields) <= _FIELDS_OF[kind]:
        return None
    iso = {Kind.DATE: slice(0, 10), Kind.TIME: slice(11, 19)}.get(kind, slice(0, 19))
    return _Layout(rf"\A{pattern}\z", rf"(?is)\A{wide}\z", width, tuple(moves), iso)


def _fast_formatted(texts: pa.Array, layout: _Layout, read: Callable[[pa.Array], pa.Array]) -> pa.Array:
    matching = pc.fill_null(pc.match_substring_regex(texts, layout.pattern), False)
    values = read(_in_iso_order(texts.filter(matching), layout))
    if len(values) == len(texts):
        return values
    return pc.replace_with_mask(pa.nulls(len(texts), values.type), matching, values)


def _in_iso_order(texts: pa.Array, layout: _Layout) -> pa.Array:
    given = fixed_width_bytes(texts, layout.width)
    iso = np.tile(np.frombuffer(_ISO, np.uint8), (len(texts), 1))
    for source, target in layout.moves:
        iso[:, target] = given[:, source]
    return texts_of_bytes(iso[:, layout.iso])


def _pattern_of_all(kind: Kind, format_: str) -> str | None:
    """What every text matches (RE2) that the format reads; None where that is not known."""
    if format_ in EPOCHS:
        return epoch_pattern(format_)
    layout = _layout_of(kind, format_)
    return None if layout is None else layout.wide_pattern


def _fast_in_order(
    texts: pa.Array, ways: tuple[tuple[Callable[[pa.Array], pa.Array], str | None], ...], type_: pa.DataType
) -> pa.Array:
    values, left = pa.nulls(len(texts), type_), texts
    for fast, pattern in ways:
        values = pc.coalesce(values, fast(left))
        if pattern is None:
            break
        left = keep_where(left, pc.invert(pc.match_substring_regex(left, pattern)))
        if left.null_count == len(left):
            break
    return values


# The exact rule


def _parse_in_order(text: str, rules: tuple[Callable[[str], object], ...]) -> object:
    why = NOT_IN_FORMATS  # unless one of them reads the text, and not as something that can be kept
    for rule in rules:
        parsed = rule(text)
        if not isinstance(parsed, Refused):
            return parsed
        if why is NOT_IN_FORMATS and parsed not in (NOT_IN_FORMAT, NOT_EPOCH):
            why = parsed
    return why


def parse_formatted(
    text: str, kind: Kind, format_: str, local: LocalTimes | None = None
) -> dt.date | dt.time | Refused:
    """What ``strptime`` reads, if the type can keep all of it."""
    try:
        moment = dt.datetime.strptime(text, format_)
    except ValueError as error:
        return _reason_of(error)
    if kind is Kind.DATE:
        return moment.date() if moment.time() == dt.time() else HAS_TIME
    if kind is Kind.TIME:
        return moment.time() if moment.date() == dt.date(1900, 1, 1) else HAS_DATE
    if kind is Kind.TIMESTAMP:
        return moment
    return local.moment(moment) if local is not None and moment.tzinfo is None else _to_utc(moment)


def _reason_of(error: ValueError) -> Refused:
    # CPython has one exception for both; only these two texts say that the form is wrong. Taking one for the
    # other would cost the word, never the verdict.
    wrong_form = ("time data ", "unconverted data ")
    return NOT_IN_FORMAT if str(error).startswith(wrong_form) else NO_SUCH_DAY


def _to_utc(moment: dt.datetime) -> dt.datetime | Refused:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=dt.UTC)
    try:
        return moment.astimezone(dt.UTC)
    except OverflowError:
        return OUT_OF_YEARS
