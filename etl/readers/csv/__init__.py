"""CSV files as numbered record batches of strings: frame first, parse second.

``text`` gives the file's text as UTF-8, ``framing`` finds the records of well-formed text with numpy,
``scanning`` finds those of any other text by the ``grammar`` of one record, ``parsing`` splits records into
fields with pyarrow, ``reader`` puts these together.
"""

from etl.readers.csv.grammar import Dialect
from etl.readers.csv.reader import CsvReader

__all__ = ["CsvReader", "Dialect"]
