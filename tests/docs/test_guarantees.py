"""docs/guarantees.md: each promise names tests that there are."""

from __future__ import annotations

import re

from tests.commands import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")


def test_every_promise_names_a_test_that_there_is() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    tests = set(re.findall(r"^def (test_\w+)", code, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named - tests == set()


def test_no_promise_is_without_a_test() -> None:
    promises = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert [line for line in promises if "`test_" not in line and not line.startswith("| ---")] == []
