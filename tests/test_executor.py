"""The GPU thread and the CPU pool: order, cancellation, failures, and an event loop that stays free."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from scripted import MISSING, ScriptedEngine, noise, silence

from ambientgen.engines.base import Feed, Progress
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.errors import EngineError, GenerationCancelled, UnhealthyTakeError
from ambientgen.executor import Executor
from ambientgen.planning import resolve
from ambientgen.recipe import Recipe, SceneRequest
from ambientgen.render import Output


@asynccontextmanager
async def _running(*engines: ScriptedEngine | ProceduralEngine) -> AsyncIterator[Executor]:
    """An executor whose engines have been loaded or refused."""
    executor = Executor(engines)
    settled = asyncio.Event()

    def look() -> None:
        if "warming up" not in executor.status().values():
            settled.set()

    executor.start(look)
    look()
    await asyncio.wait_for(settled.wait(), 10.0)
    try:
        yield executor
    finally:
        await executor.close(10.0)


def _recipe(executor: Executor, *, seed: int = 5, quality: str = "standard", duration_s: float = 2.0) -> Recipe:
    request = SceneRequest(description="rain", seed=seed, quality=quality, duration_s=duration_s)  # type: ignore[arg-type]
    return resolve(request, executor.available())


def _output(folder: Path, name: str = "clip") -> Output:
    return Output(directory=folder, name=name, title="rain", file_format="flac", max_bytes=2**30)


async def _until_started(engine: ScriptedEngine) -> None:
    await asyncio.to_thread(engine.started.wait, 10.0)


async def test_a_recipe_becomes_a_file_on_the_gpu_thread(tmp_path: Path) -> None:
    """The engine is loaded and run on the one GPU thread, and the soundscape is a file with its facts."""
    engine = ScriptedEngine()
    async with _running(engine) as executor:
        soundscape = await executor.submit("a", _recipe(executor), _output(tmp_path)).result()
    assert engine.threads == {"ambient-gpu"}
    assert engine.num_loads == 1
    assert soundscape.path == tmp_path / "clip.flac"
    assert soundscape.duration_s == 2.0
    assert soundscape.picture_path.read_bytes().startswith(b"\x89PNG")
    assert soundscape.recipe.seed == 5


async def test_jobs_run_one_after_the_other_in_order(tmp_path: Path) -> None:
    """Jobs of the GPU engine are served in the order of their submission."""
    engine = ScriptedEngine()
    async with _running(engine) as executor:
        handles = [executor.submit(str(n), _recipe(executor, seed=n), _output(tmp_path, str(n))) for n in range(4)]
        await asyncio.gather(*(handle.result() for handle in handles))
    assert engine.seeds == [0, 1, 2, 3]


async def test_the_event_loop_runs_while_an_engine_works(tmp_path: Path) -> None:
    """A step that takes its time does not hold up the event loop, and the handle shows the newest progress."""
    engine = ScriptedEngine(gate=threading.Semaphore(0))
    async with _running(engine) as executor:
        handle = executor.submit("a", _recipe(executor), _output(tmp_path))
        await _until_started(engine)
        assert engine.gate is not None
        engine.gate.release()
        await asyncio.to_thread(engine.stepped.wait, 10.0)
        assert handle.progress.stage == "denoising"
        assert (handle.progress.step, handle.progress.num_steps) == (1, 3)
        engine.gate.release(5)
        await handle.result()


class BatchingEngine(ScriptedEngine):
    """Takes in whatever fits beside its first take, then finishes all of them; keeps who was served together."""

    def __init__(self) -> None:
        super().__init__()
        self.may_start = threading.Event()
        self.batches: list[list[int]] = []

    def max_batch(self, key: Hashable) -> int:
        """Many."""
        return 32

    def run(self, feed: Feed) -> None:
        """A batch at a time."""
        self.may_start.wait(10.0)
        while batch := feed.admit(None, 1):
            while more := feed.admit(self.batch_key(batch[0]), 1):
                batch += more
            self.batches.append([take.num_samples // 48_000 for take in batch])
            for take in batch:
                feed.progress(take.id, Progress("denoising", 1, 1))
                feed.finish(take.id, noise(take))


async def test_a_take_that_fits_no_batch_is_not_overtaken_for_ever(tmp_path: Path) -> None:
    """Later takes may join the batch that runs, but only so many before one that waits for its own turn."""
    engine = BatchingEngine()
    async with _running(engine) as executor:
        handles = [
            executor.submit(str(n), _recipe(executor, duration_s=seconds), _output(tmp_path, str(n)))
            for n, seconds in enumerate([2.0, 3.0] + [2.0] * 12)
        ]
        engine.may_start.set()
        await asyncio.gather(*(handle.result() for handle in handles))
    assert engine.batches == [[2] * 9, [3], [2] * 4]


async def test_as_many_jobs_are_taken_as_run_together(tmp_path: Path) -> None:
    """One runs and one is ready where jobs run alone; where they run in batches there is one batch and one more."""
    async with _running(ScriptedEngine()) as executor:
        assert executor.max_in_flight == 2
    async with _running(BatchingEngine()) as executor:
        assert executor.max_in_flight == 9
    async with _running(ProceduralEngine()) as executor:
        assert executor.max_in_flight == 2


async def test_a_running_job_is_cancelled_at_its_next_step(tmp_path: Path) -> None:
    """Cancelling while it runs ends it at the next step; the next job is not touched."""
    engine = ScriptedEngine(gate=threading.Semaphore(0), num_steps=100)
    async with _running(engine) as executor:
        first = executor.submit("a", _recipe(executor, seed=1), _output(tmp_path, "a"))
        second = executor.submit("b", _recipe(executor, seed=2), _output(tmp_path, "b"))
        await _until_started(engine)
        executor.cancel(first)
        assert engine.gate is not None
        engine.gate.release(1)  # exactly one step more
        with pytest.raises(GenerationCancelled):
            await first.result()
        engine.gate.release(200)
        await second.result()
    assert engine.seeds == [2]
    assert not (tmp_path / "a.flac").exists()


async def test_a_waiting_job_is_cancelled_at_once(tmp_path: Path) -> None:
    """Cancelling a job whose take still waits ends it although another runs."""
    engine = ScriptedEngine(gate=threading.Semaphore(0))
    async with _running(engine) as executor:
        first = executor.submit("a", _recipe(executor, seed=1), _output(tmp_path, "a"))
        await _until_started(engine)
        second = executor.submit("b", _recipe(executor, seed=2), _output(tmp_path, "b"))
        executor.cancel(second)
        with pytest.raises(GenerationCancelled):
            await second.result()
        assert engine.gate is not None
        engine.gate.release(10)
        await first.result()
    assert engine.seeds == [1]


async def test_closing_cancels_what_runs_and_waits_for_the_threads(tmp_path: Path) -> None:
    """At shutdown the running and the waiting job are cancelled and the GPU thread has ended."""
    engine = ScriptedEngine(num_steps=10**9)
    async with _running(engine) as executor:
        handles = [executor.submit(str(n), _recipe(executor, seed=n), _output(tmp_path, str(n))) for n in range(2)]
        await _until_started(engine)
        assert await executor.close(10.0)
        for handle in handles:
            with pytest.raises(GenerationCancelled):
                await handle.result()
    assert not [thread for thread in threading.enumerate() if thread.name == "ambient-gpu"]


async def test_a_failed_take_fails_its_job_alone(tmp_path: Path) -> None:
    """An engine's error is the job's result; the next job runs."""
    engine = ScriptedEngine()
    engine.results = [EngineError("out of luck")]
    async with _running(engine) as executor:
        first = executor.submit("a", _recipe(executor, seed=1), _output(tmp_path, "a"))
        second = executor.submit("b", _recipe(executor, seed=2), _output(tmp_path, "b"))
        with pytest.raises(EngineError, match="out of luck"):
            await first.result()
        await second.result()


async def test_an_engine_that_breaks_off_does_not_kill_the_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in an engine fails the job with words, is logged, and the thread goes on."""

    class Broken(ScriptedEngine):
        def run(self, feed: object) -> None:
            if not self.started.is_set():
                self.started.set()
                feed.admit(None, 1)  # type: ignore[attr-defined]
                raise RuntimeError("bug")
            super().run(feed)  # type: ignore[arg-type]

    engine = Broken()
    async with _running(engine) as executor:
        with pytest.raises(EngineError, match="broke off"):
            await executor.submit("a", _recipe(executor), _output(tmp_path, "a")).result()
        await executor.submit("b", _recipe(executor), _output(tmp_path, "b")).result()
    assert "broke off" in caplog.text


