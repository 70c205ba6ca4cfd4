"""The first run, without a token: a first sound, and the three steps to Discord."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ambientgen.console import ProgressBar
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.errors import StorageError
from ambientgen.planning import resolve
from ambientgen.recipe import SceneRequest
from ambientgen.render import Output, Soundscape, render
from bot.client import invite_url

_SCENE = "gentle rain on a window with distant thunder"
_NO_LIMIT_BYTES = 2**40


def first_sound(folder: Path, target_lufs: float) -> Soundscape:
    """Render the example scene with the procedural engine, with a progress bar.

    Raises:
        EncodingError: if it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError("The data folder cannot be made. Check AMBIENT_DATA_DIR.") from error
    engine = ProceduralEngine()
    request = SceneRequest(description=_SCENE, duration_s=20.0, seed=7)
    recipe = resolve(request, [engine.spec], target_lufs=target_lufs)
    output = Output(directory=folder, name="first-sound", title=_SCENE, file_format="opus", max_bytes=_NO_LIMIT_BYTES)
    bar = ProgressBar(sys.stderr)
    try:
        return render(recipe, {engine.spec.name: engine}, output, bar.show)
    finally:
        bar.clear()


def words(sound: Soundscape) -> str:
    """What is said after the first sound."""
    try:
        python = os.path.relpath(sys.executable)
    except ValueError:  # on another drive
        python = sys.executable
    return f"""\
Your first sound is ready: “{_SCENE}”
  sound    {sound.path}
  picture  {sound.picture_path}
  {sound.duration_s:.1f} s · {sound.integrated_lufs:.1f} LUFS · true peak {sound.peak_dbtp:.1f} dBTP · \
made in {sound.render_time_s:.1f} s by the procedural engine (no model, no GPU)

Three steps bring it to Discord:
  1. Create an application at https://discord.com/developers/applications and, under “Bot”, press “Reset Token”.
     No privileged intents are needed.
  2. Put the token into the file .env (copy .env.example):   DISCORD_TOKEN=...
     then run the same command again.
  3. Invite the bot with this link, with the application's id from its “General Information” page in it
     (the next start logs the exact link):
     {invite_url("YOUR_APPLICATION_ID")}

Make another one now:  {python} -m ambientgen make "a crackling campfire at night" --out campfire.ogg
"""
