"""How a run is shown while it goes on: a bar on a terminal, plain lines in a log, or silence.

Only names, counts and times are shown, never a value of the source.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from tqdm import tqdm

from etl.records import Counts, Reporter
from etl.showing import visible

Clock = Callable[[], float]

_FALLBACK_COLUMNS = 80
_FULL_NAME, _SHORT_NAME = 24, 10  # most characters of a load's name in front of a bar
_LEAST_BAR = 4


def choose_reporter(*, show: bool | None, quiet: bool, verbose: bool, stream: TextIO) -> Reporter:
    """The reporter for ``--progress/--no-progress`` (``show``; None: neither was given), ``-q`` and ``-v``.

    ``quiet`` wins over ``show``. A stream that cannot be written to any more ends the report, never the load.
    """
    if quiet:
        return Silence()
    if show or (show is None and _is_terminal(stream)):
        return ProgressBar(stream, verbose=verbose)
    return LogLines(stream, verbose=verbose)


class Silence:
    """Tells nobody anything."""

    def waiting(self, sentence: str) -> None:
        pass

    def load_started(self, name: str, table: str, method: str, reason: str, size: int) -> None:
        pass

    def records_done(self, size: int, counts: Counts) -> None:
        pass

    def committed(self) -> None:
        pass

    def load_finished(self) -> None:
        pass


class LogLines:
    """One line when a load starts, and one every ``interval`` seconds while its records are done."""

    def __init__(
        self, stream: TextIO, *, verbose: bool = False, interval: float = 5.0, clock: Clock = time.monotonic
    ) -> None:
        self._stream = _Unfailing(stream)
        self._verbose = verbose
        self._interval = interval
        self._clock = clock
        self._tally = _Tally("", 0, clock)
        self._last = clock()

    def waiting(self, sentence: str) -> None:
        self._stream.write_line(sentence)

    def load_started(self, name: str, table: str, method: str, reason: str, size: int) -> None:
        self._tally = _Tally(visible(name), size, self._clock)
        self._last = self._clock()
        self._stream.write_line(_opening(name, table, method, reason if self._verbose else ""))

    def records_done(self, size: int, counts: Counts) -> None:
        self._tally.add(size, counts)
        if self._clock() - self._last >= self._interval:
            self._last = self._clock()
            self._stream.write_line(_log_line(self._tally))

    def committed(self) -> None:
        pass

    def load_finished(self) -> None:
        pass


class ProgressBar:
    """A bar for each load, by bytes of its sources; its last state stays on the terminal."""

    def __init__(self, stream: TextIO, *, verbose: bool = False, clock: Clock = time.monotonic) -> None:
        self._stream = _Unfailing(stream)
        self._verbose = verbose
        self._clock = clock
        self._tally = _Tally("", 0, clock)
        self._bar: tqdm[Any] | None = None

    def waiting(self, sentence: str) -> None:
        self._stream.write_line(sentence)

    def load_started(self, name: str, table: str, method: str, reason: str, size: int) -> None:
        self.load_finished()
        self._tally = _Tally(visible(name), size, self._clock)
        if self._verbose:
            self._stream.write_line(_opening(name, table, method, reason))
        self._bar = tqdm(
            total=size or None,
            desc=_shortened(self._tally.name, _FULL_NAME),
            unit="B",
            unit_scale=True,
            file=self._stream,
            leave=True,
            miniters=0,  # drawn by time alone: a record batch may move the bar by no byte at all
            ncols=self._stream.columns(),
            bar_format=_bar_format(self._tally, _Layout(""), is_running=True),
        )

    def records_done(self, size: int, counts: Counts) -> None:
        if self._bar is None:
            return
        self._tally.add(size, counts)
        self._lay_out(self._bar, is_running=True)
        self._bar.update(self._tally.size_done - self._bar.n)

    def committed(self) -> None:
        pass

    def load_finished(self) -> None:
        if self._bar is None:
            return
        self._lay_out(self._bar, is_running=False)
        self._bar.close()
        self._bar = None

    def _lay_out(self, bar: tqdm[Any], *, is_running: bool) -> None:
        """Choose the fullest line that fits into the terminal as it is now."""
        columns = self._stream.columns()
        bar.ncols = columns
        for layout in _layouts(self._tally):
            bar.desc = _shortened(self._tally.name, layout.name_width)
            bar.bar_format = _bar_format(self._tally, layout, is_running=is_running)
            if len(_without_bar(bar)) + _LEAST_BAR <= columns:
                return


class _Tally:
    """What has been done of one load since it started."""

    def __init__(self, name: str, size: int, clock: Clock) -> None:
        self.name = name
        self.size = size
        self.size_done = 0
        self.counts = Counts()
        self._clock = clock
        self._started = clock()

    def add(self, size: int, counts: Counts) -> None:
        # A source may have grown since its size was asked for; more than the whole is of no use to anybody.
        self.size_done = min(self.size_done + size, self.size) if self.size else self.size_done + size
        self.counts += counts

    @property
    def rows_per_second(self) -> int:
        """Records handled per second since the load started."""
        elapsed = self._clock() - self._started
        return round(self.counts.read / elapsed) if elapsed > 0 else 0

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None when that, or the size of the whole, is unknown."""
        if not self.size or not self.size_done:
            return None
        return (self._clock() - self._started) * (self.size - self.size_done) / self.size_done


