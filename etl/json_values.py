"""JSON objects and lists parted into the texts of their values, which are not read: nothing of a number is lost.

msgspec checks the syntax of all of a text and parts it in one go.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, repeat

import msgspec
import numpy as np
import pyarrow as pa

Members = dict[str, msgspec.Raw]

NULL = msgspec.Raw(b"null")

# Each raises ValidationError where the text is JSON, but no object or no list; DecodeError where it is no JSON.
members_of: Callable[[bytes | str | msgspec.Raw], Members] = msgspec.json.Decoder(Members).decode
items_of: Callable[[bytes | str | msgspec.Raw], list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw]).decode


def may_repeat_a_key(texts: Sequence[bytes], objects: Sequence[Members]) -> bool:
    """False only if none of ``texts``, which were parted into ``objects``, gives a key twice: one value would be lost.

    Each key has two quotes; those in a text beyond that, and beyond those of the values, are those of another key, or
    escaped ones of a key.
    """
    quotes = sum(map(bytes.count, texts, repeat(b'"')))
    of_values = b"".join(chain.from_iterable(map(dict.values, objects))).count(b'"')
    return quotes != of_values + 2 * sum(map(len, objects))


def repeated_keys(text: bytes) -> list[str]:
    """The keys of the object that it gives more than once; those of objects within it are their own affair."""
    members = json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str)
    return [json.dumps(key) for key, count in Counter(key for key, _ in members).items() if count > 1]


def texts_of(values: Sequence[msgspec.Raw]) -> pa.Array:
    """The texts of values as a ``string`` column; a ``null`` is a NULL."""
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=offsets[1:])
    data = b"".join(values)
    given = np.frombuffer(data, np.uint8)[offsets[:-1]] != ord("n")  # no other value begins so, and none is empty
    validity = None if given.all() else pa.py_buffer(np.packbits(given, bitorder="little"))
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(data), validity)
