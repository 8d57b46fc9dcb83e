"""Sources that change while they are read, or between a run that ended early and the one that resumes it."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import etl
from etl.errors import SourceError
from etl.progress import Silence
from etl.readers import Source
from etl.readers.csv import CsvReader
from etl.readers.files import Fingerprint, fingerprint
from etl.records import Counts, RunResult
from tests.commands import Job, items_job
from tests.files import write_csv, write_job
from tests.jobs import fetch, ledger, run_sql

TABLE = "CREATE TABLE t (id INTEGER, n INTEGER)"  # without a key: what is written twice, or not at all, shows
HEADER = ("id", "n")
RESTORE = (
    "Put the former file back and run the same command again, "
    "or begin a new run with --rerun, which loads all files from their start."
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of some ten records: of a file of sixty, most is read after the first of them is written."""
    monkeypatch.setitem(CsvReader.__init__.__kwdefaults__, "block_size", 64)  # type: ignore[arg-type]


class At(Silence):
    """Calls ``act`` when the event, ``done`` or ``committed``, comes for the ``number``-th time."""

    def __init__(self, event: str, number: int, act: Callable[[], object]) -> None:
        self._event, self._left, self._act = event, number, act

    def _tell(self, event: str) -> None:
        self._left -= event == self._event
        if event == self._event and self._left == 0:
            self._act()

    def records_done(self, size: int, counts: Counts) -> None:
        self._tell("done")

    def committed(self) -> None:
        self._tell("committed")


def end() -> None:
    raise KeyboardInterrupt


def write(path: Path, numbers: Sequence[int]) -> Path:
    return write_csv(path, HEADER, [(number, number) for number in numbers])


def ids(url: str) -> list[int]:
    return [row[0] for row in fetch(url, "SELECT id FROM t ORDER BY id")]


def make_job(folder: Path, url: str, source: str = "*.csv", commit_every: int | str = 10, **load: object) -> Path:
    run_sql(url, TABLE)
    return write_job(folder, url, {"source": source, "table": "t", "commit_every": commit_every} | load)


def broken_off(job: Path, at_commit: int = 2) -> None:
    """A run that was ended behind a commit."""
    with pytest.raises(KeyboardInterrupt):
        etl.load(job, reporter=At("committed", at_commit, end))


def failure(job: Path, reporter: Silence | None = None, **options: bool) -> str:
    with pytest.raises(SourceError) as error:
        etl.load(job, reporter=reporter, **options)  # type: ignore[arg-type]
    return str(error.value)


def files(result: RunResult) -> dict[str, str]:
    return {file.path: file.status for file in result.loads[0].files}


# While it is read


def grow(path: Path) -> None:
    with path.open("a") as file:
        file.write("61,61\n")


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


def write_over(path: Path) -> None:
    """Other content of the same size, in the same file."""
    with path.open("r+") as file:
        file.write(path.read_text().replace("1", "2"))


def replace(path: Path) -> None:
    """Other content of the same size and time, in another file of the same name."""
    status = path.stat()
    other = path.with_name("other")
    other.write_text(path.read_text().replace("1", "2"))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


CHANGES = {
    grow: "has grown from 347 to 353 bytes",
    shrink: "has shrunk from 347 to 339 bytes",
    write_over: "was written to",
    replace: "was replaced by another file",
    Path.unlink: "has vanished",
}


