"""`python -m bot.model describe|download`: the model that the settings name. `make model` runs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ambientgen import models
from ambientgen.errors import AmbientError
from bot.settings import Settings, SettingsError


def main(action: str) -> int:
    """Tell size, license and place of the model, and fetch it if the action says so. The answer is the exit code."""
    try:
        model = Settings.load(os.environ, Path(".env")).model
        if model is None:
            print("AMBIENT_MODEL is none: the model is switched off. Take that line out of .env to use one.")
            return 1
        if action == "describe":
            models.say_facts(models.describe(model), print)
        else:
            models.download(model, say=print)
    except (SettingsError, AmbientError) as error:
        print(f"The model cannot be fetched: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "describe"))
