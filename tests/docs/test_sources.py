"""What docs/sources.md and the configs show is a config that can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from etl.config import read_job
from tests.commands import ROOT

PAGE = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
SOURCES = re.findall(r'^source = "[^"]+"|^source = \[.*?^\]', PAGE, re.MULTILINE | re.DOTALL)


def test_every_config_can_be_read() -> None:
    configs = sorted((ROOT / "configs").glob("*.toml"))
    assert [path.name for path in configs] == [
        "nested.toml",
        "postgres.toml",
        "quickstart.toml",
        "sources.toml",
    ]
    for path in configs:
        assert read_job(path).loads


def test_every_source_that_the_page_shows_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(line.count('"') for line in SOURCES) >= 10  # quotes of five sources
    for name in ("SHOP_USER", "SHOP_PASSWORD"):
        monkeypatch.setenv(name, "x")
    for line in SOURCES:
        (tmp_path / "job.toml").write_text(f'[database]\nurl = "sqlite:///x.db"\n[[load]]\n{line}\ntable = "t"\n')
        assert read_job(tmp_path / "job.toml").loads[0].source
