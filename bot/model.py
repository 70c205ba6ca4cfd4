"""`python -m bot.model describe|download`: the model that the settings name. `make model` runs it."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from ambientgen import models
from ambientgen.byte_bar import ByteBar
from ambientgen.download import download
from ambientgen.errors import AmbientError
from bot.settings import Settings, SettingsError


def main(action: str) -> int:
    """Tell size, license and place of the model, and fetch it if the action says so. The answer is the exit code."""
    bar = ByteBar(sys.stderr)
    try:
        model = Settings.load(os.environ, Path(".env")).model
        if model is None:
            print("AMBIENT_MODEL is none: the model is switched off. Take that line out of .env to use one.")
            return 1
        if action == "describe":
            models.say_facts(models.describe(model), print)
        else:
            download(model, say=partial(print, flush=True), report=bar.show_bytes)
    except KeyboardInterrupt:
        bar.clear()
        print("cancelled; `make model` goes on where it stopped", file=sys.stderr)
        return 130
    except (SettingsError, AmbientError) as error:
        bar.clear()
        print(f"The model cannot be fetched: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "describe"))
