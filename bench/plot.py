"""The pictures of the results, as SVG: written by hand, so that they need no library and their differences can be read.

Each has a ground of its own, so that it can be read on white and on dark pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH = 880
LEFT, RIGHT = 268, 620  # where the bars begin, and where the longest ends
BAR, STEP = 13, 17  # heights of a bar, and of a bar with the space below it
OURS, THEIRS, GOOD, BAD, INK, PALE, LINE = "#2563c9", "#a9b1bd", "#187a3c", "#c2331f", "#1c2430", "#5c6675", "#d5dae1"
STYLE = f"""<style>
text {{ font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: {INK} }}
.title {{ font-size: 15px; font-weight: 600 }} .case {{ font-weight: 600 }} .pale {{ fill: {PALE} }}
.held {{ fill: {GOOD}; font-weight: 600 }} .missed {{ fill: {BAD}; font-weight: 600 }}
</style>"""


@dataclass(frozen=True, slots=True)
class Line:
    """One bar of a picture: a value with its text, or only a text where there is no value."""

    label: str
    value: float | None
    text: str
    is_ours: bool


def plot_ratios(results: dict[str, Any]) -> str:
    """Seconds per case: etl, what it is measured against, and the mark that etl's bar may not pass."""
    cases = [(scenario, bar) for scenario in results["scenarios"] for bar in scenario["bars"] if is_ratio(bar)]
    longest = max((max(pair_of(*case)[:2]) for case in cases), default=1.0)
    longest = max([longest, *(pair_of(*case)[1] * (case[1]["limit"] or 0) for case in cases)])
    scale, top = (RIGHT - LEFT) / longest, 78
    parts = [*legend(results), *ticks(longest, scale, top, top + len(cases) * 50 - 8)]
    for number, (scenario, bar) in enumerate(cases):
        parts += ratio_case(scenario, bar, top + number * 50, scale)
    return picture(parts, top + len(cases) * 50 + 18, "Seconds of etl beside what each case is measured against")


def is_ratio(bar: dict[str, Any]) -> bool:
    return bar["peer"] is not None and bar["value"] is not None


def pair_of(scenario: dict[str, Any], bar: dict[str, Any]) -> tuple[float, float]:
    """The median seconds of etl and of its peer."""
    seconds = {one["name"]: one["summary"]["median_seconds"] for one in scenario["results"] if one["summary"]}
    return seconds[bar["name"]], seconds[bar["peer"]]


def legend(results: dict[str, Any]) -> Iterator[str]:
    yield text(20, 28, "Seconds per case, whole process; shorter is better", "title")
    yield rectangle(20, 42, 12, OURS) + text(38, 52, "etl")
    yield rectangle(70, 42, 12, THEIRS) + text(88, 52, "the way it is measured against")
    yield line(273, 40, 273, 56, INK, 2) + text(282, 52, "the bar: etl should end before it")
    yield text(WIDTH - 20, 52, f"{results['rows']:,} rows, medians of {results['repeats']}", "pale", "end")


def ticks(longest: float, scale: float, top: float, bottom: float) -> Iterator[str]:
    """Lines at round numbers of seconds, four to eight of them."""
    sizes = (size * power for power in (0.01, 0.1, 1, 10, 100) for size in (1, 2, 5))
    step = next(size for size in sizes if longest / size < 8)
    for number in range(int(longest / step) + 1):
        x = LEFT + number * step * scale
        yield line(x, top - 6, x, bottom, LINE, 1) + text(x, bottom + 14, f"{number * step:g} s", "pale", "middle")


