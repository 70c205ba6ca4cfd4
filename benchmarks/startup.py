"""What importing the bot costs, next to importing discord.py alone.

Held to: at most 0.6 s and 80 MiB, with torch, diffusers and scipy not loaded.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

_ROUNDS = 5
_PROBE = """
import json, resource, sys, time
start = time.perf_counter()
import {module}
took_s = time.perf_counter() - start
heavy = [name for name in ("torch", "diffusers", "transformers", "scipy") if name in sys.modules]
print(json.dumps([took_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, heavy]))
"""


def main() -> None:
    """Print the table."""
    print(f"{'import':<16}{'median s':>10}{'MiB':>8}  heavy modules")
    medians = {}
    for module in ("discord", "bot.__main__"):
        runs = [_measure(module) for _ in range(_ROUNDS)]
        medians[module] = statistics.median(run[0] for run in runs)
        memory_mib = max(run[1] for run in runs)
        heavy = ", ".join(runs[0][2]) or "none"
        print(f"{module:<16}{medians[module]:>10.3f}{memory_mib:>8.0f}  {heavy}")
    print(f"the bot takes {medians['bot.__main__'] / medians['discord']:.2f} times what discord.py alone takes")


def _measure(module: str) -> list:  # type: ignore[type-arg]
    probe = _PROBE.format(module=module)
    answer = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


if __name__ == "__main__":
    main()
