"""How a run is shown while it goes on."""

from __future__ import annotations

import io

import pytest

from etl.progress import LogLines, ProgressBar, Silence, choose_reporter
from etl.records import Counts


class Terminal(io.StringIO):
    """A terminal of 80 columns: nobody can ask it for its width."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        super().isatty()  # refuses to answer when closed
        return True


class BrokenPipe(Terminal):
    """A terminal whose reader has gone."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts = 0

    def write(self, text: str) -> int:
        self.attempts += 1
        raise BrokenPipeError(32, "Broken pipe")


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines_of(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def last_drawn(stream: io.StringIO) -> str:
    """What a terminal shows of the newest bar: what came behind the last carriage return."""
    return stream.getvalue().rstrip("\n").split("\r")[-1].rstrip()


@pytest.mark.parametrize(
    ("show", "quiet", "stream", "expected"),
    [
        pytest.param(None, False, Terminal(), ProgressBar, id="terminal"),
        pytest.param(None, False, io.StringIO(), LogLines, id="no terminal"),
        pytest.param(True, False, io.StringIO(), ProgressBar, id="bar asked for"),
        pytest.param(False, False, Terminal(), LogLines, id="no bar wanted"),
        pytest.param(None, True, Terminal(), Silence, id="quiet on a terminal"),
        pytest.param(True, True, Terminal(), Silence, id="quiet wins over the bar"),
    ],
)
def test_reporter_follows_the_options_and_the_stream(
    show: bool | None, quiet: bool, stream: io.StringIO, expected: type
) -> None:
    assert type(choose_reporter(show=show, quiet=quiet, verbose=False, stream=stream)) is expected


def test_closed_stream_gets_no_bar() -> None:
    stream = Terminal()
    stream.close()

    reporter = choose_reporter(show=None, quiet=False, verbose=True, stream=stream)
    reporter.load_started("orders", "orders", "bulk", "SQLite has no COPY", 100)
    reporter.load_finished()

    assert isinstance(reporter, LogLines)


class TestSilence:
    def test_says_nothing(self) -> None:
        stream = Terminal()
        reporter = choose_reporter(show=None, quiet=True, verbose=True, stream=stream)

        reporter.load_started("orders", "orders", "bulk", "SQLite has no COPY", 100)
        reporter.records_done(100, Counts(read=5, written=5))
        reporter.committed()
        reporter.load_finished()

        assert stream.getvalue() == ""


class TestLogLines:
    def test_one_line_at_the_start_and_one_every_few_seconds(self) -> None:
        stream, clock = io.StringIO(), Clock()
        log = LogLines(stream, interval=5, clock=clock)

        log.load_started("orders", "shop.orders", "bulk", "SQLite has no COPY", 1_000)
        for seconds, size in ((4.8, 430), (1.2, 70), (4.8, 100), (0.2, 400)):
            clock.now += seconds
            log.records_done(size, Counts(300_000, 299_993, duplicates=6, rejected=1))
            log.committed()
        log.load_finished()

        assert lines_of(stream) == [
            "orders: loading into shop.orders, method bulk",
            "orders: 600,000 records, 50 %, 100,000 rows/s, 12 duplicates, 2 rejected, about 6 s left",
            "orders: 1,200,000 records, 100 %, 109,091 rows/s, 24 duplicates, 4 rejected, about 0 s left",
        ]

    def test_verbose_says_why_this_method(self) -> None:
        stream = io.StringIO()
        log = LogLines(stream, verbose=True)

        log.load_started("orders", "orders", "bulk", "SQLite has no COPY", 1_000)

        assert lines_of(stream) == ["orders: loading into orders, method bulk (SQLite has no COPY)"]

    def test_one_record_is_not_plural(self) -> None:
        stream, clock = io.StringIO(), Clock()
        log = LogLines(stream, interval=0, clock=clock)

        log.load_started("orders", "orders", "row", "", 100)
        clock.now += 1
        log.records_done(50, Counts(1, duplicates=1))

        assert lines_of(stream)[1] == ("orders: 1 record, 50 %, 1 rows/s, 1 duplicate, 0 rejected, about 1 s left")

    def test_filtered_records_are_told_where_there_are_any(self) -> None:
        stream, clock = io.StringIO(), Clock()
        log = LogLines(stream, interval=0, clock=clock)

        log.load_started("orders", "orders", "row", "", 0)
        clock.now += 2
        log.records_done(50, Counts(10, 7, filtered=3))

        assert lines_of(stream)[1] == "orders: 10 records, 5 rows/s, 0 duplicates, 0 rejected, 3 filtered"

    def test_unknown_size_gives_no_share_and_no_time_left(self) -> None:
        stream, clock = io.StringIO(), Clock()
        log = LogLines(stream, interval=0, clock=clock)

        log.load_started("orders", "orders", "row", "", 0)
        clock.now += 2
        log.records_done(50, Counts(10, 10))

        assert lines_of(stream)[1] == "orders: 10 records, 5 rows/s, 0 duplicates, 0 rejected"

    def test_more_bytes_than_announced_are_the_whole(self) -> None:
        stream, clock = io.StringIO(), Clock()
        log = LogLines(stream, interval=0, clock=clock)

        log.load_started("orders", "orders", "row", "", 100)
        clock.now += 1
        log.records_done(250, Counts(10, 10))

        assert "100 %" in lines_of(stream)[1]
        assert "about 0 s left" in lines_of(stream)[1]

    @pytest.mark.parametrize(("seconds", "left"), [(119, "119 s"), (120, "2 min"), (3_600, "60 min"), (36_000, "10 h")])
    def test_time_left_is_rounded_to_what_matters(self, seconds: int, left: str) -> None:
        stream, clock = io.StringIO(), Clock()
        log = LogLines(stream, interval=0, clock=clock)

        log.load_started("orders", "orders", "row", "", 2)
        clock.now += seconds
        log.records_done(1, Counts(1, 1))

        assert lines_of(stream)[1].endswith(f"about {left} left")

    def test_each_load_starts_from_zero(self) -> None:
        stream, clock = io.StringIO(), Clock()
        log = LogLines(stream, interval=5, clock=clock)

        log.load_started("customers", "customers", "row", "", 100)
        clock.now += 100
        log.records_done(100, Counts(1_000, 1_000))
        log.load_finished()
        log.load_started("orders", "orders", "row", "", 100)
        log.records_done(1, Counts(1, 1))
        clock.now += 5
        log.records_done(49, Counts(9, 9))

        assert lines_of(stream)[2:] == [
            "orders: loading into orders, method row",
            "orders: 10 records, 50 %, 2 rows/s, 0 duplicates, 0 rejected, about 5 s left",
        ]


class TestProgressBar:
    def test_final_line_stays_with_all_the_counts(self) -> None:
        stream, clock = Terminal(), Clock()
        bar = ProgressBar(stream, clock=clock)

        bar.load_started("orders", "orders", "bulk", "", 1_000)
        clock.now += 2
        bar.records_done(400, Counts(6, 3, duplicates=2, rejected=1))
        bar.records_done(600, Counts(4, 4))
        bar.committed()
        bar.load_finished()

        assert last_drawn(stream).startswith("orders: 100% |")
        assert last_drawn(stream).endswith("| in 00:00, 5 rows/s, 7 written, 2 duplicates, 1 rejected")
        assert stream.getvalue().endswith("\n")
        assert stream.getvalue().count("\n") == 1

    def test_running_bar_shows_share_and_time_left(self) -> None:
        stream, clock = Terminal(), Clock()
        bar = ProgressBar(stream, clock=clock)

        bar.load_started("orders", "orders", "bulk", "", 1_000)

        assert last_drawn(stream).startswith("orders:   0% |")
        assert last_drawn(stream).endswith("| ? left")

    @pytest.mark.parametrize("name", ["orders", "a_load_with_a_name_that_is_long_beyond_measure"])
    @pytest.mark.parametrize("records", [1, 12_345, 1_200_000, 1_234_567_890])
    def test_every_line_fits_into_80_columns_with_all_the_counts(self, name: str, records: int) -> None:
        stream, clock = Terminal(), Clock()
        bar = ProgressBar(stream, clock=clock)

        bar.load_started(name, "orders", "bulk", "", 114_000_000)
        clock.now += 1
        bar.records_done(57_000_000, Counts(3 * records, records, duplicates=records, rejected=records))
        bar.load_finished()

        drawn = stream.getvalue().rstrip("\n").split("\r")
        assert max(map(len, drawn)) <= 80
        assert " 50% |" in last_drawn(stream)
        assert last_drawn(stream).endswith((" rejected", " rej"))

    def test_thousands_have_separators_where_there_is_room(self) -> None:
        stream, clock = Terminal(), Clock()
        bar = ProgressBar(stream, clock=clock)

        bar.load_started("orders", "orders", "bulk", "", 100)
        clock.now += 1
        bar.records_done(100, Counts(12_345, 12_340, rejected=5))
        bar.load_finished()

        assert last_drawn(stream).endswith("12,345 rows/s, 12,340 written, 0 dup, 5 rej")

    def test_more_bytes_than_announced_are_the_whole(self) -> None:
        stream, clock = Terminal(), Clock()
        bar = ProgressBar(stream, clock=clock)

        bar.load_started("orders", "orders", "bulk", "", 100)
        bar.records_done(80, Counts(1, 1))
        bar.records_done(80, Counts(1, 1))
        bar.load_finished()

        assert last_drawn(stream).startswith("orders: 100% |")

    def test_unknown_size_gives_bytes_and_no_bar(self) -> None:
        stream, clock = Terminal(), Clock()
        bar = ProgressBar(stream, clock=clock)

        bar.load_started("orders", "orders", "bulk", "", 0)
        clock.now += 1
        bar.records_done(2_500, Counts(10, 10))
        bar.load_finished()

        assert last_drawn(stream) == ("orders: 2.50kB in 00:00, 10 rows/s, 10 written, 0 duplicates, 0 rejected")

    def test_each_load_has_a_bar(self) -> None:
        stream = Terminal()
        bar = ProgressBar(stream)

        for name in ("customers", "orders"):
            bar.load_started(name, name, "bulk", "", 100)
            bar.records_done(100, Counts(1, 1))
            bar.load_finished()
        bar.load_finished()

        assert [line.split("\r")[-1].split(":")[0] for line in lines_of_terminal(stream)] == [
            "customers",
            "orders",
        ]

    def test_verbose_says_why_this_method_above_the_bar(self) -> None:
        stream = Terminal()
        bar = ProgressBar(stream, verbose=True)

        bar.load_started("orders", "shop.orders", "bulk", "SQLite has no COPY", 100)
        bar.load_finished()

        assert lines_of_terminal(stream)[0] == ("orders: loading into shop.orders, method bulk (SQLite has no COPY)")


def lines_of_terminal(stream: io.StringIO) -> list[str]:
    return stream.getvalue().removesuffix("\n").split("\n")


@pytest.mark.parametrize("show", [True, False])
def test_broken_pipe_does_not_break_the_load(show: bool) -> None:
    stream = BrokenPipe()
    reporter = choose_reporter(show=show, quiet=False, verbose=True, stream=stream)

    for _ in range(3):
        reporter.load_started("orders", "orders", "bulk", "SQLite has no COPY", 100)
        reporter.records_done(100, Counts(1, 1))
        reporter.load_finished()

    assert stream.attempts == 1, "after the first failure nothing more is tried"


@pytest.mark.parametrize("show", [True, False])
def test_stream_closed_under_way_does_not_break_the_load(show: bool) -> None:
    stream = Terminal()
    reporter = choose_reporter(show=show, quiet=False, verbose=False, stream=stream)

    reporter.load_started("orders", "orders", "bulk", "", 100)
    stream.close()
    reporter.records_done(100, Counts(1, 1))
    reporter.load_finished()

    assert stream.closed
