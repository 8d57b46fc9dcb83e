"""Records to rows: which source column feeds which target column, and the exact conversion of every cell."""

from etl.mapping.feeds import AnyFeed
from etl.mapping.plan import Plan, SourceFacts, plan_mapping
from etl.mapping.rows import map_records, source_documents
from etl.mapping.spelling import USUAL, Spelling

__all__ = ["USUAL", "AnyFeed", "Plan", "SourceFacts", "Spelling", "map_records", "plan_mapping", "source_documents"]
