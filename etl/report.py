"""What a run, the history and the rejects look like: text for people, JSON and CSV for programs.

In text every character that does not print is shown by its code, wherever it came from: no value of the data
can steer the terminal.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, Literal, Protocol

from etl.records import Counts, FileResult, LoadResult, Reject, RejectCount, RunResult, Timing
from etl.showing import to_json, visible

Row = Sequence[str]

_REJECT_KEYS = (
    "run_id",
    "load",
    "file",
    "record",
    "line",
    "phase",
    "reason",
    "sqlstate",
    "constraint",
    "column",
    "message",
    "values",
    "raw",
)
_REJECT_HEADINGS = ("load", "place", "reason", "constraint or column", "message")
_REJECT_WIDTHS = (16, 36, 12, 28)  # at most; the message takes the rest of the line
_LINE_WIDTH = 120
_GAP = "  "
_REJECTS_AT_ONCE = 500  # looked at together to find the widths of the columns


class PastRunLike(Protocol):
    """A run as the ledger gives it back."""

    @property
    def run_id(self) -> str: ...
    @property
    def job(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def executions(self) -> int: ...
    @property
    def started_at(self) -> dt.datetime: ...
    @property
    def finished_at(self) -> dt.datetime | None: ...
    @property
    def counts(self) -> Counts: ...
    @property
    def files(self) -> int: ...
    @property
    def error(self) -> str | None: ...


class KeptRejectLike(Protocol):
    """A reject with its run, load and file, as the ledger gives it back."""

    @property
    def run_id(self) -> str: ...
    @property
    def load(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def reject(self) -> Reject: ...


# The result as JSON


def result_as_dict(result: RunResult) -> dict[str, Any]:
    """The object that ``etl load --json`` prints; its keys and their order are a contract (docs/results.md)."""
    return {
        "run_id": result.run_id or None,
        "job": result.job,
        "status": result.status,
        "exit_code": result.exit_code,
        "dry_run": result.dry_run,
        "seconds": round(result.seconds, 3),
        **_counts_as_dict(result.counts),
        "loads": [_load_as_dict(load) for load in result.loads],
        "timing": None if result.timing is None else asdict(result.timing),
        "error": result.error,
    }


def error_as_dict(job: str, exit_code: int, message: str, *, dry_run: bool = False) -> dict[str, Any]:
    """The same object for a run that never started, or that a signal has ended at once."""
    status: Literal["stopped", "failed"] = "stopped" if exit_code > 128 else "failed"
    return result_as_dict(RunResult("", job, status, exit_code, dry_run, 0.0, error=message))


def _load_as_dict(load: LoadResult) -> dict[str, Any]:
    return {
        "name": load.name,
        "table": load.table,
        "method": load.method,
        **_counts_as_dict(load.counts),
        "seconds": round(load.seconds, 3),
        "rejects": [_reject_count_as_dict(rejects) for rejects in load.rejects],
        "files": [_file_as_dict(file) for file in load.files],
        **({"children": {name: asdict(counts) for name, counts in load.children.items()}} if load.children else {}),
    }


def _counts_as_dict(counts: Counts) -> dict[str, int]:
    return {
        "read": counts.read,
        "written": counts.written,
        "updated": counts.updated,
        "unchanged": counts.unchanged,
        "duplicates": counts.duplicates,
        "rejected": counts.rejected,
        "filtered": counts.filtered,
    }


def _reject_count_as_dict(rejects: RejectCount) -> dict[str, Any]:
    return {
        "phase": str(rejects.phase),
        "reason": str(rejects.reason),
        "sqlstate": rejects.sqlstate,
        "constraint": rejects.constraint,
        "column": rejects.column,
        "count": rejects.count,
    }


def _file_as_dict(file: FileResult) -> dict[str, Any]:
    return {
        "path": file.path,
        "status": file.status,
        "read": file.counts.read,
        "written": file.counts.written,
        "duplicates": file.counts.duplicates,
        "rejected": file.counts.rejected,
    }


# The result as text

RARE = ("updated", "unchanged", "filtered")  # verdicts that are told where there are some


def summary(result: RunResult, command: str, *, verbose: bool = False) -> str:
    """What ``etl load`` prints when it ends, without a final newline.

    ``command`` is the whole command that lists the rejects of this run. ``verbose`` says what the run has cost.
    ``result.error`` is left out: it goes to standard error.
    """
    costs = _costs(result.timing) if verbose and result.timing else ""
    parts = (
        _headline(result),
        _load_table(result),
        _child_table(result),
        _file_notes(result),
        costs,
        _reasons(result, command),
    )
    return "\n\n".join(part for part in parts if part)


def _headline(result: RunResult) -> str:
    lines = []
    if result.dry_run:
        lines.append("Dry run: nothing was written. The counts are those of a load that was rolled back.")
    if result.status != "completed":
        lines.append(_broken_off(result))
    if _is_nothing_new(result):
        lines.append("Nothing new: every file was loaded before, and nothing was loaded twice.")
    return "\n".join(lines)


def _broken_off(result: RunResult) -> str:
    verb = "failed" if result.status == "failed" else "was stopped"
    if result.dry_run:
        return f"The dry run {verb} before its end."
    run = visible(f"Run {result.run_id}") if result.run_id else "The run"
    # Without loads the ledger could not be asked any more, which does not mean that nothing was committed.
    what = "The counts are what it has committed" if result.loads else "What it has committed stays"
    return f"{run} {verb}. {what}; the same command goes on from there."


def _is_nothing_new(result: RunResult) -> bool:
    files = [file for load in result.loads for file in load.files]
    are_old = bool(files) and all(file.status == "already_loaded" for file in files)
    return result.status == "completed" and are_old and not result.counts.read


def _load_table(result: RunResult) -> str:
    if not result.loads or _is_nothing_new(result):
        return ""
    has_tables = any(load.table != load.name for load in result.loads)
    verdicts = _verdicts(result.counts)
    words = ["load", "table", "method"] if has_tables else ["load", "method"]
    rows = [[*words, *verdicts, "seconds", "rows/s"]]
    for load in result.loads:
        names = [load.name, load.table, load.method] if has_tables else [load.name, load.method]
        rows.append([*names, *_numbers(load.counts, verdicts, load.seconds)])
    if len(result.loads) > 1:
        total = ["total"] + [""] * (len(words) - 1)
        rows.append([*total, *_numbers(result.counts, verdicts, result.seconds)])
    return "\n".join(aligned(rows, right=range(len(words), len(rows[0]))))


def _verdicts(counts: Counts) -> list[str]:
    """The verdicts that have a column: the rare ones only where a record met them."""
    rare = [verdict for verdict in RARE if getattr(counts, verdict)]
    return ["read", "written", *rare, "duplicates", "rejected"]


def _child_table(result: RunResult) -> str:
    """What became of the elements of lists; those that were found are shared ones."""
    told = [(load, name, counts) for load in result.loads for name, counts in load.children.items()]
    if not told:
        return ""
    fates = ["read", "written", *(["found"] if any(counts.found for _, _, counts in told) else []), "rejected"]
    fates += ["skipped"] if any(counts.skipped for _, _, counts in told) else []
    rows = [["children of", "", *fates]]
    rows += [[load.name, name, *(f"{getattr(counts, fate):,}" for fate in fates)] for load, name, counts in told]
    return "\n".join(aligned(rows, right=range(2, len(rows[0]))))


def _numbers(counts: Counts, verdicts: Iterable[str], seconds: float) -> list[str]:
    speed = f"{counts.read / seconds:,.0f}" if counts.read and seconds > 0 else "-"
    return [*(f"{getattr(counts, verdict):,}" for verdict in verdicts), f"{seconds:,.2f} s", speed]


def _file_notes(result: RunResult) -> str:
    notes = []
    for load in result.loads:
        old = sum(file.status == "already_loaded" for file in load.files)
        if old:
            them = "it" if old == 1 else "them"
            notes.append(
                f"{visible(load.name)}: {_plural(old, 'file')} already loaded before, not loaded again "
                f"(--rerun loads {them} again)"
            )
        notes += [
            f"{visible(load.name)}: {visible(file.path)} is loaded in part"
            for file in load.files
            if file.status == "partial"
        ]
    return "\n".join(notes)


_AHEAD = ("read", "map", "encode")  # on a thread of their own
_IN_ORDER = ("start", "wait", "write", "commit")


def _costs(timing: Timing) -> str:
    retries = f"{timing.retries:,} {'retry' if timing.retries == 1 else 'retries'} after a passing fault"
    counted = (
        _plural(timing.savepoints, "savepoint"),
        _plural(timing.rollbacks, "rollback"),
        f"{_plural(timing.settled, 'piece')} settled row by row",
        *([retries] if timing.retries else []),
    )
    beside, phases = _seconds(timing, _AHEAD), _seconds(timing, _IN_ORDER)
    return f"{', '.join(counted)}\nseconds: {phases}; beside these, on another thread: {beside}"


def _seconds(timing: Timing, phases: Iterable[str]) -> str:
    return ", ".join(f"{phase} {timing.seconds.get(phase, 0.0):,.2f}" for phase in phases)


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _reasons(result: RunResult, command: str) -> str:
    """The rejects counted by what refused them, and how to see them; those of a dry run are not kept."""
    rows = [
        [load.name, f"{some.count:,}", some.phase, some.reason, _refuser(some), some.sqlstate or ""]
        for load in result.loads
        for some in load.rejects
    ]
    if not rows:
        return ""
    headings = ["rejects of", "count", "phase", "reason", "constraint or column", "SQLSTATE"]
    table = "\n".join(aligned([headings, *rows], right={1}))
    return table if result.dry_run else f"{table}\n\nTo see them: {visible(command)}"


def _refuser(rejects: RejectCount | Reject) -> str:
    """The constraint or the column that refused a record, or both, or nothing."""
    if rejects.constraint and rejects.column:
        return f"{rejects.constraint} ({rejects.column})"
    return rejects.constraint or rejects.column or ""


# The history


def history_table(runs: Iterable[PastRunLike]) -> str:
    """Past runs, one a line; a job that they all share is named once, above them."""
    runs = list(runs)
    if not runs:
        return "No runs yet."
    jobs = {run.job for run in runs}
    names = ["started (UTC)", "run", *(["job"] if len(jobs) > 1 else []), "status"]
    verdicts = _verdicts(sum((run.counts for run in runs), Counts()))
    rows = [[*names, "duration", *verdicts, "files"]]
    rows += [_history_row(run, verdicts, with_job=len(jobs) > 1) for run in runs]
    table = "\n".join(aligned(rows, right=range(len(names), len(rows[0]))))
    return table if len(jobs) > 1 else f"Runs of {visible(runs[0].job)}\n\n{table}"


def _history_row(run: PastRunLike, verdicts: Iterable[str], *, with_job: bool) -> list[str]:
    counts = (*(getattr(run.counts, verdict) for verdict in verdicts), run.files)
    return [
        f"{_utc(run.started_at):%Y-%m-%d %H:%M:%S}",
        run.run_id,
        *([run.job] if with_job else []),
        run.status + _resumed(run.executions - 1),
        _duration(run),
        *(f"{count:,}" for count in counts),
    ]


def _resumed(times: int) -> str:
    if times < 1:
        return ""
    return ", resumed once" if times == 1 else f", resumed {times:,} times"


def _duration(run: PastRunLike) -> str:
    """From the start to the end, the pauses before a resume among it."""
    if run.finished_at is None:
        return "-"
    seconds = (_utc(run.finished_at) - _utc(run.started_at)).total_seconds()
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}:{minutes:02}:{seconds:02} h" if hours else f"{minutes}:{seconds:02} min"


def history_as_dict(runs: Iterable[PastRunLike]) -> dict[str, Any]:
    """The object that ``etl history --json`` prints; times are ISO 8601 in UTC, null for a run at work."""
    return {"runs": [_past_run_as_dict(run) for run in runs]}


def _past_run_as_dict(run: PastRunLike) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "job": run.job,
        "status": run.status,
        "executions": run.executions,
        "started_at": _utc(run.started_at).isoformat(),
        "finished_at": None if run.finished_at is None else _utc(run.finished_at).isoformat(),
        **_counts_as_dict(run.counts),
        "files": run.files,
        "error": run.error,
    }


def _utc(moment: dt.datetime) -> dt.datetime:
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


# The rejects


def rejects_table(rejects: Iterable[KeptRejectLike]) -> Iterator[str]:
    """Lines for a terminal, none wider than 120 columns: what does not fit is cut, its loss shown by "…".

    Streamed: the columns are as wide as what has been seen so far asks for, so they may widen further down.
    """
    rows = map(_reject_row, rejects)
    widths = tuple(map(len, _REJECT_HEADINGS[:-1]))
    is_first = True
    while page := list(islice(rows, _REJECTS_AT_ONCE)):
        widths = _widened(widths, page)
        if is_first:
            yield _reject_line(_REJECT_HEADINGS, widths)
        is_first = False
        for row in page:
            yield _reject_line(row, widths)
    if is_first:
        yield "No rejects."


def rejects_csv(rejects: Iterable[KeptRejectLike]) -> Iterator[str]:
    """The lines of a CSV file with a header, without line ends; ``values`` are JSON, NULL is empty.

    Exact, as a program needs it: ``raw`` is the record's own text, control characters and newlines among it.
    """
    yield ",".join(_REJECT_KEYS)
    for kept in rejects:
        fields = _reject_as_dict(kept)
        if fields["values"] is not None:
            fields["values"] = to_json(fields["values"])
        yield _csv_line(list(fields.values()))


def rejects_jsonl(rejects: Iterable[KeptRejectLike]) -> Iterator[str]:
    """One JSON object a line, without line ends; the keys and their order are a contract (docs/results.md)."""
    for kept in rejects:
        yield to_json(_reject_as_dict(kept))


def _reject_as_dict(kept: KeptRejectLike) -> dict[str, Any]:
    reject = kept.reject
    return {
        "run_id": kept.run_id,
        "load": kept.load,
        "file": kept.file,
        "record": reject.record,
        "line": reject.line,
        "phase": str(reject.phase),
        "reason": str(reject.reason),
        "sqlstate": reject.sqlstate,
        "constraint": reject.constraint,
        "column": reject.column,
        "message": reject.message,
        "values": reject.values,
        "raw": reject.raw,
    }


def _reject_row(kept: KeptRejectLike) -> Row:
    reject = kept.reject
    place = f"{kept.file} record {reject.record}" if reject.line is None else f"{kept.file}:{reject.line}"
    cells = (kept.load, place, str(reject.reason), _refuser(reject), reject.message)
    return tuple(map(visible, cells))


def _widened(widths: Sequence[int], page: Sequence[Row]) -> tuple[int, ...]:
    seen = (max(map(_width, column)) for column in list(zip(*page, strict=True))[:-1])
    wanted = map(max, widths, seen)
    return tuple(map(min, wanted, _REJECT_WIDTHS))


def _reject_line(row: Row, widths: Sequence[int]) -> str:
    *cells, message = row
    # A path tells most by its end, where the line is too.
    cuts = (cut, _cut_front, cut, cut)
    front = "".join(
        _filled(shortened(cell, width), width) + _GAP
        for shortened, cell, width in zip(cuts, cells, widths, strict=True)
    )
    return (front + cut(message, _LINE_WIDTH - _width(front))).rstrip()


def _csv_line(fields: Sequence[object]) -> str:
    line = io.StringIO()
    # Python 3.11 quotes a newline only if it is part of the line terminator: both CR and LF have to be.
    csv.writer(line, lineterminator="\r\n").writerow(fields)
    return line.getvalue().removesuffix("\r\n")


# Text in columns


def aligned(rows: Iterable[Row], right: Collection[int]) -> Iterator[str]:
    """The rows as lines of equally wide columns; those in ``right`` are numbers."""
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        cells = (
            _filled(cell, width, is_number=index in right)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield _GAP.join(cells).rstrip()


def _width(text: str) -> int:
    """Columns on a terminal: Chinese, Japanese and Korean characters take two."""
    return len(text) if text.isascii() else len(text) + sum(map(_is_wide, text))


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _filled(text: str, width: int, *, is_number: bool = False) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if is_number else text + blanks


def cut(text: str, width: int) -> str:
    """The text, or its beginning with an ellipsis where it takes more than ``width`` columns on a terminal."""
    if _width(text) <= width:
        return text
    kept, room = "", width - 1
    for character in text:
        room -= _width(character)
        if room < 0:
            break
        kept += character
    return kept + "…"


def _cut_front(text: str, width: int) -> str:
    return cut(text[::-1], width)[::-1]
