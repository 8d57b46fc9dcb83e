"""polars with ADBC: `python polars_adbc.py URL FILE`. It appends by a binary COPY: all rows, or none."""

import sys

import polars as pl

url, file = sys.argv[1:]
schema = {
    "id": pl.Int64,
    "name": pl.String,
    "city": pl.String,
    "note": pl.String,
    "amount": pl.Decimal(12, 2),
    "quantity": pl.Int32,
    "created_at": pl.Datetime("us"),
    "day": pl.Date,
}
rows = pl.read_csv(file, schema=schema)
rows.write_database("bench_rows", url, engine="adbc", if_table_exists="append")
