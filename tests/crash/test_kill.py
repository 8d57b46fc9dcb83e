"""A run that is killed by SIGKILL, at any moment and as often as you like, ends as one that was not."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import wait_until
from tests.crash.nursery import SECONDS, Nursery
from tests.crash.steps import ALWAYS, Step
from tests.crash.three_files import Job, make_job

SIZES = {"row": 120, "bulk": 900, "copy": 2000}  # records of each file, so that there is time to kill in
METHODS = ("row", "bulk", "copy")
ALL = [(method, commit_every) for method in METHODS for commit_every in (7, 100, "file", "run")]


def kill_when(job: Job, nursery: Nursery, moment: Callable[[float], bool]) -> None:
    """Start the job, and kill it as soon as ``moment`` says so, unless it has ended before."""
    child = nursery.start("load", job.path, "--json", "--no-progress")
    started = time.monotonic()
    while not child.has_ended(0.001) and time.monotonic() - started < SECONDS:
        if moment(time.monotonic() - started):
            child.send(signal.SIGKILL)
            break
    assert child.wait().exit_code in (-signal.SIGKILL, 3)


def kill_at_random(job: Job, nursery: Nursery, kills: int) -> int:
    """Kill the job at random moments, from its start on; how many of them came in time."""
    came = 0
    for _ in range(kills):
        patience = random.uniform(0, 0.25)
        kill_when(job, nursery, patience.__le__)
        job.check_commit()
        if job.is_completed():
            break
        came += 1
    return came


def kill_at_commits(job: Job, nursery: Nursery, kills: int) -> int:
    """Kill the job as soon as a commit of it can be seen; how many of them came in time."""
    came = 0
    for _ in range(kills):
        _, before = job.committed()

        def moment(_now: float, before: int = before) -> bool:
            return job.committed()[1] > before

        kill_when(job, nursery, moment)
        job.check_commit()
        if job.is_completed():
            break
        came += 1
    return came


def test_run_killed_at_random_ends_as_one_that_was_not(database_url: str, tmp_path: Path, nursery: Nursery) -> None:
    job = make_job(database_url, tmp_path, "row", 40, 80)
    expected = job.left_alone(nursery)

    kill_at_random(job, nursery, 4)
    job.finish(nursery)

    assert job.outcome() == expected


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("kill", "kills"), [(kill_at_random, 12), (kill_at_commits, 6)])
@pytest.mark.parametrize(("method", "commit_every"), ALL)
def test_run_killed_many_times_ends_as_one_that_was_not(
    database_url: str,
    tmp_path: Path,
    nursery: Nursery,
    method: str,
    commit_every: int | str,
    kill: Callable[[Job, Nursery, int], int],
    kills: int,
) -> None:
    """A job that is done before all of the kills is done again, until there were so many."""
    job = make_job(database_url, tmp_path, method, commit_every, SIZES[method])
    expected = job.left_alone(nursery)

    came = 0
    while came < kills:
        came += max(1, kill(job, nursery, kills - came))
        job.finish(nursery)
        assert job.outcome() == expected
        job.start_over()


# At the very moment, which no watcher from outside can hit

WITHIN_COMMITS = [Step("in commit", "before", number) for number in (1, 2, 3, 4, 5)]
OFTEN = ("savepoint", "release", "rollback to", "rows", "rejects", "checkpoint", "commit", "file", "map")
STEPS = [
    *(Step(name, moment) for name in ALWAYS for moment in ("before", "after")),
    *(Step(name, moment, 3) for name in OFTEN for moment in ("before", "after")),
    *WITHIN_COMMITS,
]
SAMPLE = [Step("rows", "after", 2), Step("rejects", "after", 2), Step("checkpoint", "after", 2), WITHIN_COMMITS[3]]


def kill_at(job: Job, nursery: Nursery, step: Step) -> bool:
    """Whether the job came to the step."""
    done = nursery.run("load", job.path, "--json", step=step)
    assert done.exit_code in (-signal.SIGKILL, 3), done.errors
    job.check_commit()
    return done.exit_code == -signal.SIGKILL


def test_run_killed_at_named_steps_ends_as_one_that_was_not(
    database_url: str, tmp_path: Path, nursery: Nursery
) -> None:
    """At one in the run, and at each of the others in a resume of the one before."""
    job = make_job(database_url, tmp_path, "bulk", 50, 120)
    expected = job.left_alone(nursery)

    for step in SAMPLE:
        assert kill_at(job, nursery, step), step
    job.finish(nursery)

    assert job.outcome() == expected


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("commit_every", [50, "file", "run"])
def test_run_killed_at_one_named_step_after_the_other_ends_as_one_that_was_not(
    database_url: str, tmp_path: Path, nursery: Nursery, method: str, commit_every: int | str
) -> None:
    job = make_job(database_url, tmp_path, method, commit_every, 120)
    reached = set()

    def kill(step: Step) -> None:
        if kill_at(job, nursery, step):
            reached.add(step.name)

    job.at_each(STEPS, nursery, kill)

    assert reached >= {*ALWAYS, "in commit"}


def test_commit_that_was_sent_and_not_answered_counts(postgres_url: str, tmp_path: Path, nursery: Nursery) -> None:
    """The server has made it, though nobody has heard of it: the resume reads behind it, and doubles nothing."""
    job = make_job(postgres_url, tmp_path, "copy", 50, 120)
    # Committed before the first rows: the lock of the job, its moment, the ledger with the run, the lock's run.
    killed = nursery.run("load", job.path, "--json", step=Step("in commit", "before", 5))

    assert killed.exit_code == -signal.SIGKILL
    wait_until(lambda: job.committed() == (1, 50))
    job.finish(nursery)