def ratio_case(scenario: dict[str, Any], bar: dict[str, Any], y: float, scale: float) -> Iterator[str]:
    ours, theirs = pair_of(scenario, bar)
    yield text(20, y + 11, scenario["title"], "case")
    yield text(LEFT - 8, y + 11, bar["name"], "", "end") + text(LEFT - 8, y + STEP + 11, bar["peer"], "pale", "end")
    yield rectangle(LEFT, y, ours * scale, OURS) + rectangle(LEFT, y + STEP, theirs * scale, THEIRS)
    ends, judged = ours, "no bar"
    if bar["limit"] is not None:
        mark, judged = bar["limit"] * theirs, f"{bar['state'].lower()}, ≤ {bar['limit']:.2f}"
        yield line(LEFT + mark * scale, y - 4, LEFT + mark * scale, y + BAR + 2, INK, 2)
        ends = mark if 0 < (mark - ours) * scale < 50 else ours  # the text does not go through the mark
    yield text(LEFT + ends * scale + 7, y + 11, f"{ours:.1f} s")
    yield text(LEFT + theirs * scale + 7, y + STEP + 11, f"{theirs:.1f} s", "pale")
    yield text(WIDTH - 128, y + 11, f"{bar['value']:.2f} ×", state_class(bar), "end")
    yield text(WIDTH - 118, y + 11, judged, "pale")


def state_class(bar: dict[str, Any]) -> str:
    return {"held": "held", "MISSED": "missed"}.get(bar["state"], "case")


def plot_tools(results: dict[str, Any]) -> str:
    """Rows per second of etl, the shells and the other tools, on a clean file and with duplicates."""
    panels = [(title, sorted(lines, key=speed)) for title, lines in tool_panels(results) if lines]
    longest = max((line.value or 0.0 for _, lines in panels for line in lines), default=1.0) or 1.0
    parts, y = [text(20, 28, "Rows per second; longer is better", "title")], 62.0
    for title, lines in panels:
        parts.append(text(20, y, title, "case"))
        for number, one in enumerate(lines):
            parts += tool_line(one, y + 10 + number * (STEP + 3), (RIGHT - LEFT) / longest)
        y += 10 + len(lines) * (STEP + 3) + 26
    return picture(parts, y - 14, "Rows per second of etl and of other tools")


def speed(one: Line) -> float:
    return -(one.value or 0.0)


def tool_panels(results: dict[str, Any]) -> Iterator[tuple[str, list[Line]]]:
    found = {scenario["name"]: scenario["results"] for scenario in results["scenarios"]}
    for kind, title in (("clean", "clean CSV"), ("duplicates-10", "10 % duplicates")):
        full = found.get("clean-csv" if kind == "clean" else kind, [])
        others = [one for one in found.get(f"peers-{kind}", []) if not one["name"].startswith("etl ")]
        on_sqlite = [one for one in others if one["name"].endswith(", SQLite")]
        yield f"PostgreSQL, {title}", lines_of([*full, *(one for one in others if one not in on_sqlite)])
        shell = [one for one in found.get(f"sqlite-{kind}", []) if kind == "clean" or one["name"].startswith("etl ")]
        yield f"SQLite, {title}", lines_of([*shell, *on_sqlite])


def lines_of(results: list[dict[str, Any]]) -> list[Line]:
    present = [one for one in results if one["trouble"] != "not installed"]
    names = [one["name"].removesuffix(", SQLite") for one in present]
    return [Line(name, *value_of(one), name.startswith("etl ")) for name, one in zip(names, present, strict=True)]


def value_of(result: dict[str, Any]) -> tuple[float | None, str]:
    rate = result["rows_per_second"]
    if rate is None:
        return None, result["trouble"].partition(":")[0]
    wrong = ", the rows left are not the right ones" if result["trouble"] else ""
    return rate, f"{rate:,.0f} ({result['rows']:,} rows{wrong})"


def tool_line(one: Line, y: float, scale: float) -> Iterator[str]:
    length = (one.value or 0.0) * scale
    yield text(LEFT - 8, y + 11, one.label, "" if one.is_ours else "pale", "end")
    yield rectangle(LEFT, y, length, OURS if one.is_ours else THEIRS)
    yield text(LEFT + length + 7, y + 11, one.text, "" if one.is_ours else "pale")


def picture(parts: list[str], height: float, label: str) -> str:
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img"'
    ground = f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="8" fill="#fff" stroke="{LINE}"/>'
    return "\n".join([f'{opening} aria-label="{escape(label)}">', STYLE, ground, *parts, "</svg>"]) + "\n"


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    aligned = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}{aligned}>{escape(words)}</text>'


def rectangle(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" rx="1.5" fill="{colour}"/>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'
