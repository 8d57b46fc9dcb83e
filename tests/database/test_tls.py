"""TLS as the URL asks for it: a certificate by a known authority for the host's name is accepted, any other refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from sqlalchemy import URL, make_url

from tests.commands import ITEMS, Ended, Job, call, count, execute, items_csv
from tests.tls import tls_server

PASSWORD = "only-for-tests"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def known(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def secured(postgres_url: str, authority: trustme.CA, tmp_path: Path) -> Iterator[URL]:
    """A server whose certificate is for the name localhost, and not for its address."""
    with tls_server(postgres_url, authority.issue_cert("localhost"), tmp_path) as url:
        yield url.set(host="localhost")


def loaded(folder: Path, url: URL, **parameters: str) -> Ended:
    job = Job(folder, url.set(query=parameters).render_as_string(hide_password=False))
    job.configure('source = "items.csv"\ntable = "items"')
    job.write("items.csv", items_csv([(1, "one"), (1, "one"), (2, "two")]))
    return job.call("load", "--json")


def test_certificate_by_the_known_authority_for_the_hosts_name_is_accepted(
    secured: URL, known: str, postgres_url: str, tmp_path: Path
) -> None:
    execute(postgres_url, ITEMS)
    ended = loaded(tmp_path, secured, sslmode="verify-full", sslrootcert=known)
    assert (ended.exit_code, ended.result["written"], ended.result["duplicates"]) == (0, 2, 1)
    assert count(postgres_url, "items") == 2


@pytest.mark.parametrize(
    "wrong", ["authority", *(pytest.param(wrong, marks=pytest.mark.long) for wrong in ("host name", "no authority"))]
)
def test_other_certificates_are_refused_with_a_clear_message(
    secured: URL, known: str, postgres_url: str, tmp_path: Path, wrong: str
) -> None:
    execute(postgres_url, ITEMS)
    if wrong == "authority":
        trustme.CA().cert_pem.write_to_path(known)
    if wrong == "no authority":
        Path(known).unlink()
    url = secured.set(host="127.0.0.1") if wrong == "host name" else secured
    ended = loaded(tmp_path, url, sslmode="verify-full", sslrootcert=known)
    told = {
        "authority": r"certificate verify failed",
        "host name": r'server certificate for "localhost".* does not match host name "127\.0\.0\.1"',
        "no authority": r'root certificate file ".*/ca\.pem" does not exist',
    }
    assert ended.exit_code == 1
    assert re.search(told[wrong], ended.told)
    assert ended.told.endswith(
        "Check that the server is up, and the url and password, and that its certificate is for this host and by the "
        "authority of sslrootcert; then run the same command again."
    )
    assert PASSWORD not in ended.errors + ended.output
    assert count(postgres_url, "items") == 0


@pytest.mark.long
def test_lesser_mode_takes_the_certificate_for_another_name(
    secured: URL, known: str, postgres_url: str, tmp_path: Path
) -> None:
    execute(postgres_url, ITEMS)
    url = secured.set(host="127.0.0.1")
    assert loaded(tmp_path, url, sslmode="verify-ca", sslrootcert=known).exit_code == 0


@pytest.mark.long
def test_server_without_tls_is_refused_where_the_url_asks_for_it(postgres_url: str) -> None:
    url = make_url(postgres_url).set(query={"sslmode": "require"})
    ended = call("history", url.render_as_string(hide_password=False))
    assert ended.exit_code == 1
    assert "server does not support SSL, but SSL was required" in ended.told
