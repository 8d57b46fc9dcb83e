"""Whether a source stays what it was when its fingerprint was made, as long as it is read."""

from __future__ import annotations

from etl.errors import SourceChanged
from etl.readers.files import Source, Stamp, reading, stamp, stamp_if_there, stored_size


class Watch:
    """A source that is about to be read, as it is now. Raises SourceError when it is not there."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._before = stamp(source)
        with reading(source.path):
            self.size = stored_size(source.location)  # before it is read

    def require_unchanged(self, committed: int) -> None:
        """Raise SourceChanged where what was read since may be other content than that of the fingerprint.

        ``committed`` are the records of the source that were committed before, and stay.
        """
        now = stamp_if_there(self.source)
        if now == self._before:
            return
        kept = f"; {committed:,} of its records were committed before" if committed else ""
        remedy = "Run the same command again when the file is complete."
        if now is None:
            remedy = "Put it back and run the same command again."
        raise SourceChanged(
            f"{self.source.path} {_change(self._before, now)} while it was read; "
            f"the open transaction was rolled back{kept}.",
            SourceChanged.RESTORE if committed else remedy,
        )


def _change(before: Stamp, now: Stamp | None) -> str:
    if now is None:
        return "has vanished"
    if (now.device, now.inode) != (before.device, before.inode):
        return "was replaced by another file"
    if now.size > before.size:
        return f"has grown from {before.size:,} to {now.size:,} bytes"
    if now.size < before.size:
        return f"has shrunk from {before.size:,} to {now.size:,} bytes"
    return "was written to"
