"""A progress bar that counts bytes, for downloads and for reading through a model."""

from __future__ import annotations

import shutil
import time
from collections import deque
from typing import TextIO

from ambientgen.console import ProgressBar
from ambientgen.models import in_bytes

_REDRAW_S = 0.1
#: The speed is that of the last seconds, so that it follows the connection.
_SPEED_S = 5.0


class ByteBar(ProgressBar):
    """Shows bytes done, bytes in all, and speed on one line of a terminal; elsewhere a plain line for each tenth.

    Args:
        stream: where to write, usually `sys.stderr`.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._stage = ""
        self._tenth = 0
        self._marks: deque[tuple[float, int]] = deque()

    def show_bytes(self, stage: str, done_bytes: int, all_bytes: int) -> None:
        """Show the newest progress, as a `models.ByteReport`; a bar that is full goes away."""
        now_s = time.monotonic()
        if stage != self._stage:
            self._stage, self._tenth = stage, 0
            self._marks.clear()
        if not self._live:
            tenth = 10 * done_bytes // max(1, all_bytes)
            if tenth > self._tenth:
                self._tenth = tenth
                self._stream.write(f"{stage} {10 * tenth}% of {in_bytes(all_bytes)} …\n")
                self._stream.flush()
        elif done_bytes >= all_bytes:
            self.clear()
        elif not self._marks or now_s >= self._marks[-1][0] + _REDRAW_S:
            self._marks.append((now_s, done_bytes))
            while self._marks[0][0] < now_s - _SPEED_S:
                self._marks.popleft()
            self._draw(done_bytes, all_bytes)

    def _draw(self, done_bytes: int, all_bytes: int) -> None:
        (first_s, first_bytes), (last_s, last_bytes) = self._marks[0], self._marks[-1]
        speed = f"{in_bytes(round((last_bytes - first_bytes) / (last_s - first_s)))}/s" if last_s > first_s else ""
        share = done_bytes / all_bytes
        count = f"{share:4.0%}  {in_bytes(done_bytes)} of {in_bytes(all_bytes)}"
        line = f"{self._stage:<13} {self._bar(share)} {count}  {speed}"
        line = line[: shutil.get_terminal_size().columns - 1]
        self._stream.write(f"\r{line:<{len(self._shown)}}")
        self._stream.flush()
        self._shown = line
