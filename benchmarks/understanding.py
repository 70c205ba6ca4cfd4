"""How well and how fast descriptions are understood.

    python benchmarks/understanding.py [--errors]

Quality: over the independent descriptions of `tests/data/descriptions.toml`, how many give exactly the expected sounds,
and the F1 score of all sounds together. The development half was looked at while the vocabulary grew; the held-out half
was not, so its figure is the one to quote. `--errors` lists what went wrong.

Speed: the time of one reading, against the plain way of searching the text for every phrase of the vocabulary.
"""

from __future__ import annotations

import re
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ambientgen import scenes
from ambientgen.vocabulary import vocabulary

DATA = Path(__file__).parent.parent / "tests" / "data" / "descriptions.toml"
Entry = dict[str, Any]


def understood(text: str) -> set[str]:
    """The sounds a description calls for."""
    return {layer.category for layer in scenes.plan(text).layers}


def score(entries: Sequence[Entry]) -> tuple[float, float, list[Entry]]:
    """Share of exact answers, F1 over all sounds, and the entries that are wrong."""
    hits = extra = missed = 0
    wrong = []
    for entry in entries:
        expected, found = set(entry["layers"]), understood(entry["text"])
        hits, extra, missed = (
            hits + len(expected & found),
            extra + len(found - expected),
            missed + len(expected - found),
        )
        if expected != found:
            wrong.append({**entry, "found": sorted(found)})
    return 1.0 - len(wrong) / len(entries), 2 * hits / (2 * hits + extra + missed), wrong


def parts() -> dict[str, list[Entry]]:
    """Every part of the set by its name."""
    data = tomllib.loads(DATA.read_text(encoding="utf-8"))
    found: dict[str, list[Entry]] = {"development": data["development"], "held out": data["held_out"]}
    for entry in data.get("other_languages", []):
        found.setdefault(f"other languages, {entry['part'].replace('_', ' ')}", []).append(entry)
    return found


def times_ms(
    read: Callable[[str], object], texts: Sequence[str], repeats: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Milliseconds of each reading."""
    spent = []
    for _ in range(repeats):
        for text in texts:
            started = time.perf_counter()
            read(text)
            spent.append((time.perf_counter() - started) * 1e3)
    return np.array(spent)


def main() -> None:
    """Print the tables."""
    print(f"{'part':34} {'number':>6} {'exact':>7} {'F1':>6}")
    for name, entries in parts().items():
        exact, f1, wrong = score(entries)
        print(f"{name:34} {len(entries):6} {exact:7.1%} {f1:6.3f}")
        for entry in wrong if "--errors" in sys.argv[1:] else ():
            print(f"    {entry['text']!r}\n        expected {entry['layers']}, found {entry['found']}")
    texts = [entry["text"] for entries in parts().values() for entry in entries]
    known = vocabulary()
    patterns = [re.compile(rf"\b{re.escape(' '.join(phrase))}s?\b", re.IGNORECASE) for phrase in known.phrases]

    def plain(text: str) -> list[str]:
        return [pattern.pattern for pattern in patterns if pattern.search(text)]

    longest = [(text * (500 // len(text) + 1))[:500] for text in texts[:50]]
    for what, some in (("as written", texts), ("500 characters", longest)):
        ours, theirs = times_ms(scenes.plan, some, 20), times_ms(plain, some[:30], 1)
        print(
            f"{what}: median {np.median(ours):.3f} ms, p99 {np.percentile(ours, 99):.3f} ms; "
            f"{np.median(theirs) / np.median(ours):.0f} times faster than searching {len(patterns)} phrases"
        )


if __name__ == "__main__":
    main()
