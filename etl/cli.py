"""The command line: read arguments, call, print, exit code."""

from __future__ import annotations

import json
import logging
import os
import select
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click

from etl import __version__
from etl.config import Method, read_database, read_job
from etl.errors import ConfigError, EtlError, OutOfMemory
from etl.stopping import Signals, exit_code_of, name_of

EXIT_CODES = """
\b
Exit codes:
  0    done, nothing rejected
  1    failed: database or source; the same command goes on
  2    usage or config error, nothing was started
  3    done, some records rejected
  4    max_rejects passed, the open transaction was rolled back
  5    another run of this job holds the lock
  130  SIGINT, 143 SIGTERM: rolled back, the same command goes on
"""


class _Commands(click.Group):
    """The commands: also a usage error is told as JSON on request, and a signal ends them in order."""

    def main(self, *args: Any, obj: Signals | None = None, **kwargs: Any) -> Any:
        """Signals are the command's until it ends, or the whole process', where ``obj`` is given."""
        with nullcontext(obj) if obj is not None else Signals() as signals:
            return super().main(*args, obj=signals, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["etl.as_json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if ctx.meta["etl.as_json"]:
                _print_usage_error_as_json(error)
            raise


@click.group(cls=_Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="etl")
def main() -> None:
    """Load CSV and Parquet files into database tables, every record accounted for."""


@main.command(epilog=EXIT_CODES)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, metavar="NAME", help="Run this load only; may be given several times.")
@click.option(
    "--method", type=click.Choice(["auto", "copy", "bulk", "row"]), help="Overrides the method of every load."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Read N records of each source.")
@click.option("--dry-run", is_flag=True, help="Do it all in a transaction that is rolled back.")
@click.option("--rerun", is_flag=True, help="Load sources again that were loaded before.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
@click.option("--progress/--no-progress", default=None, help="Default: on a terminal.")
@click.option("-v", "--verbose", is_flag=True, help="Say more: why a method was chosen, what it cost.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, and no summary.")
@click.pass_obj
def load(
    signals: Signals,
    config: Path,
    only: tuple[str, ...],
    method: Method | None,
    limit: int | None,
    dry_run: bool,
    rerun: bool,
    as_json: bool,
    progress: bool | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Run the job of CONFIG, or go on with it where an earlier run ended."""
    from etl.report import error_as_dict, result_as_dict, summary

    def as_object(code: int, sentence: str) -> str:
        return _as_json(error_as_dict(config.name, code, sentence))

    owed = as_object if as_json else None
    signals.last_words = partial(_told_at_once, owed)
    from etl.loading import Options, execute  # only now: it takes most of a second
    from etl.progress import choose_reporter

    _log_to_standard_error(verbose)
    reporter = choose_reporter(show=progress, quiet=quiet, verbose=verbose, stream=sys.stderr)
    options = Options(only, method, limit, dry_run, rerun)
    with _told_in_a_sentence(signals, owed):
        result = execute(read_job(config), options, reporter, signals).result
    is_shown = True
    if as_json:
        is_shown = _print_json(result_as_dict(result))
    elif not quiet:
        command = f"etl rejects {shlex.quote(str(config))} --run {result.run_id}"
        is_shown = _print([summary(result, command, verbose=verbose)])
    is_done = result.exit_code in (0, 3)
    _exit(1 if is_done and not is_shown else result.exit_code, result.error)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--verify",
    type=click.IntRange(min=1),
    metavar="N",
    help="Load N records of each source by the chosen method and by `row`, roll both back, and compare.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
@click.pass_obj
def check(signals: Signals, config: Path, verify: int | None, as_json: bool) -> None:
    """Look at all that a load of CONFIG depends on: config, connection, tables, columns, sources. Writes nothing.

    Ends with 1 where there are problems, or where --verify finds that the methods differ.
    """
    from etl.checking import check_job, report_as_dict, report_as_text
    from etl.verifying import verify_job

    with _told_in_a_sentence(signals, _error_as_json if as_json else None):
        job = read_job(config)
        report = check_job(job) if verify is None else verify_job(job, verify)
    is_shown = _print_json(report_as_dict(report)) if as_json else _print([report_as_text(report)])
    _exit(1 if report.problems or report.has_differences or not is_shown else 0)


@main.command()
@click.argument("config_or_url", metavar="CONFIG|URL")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
@click.option("--last", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="Newest N runs.")
@click.pass_obj
def history(signals: Signals, config_or_url: str, as_json: bool, last: int) -> None:
    """List the runs of the job of CONFIG, or all in the database at URL, the newest first."""
    from etl.checking import read_ledger
    from etl.ledger import past_runs
    from etl.report import history_as_dict, history_table

    with _told_in_a_sentence(signals, _error_as_json if as_json else None):
        database, job = read_database(config_or_url)
        with read_ledger(database) as session:
            runs = past_runs(session, job, last) if session is not None else []
    told = history_table(runs) if runs else "No runs yet."
    is_shown = _print_json(history_as_dict(runs)) if as_json else _print([told])
    _exit(0 if is_shown else 1)


@main.command()
@click.argument("config_or_url", metavar="CONFIG|URL")
@click.option("--run", "run_id", metavar="ID", help="Default: the newest run.")
@click.option("--load", "load_name", metavar="NAME", help="Of this load only.")
@click.option("--phase", type=click.Choice(["read", "map", "write", "duplicate"]), help="Of this phase only.")
@click.option("--format", "format_", type=click.Choice(["table", "csv", "jsonl"]), default="table", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
@click.pass_obj
def rejects(
    signals: Signals,
    config_or_url: str,
    run_id: str | None,
    load_name: str | None,
    phase: str | None,
    format_: str,
    output: Path | None,
) -> None:
    """List the rejects of a run, with the place and the reason of each."""
    from etl.checking import read_ledger
    from etl.ledger import kept_rejects, run_exists
    from etl.report import rejects_csv, rejects_jsonl, rejects_table

    formats: dict[str, Callable[[Iterable[Any]], Iterator[str]]] = {
        "table": rejects_table,
        "csv": rejects_csv,
        "jsonl": rejects_jsonl,
    }
    with _told_in_a_sentence(signals):
        database, job = read_database(config_or_url)
        with read_ledger(database) as session:
            if run_id is not None and (session is None or not run_exists(session, run_id)):
                raise ConfigError(f"There is no run {run_id} in the ledger.", "`etl history` lists the runs.")
            kept = kept_rejects(session, job=job, run_id=run_id, load=load_name, phase=phase) if session else iter(())
            _write_lines(formats[format_](kept), output)


def _write_lines(lines: Iterator[str], output: Path | None) -> None:
    if output is None:
        if not _print(lines):
            _exit(1)
        return
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}.", "Give another path to -o.") from None


@contextmanager
def _told_in_a_sentence(signals: Signals, as_object: Callable[[int, str], str] | None = None) -> Iterator[None]:
    """What signals may interrupt; they, and an EtlError, end the command with a sentence and their exit code.

    ``as_object`` makes the JSON object that is due on standard output then.
    """
    signals.last_words = partial(_told_at_once, as_object)
    try:
        with signals.interruptible():
            yield
        code, sentence = 0, ""
    except EtlError as error:
        code, sentence = error.exit_code, str(error)
    except MemoryError:
        code, sentence = OutOfMemory.exit_code, str(OutOfMemory())
    except KeyboardInterrupt as error:
        code = exit_code_of(error)
        sentence = f"Stopped by {name_of(code)}; nothing was loaded."
    signals.last_words = partial(_told_at_once, None)  # the object is printed below, or by the command
    if not code:
        return
    if as_object is not None:
        _print([as_object(code, sentence)])
    _exit(code, sentence)


def _told_at_once(as_object: Callable[[int, str], str] | None, code: int) -> None:
    """Of a process that ends with ``code`` whatever its main thread is at."""
    told = f"Stopped by {name_of(code)} without waiting any longer; the database rolls the open transaction back."
    sentence = f"{told} Run the same command again to go on."
    _write_at_once(2, f"etl: {sentence}\n")
    if as_object is not None:
        _write_at_once(1, f"{as_object(code, sentence)}\n")


def _error_as_json(code: int, sentence: str) -> str:
    return _as_json({"error": sentence, "exit_code": code})


def _print_usage_error_as_json(error: click.UsageError) -> None:
    sentence = error.format_message()
    if error.ctx is None or error.ctx.command.name != load.name:
        _print_json({"error": sentence, "exit_code": error.exit_code})
        return
    from etl.report import error_as_dict

    config = error.ctx.params.get("config")
    _print_json(error_as_dict(config.name if config else "", error.exit_code, sentence))


def _exit(code: int, error: str | None = None) -> None:
    if error:
        _tell(error)
    sys.exit(code)


def _tell(sentence: str) -> None:
    """On standard error; where nobody can read it, the exit code has to do."""
    try:
        click.echo(f"etl: {sentence}", err=True)
    except OSError:
        _abandon(sys.stderr)


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _print_json(value: object) -> bool:
    return _print([_as_json(value)])


def _print(lines: Iterable[str]) -> bool:
    """To standard output; False, and told, where it takes no more. A reader that has seen enough is no error."""
    try:
        for line in lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon(sys.stdout)
    except OSError as error:
        _abandon(sys.stdout)
        _tell(f"Standard output cannot be written to: {error.strerror}. What was committed stays: see `etl history`.")
        return False
    return True


def _abandon(stream: TextIO) -> None:
    """Python flushes once more at its end: give it somewhere to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _write_at_once(descriptor: int, text: str) -> None:
    """Past Python's streams, which another thread may hold, and not where a full pipe would have to be waited for."""
    try:
        if select.select([], [descriptor], [], 0)[1]:
            os.write(descriptor, text.encode())
    except OSError:
        pass


def _log_to_standard_error(verbose: bool) -> None:
    level = logging.DEBUG if verbose else logging.WARNING
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("etl").setLevel(level)
    # It warns of each executemany that was refused and is settled now: no news to anybody.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
