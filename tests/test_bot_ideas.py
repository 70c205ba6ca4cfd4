"""What to ask for, through the bot: ideas, the scenes that come along, and what `scene:` offers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ambientgen import ideas
from tests.bot_world import World, card_of, field_of, labels_of, open_world, private_words, shown

LONG = "gentle rain on a window " + "and softly whispering wind " * 5 + "in the trees"


async def offered(world: World, typed: str, *, by_other: bool = False) -> list[dict[str, str]]:
    """What `scene:` offers to one who has typed that."""
    person = world.other if by_other else world.asker
    return await person.autocomplete(world.channel, "ambient generate", "scene", typed)


async def test_ideas_are_pressed_and_made(tmp_path: Path) -> None:
    """The panel is private, holds ideas of one category alone if asked, and a press makes one."""
    async with open_world(tmp_path) as world:
        panel = await world.command("ideas", category="noise")
        assert shown(panel).ephemeral
        *scenes, more = labels_of(panel)
        assert "brown noise" in scenes
        assert more == "More ideas"
        await world.press(panel, "brown noise")
        job = await world.outcome()
        assert (job.request.description, job.recipe.layers[0].engine) == ("brown noise", "procedural")
        assert "brown noise · bed by procedural" in field_of(card_of(await world.command("show", id=job.id)), "Made of")


async def test_more_ideas_replace_the_old_ones(tmp_path: Path) -> None:
    """The same message shows others, and stays as private as it was."""
    async with open_world(tmp_path) as world:
        panel = await world.command("ideas", private=True)
        before = labels_of(panel)
        await world.press(panel, "More ideas")
        after = labels_of(panel)
        assert before[-1] == after[-1] == "More ideas"
        assert before != after
        answer = await world.press(panel, after[0])
        job = await world.outcome()
        assert job.private
        assert shown(answer).ephemeral


async def test_categories_are_offered_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    """By a part of their title; one that does not exist names those that do."""
    async with open_world(tmp_path) as world:
        choices = await world.asker.autocomplete(world.channel, "ambient ideas", "category", "CAF")
        assert [choice["value"] for choice in choices] == ["people"]
        assert "The categories are rain" in private_words(await world.command("ideas", category="plumbing"))


async def test_a_scene_is_offered_before_anybody_asked_for_one(tmp_path: Path) -> None:
    """The scenes that come along and the ideas are there from the start: 25 of them, and those that begin as typed."""
    async with open_world(tmp_path) as world:
        assert len(await offered(world, "")) == 25
        assert all(choice["name"].startswith("a crackling") for choice in (await offered(world, "a crackling"))[:2])
        assert any(
            "gulls" in choice["name"] and "waves" in choice["name"] for choice in await offered(world, "gulls wav")
        )
        assert await offered(world, "qqq") == []


async def test_ones_own_scenes_come_first_and_are_nobody_elses(tmp_path: Path) -> None:
    """The newest first, each once; another person is not offered what was asked for, also not in public."""
    async with open_world(tmp_path) as world:
        for scene in ("rain for ann", "rain on the moon", "rain for ann"):
            await world.make(scene=scene)
        assert [choice["name"] for choice in (await offered(world, "rain"))[:2]] == ["rain for ann", "rain on the moon"]
        assert not any("ann" in choice["name"] for choice in await offered(world, "rain", by_other=True))


async def test_a_long_scene_travels_as_an_id(tmp_path: Path) -> None:
    """A choice holds 100 characters; the whole scene is found again, but only by the one whose it is."""
    async with open_world(tmp_path) as world:
        _, first = await world.make(scene=LONG)
        (choice,) = await offered(world, "gentle rain on a window and softly")
        assert choice["name"] == first.request.description[:99] + "…"
        assert len(choice["value"]) <= 100
        _, again = await world.make(scene=choice["value"])
        assert again.request.description == first.request.description
        _, other = await world.make(by=world.other, scene=choice["value"])
        assert other.request.description == choice["value"]


async def test_a_saved_presets_scene_is_offered(tmp_path: Path) -> None:
    """A server's preset gives its scene to everyone there, also a long one."""
    async with open_world(tmp_path) as world:
        _, job = await world.make(scene=LONG)
        await world.command("preset save", name="Long", id=job.id)
        (choice,) = await offered(world, "gentle rain on a window and softly", by_other=True)
        _, made = await world.make(by=world.other, scene=choice["value"])
        assert made.request.description == job.request.description


@pytest.mark.parametrize("typed", ["tavern", "TAVERN", "tav"])
async def test_built_in_presets_are_offered(tmp_path: Path, typed: str) -> None:
    """They stand under `preset:` before anybody has saved one."""
    async with open_world(tmp_path) as world:
        choices = await world.asker.autocomplete(world.channel, "ambient generate", "preset", typed)
        assert [(choice["name"], choice["value"]) for choice in choices] == [("Tavern (built in)", "Tavern")]


async def test_a_built_in_preset_is_used_shown_and_kept(tmp_path: Path) -> None:
    """It is used like a saved one, its options give way to explicit ones, and nobody can delete it."""
    async with open_world(tmp_path) as world:
        tavern = next(preset for preset in ideas.built_in_presets() if preset.name == "Tavern")
        _, job = await world.make(scene=None, preset="tavern", engine=None)
        assert job.request.description == tavern.request.description
        assert (job.request.loop, job.recipe.duration_s, job.preset_id) == (True, 2.0, None)
        assert tavern.request.description in card_of(await world.command("preset show", name="Tavern")).description
        assert "cannot be deleted" in private_words(await world.command("preset delete", name="Tavern"))
        assert "Built in are: Study rain" in private_words(await world.command("preset list"))


async def test_ones_own_preset_hides_a_built_in_one(tmp_path: Path) -> None:
    """A name that is taken by a built-in preset is still free for people."""
    async with open_world(tmp_path) as world:
        _, job = await world.make(scene="heavy rain")
        await world.command("preset save", name="tavern", id=job.id)
        _, made = await world.make(scene=None, preset="Tavern")
        assert made.request.description == "heavy rain"
        choices = await world.asker.autocomplete(world.channel, "ambient generate", "preset", "tavern")
        assert [choice["name"] for choice in choices] == ["tavern"]
