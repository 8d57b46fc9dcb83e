"""Texts that stay texts, or nearly: TEXT, CHAR, ENUM, UUID, JSON, BYTES, OTHER."""

from __future__ import annotations

import binascii
import json
import re
import uuid
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.mapping.column_bytes import ColumnBytes
from etl.mapping.conversion import Converted, Refused, TextConversion, always_in_doubt, keep_where
from etl.mapping.fixed_width import Bytes, fixed_width_bytes, texts_of_bytes
from etl.records import Reason

HAS_NUL = Refused(Reason.ENCODING, "a NUL character, which no text can hold")
NOT_UTF8 = Refused(Reason.ENCODING, "bytes that are not valid UTF-8")
NO_LABEL = Refused(Reason.TYPE, "none of the labels of this enumeration")
NOT_UUID = Refused(Reason.TYPE, "not a UUID: 32 hexadecimal digits are expected, with hyphens or without")
NOT_JSON = Refused(Reason.TYPE, "not valid JSON (RFC 8259)")
JSON_TOO_DEEP = Refused(Reason.TYPE, "JSON that is nested too deep")
JSON_SURROGATE = Refused(Reason.TYPE, "JSON with an escape that is no character: \\u0000 or half of a surrogate pair")
NOT_HEX = Refused(Reason.TYPE, "not bytes: pairs of hexadecimal digits are expected behind \\x")
NOT_ESCAPED = Refused(Reason.TYPE, "not bytes: a backslash is written \\\\, another byte \\ooo with three octal digits")


# Is it text at all?


def sound_texts(texts: pa.Array) -> Converted:
    """Texts that can be stored: a text with a NUL or with invalid UTF-8 is refused.

    Parquet files do hold such texts; on the way to Python they would raise, and end the run instead of the
    record.
    """
    if _is_sound(texts):
        return Converted(texts)
    refused = {
        place: why
        for place, cell in enumerate(texts.cast(pa.binary()).to_pylist())
        if cell is not None and (why := _fault_of(cell))
    }
    bad = np.zeros(len(texts), bool)
    bad[list(refused)] = True
    return Converted(keep_where(texts, pa.array(~bad)) if refused else texts, refused)


def _is_sound(texts: pa.Array) -> bool:
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return False
    data = ColumnBytes.of(texts).data
    return not data.size or int(data.min()) > 0


def _fault_of(cell: bytes) -> Refused | None:
    try:
        cell.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    return HAS_NUL if b"\0" in cell else None


# TEXT, CHAR, ENUM, OTHER


def text_conversion(length: int | None) -> TextConversion:
    """Texts as they are; more than ``length`` characters (code points) are refused, trailing spaces included.

    PostgreSQL cuts surplus trailing spaces off without a word, which would alter a value.
    """
    if length is None:
        return TextConversion(pa.string(), _unchanged, lambda text: text, trims=False)
    too_long = Refused(Reason.TOO_LONG, f"longer than {length} character{'s' * (length != 1)}")
    return TextConversion(pa.string(), partial(_short_texts, length=length), lambda _: too_long, trims=False)


def _unchanged(texts: pa.Array) -> pa.Array:
    return texts


def _short_texts(texts: pa.Array, length: int) -> pa.Array:
    if ColumnBytes.of(texts).longest <= length:  # a character has one byte at least
        return texts
    return keep_where(texts, pc.less_equal(pc.utf8_length(texts), length))


def enum_conversion(labels: tuple[str, ...]) -> TextConversion:
    """Texts that are one of the labels, to the letter."""
    known = pa.array(labels, pa.string())
    fast = partial(_labels, known=known)
    return TextConversion(pa.string(), fast, lambda _: NO_LABEL, trims=False)


def _labels(texts: pa.Array, known: pa.Array) -> pa.Array:
    return keep_where(texts, pc.and_(texts.is_valid(), pc.is_in(texts, value_set=known)))


# UUID

_CANONICAL = r"\A[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\z"
_UUID = re.compile(r"(\{)?((?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4})(?(1)\})")
_GROUPS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))  # of the 32 digits; a hyphen between each two


def uuid_conversion() -> TextConversion:
    """Texts to canonical UUID text: any case, braces, hyphens after any four digits or none (``uuid.c``)."""
    return TextConversion(pa.string(), _fast_uuids, parse_uuid)


