"""Measure whole processes: wall time, processor time and peak memory, by the operating system's account."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Measurement:
    """One execution of a command. `peak_bytes` is its largest resident set."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Several executions of the same command."""

    runs: int
    median_seconds: float
    fastest_seconds: float
    slowest_seconds: float
    median_cpu_seconds: float
    peak_bytes: int


def measure(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None, limit: float | None = None
) -> Measurement:
    """Run a command in `folder` and wait for it, at most `limit` seconds: then it is killed.

    `wait4` gives the account of this child alone. Linux carries the peak memory of the process that starts a
    program over into the program's own, so the measuring process has to stay small: it imports neither numpy
    nor pyarrow, and no figure is below its own 40 MB.
    """
    with tempfile.TemporaryFile("w+b") as out, tempfile.TemporaryFile("w+b") as err:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment
        )
        with killed_after(limit, process):
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = [read_text(file) for file in (out, err)]
    return Measurement(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * MAXRSS_UNIT,
        exit_code=process.returncode,
        stdout=texts[0],
        stderr=texts[1],
    )


@contextlib.contextmanager
def killed_after(limit: float | None, process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a process that is still running after `limit` seconds."""
    if limit is None:
        yield
        return
    timer = threading.Timer(limit, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def read_text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def summarise(measurements: Sequence[Measurement]) -> Summary:
    """The median is reported, not the mean: one run that the machine disturbed does not move it."""
    seconds = [one.seconds for one in measurements]
    return Summary(
        runs=len(measurements),
        median_seconds=statistics.median(seconds),
        fastest_seconds=min(seconds),
        slowest_seconds=max(seconds),
        median_cpu_seconds=statistics.median(one.cpu_seconds for one in measurements),
        peak_bytes=max(one.peak_bytes for one in measurements),
    )
