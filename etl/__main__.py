"""``python -m etl`` is the command ``etl``."""

import gc
import os
import sys

from etl.stopping import Signals

YOUNG_OBJECTS = 100_000  # Python's default of 700 has it look through all that is imported some 250 times


def run() -> None:
    """The command as a process of its own: from here to its very end signals are told in order."""
    _open_closed_streams()
    gc.set_threshold(YOUNG_OBJECTS)
    try:
        with Signals(is_whole_process=True) as signals:
            from etl.cli import main  # only now: its imports take a tenth of a second

            main(prog_name="etl", obj=signals)
    finally:
        gc.freeze()  # the process ends: its memory need not be looked through for what may be given back


def _open_closed_streams() -> None:
    """A standard stream that is closed (``>&-``) leads to nowhere, before a file or a connection gets its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # as Python has it for a stream that was closed when it started
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


if __name__ == "__main__":
    run()