def _fast_uuids(texts: pa.Array) -> pa.Array:
    canonical = pc.match_substring_regex(texts, _CANONICAL)
    if canonical.true_count == len(texts) - texts.null_count:
        return texts
    # Upper case is still canonical in form; bare digits get their hyphens.
    lower = pc.ascii_lower(texts)
    hyphened = keep_where(lower, pc.match_substring_regex(lower, _CANONICAL))
    bare = pc.fill_null(pc.match_substring_regex(lower, r"\A[0-9a-f]{32}\z"), False)
    digits = fixed_width_bytes(lower.filter(bare), 32)
    return pc.replace_with_mask(hyphened, bare, _with_hyphens(digits))


def _with_hyphens(digits: Bytes) -> pa.Array:
    rows = np.full((len(digits), 36), ord("-"), np.uint8)
    for hyphens, (start, end) in enumerate(_GROUPS):
        rows[:, start + hyphens : end + hyphens] = digits[:, start:end]
    return texts_of_bytes(rows)


def uuids_of_bytes(cells: pa.Array) -> Converted:
    """UUID texts of a ``fixed_size_binary(16)`` column, which is how Parquet stores UUIDs."""
    nibbles = np.frombuffer(b"0123456789abcdef", np.uint8)
    data = np.frombuffer(cells.buffers()[1], np.uint8, len(cells) * 16, cells.offset * 16)
    digits = nibbles[np.stack([data >> 4, data & 15], axis=1)].reshape(-1, 32)
    return Converted(keep_where(_with_hyphens(digits), cells.is_valid()))


def parse_uuid(text: str) -> str | Refused:
    """The exact rule for one text."""
    match = _UUID.fullmatch(text)
    return str(uuid.UUID(match[2].replace("-", ""))) if match else NOT_UUID


# JSON

_HIGH, _LOW = "[dD][89abAB][0-9a-fA-F]{2}", "[dD][c-fC-F][0-9a-fA-F]{2}"
# A pair first, so that what is left of surrogates is alone; then any other escape, so that \\u is never taken
# apart.
_ESCAPE = re.compile(rf"\\u{_HIGH}\\u{_LOW}|\\u(?P<half>[dD][89a-fA-F][0-9a-fA-F]{{2}}|0000)|\\.")


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # Python takes NaN and Infinity, RFC 8259 does not


# Numbers stay texts: int() refuses more than 4,300 digits, and nothing is computed here.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant)


def json_conversion() -> TextConversion:
    """Texts that are valid JSON by RFC 8259, kept to the byte; no escaped NUL, no half surrogate pair."""
    return TextConversion(pa.string(), always_in_doubt(pa.string()), parse_json, trims=False)


def parse_json(text: str) -> str | Refused:
    """The exact rule for one text. Numbers may be of any size, keys may be given twice."""
    try:
        _DECODER.decode(text)
    except ValueError:
        return NOT_JSON
    except RecursionError:
        return JSON_TOO_DEEP
    if "\\u" in text and any(escape["half"] for escape in _ESCAPE.finditer(text)):
        return JSON_SURROGATE
    return text


# BYTES

_ESCAPED = re.compile(rb"\\(?:(\\)|([0-3][0-7]{2}))|[^\\]+")
_HEX_PAIRS = re.compile(r"(?:[0-9a-fA-F]{2}|[ \n\t\r])*")


def bytes_conversion() -> TextConversion:
    r"""Texts to bytes by PostgreSQL's bytea input: ``\x`` and hexadecimal digits, else the escape form."""
    return TextConversion(pa.binary(), _fast_bytes, parse_bytes, trims=False)


def _fast_bytes(texts: pa.Array) -> pa.Array:
    plain = pc.invert(pc.match_substring(texts, "\\"))
    return keep_where(texts, plain).cast(pa.binary())


def parse_bytes(text: str) -> bytes | Refused:
    """The exact rule for one text (``varlena.c``, byteain; ``encode.c``, hex_decode)."""
    if text.startswith("\\x"):
        return binascii.unhexlify(re.sub(r"\s", "", text[2:])) if _HEX_PAIRS.fullmatch(text, 2) else NOT_HEX
    data, end = bytearray(), 0
    for part in _ESCAPED.finditer(text.encode()):
        if part.start() != end:
            return NOT_ESCAPED
        end = part.end()
        data += part[1] or (bytes([int(part[2], 8)]) if part[2] else part[0])
    return bytes(data) if end == len(text.encode()) else NOT_ESCAPED
