"""``method = "row"`` for nested records: a record and its children are one graph of objects, in one savepoint."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import SAWarning
from sqlalchemy.orm import Session
from sqlalchemy.orm.collections import collection_adapter

from etl.database import ChildTarget, Duplicates, Target
from etl.records import Cause, ChildCounts, Encoded, Orphan, Outcome, Reason, Refusal
from etl.writers.refusing import grouped, null_key_cause, null_key_refusals, refusal
from etl.writers.row import OBJECT_REFUSALS, constructed, same_value
from etl.writers.values import Values, row_values

_Path = tuple[tuple[str, int], ...]
_Attach = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Node:
    """A row and its children, in the order of ``Target.children``; ``place`` is that in the list that it is from."""

    values: Values
    place: int
    children: tuple[tuple[Node, ...], ...]


class _RefusedError(Exception):
    """A row of the graph is refused, and with it what it is in; ``path`` leads to it."""

    def __init__(self, cause: Cause, path: _Path) -> None:
        super().__init__(cause.message)
        self.cause = cause
        self.path = path


@dataclass(slots=True)
class _Trial:
    """What one savepoint has done so far; it counts only if the savepoint is released.

    ``shared`` are the objects of association targets by their table and key; ``outer`` is the savepoint around.
    """

    outer: _Trial | None = None
    shared: dict[tuple[Any, ...], object] = field(default_factory=dict)
    counted: Counter[tuple[str, str]] = field(default_factory=Counter)
    orphans: list[tuple[_Path, Cause]] = field(default_factory=list)

    def find(self, identity: tuple[Any, ...]) -> object | None:
        trial: _Trial | None = self
        while trial is not None:
            if identity in trial.shared:
                return trial.shared[identity]
            trial = trial.outer
        return None

    def take(self, inner: _Trial) -> None:
        self.shared |= inner.shared
        self.counted += inner.counted
        self.orphans += inner.orphans


@dataclass(frozen=True, slots=True)
class GraphWriter:
    """Adds each record with its children by the save-update cascade, under one savepoint.

    If that is refused, it is done again one object after the other, each under a savepoint inside of the record's: this
    tells which object it was, and leaves out only that one where its children are lenient.
    """

    method: ClassVar[str] = "row"
    piece_rows: ClassVar[int] = 1_000
    target: Target
    duplicates: Duplicates

    def encode(self, rows: pa.RecordBatch) -> None:
        """Nothing: the driver is given Python's values."""

    def write(self, session: Session, rows: pa.RecordBatch, encoded: Encoded | None = None) -> Outcome:
        """Insert the graphs in order; a refused one is rolled back to its savepoint. Nothing is committed."""
        with warnings.catch_warnings():  # of two objects with one key, which the database refuses a moment later
            warnings.filterwarnings("ignore", "New instance .* conflicts with persistent", SAWarning)
            return self._write_all(session, rows)

    def _write_all(self, session: Session, rows: pa.RecordBatch) -> Outcome:
        refused = null_key_refusals(rows, self.target)
        done, updated, orphans = _Trial(), 0, []
        for index, node in enumerate(nodes_of(rows, self.target)):
            if index in refused:
                continue
            trial = _Trial(done)
            try:
                updated += self._write(session, node, trial)
            except _RefusedError as error:
                refused[index] = Refusal(index, self._record_cause(error))
                continue
            orphans += [Orphan(index, path, cause) for path, cause in trial.orphans]
            done.take(trial)
        return Outcome(
            rows.num_rows,
            grouped(refused.values()),
            updated=updated,
            orphans=tuple(orphans),
            children=_child_counts(done.counted),
        )

    def _write(self, session: Session, node: Node, trial: _Trial) -> bool:
        """Write one graph; whether it took the place of another one. Raises _RefusedError, and nothing of it stays."""
        attempt = _Trial(trial)
        try:
            with session.begin_nested():
                is_update = self._delete_former(session, node)
                session.add(self._graph(session, self.target, node, (), attempt))  # flushed on leaving
        except (*OBJECT_REFUSALS, _RefusedError) as error:
            if not any(node.children):
                raise self._refused(error, session, self.target, node.values, ()) from error
        else:
            trial.take(attempt)
            return is_update
        return self._write_by_parts(session, node, trial)

    def _write_by_parts(self, session: Session, node: Node, trial: _Trial) -> bool:
        with session.begin_nested():
            try:
                is_update = self._delete_former(session, node)
            except OBJECT_REFUSALS as error:
                raise self._refused(error, session, self.target, node.values, ()) from error
            self._add(session, self.target, node, (), session.add, trial)
        return is_update

    def _delete_former(self, session: Session, node: Node) -> bool:
        """With ``on_duplicate = "replace"``: the record that is there goes, with what its cascades take along."""
        key = self.duplicates.key
        if key is None or not self.duplicates.is_replacing:
            return False
        former = self._found(session, self.target, key.columns, node.values)
        if former is None:
            return False
        session.delete(former)
        session.flush()
        return True

    # All at once

    def _graph(self, session: Session, target: Target, node: Node, path: _Path, trial: _Trial) -> Any:
        """A transient object with its children; nothing is sent but questions for shared ones."""
        made = self._made(target, node, path)
        for child, inner in zip(target.children, node.children, strict=True):
            for element in inner:
                where = (*path, (child.name, element.place))
                if child.through is None:
                    _append(made, child, self._graph(session, child.target, element, where, trial))
                    trial.counted[_name(where), "written"] += 1
                else:
                    _append(made, child, self._shared(session, child, element, where, trial))
        return made

    def _made(self, target: Target, node: Node, path: _Path) -> Any:
        cause = null_key_cause(node.values, target, _link_of(path, self.target)) if path else None
        if cause is not None:
            raise _RefusedError(cause, path)
        return constructed(target, node.values)

    def _shared(self, session: Session, child: ChildTarget, node: Node, path: _Path, trial: _Trial) -> object:
        """The object that is there already, or a new one."""
        key = child.key_among(node.values)
        assert key is not None, "the plan was made with one"
        identity = (child.target.name, *(node.values[name] for name in key))
        found = trial.find(identity) or self._found(session, child.target, key, node.values)
        trial.counted[_name(path), "written" if found is None else "found"] += 1
        if found is None and not child.is_created:
            message = f"there is no row of {child.target.name} with this {', '.join(key)}"
            raise _RefusedError(Cause(Reason.FOREIGN_KEY, message, column=", ".join(key)), path)
        if found is None:
            found = self._made(child.target, node, path)
        if None not in identity:  # which is no key that another one could have
            trial.shared[identity] = found
        return found

    def _found(self, session: Session, target: Target, key: Sequence[str], values: Values) -> object | None:
        """Equal is what the database calls equal."""
        assert target.entity is not None
        same = (same_value(target, name, values[name]) for name in key)
        with session.no_autoflush:
            return session.scalars(sa.select(target.entity).where(*same)).first()

    # One object after the other

    def _add(self, session: Session, target: Target, node: Node, path: _Path, attach: _Attach, trial: _Trial) -> None:
        """Add an object, then its children one by one. Raises _RefusedError for what is not left out."""
        try:
            with session.begin_nested():
                made = self._made(target, node, path)
                attach(made)
        except (*OBJECT_REFUSALS, _RefusedError) as error:
            raise self._refused(error, session, target, node.values, path) from error
        for child, inner in zip(target.children, node.children, strict=True):
            for element in inner:
                self._add_child(session, made, child, element, (*path, (child.name, element.place)), trial)

    def _add_child(
        self, session: Session, parent: Any, child: ChildTarget, node: Node, path: _Path, trial: _Trial
    ) -> None:
        attempt = _Trial(trial)
        try:
            with session.begin_nested():
                if child.through is None:
                    attempt.counted[_name(path), "written"] += 1
                    self._add(session, child.target, node, path, lambda made: _append(parent, child, made), attempt)
                else:
                    self._link(session, parent, child, node, path, attempt)
        except _RefusedError as error:
            if not child.is_lenient:
                raise
            trial.orphans.append((path, self._orphan_cause(error, path)))
        else:
            trial.take(attempt)

    def _link(self, session: Session, parent: Any, child: ChildTarget, node: Node, path: _Path, trial: _Trial) -> None:
        try:
            with session.begin_nested():
                _append(parent, child, self._shared(session, child, node, path, trial))
        except OBJECT_REFUSALS as error:
            raise self._refused(error, session, child.target, node.values, path) from error

    # Why

    def _refused(
        self, error: Exception, session: Session, target: Target, values: Mapping[str, Any], path: _Path
    ) -> _RefusedError:
        """What ``error`` refuses; an error that refuses no row is raised again."""
        if isinstance(error, _RefusedError):
            return error
        return _RefusedError(refusal(error, 0, values, session, target).cause, path)

    def _record_cause(self, error: _RefusedError) -> Cause:
        """What the whole record is refused for: a child is named with its table and its place in the list."""
        return _told(error.cause, error.path, self.target, ()) if error.path else error.cause

    def _orphan_cause(self, error: _RefusedError, path: _Path) -> Cause:
        return _told(error.cause, error.path, self.target, path)


