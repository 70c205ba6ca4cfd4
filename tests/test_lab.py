"""The lab without its page: experiments, weights, runs that go on where they stopped, and the command line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from model_hub import write_pipeline
from scripted import ScriptedEngine, silence

from ambientgen.__main__ import main
from ambientgen.audio import encode
from ambientgen.engines.base import Progress, Take
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.errors import EngineError, GenerationCancelled, ModelMissingError, RequestError
from ambientgen.lab import measures
from ambientgen.lab.experiments import EXPERIMENTS, Experiment, Row, Trial, comparison, rows
from ambientgen.lab.provenance import WITHOUT_WEIGHTS, Provenance, of_model
from ambientgen.lab.run import Contestant, RunFolder, run
from ambientgen.planning import resolve
from ambientgen.recipe import SceneRequest
from ambientgen.spec import EngineSpec

UNKNOWN = Provenance(kind="unknown", model="test/model", license="?", words="Unknown.", fingerprint="abc")
#: What an engine that reads any text can do, as far as planning asks.
ANY_TEXT: EngineSpec = ScriptedEngine().spec


def experiment(*scenes: str) -> Experiment:
    """An experiment of these scenes."""
    return comparison(scenes)


def always(_num_done: int, _num_all: int, _row: Row, _progress: Progress | None) -> bool:
    """A report that wants all of it."""
    return True


class CountedEngine(ScriptedEngine):
    """A scripted engine that counts how often it is let go of."""

    def __init__(self) -> None:
        super().__init__(num_steps=1)
        self.spec = ANY_TEXT
        self.num_unloads = 0

    def unload(self) -> None:
        """Counted."""
        self.num_unloads += 1


def contestant(engine: CountedEngine, label: str = "one") -> Contestant:
    """An engine with weights nobody knows."""
    return Contestant(label=label, engine=engine, provenance=UNKNOWN)


def planned(*scenes: str, num_seeds: int = 1) -> list[Row]:
    """One short clip of each scene and seed for the contestant "one"."""
    return rows([experiment(*scenes)], [("one", ANY_TEXT)], 1.0, num_seeds)


# ---------------------------------------------------------------------- experiments


def test_the_experiments_are_those_of_the_ground_rules() -> None:
    """Seven everyday prompts, five of rain, guidance 3 to 15, steps 20 to 150, and the negative prompt on and off."""
    assert list(EXPERIMENTS) == ["everyday", "rain", "guidance", "steps", "negative"]
    assert len(EXPERIMENTS["everyday"].trials) == 7
    prompts = [trial.request.description for trial in EXPERIMENTS["rain"].trials]
    assert len(prompts) == 5
    assert [len(prompt) for prompt in prompts] == sorted(map(len, prompts))
    guidance = {trial.request.guidance_scale for trial in EXPERIMENTS["guidance"].trials}
    steps = {trial.request.num_inference_steps for trial in EXPERIMENTS["steps"].trials}
    assert {3.0, 5.0, 7.5, 10.0, 15.0} <= guidance
    assert (min(g for g in guidance if g), max(g for g in guidance if g)) == (3.0, 15.0)
    assert {20, 50, 100, 150} <= steps
    negative = {trial.variant: trial.request.negative_prompt for trial in EXPERIMENTS["negative"].trials}
    assert negative == {"on": "music, voices, low quality, distorted", "off": ""}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_trial_becomes_one_layer_of_the_engine_it_names(name: str) -> None:
    """Scene, guidance, steps, negative prompt, seed and length reach the recipe, whatever other engine is there."""
    procedural = ProceduralEngine().spec
    for row in rows([EXPERIMENTS[name]], [("one", ANY_TEXT)], 2.0, 2):
        recipe = resolve(row.request, [procedural, ANY_TEXT])
        (layer,) = recipe.layers
        assert (layer.engine, layer.seed, recipe.duration_s) == ("audioldm2", row.seed, 2.0)
        for option in ("guidance_scale", "num_inference_steps", "negative_prompt"):
            asked = getattr(row.request, option)
            assert asked is None or getattr(layer, option) == asked


@pytest.mark.parametrize("name", ["everyday", "rain"])
def test_the_procedural_engine_can_place_the_scenes(name: str) -> None:
    """So that it can stand against any other engine."""
    for row in rows([EXPERIMENTS[name]], [("p", ProceduralEngine().spec)], 2.0, 1):
        assert {layer.engine for layer in resolve(row.request, [ProceduralEngine().spec]).layers} == {"procedural"}


@pytest.mark.parametrize("name", ["guidance", "steps", "negative"])
def test_an_engine_without_what_is_varied_is_refused(name: str) -> None:
    """All its clips would be the same."""
    with pytest.raises(RequestError, match="all its clips would be the same"):
        rows([EXPERIMENTS[name]], [("p", ProceduralEngine().spec)], 2.0, 1)


@pytest.mark.parametrize(("duration_s", "num_seeds", "scene"), [(0.0, 1, "rain"), (2.0, 0, "rain"), (2.0, 1, "🌧")])
def test_a_bad_plan_is_refused_before_anything_is_made(duration_s: float, num_seeds: int, scene: str) -> None:
    """Length, number of seeds, and words nobody can read."""
    with pytest.raises(RequestError):
        rows([experiment(scene)], [("one", ANY_TEXT)], duration_s, num_seeds)


# ---------------------------------------------------------------------- weights


def cached_model(cache: Path, model: str) -> Path:
    """A pipeline in a hub cache: files by their checksums, links to them; the snapshot's folder."""
    plain = write_pipeline(cache / "plain")
    place = cache / f"models--{model.replace('/', '--')}"
    snapshot = place / "snapshots" / "main-commit"
    (place / "blobs").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("main-commit", encoding="ascii")
    for file in [file for file in plain.rglob("*") if file.is_file()]:
        blob = place / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.write_bytes(file.read_bytes())
        link = snapshot / file.relative_to(plain)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return snapshot


