"""Records to rows: which source column feeds which target column, and the exact conversion of every cell."""

from etl.mapping.children import Elements, plan_records
from etl.mapping.feeds import AnyFeed
from etl.mapping.plan import ChildPlan, Plan, SourceFacts, plan_mapping, plan_taking
from etl.mapping.rows import map_records, source_documents, source_values
from etl.mapping.spelling import USUAL, Spelling

__all__ = [
    "USUAL",
    "AnyFeed",
    "ChildPlan",
    "Elements",
    "Plan",
    "SourceFacts",
    "Spelling",
    "map_records",
    "plan_mapping",
    "plan_records",
    "plan_taking",
    "source_documents",
    "source_values",
]
