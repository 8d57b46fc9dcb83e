"""Where the records of a block begin and end, found with numpy, and whether its quotes are sound.

A line end behind an even number of quotes ends a record. This holds in well-formed text only, which the audit
checks: a quote of even index opens a field or is the second of a doubled one, so it follows a delimiter, a
line end, the block's start or a quote; one of odd index closes or is the first of a doubled one, so a
delimiter, a line end, the text's end or a quote follows it. Text that passes is well-formed by the grammar of
``grammar``, and the reverse.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from etl.readers.csv.grammar import CR, LF, Grammar
from etl.records import Reason

# Bounds a record batch where records are short; what does not fit is framed again in the next block.
MOST_RECORDS = 100_000


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a record cannot be read."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Frames:
    """The records of one block. ``starts``, ``ends`` and ``lines`` have an entry for each, good or bad.

    ``starts`` and ``ends`` (behind the line end) are places in ``text``; ``lines`` counts the line ends
    before the record; ``flaws`` names by index the records known to be bad; ``line_count`` is the number of
    line ends in ``text``, blank lines and line ends inside quotes among them. ``raw`` is the text with its
    escapes, which are masked in ``text``; the same places are the same in both.
    """

    text: bytes
    raw: bytes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    lines: NDArray[np.int64]
    line_count: int
    flaws: dict[int, Flaw] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.starts)

    def first(self, count: int) -> Frames:
        """Return the first ``count`` records, with the text before the next one."""
        if count == len(self):
            return self
        flaws = {index: flaw for index, flaw in self.flaws.items() if index < count}
        starts, ends, lines = self.starts[:count], self.ends[:count], self.lines[:count]
        text = self.text[: int(self.starts[count])]
        raw = text if self.raw is self.text else self.raw[: len(text)]
        return Frames(text, raw, starts, ends, lines, int(self.lines[count]), flaws)


def make_frames(
    text: bytes,
    raw: bytes,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    breaks: NDArray[np.int64],
    flaws: dict[int, Flaw] | None = None,
) -> Frames:
    """Return frames with the physical line of each record; ``breaks`` are the line ends of the text."""
    lines = np.arange(len(starts)) if _begin_lines(starts, breaks) else np.searchsorted(breaks, starts, side="right")
    return Frames(text, raw, starts, ends, lines, int(np.searchsorted(breaks, len(text), "right")), flaws or {})


def _begin_lines(starts: NDArray[np.int64], breaks: NDArray[np.int64]) -> bool:
    """Whether a record begins the text and each line behind it: the commonest text, and its lines need no search."""
    first, others = starts[:1], starts[1:]
    return len(others) < len(breaks) and not first.any() and bool((others == breaks[: len(others)]).all())


def find_breaks(text: bytes, is_final: bool) -> NDArray[np.int64]:
    """Return the places behind each line end: LF, CR LF or CR alone, inside quotes or not.

    A CR at the end is left out unless nothing follows: an LF may come.
    """
    block = np.frombuffer(text, np.uint8)
    feeds = np.flatnonzero(block == LF)
    if CR not in text:  # a search for one byte takes a tenth of a comparison of all
        return feeds + 1
    returns = np.flatnonzero(block == CR)
    if returns.size and returns[-1] == len(block) - 1 and not is_final:
        returns = returns[:-1]
    lone = returns[block[np.minimum(returns + 1, len(block) - 1)] != LF]
    if lone.size:
        feeds = np.sort(np.concatenate((feeds, lone)))
    return feeds + 1


def frame_well_formed(text: bytes, raw: bytes, grammar: Grammar, is_final: bool, one_column: bool) -> Frames | None:
    """Return the complete records of ``text``, or None when its quotes are not sound.

    They are one more than a batch has at most, if there are so many, and empty when no record is complete.
    ``raw`` is the text with its escapes; ``is_final`` says that nothing follows; ``one_column`` makes a blank line a
    record.
    """
    block = np.frombuffer(text, np.uint8)
    breaks = find_breaks(raw, is_final)
    quotes = np.flatnonzero(block == grammar.quote[0]) if grammar.quote else np.empty(0, np.int64)
    line_ends = breaks if raw is text else find_breaks(text, is_final)
    comments = _find_comments(raw, grammar.comment, line_ends, quotes) if grammar.comment else _NO_COMMENTS
    if len(comments):
        if raw is not text and not _are_ends(comments.ends, line_ends, len(block)):
            return None  # a backslash at the end of a comment is none that escapes: rare, and for the scanner
        quotes = comments.without(quotes)
    ends = _outside_quotes(line_ends, quotes)
    if is_final and (not ends.size or ends[-1] < len(block)):
        ends = np.append(ends, len(block))
    starts = np.concatenate((np.zeros(min(1, ends.size), np.int64), ends[:-1]))
    end = int(ends[-1]) if ends.size else 0
    if not one_column:
        # A line that begins with its own line end is blank.
        written = ~_is_line_end(block[starts])
        starts, ends = starts[written], ends[written]
    if len(comments):
        written = ~np.isin(starts, comments.starts, assume_unique=True)
        starts, ends = starts[written], ends[written]
    if len(starts) > MOST_RECORDS + 1:
        starts, ends = starts[: MOST_RECORDS + 1], ends[: MOST_RECORDS + 1]
        end = int(ends[-1])
    if not _is_sound(block, quotes[: np.searchsorted(quotes, end)], end, grammar):
        return None
    framed = text[:end]
    return make_frames(framed, framed if raw is text else raw[:end], starts, ends, breaks)


@dataclass(frozen=True, slots=True)
class _Comments:
    """The lines of comment in a text, if its quotes are sound: where each begins, and the place behind its line end."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def without(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places that are in none of them."""
        index = np.searchsorted(self.starts, places, side="right") - 1
        outside: NDArray[np.int64] = places[(index < 0) | (places >= self.ends[index])]
        return outside


