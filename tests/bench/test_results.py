"""A bar is held, missed or not measured, and the page and the pictures say so."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.measure import Measurement, Summary, measure, summarise
from bench.page import page
from bench.plot import plot_ratios, plot_tools
from bench.results import Bar, Outcome, Result


def summary(seconds: float) -> Summary:
    return summarise([Measurement(seconds, seconds / 2, 100_000_000, 0, "", "")])


def results(*outcomes: Outcome) -> dict[str, object]:
    machine = {
        "at": "2024-02-29T12:00:00+00:00",
        "system": "Linux",
        "processor": "x86_64",
        "processors": 2,
        "memory_bytes": 8 * 2**30,
        "python": "3.11",
        "sqlite": "3.45",
        "postgresql": "18.1",
        "packages": {"pyarrow": "26.0"},
    }
    return {"machine": machine, "rows": 5_000_000, "repeats": 3, "scenarios": [one.as_json() for one in outcomes]}


CLEAN = Outcome(
    "clean-csv",
    "Clean CSV",
    [Result("psql \\copy", 5_000_000, summary(10.0)), Result("etl copy", 5_000_000, summary(9.0), dead_rows=7)],
    [Bar("clean CSV", 0.9, 0.85, 5_000_000, 5_000_000, name="etl copy", peer="psql \\copy")],
)
TOOLS = Outcome(
    "peers-clean",
    "Other tools",
    [Result("dlt", 200_000, summary(4.0), "leaves 3 rows"), Result("pgloader", 200_000, trouble="not installed")],
)


@pytest.mark.parametrize(
    ("value", "limit", "at_most", "rows", "state", "is_missed"),
    [
        (0.85, 0.85, True, 5_000_000, "held", False),
        (0.86, 0.85, True, 5_000_000, "MISSED", True),
        (0.86, 0.85, True, 200_000, "MISSED", False),
        (299.0, 300.0, False, 5_000_000, "MISSED", True),
        (0.86, None, True, 5_000_000, "for information", False),
        (None, 0.85, True, 5_000_000, "not measured", False),
    ],
    ids=["at the limit", "above", "above, fewer rows", "below a lower limit", "no limit", "not measured"],
)
def test_bar_is_judged(
    value: float | None, limit: float | None, at_most: bool, rows: int, state: str, is_missed: bool
) -> None:
    bar = Bar("some", value, limit, rows, 5_000_000, at_most=at_most)

    assert (bar.state, bar.is_missed) == (state, is_missed)


def test_page_tells_bars_figures_and_troubles() -> None:
    text = page(results(CLEAN, TOOLS))

    assert "| clean CSV | 0.90 × | ≤ 0.85 × | **missed** |" in text
    assert "| etl copy | 5,000,000 | 9.00 | 9.00 – 9.00 | 555,556 | 4.50 | 100 | 7 dead rows left |" in text
    assert "| pgloader | 200,000 | – | – | – | – | – | not installed |" in text


def test_pictures_are_xml_with_the_figures_in_them() -> None:
    ratios = [*ElementTree.fromstring(plot_ratios(results(CLEAN, TOOLS))).itertext()]
    tools = [*ElementTree.fromstring(plot_tools(results(CLEAN, TOOLS))).itertext()]

    assert {"Clean CSV", "9.0 s", "10.0 s", "0.90 ×", "missed, ≤ 0.85"} <= {*ratios}
    assert "50,000 (200,000 rows, the rows left are not the right ones)" in tools
    assert "pgloader" not in tools


def test_command_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    measured = measure(["tail", "-f", "/dev/null"], tmp_path, limit=0.1)

    assert measured.exit_code == -9
