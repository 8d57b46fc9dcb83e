"""Make docs/bench.md and its pictures from the results of a bench: `make bench-page`.

python bench/page.py [RESULTS.json]     default: docs/bench/results.json
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # as a script, Python looks for modules in bench/ alone
    sys.path.insert(0, str(ROOT))

from bench.plot import plot_ratios, plot_tools  # noqa: E402
from bench.results import format_bar  # noqa: E402

DOCS = ROOT / "docs"
HEAD = """# Bench

How fast etl is, beside the databases' own shells, the way a person would do it by hand, and other tools. Each figure is
the median of whole processes, start included, measured in turns on one machine; ratios travel between machines, seconds
do not. After each run the table is looked at, and a load that is wrong does not count.

This page is made by `make bench-page` from [results.json](bench/results.json), which `make bench` writes;
[bench/README.md](../bench/README.md) says what is measured, and how.
"""
RATIOS = """
![Seconds of etl beside what each case is measured against](bench/ratios.svg)

*By hand* is one `psql` process that makes a temporary table, fills it by `\\copy`, and does
`INSERT … SELECT … ON CONFLICT DO NOTHING`, or `DO UPDATE` for updates: it says nothing of which rows were left out.
"""
TOOLS = """
## Other tools

Each is used in the fewest lines, with the fastest way that its documentation names. Most are measured once, on fewer
rows, and their rows per second are compared. What each makes of a duplicate is in the last column of the tables below.

![Rows per second of etl and of other tools](bench/tools.svg)
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make docs/bench.md and its pictures from the results of a bench.")
    parser.add_argument("results", type=Path, nargs="?", default=DOCS / "bench" / "results.json")
    parser.add_argument("--docs", type=Path, default=DOCS, help="the folder to write to (default: docs/)")
    given = parser.parse_args(argv)
    if not given.results.exists():
        parser.error(f"there is no {given.results}; `make bench` writes it")
    results = json.loads(given.results.read_text(encoding="utf-8"))
    pictures = given.docs / "bench"
    pictures.mkdir(parents=True, exist_ok=True)
    (pictures / "ratios.svg").write_text(plot_ratios(results), encoding="utf-8")
    (pictures / "tools.svg").write_text(plot_tools(results), encoding="utf-8")
    (given.docs / "bench.md").write_text(page(results), encoding="utf-8")
    return 0


def page(results: dict[str, Any]) -> str:
    """The page in Markdown."""
    scenarios = results["scenarios"]
    parts = [HEAD, machine(results), "\n## The bars\n", *bar_table(scenarios), RATIOS, TOOLS, "\n## All figures\n"]
    for scenario in scenarios:
        parts += [f"\n### {scenario['title']}\n", *result_table(scenario["results"])]
    return "\n".join(part.strip("\n") if part.startswith("|") else part.rstrip("\n") for part in parts) + "\n"


def machine(results: dict[str, Any]) -> str:
    facts = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    runs = f"medians of {results['repeats']} runs" if results["repeats"] > 1 else "one run of each"
    words = (
        f"Measured on {facts['at'][:10]} with {results['rows']:,} rows, {runs}:"
        f" {facts['system']} on {facts['processor']}, {facts['processors']} processors,"
        f" {facts['memory_bytes'] / 2**30:.0f} GB; PostgreSQL {facts['postgresql']} with default durability,"
        f" SQLite {facts['sqlite']}, Python {facts['python']}; {packages}."
    )
    return "\n" + textwrap.fill(words, 120)


def bar_table(scenarios: list[dict[str, Any]]) -> Iterator[str]:
    yield "\n| case | measured | bar | |\n| --- | ---: | ---: | --- |"
    for bar in (bar for scenario in scenarios for bar in scenario["bars"]):
        value, limit, state = format_bar(bar)
        yield f"| {bar['what']} | {value} | {limit} | {state.replace('MISSED', '**missed**')} |"


def result_table(results: list[dict[str, Any]]) -> Iterator[str]:
    yield "\n| | rows | seconds | from – to | rows/s | CPU s | peak MB | |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    for result in results:
        yield f"| {result['name']} | {result['rows']:,} | {figures(result['summary'], result)} | {remark(result)} |"


def figures(summary: dict[str, Any] | None, result: dict[str, Any]) -> str:
    if summary is None:
        return " | ".join("–" * 5)
    span = f"{summary['fastest_seconds']:.2f} – {summary['slowest_seconds']:.2f}"
    rate, peak = result["rows_per_second"], summary["peak_bytes"] / 1e6
    return f"{summary['median_seconds']:.2f} | {span} | {rate:,.0f} | {summary['median_cpu_seconds']:.2f} | {peak:,.0f}"


def remark(result: dict[str, Any]) -> str:
    dead = "" if result["dead_rows"] is None else f"{result['dead_rows']:,} dead rows left"
    return "; ".join(words.replace("|", "\\|") for words in (result["trouble"], result["note"], dead) if words)


if __name__ == "__main__":
    sys.exit(main())
