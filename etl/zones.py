"""Time zones by their IANA names, as Python's ``zoneinfo`` knows them."""

from __future__ import annotations


def is_time_zone(name: str) -> bool:
    """Whether there is a zone of this name in the system's database, or in that of the package ``tzdata``."""
    from zoneinfo import ZoneInfo  # on demand: few loads name a zone

    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # OSError: the name of a folder, such as "Europe"
        return False
    return True