def changes_while_it_is_read(url: str, folder: Path, change: Callable[[Path], object]) -> None:
    """Twenty records are committed; then it changes; then it is put back."""
    path = write(folder / "a.csv", range(1, 61))
    job, content = make_job(folder, url), path.read_bytes()

    told = failure(job, At("committed", 2, lambda: change(path)))

    assert told == (
        f"a.csv {CHANGES[change]} while it was read; the open transaction was rolled back; "
        f"20 of its records were committed before. {RESTORE}"
    )
    assert ids(url) == list(range(1, 21))
    assert fetch(url, f"SELECT status, position_record FROM {ledger(url)}etl_file") == [("partial", 20)]
    assert fetch(url, f"SELECT status, error FROM {ledger(url)}etl_run") == [("failed", told)]

    if path.exists():
        again = failure(job)
        assert again.startswith("a.csv has changed since 20 of its records were committed (run ")
        assert again.endswith(f". {RESTORE}")
        assert ids(url) == list(range(1, 21))

    path.write_bytes(content)
    assert etl.load(job).counts == Counts(read=60, written=60)
    assert ids(url) == list(range(1, 61))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_nothing_that_was_read_after_a_change_is_committed(
    sqlite_url: str, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    changes_while_it_is_read(sqlite_url, tmp_path, change)


@pytest.mark.parametrize(
    "change",
    [write_over, *(pytest.param(other, marks=pytest.mark.long) for other in CHANGES if other is not write_over)],
    ids=lambda change: change.__name__,
)
def test_nothing_that_was_read_after_a_change_is_committed_to_postgresql(
    postgres_url: str, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    changes_while_it_is_read(postgres_url, tmp_path, change)


@pytest.mark.parametrize("commit_every", ["file", "run"])
def test_file_that_changed_before_a_commit_is_loaded_as_it_is_then_by_the_same_command(
    sqlite_url: str, tmp_path: Path, commit_every: str
) -> None:
    path = write(tmp_path / "a.csv", range(1, 61))
    job = make_job(tmp_path, sqlite_url, commit_every=commit_every)

    told = failure(job, At("done", 1, lambda: grow(path)))

    assert told == (
        "a.csv has grown from 347 to 353 bytes while it was read; the open transaction was rolled back. "
        "Run the same command again when the file is complete."
    )
    assert ids(sqlite_url) == []
    assert etl.load(job).counts == Counts(read=61, written=61)
    assert ids(sqlite_url) == list(range(1, 62))


def test_dry_run_does_not_say_that_records_were_committed(sqlite_url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", range(1, 61))
    told = failure(make_job(tmp_path, sqlite_url), At("committed", 2, lambda: grow(path)), dry_run=True)
    assert "rolled back. Run the same command again when the file is complete." in told


def test_compressed_file_that_is_cut_while_it_is_read_has_changed_and_is_not_damaged(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CsvReader.__init__.__kwdefaults__, "block_size", 1 << 13)  # type: ignore[arg-type]
    digits = random.Random(4)
    path = tmp_path / "a.csv.gz"
    rows = "".join(f"{number},{digits.randrange(10**9)}\n" for number in range(40_000))
    path.write_bytes(gzip.compress(b"id,n\n" + rows.encode(), 1))
    job = make_job(tmp_path, sqlite_url, "a.csv.gz", commit_every="file")

    told = failure(job, At("done", 1, lambda: os.truncate(path, path.stat().st_size // 2)))

    assert told.startswith("a.csv.gz has shrunk from ")
    assert ids(sqlite_url) == []


def test_file_that_is_written_over_with_rejects_has_changed_and_has_not_too_many_of_them(
    sqlite_url: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.csv", range(100, 300))
    job = make_job(tmp_path, sqlite_url, commit_every="file", max_rejects=0)

    def spoil() -> None:
        with path.open("r+") as file:
            file.write(path.read_text().replace("2", "x"))

    assert failure(job, At("done", 1, spoil)).startswith("a.csv was written to while it was read; ")
    assert ids(sqlite_url) == []


def test_fingerprint_of_a_file_that_was_never_seen_is_waited_for_before_the_first_commit_only(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_written = threading.Event()

    def slow(source: Source, is_stopped: Callable[[], bool] = lambda: False) -> Fingerprint:
        assert is_written.wait(20)
        return fingerprint(source, is_stopped)

    monkeypatch.setattr("etl.readers.fingerprints.fingerprint", slow)
    path = write(tmp_path / "a.csv", range(1, 31))
    etl.load(make_job(tmp_path, sqlite_url), reporter=At("done", 1, is_written.set))

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert fetch(sqlite_url, "SELECT size, sha256 FROM etl_file") == [(path.stat().st_size, digest)]


# While another one is read


def test_file_that_is_replaced_before_its_turn_is_loaded_as_it_is_then(sqlite_url: str, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", range(1, 31))
    other = write(tmp_path / "b.csv", range(31, 41))
    job = make_job(tmp_path, sqlite_url)

    result = etl.load(job, reporter=At("done", 1, lambda: write(other, range(41, 61))))

    assert result.counts == Counts(read=50, written=50)
    assert ids(sqlite_url) == [*range(1, 31), *range(41, 61)]
    assert etl.load(job).counts == Counts()


def test_file_that_has_other_columns_at_its_turn_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", range(1, 31))
    other = write(tmp_path / "b.csv", range(31, 41))
    job = make_job(tmp_path, sqlite_url, commit_every="file")

    def turn() -> None:
        other.write_text("n,id\n5,31\n")

    told = failure(job, At("done", 1, turn))

    assert told.startswith("b.csv has other columns than when the run began; the open transaction was rolled back.")
    assert ids(sqlite_url) == list(range(1, 31))
    etl.load(job)
    assert fetch(sqlite_url, "SELECT id, n FROM t WHERE id > 30") == [(31, 5)]


def test_file_that_vanishes_before_its_turn_is_named_and_not_needed_by_the_next_run(
    sqlite_url: str, tmp_path: Path
) -> None:
    write(tmp_path / "a.csv", range(1, 31))
    other = write(tmp_path / "b.csv", range(31, 41))
    job = make_job(tmp_path, sqlite_url, commit_every="file")

    told = failure(job, At("done", 1, other.unlink))

    assert told == "There is no file b.csv. Put it there, or correct `source`."
    assert ids(sqlite_url) == list(range(1, 31))
    assert files(etl.load(job)) == {"a.csv": "loaded"}


# Between a run that ended early and the one that resumes it


def test_files_of_a_glob_that_are_new_at_the_resume_are_loaded_by_the_same_run(sqlite_url: str, tmp_path: Path) -> None:
    write(tmp_path / "in" / "b.csv", range(31, 61))
    job = make_job(tmp_path, sqlite_url, "in/*.csv")
    broken_off(job)
    write(tmp_path / "in" / "a.csv", range(1, 31))
    write(tmp_path / "in" / "c.csv", range(61, 91))

    result = etl.load(job)

    assert files(result) == {"in/a.csv": "loaded", "in/b.csv": "loaded", "in/c.csv": "loaded"}
    assert result.counts == Counts(read=90, written=90)
    assert ids(sqlite_url) == list(range(1, 91))
    assert fetch(sqlite_url, f"SELECT status, executions FROM {ledger(sqlite_url)}etl_run") == [("completed", 2)]


def test_files_that_were_loaded_or_not_begun_may_be_gone_at_the_resume(sqlite_url: str, tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.csv", range(20 * name + 1, 20 * name + 21)) for name in range(3)]
    job = make_job(tmp_path, sqlite_url)
    broken_off(job, at_commit=3)
    paths[0].unlink()
    paths[2].unlink()

    result = etl.load(job)

    assert files(result) == {"0.csv": "loaded", "1.csv": "loaded"}
    assert ids(sqlite_url) == list(range(1, 41))


def test_file_of_a_folder_that_is_committed_in_part_and_gone_at_the_resume_is_asked_for(
    database_url: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "in" / "a.csv", range(1, 31))
    job = make_job(tmp_path, database_url, "in")
    broken_off(job)
    content = path.read_bytes()
    path.unlink()
    write(tmp_path / "in" / "b.csv", range(101, 111))

    told = failure(job)

    ((run_id,),) = fetch(database_url, f"SELECT id FROM {ledger(database_url)}etl_run")
    assert told == (
        f"in/a.csv is not found any more, and 20 of its records were committed (run {run_id}); "
        f"nothing more was loaded. {RESTORE}"
    )
    assert ids(database_url) == list(range(1, 21))
    path.write_bytes(content)
    assert etl.load(job).counts == Counts(read=40, written=40)
    assert ids(database_url) == [*range(1, 31), *range(101, 111)]


def test_named_file_that_is_gone_at_the_resume_is_asked_for(sqlite_url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", range(1, 31))
    job = make_job(tmp_path, sqlite_url, "a.csv")
    broken_off(job)
    path.unlink()
    assert failure(job).startswith("There is no file 'a.csv' in ")
    assert ids(sqlite_url) == list(range(1, 21))


def test_file_that_was_renamed_is_read_on_and_a_new_one_has_its_name(sqlite_url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "orders.csv", range(1, 31))
    job = make_job(tmp_path, sqlite_url)
    broken_off(job)
    path.rename(tmp_path / "orders.1.csv")
    write(path, range(101, 121))

    result = etl.load(job)

    assert result.counts == Counts(read=50, written=50)
    assert ids(sqlite_url) == [*range(1, 31), *range(101, 121)]
    assert etl.load(job).counts == Counts()


def test_rerun_begins_anew_where_the_former_file_cannot_be_put_back(sqlite_url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", range(1, 31))
    job = make_job(tmp_path, sqlite_url)
    broken_off(job)
    path.unlink()
    write(tmp_path / "b.csv", range(101, 111))
    assert "is not found any more" in failure(job)

    assert etl.load(job, rerun=True).counts == Counts(read=10, written=10)
    write(tmp_path / "c.csv", range(111, 121))
    assert files(etl.load(job)) == {"b.csv": "already_loaded", "c.csv": "loaded"}


def test_compressed_file_that_was_packed_anew_has_changed(sqlite_url: str, tmp_path: Path) -> None:
    """Its stored bytes are what a fingerprint is made of, and what a position in it is good for."""
    content = write(tmp_path / "a", range(1, 31)).read_bytes()
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(content, 9))
    job = make_job(tmp_path, sqlite_url, "a.csv.gz")
    broken_off(job)
    path.write_bytes(gzip.compress(content, 1, mtime=1))

    assert failure(job).startswith("a.csv.gz has changed since 20 of its records were committed")


def standard_input_job(folder: Path, url: str) -> Job:
    job = items_job(folder, url)
    job.configure('source = "-"\nformat = "csv"\ntable = "items"')
    return job


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "gzip"])
def test_standard_input_is_read_on_if_it_is_the_same_again(sqlite_url: str, tmp_path: Path, is_packed: bool) -> None:
    job = standard_input_job(tmp_path, sqlite_url)
    content = b"id,name\n1,one\n2,two\n3,three\n"
    content = gzip.compress(content, mtime=0) if is_packed else content
    job.call("load", "--limit", "2", stdin=content)

    other = job.call("load", "--json", stdin="id,name\n4,four\n")
    same = job.call("load", "--json", stdin=content)

    assert other.exit_code == 1
    assert other.result["error"].startswith("Standard input has changed since 2 of its records were committed (run ")
    assert other.result["error"].endswith(RESTORE)
    assert (same.exit_code, same.result["written"]) == (0, 1)
    assert fetch(sqlite_url, "SELECT id FROM items ORDER BY id") == [(1,), (2,), (3,)]


def test_other_standard_input_is_loaded_with_rerun(sqlite_url: str, tmp_path: Path) -> None:
    job = standard_input_job(tmp_path, sqlite_url)
    job.call("load", "--limit", "2", stdin="id,name\n1,one\n2,two\n3,three\n")

    ended = job.call("load", "--json", "--rerun", stdin="id,name\n4,four\n")

    assert (ended.exit_code, ended.result["written"]) == (0, 1)
    assert fetch(sqlite_url, "SELECT id FROM items ORDER BY id") == [(1,), (2,), (4,)]
