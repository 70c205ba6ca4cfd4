"""The command line: `python -m ambientgen make "gentle rain on a window"`."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

from ambientgen import __version__, doctor, ideas, models
from ambientgen.audio.encode import FORMATS
from ambientgen.byte_bar import ByteBar
from ambientgen.console import ProgressBar
from ambientgen.download import download
from ambientgen.engines.audioldm2 import DEFAULT_MODEL, AudioLDM2Engine
from ambientgen.engines.base import Engine, EngineWithWeights
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.engines.stable_audio import StableAudioEngine
from ambientgen.errors import AmbientError, GenerationCancelled, OptionError, RequestError, UnknownSceneError
from ambientgen.lab.command import add_compare, add_sweep
from ambientgen.planning import not_made, resolve, rounded_loop, unused_options
from ambientgen.recipe import Quality, Recipe, SceneRequest
from ambientgen.render import Output, Soundscape, render
from ambientgen.scenes import clean_description, explain, plan
from ambientgen.spec import OPTION_WORDS, EngineSpec

_NO_LIMIT_BYTES = 2**40
_NUM_IDEAS = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the answer is the exit code (0 done, 1 the machine's fault, 2 the request's)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a Windows console with an old code page cannot print every character
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except UnknownSceneError as error:
        print(f"error: {error}", *(f"  try: {s}" for s in error.suggestions), sep="\n", file=sys.stderr)
        return 2
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, GenerationCancelled):
        print("cancelled", file=sys.stderr)
        return 130
    except AmbientError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ambientgen", description="Ambient sound from words.")
    parser.add_argument("--version", action="version", version=f"AmbientGen {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_make(commands.add_parser("make", help="make a soundscape from a description"))
    _add_ideas(commands.add_parser("ideas", help="what to ask for"))
    add_sweep(commands.add_parser("sweep", help="listening tests: vary one thing, and see and hear what it does"))
    add_compare(commands.add_parser("compare", help="listening tests: engine against engine"))
    _add_models(commands.add_parser("models", help="fetch a model's weights, or say whether they are here"))
    _add_doctor(commands.add_parser("doctor", help="check the installation, from the packages to Discord"))
    return parser


def _add_make(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("scene", nargs="?", metavar="SCENE", help="the scene in your words")
    source.add_argument("--recipe", type=Path, metavar="FILE", help="render a stored recipe again")
    parser.add_argument("--engine", help="audioldm2, stable-audio or procedural (default: the first that is installed)")
    parser.add_argument("--duration", type=float, metavar="S", help="seconds")
    parser.add_argument("--quality", choices=get_args(Quality), help="default: standard")
    parser.add_argument("--loop", action="store_true", help="the end joins the beginning")
    parser.add_argument("--seed", type=int, help="the same seed makes the same sound again")
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what the model should avoid")
    parser.add_argument("--guidance-scale", type=float, metavar="X")
    parser.add_argument("--steps", type=int, metavar="N", help="number of inference steps")
    parser.add_argument(
        "--full-band", action="store_true", help="fill the band above 8 kHz that AudioLDM2 leaves empty"
    )
    parser.add_argument("--format", choices=tuple(FORMATS), help="default: by the ending of --out, else opus")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: ambient-SEED.ogg here")
    parser.add_argument("--model", help=f"hub id or folder (default: {DEFAULT_MODEL})")
    parser.add_argument("--json", action="store_true", help="print the facts and the recipe as JSON")
    parser.set_defaults(run=_make)


def _make(options: argparse.Namespace) -> int:
    _check_recipe_alone(options)
    engines = _engines(options.model)
    request = None if options.scene is None else _request(options)
    recipe = (
        _read_recipe(options.recipe)
        if request is None
        else resolve(request, _available(engines), unavailable=_missing(engines))
    )
    _check_engines(recipe, engines)
    output = _output(options, recipe)
    bar = ProgressBar(sys.stderr)
    started_at_s = time.perf_counter()
    try:
        soundscape = render(recipe, engines, output, bar.show)
    finally:
        bar.clear()
    if options.json:
        facts = {**soundscape.facts(), "path": str(soundscape.path), "picture_path": str(soundscape.picture_path)}
        unused = {} if request is None else unused_options(request, recipe, [e.spec for e in engines.values()])
        recipe_data = json.loads(soundscape.recipe.to_json())
        left_out = () if request is None else not_made(request, recipe, [e.spec for e in engines.values()])
        answer = {**facts, "not_used": unused, "not_made": left_out, "recipe": recipe_data}
        print(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        _print_summary(request, soundscape, engines, time.perf_counter() - started_at_s)
    return 0


def _check_recipe_alone(options: argparse.Namespace) -> None:
    """A recipe decides everything; an option beside it would be dropped in silence."""
    decided = (
        "engine",
        "duration",
        "loop",
        "seed",
        "negative_prompt",
        "guidance_scale",
        "steps",
        "quality",
        "full_band",
    )
    given = [name for name in decided if getattr(options, name) is not None and getattr(options, name) is not False]
    if options.recipe is not None and given:
        raise OptionError(given[0], f"--recipe decides everything already; leave out --{given[0].replace('_', '-')}.")


def _request(options: argparse.Namespace) -> SceneRequest:
    return SceneRequest(
        description=options.scene,
        duration_s=options.duration,
        engine=options.engine,
        quality=options.quality or "standard",
        loop=options.loop,
        seed=options.seed,
        negative_prompt=options.negative_prompt,
        guidance_scale=options.guidance_scale,
        num_inference_steps=options.steps,
        full_band=options.full_band,
    )


def _engines(model: str | None) -> dict[str, Engine]:
    """The preferred engine first; `model` is for whichever engine loads such weights."""
    engines: list[Engine] = [AudioLDM2Engine(), StableAudioEngine(), ProceduralEngine()]
    if model is not None and models.describe(model).engine == "stable-audio":
        engines = [StableAudioEngine(model), AudioLDM2Engine(), ProceduralEngine()]
    elif model is not None:
        engines[0] = AudioLDM2Engine(model)
    return {engine.spec.name: engine for engine in engines}


def _available(engines: Mapping[str, Engine]) -> list[EngineSpec]:
    missing = _missing(engines)
    return [engine.spec for name, engine in engines.items() if name not in missing]


def _missing(engines: Mapping[str, Engine]) -> dict[str, str]:
    return {
        name: f"is not installed here: see `python -m ambientgen doctor --model {engine.spec.model}`."
        for name, engine in engines.items()
        if isinstance(engine, EngineWithWeights) and not engine.installed()
    }


def _check_engines(recipe: Recipe, engines: Mapping[str, Engine]) -> None:
    missing = _missing(engines)
    for layer in recipe.layers:
        if layer.engine not in engines:
            raise RequestError("This recipe was made by an engine that is not part of this version.")
        if layer.engine in missing:
            raise RequestError(f"This recipe needs the engine `{layer.engine}`, which {missing[layer.engine]}")


def _read_recipe(path: Path) -> Recipe:
    try:
        return Recipe.from_json(_recipe_text(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"The recipe file cannot be read: {path}") from error


def _recipe_text(text: str) -> str:
    """The recipe itself, also out of what `--json` printed."""
    try:
        data = json.loads(text)
    except ValueError:
        return text
    return json.dumps(data["recipe"]) if isinstance(data, dict) and "recipe" in data else text


def _output(options: argparse.Namespace, recipe: Recipe) -> Output:
    by_suffix = {form.suffix: name for name, form in FORMATS.items()}
    out: Path = options.out or Path()
    if out.is_dir() and out.suffix not in by_suffix:
        out = out / f"ambient-{recipe.seed}"
    file_format = options.format or by_suffix.get(out.suffix.lower(), "opus")
    if out.suffix and out.suffix.lower() != FORMATS[file_format].suffix:
        endings = ", ".join(by_suffix)
        raise OptionError("out", f"--out ends in {out.suffix}, but the format is {file_format}. Endings: {endings}.")
    if not out.parent.is_dir():
        raise OptionError("out", f"The folder of --out does not exist: {out.parent}")
    return Output(
        directory=out.parent,
        name=out.stem if out.suffix else out.name,
        title=clean_description(options.scene) if options.scene else recipe.layers[0].prompt,
        file_format=file_format,
        max_bytes=_NO_LIMIT_BYTES,
    )


def _print_summary(
    request: SceneRequest | None, soundscape: Soundscape, engines: Mapping[str, Engine], took_s: float
) -> None:
    recipe = soundscape.recipe
    if request is not None:
        print(f"you wrote     {request.description}")
    for layer in recipe.layers:
        negative = f"  (not: {layer.negative_prompt})" if layer.negative_prompt else ""
        print(f"{layer.engine:<12}  {layer.prompt}{negative}")
    if request is not None:
        for name, unused in unused_options(request, recipe, [e.spec for e in engines.values()]).items():
            print(f"not used by {name}: {', '.join(OPTION_WORDS.get(option, option) for option in unused)}")
        for line in explain(plan(request.description)) if any(layer.label for layer in recipe.layers) else ():
            print(f"understood    {line}")
        if left_out := not_made(request, recipe, [e.spec for e in engines.values()]):
            print(f"not made      {', '.join(left_out)}")
    rounded = None if request is None else rounded_loop(request, recipe)
    for note in (*([rounded] if rounded else []), *soundscape.notes):
        print(f"note          {note}")
    print(
        f"made          {soundscape.duration_s:.2f} s in {took_s:.1f} s · {soundscape.integrated_lufs:.1f} LUFS · "
        f"true peak {soundscape.peak_dbtp:.1f} dBTP · {soundscape.num_bytes / 1024:.0f} KiB · seed {recipe.seed}"
    )
    if soundscape.seam is not None:
        print(f"loop seam     {'clean' if soundscape.seam.clean else 'may be heard'}")
    print(f"sound         {soundscape.path}\npicture       {soundscape.picture_path}")


def _add_ideas(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("category", nargs="?", metavar="CATEGORY", help=f"one of {', '.join(ideas.categories())}")
    parser.set_defaults(run=_ideas)


def _ideas(options: argparse.Namespace) -> int:
    for idea in ideas.ideas(options.category, _NUM_IDEAS, secrets.randbits(32), _available(_engines(None))):
        print(f"  {idea}")
    print(f'Make one:  python -m ambientgen make "{idea}"')
    return 0


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "describe", "download", "check"))
    parser.add_argument("--model", help=f"hub id or folder (default: {DEFAULT_MODEL})")
    parser.set_defaults(run=_models)


def _models(options: argparse.Namespace) -> int:
    model = options.model or DEFAULT_MODEL
    bar = ByteBar(sys.stderr)
    try:
        if options.action == "list":
            _list_models(dict.fromkeys((*models.KNOWN, model)))
        elif options.action == "describe":
            models.say_facts(models.describe(model), print)
        elif options.action == "download":
            download(model, say=partial(print, flush=True), report=bar.show_bytes)
        else:
            return _check_model(model, bar)
    finally:
        bar.clear()
    return 0


def _list_models(names: Iterable[str]) -> None:
    print(f"{'MODEL':<34} {'ENGINE':<13} {'SIZE':<8} STATE")
    for name in names:
        facts, folder = models.describe(name), models.find(name)
        faults = () if folder is None else models.faults(folder)
        files = () if folder is None else folder.rglob("*")
        num_bytes = facts.download_bytes or sum(file.stat().st_size for file in files if file.is_file())
        state = "not here" if folder is None else "incomplete" if faults else "complete"
        size = models.in_bytes(num_bytes) if num_bytes else "?"
        print(f"{facts.model:<34} {facts.engine or '?':<13} {size:<8} {state}")
        print(f"    license  {facts.license}{'; gated' if facts.gated else ''}\n    place    {facts.place}")
        if faults:
            print(f"    missing  {models.in_short(faults)}")
        if folder is None or faults:
            print(f"    {'get it ' if folder is None else 'mend it'}  {_cure(name, facts)}")


def _check_model(model: str, bar: ByteBar) -> int:
    facts, folder = models.describe(model), models.find(model)
    faults = () if folder is None else models.all_faults(folder, bar.show_bytes)
    if folder is None:
        print(f"{facts.model} is not on this machine. To get it: {_cure(model, facts)}")
    elif faults:
        print(f"{facts.model} is incomplete or damaged:", *(f"  {fault}" for fault in faults), sep="\n")
        print(f"To mend it: {_cure(model, facts)}")
    elif num_files := len(models.known_checksums(folder)):
        print(f"{facts.model} is complete; the checksums of {num_files} files are right.")
    else:
        print(f"{facts.model} is complete; no checksums are known of its files, so only their lengths were compared.")
    return 0 if folder is not None and not faults else 1


def _cure(model: str, facts: models.ModelFacts) -> str:
    return models.download_command(model) if facts.download_bytes != 0 else "put the model's files into that folder"


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="hub id or folder (default: the bot's AMBIENT_MODEL)")
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    marks = set()
    for finding in doctor.examine(options.model):
        print(finding, flush=True)  # at once: a model's sound takes a while
        marks.add(finding.mark)
    return 1 if "!!" in marks else 0


if __name__ == "__main__":
    sys.exit(main())
