"""The command line of the lab: `ambientgen sweep` and `ambientgen compare`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from ambientgen import models
from ambientgen.console import ProgressBar
from ambientgen.engines.audioldm2 import DEFAULT_MODEL, AudioLDM2Engine
from ambientgen.engines.base import Engine, EngineWithWeights, Progress
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.engines.stable_audio import DEFAULT_MODEL as STABLE_AUDIO_MODEL
from ambientgen.engines.stable_audio import StableAudioEngine
from ambientgen.errors import RequestError
from ambientgen.lab import page, provenance
from ambientgen.lab.experiments import (
    DEFAULT_DURATION_S,
    EVERYDAY,
    EXPERIMENTS,
    MAX_SEEDS,
    Experiment,
    Row,
    comparison,
    rows,
)
from ambientgen.lab.judge import Judge, has_clap
from ambientgen.lab.run import Contestant, RunFolder, run, write_whole

_ENGINES = ("audioldm2", "stable-audio", "procedural")


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """The options of `sweep`: one model, and the experiments on it."""
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help=f"one or more of {', '.join(EXPERIMENTS)}")
    parser.add_argument("--list", action="store_true", help="name the experiments and what each one asks")
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"hub id or folder (default: {DEFAULT_MODEL})")
    _add_common(parser)
    parser.set_defaults(run=_sweep)


def add_compare(parser: argparse.ArgumentParser) -> None:
    """The options of `compare`: several engines, and the scenes for each of them."""
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help="in your words (default: seven everyday scenes)")
    parser.add_argument(
        "--engines",
        required=True,
        metavar="NAME[=MODEL],...",
        help=f"{', '.join(_ENGINES)}; a model is a hub id or folder, as in audioldm2=cvssp/audioldm2-large",
    )
    _add_common(parser)
    parser.set_defaults(run=_compare)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("listening-test"),
        metavar="DIR",
        help="the run's folder; an interrupted run goes on there (default: listening-test)",
    )
    parser.add_argument(
        "--duration", type=float, default=DEFAULT_DURATION_S, metavar="S", help="seconds of each clip (default: 10)"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help=f"clips of each kind, 1 to {MAX_SEEDS} (default: 1)"
    )


def _sweep(options: argparse.Namespace) -> int:
    if options.list:
        for experiment in EXPERIMENTS.values():
            print(f"{experiment.name:<10} {len(experiment.trials):>2} clips a seed   {experiment.title}")
            print(f"{'':<10} {experiment.question}")
        return 0
    names = list(dict.fromkeys(options.experiments))
    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown or not names:
        what = f"There is no experiment `{unknown[0]}`." if unknown else "Name at least one experiment."
        raise RequestError(f"{what} There are {', '.join(EXPERIMENTS)}.")
    engine = models.describe(options.model).engine or "audioldm2"
    return _run(options, [EXPERIMENTS[name] for name in names], [(engine, options.model)])


def _compare(options: argparse.Namespace) -> int:
    entries = [entry.strip() for entry in options.engines.split(",") if entry.strip()]
    pairs = [(name, model or None) for name, _, model in (entry.partition("=") for entry in entries)]
    if not pairs or any(name not in _ENGINES for name, _ in pairs):
        raise RequestError(f"--engines takes names of {', '.join(_ENGINES)}, with commas between them.")
    return _run(options, [comparison(options.scenes or EVERYDAY)], pairs)


def _run(
    options: argparse.Namespace, experiments: Sequence[Experiment], engines: Sequence[tuple[str, str | None]]
) -> int:
    bar = _RunBar(sys.stderr)
    try:
        made = [_engine(name, model) for name, model in engines]
        labels = _labels([engine for engine, _ in made])
        planned = rows(
            experiments,
            [(label, engine.spec) for label, (engine, _) in zip(labels, made, strict=True)],
            options.duration,
            options.seeds,
        )
        folder = RunFolder.open(options.out)
        contestants = [
            Contestant(
                label=label,
                engine=engine,
                provenance=provenance.of_model(model, bar.show_bytes) if model else provenance.WITHOUT_WEIGHTS,
            )
            for label, (engine, model) in zip(labels, made, strict=True)
        ]
        judge = _judge([(contestant, model) for contestant, (_, model) in zip(contestants, made, strict=True)])
        results = run(planned, contestants, folder, judge, bar.show_run)
    finally:
        bar.clear()
    report = page.Report(
        title=experiments[0].title if len(experiments) == 1 else ", ".join(e.name for e in experiments).capitalize(),
        experiments=experiments,
        contestants=contestants,
        results=results,
        folder=folder,
        judge=judge.name if judge else None,
    )
    path = options.out / "index.html"
    write_whole(path, page.page(report))
    failed = [result for result in results if result.clip is None]
    for contestant in contestants:
        print(f"{contestant.label:<24} {contestant.provenance.words}")
    for result in failed:
        print(
            f"failed  {result.row.request.description}, {report.label(result.row)}: {result.failure}", file=sys.stderr
        )
    num_clips = len(report.clips)
    print(f"{num_clips} clip{'s' * (num_clips != 1)}{f', {len(failed)} failed' * bool(failed)}")
    print(f"page  {path}")
    return 1 if failed else 0


def _engine(name: str, model: str | None) -> tuple[Engine, str | None]:
    """An engine that is ready to load, and its model, if it has one.

    Raises:
        RequestError: if it is not installed, or takes no model.
    """
    if name == "procedural":
        if model is not None:
            raise RequestError("The procedural engine has no model; leave out what follows its name.")
        return ProceduralEngine(), None
    model = model or (STABLE_AUDIO_MODEL if name == "stable-audio" else DEFAULT_MODEL)
    engine: EngineWithWeights = StableAudioEngine(model) if name == "stable-audio" else AudioLDM2Engine(model)
    if not engine.installed():
        raise RequestError(
            f"The engine `{name}` with the model `{models.public_name(model)}` is not installed here: see `python -m "
            "ambientgen doctor`. Without a model there is `python -m ambientgen compare --engines procedural`."
        )
    return engine, model


def _labels(engines: Sequence[Engine]) -> list[str]:
    """A label for each contestant, with a number where two would have the same."""
    names = [f"{e.spec.name} ({e.spec.model})" if e.spec.model else e.spec.name for e in engines]
    counts = {name: names.count(name) for name in names}
    return [name if counts[name] == 1 else f"{name} no. {names[: at + 1].count(name)}" for at, name in enumerate(names)]


def _judge(contestants: Sequence[tuple[Contestant, str | None]]) -> Judge | None:
    """The first contestant's CLAP, for the clips of all; one of published weights rather than another."""
    able = []
    for contestant, model in contestants:
        folder = models.find(model) if model else None
        if folder is not None and has_clap(folder):
            able.append((contestant.provenance, folder))
    able.sort(key=lambda entry: entry[0].kind != "published")
    return Judge(able[0][1], able[0][0].model or "", able[0][0].fingerprint) if able else None


class _RunBar(ProgressBar):
    """Shows which clip of how many is being made; on anything but a terminal a plain line for each clip.

    Args:
        stream: where to write, usually `sys.stderr`.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._place = ""

    def show_run(self, num_done: int, num_all: int, row: Row, progress: Progress | None) -> bool:
        """Show the newest progress of a run; always wants more."""
        self._place = f"{num_done + 1:>{len(str(num_all))}}/{num_all}"
        if self._live:
            return self.show(progress or Progress("queued"))
        if progress is None:
            self._write_line(
                f"{self._place}  {row.request.description}, {row.variant or row.contestant}, seed {row.seed}"
            )
        return True

    def show_bytes(self, stage: str, done_bytes: int, all_bytes: int) -> None:
        """Show how much of a model's files has been read, as a `models.ByteReport`."""
        self._place = stage
        if self._live:
            self.show(Progress("loading", done_bytes * 100 // max(1, all_bytes), 100))

    def _write_line(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def _line(self, progress: Progress) -> str:
        return f"{self._place}  {super()._line(progress)}"
