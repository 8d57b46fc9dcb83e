"""Objects of S3, from moto's server on the loopback: what is found and copied, and what is said where it is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from etl.errors import SourceError
from etl.readers.files import find_sources, open_decompressed
from etl.readers.stores import Store
from tests.commands import count, items_csv, items_job
from tests.web import web_server


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[fs.FileSystem]:
    """The file system of the server, with an empty bucket named shop; etl finds it by the environment."""
    credentials = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_REGION": "us-east-1"}
    for name, value in (credentials | {"AWS_ENDPOINT_URL": endpoint, "AWS_EC2_METADATA_DISABLED": "true"}).items():
        monkeypatch.setenv(name, value)
    system = fs.S3FileSystem(
        access_key="key",
        secret_key="s3cret",
        endpoint_override=endpoint,
        allow_bucket_creation=True,
        allow_bucket_deletion=True,
    )
    system.create_dir("shop")
    yield system
    system.delete_dir("shop")


def put(s3: fs.FileSystem, name: str, content: bytes = b"id,name\n1,x\n") -> None:
    with s3.open_output_stream(f"shop/{name}") as file:
        file.write(content)


def paths(url: str, *, is_hive: bool = False) -> list[str]:
    with find_sources([url], Path(), is_hive=is_hive) as sources:
        return [source.path for source in sources]


def test_objects_folders_and_globs_are_found_in_natural_order(s3: fs.FileSystem) -> None:
    for name in ("in/10.csv", "in/2.csv", "in/.x.csv", "in/_SUCCESS", "in/sub/3.csv", "in/a b.csv.gz"):
        put(s3, name)
    assert paths("s3://shop/in/2.csv") == ["s3://shop/in/2.csv"]
    assert paths("s3://shop/in") == ["s3://shop/in/2.csv", "s3://shop/in/10.csv", "s3://shop/in/a b.csv.gz"]
    assert paths("s3://shop/in/[0-9]*.csv") == ["s3://shop/in/2.csv", "s3://shop/in/10.csv"]
    assert paths("s3://shop/**/*.csv") == ["s3://shop/in/2.csv", "s3://shop/in/10.csv", "s3://shop/in/sub/3.csv"]
    assert paths("s3://shop/in", is_hive=True)[-1] == "s3://shop/in/sub/3.csv"


def test_what_is_not_there_is_an_error(s3: fs.FileSystem) -> None:
    for url in ("s3://shop/no.csv", "s3://shop/no/*.csv", "s3://shop/no", "s3://nobody/a.csv"):
        with pytest.raises(SourceError, match=f"There is nothing to load at {url.replace('*', '[*]')}"):
            find_sources([url], Path())


def test_a_load_goes_on_within_the_objects_of_a_hive_folder(
    s3: fs.FileSystem, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    content = io.BytesIO()
    pq.write_table(pa.table({"id": range(100, 150)}), content)
    put(s3, "in/name=pq/a.parquet", content.getvalue())
    put(s3, "in/name=csv/a.csv", b"id\n" + b"".join(b"%d\n" % number for number in range(50)))
    job = items_job(tmp_path, sqlite_url)
    job.configure('source = "s3://shop/in"\ntable = "items"\nhive = true\ncommit_every = 10')

    assert job.call("load", "--limit", "30").exit_code == 0
    done = job.call("load", "--json")
    assert (done.exit_code, done.result["written"]) == (0, 40), done.errors
    assert count(sqlite_url, "items WHERE name = 'pq'") == 50
    again = job.call("load", "--json").result["loads"][0]["files"]
    assert [(file["path"], file["status"]) for file in again] == [
        ("s3://shop/in/name=csv/a.csv", "already_loaded"),
        ("s3://shop/in/name=pq/a.parquet", "already_loaded"),
    ]
    assert "s3://shop/in/name=csv/a.csv, s3://shop/in/name=pq/a.parquet" in job.call("check").output
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_refusal_says_where_credentials_are_taken_from(s3: fs.FileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server() as web:
        web.statuses = [403] * 20
        monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
        with pytest.raises(SourceError) as refused:
            find_sources(["s3://key:s3cret@shop/a.csv"], Path())
    assert refused.value.problem.startswith("S3 refuses access to s3://shop/a.csv, or has got no credentials: ")
    assert "AWS_ACCESS_KEY_ID" in refused.value.remedy
    assert "s3cret" not in str(refused.value)


def test_an_object_that_no_table_is_in_is_told_by_its_url(s3: fs.FileSystem, tmp_path: Path, sqlite_url: str) -> None:
    put(s3, "a.parquet", items_csv([(1, "x")]).encode())
    job = items_job(tmp_path, sqlite_url)
    job.configure('source = "s3://shop/a.parquet"\ntable = "items"')
    assert "s3://shop/a.parquet is not a Parquet file that can be read" in job.call("load").told


def test_azure_without_credentials_says_which_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    url = "abfs://box@account.dfs.core.windows.net/in/a.csv"
    with pytest.raises(SourceError, match=rf"There are no credentials for {url}\. Give AZURE_STORAGE_KEY or"):
        find_sources([url], Path())
    with pytest.raises(SourceError, match=r"abfs://box does not say container and account\. Write it as abfs://con"):
        find_sources(["abfs://key:s3cret@box/in/a.csv"], Path())


def test_a_token_is_not_shown_where_the_store_shows_it(s3: fs.FileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("s3://shop/a.csv")
    with pytest.raises(SourceError) as told, store._errors():
        raise OSError("GetProperties failed for 'https://a.blob.net/c?sv=2&sig=t0ken' with credentials")
    assert "t0ken" not in str(told.value)
    assert "sig=***'" in told.value.problem


def test_objects_of_google_cloud_storage_are_found_and_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the three answers of its JSON API (``objects.get``, ``objects.get?alt=media``, ``objects.list``)."""
    content = items_csv([(1, "x")]).encode()
    objects = [
        {"kind": "storage#object", "bucket": "shop", "name": name, "size": str(len(content)), "generation": "1"}
        for name in ("in/10.csv", "in/2.csv", "in/_SUCCESS")
    ]
    with web_server() as web:
        listed = json.dumps({"kind": "storage#objects", "items": objects}).encode()
        web.files = {"/storage/v1/b/shop/o": listed}
        for item in objects:
            place = f"/storage/v1/b/shop/o/{quote(str(item['name']), safe='')}"
            web.files |= {place: json.dumps(item).encode(), f"{place}?alt=media": content}
        options = f"endpoint_override={web.url.removeprefix('http://')}&scheme=http"
        for url, found in [
            ("gs://anonymous@shop/in/2.csv", ["gs://shop/in/2.csv"]),
            ("gs://anonymous@shop/in/*.csv", ["gs://shop/in/2.csv", "gs://shop/in/10.csv"]),
            ("gs://anonymous@shop/in", ["gs://shop/in/2.csv", "gs://shop/in/10.csv"]),
        ]:
            with find_sources([f"{url}?{options}"], Path()) as sources:
                assert [source.path for source in sources] == found
                with open_decompressed(sources[-1].location) as file:
                    assert file.read(1000) == content
