"""The command line: read arguments, call, print, exit code."""

from __future__ import annotations

import datetime as dt
import errno
import logging
import os
import select
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click

from etl import __version__
from etl.config import Method, RejectLimit, parse_limit, read_database, read_job
from etl.errors import ConfigError, EtlError, OutOfMemory
from etl.showing import shown_argument, to_json, visible_lines, without_passwords
from etl.stopping import Signals, exit_code_of, name_of, stop_comes_first

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
    """The commands: also a usage error and a bug are told in a sentence, and a signal ends them in order."""

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
            told = click.UsageError(visible_lines(shown_argument(error.format_message())), error.ctx)
            if ctx.meta["etl.as_json"]:
                _print_usage_error_as_json(told)
            raise told from None
        except Exception as error:
            if _is_clicks_own(error):
                raise
            if ctx.meta["etl.as_json"]:
                _print_error_as_json(ctx.invoked_subcommand, "", 1, _bug(error))
            _exit(1, _bug(error))


def _moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> dt.datetime | None:
    """ISO 8601, in UTC unless it says otherwise, or days back from now."""
    if value is None:
        return None
    try:
        if value.endswith("d") and value[:-1].isdecimal():
            return dt.datetime.now(dt.UTC) - dt.timedelta(days=int(value[:-1]))
        moment = dt.datetime.fromisoformat(value)
    except (ValueError, OverflowError):
        allowed = "Give a date such as 2026-01-31, a time such as 2026-01-31T18:00, or an age such as 90d."
        raise click.BadParameter(f"{value!r} is no moment. {allowed}") from None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


@click.group(cls=_Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="etl")
def main() -> None:
    """Load CSV and Parquet files into database tables, every record accounted for."""


def _reject_limit(_context: click.Context, _option: click.Parameter, text: str | None) -> RejectLimit | None:
    try:
        return parse_limit(int(text) if text is not None and text.isdecimal() else text)
    except ValueError as error:
        allowed = str(error).replace('"', "")
        raise click.BadParameter(f"{text!r} is not allowed; allowed: {allowed}.") from None


