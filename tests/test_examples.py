"""The examples run as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import soundfile

_ROOT = Path(__file__).parent.parent


def test_the_custom_engine_makes_its_sound(tmp_path: Path) -> None:
    """The example engine renders a file of its default length."""
    script = _ROOT / "examples" / "custom_engine.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, cwd=_ROOT, env=_environment())
    assert soundfile.info(tmp_path / "swell.flac").duration == 5.0


def test_the_readmes_python_runs(tmp_path: Path) -> None:
    """The README's lines of Python work as written and leave the file they promise."""
    (code,) = re.findall(r"```python\n(.*?)```", (_ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=_environment())
    assert soundfile.info(tmp_path / "rain.ogg").samplerate == 48_000


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT)}
