"""dlt: `python dlt_load.py URL FILE append|insert-only`, into a table that dlt makes itself, in a schema `bench_dlt`.

Arrow tables are what it loads fastest; with ADBC beside it, it sends them by COPY.
"""

import sys
from pathlib import Path

import dlt
import pyarrow as pa
import pyarrow.csv as pc

url, file, how = sys.argv[1:]
options = pc.ConvertOptions(column_types={"amount": pa.decimal128(12, 2)}, strings_can_be_null=True)


@dlt.resource(
    name="bench_rows",
    primary_key="id",
    write_disposition="append" if how == "append" else {"disposition": "merge", "strategy": "insert-only"},
)
def read_rows():
    with pc.open_csv(file, convert_options=options) as reader:
        yield from (pa.Table.from_batches([batch]) for batch in reader)


pipeline = dlt.pipeline(
    "bench",
    destination=dlt.destinations.postgres(url),
    dataset_name="bench_dlt",
    pipelines_dir=str(Path(file).with_suffix(".dlt")),
)
pipeline.run(read_rows())
