"""The tables of nested records: each list of a record leads to a child's table by a relationship of mapped classes.

Where etl has mapped the tables itself, the relationship is made from the foreign key that the database has; a class of
the user's brings its own, with its cascades, events and whatever else it was given.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Inspector
from sqlalchemy.orm import RelationshipDirection, relationship

from etl import config
from etl.config import Job, Load
from etl.database.tables import ChildTarget, ForeignKey, Target, entity_target, find_targets, table_target
from etl.errors import ConfigError, TargetMismatch

OWNED = "save-update, merge, delete, delete-orphan"  # an element is its record's and nobody else's
SHARED = "save-update, merge"


def find_aggregates(connection: Connection, job: Job, loads: Sequence[Load]) -> dict[str, Target]:
    """The target of each load by its name, with those of its children.

    Raises TargetMismatch for a table that is not there or is no child of the other, and ConfigError for what the
    config says of a child and its table or class cannot have.
    """
    targets = find_targets(connection, job, loads)
    inspector = sa.inspect(connection)
    with warnings.catch_warnings():  # of what SQLAlchemy cannot reflect, nor do we need it
        warnings.simplefilter("ignore", sa.exc.SAWarning)
        return {load.name: _Search(connection, inspector, job, load).aggregate(targets[load.name]) for load in loads}


@dataclass(frozen=True, slots=True)
class _Search:
    """Where the children of one load are looked for."""

    connection: Connection
    inspector: Inspector
    job: Job
    load: Load

    def aggregate(self, target: Target) -> Target:
        if not self.load.children:
            return target
        return self._with_children(target, self.load.children)

    def _require_unique(self, target: Target, child: str, key: Sequence[str]) -> None:
        if not any(set(key) == set(unique) for unique in target.unique):
            known = "; ".join(f"({', '.join(unique)})" for unique in target.unique) or "none"
            raise TargetMismatch(
                f"Load {self.load.name}: the key of children {child} = ({', '.join(key)}) is no primary key "
                f"or unique constraint of {target.name}, which has {known}.",
                "Name the columns of one.",
            )

    def _with_children(self, target: Target, children: Mapping[str, config.Child]) -> Target:
        if not children:
            return target
        if target.entity is None or target.is_view:
            kind = "is a view" if target.is_view else "has no primary key"
            raise TargetMismatch(
                f"Load {self.load.name}: {target.name} {kind}, so that its rows can have no children.",
                "Load into a table with a primary key.",
            )
        return replace(target, children=tuple(self._child(target, name, child) for name, child in children.items()))

    def _child(self, parent: Target, name: str, child: config.Child) -> ChildTarget:
        if name in parent.attributes:
            raise ConfigError(
                f"Load {self.load.name}: [load.children.{name}] has the name of a column of {parent.name}.",
                f'Give it another name, and say source = "{child.source or name}".',
            )
        find = self._child_of_class if parent.is_users_model else self._child_of_table
        found = find(parent, name, child)
        self._require_fitting(found, child)
        return replace(found, target=self._with_children(found.target, child.children))

    def _require_fitting(self, found: ChildTarget, child: config.Child) -> None:
        target, place = found.target, f"Load {self.load.name}, children {found.name}"
        if target.entity is None or target.is_view:
            kind = "is a view" if target.is_view else "has no primary key"
            raise TargetMismatch(f"{place}: {target.name} {kind}.", "Give it one, or name a table that has one.")
        names = {column.name for column in target.columns}
        if found.position is not None and (found.position not in names or found.position in found.link):
            raise TargetMismatch(
                f'{place}: {target.name} has no column "{found.position}" that could take the position.',
                f"It has {', '.join(sorted(names.difference(found.link)))}.",
            )
        for name in found.link:
            if name in child.columns:
                raise ConfigError(
                    f'{place}: column "{name}" is the foreign key to the record, which is filled in from it.',
                    f'Remove "{name}" from the columns of the child.',
                )
        if found.through is not None and found.key:
            self._require_unique(target, found.name, found.key)

    # Of tables

    def _child_of_table(self, parent: Target, name: str, child: config.Child) -> ChildTarget:
        target = self._table(child.table)
        if target.entity is None:
            return _described(name, name, target, (), child)
        attribute = _free_attribute(parent, name)
        if child.through is not None:
            made = self._shared(parent, target, child.through)
        else:
            key = self._foreign_key(parent, target, target, child.key)
            made = _owned(parent, target, key)
        sa.inspect(parent.entity).add_property(attribute, made)
        link = () if child.through is not None else key.columns
        return _described(name, attribute, target, link, child)

    def _table(self, name: str | None) -> Target:
        load = self.load.model_copy(update={"table": name, "model": None})
        return table_target(self.connection, self.inspector, load, self.job.database.db_schema)

    def _foreign_key(self, parent: Target, holder: Target, child: Target, columns: Sequence[str] = ()) -> ForeignKey:
        """The foreign key of ``holder`` that leads to ``parent``."""
        keys = [key for key in holder.foreign_keys if self._is_to(parent, key)]
        chosen = [key for key in keys if set(key.columns) == set(columns)] if columns else keys
        if len(chosen) == 1:
            return chosen[0]
        if not keys:
            names = ", ".join(parent.primary_key)
            raise TargetMismatch(
                f"Load {self.load.name}: {holder.name} has no foreign key to {parent.name}, "
                f"so that no row of {child.name} can belong to one of {parent.name}.",
                f"Add one that REFERENCES {parent.name} ({names}), or load {child.name} by a [[load]] of its own.",
            )
        listed = " and ".join(f"({', '.join(key.columns)})" for key in keys)
        raise ConfigError(
            f"Load {self.load.name}: {holder.name} has the foreign keys {listed} to {parent.name}, "
            "and which one is meant is not said.",
            "Name its columns by key in [load.children]."
            if holder is child
            else "An association table has one to each of the two tables.",
        )

    def _is_to(self, parent: Target, key: ForeignKey) -> bool:
        default = self.inspector.default_schema_name
        return (key.parent.name, key.parent.schema or default) == (parent.table.name, parent.table.schema or default)

    def _shared(self, parent: Target, child: Target, through: str) -> Any:
        between = self._table(through)
        to_parent = self._foreign_key(parent, between, child)
        to_child = self._foreign_key(child, between, parent)
        columns = [between.table.c[name] for name in (*to_parent.columns, *to_child.columns)]
        return relationship(
            child.entity,
            secondary=between.table,
            primaryjoin=_joined(parent, between, to_parent),
            secondaryjoin=_joined(child, between, to_child),
            foreign_keys=columns,
            cascade=SHARED,
            passive_deletes=to_parent.deletes,
        )

    # Of classes

    def _child_of_class(self, parent: Target, name: str, child: config.Child) -> ChildTarget:
        relations = sa.inspect(parent.entity).relationships
        place = f"Load {self.load.name}, children {name}"
        if child.table or child.through:
            raise ConfigError(
                f"{place}: with a mapped class its relationship says the tables.", "Leave table and through out."
            )
        if name not in relations:
            known = ", ".join(relations.keys()) or "none"
            raise ConfigError(
                f"{place}: {_shown(parent)} has no relationship {name}; it has {known}.",
                "Name the child by a relationship.",
            )
        relation = relations[name]
        if relation.direction is RelationshipDirection.MANYTOONE or not relation.uselist:
            raise ConfigError(f"{place}: the relationship leads to one object, not to a list.", "Name another one.")
        if not relation.cascade.save_update:
            raise ConfigError(
                f"{place}: the relationship has no save-update cascade, so that adding a record adds no children.",
                'Give it cascade="save-update, merge" at least, which is the default.',
            )
        target = entity_target(self.connection, self.inspector, self.load, relation.mapper.class_)
        if relation.secondary is None:
            link = tuple(column.name for column in relation.remote_side if column.table is target.table)
            return _described(name, name, target, link, child)
        found = _described(name, name, target, (), child)
        return replace(found, through=str(relation.secondary), key=child.key)


def _described(name: str, attribute: str, target: Target, link: tuple[str, ...], child: config.Child) -> ChildTarget:
    return ChildTarget(
        name,
        attribute,
        target,
        link,
        child.position,
        is_lenient=child.orphans == "reject",
        through=child.through,
        key=child.key if child.through is not None else (),
        is_created=child.missing == "create",
    )


def _owned(parent: Target, child: Target, key: ForeignKey) -> Any:
    """One to many. ON DELETE CASCADE is left to the database, which has no need to read the children first."""
    return relationship(
        child.entity,
        primaryjoin=_joined(parent, child, key),
        foreign_keys=[child.table.c[name] for name in key.columns],
        cascade=OWNED,
        passive_deletes=key.deletes,
    )


def _joined(parent: Target, holder: Target, key: ForeignKey) -> sa.ColumnElement[bool]:
    pairs = zip(key.parent_columns, key.columns, strict=True)
    return sa.and_(*(parent.table.c[above] == holder.table.c[below] for above, below in pairs))


def _free_attribute(parent: Target, name: str) -> str:
    """A name for the relationship that is no other attribute of the class, nor one that SQLAlchemy keeps."""
    attribute = f"children_{name}"
    while attribute in parent.attributes.values():
        attribute += "_"
    return attribute


def _shown(target: Target) -> str:
    return "" if target.entity is None else target.entity.__name__
