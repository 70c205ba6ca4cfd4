"""Ideas, built-in presets and what `scene:` offers, over the wire."""

from __future__ import annotations

import pytest

from tests.wire.world import Place, World, description, fields, labels, names, refusal

pytestmark = pytest.mark.wire


def _offered(world: World, user: str, channel: str, option: str, text: str) -> dict[str, str]:
    """What is offered for an option of `/ambient generate`: from what is shown to what is sent."""
    answer = world.control.autocomplete(
        command="ambient generate", option=option, value=text, user=user, channel=channel
    )
    return {choice["name"]: choice["value"] for choice in answer["choices"]}


def test_a_newcomer_finds_something_to_ask_for(world: World, place: Place) -> None:
    """Ideas of a category are one press away, others one more, and none needs a model that is not there."""
    panel = world.command("ideas", place.ann, place.channel, category="ocean")["message"]
    assert panel["ephemeral"]
    assert labels(panel)[-1] == "More ideas"
    first = labels(panel)[0]
    message = world.sound(world.press(panel, first, place.ann))
    assert description(message) == f"> {first}"
    assert "by procedural" in fields(message)["Made of"]
    world.press(panel, "More ideas", place.ann)
    assert "a model is needed" in refusal(world.command("ideas", place.ann, place.channel, category="typing"))


def test_a_built_in_preset_over_the_wire(world: World, place: Place) -> None:
    """It is offered before anybody has saved one, and made like a saved one."""
    assert _offered(world, place.bob, place.channel, "preset", "brown") == {"Brown noise (built in)": "Brown noise"}
    message = world.make(place.bob, place.channel, scene=None, preset="Brown noise", duration=2)
    assert description(message) == "> brown noise"
    assert len(names(message)) == 2


def test_scenes_are_offered_while_typing(world: World, place: Place) -> None:
    """One's own long scene is offered in short and found again in full; another's is not."""
    scene = "soft white noise " + "and a very soft brown noise " * 4
    made = world.make(place.ann, place.channel, scene=scene, duration=2)
    offered = _offered(world, place.ann, place.channel, "scene", "soft white")
    ((shown, sent),) = offered.items()
    assert shown.endswith("…")
    again = world.make(place.ann, place.channel, scene=sent, duration=2)
    assert description(again) == description(made)
    assert not _offered(world, place.bob, place.channel, "scene", "soft white")
    assert len(_offered(world, place.bob, place.channel, "scene", "")) == 25
