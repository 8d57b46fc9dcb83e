"""Records to rows: which source column feeds which target column, and the exact conversion of every cell."""

from etl.mapping.children import Elements, plan_records
from etl.mapping.plan import ChildPlan, FromConstant, FromSource, Plan, plan_mapping
from etl.mapping.rows import map_records, source_documents, source_values

__all__ = [
    "ChildPlan",
    "Elements",
    "FromConstant",
    "FromSource",
    "Plan",
    "map_records",
    "plan_mapping",
    "plan_records",
    "source_documents",
    "source_values",
]
