"""``etl check --verify N``: the first N records by the chosen method and by ``row``, each in a dry run, compared.

A dry run is the code of a real run in a transaction that is rolled back, so what is compared is what a load would
do. All loads of the job take part in each, parents first, as in a load: the children find their parents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from etl.checking import CheckReport, report_on
from etl.comparing import REFERENCE, Comparison, RefusedRecords, Trial, compare_trials
from etl.config import Job, Load
from etl.database import Target, digest_rows, session_factory
from etl.errors import SourceChanged
from etl.ledger import kept_rejects
from etl.loading import executed, prepared
from etl.plans import LoadPlan
from etl.progress import Silence
from etl.readers import Stamp, stamp
from etl.records import RunResult
from etl.running import Options, Preparation
from etl.writers import choose_writer


@dataclass(frozen=True, slots=True)
class _ComparedTable:
    """A target whose rows are compared by ``columns``; all others are ``left_out``."""

    target: Target
    columns: tuple[str, ...]
    left_out: tuple[str, ...]


def verify_job(job: Job, records: int) -> CheckReport:
    """Check the job, load the first ``records`` of each source by the chosen methods and by ``row``, and compare.

    Everything is rolled back, the ledger's tables among it; the job's lock is held meanwhile. Nothing is verified
    where the check finds problems. Raises the EtlError that a load would raise, but limits of rejects and
    duplicates are not looked at.
    """
    options = Options(limit=records, dry_run=True)
    with prepared(job, tuple(map(_without_limits, job.loads)), options, Silence()) as preparation:
        report = report_on(preparation.connection, job, preparation.plans)
        preparation.connection.rollback()
        if report.problems:
            return report
        comparisons = _comparisons(preparation, job, options)
        loads = (replace(load, comparison=comparisons.get(load.name)) for load in report.loads)
        return replace(report, loads=tuple(loads), is_verified=True)


def _without_limits(load: Load) -> Load:
    """With duplicates in the ledger, where each record that is not written is then named, and without early ends."""
    on_duplicate = "update" if load.on_duplicate == "update" else "skip"
    return load.model_copy(update={"record_duplicates": True, "max_rejects": None, "on_duplicate": on_duplicate})


def _comparisons(preparation: Preparation, job: Job, options: Options) -> dict[str, Comparison]:
    """By load, of those whose method is another one than ``row``."""
    plans = preparation.plans
    compared = [plan for plan in plans if plan.choice.writer.method != REFERENCE]
    if not compared:
        return {}
    tables = _compared_tables(plans, compared)
    stamps = _stamps(plans)
    chosen = _trials(preparation, job, tables, options)
    row = _trials(replace(preparation, plans=[_by_row(plan) for plan in plans]), job, tables, options)
    _refuse_changed(stamps, _stamps(plans))
    return {
        plan.load.name: compare_trials(
            chosen[plan.load.name], row[plan.load.name], _files(plan), tables[plan.target.name].left_out
        )
        for plan in compared
    }


def _by_row(plan: LoadPlan) -> LoadPlan:
    return replace(plan, choice=choose_writer(plan.target, REFERENCE, duplicates=plan.duplicates))


def _compared_tables(plans: Sequence[LoadPlan], compared: Sequence[LoadPlan]) -> dict[str, _ComparedTable]:
    return {
        plan.target.name: _compared_table([other for other in plans if other.target.name == plan.target.name])
        for plan in compared
    }


def _compared_table(plans: Sequence[LoadPlan]) -> _ComparedTable:
    """What every load into a table gives is compared, and what nobody fills in.

    A default may be a sequence or a clock, a trigger may ask them, and what is generated follows from the others.
    """
    target = plans[0].target
    given = set.intersection(
        *({feed.name for feed in source.mapping.columns} for plan in plans for source in plan.sources)
    )
    is_compared = {
        column.name: column.name in given or not (target.triggers or column.has_default or column.is_generated)
        for column in target.columns
    }
    columns = tuple(name for name, is_so in is_compared.items() if is_so)
    left_out = tuple(name for name, is_so in is_compared.items() if not is_so)
    return _ComparedTable(target, columns, left_out)


def _trials(
    preparation: Preparation, job: Job, tables: Mapping[str, _ComparedTable], options: Options
) -> dict[str, Trial]:
    """By load, what a dry run has done; it is rolled back. Raises the error that ended it, if one did."""
    connection = preparation.connection
    with executed(preparation, _as_never_run(job), options, Silence()) as execution:
        if execution.error is not None:
            raise execution.error
        refused = _refused_records(connection, execution.result, preparation.plans)
        rows = {name: digest_rows(connection, table.target.table, table.columns) for name, table in tables.items()}
        return {
            load.name: Trial(load.method, load.counts, refused[load.name], rows[load.table])
            for load in execution.result.loads
            if load.table in tables
        }


def _as_never_run(job: Job) -> Job:
    """A job that the ledger does not know: nothing of it is resumed, or was loaded already.

    The name of a config file has no slash, so that this is the name of no other job.
    """
    return job.model_copy(update={"name": f"{job.name}/verify"})


def _refused_records(connection: Connection, result: RunResult, plans: Sequence[LoadPlan]) -> dict[str, RefusedRecords]:
    numbers = {plan.load.name: {path: number for number, path in enumerate(_files(plan))} for plan in plans}
    refused = {plan.load.name: RefusedRecords() for plan in plans}
    with session_factory(connection)() as session:
        for kept in kept_rejects(session, run_id=result.run_id):
            refused[kept.load].add(numbers[kept.load][kept.file], kept.reject)
    return refused


def _files(plan: LoadPlan) -> list[str]:
    return [source.source.path for source in plan.sources]


def _stamps(plans: Sequence[LoadPlan]) -> dict[str, Stamp]:
    return {source.source.path: stamp(source.source) for plan in plans for source in plan.sources}


def _refuse_changed(before: Mapping[str, Stamp], after: Mapping[str, Stamp]) -> None:
    changed = [path for path, seen in before.items() if after[path] != seen]
    if changed:
        raise SourceChanged(
            f"{changed[0]} was written to while it was read by one method after the other; all was rolled back.",
            "Run the same command again when the file is complete.",
        )
