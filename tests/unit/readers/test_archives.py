"""Archives: their members are sources, and what is wrong with one is told before anything is written."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from etl.config import Load
from etl.errors import SourceError
from etl.readers import open_reader
from etl.readers.files import Fingerprint, find_sources, fingerprint
from etl.records import Position
from tests.commands import count, execute, items_csv, items_job, ledger, query


def make_archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def paths(patterns: list[str], folder: Path) -> list[str]:
    with find_sources(patterns, folder) as sources:
        return [source.path for source in sources]


def parquet(ids: list[int]) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table({"id": ids, "name": [f"n{number}" for number in ids]}), content)
    return content.getvalue()


def feather_file(ids: list[int]) -> bytes:
    content = io.BytesIO()
    feather.write_feather(pa.table({"id": ids, "name": ["n"] * len(ids)}), content, chunksize=7)
    return content.getvalue()


# Finding


def test_members_with_known_suffixes_are_sources_in_natural_order(tmp_path: Path) -> None:
    members = ["b/10.csv", "b/2.csv", "a.jsonl.gz", "README.txt", "__MACOSX/a.csv", "b/.c.csv", "empty/"]
    make_archive(tmp_path / "in.zip", dict.fromkeys(members, b""))
    assert paths(["in.zip"], tmp_path) == ["in.zip/a.jsonl.gz", "in.zip/b/2.csv", "in.zip/b/10.csv"]


def test_an_archive_stands_for_its_members_in_folders_and_globs(tmp_path: Path) -> None:
    make_archive(tmp_path / "in" / "2.zip", {"a.csv": b""})
    (tmp_path / "in" / "1.csv").write_bytes(b"")
    assert paths(["in"], tmp_path) == ["in/1.csv", "in/2.zip/a.csv"]
    assert paths(["in/*.zip", "in/2.zip"], tmp_path) == ["in/2.zip/a.csv"]


def test_a_member_or_a_glob_of_members_can_be_named(tmp_path: Path) -> None:
    make_archive(tmp_path / "in.zip", {"a.csv": b"", "b.txt": b"", "c/d.txt": b""})
    assert paths(["in.zip/b.txt"], tmp_path) == ["in.zip/b.txt"]
    assert paths(["in.zip/*.txt"], tmp_path) == ["in.zip/b.txt", "in.zip/c/d.txt"]
    with pytest.raises(SourceError, match=r"The archive in\.zip has no member 'no\.csv'"):
        find_sources(["in.zip/no.csv"], tmp_path)


def test_the_only_member_needs_no_suffix(tmp_path: Path) -> None:
    make_archive(tmp_path / "one.zip", {"export": b"a\n1\n"})
    assert paths(["one.zip"], tmp_path) == ["one.zip/export"]
    make_archive(tmp_path / "two.zip", {"export": b"", "other": b""})
    with pytest.raises(SourceError, match=r"The archive two\.zip has no member that ends in \.csv.*two\.zip/\*\.txt"):
        find_sources(["two.zip"], tmp_path)


def test_names_that_lead_out_of_the_archive_write_nothing(tmp_path: Path) -> None:
    make_archive(tmp_path / "job" / "in.zip", {"../out.csv": b"a\n1\n", "../out.parquet": parquet([1])})
    with find_sources(["in.zip"], tmp_path / "job") as sources:
        assert [source.path for source in sources] == ["in.zip/../out.csv", "in.zip/../out.parquet"]
        assert fingerprint(sources[0]) == Fingerprint(4, hashlib.sha256(b"a\n1\n").hexdigest())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in.zip", "job"]


# What is wrong


def test_an_encrypted_member_is_an_error(tmp_path: Path) -> None:
    path = make_archive(tmp_path / "in.zip", {"a.csv": b"a\n"})
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"in\.zip/a\.csv is encrypted, and etl takes no password\. Unpack it"):
        find_sources(["in.zip"], tmp_path)


def test_a_method_that_takes_what_memory_it_likes_is_an_error(tmp_path: Path) -> None:
    make_archive(tmp_path / "in.zip", {"a.csv": b"a\n"}, zipfile.ZIP_LZMA)
    with pytest.raises(SourceError, match=r"in\.zip/a\.csv is compressed by a method .* \(number 14\)"):
        find_sources(["in.zip"], tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_an_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("a.csv", b"a\n1\n")
        archive.writestr("a.csv", b"a\n2\n")
    with pytest.raises(SourceError, match=r"in\.zip has two members named 'a\.csv'"):
        find_sources(["in.zip"], tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04cut off"])
def test_what_is_no_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.zip").write_bytes(content)
    with pytest.raises(SourceError, match=r"in\.zip cannot be read: File is not a zip file"):
        find_sources(["in.zip"], tmp_path)


def test_a_member_that_was_altered_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = make_archive(tmp_path / "in.zip", {"a.csv": b"a\n" + b"12345\n" * 100}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"12345", b"12945", 1))
    (source,) = find_sources(["in.zip"], tmp_path)
    with pytest.raises(SourceError, match=r"in\.zip/a\.csv cannot be read: Bad CRC-32"):
        fingerprint(source)
    with pytest.raises(SourceError, match="Bad CRC-32"):
        list(open_reader(source, Load(source=("in.zip",), table="t"), "csv").batches(Position(), ["a"]))


def test_a_bomb_is_read_in_small_memory(tmp_path: Path) -> None:
    make_archive(tmp_path / "in.zip", {"a.csv": b"a\n" + b"\0" * 60_000_000})
    (source,) = find_sources(["in.zip"], tmp_path)
    reader = open_reader(source, Load(source=("in.zip",), table="t", max_record_bytes=1_000_000), "csv")
    assert [len(batch.rejects) for batch in reader.batches(Position(), ["a"])] == [1]


# Loading


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "parquet", "feather"])
def test_a_load_goes_on_within_a_member(tmp_path: Path, sqlite_url: str, suffix: str) -> None:
    if suffix == "parquet":
        content = parquet(list(range(50)))
    elif suffix == "feather":
        content = feather_file(list(range(50)))
    elif suffix == "jsonl":
        content = b"".join(b'{"id":%d,"name":"n"}\n' % number for number in range(50))
    else:
        content = items_csv([(number, "n") for number in range(50)]).encode()
    job = items_job(tmp_path, sqlite_url)
    first = items_csv([(100, "first")]).encode()
    make_archive(
        tmp_path / "in.zip", {"1.csv": first, f"2.{suffix}": gzip.compress(content) if "gz" in suffix else content}
    )
    job.configure('source = "in.zip"\ntable = "items"\ncommit_every = 10')
    execute(
        sqlite_url, "CREATE TRIGGER stop BEFORE INSERT ON items WHEN NEW.id = 35 BEGIN SELECT RAISE(FAIL, 'x'); END"
    )
    assert job.call("load", "--max-rejects", "0").exit_code == 4
    assert 0 < count(sqlite_url, "items") < 51
    execute(sqlite_url, "DROP TRIGGER stop")

    done = job.call("load", "--json")
    assert done.exit_code == 0, done.errors
    assert [(file["path"], file["status"], file["read"]) for file in done.result["loads"][0]["files"]] == [
        ("in.zip/1.csv", "loaded", 1),
        (f"in.zip/2.{suffix}", "loaded", 50),
    ]
    assert count(sqlite_url, "items") == 51
    assert query(sqlite_url, f"SELECT count(*) FROM {ledger(sqlite_url, 'etl_run')}") == [(1,)]
    again = job.call("load", "--json").result["loads"][0]["files"]
    assert {file["status"] for file in again} == {"already_loaded"}
    assert "in.zip/1.csv, in.zip/2." in job.call("check").output