def nodes_of(rows: pa.RecordBatch, target: Target) -> list[Node]:
    """Rows with the lists of their children, as the mapper gives them, as trees of values."""
    own = rows.drop_columns([child.name for child in target.children])
    lists = [_children_of(rows.column(child.name), child) for child in target.children]
    children: Iterable[tuple[tuple[Node, ...], ...]] = zip(*lists, strict=True) if lists else [()] * rows.num_rows
    return [Node(values, 0, inner) for values, inner in zip(row_values(own, target), children, strict=True)]


def _children_of(lists: pa.ListArray, child: ChildTarget) -> list[tuple[Node, ...]]:
    elements = lists.flatten()
    rows = pa.RecordBatch.from_struct_array(elements.field("columns"))
    for inner in child.target.children:
        rows = rows.append_column(inner.name, elements.field("children").field(inner.name))
    places = elements.field("place").to_pylist()
    nodes = [
        replace(node, place=place, values=_positioned(node.values, child, place))
        for node, place in zip(nodes_of(rows, child.target), places, strict=True)
    ]
    remaining = iter(nodes)
    return [tuple(_next(remaining, count)) for count in lists.value_lengths().to_pylist()]


def _positioned(values: Values, child: ChildTarget, place: int) -> Values:
    return values if child.position is None else values | {child.position: place}


