"""Measure etl beside the databases' own shells and other tools: `make bench`, or `python bench/run.py --help`.

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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # as a script, Python looks for modules in bench/ alone
    sys.path.insert(0, str(ROOT))

from bench.contenders import Etl  # noqa: E402
from bench.files import Files  # noqa: E402
from bench.results import Outcome, Result, format_bar  # noqa: E402
from bench.scenarios import FULL_ROWS, SCENARIOS, Bench  # noqa: E402
from bench.servers import Server, postgres  # noqa: E402

PACKAGES = ("savepoint-etl", "sqlalchemy", "psycopg", "pyarrow", "numpy", "pgpq")
COMPLETE = ROOT / "docs" / "bench" / "results.json"  # committed; what has fewer rows or scenarios goes elsewhere


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure etl beside the databases' own shells and other tools.")
    rows = int(os.environ.get("ROWS", str(FULL_ROWS)).replace("_", "").replace(",", ""))
    parser.add_argument("--rows", type=int, default=rows, help=f"default: $ROWS or {FULL_ROWS:,}")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contender (default: 3)")
    names = f"{', '.join(SCENARIOS)}; default: all"
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, metavar="NAME", help=names)
    parser.add_argument("--etl", default=str(Path(sys.executable).parent / "etl"), help="the command to measure")
    parser.add_argument("--folder", type=Path, help="where to make the files (default: a temporary folder)")
    where = "default: docs/bench/results.json if everything is measured, else bench/results/…"
    parser.add_argument("--json", type=Path, help=f"where to write the results ({where})")
    given = parser.parse_args(argv)
    if shutil.which(shlex.split(given.etl)[0]) is None:
        parser.error(f"there is no command {given.etl}; install etl into this environment or name it by --etl")
    return given


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    path = result_path(given)
    with tempfile.TemporaryDirectory(prefix="etl-bench-", dir=given.folder) as name, postgres(Path(name)) as server:
        outcomes = run(given, Path(name), server, path)
    print(report(outcomes))
    if not given.json and not given.scenario and given.rows >= FULL_ROWS:
        COMPLETE.parent.mkdir(exist_ok=True)
        path = path.replace(COMPLETE)
    print(f"\nWritten to {path}.")
    return int(any(outcome.is_bad for outcome in outcomes))


def run(given: argparse.Namespace, folder: Path, server: Server | None, path: Path) -> list[Outcome]:
    """Measure the scenarios; the results are written after each, so that a bench that is ended leaves some."""

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    etl = Etl(tuple(shlex.split(given.etl)), folder)
    bench = Bench(folder, etl, Files(folder, say), given.rows, given.repeats, server, say)
    facts = machine(server)
    outcomes: list[Outcome] = []
    for name in given.scenario or SCENARIOS:
        outcomes.append(SCENARIOS[name].measure(bench, name))
        write_json(path, given, facts, outcomes)
    return outcomes


def result_path(given: argparse.Namespace) -> Path:
    if given.json:
        return Path(given.json)
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    return ROOT / "bench" / "results" / f"{stamp}-{given.rows}.json"


def machine(server: Server | None) -> dict[str, object]:
    """What the numbers depend on; neither names nor paths."""
    versions = {name: version for name in PACKAGES if (version := installed(name))}
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "system": platform.system(),
        "processor": platform.machine(),
        "processors": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
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


def report(outcomes: list[Outcome]) -> str:
    """The table and the bars as text."""
    head = f"{'scenario':25} {'what':24} {'rows':>10} {'median s':>9} {'from – to':>15} {'rows/s':>10} {'MB':>6}"
    lines = ["", head, "-" * len(head)]
    for outcome in outcomes:
        lines += [f"{outcome.name:25} {result_line(result)}" for result in outcome.results]
    lines += ["", "bars"]
    for bar in (bar for outcome in outcomes for bar in outcome.as_json()["bars"]):
        value, limit, state = format_bar(bar)
        lines.append(f"  {bar['what']}: {value} ({limit}): {state}")
    return "\n".join(lines)


def result_line(result: Result) -> str:
    summary = result.summary
    if summary is None:
        return f"{result.name:24} {'FAILED: ' * result.is_failure}{result.trouble}"
    span = f"{summary.fastest_seconds:.2f} – {summary.slowest_seconds:.2f}"
    figures = f"{result.rows:>10,} {summary.median_seconds:>9.2f} {span:>15} {result.rows_per_second:>10,.0f}"
    return f"{result.name:24} {figures} {summary.peak_bytes / 1e6:>6.0f}  {result.trouble or ''}".rstrip()


def write_json(path: Path, given: argparse.Namespace, facts: dict[str, object], outcomes: list[Outcome]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scenarios = [outcome.as_json() for outcome in outcomes]
    result = {"machine": facts, "rows": given.rows, "repeats": given.repeats, "scenarios": scenarios}
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
