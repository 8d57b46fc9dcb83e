"""Sources behind a URL: what is copied, what is tried again, and what is said where it cannot be had."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl import retrying
from etl.addresses import shown_address
from etl.errors import SourceError
from etl.readers.files import find_sources, open_decompressed
from tests.commands import count, items_csv, items_job, ledger, query
from tests.web import Web, web_server

ITEMS = items_csv([(number, f"n{number}") for number in range(2000)]).encode()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    """The server; copies are made in the test's own folder, and nothing waits for long."""
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(retrying, "JITTER", 0.001)
    monkeypatch.setattr(retrying, "LONGEST_WAIT", 0.01)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with web_server() as server:
        server.files["/a.csv"] = ITEMS
        yield server


def content_of(url: str, folder: Path) -> bytes:
    with find_sources([url], folder) as (source,), open_decompressed(source.location) as file:
        return file.read(1 << 20)


def test_a_copy_is_kept_until_the_sources_are_closed(web: Web, tmp_path: Path) -> None:
    with find_sources([f"{web.url}/a.csv"], tmp_path) as (source,):
        assert (source.path, source.size, source.location.suffix) == (f"{web.url}/a.csv", len(ITEMS), ".csv")
        assert len(list((tmp_path / "copies").iterdir())) == 1
    assert list((tmp_path / "copies").iterdir()) == []


@pytest.mark.parametrize(("gives_parts", "tags"), [(True, True), (False, True), (True, False)])
def test_a_connection_that_stops_is_taken_up_again(web: Web, tmp_path: Path, gives_parts: bool, tags: bool) -> None:
    web.gives_parts, web.tags = gives_parts, tags
    web.stops = [1000, 1500]
    assert content_of(f"{web.url}/a.csv", tmp_path) == ITEMS
    if gives_parts and tags:
        assert [part for _, part in web.asked] == [None, "bytes=1000-", "bytes=2500-"]
    else:
        assert len(web.asked) == 3


def test_other_content_behind_the_url_is_received_from_its_start(web: Web, tmp_path: Path) -> None:
    web.stops = [1000]
    handled = web.files

    class Changing(dict[str, bytes]):
        def get(self, name: str, default: object = None) -> bytes:
            return handled["/a.csv"] if not web.asked[1:] else handled["/b.csv"]

    handled["/b.csv"] = ITEMS[::-1]
    web.files = Changing()
    assert content_of(f"{web.url}/a.csv", tmp_path) == ITEMS[::-1]


def test_attempts_are_bounded_where_a_server_always_stops(web: Web, tmp_path: Path) -> None:
    web.gives_parts, web.stops = False, [1000] * 50
    with pytest.raises(SourceError, match=rf"a\.csv stopped after 1,000 of {len(ITEMS):,} bytes\. Run the same"):
        find_sources([f"{web.url}/a.csv"], tmp_path)
    assert len(web.asked) == retrying.ATTEMPTS
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_server_that_is_busy_is_asked_again(web: Web, tmp_path: Path) -> None:
    web.statuses = [503, 429, 500]
    assert content_of(f"{web.url}/a.csv", tmp_path) == ITEMS


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, r"/a\.csv answers 404 Not Found\. Correct the URL"),
        (401, r"answers 401 Unauthorized\. Give user and password"),
        (403, r"answers 403 Forbidden\. Ask for access"),
    ],
)
def test_a_refusal_is_told_at_once(web: Web, tmp_path: Path, status: int, said: str) -> None:
    web.statuses = [status]
    with pytest.raises(SourceError, match=said):
        find_sources([f"{web.url}/a.csv"], tmp_path)
    assert len(web.asked) == 1


def test_a_server_that_is_not_there_is_told(web: Web, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"http://127\.0\.0\.1:1/a\.csv cannot be reached: Connection refused"):
        find_sources(["http://127.0.0.1:1/a.csv"], tmp_path)


def test_user_and_password_go_to_their_host_alone(web: Web, tmp_path: Path) -> None:
    with web_server() as other:
        other.files["/moved.csv"] = ITEMS
        web.files, web.redirect = {}, f"{other.url}/moved.csv"
        assert content_of(f"{web.url.replace('//', '//clerk:s%40cret@')}/a.csv", tmp_path) == ITEMS
        assert web.authorizations == ["Basic Y2xlcms6c0BjcmV0"]
        assert other.authorizations == [None]


def test_no_secret_is_shown() -> None:
    url = "https://clerk:s3cret@host:8443/a%20b.csv?token=t0ken&sig=a=b&plain"
    assert shown_address(url) == "https://host:8443/a%20b.csv?token=***&sig=***&plain"
    assert shown_address("https://host/a.csv?t0ken") == "https://host/a.csv?***"


def test_a_copy_that_has_no_room_is_an_error(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(SourceError, match=r"of which a copy is needed, and 100 are free in .*TMPDIR"):
        find_sources([f"{web.url}/a.csv"], tmp_path)
    assert list((tmp_path / "copies").iterdir()) == []


def test_archives_and_compressed_files_are_read_from_a_url(web: Web, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("in/1.csv", ITEMS)
    web.files |= {"/a.zip": packed.getvalue(), "/a.csv.gz": gzip.compress(ITEMS)}
    assert content_of(f"{web.url}/a.csv.gz", tmp_path) == ITEMS
    with find_sources([f"{web.url}/a.zip"], tmp_path) as sources:
        assert [source.path for source in sources] == [f"{web.url}/a.zip/in/1.csv"]
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_load_from_a_url_goes_on_and_keeps_no_secret(web: Web, tmp_path: Path, database_url: str) -> None:
    job = items_job(tmp_path, database_url)
    url = f"{web.url.replace('//', '//clerk:s3cret@')}/a.csv?token=t0ken"
    job.configure(f'source = "{url}"\ntable = "items"\ncommit_every = 100')
    assert job.call("load", "--limit", "700").exit_code == 0
    assert count(database_url, "items") == 700

    done = job.call("load", "--json")
    assert (done.exit_code, done.result["written"]) == (0, 1300), done.errors
    assert done.result["loads"][0]["files"][0]["path"] == f"{web.url}/a.csv?token=***"
    assert job.call("load", "--json").result["loads"][0]["files"][0]["status"] == "already_loaded"
    checked = job.call("check")
    kept = str(query(database_url, f"SELECT * FROM {ledger(database_url, 'etl_file')}"))
    for secret in ("s3cret", "t0ken"):
        assert secret not in kept + done.output + done.errors + checked.output + checked.errors


def test_another_scheme_is_a_config_error_without_its_secrets(tmp_path: Path, sqlite_url: str) -> None:
    job = items_job(tmp_path, sqlite_url)
    job.configure('source = "ftp://clerk:s3cret@host/a.csv?token=t0ken"\ntable = "items"')
    done = job.call("load")
    assert done.exit_code == 2
    assert "allowed: a URL that begins with http, https, s3, gs, abfs or abfss, or a path without ://" in done.told
    assert "s3cret" not in done.errors
    assert "t0ken" not in done.errors