_NO_COMMENTS = _Comments(np.empty(0, np.int64), np.empty(0, np.int64))


def _find_comments(raw: bytes, prefix: bytes, line_ends: NDArray[np.int64], quotes: NDArray[np.int64]) -> _Comments:
    """Return the lines that begin with ``prefix`` where no quote is open; quotes in a comment open nothing."""
    places = _lines_with(raw, prefix, line_ends)
    if not places.size:
        return _NO_COMMENTS
    behind = find_breaks(raw, is_final=True)
    behind = behind if behind.size and behind[-1] == len(raw) else np.append(behind, len(raw))
    ends = behind[np.searchsorted(behind, places, side="right")]
    before = np.searchsorted(quotes, places).tolist()
    through = np.searchsorted(quotes, ends).tolist()
    found, inside = [], 0
    for index, (first, last) in enumerate(zip(before, through, strict=True)):
        if (first - inside) % 2 == 0:
            found.append(index)
            inside += last - first
    return _Comments(places[found], ends[found])


def _lines_with(raw: bytes, prefix: bytes, line_ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the line starts at which ``prefix`` is."""
    block = np.frombuffer(raw, np.uint8)
    starts = np.concatenate((np.zeros(1, np.int64), line_ends))
    starts = starts[starts + len(prefix) <= len(block)]
    for place, byte in enumerate(prefix):
        starts = starts[block[starts + place] == byte]
    return starts


def _are_ends(places: NDArray[np.int64], line_ends: NDArray[np.int64], end: int) -> bool:
    return bool(np.isin(places[places < end], line_ends).all())


def _outside_quotes(places: NDArray[np.int64], quotes: NDArray[np.int64]) -> NDArray[np.int64]:
    if not quotes.size:
        return places
    outside: NDArray[np.int64] = places[np.searchsorted(quotes, places) % 2 == 0]
    return outside


def _is_line_end(characters: NDArray[np.uint8]) -> NDArray[np.bool_]:
    is_line_end: NDArray[np.bool_] = (characters == LF) | (characters == CR)
    return is_line_end


def _is_sound(block: NDArray[np.uint8], quotes: NDArray[np.int64], end: int, grammar: Grammar) -> bool:
    if not quotes.size:
        return True
    if quotes.size % 2:
        return False
    edges = np.zeros(256, np.bool_)
    edges[[LF, CR, grammar.delimiter[0]]] = True
    edges[grammar.quote[0]] = grammar.doubled_quotes
    before = quotes[0::2] - 1
    after = quotes[1::2] + 1
    return bool(edges[block[before[before >= 0]]].all() and edges[block[after[after < end]]].all())
