"""AudioLDM2, with a tiny model of random weights in place of the published one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ambientgen.audio.clip import Clip
from ambientgen.audio.loop import measure_seam
from wire.world import Place, World, decode, description, fields, job_id, names, refusal

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def shared_world(
    standin: ModuleType, tmp_path_factory: pytest.TempPathFactory, tiny_model_path: Path
) -> Iterator[World]:
    """A bot whose model is warming up."""
    with World(standin, tmp_path_factory.mktemp("bot"), num_places=12, AMBIENT_MODEL=str(tiny_model_path)) as world:
        world.start()
        yield world
        assert world.bot.stop() == 0


def _wait_for_model(world: World) -> None:
    world.until(lambda: "engine audioldm2 is ready" in world.bot.log, 60)


def test_while_the_model_warms_up(world: World, place: Place) -> None:
    """While the model is loaded, other engines serve, and asking for the model is refused kindly."""
    if "engine audioldm2 is ready" not in world.bot.log:
        assert "warming up" in refusal(world.ask(place.ann, place.channel, engine="audioldm2"))
    assert "procedural" in fields(world.make(place.ann, place.channel, engine="procedural"))["Sound"]


def test_the_model_reads_better_words(world: World, place: Place) -> None:
    """Asked for the model alone, the card shows what it read: the scene with what helps, and what it avoids."""
    _wait_for_model(world)
    scene = "a *purple* elephant in the rain"
    record = world.ask(place.ann, place.channel, engine="audioldm2", scene=scene, seed=5, steps=12, duration=3)
    message = world.sound(record)
    read = fields(message)["The model reads"]
    assert "elephant in the rain, high quality recording, ambient soundscape" in read
    assert "\\*purple\\*" in read
    assert "not: music, voices, low quality, distorted" in read
    assert "guidance 6 · 12 steps" in read
    assert "engine audioldm2" in fields(message)["Sound"]
    assert names(message) == [f"ambient-{job_id(message)}-5.ogg", f"ambient-{job_id(message)}-5.png"]
    samples, rate = decode(world, message)
    assert abs(len(samples) - 3 * rate) <= 1
    assert record["ack_latency"] < 1.0


def test_textures_by_rule_and_events_by_the_model(world: World, place: Place) -> None:
    """With no engine named, a bed of rain is made by rule under the model's thunder, and the card says so."""
    _wait_for_model(world)
    scene = "gentle rain on a window with distant thunder"
    message = world.make(place.ann, place.channel, scene=scene, steps=10, duration=3)
    assert fields(message)["Made of"].splitlines() == [
        "• light rain on a window · bed by procedural",
        "• distant thunder · events by audioldm2",
    ]
    assert "“distant thunder, low rolling rumble, high quality recording" in fields(message)["The model reads"]
    assert "engine procedural + audioldm2" in fields(message)["Sound"]
    samples, rate = decode(world, message)
    assert abs(len(samples) - 3 * rate) <= 1


def test_options_of_the_model(world: World, place: Place) -> None:
    """Negative prompt, guidance and quality reach the model, and too much guidance is warned of."""
    _wait_for_model(world)
    options = {"negative_prompt": "birds", "guidance_scale": 12, "quality": "draft", "duration": 2}
    message = world.make(place.ann, place.channel, scene="people talking in a cafe", engine="audioldm2", **options)
    assert "not: birds" in fields(message)["The model reads"]
    assert "guidance 12 · 20 steps" in fields(message)["The model reads"]
    assert "overcooked" in fields(message)["Good to know"]
    assert "not used" not in fields(message)["Good to know"]


def test_a_loop_of_the_model(world: World, place: Place) -> None:
    """The model's own loop is as long as asked, and the file joins itself."""
    _wait_for_model(world)
    options = {"engine": "audioldm2", "loop": True, "duration": 7, "steps": 10, "format": "flac"}
    message = world.make(place.ann, place.channel, scene="rain", **options)
    samples, rate = decode(world, message)
    assert len(samples) == 7 * rate
    assert measure_seam(Clip(samples.T.astype("float32"), rate)).clean


def test_the_model_repeats_a_seed(world: World, place: Place) -> None:
    """The same seed makes the same sound with the model too."""
    _wait_for_model(world)
    options = {"scene": "rain", "engine": "audioldm2", "seed": 9, "steps": 10}
    first, again = (decode(world, world.make(place.ann, place.channel, **options))[0] for _ in range(2))
    assert (first == again).all()


def test_progress_and_cancel_of_the_model(world: World, place: Place) -> None:
    """A long generation shows its steps on the card and stops when it is cancelled; the next one starts."""
    _wait_for_model(world)
    model = {"scene": "rain", "engine": "audioldm2"}
    record = world.ask(place.ann, place.channel, **model, duration=10, steps=200, quality="high")
    waiting = world.ask(place.bob, place.channel, **model, steps=10)
    world.until(lambda: any("Generating `" in text for text in world.shown(record["message"])))
    world.press(record["message"], "Cancel", place.ann)

    def card() -> str:
        return next(description(m) for m in world.messages(place.channel) if m["id"] == record["message"]["id"])

    world.until(lambda: "Cancelled." in card(), 5)
    assert names(world.sound(waiting))


def test_about_tells_the_model(world: World, place: Place) -> None:
    """The about card has the model's state and device, and no path of the machine."""
    _wait_for_model(world)
    message = world.command("about", place.ann, place.channel)["message"]
    (engine,) = [value for name, value in fields(message).items() if name.startswith("audioldm2")]
    assert "ready on" in engine
    assert str(Path(world.bot.environ["AMBIENT_MODEL"]).parent) not in engine


def test_without_weights(own_world: World, tmp_path: Path) -> None:
    """Where the weights are missing, the model is said not to be installed, and the bot works without it."""
    world, place = own_world, own_world.new_place()
    (tmp_path / "empty").mkdir()
    world.start(AMBIENT_MODEL=str(tmp_path / "empty"))
    assert "is not installed here" in refusal(world.ask(place.ann, place.channel, engine="audioldm2"))
    assert "`audioldm2` not installed" in fields(world.command("queue", place.ann, place.channel)["message"])["Engines"]
    assert "procedural" in fields(world.make(place.ann, place.channel))["Sound"]


def test_weights_that_do_not_load(own_world: World, tmp_path: Path, tiny_model_path: Path) -> None:
    """Where the weights do not fit their settings, that is told, and the other engine goes on."""
    world, place = own_world, own_world.new_place()
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_model_path, damaged)
    settings = damaged / "unet/config.json"
    settings.write_text(settings.read_text("utf-8").replace('"in_channels": 4', '"in_channels": 5'), "utf-8")
    world.start(AMBIENT_MODEL=str(damaged))
    world.expected_errors = ["engine audioldm2 cannot be used", "Traceback"]
    world.until(
        lambda: "audioldm2` failed" in fields(world.command("queue", place.ann, place.channel)["message"])["Engines"]
    )
    assert "could not be started" in refusal(world.ask(place.ann, place.channel, engine="audioldm2"))
    assert "procedural" in fields(world.make(place.ann, place.channel))["Sound"]
