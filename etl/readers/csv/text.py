"""The text of a CSV file as UTF-8, whatever its compression and encoding, a window at a time."""

from __future__ import annotations

import codecs
import re
from types import TracebackType
from typing import Self

from etl.errors import ConfigError
from etl.readers.csv.escapes import Escapes
from etl.readers.files import Location, open_decompressed

BOM = codecs.BOM_UTF8
_UTF8_NAMES = ("utf-8", "utf-8-sig")
_MARKED_BYTE = re.compile("[\udc00-\udcff]")


def _mark_invalid_bytes(error: UnicodeError) -> tuple[str, int]:
    """Stand in for bytes that the codec refuses: one lone surrogate each, which is not valid in UTF-8 either.

    "surrogateescape" does this for bytes from 0x80 up only; half a UTF-16 unit can be any byte.
    """
    if not isinstance(error, UnicodeDecodeError):
        raise error
    refused = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in refused), error.end


codecs.register_error("etl.mark_invalid_bytes", _mark_invalid_bytes)


class Encoding:
    """An encoding by its Python name. Raises ConfigError when there is none of that name."""

    def __init__(self, name: str) -> None:
        try:
            "a".encode(name)
            self.is_utf8 = codecs.lookup(name).name in _UTF8_NAMES
            self._make_decoder = codecs.getincrementaldecoder(name)
        except (LookupError, ValueError) as error:
            raise ConfigError(
                f"`encoding` is {name!r}, and there is no such text encoding.",
                'Set it to a name such as "utf-8", "latin-1", "cp1252" or "utf-16".',
            ) from error

    def decoder(self) -> codecs.IncrementalDecoder:
        return self._make_decoder("etl.mark_invalid_bytes")

    def show(self, text: bytes) -> str:
        """Return text for people: NUL, and bytes that are no text, as ``\\xNN``."""
        if self.is_utf8:
            shown = text.decode(errors="backslashreplace")
        else:
            marked = text.decode(errors="surrogatepass")
            shown = _MARKED_BYTE.sub(lambda mark: f"\\x{ord(mark[0]) - 0xDC00:02x}", marked)
            shown = shown.encode(errors="backslashreplace").decode()
        return shown.replace("\0", "\\x00")


class Text:
    """A window on a file's text: ``data[at:]`` is what has been read and not been passed yet.

    In ``data`` escapes are masked, if there are any; ``raw`` has the text as it is, of the same length. ``is_complete``
    says that nothing follows. Offsets count the bytes of the text as UTF-8 without its BOM.
    """

    def __init__(
        self, location: Location, shown: str, encoding: Encoding, offset: int = 0, escapes: Escapes | None = None
    ) -> None:
        self.data = self.raw = b""
        self.at = 0
        self._escapes = escapes
        self._held = b""  # an escape at the end of what was read: what follows decides
        self.is_complete = False
        self._file = open_decompressed(location, shown)
        self._decoder = None if encoding.is_utf8 else encoding.decoder()
        try:
            self.fill(len(BOM))
            self._bom_size = len(BOM) if self.data.startswith(BOM) else 0
            self._go_to(offset)
        except BaseException:
            self._file.close()
            raise

    def _go_to(self, offset: int) -> None:
        missing = self._bom_size + offset - len(self.data) - len(self._held)
        if missing > 0 and self._decoder is None:
            self._file.skip(missing)
            self.data, self.raw, self._held, self.at = b"", b"", b"", 0
            return
        self.at = self._bom_size
        self.fill(min(offset, 1 << 20))
        while offset > 0 and self.left:
            step = min(offset, self.left)
            self.at += step
            offset -= step
            self.fill(min(offset, 1 << 20))

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def fill(self, size: int) -> None:
        """Read on until ``size`` bytes are left in the window, or the text is complete."""
        if self.left >= size or self.is_complete:
            return
        pieces: list[bytes] = []
        missing = size - self.left
        while missing > 0 and not self.is_complete:
            piece = self._whole(self._read(missing))
            pieces.append(piece)
            missing -= len(piece)
        if self._escapes is None:
            self.data = self.raw = b"".join([self.data[self.at :], *pieces])
        else:
            raw = b"".join(pieces)
            self.data, self.raw = self.data[self.at :] + self._escapes.mask(raw), self.raw[self.at :] + raw
        self.at = 0

    def _whole(self, piece: bytes) -> bytes:
        """Put what was held before a piece, and hold back an escape at its end."""
        if self._escapes is None:
            return piece
        piece = self._held + piece
        end = len(piece) if self.is_complete else self._escapes.complete_part(piece)
        self._held = piece[end:]
        return piece[:end]

    def _read(self, size: int) -> bytes:
        stored = self._file.read(size)
        self.is_complete = len(stored) < size
        if self._decoder is None:
            return stored
        return self._decoder.decode(stored, self.is_complete).encode(errors="surrogatepass")

    def consumed(self) -> int:
        """Return how many stored bytes of the file lie before the window's place.

        Exact for a plain UTF-8 file; elsewhere what has been read ahead is counted too.
        """
        ahead = self.left + len(self._held) if self._is_plain else 0
        return self._file.stored - ahead

    @property
    def _is_plain(self) -> bool:
        return self._decoder is None and not self._file.is_compressed

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
