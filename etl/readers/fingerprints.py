"""Fingerprints of sources, made on another thread, while the catalog is read or another source is loaded."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from itertools import pairwise

from etl.readers.files import Fingerprint, Source, Stamp, fingerprint, stamp
from etl.threads import OneThread


class Fingerprints(AbstractContextManager["Fingerprints"]):
    """Begins with the first of ``sources`` at once. Leaving its ``with`` ends the thread."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._following = dict(pairwise(dict.fromkeys(sources)))
        self._pool = OneThread("etl-fingerprint")
        self._stopped = threading.Event()
        self._made: dict[Source, Future[tuple[Stamp, Fingerprint]]] = {}
        for source in sources[:1]:
            self._begin(source)

    def of(self, source: Source) -> Fingerprint:
        """The fingerprint of what the source holds now; that of the one behind it is begun.

        Raises SourceError when it cannot be read.
        """
        self._begin(source)
        if source in self._following:
            self._begin(self._following[source])
        made_at, made = self._made[source].result()
        return made if made_at == stamp(source) else fingerprint(source)

    def _begin(self, source: Source) -> None:
        if source not in self._made:
            self._made[source] = self._pool.begin(self._make, source)

    def _make(self, source: Source) -> tuple[Stamp, Fingerprint]:
        return stamp(source), fingerprint(source, self._stopped.is_set)

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)
