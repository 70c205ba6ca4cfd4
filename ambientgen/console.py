"""A progress bar for a terminal, and plain lines where there is none."""

from __future__ import annotations

from typing import TextIO

from ambientgen.engines.base import Progress

_WIDTH = 24


class ProgressBar:
    """Shows a job's progress on one line of a terminal; on anything else a line for each stage.

    Args:
        stream: where to write, usually `sys.stderr`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._shown = ""

    def show(self, progress: Progress) -> bool:
        """Show the newest progress; always wants more, so it can serve as an engine's report."""
        line = self._line(progress) if self._live else progress.stage
        if line != self._shown:
            # Padded with spaces and not cleared by an escape code, which older Windows consoles would print.
            self._stream.write(f"\r{line:<{len(self._shown)}}" if self._live else f"{line} …\n")
            self._stream.flush()
            self._shown = line
        return True

    def clear(self) -> None:
        """Take the bar away, so that what follows starts on a clean line."""
        if self._live and self._shown:
            self._stream.write(f"\r{'':<{len(self._shown)}}\r")
            self._stream.flush()

    def _line(self, progress: Progress) -> str:
        share = min(1.0, progress.step / progress.num_steps) if progress.num_steps else 0.0
        bar = self._bar(share)
        count = f"{progress.step}/{progress.num_steps}" if progress.num_steps else ""
        return f"{progress.stage:<13} {bar} {count}"

    def _bar(self, share: float) -> str:
        full = round(share * _WIDTH)
        try:
            "█░".encode(self._stream.encoding or "ascii")
        except UnicodeEncodeError:  # a Windows console with an old code page
            return f"[{'#' * full}{'.' * (_WIDTH - full)}]"
        return "█" * full + "░" * (_WIDTH - full)
