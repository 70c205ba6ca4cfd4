"""Does the event loop stay free while sounds are rendered, and how soon is a command acknowledged?

Held to: loop lag p99 at most 15 ms and p99.9 at most 50 ms over at least 5 minutes of procedural renders; first
acknowledgement p99 at most 300 ms while a render runs. The second part needs the Discord stand-in in the folder that
AMBIENT_DISCORD_STANDIN names.

    python benchmarks/responsiveness.py [--minutes 5]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_TICK_S = 0.005
_SCENE = "heavy rain on leaves with a crackling fire and distant thunder"
_NUM_ACKNOWLEDGEMENTS = 200


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    minutes = parser.parse_args().minutes
    print(f"{'event loop lag, ms':<44}{'p50':>8}{'p99':>8}{'p99.9':>8}{'max':>8}")
    idle_ms, _ = asyncio.run(_lag_ms(0.2, render=False))
    _row("idle, 12 s (what the machine does by itself)", idle_ms)
    busy_ms, num_clips = asyncio.run(_lag_ms(minutes, render=True))
    _row(f"rendering, {minutes:g} min, {num_clips} clips of 30 s", busy_ms)
    print(f"p99 while rendering is {np.percentile(busy_ms, 99) / np.percentile(idle_ms, 99):.1f} times the idle one")
    standin = os.environ.get("AMBIENT_DISCORD_STANDIN")
    if standin is None:
        print("acknowledgement: not measured, AMBIENT_DISCORD_STANDIN is not set")
        return
    _row(f"acknowledgement of {_NUM_ACKNOWLEDGEMENTS} commands", np.asarray(_acknowledgements_ms(Path(standin))))


def _row(name: str, values_ms: np.ndarray) -> None:  # type: ignore[type-arg]
    percentiles = [float(np.percentile(values_ms, q)) for q in (50, 99, 99.9, 100)]
    print(f"{name:<44}" + "".join(f"{value:>8.1f}" for value in percentiles), flush=True)


async def _lag_ms(minutes: float, *, render: bool) -> tuple[np.ndarray, int]:  # type: ignore[type-arg]
    """How late a timer of 5 ms fires, as a bot's loop would see it, and how many clips were made meanwhile."""
    from ambientgen import Output, SceneRequest, resolve
    from ambientgen.engines.procedural import ProceduralEngine
    from ambientgen.executor import Executor

    executor = Executor([ProceduralEngine()])
    executor.start()
    num_clips = 0

    async def keep_rendering(folder: Path) -> None:
        nonlocal num_clips
        for seed in range(10**6):
            recipe = resolve(SceneRequest(description=_SCENE, duration_s=30.0, seed=seed), executor.available())
            output = Output(directory=folder, name="clip", title=_SCENE, file_format="opus", max_bytes=2**24)
            await executor.submit(str(seed), recipe, output).result()
            num_clips += 1

    lags_ms = []
    with tempfile.TemporaryDirectory() as folder:
        work = asyncio.create_task(keep_rendering(Path(folder))) if render else None
        end_s = time.perf_counter() + minutes * 60
        while time.perf_counter() < end_s:
            before_s = time.perf_counter()
            await asyncio.sleep(_TICK_S)
            lags_ms.append((time.perf_counter() - before_s - _TICK_S) * 1000)
            if work is not None and work.done():
                work.result()
        if work is not None:
            work.cancel()
        await executor.close(30.0)
    return np.asarray(lags_ms), num_clips


def _acknowledgements_ms(standin: Path) -> list[float]:
    """Latency of the first answer to commands, each sent while a long render runs in the bot's own process."""
    sys.path.insert(0, str(standin))
    from control import Server  # type: ignore[import-not-found]

    server = Server()
    control = server.control
    control.config(rate_limits=False)
    users = [control.add_user(name=f"user{number}")["id"] for number in range(_NUM_ACKNOWLEDGEMENTS)]
    guild = control.add_guild(name="Bench", members=users)["id"]
    channel = control.add_channel(guild=guild, name="general")["id"]
    root = Path(__file__).parent.parent
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AMBIENT_")}
    environment |= server.bot_env() | {"AMBIENT_MAX_PENDING": "1000", "AMBIENT_LOG_LEVEL": "ERROR"}
    environment["PYTHONPATH"] += os.pathsep + str(root)
    with tempfile.TemporaryDirectory() as folder:
        bot = subprocess.Popen([sys.executable, "-m", "bot"], env=environment, cwd=folder)
        try:
            control.wait_ready(timeout=30, commands=True)
            # Every command is itself a clip of 120 s, so from the second on a render always runs.
            return [
                control.invoke(
                    command="ambient generate",
                    user=user,
                    channel=channel,
                    options={"scene": _SCENE, "duration": 120},
                    timeout=10,
                )["ack_latency"]
                * 1000
                for user in users
            ]
        finally:
            bot.terminate()
            bot.wait(20)
            server.stop()


if __name__ == "__main__":
    main()