class _Unfailing:
    """A text stream whose reader may go away: from then on nothing is written to it, and nobody is told."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_open = True

    @property
    def encoding(self) -> str:
        """tqdm asks for it, to draw with block characters or with ASCII."""
        return getattr(self._stream, "encoding", None) or "ascii"

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def write_line(self, line: str) -> None:
        self.write(line + "\n")
        self.flush()

    def columns(self) -> int:
        """The width of the terminal at this moment; 80 where there is none to ask."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or _FALLBACK_COLUMNS
        except (OSError, ValueError, AttributeError):
            return _FALLBACK_COLUMNS

    def _try(self, action: Callable[[], object]) -> None:
        if not self._is_open:
            return
        try:
            action()
        except (OSError, ValueError):  # a broken pipe; a closed file
            self._is_open = False


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (OSError, ValueError):
        return False


def _opening(name: str, table: str, method: str, reason: str) -> str:
    line = f"{name}: loading into {table}, method {method}"
    return visible(f"{line} ({reason})" if reason else line)


def _log_line(tally: _Tally) -> str:
    parts = [_counted(tally.counts.read, "record")]
    if tally.size:
        parts.append(f"{100 * tally.size_done // tally.size} %")
    parts.append(f"{tally.rows_per_second:,} rows/s")
    met = {"updated": tally.counts.updated, "unchanged": tally.counts.unchanged}
    parts += [f"{count:,} {verdict}" for verdict, count in met.items() if count]
    parts.append(_counted(tally.counts.duplicates, "duplicate"))
    parts.append(f"{tally.counts.rejected:,} rejected")
    if tally.counts.filtered:
        parts.append(f"{tally.counts.filtered:,} filtered")
    if tally.seconds_left is not None:
        parts.append(f"about {_rough_time(tally.seconds_left)} left")
    return f"{tally.name}: {', '.join(parts)}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _rough_time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


@dataclass(frozen=True, slots=True)
class _Layout:
    """One way to draw a bar: what is said behind it, and what else there is room for."""

    text: str
    with_bytes: bool = False
    name_width: int = _FULL_NAME


def _layouts(tally: _Tally) -> tuple[_Layout, ...]:
    """From the fullest to the shortest."""
    counts, speed = tally.counts, tally.rows_per_second
    start = f"{speed:,} rows/s, {counts.written:,} written"
    full = f"{start}, {_counted(counts.duplicates, 'duplicate')}, {counts.rejected:,} rejected"
    short = f"{start}, {counts.duplicates:,} dup, {counts.rejected:,} rej"
    rounded = (
        f"{_scaled(speed)} rows/s, {_scaled(counts.written)} written, "
        f"{_scaled(counts.duplicates)} dup, {_scaled(counts.rejected)} rej"
    )
    return (
        _Layout(full, with_bytes=True),
        _Layout(full),
        _Layout(short),
        _Layout(rounded),
        _Layout(rounded, name_width=_SHORT_NAME),
    )


def _bar_format(tally: _Tally, layout: _Layout, *, is_running: bool) -> str:
    """The line in tqdm's own terms; without a size there is nothing to draw a bar or a time left from."""
    text = f", {layout.text}" if layout.text else ""
    if not tally.size:
        return "{desc}: {n_fmt}B in {elapsed}" + text
    volume = "{n_fmt}/{total_fmt}B, " if layout.with_bytes else ""
    clock = "{remaining} left" if is_running else "in {elapsed}"
    return "{desc}: {percentage:3.0f}% |{bar}| " + volume + clock + text


def _without_bar(bar: tqdm[Any]) -> str:
    """The line as it would be drawn now, without the bar, which takes what is left of the terminal."""
    values = {**bar.format_dict, "bar_format": (bar.bar_format or "").replace("{bar}", ""), "ncols": None}
    return bar.format_meter(**values)


def _scaled(number: int) -> str:
    return f"{number:,}" if number < 10_000 else tqdm.format_sizeof(number)


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
