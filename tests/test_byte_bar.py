"""The bar that counts bytes: in place on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import io

import pytest

from ambientgen.byte_bar import ByteBar


class Terminal(io.StringIO):
    """Says that it is one."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Somebody is watching."""
        return True


def test_a_terminal_sees_share_sizes_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, written over itself at most ten times a second, gone when all has arrived."""
    now_s = 100.0
    monkeypatch.setattr("ambientgen.byte_bar.time.monotonic", lambda: now_s)
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    bar = ByteBar(terminal)
    for step in range(1001):
        bar.show_bytes("downloading", step * 2_000_000, 4_000_000_000)
        now_s += 0.02
    frames = terminal.getvalue().split("\r")
    assert 100 < len(frames) < 210
    assert frames[-1].rstrip() == f"downloading   {'█' * 12}{'░' * 12}  50%  2.0 GB of 4.0 GB  100 MB/s"
    assert max(map(len, frames)) < 100
    assert "\n" not in terminal.getvalue()
    bar.show_bytes("downloading", 4_000_000_000, 4_000_000_000)
    assert terminal.getvalue().endswith("\r")
    assert terminal.getvalue().split("\r")[-2].strip() == ""


def test_a_narrow_terminal_gets_a_shorter_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that wraps could not be written over."""
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    ByteBar(terminal).show_bytes("checking", 1_000_000, 4_000_000)
    assert len(terminal.getvalue().removeprefix("\r")) == 39


def test_a_pipe_gets_a_line_for_each_tenth() -> None:
    """A log stays readable, however many pieces arrive; the next stage starts anew."""
    pipe = io.StringIO()
    bar = ByteBar(pipe)
    for stage in ("checking", "downloading"):
        for step in range(2001):
            bar.show_bytes(stage, step * 1_000_000, 2_000_000_000)
    bar.clear()
    lines = pipe.getvalue().splitlines()
    assert lines[0] == "checking 10% of 2.0 GB …"
    assert lines[-1] == "downloading 100% of 2.0 GB …"
    assert len(lines) == 20
