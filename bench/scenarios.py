"""What is measured: the same table and the same file, loaded by etl and by the databases' own shells."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import tools
from bench.contenders import (
    Contender,
    Etl,
    by_hand,
    etl_contender,
    psql_copy,
    run_or_raise,
    sqlite_import,
    updating_by_hand,
    updating_etl,
)
from bench.files import Data, Files, Recipe
from bench.results import Bar, Outcome, Result
from bench.servers import Server
from bench.tables import PostgresTable, SqliteTable
from bench.turns import take_turns

FULL_ROWS = 5_000_000  # the bars are for this many, if they do not say otherwise
HALF_BAD_ROWS = 1_000_000
ROW_ROWS = 20_000  # a savepoint for each row is slow: enough rows for a rate, and no more
MEMORY_ROWS = {"small": 1_000_000, "large": 10_000_000}
REFERENCE_RATE = 400_000  # rows/s of psql \copy on the machine that the bar for half bad rows is for


@dataclass(frozen=True, slots=True)
class Bench:
    """What all scenarios share."""

    folder: Path
    etl: Etl
    files: Files
    rows: int
    repeats: int
    server: Server | None
    say: Callable[[str], None]

    def clean(self) -> Recipe:
        return Recipe(self.rows)

    def one_in_ten(self) -> Recipe:
        return Recipe(self.rows, "duplicates", 10)

    def measure(self, outcome: Outcome, contenders: Iterable[Contender | Result], repeats: int | None = None) -> None:
        """Measure those that are there, and note those that are not."""
        contenders = list(contenders)
        present = [one for one in contenders if isinstance(one, Contender)]
        take_turns(present, outcome, self.folder, repeats or self.repeats, self.say)
        outcome.results += [one for one in contenders if isinstance(one, Result)]

    def sqlite(self) -> SqliteTable:
        return SqliteTable(self.folder / "bench.db")

    def bar(self, what: str, value: float | None, limit: float | None, **facts: object) -> Bar:
        defaults: dict[str, object] = {"rows": self.rows, "full_rows": FULL_ROWS}
        return Bar(what, value, limit, **(defaults | facts))  # type: ignore[arg-type]

    def ratio(self, outcome: Outcome, what: str, limit: float | None, name: str, peer: str) -> None:
        """The bar that compares the seconds of two contenders."""
        ours, theirs = outcome.result(name), outcome.result(peer)
        value = None
        if ours and theirs and ours.summary and theirs.summary:
            value = ours.summary.median_seconds / theirs.summary.median_seconds
        outcome.bars.append(self.bar(what, value, limit, name=name, peer=peer))


# PostgreSQL ---------------------------------------------------------------------------------------------


def clean_csv(bench: Bench, server: Server, outcome: Outcome) -> None:
    data, table = bench.files.make(bench.clean()), PostgresTable(server)
    polars = tools.contender(tools.polars(server, table, duplicates=False), data)
    bench.measure(outcome, [psql_copy(server, data, table), etl_contender(bench.etl, data, table, "copy"), polars])
    bench.ratio(outcome, "clean CSV / psql \\copy", 0.85, "etl copy", "psql \\copy")


def clean_parquet(bench: Bench, server: Server, outcome: Outcome) -> None:
    data, table = bench.files.make(bench.clean()), PostgresTable(server)
    ours = etl_contender(bench.etl, data, table, "copy", data.parquet)
    bench.measure(outcome, [psql_copy(server, data, table), ours])
    bench.ratio(outcome, "clean Parquet / psql \\copy of the CSV", 0.80, "etl copy", "psql \\copy")


def few_duplicates(bench: Bench, server: Server, outcome: Outcome) -> None:
    clean, table = bench.files.make(bench.clean()), PostgresTable(server)
    data = bench.files.make(Recipe(bench.rows, "duplicates", 10_000))
    good_rows = psql_copy(server, data, table, data.good_csv, name="psql \\copy of the good rows")
    ours = etl_contender(bench.etl, data, table, "copy")
    bench.measure(outcome, [psql_copy(server, clean, table), ours, good_rows])
    what = "0.01 % duplicates / psql \\copy of the clean file"
    bench.ratio(outcome, what, 1.0, "etl copy", "psql \\copy")
    # Into the same table, in which some keys are already: it cannot be filled as fast as an empty one.
    same_table = "0.01 % duplicates / psql \\copy of the good rows into the same table"
    bench.ratio(outcome, same_table, None, "etl copy", good_rows.name)
    outcome.bars.append(dead_rows_bar(bench, outcome, "0.01 % duplicates"))


def few_duplicates_shuffled(bench: Bench, server: Server, outcome: Outcome) -> None:
    table = PostgresTable(server)
    data = bench.files.make(Recipe(bench.rows, "duplicates", 10_000, shuffle=True))
    contenders = [psql_copy(server, data, table, data.good_csv), etl_contender(bench.etl, data, table, "copy")]
    bench.measure(outcome, contenders)
    what = "0.01 % duplicates, keys in random order / psql \\copy of the good rows"
    bench.ratio(outcome, what, None, "etl copy", "psql \\copy")


def many_duplicates(bench: Bench, server: Server, outcome: Outcome) -> None:
    data, table = bench.files.make(bench.one_in_ten()), PostgresTable(server)
    bench.measure(outcome, [by_hand(server, data, table), etl_contender(bench.etl, data, table, "copy")])
    bench.ratio(outcome, "10 % duplicates / by hand", 0.70, "etl copy", "by hand")
    outcome.bars.append(dead_rows_bar(bench, outcome, "10 % duplicates"))


def many_updates(bench: Bench, server: Server, outcome: Outcome) -> None:
    data, table = bench.files.make(bench.one_in_ten()), PostgresTable(server)
    bench.measure(outcome, [updating_by_hand(server, data, table), updating_etl(bench.etl, data, table, "copy")])
    bench.ratio(outcome, "10 % updates / by hand", 0.80, "etl copy", "by hand")


def all_there(bench: Bench, server: Server, outcome: Outcome) -> None:
    """Before each run the file is loaded by etl: the ledger knows it, and its rows are there."""
    data, table = bench.files.make(bench.clean()), PostgresTable(server)
    first = bench.etl.load(data.csv, table.url, "copy")

    def prepare() -> None:
        table.prepare()
        run_or_raise(first, bench.folder)
        table.settle_down()

    ours = dataclasses.replace(
        etl_contender(bench.etl, data, table, "copy"),
        command=(*first, "--rerun"),
        prepare=prepare,
        counts=(data.rows, 0, data.rows, 0),
    )
    theirs = by_hand(server, data, table, prepare)
    bench.measure(outcome, [theirs, ours])
    bench.ratio(outcome, "all rows already there / by hand", 0.70, "etl copy", "by hand")


def few_break_a_check(bench: Bench, server: Server, outcome: Outcome) -> None:
    data, table = bench.files.make(Recipe(bench.rows, "check", 100)), PostgresTable(server)
    contenders = [psql_copy(server, data, table, data.good_csv), etl_contender(bench.etl, data, table, "copy")]
    bench.measure(outcome, contenders)
    what = "1 % break a CHECK / psql \\copy of the good rows"
    bench.ratio(outcome, what, 2.0, "etl copy", "psql \\copy")


def few_without_parents(bench: Bench, server: Server, outcome: Outcome) -> None:
    data = bench.files.make(Recipe(bench.rows, "parents", 50))
    table = PostgresTable(server, with_parents=True)
    contenders = [psql_copy(server, data, table, data.good_csv), etl_contender(bench.etl, data, table, "copy")]
    bench.measure(outcome, contenders)
    what = "2 % break a foreign key / psql \\copy of the good rows"
    bench.ratio(outcome, what, 2.0, "etl copy", "psql \\copy")


def half_break_a_check(bench: Bench, server: Server, outcome: Outcome) -> None:
    rows, table = min(bench.rows, HALF_BAD_ROWS), PostgresTable(server)
    clean, data = bench.files.make(Recipe(rows)), bench.files.make(Recipe(rows, "check", 2))
    bench.measure(outcome, [psql_copy(server, clean, table), etl_contender(bench.etl, data, table, "copy")])
    raw, reference = rate(outcome, "etl copy"), rate(outcome, "psql \\copy")
    scaled = raw * REFERENCE_RATE / reference if raw and reference else None
    facts = {"rows": rows, "full_rows": HALF_BAD_ROWS, "unit": "rows/s", "at_most": False}
    what = f"50 % break a CHECK, scaled to a machine where psql \\copy does {REFERENCE_RATE:,} rows/s"
    outcome.bars.append(bench.bar(what, scaled, 60_000, **facts))
    outcome.bars.append(bench.bar("50 % break a CHECK, as measured", raw, None, **facts))


def row_loop(bench: Bench, server: Server, outcome: Outcome) -> None:
    """`row` has few rows and is the slower the more there are; the others have as many as their bars are for."""
    table = PostgresTable(server)
    sizes = {"copy": bench.clean(), "bulk": Recipe(min(bench.rows, HALF_BAD_ROWS)), "row": Recipe(ROW_ROWS)}
    made = {method: bench.files.make(recipe) for method, recipe in sizes.items()}
    bench.measure(outcome, [etl_contender(bench.etl, data, table, method) for method, data in made.items()])
    row = rate(outcome, "etl row")
    for method, limit, full_rows in (("copy", 300.0, FULL_ROWS), ("bulk", 15.0, HALF_BAD_ROWS)):
        fast = rate(outcome, f"etl {method}")
        value = fast / row if fast and row else None
        facts = {"rows": made[method].rows, "full_rows": full_rows, "at_most": False}
        outcome.bars.append(bench.bar(f"rows/s of {method} / of the row loop", value, limit, **facts))


def memory_on_postgres(bench: Bench, server: Server, outcome: Outcome) -> None:
    peak_memory(bench, outcome, PostgresTable(server), "copy")


# SQLite -------------------------------------------------------------------------------------------------


def clean_on_sqlite(bench: Bench, outcome: Outcome) -> None:
    data, table = bench.files.make(bench.clean()), bench.sqlite()
    bench.measure(outcome, [sqlite_import(data, table), etl_contender(bench.etl, data, table, "bulk")])
    bench.ratio(outcome, "SQLite, clean CSV / sqlite3 .import", 1.7, "etl bulk", "sqlite3 .import")


def many_duplicates_on_sqlite(bench: Bench, outcome: Outcome) -> None:
    clean, data = bench.files.make(bench.clean()), bench.files.make(bench.one_in_ten())
    table = bench.sqlite()
    bench.measure(outcome, [sqlite_import(clean, table), etl_contender(bench.etl, data, table, "bulk")])
    what = "SQLite, 10 % duplicates / sqlite3 .import of the clean file"
    bench.ratio(outcome, what, 2.0, "etl bulk", "sqlite3 .import")


def memory_on_sqlite(bench: Bench, outcome: Outcome) -> None:
    peak_memory(bench, outcome, bench.sqlite(), "bulk")


# The peers ----------------------------------------------------------------------------------------------


def peers(bench: Bench, server: Server, outcome: Outcome, *, duplicates: bool) -> None:
    """Once each, on few rows: these are slow. etl loads such a file beside them."""
    postgres, sqlite = PostgresTable(server), bench.sqlite()

    def make(rows: int) -> Data:
        return bench.files.make(Recipe(min(rows, bench.rows), *(("duplicates", 10) if duplicates else ())))

    data = make(tools.ROWS)
    on_sqlite = dataclasses.replace(etl_contender(bench.etl, data, sqlite, "bulk"), name="etl bulk, SQLite")
    ours = [etl_contender(bench.etl, data, postgres, "copy"), on_sqlite]
    found = [
        *tools.postgres_peers(server, postgres, bench.folder, duplicates=duplicates),
        *tools.sqlite_peers(sqlite, sqlite.path, duplicates=duplicates),
    ]
    theirs = [tools.contender(peer, make(peer.rows)) for peer in found]
    bench.measure(outcome, [*ours, *theirs], repeats=1)


# Their parts --------------------------------------------------------------------------------------------


def peak_memory(bench: Bench, outcome: Outcome, table: PostgresTable | SqliteTable, method: str) -> None:
    """Once for a small and once for a large file: a fifth and the double of the bench's rows."""
    peaks: list[float | None] = []
    for full_rows in MEMORY_ROWS.values():
        recipe = Recipe(full_rows * bench.rows // FULL_ROWS)
        one = etl_contender(bench.etl, bench.files.make(recipe), table, method)
        bench.measure(outcome, [dataclasses.replace(one, name=f"etl {method}, {recipe.rows:,} rows")], repeats=1)
        result = outcome.results[-1]
        peaks.append(result.summary.peak_bytes / 1e6 if result.summary else None)
        facts = {"rows": recipe.rows, "full_rows": full_rows, "unit": "MB"}
        outcome.bars.append(bench.bar(f"peak memory of {method} for {full_rows:,} rows", peaks[-1], 450, **facts))
    small, large = peaks
    growth = large / small if small and large else None
    twice = {"rows": bench.rows * 2, "full_rows": FULL_ROWS * 2}
    outcome.bars.append(bench.bar(f"peak memory of {method}, the large file / the small one", growth, 1.1, **twice))


def dead_rows_bar(bench: Bench, outcome: Outcome, what: str) -> Bar:
    result = outcome.result("etl copy")
    share = None
    if result and result.dead_rows is not None:
        share = 100 * result.dead_rows / result.rows
    return bench.bar(f"dead rows left, {what}", share, 2.0, unit="%")


def rate(outcome: Outcome, name: str) -> float | None:
    result = outcome.result(name)
    return result.rows_per_second if result else None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A title for readers and one of the functions above; with a server or without."""

    title: str
    on_postgres: Callable[[Bench, Server, Outcome], None] | None = None
    on_sqlite: Callable[[Bench, Outcome], None] | None = None

    def measure(self, bench: Bench, name: str) -> Outcome:
        outcome = Outcome(name, self.title)
        if self.on_sqlite:
            self.on_sqlite(bench, outcome)
        elif self.on_postgres and bench.server:
            self.on_postgres(bench, bench.server, outcome)
        else:
            outcome.results.append(Result("PostgreSQL", 0, trouble="no server binaries"))
        bench.files.keep(bench.clean(), bench.one_in_ten())
        return outcome


SCENARIOS = {
    "clean-csv": Scenario("Clean CSV", clean_csv),
    "clean-parquet": Scenario("Clean Parquet", clean_parquet),
    "duplicates-0.01": Scenario("0.01 % duplicates", few_duplicates),
    "duplicates-0.01-shuffled": Scenario("0.01 % duplicates, shuffled", few_duplicates_shuffled),
    "duplicates-10": Scenario("10 % duplicates", many_duplicates),
    "update-10": Scenario("10 % updates", many_updates),
    "rerun": Scenario("All rows already there", all_there),
    "check-1": Scenario("1 % break a CHECK", few_break_a_check),
    "parents-2": Scenario("2 % break a foreign key", few_without_parents),
    "check-50": Scenario("50 % break a CHECK", half_break_a_check),
    "row-loop": Scenario("Against the row loop", row_loop),
    "memory": Scenario("Peak memory", memory_on_postgres),
    "sqlite-clean": Scenario("SQLite, clean CSV", on_sqlite=clean_on_sqlite),
    "sqlite-duplicates-10": Scenario("SQLite, 10 % duplicates", on_sqlite=many_duplicates_on_sqlite),
    "sqlite-memory": Scenario("SQLite, peak memory", on_sqlite=memory_on_sqlite),
    "peers-clean": Scenario("Other tools, clean CSV", partial(peers, duplicates=False)),
    "peers-duplicates-10": Scenario("Other tools, 10 % duplicates", partial(peers, duplicates=True)),
}
