"""``max_rejects`` and ``max_record_bytes``: how they may be written, and what is made of it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import Field

from etl.config.values import Model, is_number

RECORD_BYTES = 16_000_000  # of a record, at most, unless the config says otherwise

MOST_RECORD_BYTES = 500_000_000  # PostgreSQL takes no value of 1 GB, and one is held a few times over


class RejectLimit(Model):
    """``max_rejects``: a number of records, or a share of the records read, exact as it was written."""

    number: int | None = None
    share: Decimal | None = None

    def __str__(self) -> str:
        return f"{(self.share * 100).normalize():f}%" if self.share is not None else str(self.number)

    def is_passed_by(self, rejected: int, read: int) -> bool:
        return rejected > (self.number or 0 if self.share is None else self.share * read)


def parse_limit(value: object) -> RejectLimit | None:
    """A value of ``max_rejects``; None means no limit. Raises ValueError, which says what is allowed."""
    if is_number(value, 0):
        return RejectLimit(number=value)
    if isinstance(value, str) and (match := re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", value)):
        percent = Decimal(match[1])
        if percent <= 100:
            return RejectLimit(share=(percent / 100).normalize())
    if value is None or isinstance(value, RejectLimit):
        return value
    raise ValueError('a number of records such as 100, or a share of those read such as "1%"')


# What may be written in the file, where that is more than the type of what is made of it.
_Share = Annotated[str, Field(pattern=r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$")]

LimitAsWritten = Annotated[int, Field(ge=0)] | _Share

BytesAsWritten = Annotated[int, Field(gt=0, le=MOST_RECORD_BYTES)]


def parse_record_bytes(value: object) -> object:
    if is_number(value, 1) and value <= MOST_RECORD_BYTES:
        return value
    raise ValueError(f"a number of bytes such as 16_000_000, at most {MOST_RECORD_BYTES:_}")
