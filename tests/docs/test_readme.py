"""What the README shows is run: its commands in a copy of the repository, its configs by the config reader."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from etl.config import read_job
from tests.commands import ROOT

README = ROOT / "README.md"
SECONDS = 120

# What installs, or runs these very tests, is run by CI and not by a test. The words behind `$ `.
NOT_RUN = re.compile(r"(make|git|pip|uv|pipx|sudo|apt|apt-get|createdb|systemctl|crontab|cp|cd|export|docker|psql)\b")


def fences(language: str) -> list[str]:
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """The commands of the ```console blocks, each with the output shown below it."""
    found = []
    for block in fences("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command.strip(), output))
    return found


def without_numbers_that_change(output: str) -> list[list[str]]:
    """Lines as words, without seconds, speeds, run ids and paths."""
    output = re.sub(r"\d{8}-\d{6}-[0-9a-f]{6}", "RUN", output)
    output = re.sub(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}", "TIME", output)
    output = re.sub(r"[\d,]+\.\d+ s( +[\d,]+)?", "SECONDS", output)
    return [line.split() for line in output.splitlines() if line.strip()]


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a clone has, with the quickstart's tables; `etl` and `python` are those of the tests."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("configs", "sample_data"):
        shutil.copytree(ROOT / name, folder / name)
    script = folder / "sample_data" / "create_tables.py"
    subprocess.run([sys.executable, script, f"sqlite:///{folder / 'quickstart.db'}"], check=True, capture_output=True)
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    binaries = folder / "bin"
    binaries.mkdir(exist_ok=True)
    for name, arguments in {"etl": "-m etl", "python": "", "python3": ""}.items():
        (binaries / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (binaries / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["sh", "-c", re.sub(r"\.venv/bin/(etl|python)", r"\1", command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_the_readme_opens_with_the_quickstart_and_the_tests():
    shown = [command for command, _ in commands() if command.startswith("make ")]

    assert shown[:2] == ["make quickstart", "make test"]


def test_the_quickstarts_output_is_that_of_the_command(repository):
    (shown,) = [output for command, output in commands() if command == "make quickstart"]
    shown = shown or fences("text")[0]  # below the command, or in the next block

    done = run("etl load configs/quickstart.toml", repository)

    assert done.returncode == 3
    assert "order_lines" in shown, "the README shows the summary"
    real = without_numbers_that_change(done.stdout)
    told = without_numbers_that_change(shown)
    missing = [line for line in real if line not in told]
    assert not missing, "the README shows what the command prints"


def test_every_command_of_the_readme_runs(repository, subtests):
    for command, _ in commands():
        if NOT_RUN.match(command):
            continue
        with subtests.test(command):
            done = run(command, repository)
            assert "Traceback" not in done.stderr
            assert done.returncode in (0, 3), done.stderr
            assert "No such option" not in done.stderr


def test_the_python_of_the_readme_runs(repository, subtests):
    for number, block in enumerate(fences("python")):
        with subtests.test(number=number):
            program = repository / f"example_{number}.py"
            program.write_text(block.replace('"job.toml"', '"configs/quickstart.toml"'), encoding="utf-8")
            done = run(f"python {program.name}", repository)
            assert (done.returncode, done.stderr) == (0, "")


def test_every_config_of_the_readme_is_valid(tmp_path, monkeypatch, subtests):
    whole = [block for block in fences("toml") if "[database]" in block and "[[load]]" in block]
    assert whole, "the README shows a config"
    for variable in re.findall(r"\$\{(\w+)\}", "".join(whole)):
        monkeypatch.setenv(variable, "x")
    for number, block in enumerate(whole):
        with subtests.test(number=number):
            config = tmp_path / "job.toml"
            config.write_text(block, encoding="utf-8")
            assert read_job(config).loads


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", README.read_text(encoding="utf-8"))

    assert [link for link in links if not (ROOT / link).exists()] == []
