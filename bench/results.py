"""What a bench has found: results and bars, and the JSON of both."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bench.measure import Summary


@dataclass(frozen=True, slots=True)
class Result:
    """The measurements of one contender; `trouble` says why there are none, and is a failure if `is_failure`.

    `note` says what else a reader has to know, and `dead_rows` how many dead rows were left, where it was counted.
    """

    name: str
    rows: int
    summary: Summary | None = None
    trouble: str | None = None
    is_failure: bool = False
    note: str = ""
    dead_rows: int | None = None

    @property
    def rows_per_second(self) -> float | None:
        return self.rows / self.summary.median_seconds if self.summary else None


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the specification and what was measured; `value` None: it was not measured.

    It is for `full_rows` rows and was measured with `rows`. A `limit` of None is no bar, but a figure for
    information. `name` and `peer` are the two results whose seconds make the value, if that is what it is.
    """

    what: str
    value: float | None
    limit: float | None
    rows: int
    full_rows: int
    unit: str = "×"
    at_most: bool = True
    name: str | None = None
    peer: str | None = None

    @property
    def is_missed(self) -> bool:
        """False with fewer rows than the bar is for: then the start of Python weighs too much."""
        return self.state == "MISSED" and self.rows >= self.full_rows

    @property
    def state(self) -> str:
        if self.value is None:
            return "not measured"
        if self.limit is None:
            return "for information"
        return "held" if (self.value <= self.limit if self.at_most else self.value >= self.limit) else "MISSED"


@dataclass(slots=True)
class Outcome:
    """The results and bars of one scenario."""

    name: str
    title: str
    results: list[Result] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def result(self, name: str) -> Result | None:
        """The result of a contender that was measured."""
        return next((one for one in self.results if one.name == name and one.summary), None)

    @property
    def is_bad(self) -> bool:
        """Whether a load went wrong or a bar was missed."""
        return any(one.is_failure for one in self.results) or any(bar.is_missed for bar in self.bars)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "results": [asdict(one) | {"rows_per_second": one.rows_per_second} for one in self.results],
            "bars": [asdict(bar) | {"state": bar.state} for bar in self.bars],
        }


def format_bar(bar: dict[str, Any]) -> tuple[str, str, str]:
    """Value, limit and state of a bar, from its JSON, as texts."""
    value = "–" if bar["value"] is None else format_value(bar["value"], bar["unit"])
    sign = "≤" if bar["at_most"] else "≥"
    limit = "–" if bar["limit"] is None else f"{sign} {format_value(bar['limit'], bar['unit'])}"
    fewer = bar["value"] is not None and bar["rows"] < bar["full_rows"]
    note = f" (with {bar['rows']:,} rows; the bar is for {bar['full_rows']:,})" if fewer else ""
    return value, limit, bar["state"] + note


def format_value(value: float, unit: str) -> str:
    digits = 0 if value >= 100 or unit in ("rows/s", "MB") else 2
    return f"{value:,.{digits}f} {unit}"