def _next(nodes: Iterator[Node], count: int | None) -> Iterator[Node]:
    return (next(nodes) for _ in range(count or 0))


def _append(parent: Any, child: ChildTarget, made: object) -> None:
    """With its events, whatever the collection is; an object that is in it already is linked once."""
    collection = getattr(parent, child.attribute)
    if hasattr(collection, "add_all"):  # lazy="write_only" and "dynamic" have no collection in memory
        collection.add(made)
        return
    adapter = collection_adapter(collection)
    if not any(made is other for other in adapter):
        adapter.append_with_event(made)


def _link_of(path: _Path, target: Target) -> tuple[str, ...]:
    return _child_at(path, target).link


def _child_at(path: _Path, target: Target) -> ChildTarget:
    *above, (name, _) = path
    for step, _place in above:
        target = next(child.target for child in target.children if child.name == step)
    return next(child for child in target.children if child.name == name)


def _name(path: _Path) -> str:
    return ".".join(name for name, _ in path)


def _told(cause: Cause, path: _Path, target: Target, told: _Path) -> Cause:
    """With the place and the table of the child in the message, but for a place that is ``told`` elsewhere."""
    column = None if cause.column is None else f"{_name(path)}.{cause.column}"
    place = ".".join(f"{name}[{number}]" for name, number in path[len(told) :])
    message = f"{place} ({_child_at(path, target).target.name}): {cause.message}" if place else cause.message
    return replace(cause, message=message, column=column, is_elsewhere=True)


def _child_counts(counted: Counter[tuple[str, str]]) -> dict[str, ChildCounts]:
    names = {name for name, _ in counted}
    return {name: ChildCounts(written=counted[name, "written"], found=counted[name, "found"]) for name in names}