@main.command(epilog=EXIT_CODES)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, metavar="NAME", help="Run this load only; may be given several times.")
@click.option(
    "--method", type=click.Choice(["auto", "copy", "bulk", "row"]), help="Overrides the method of every load."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Read N records of each source.")
@click.option(
    "--max-rejects",
    callback=_reject_limit,
    metavar="N|P%",
    help="Most rejects of each load, a number or a share; overrides max_rejects of every load.",
)
@click.option("--dry-run", is_flag=True, help="Do it all in a transaction that is rolled back.")
@click.option("--rerun", is_flag=True, help="Load sources again that were loaded before.")
@click.option(
    "--wait",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    metavar="SECONDS",
    help="Wait so long at most for another run of this job to end.",
)
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
    max_rejects: RejectLimit | None,
    dry_run: bool,
    rerun: bool,
    wait: int,
    as_json: bool,
    progress: bool | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Run the job of CONFIG, or go on with it where an earlier run ended."""
    from etl.report import error_as_dict, result_as_dict, summary

    def as_object(code: int, sentence: str) -> str:
        return to_json(error_as_dict(_job_name(config), code, sentence))

    owed = as_object if as_json else None
    signals.last_words = partial(_told_at_once, owed)
    from etl.loading import execute  # only now: it takes most of a second
    from etl.progress import choose_reporter
    from etl.running import Options

    _log_to_standard_error(verbose)
    reporter = choose_reporter(show=progress, quiet=quiet, verbose=verbose, stream=sys.stderr)
    options = Options(only, method, limit, dry_run, rerun, wait, max_rejects)
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
    width = shutil.get_terminal_size((100, 24)).columns
    is_shown = _print_json(report_as_dict(report)) if as_json else _print([report_as_text(report, width)])
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
@click.option("--phase", type=click.Choice(["read", "map", "write", "child", "duplicate"]), help="Of this phase only.")
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
    from etl.ledger import kept_rejects, rejects_are_purged, run_exists
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
            if session is not None and rejects_are_purged(session, job=job, run_id=run_id):
                click.echo("etl: The rejects of this run were purged; `etl history` has their number.", err=True)
            kept = kept_rejects(session, job=job, run_id=run_id, load=load_name, phase=phase) if session else iter(())
            _write_lines(formats[format_](kept), output)


@main.command()
@click.argument("config_or_url", metavar="CONFIG|URL")
@click.option(
    "--before",
    callback=_moment,
    metavar="DATE",
    help="Runs that ended before this: a date or a time (UTC), or an age such as 90d.",
)
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Not the newest N runs of a job.")
@click.option("--job", "job_name", metavar="NAME", help="Default: the job of CONFIG, or all in the database at URL.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
@click.pass_obj
def purge(
    signals: Signals,
    config_or_url: str,
    before: dt.datetime | None,
    keep: int | None,
    job_name: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete the rejects of old runs, and the runs that are not needed to know which files were loaded.

    With --before and --keep, runs to which both apply. No file is loaded again for it: a run that says that a file was
    loaded stays, without its rejects. A run that can be resumed stays as it is.
    """
    from etl.purging import Limits, purge_as_dict, purge_as_text, purge_ledger

    if before is None and keep is None:
        raise click.UsageError("Give --before DATE, --keep N, or both.")
    with _told_in_a_sentence(signals, _error_as_json if as_json else None):
        database, job = read_database(config_or_url)
        report = purge_ledger(database, job_name or job, Limits(before, keep or 0), dry_run=dry_run)
    is_shown = _print_json(purge_as_dict(report)) if as_json else _print([purge_as_text(report)])
    _exit(report.exit_code if is_shown else 1)


@main.command()
@click.argument("files", metavar="FILE…", nargs=-1, required=True)
@click.option("--database", metavar="URL", help="Look for tables here. Default: a SQLite file named as the config.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.pass_obj
def init(signals: Signals, files: tuple[str, ...], database: str | None, output: Path | None, force: bool) -> None:
    """Write a config that loads each FILE into a table, with what was found in it: dialect, types, key, foreign keys.

    A FILE may be a folder, whose files go into one table. Every record is looked at; nothing is loaded.
    """
    from etl.discovery import initial_config

    with _told_in_a_sentence(signals):
        if output is not None and output.exists() and not force:
            raise ConfigError(f"{shown_argument(str(output))} is there already.", "Give another path, or --force.")
        config = initial_config(files, database, output)
        _write_lines(iter(config.splitlines()), output)
    if output is not None:
        name = shlex.quote(shown_argument(str(output)))
        click.echo(f"etl: Wrote {name}. Look it through, then: etl load {name}", err=True)


@main.command()
def schema() -> None:
    """Print the JSON Schema of the config, by which editors complete and check what is written.

    Editors that know Taplo or Even Better TOML read a first line such as `#:schema etl.schema.json`.
    """
    from etl.config_schema import schema_text

    _exit(0 if _print([schema_text()]) else 1)


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
    from pyarrow import enable_signal_handlers  # only now: it takes a fifth of a second

    enable_signal_handlers(False)  # its own, for as long as it parses CSV, would keep a signal from ours
    signals.last_words = partial(_told_at_once, as_object)
    try:
        with signals.interruptible(), stop_comes_first(signals):
            yield
        code, sentence = 0, ""
    except EtlError as error:
        code, sentence = error.exit_code, without_passwords(str(error))
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
    return to_json({"error": sentence, "exit_code": code})


def _print_usage_error_as_json(error: click.UsageError) -> None:
    command = error.ctx.command.name if error.ctx is not None else None
    config = error.ctx.params.get("config") if error.ctx is not None else None
    _print_error_as_json(command, _job_name(config) if config else "", error.exit_code, error.format_message())


def _print_error_as_json(command: str | None, job: str, exit_code: int, sentence: str) -> None:
    if command != load.name:
        _print_json({"error": sentence, "exit_code": exit_code})
        return
    from etl.report import error_as_dict

    _print_json(error_as_dict(job, exit_code, sentence))


def _job_name(config: Path) -> str:
    return Path(shown_argument(str(config))).name


def _is_clicks_own(error: Exception) -> bool:
    """What click itself turns into an exit code, a broken pipe among it."""
    is_broken_pipe = isinstance(error, OSError) and error.errno == errno.EPIPE
    return is_broken_pipe or isinstance(error, click.ClickException | click.Abort | click.exceptions.Exit)


def _bug(error: Exception) -> str:
    """Where an error came from that nobody has foreseen. Its own words are left out: they may hold a value."""
    package = Path(__file__).parent
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if package in Path(frame.filename).parents]
    places = " > ".join(f"{Path(frame.filename).relative_to(package)}:{frame.lineno}" for frame in frames)
    return (
        f"etl has a bug, or has met what it does not know: {type(error).__qualname__} in {places}. What was committed "
        "stays, and the same command goes on. Please report this line, with what `etl check` says."
    )


def _exit(code: int, error: str | None = None) -> None:
    if error:
        _tell(error)
    sys.exit(code)


def _tell(sentence: str) -> None:
    """On standard error; where nobody can read it, the exit code has to do."""
    try:
        click.echo(f"etl: {visible_lines(sentence)}", err=True)
    except OSError:
        _abandon(sys.stderr)


def _print_json(value: object) -> bool:
    return _print([to_json(value)])


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
    logging.getLogger("etl.plans").setLevel(min(level, logging.INFO))  # what is made in the database is always told
    # It warns of each executemany that was refused and is settled now: no news to anybody.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