def test_published_weights_are_known_by_their_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that AmbientGen knows, with every file as the hub has it, is the published one; a flipped bit is told."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = cached_model(tmp_path, "cvssp/audioldm2")
    found = of_model("cvssp/audioldm2", lambda *_: None)
    assert (found.kind, found.model) == ("published", "cvssp/audioldm2")
    assert "nothing about sound quality" not in found.words
    weights = next(snapshot.rglob("*.safetensors"))
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.resolve().write_bytes(damaged)
    with pytest.raises(ModelMissingError, match="damaged"):
        of_model("cvssp/audioldm2", lambda *_: None)


def test_a_model_of_somebody_else_is_not_taken_for_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are as on the hub, but nobody says what they are."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    cached_model(tmp_path, "someone/else")
    found = of_model("someone/else", lambda *_: None)
    assert found.kind == "unknown"
    assert "say nothing about sound quality" in found.words


def test_a_folder_is_not_known_to_be_published(tmp_path: Path) -> None:
    """It says so, gives its name and never its path, and another byte is another fingerprint."""
    folder = write_pipeline(tmp_path / "own-model")
    reported: list[int] = []
    found = of_model(str(folder), lambda _stage, done_bytes, _all: reported.append(done_bytes))
    assert (found.kind, found.model) == ("unknown", "own-model")
    assert found.words == "own-model is not known to be published weights. Its clips say nothing about sound quality."
    assert str(tmp_path) not in repr(found)
    assert reported == sorted(reported)
    assert of_model(str(folder), lambda *_: None) == found
    weights = next(folder.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert of_model(str(folder), lambda *_: None).fingerprint != found.fingerprint


# ---------------------------------------------------------------------- runs


def test_a_run_makes_measures_and_keeps_every_clip(tmp_path: Path) -> None:
    """Each row has a clip whose kept figures are those of its file, and the engine is let go of in the end."""
    engine = CountedEngine()
    results = run(planned("rain", "wind", num_seeds=2), [contestant(engine)], RunFolder.open(tmp_path), None, always)
    assert engine.seeds == [1, 2, 1, 2]
    assert engine.num_unloads == 1
    folder = RunFolder.open(tmp_path)
    for result in results:
        assert result.clip is not None
        decoded = encode.decode(folder.sound(result.clip.key))
        assert {**measures.measure(decoded), "clap_score": None} == result.clip.figures
        assert result.clip.device == "test"
        assert result.clip.recipe["layers"][0]["seed"] == result.row.seed
        kept = folder.clips[result.clip.key]
        assert (kept.figures, kept.recipe, kept.made_at) == (
            result.clip.figures, result.clip.recipe, result.clip.made_at,
        )  # fmt: skip


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What was finished is not asked of the engine again; what was under way is made whole."""
    engine = CountedEngine()
    wanted = planned("rain", "wind", "fire")

    def stop_in_the_second(num_done: int, _num_all: int, _row: Row, progress: Progress | None) -> bool:
        return num_done == 0 or progress is None

    with pytest.raises(GenerationCancelled):
        run(wanted, [contestant(engine)], RunFolder.open(tmp_path), None, stop_in_the_second)
    assert engine.num_unloads == 1
    first = set(RunFolder.open(tmp_path).clips)
    assert len(first) == 1

    fresh = CountedEngine()
    prompts: list[str] = []
    fresh.results = [lambda take: prompts.append(take.layer.prompt) or noise_of(take)] * 3
    results = run(wanted, [contestant(fresh)], RunFolder.open(tmp_path), None, always)
    assert [prompt.partition(",")[0] for prompt in prompts] == ["wind", "fire"]
    assert first < {result.clip.key for result in results if result.clip is not None}
    again = CountedEngine()
    assert [r.clip for r in run(wanted, [contestant(again)], RunFolder.open(tmp_path), None, always)] == [
        RunFolder.open(tmp_path).clips[r.clip.key] for r in results if r.clip is not None
    ]
    assert again.seeds == []
    assert again.num_loads == 0


def noise_of(take: Take) -> measures.Clip:
    """Noise by the take's seed."""
    rng = np.random.default_rng(take.layer.seed)
    return measures.Clip((0.1 * rng.standard_normal((2, take.num_samples))).astype(np.float32), 48_000)


def test_a_missing_file_is_made_again(tmp_path: Path) -> None:
    """The manifest alone is no clip."""
    wanted = planned("rain")
    (result,) = run(wanted, [contestant(CountedEngine())], RunFolder.open(tmp_path), None, always)
    assert result.clip is not None
    RunFolder.open(tmp_path).sound(result.clip.key).unlink()
    engine = CountedEngine()
    run(wanted, [contestant(engine)], RunFolder.open(tmp_path), None, always)
    assert engine.seeds == [1]


def test_the_same_recipe_is_made_once(tmp_path: Path) -> None:
    """Two experiments that want the same clip share it; other weights or another version make another."""
    once = rows(
        [experiment("rain"), dataclasses.replace(experiment("rain"), name="again")], [("one", ANY_TEXT)], 1.0, 1
    )
    engine = CountedEngine()
    folder = RunFolder.open(tmp_path)
    first, second = run(once, [contestant(engine)], folder, None, always)
    assert first.clip == second.clip
    assert engine.seeds == [1]

    other = dataclasses.replace(contestant(engine), provenance=dataclasses.replace(UNKNOWN, fingerprint="def"))
    run(once, [other], folder, None, always)
    assert engine.seeds == [1, 1]
    engine.spec = dataclasses.replace(ANY_TEXT, version="2")
    run(once, [other], folder, None, always)
    assert engine.seeds == [1, 1, 1]


def test_kept_figures_of_older_measures_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the file, without the engine."""
    wanted = planned("rain")
    run(wanted, [contestant(CountedEngine())], RunFolder.open(tmp_path), None, always)
    monkeypatch.setattr(measures, "VERSION", measures.VERSION + 1)
    monkeypatch.setattr(measures, "crest_db", lambda _clip: 99.0)
    engine = CountedEngine()
    (result,) = run(wanted, [contestant(engine)], RunFolder.open(tmp_path), None, always)
    assert result.clip is not None
    assert result.clip.figures["crest_db"] == 99.0
    assert engine.seeds == []


def test_a_clip_that_fails_is_recorded_and_the_run_goes_on(tmp_path: Path) -> None:
    """Its words are kept; the next run tries it again, and then they are gone."""
    engine = CountedEngine()
    engine.results = [EngineError("The device is on fire."), noise_of, silence, silence]
    results = run(planned("rain", "wind", "fire"), [contestant(engine)], RunFolder.open(tmp_path), None, always)
    assert [result.clip is not None for result in results] == [False, True, False]
    assert results[0].failure == "The device is on fire."
    assert "silent" in (results[2].failure or "")
    kept = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert kept["failures"]["compare, rain, one, seed 1"] == "The device is on fire."
    folder = RunFolder.open(tmp_path)
    healthy = run(planned("rain", "wind", "fire"), [contestant(CountedEngine())], folder, None, always)
    assert all(result.clip is not None for result in healthy)
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["failures"] == {}


def test_a_scene_an_engine_does_not_know_fails_for_it_alone(tmp_path: Path) -> None:
    """The other contestant's clip is made."""
    procedural = Contestant(label="two", engine=ProceduralEngine(), provenance=WITHOUT_WEIGHTS)
    both = [("one", ANY_TEXT), ("two", procedural.engine.spec)]
    wanted = rows([experiment("xyzzy plugh")], both, 1.0, 1)
    first, second = run(wanted, [contestant(CountedEngine()), procedural], RunFolder.open(tmp_path), None, always)
    assert first.clip is not None
    assert second.failure is not None
    assert "cannot place this scene" in second.failure


def test_a_model_that_cannot_be_loaded_stops_the_run(tmp_path: Path) -> None:
    """None of its clips could be made, so that trying each would only take time."""
    engine = CountedEngine()
    engine._load_error = ModelMissingError("The weights are gone.")
    with pytest.raises(ModelMissingError, match="gone"):
        run(planned("rain", "wind"), [contestant(engine)], RunFolder.open(tmp_path), None, always)
    assert engine.num_unloads == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "ambientgen-run", "version": 99, "clips": {}}', "{}"])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    """And left as it is."""
    (tmp_path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(RequestError, match="Choose another folder"):
        RunFolder.open(tmp_path)
    assert (tmp_path / "run.json").read_text(encoding="utf-8") == content


def test_a_trial_needs_no_variant() -> None:
    """Where only the contestants differ."""
    trial = Trial(category="rain", request=SceneRequest(description="rain"))
    assert (trial.variant, trial.value) == ("", None)


# ---------------------------------------------------------------------- the command line


def test_the_experiments_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its name, how many clips it takes, and its question."""
    assert main(["sweep", "--list"]) == 0
    said = capsys.readouterr().out
    for name, one in EXPERIMENTS.items():
        assert f"{name} " in said
        assert f"{len(one.trials)} clips a seed" in said
        assert one.question in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sweep",), "Name at least one experiment"),
        (("sweep", "loudness"), "no experiment `loudness`. There are everyday, rain"),
        (("sweep", "rain", "--model", "no-such-folder/at/all"), "`all` is not installed here"),
        (("compare", "--engines", "teapot"), "--engines takes names of audioldm2, stable-audio, procedural"),
        (("compare", "--engines", ","), "--engines takes names"),
        (("compare", "--engines", "procedural=x"), "has no model"),
        (("compare", "--engines", "procedural", "--seeds", "0"), "seeds goes from 1 to 20"),
        (("compare", "--engines", "procedural", "--duration", "0"), "`duration` goes from"),
        (("compare", "--engines", "procedural", ""), "scene is empty"),
    ],
)
def test_a_bad_command_is_refused_with_words(
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Code 2, one sentence, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert main(list(arguments)) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_compare_says_what_failed_and_ends_with_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page is written all the same, with the words on it; progress is a plain line for each clip."""
    code = main(
        ["compare", "--engines", "procedural", "rain", "xyzzy", "--duration", "1", "--out", str(tmp_path / "o")]
    )
    captured = capsys.readouterr()
    assert code == 1
    assert "1/2  rain, procedural, seed 1\n2/2  xyzzy" in captured.err
    assert "failed  xyzzy" in captured.err
    assert "1 clip, 1 failed" in captured.out
    html = (tmp_path / "o" / "index.html").read_text(encoding="utf-8")
    assert "Clips that failed" in html
    assert "cannot place this scene" in html
    assert "not known to be published" not in html
