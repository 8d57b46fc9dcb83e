"""Measure etl beside the databases' own shells: `make bench`, or `python bench/run.py --help`.

Prints a table and the bars of the specification, and writes everything as JSON. Exit code 0: no bar was
missed; 1: a bar was missed or a load went wrong; 2: usage. A peer that is not installed is reported as
missing and is no failure.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import sqlite3
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # as a script, Python looks for modules in bench/ alone
    sys.path.insert(0, str(ROOT))

from bench.scenarios import SCENARIOS, Bench, Outcome, Result  # noqa: E402
from bench.servers import Server, postgres  # noqa: E402

DEFAULT_SCENARIOS = ["sqlite", "postgres", "memory-sqlite"]
PACKAGES = ("savepoint-etl", "sqlalchemy", "psycopg", "pyarrow", "numpy", "pgpq")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure etl beside the databases' own shells.")
    rows = int(os.environ.get("ROWS", "1000000").replace("_", ""))
    parser.add_argument("--rows", type=int, default=rows, help="default: $ROWS or 1,000,000")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contender (default: 3)")
    names = f"{', '.join(SCENARIOS)} or all; default: {', '.join(DEFAULT_SCENARIOS)}"
    parser.add_argument("--scenario", action="append", choices=[*SCENARIOS, "all"], metavar="NAME", help=names)
    parser.add_argument("--duplicates", type=float, default=0.0, help="also load a file with this many percent")
    parser.add_argument("--bad", type=float, default=0.0, help="also load a file with this many percent bad rows")
    parser.add_argument("--etl", default=str(Path(sys.executable).parent / "etl"), help="the command to measure")
    parser.add_argument("--folder", type=Path, help="where to make the files (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="where to write the results (default: bench/results/…)")
    given = parser.parse_args(argv)
    if shutil.which(shlex.split(given.etl)[0]) is None:
        parser.error(f"there is no command {given.etl}; install etl into this environment or name it by --etl")
    return given


def scenario_names(given: list[str] | None) -> list[str]:
    if not given:
        return DEFAULT_SCENARIOS
    return list(SCENARIOS) if "all" in given else given


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    names = scenario_names(given.scenario)
    with tempfile.TemporaryDirectory(prefix="etl-bench-", dir=given.folder) as name:
        folder = Path(name)
        if any("postgres" in scenario for scenario in names):
            with postgres(folder) as server:
                facts, outcomes = run(given, names, folder, server)
        else:
            facts, outcomes = run(given, names, folder, None)
    print(report(outcomes))
    print(f"\nWritten to {write_json(given, facts, outcomes)}.")
    return int(any(is_bad(outcome) for outcome in outcomes))


def run(
    given: argparse.Namespace, names: list[str], folder: Path, server: Server | None
) -> tuple[dict[str, object], list[Outcome]]:
    bench = Bench(
        folder=folder,
        etl=tuple(shlex.split(given.etl)),
        rows=given.rows,
        repeats=given.repeats,
        duplicates=given.duplicates,
        bad=given.bad,
        server=server,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    return machine(server), [SCENARIOS[name](bench) for name in names]


def machine(server: Server | None) -> dict[str, object]:
    """What the numbers depend on; neither names nor paths."""
    versions = {name: version for name in PACKAGES if (version := installed(name))}
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "system": platform.system(),
        "processor": platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "postgresql": server.version if server else None,
        "packages": versions,
    }


def installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_bad(outcome: Outcome) -> bool:
    failed = any((result.missing or "").startswith("FAILED") for result in outcome.results)
    return failed or any(bar.state == "MISSED" for bar in outcome.bars)


def report(outcomes: list[Outcome]) -> str:
    """The table and the bars as text."""
    head = f"{'scenario':16} {'what':38} {'rows':>10} {'median s':>9} {'from – to':>15} {'rows/s':>10} {'MB':>6}"
    lines = ["", head, "-" * len(head)]
    for outcome in outcomes:
        lines += [f"{outcome.name:16} {result_line(result)}" for result in outcome.results]
    lines += ["", "bars"]
    for bar in (bar for outcome in outcomes for bar in outcome.bars):
        value = "–" if bar.value is None else f"{bar.value:.2f}"
        sign = "<=" if bar.at_most else ">="
        lines.append(f"  {bar.what}: {value} ({sign} {bar.limit:g}): {bar.state}")
    return "\n".join(lines)


def result_line(result: Result) -> str:
    summary = result.summary
    if summary is None:
        return f"{result.name:38} {result.missing}"
    span = f"{summary.fastest_seconds:.2f} – {summary.slowest_seconds:.2f}"
    rate, peak = result.rows / summary.median_seconds, summary.peak_bytes / 1e6
    seconds = f"{summary.median_seconds:>9.2f} {span:>15}"
    return f"{result.name:38} {result.rows:>10,} {seconds} {rate:>10,.0f} {peak:>6.0f}"


def write_json(given: argparse.Namespace, facts: dict[str, object], outcomes: list[Outcome]) -> Path:
    """Write results, ratios and bars; the file's name is the date and the number of rows."""
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    path: Path = given.json or ROOT / "bench" / "results" / f"{stamp}-{given.rows}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    scenarios = [
        {
            "name": outcome.name,
            "results": [asdict(one) | {"rows_per_second": one.rows_per_second} for one in outcome.results],
            "bars": [asdict(bar) | {"state": bar.state} for bar in outcome.bars],
        }
        for outcome in outcomes
    ]
    result = {"machine": facts, "rows": given.rows, "repeats": given.repeats, "scenarios": scenarios}
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
