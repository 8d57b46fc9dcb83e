"""The exit codes as told by the README, by `etl load --help` and by the classes of errors."""

from __future__ import annotations

import re

from etl import errors
from etl.cli import EXIT_CODES
from tests.commands import ROOT, call

CODES = ["0", "1", "2", "3", "4", "5", "130", "143"]  # design.md, section 4


def codes_of_errors() -> dict[str, int]:
    classes = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, errors.EtlError)]
    return {class_.__name__: class_.exit_code for class_ in classes}


def test_the_errors_have_the_documented_codes():
    assert codes_of_errors() == {
        "EtlError": 1,
        "ConfigError": 2,
        "SourceError": 1,
        "SourceChanged": 1,
        "TargetError": 1,
        "TargetMismatch": 1,
        "TargetUnavailable": 1,
        "DuplicateFound": 1,
        "TooManyRejects": 4,
        "Locked": 5,
        "TransformError": 1,
        "OutOfMemory": 1,
        "AccountingError": 1,
    }


def test_the_help_names_every_code():
    assert re.findall(r"\b(\d+) ", EXIT_CODES) == [code for code in CODES if code != "143"] + ["143"]
    assert EXIT_CODES.replace("\b\n", "").strip().splitlines()[-1].strip() in call("load", "--help").output


def test_the_readme_names_every_code():
    rows = re.findall(r"^\| ([\d, /]+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(re.findall(r"\d+", " ".join(rows)), key=int) == CODES
