"""How sources are found, told apart and read."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from etl.errors import ConfigError, SourceError
from etl.readers.files import Fingerprint, Source, find_sources, fingerprint, format_of, open_decompressed


def make_files(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a\n")


def paths(patterns: list[str], folder: Path) -> list[str]:
    return [source.path for source in find_sources(patterns, folder)]


# Finding


def test_plain_path_is_shown_as_written(tmp_path: Path) -> None:
    make_files(tmp_path, "in/a.csv")
    assert list(find_sources(["./in/a.csv"], tmp_path)) == [Source("./in/a.csv", tmp_path / "in" / "a.csv", size=2)]


def test_glob_gives_natural_order_relative_to_the_folder(tmp_path: Path) -> None:
    make_files(tmp_path, "in/10.csv", "in/2.csv", "in/1.txt")
    assert paths(["in/*.csv"], tmp_path) == ["in/2.csv", "in/10.csv"]


def test_glob_over_folders(tmp_path: Path) -> None:
    make_files(tmp_path, "x.csv", "a/x.csv", "a/b/x.csv")
    assert paths(["**/x.csv"], tmp_path) == ["a/b/x.csv", "a/x.csv", "x.csv"]


def test_folder_gives_its_data_files_compressed_or_not(tmp_path: Path) -> None:
    make_files(tmp_path, "in/b.tsv", "in/a.csv.gz", "in/c.parquet", "in/.d.csv", "in/e.txt", "in/sub/f.csv")
    assert paths(["in"], tmp_path) == ["in/a.csv.gz", "in/b.tsv", "in/c.parquet"]


def test_absolute_glob_outside_the_folder_is_shown_in_full(tmp_path: Path) -> None:
    make_files(tmp_path, "in/a.csv", "job/job.toml")
    assert paths([f"{tmp_path}/in/*.csv"], tmp_path / "job") == [f"{tmp_path}/in/a.csv"]


def test_no_file_twice(tmp_path: Path) -> None:
    make_files(tmp_path, "a.csv", "b.csv")
    assert paths(["b.csv", "*.csv", "./a.csv"], tmp_path) == ["b.csv", "a.csv"]


def test_file_with_brackets_in_its_name_is_no_glob(tmp_path: Path) -> None:
    make_files(tmp_path, "a[1].csv", "a1.csv")
    assert paths(["a[1].csv"], tmp_path) == ["a[1].csv"]


def test_missing_file_empty_glob_and_empty_folder_are_errors_that_name_them(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for pattern in ("no.csv", "*.csv", "empty"):
        with pytest.raises(SourceError) as error:
            find_sources([pattern], tmp_path)
        assert repr(pattern) in error.value.problem
        assert str(tmp_path) in error.value.problem
        assert error.value.remedy


def test_standard_input_is_a_file_until_it_is_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a\n1\n")))
    with find_sources(["-"], tmp_path) as sources:
        (source,) = sources
        assert (source.path, source.size) == ("-", 4)
        copy = Path(str(source.location))
        assert copy.read_bytes() == b"a\n1\n"
    assert not copy.exists()


def test_standard_input_is_removed_when_another_pattern_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a\n")))
    with pytest.raises(SourceError):
        find_sources(["-", "no.csv"], tmp_path)
    assert list(tmp_path.iterdir()) == []


LINES = b"a\n" + b"\n".join(b"%d" % number for number in range(5000)) + b"\n"


@pytest.mark.parametrize(
    ("packed", "read"),
    [
        (LINES, LINES),
        (b"BZh9,x\n", b"BZh9,x\n"),
        (gzip.compress(LINES), LINES),
        (bz2.compress(LINES), LINES),
        (pa.compress(LINES, "zstd", asbytes=True), LINES),
        (pa.compress(LINES, "lz4", asbytes=True), LINES),
        (b"", b""),
        (b"\x1f", b"\x1f"),
    ],
    ids=["plain", "like bzip2", "gzip", "bzip2", "zstd", "lz4", "empty", "short"],
)
def test_standard_input_is_unpacked_by_its_first_bytes(
    monkeypatch: pytest.MonkeyPatch, packed: bytes, read: bytes
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(packed)))
    with find_sources(["-"], Path()) as (source,), open_decompressed(source.location) as file:
        assert file.read(1 << 20) == read
        assert fingerprint(source) == Fingerprint(len(packed), hashlib.sha256(packed).hexdigest())


def test_an_archive_from_standard_input_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"PK\x03\x04" + bytes(20))))
    with pytest.raises(SourceError, match=r"Standard input is a \.zip archive, .* Give its path"):
        find_sources(["-"], tmp_path)
    assert list(tmp_path.iterdir()) == []


# Telling apart


def test_fingerprint_is_size_and_sha256_of_the_stored_bytes(tmp_path: Path) -> None:
    content = gzip.compress(b"a\n")
    (tmp_path / "a.csv.gz").write_bytes(content)
    (source,) = find_sources(["a.csv.gz"], tmp_path)
    assert fingerprint(source) == Fingerprint(len(content), hashlib.sha256(content).hexdigest())


def test_fingerprint_of_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"There is no file a\.csv"):
        fingerprint(Source("a.csv", tmp_path / "a.csv", 0))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.csv", "csv"),
        ("a.TSV", "csv"),
        ("x/a.b.txt.gz", "csv"),
        ("a.dat", "csv"),
        ("a.parquet", "parquet"),
        ("a.pq", "parquet"),
    ],
)
def test_suffix_says_the_format(path: str, expected: str) -> None:
    assert format_of(path) == expected


@pytest.mark.parametrize("path", ["-", "a", "a.gz", "a.json", ".csv"])
def test_other_suffix_is_an_error_that_says_what_to_set(path: str) -> None:
    with pytest.raises(ConfigError, match="Set `format = "):
        format_of(path)


# Reading

CONTENT = bytes(range(256)) * 400


def compressed(codec: str, content: bytes = CONTENT) -> bytes:
    target = pa.BufferOutputStream()
    with pa.CompressedOutputStream(target, codec) as stream:
        stream.write(content)
    stored: bytes = target.getvalue().to_pybytes()
    return stored


CODECS = pytest.mark.parametrize(
    ("suffix", "codec"), [(".gz", "gzip"), (".zst", "zstd"), (".bz2", "bz2"), (".lz4", "lz4")]
)


@CODECS
def test_compressed_file_is_read_through_all_its_members(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(compressed(codec) * 2)
    with open_decompressed(path) as file:
        assert file.read(10) == CONTENT[:10]
        file.skip(20)
        assert file.read(1 << 20) == (CONTENT * 2)[30:]
        assert file.read(1) == b""
        assert file.stored == path.stat().st_size


@CODECS
@pytest.mark.parametrize("missing", [1, 4, 8, 100])
def test_compressed_file_that_was_cut_off_is_an_error(tmp_path: Path, suffix: str, codec: str, missing: int) -> None:
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes((compressed(codec) * 2)[:-missing])
    with open_decompressed(path, "in/a") as file, pytest.raises(SourceError, match="in/a cannot be read"):
        file.read(1 << 20)


@CODECS
def test_empty_file_with_a_compressed_name_is_an_error(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"a.csv{suffix}"
    path.touch()
    with pytest.raises(SourceError, match=f"is empty, so it is no {codec} file"):
        open_decompressed(path)


def test_what_the_standard_library_compressed_is_read(tmp_path: Path) -> None:
    for name, content in (("a.gz", gzip.compress(CONTENT)), ("a.bz2", bz2.compress(CONTENT))):
        (tmp_path / name).write_bytes(content)
        with open_decompressed(tmp_path / name) as file:
            assert file.read(1 << 20) == CONTENT


def test_plain_file_is_read_and_skipped_by_its_own_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"0123456789")
    with open_decompressed(tmp_path / "a.csv") as file:
        file.skip(3)
        assert (file.read(2), file.stored, file.read(99), file.is_compressed) == (b"34", 5, b"56789", False)


def test_folder_and_missing_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a folder, not a file"):
        open_decompressed(tmp_path)
    with pytest.raises(SourceError, match="There is no file"):
        open_decompressed(tmp_path / "a.csv")


def test_missing_permission_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceError, match=r"no permission to read a\.csv\. Grant it"):
        open_decompressed(tmp_path / "a.csv", "a.csv")