async def test_a_broken_take_is_made_again_once(tmp_path: Path) -> None:
    """A silent take is made again with another seed, which the recipe then carries; the card can say so."""
    engine = ScriptedEngine()
    engine.results = [silence]
    async with _running(engine) as executor:
        soundscape = await executor.submit("a", _recipe(executor, seed=5), _output(tmp_path)).result()
    assert engine.seeds[0] == 5
    assert soundscape.recipe.seed == engine.seeds[1] != 5
    assert "silent" in soundscape.notes[0]


async def test_two_broken_takes_fail_the_job_with_words(tmp_path: Path) -> None:
    """A layer that is broken twice ends the job with an error that names the fault."""
    engine = ScriptedEngine()
    engine.results = [silence, silence]
    async with _running(engine) as executor:
        with pytest.raises(UnhealthyTakeError, match="silent"):
            await executor.submit("a", _recipe(executor), _output(tmp_path)).result()
    assert len(engine.seeds) == 2


async def test_high_quality_keeps_a_healthy_one_of_three(tmp_path: Path) -> None:
    """Of three candidates the healthy one is kept, with its own seed."""
    engine = ScriptedEngine()
    engine.results = [silence, silence]
    async with _running(engine) as executor:
        soundscape = await executor.submit("a", _recipe(executor, quality="high"), _output(tmp_path)).result()
    assert len(engine.seeds) == 3
    assert soundscape.recipe.seed == engine.seeds[2]


