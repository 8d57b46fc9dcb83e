"""``python -m etl`` is the command ``etl``."""

from etl.stopping import Signals


def run() -> None:
    """The command as a process of its own: from here to its very end signals are told in order."""
    with Signals(is_whole_process=True) as signals:
        from etl.cli import main  # only now: its imports take a tenth of a second

        main(prog_name="etl", obj=signals)


if __name__ == "__main__":
    run()
