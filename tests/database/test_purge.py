"""`etl purge`: what goes, what stays because a load would ask for it, and that no file is loaded twice for it."""

from __future__ import annotations

import datetime as dt
import functools
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

import etl
import etl.ledger.retention
import etl.purging
from etl.config import Database
from etl.database import connected
from etl.ledger import job_lock
from etl.readers.csv import CsvReader
from tests.commands import call
from tests.files import write_csv, write_job
from tests.jobs import fetch, is_sqlite, ledger, run_sql

pytestmark = pytest.mark.newest_is_enough

KEYLESS = "CREATE TABLE t (id INTEGER, n INTEGER, CONSTRAINT ck_n CHECK (n >= 0))"
HEADER = ("id", "n")
NAME = "job.toml"


class Nights:
    """A job that has run some nights, on a table without any key: what is loaded twice is there twice."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        run_sql(url, KEYLESS)
        self.config = write_job(folder, url, {"source": "*.csv", "table": "t"})

    def file(self, number: int, *, good: int = 3, bad: int = 2) -> None:
        rows = [(number * 100 + at, 1 if at < good else -1) for at in range(good + bad)]
        write_csv(self.folder / f"{number}.csv", HEADER, rows)

    def run(self, **options: Any) -> str:
        return etl.load(self.config, **options).run_id

    def age(self, run_id: str, days: int) -> None:
        """Have the run started and ended so many days ago."""
        moment = (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S.%f")
        zone = "" if is_sqlite(self.url) else "+00"
        when = f"started_at = '{moment}{zone}', finished_at = '{moment}{zone}'"
        run_sql(self.url, f"UPDATE {ledger(self.url)}etl_run SET {when} WHERE id = '{run_id}'")

    def purge(self, *arguments: str) -> dict[str, Any]:
        done = call("purge", self.config, *arguments, "--json")
        assert (done.exit_code, done.errors) == (0, "")
        (told,) = done.result["jobs"]
        assert told["job"] == NAME
        return dict(told)

    def runs(self) -> list[str]:
        return [run for (run,) in fetch(self.url, f"SELECT id FROM {ledger(self.url)}etl_run ORDER BY started_at")]

    def rejects(self, run_id: str) -> int:
        place = ledger(self.url)
        joined = f"{place}etl_reject r JOIN {place}etl_file f ON f.id = r.file_id"
        return int(fetch(self.url, f"SELECT count(*) FROM {joined} WHERE f.run_id = '{run_id}'")[0][0])

    def rows(self) -> list[tuple[int, int]]:
        """The ids in the table that are there more than once, or would be if something had been loaded twice."""
        return [(int(id_), int(n)) for id_, n in fetch(self.url, "SELECT id, count(*) FROM t GROUP BY id ORDER BY id")]


@pytest.fixture
def nights(database_url: str, tmp_path: Path) -> Nights:
    return Nights(tmp_path, database_url)


def kept(proofs: int = 0, newest: int = 0, younger: int = 0, unfinished: int = 0) -> dict[str, int]:
    return {"proofs": proofs, "newest": newest, "younger": younger, "unfinished": unfinished}


def deleted(runs: int = 0, files: int = 0, rejects: int = 0) -> dict[str, int]:
    return {"runs": runs, "files": files, "rejects": rejects}


def test_no_file_is_loaded_again_after_a_purge_of_everything(nights: Nights) -> None:
    runs = []
    for number in (1, 2, 3):
        nights.file(number)
        runs.append(nights.run())
    before = nights.rows()
    told = nights.purge("--keep", "0")
    assert told["deleted"] == deleted(rejects=6)
    assert told["kept"] == kept(proofs=3)
    assert [nights.rejects(run) for run in runs] == [0, 0, 0]
    again = etl.load(nights.config)
    assert [file.status for file in again.loads[0].files] == ["already_loaded"] * 3
    assert nights.rows() == before == [(n * 100 + at, 1) for n in (1, 2, 3) for at in range(3)]


@pytest.mark.long
def test_counts_of_the_history_stay(nights: Nights) -> None:
    nights.file(1)
    nights.run()
    nights.purge("--keep", "0")
    (past,) = call("history", nights.config, "--json").result["runs"]
    assert (past["read"], past["written"], past["rejected"]) == (5, 3, 2)


@pytest.mark.long
def test_run_in_which_nothing_was_loaded_goes_whole(nights: Nights) -> None:
    nights.file(1)
    first = nights.run()
    idle = [nights.run() for _ in range(3)]
    told = nights.purge("--keep", "1")
    assert told["deleted"] == deleted(runs=2, rejects=2)
    assert told["kept"] == kept(proofs=1, newest=1)
    assert nights.runs() == [first, idle[-1]]


@pytest.mark.long
def test_run_whose_files_were_loaded_again_goes_whole(nights: Nights) -> None:
    nights.file(1)
    nights.file(2)
    nights.run()
    again = nights.run(rerun=True)
    assert nights.purge("--keep", "0")["deleted"] == deleted(runs=1, files=2, rejects=8)
    assert nights.runs() == [again]
    assert [file.status for file in etl.load(nights.config).loads[0].files] == ["already_loaded"] * 2


@pytest.mark.long
def test_run_that_loaded_a_file_stays_where_a_rerun_has_read_a_part_of_it(nights: Nights) -> None:
    nights.file(1)
    first = nights.run()
    nights.run(rerun=True, limit=2)
    nights.purge("--keep", "0")
    assert first in nights.runs()
    assert [file.status for file in etl.load(nights.config).loads[0].files] == ["already_loaded"]


@pytest.mark.long
def test_run_stays_whole_where_only_some_of_its_files_were_loaded_again(nights: Nights) -> None:
    nights.file(1)
    nights.file(2)
    first = nights.run()
    (nights.folder / "2.csv").unlink()
    nights.run(rerun=True)
    told = nights.purge("--keep", "0")
    assert (told["deleted"], told["kept"]) == (deleted(rejects=6), kept(proofs=2))
    (past,) = [run for run in call("history", nights.config, "--json").result["runs"] if run["run_id"] == first]
    assert (past["read"], past["files"]) == (10, 2)


@pytest.mark.long
def test_same_content_under_another_name_stands_for_the_first(nights: Nights) -> None:
    """A file that was read on under another name leaves nothing to go on with under its old one."""
    nights.file(1)
    first = nights.run(limit=2)
    (nights.folder / "1.csv").rename(nights.folder / "other.csv")
    second = nights.run()
    nights.purge("--keep", "0")
    assert nights.runs() == [second] != [first]
    nights.file(1, good=4)
    assert [file.status for file in etl.load(nights.config).loads[0].files] == ["loaded", "already_loaded"]
    assert nights.rows() == [(100, 2), (101, 2), (102, 2), (103, 1)]


@pytest.mark.long
def test_file_loaded_in_part_is_gone_on_with_after_a_purge(nights: Nights) -> None:
    nights.file(1, good=5, bad=0)
    nights.run(limit=2)
    nights.run(limit=1)
    assert nights.purge("--keep", "0")["deleted"] == deleted(runs=1, files=1)
    etl.load(nights.config)
    assert nights.rows() == [(100 + at, 1) for at in range(5)]


def test_unfinished_run_stays_as_it_is_and_is_resumed(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CsvReader.__init__.__kwdefaults__, "block_size", 64)  # type: ignore[arg-type]
    config = write_job(nights.folder, nights.url, {"source": "*.csv", "table": "t", "commit_every": 10})
    rows: list[tuple[object, object]] = [(at, -1 if at % 5 == 0 else 1) for at in range(40)]
    write_csv(nights.folder / "1.csv", HEADER, rows)
    file = nights.folder / "2.csv"
    file.write_bytes(b"id,n\n900,1\n")
    stopped = _stop_behind_the_first_file(config, file)
    nights.age(stopped, 400)
    told = nights.purge("--before", "90d", "--keep", "0")
    assert (told["deleted"], told["kept"]) == (deleted(), kept(unfinished=1))
    assert nights.rejects(stopped) == 8
    result = etl.load(config)
    assert (result.run_id, result.counts.rejected) == (stopped, 8)
    assert sum(some.count for some in result.loads[0].rejects) == 8
    assert nights.rows() == [*((at, 1) for at in range(40) if at % 5), (900, 1)]


def _stop_behind_the_first_file(config: Path, second: Path) -> str:
    """The run id of a load whose second file has vanished when it comes to it."""
    content, was_read = second.read_bytes(), []

    class Thief(etl.loading.Silence):  # type: ignore[misc, name-defined]
        def committed(self) -> None:
            second.unlink(missing_ok=True)
            was_read.append(True)

    with pytest.raises(etl.SourceError):
        etl.load(config, reporter=Thief())
    assert was_read
    second.write_bytes(content)
    ((run,),) = [(past["run_id"],) for past in call("history", config, "--json").result["runs"]]
    return str(run)


@pytest.mark.long
def test_date_and_number_must_both_apply(nights: Nights) -> None:
    runs = []
    for number in (1, 2, 3, 4):
        nights.file(number)
        runs.append(nights.run())
    for run, days in zip(runs, (200, 150, 100, 50), strict=True):
        nights.age(run, days)
    assert nights.purge("--before", "120d", "--keep", "3")["kept"] == kept(proofs=1, newest=3)
    assert [nights.rejects(run) for run in runs] == [0, 2, 2, 2]
    assert nights.purge("--before", "70d", "--keep", "1")["kept"] == kept(proofs=3, newest=1)
    assert [nights.rejects(run) for run in runs] == [0, 0, 0, 2]
    day = (dt.datetime.now(dt.UTC) - dt.timedelta(days=49)).strftime("%Y-%m-%d")
    nights.file(5)
    runs.append(nights.run())
    assert nights.purge("--before", day)["kept"] == kept(proofs=4, younger=1)
    assert [nights.rejects(run) for run in runs] == [0, 0, 0, 0, 2]


@pytest.mark.long
def test_newest_run_stays_so_that_an_older_one_is_not_resumed_in_its_place(nights: Nights) -> None:
    nights.file(1)
    (nights.folder / "2.csv").write_text("nothing,of,this\n")
    with pytest.raises(etl.SourceError):
        etl.load(nights.config)  # before a run is opened
    (nights.folder / "2.csv").unlink()
    first = nights.run()
    place = ledger(nights.url)
    run_sql(nights.url, f"UPDATE {place}etl_run SET status = 'failed' WHERE id = '{first}'")
    newest = nights.run(rerun=True)
    run_sql(nights.url, f"DELETE FROM {place}etl_file WHERE run_id = '{newest}'")  # as if it had loaded nothing
    nights.purge("--keep", "0")
    assert nights.runs()[-1] == newest
    assert nights.run() not in (first, newest)


@pytest.mark.long
def test_dry_run_says_what_a_purge_deletes_and_deletes_nothing(nights: Nights) -> None:
    nights.file(1)
    nights.run()
    nights.run()
    nights.run(rerun=True)
    foreseen = nights.purge("--keep", "0", "--dry-run")
    assert foreseen["deleted"] == deleted(runs=2, files=1, rejects=4)
    assert len(nights.runs()) == 3
    assert nights.purge("--keep", "0") == foreseen
    assert nights.purge("--keep", "0")["deleted"] == deleted()


@pytest.mark.long
def test_many_rejects_go_in_transactions_of_bounded_size(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etl.ledger.retention, "REJECTS_AT_ONCE", 10)
    monkeypatch.setattr(etl.ledger.retention, "RUNS_AT_ONCE", 2)
    for number in (1, 2, 3):
        nights.file(number, bad=25)
        nights.run()
    newest = nights.runs()[-1]
    assert nights.purge("--keep", "1")["deleted"] == deleted(rejects=50)
    assert nights.rejects(newest) == 25


@pytest.mark.long
def test_url_means_all_jobs_and_a_name_one_of_them(nights: Nights) -> None:
    nights.file(1)
    nights.run()
    other = nights.config.rename(nights.folder / "other.toml")
    etl.load(other)
    one = call("purge", nights.url, "--keep", "0", "--job", NAME, "--json").result["jobs"]
    assert [(job["job"], job["deleted"]["rejects"]) for job in one] == [(NAME, 2)]
    both = call("purge", nights.url, "--keep", "0", "--json").result["jobs"]
    assert [(job["job"], job["deleted"]["rejects"]) for job in both] == [(NAME, 0), ("other.toml", 2)]


@pytest.mark.long
def test_job_at_work_is_left_alone(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etl.purging, "job_lock", functools.partial(job_lock, patience=0.0))
    nights.file(1)
    nights.run()
    etl.load(nights.config.rename(nights.folder / "other.toml"))
    with connected(Database(url=nights.url)) as connection, job_lock(connection, NAME):
        connection.rollback()
        done = call("purge", nights.url, "--keep", "0", "--json")
        alone = call("purge", nights.url, "--keep", "0", "--job", NAME)
    assert (done.exit_code, [(job["locked"], job["deleted"]["rejects"]) for job in done.result["jobs"]]) == (
        5,
        [(True, 0), (False, 2)],
    )
    assert (alone.exit_code, alone.output) == (5, "")
    assert "Another run of job.toml is at work" in alone.errors


def test_data_of_a_purged_reject_is_in_the_sqlite_file_no_more(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, "CREATE TABLE t (id INTEGER, name TEXT CHECK (length(name) < 5))")
    write_csv(tmp_path / "a.csv", ("id", "name"), [(1, "Wilhelmina-unmistakable"), (2, "ok")])
    config = write_job(tmp_path, sqlite_url, {"source": "*.csv", "table": "t"})
    etl.load(config)
    database = Path(make_url(sqlite_url).database or "")
    assert b"Wilhelmina-unmistakable" in database.read_bytes()
    call("purge", config, "--keep", "0")
    assert b"Wilhelmina-unmistakable" not in database.read_bytes()


@pytest.mark.long
def test_purge_is_told_with_what_was_kept_and_why(nights: Nights) -> None:
    nights.file(1)
    nights.age(nights.run(), 100)
    nights.run()
    done = call("purge", nights.config, "--before", "2999-01-01", "--keep", "1")
    assert done.output == (
        "Purged: runs that ended before 2999-01-01 00:00 UTC and not among the newest 1 of their job.\n\n"
        "job       runs deleted  files  rejects deleted\n"
        "job.toml             0      0                2\n\n"
        "Runs kept:\n"
        "  1 without their rejects: they say which files were loaded, and without them these would be loaded again\n"
        "  1 among the newest 1 of their job\n"
    )


@pytest.mark.long
def test_rejects_that_were_purged_are_told_to_be(nights: Nights) -> None:
    nights.file(1)
    nights.run()
    assert call("rejects", nights.config).errors == ""
    nights.purge("--keep", "0")
    ended = call("rejects", nights.config)
    assert (ended.exit_code, ended.errors) == (
        0,
        "etl: The rejects of this run were purged; `etl history` has their number.\n",
    )


@pytest.mark.long
def test_purge_without_a_ledger_deletes_nothing_and_makes_none(nights: Nights) -> None:
    for arguments in ([str(nights.config)], [nights.url]):
        done = call("purge", *arguments, "--keep", "3", "--json")
        assert done.exit_code == 0
        assert all(job["deleted"] == deleted() for job in done.result["jobs"])
    assert "No runs yet." in call("purge", nights.url, "--keep", "3").output
    assert call("history", nights.config).output == "No runs yet.\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Give --before DATE, --keep N, or both."),
        (["--before", "yesterday"], "Invalid value for '--before': 'yesterday' is no moment. Give a date such as"),
        (["--before", "99999999d"], "Invalid value for '--before': '99999999d' is no moment."),
        (["--keep", "-1"], "Invalid value for '--keep'"),
    ],
)
def test_what_is_to_be_deleted_must_be_said(arguments: list[str], told: str) -> None:
    ended = call("purge", "job.toml", *arguments, "--json")
    assert ended.exit_code == 2
    assert told in ended.errors
    assert told in json.loads(ended.output)["error"]


@pytest.mark.long
def test_a_million_rejects_are_purged(nights: Nights) -> None:
    """Among as many of a run that is kept, by statements that each see a bounded part of the table."""
    numbers = "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 500000)"
    place = ledger(nights.url)
    for number in (1, 2):
        nights.file(number)
        nights.run()
    files = [file for (file,) in fetch(nights.url, f"SELECT id FROM {place}etl_file ORDER BY id")]
    for file in (*files, *files):  # in turns: the ids of the one are among those of the other
        columns = "file_id, record, phase, reason, message, raw"
        values = f"SELECT {file}, n, 'read', 'type', 'no number', 'a record of the source, of some length' FROM s"
        run_sql(nights.url, f"{numbers} INSERT INTO {place}etl_reject ({columns}) {values}")
    assert nights.purge("--keep", "1")["deleted"] == deleted(rejects=1_000_002)
    left = fetch(nights.url, f"SELECT file_id, count(*) FROM {place}etl_reject GROUP BY file_id")
    assert left == [(files[1], 1_000_002)]
