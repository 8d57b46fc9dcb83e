"""Measures contenders in turns, and checks what each has done: a fast load that is wrong does not count."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.contenders import Contender
from bench.measure import Measurement, measure, summarise
from bench.results import Outcome, Result


@dataclass(slots=True)
class Runs:
    """What was measured of one contender so far."""

    taken: list[Measurement] = field(default_factory=list)
    dead_rows: list[int] = field(default_factory=list)
    trouble: str | None = None


def take_turns(
    contenders: Sequence[Contender], outcome: Outcome, folder: Path, repeats: int, say: Callable[[str], None]
) -> None:
    """Measure each contender in turn, several times round: what disturbs the machine disturbs all of them."""
    runs = {one.name: Runs() for one in contenders}
    for turn in range(repeats):
        for one in (one for one in contenders if not runs[one.name].trouble):
            run_once(runs[one.name], one, folder)
            seconds = [f"{measured.seconds:.2f} s" for measured in runs[one.name].taken[turn:]]
            say(f"{outcome.name}: {one.name}, run {turn + 1}: {', '.join(seconds) or runs[one.name].trouble}")
    outcome.results += [result_of(one, runs[one.name]) for one in contenders]


def run_once(runs: Runs, one: Contender, folder: Path) -> None:
    try:
        one.prepare()
    except RuntimeError as error:
        runs.trouble = f"could not be prepared: {error}"
        return
    measured = measure(one.command, folder, limit=one.limit)
    runs.trouble = what_is_wrong(one, measured)
    if runs.trouble:
        runs.trouble = runs.trouble.replace(f"{folder}/", "")
    if not runs.trouble or (one.is_peer and measured.exit_code == 0):
        runs.taken.append(measured)
    if one.dead_rows and not runs.trouble and (dead := one.dead_rows()) is not None:
        runs.dead_rows.append(dead)


def result_of(one: Contender, runs: Runs) -> Result:
    """A peer that has ended well counts with what it has made of the file, and that is told."""
    if runs.trouble and not (one.is_peer and runs.taken):
        return Result(one.name, one.rows, trouble=runs.trouble, is_failure=not one.is_peer, note=one.note)
    dead = max(runs.dead_rows) if runs.dead_rows else None
    return Result(one.name, one.rows, summarise(runs.taken), runs.trouble, note=one.note, dead_rows=dead)


def what_is_wrong(one: Contender, measured: Measurement) -> str | None:
    """Check exit code, counts, and the table itself."""
    if one.limit and measured.seconds >= one.limit:
        return f"not done after {one.limit:.0f} s"
    allowed = (0, 3) if one.counts and one.counts[3] else (0,)
    if measured.exit_code not in allowed:
        written = one.state().rows - one.there
        return f"fails with exit code {measured.exit_code}, {written:,} rows written: {error_line(measured)}"
    if one.counts and (wrong := wrong_counts(one.counts, measured.stdout)):
        return wrong
    if (found := one.state()) != one.expected:
        return f"leaves {found}; right are {one.expected}"
    return None


def error_line(measured: Measurement) -> str:
    """The last line that speaks of an error: what comes behind it is advice, and links to advice."""
    lines = (measured.stderr.strip() or measured.stdout.strip()).splitlines() or ["no message"]
    spoken = (line for line in reversed(lines) if "error" in line.lower() and "://" not in line)
    return next(spoken, lines[-1])[:160]


def wrong_counts(expected: tuple[int, int, int, int], stdout: str) -> str | None:
    """What etl says it did, against what is in the file."""
    try:
        counts = json.loads(stdout)
        found = tuple(counts[name] for name in ("read", "written", "duplicates", "rejected"))
    except (ValueError, KeyError, TypeError):
        return "standard output is not the JSON of `etl load --json`"
    if found != expected:
        return f"read, written, duplicates, rejected are {found}, right are {expected}"
    return None
