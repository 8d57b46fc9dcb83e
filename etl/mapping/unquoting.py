"""JSON values to the texts that the rules of the target's type read, as those of a CSV file are read."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

from etl.json_cells import are_json_cells
from etl.mapping.conversion import Converted, keep_where, places
from etl.mapping.texts import HAS_NUL
from etl.mapping.typed import canonical_texts, plain_array


def cell_texts(cells: pa.Array) -> Converted:
    """The text of each cell of a source column, of whatever type it is."""
    return texts_of_json(cells) if are_json_cells(cells.type) else canonical_texts(plain_array(cells))


def texts_of_json(cells: pa.Array) -> Converted:
    """The text of each cell: a string without its quotes and escapes, everything else as it stands in the source."""
    own = cells.storage
    quoted = pc.fill_null(pc.starts_with(own, '"'), False)
    if not quoted.true_count:
        return Converted(own)
    inner = pc.binary_slice(own.cast(pa.binary()), 1, -1).view(pa.string())
    texts = pc.if_else(quoted, inner, own)
    escaped = pc.and_(quoted, pc.fill_null(pc.match_substring(own, "\\"), False))
    return _unescaped(own, texts, escaped) if escaped.true_count else Converted(texts)


def has_documents(cells: pa.Array) -> bool:
    """Whether a cell is an object or a list."""
    return bool(pc.any(pc.match_substring_regex(cells.storage, r"\A[\[{]")).as_py())


def _unescaped(own: pa.Array, texts: pa.Array, escaped: pa.Array) -> Converted:
    encoded = own.filter(escaped).dictionary_encode()
    # The reader has refused halves of surrogate pairs, so that each text has its UTF-8.
    read = pa.array([json.loads(text) for text in encoded.dictionary.to_pylist()], pa.string())
    whole = pc.replace_with_mask(texts, escaped, read.take(encoded.indices))
    with_nul = pc.and_(escaped, pc.fill_null(pc.match_substring(whole, "\0"), False))
    if not with_nul.true_count:
        return Converted(whole)
    return Converted(keep_where(whole, pc.invert(with_nul)), dict.fromkeys(places(with_nul), HAS_NUL))


def shown_texts(cells: pa.Array) -> pa.Array:
    """The same for the list of rejects: a text that cannot be stored is shown as it stands in the source."""
    return pc.coalesce(texts_of_json(cells).values, cells.storage)