async def test_the_used_recipe_makes_the_same_sound_again(tmp_path: Path) -> None:
    """Rendering the recipe that came back gives the same seed and length, with no retake."""
    engine = ScriptedEngine()
    engine.results = [silence]
    async with _running(engine) as executor:
        first = await executor.submit("a", _recipe(executor), _output(tmp_path, "a")).result()
        engine.seeds.clear()
        second = await executor.submit("b", first.recipe, _output(tmp_path, "b")).result()
    assert engine.seeds == [first.recipe.seed]
    assert first.path.read_bytes()[-4000:] == second.path.read_bytes()[-4000:]


async def test_an_engine_that_is_not_installed_is_never_touched(tmp_path: Path) -> None:
    """It is shown as not installed, the other engine serves, and asking for it is refused."""
    engine = ScriptedEngine(is_installed=False)
    async with _running(engine, ProceduralEngine()) as executor:
        assert executor.status() == {"audioldm2": "not installed", "procedural": "ready"}
        assert [spec.name for spec in executor.available()] == ["procedural"]
        assert "make model" in executor.unavailable()["audioldm2"]
        recipe = resolve(SceneRequest(description="rain"), [engine.spec])
        with pytest.raises(EngineError, match="not installed"):
            executor.submit("a", recipe, _output(tmp_path))
    assert engine.num_loads == 0


async def test_an_engine_warms_up_in_the_background(tmp_path: Path) -> None:
    """Until it is loaded it is warming up and the procedural engine serves; then it is preferred."""
    loaded = threading.Event()
    engine = ScriptedEngine(load_gate=loaded)
    executor = Executor([engine, ProceduralEngine()])
    changed = asyncio.Event()
    executor.start(changed.set)
    assert executor.status()["audioldm2"] == "warming up"
    recipe = _recipe(executor)
    assert recipe.layers[0].engine == "procedural"
    await executor.submit("a", recipe, _output(tmp_path)).result()
    loaded.set()
    await asyncio.wait_for(changed.wait(), 10.0)
    assert [spec.name for spec in executor.available()] == ["audioldm2", "procedural"]
    assert executor.device("audioldm2") == "test"
    await executor.close(10.0)


async def test_an_engine_that_cannot_be_loaded_is_out_of_service(caplog: pytest.LogCaptureFixture) -> None:
    """A failed load is logged with its words and the engine marked as failed; the other one serves."""
    async with _running(ScriptedEngine(load_error=MISSING), ProceduralEngine()) as executor:
        assert executor.status() == {"audioldm2": "failed", "procedural": "ready"}
    assert "make model" in caplog.text


async def test_layers_of_two_engines_make_one_soundscape(tmp_path: Path) -> None:
    """A recipe with a procedural bed under events of another engine runs on both and is mixed."""
    engine = ScriptedEngine()
    async with _running(engine, ProceduralEngine()) as executor:
        request = SceneRequest(description="rain with a dog barking", seed=4, duration_s=2.0)
        both = resolve(request, executor.available())
        soundscape = await executor.submit("a", both, _output(tmp_path)).result()
    assert [layer.engine for layer in soundscape.recipe.layers] == ["procedural", "audioldm2"]
    assert engine.seeds == [5]


async def test_a_scene_longer_than_the_engine_is_extended(tmp_path: Path) -> None:
    """Nine seconds from an engine that is good for four: three takes, and a file of the exact length."""
    engine = ScriptedEngine()
    async with _running(engine) as executor:
        soundscape = await executor.submit("a", _recipe(executor, duration_s=9.0), _output(tmp_path)).result()
    assert len(engine.seeds) == 3
    assert soundscape.duration_s == 9.0
