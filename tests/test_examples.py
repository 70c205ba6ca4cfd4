"""The examples run as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
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


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path, tiny_model_path: Path) -> None:
    """`first_sounds.ipynb` runs as it is in a real kernel, with a tiny model in the place of the published one."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(_ROOT / "examples" / "first_sounds.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "it is committed without outputs"
    settings = {"AMBIENT_MODEL": str(tiny_model_path), "FIRST_SOUNDS_S": "2", "FIRST_SOUNDS_STEPS": "10"}
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**_environment(), **settings})
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "procedural  light rain on a window\naudioldm2   distant thunder\n" in printed
    assert "the end joins the beginning: True" in printed
    shown = {kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= shown
    assert soundfile.info(tmp_path / "first-sound.ogg").duration == pytest.approx(2.0, abs=0.01)
