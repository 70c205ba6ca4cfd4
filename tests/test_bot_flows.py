"""The bot's flows from a person's press to the answer, in one process against a simulated Discord.

What the simulation lacks is left to the wire tests: upload limits, lost replies, the gateway. A client that checks
nothing is played by taking the limits out of the commands the simulated clients know (`World.forget_limits`).
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import simcord
from bot_world import World, card_of, custom_id_of, field_of, labels_of, open_world, private_words, shown
from scripted import silence

from ambientgen import scenes
from ambientgen.audio import encode
from ambientgen.planning import resolve
from ambientgen.recipe import Recipe, SceneRequest
from ambientgen.synth.params import VARIANTS
from bot.client import AmbientClient
from bot.cogs.about import COMMANDS
from bot.store import Job, Jobs
from bot.store.presets import MAX_PRESETS_PER_USER

RESULT_BUTTONS = ["Again", "Edit", "Save preset", "Info", "Delete"]


def closed_gate() -> threading.Semaphore:
    """A gate at which the engine waits before its first step."""
    return threading.Semaphore(0)


# ---------------------------------------------------------------------- generate


async def test_a_scene_becomes_a_clip_on_the_same_message(tmp_path: Path) -> None:
    """The waiting card and the finished one are one public message, with sound, picture, recipe, facts and buttons."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        answer = await world.ask(seed=5)
        waiting = shown(answer)
        assert "gentle rain" in card_of(answer).description
        assert "Starting" in card_of(answer).description
        assert labels_of(answer) == ["Cancel"]
        job = await world.finish_later()
        assert (job.status, job.delivery_state, job.message_id) == ("done", "delivered", waiting.id)
        assert [message.id for message in world.public_messages()] == [waiting.id]
        card = card_of(answer)
        assert "high quality recording" in field_of(card, "The model reads")
        assert "2.0 s" in field_of(card, "Sound")
        assert card.footer.text == f"seed 5 · {job.id}"
        assert labels_of(answer) == RESULT_BUTTONS
        sound, picture = shown(answer).attachments
        assert (sound.filename, picture.filename) == (f"ambient-{job.id}-5.ogg", f"ambient-{job.id}-5.png")
        (tmp_path / "got.ogg").write_bytes(await sound.read())
        assert encode.decode(tmp_path / "got.ogg").duration_s == pytest.approx(2.0, abs=0.01)


async def test_logs_and_database_keep_no_secrets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Scenes are logged at DEBUG only, tokens never, and a delivered job's token is erased."""
    caplog.set_level(logging.INFO)
    async with open_world(tmp_path) as world:
        _, job = await world.make(scene="a very secret rain")
        (token,) = [entry.path.split("/")[3] for entry in world.env.http_requests if entry.path.endswith("/callback")]
        assert job.interaction_token is None
    ours = [record.getMessage() for record in caplog.records if record.name.partition(".")[0] in ("bot", "ambientgen")]
    assert any(job.id in line for line in ours)
    assert not any("secret" in line or token in line for line in ours)
    assert token.encode() not in (tmp_path / "ambient.db").read_bytes()


async def test_the_card_follows_the_steps(tmp_path: Path) -> None:
    """While the engine works the card shows how far it is, by edits of the same message."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        answer = await world.ask()
        await world.next_step()
        await world.env.advance_time(3.0)
        assert "Generating" in card_of(answer).description
        assert "1/3" in card_of(answer).description
        assert labels_of(answer) == ["Cancel"]
        await world.finish_later()
        assert labels_of(answer) == RESULT_BUTTONS


async def test_places_in_the_queue_are_shown(tmp_path: Path) -> None:
    """Who comes second reads so, and the fourth request of one person is refused privately."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        places = [card_of(await world.ask()).description for _ in range(3)]
        assert "Starting" in places[0]
        assert "**2nd** in the queue" in places[1]
        assert "**3rd** in the queue" in places[2]
        refused = await world.ask()
        assert "3 sounds in the queue" in private_words(refused)
        assert await world.num_jobs() == 3
        # Another person's first comes before one's third.
        assert "**3rd** in the queue" in card_of(await world.ask(by=world.other)).description


async def test_the_queue_has_an_end(tmp_path: Path) -> None:
    """A full queue refuses privately and writes nothing."""
    async with open_world(tmp_path, gate=closed_gate(), max_pending=1) as world:
        await world.ask()
        assert "queue is full" in private_words(await world.ask(by=world.other))
        assert await world.num_jobs() == 1


async def test_options_reach_the_recipe(tmp_path: Path) -> None:
    """Every option of the command is in the stored request and recipe."""
    async with open_world(tmp_path) as world:
        answer, job = await world.make(
            scene="waves on a beach", quality="draft", loop=True, seed=7, negative_prompt="birds",
            guidance_scale=12.5, steps=11, format="flac",
        )  # fmt: skip
        (layer,) = job.recipe.layers
        assert (layer.seed, layer.negative_prompt, layer.guidance_scale, layer.num_inference_steps) == (
            7, "birds", 12.5, 11,
        )  # fmt: skip
        assert job.recipe.loop
        assert job.recipe.duration_s == 2.0
        assert job.file_format == "flac"
        notes = field_of(card_of(answer), "Good to know")
        assert "overcooked" in notes
        assert "the end joins the beginning" in notes
        assert shown(answer).attachments[0].filename.endswith(".flac")


async def test_an_engine_that_reads_no_prompt_says_what_it_did_not_use(tmp_path: Path) -> None:
    """The procedural engine's card lists its layers and the options that changed nothing."""
    async with open_world(tmp_path) as world:
        answer, job = await world.make(engine="procedural", scene="gentle rain with distant thunder", steps=20)
        assert job.status == "done"
        card = card_of(answer)
        assert field_of(card, "Made of").splitlines() == [
            "• light rain · bed by procedural",
            "• distant thunder · events by procedural",
        ]
        assert "not used by procedural: `steps`" in field_of(card, "Good to know")


async def test_a_warming_engine_is_named_and_another_serves(tmp_path: Path) -> None:
    """While the model loads, asking for it says so privately, and leaving the engine open gives procedural sound."""
    loading = threading.Event()
    async with open_world(tmp_path, is_warm=False, load_gate=loading) as world:
        assert "warming up" in private_words(await world.ask(engine="audioldm2"))
        assert await world.wrote_nothing()
        answer = await world.ask(engine=None)
        job = await world.outcome()
        loading.set()
        assert job.recipe.layers[0].engine == "procedural"
        assert labels_of(answer) == RESULT_BUTTONS


async def test_a_broken_clip_ends_in_words(tmp_path: Path) -> None:
    """An engine that makes silence twice ends the card with words and without buttons or files."""
    async with open_world(tmp_path) as world:
        world.engine.results = [silence, silence]
        answer, job = await world.make()
        assert (job.status, job.delivery_state) == ("failed", "delivered")
        assert "broken clip twice" in card_of(answer).description
        assert labels_of(answer) == []
        assert shown(answer).attachments == []


async def test_a_bug_shows_only_a_reference(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the program itself broke, the person reads a reference that the log has too, and nothing else."""

    def bug(_take: object) -> Any:
        raise RuntimeError("secret /home/x token")

    async with open_world(tmp_path) as world:
        world.engine.results = [bug]
        answer, job = await world.make()
        assert job.status == "failed"
        assert "secret" not in card_of(answer).description
        assert "secret" not in (job.error or "")
    assert "secret /home/x token" in caplog.text


async def test_a_card_that_cannot_be_shown_leaves_nothing_waiting(tmp_path: Path) -> None:
    """If Discord refuses the first card, the request is taken back."""
    async with open_world(tmp_path) as world:
        world.env.inject_error("POST", "/interactions/*/callback", status=500)
        answer = await world.ask()
        assert "Discord did not take that" in private_words(answer)
        assert world.services.queue.order() == world.services.queue.running() == []
        assert await world.services.store.jobs.num_pending() == 0
        assert list(world.services.clips.folder.iterdir()) == []


async def test_a_direct_message_works_like_a_channel(tmp_path: Path) -> None:
    """In a direct message the same command brings the clip, and a preset is its owner's alone."""
    async with open_world(tmp_path) as world:
        user = world.asker.user
        answer = await user.slash("ambient generate", scene="gentle rain", duration=2)
        job = await world.outcome()
        assert (job.guild_id, job.delivery_state) == (None, "delivered")
        form = await user.click(shown(answer).message, label="Save preset")
        assert "Saved" in private_words(await user.submit_modal(form, {"name": "mine alone"}))
        assert await world.other.autocomplete(world.channel, "ambient generate", "preset", "mine") == []


# ---------------------------------------------------------------------- what a hostile client sends


@pytest.mark.parametrize(
    ("option", "values", "words"),
    [
        ("duration", [0, 1, -5, 601, 2**53 - 1], "`duration`"),
        ("seed", [-1, 2**32, 2**53 - 1], "`seed`"),
        ("guidance_scale", [0.99, 15.01, -1e9, 2.0**53], "`guidance_scale`"),
        ("steps", [9, 0, 201, 1 - 2**53], "`steps`"),
        ("engine", ["nope", "", "@everyone ../../etc/passwd"], "no engine of that name"),
        ("quality", ["ultra", "", "@everyone"], "`quality`"),
        ("format", ["exe", "", "../../x"], "`format`"),
        ("negative_prompt", ["n" * 301, "n" * 6000], "at most 300"),
        ("scene", ["ab"], "too short"),
        ("scene", ["r" * 501, "r" * 6000], "500 is the most"),
        ("scene", ["", "   \n\t ", "\x00\x01\x1b\u202e\u2066", "\u200b\u200e\ufeff"], "empty"),
        ("scene", ["🌧️🌊🔥🌲🐦", "!!! ... ???", "1234567"], "no words"),
        ("preset", ["no such", "p" * 6000, "@everyone"], "no preset"),
    ],
)
async def test_what_is_out_of_range_is_refused_in_private(
    tmp_path: Path, option: str, values: list[Any], words: str
) -> None:
    """A client that checks nothing gets a private sentence; nothing is queued, made or written."""
    async with open_world(tmp_path) as world:
        world.forget_limits()
        for value in values:
            said = private_words(await world.ask(**{option: value}))
            assert words in said
            assert "@everyone" not in said
            assert len(said) <= 2000
        assert await world.wrote_nothing()
        assert world.public_messages() == []


async def test_a_scene_no_engine_can_place_gets_suggestions(tmp_path: Path) -> None:
    """The procedural engine refuses what it cannot make, in private, with scenes that work and the engine that does."""
    async with open_world(tmp_path) as world:
        said = private_words(await world.ask(engine="procedural", scene="xyzzy plugh"))
        assert "cannot place this scene" in said
        assert "`audioldm2` takes any description" in said
        assert said.count("• try `") == 3
        assert await world.wrote_nothing()


async def test_the_commands_limits_are_the_programs_own(tmp_path: Path) -> None:
    """An honest client refuses the same values before they are sent."""
    async with open_world(tmp_path) as world:
        for options in ({"duration": 1}, {"seed": 2**32}, {"steps": 201}, {"engine": "nope"}, {"scene": "ab"}):
            with pytest.raises(simcord.OptionError):
                await world.ask(**options)


async def test_the_form_is_checked_like_the_command(tmp_path: Path) -> None:
    """What the edit form sends out of range gets a private sentence, and no second request is written."""
    async with open_world(tmp_path) as world:
        answer, _ = await world.make(seed=1)
        for control, value, words in (
            ("duration", "soon", "`duration` must be a number"),
            ("duration", "nan", "`duration`"),
            ("duration", "inf", "`duration`"),
            ("duration", "1e9", "`duration`"),
            ("duration", "0", "`duration`"),
            ("seed", "-1", "`seed`"),
            ("seed", "9999999999", "`seed`"),
            ("seed", "1.5", "`seed` must be a whole number"),
            ("scene", "🌧🌊🔥", "no words"),
        ):
            form = await world.press(answer, "Edit")
            said = private_words(await world.asker.submit_modal(form, {"scene": "gentle rain", control: value}))
            assert words in said, (control, value)
        assert await world.num_jobs() == 1


async def test_a_persons_words_cannot_pretend_to_be_the_bots(tmp_path: Path) -> None:
    """Pings, markdown and further lines of a scene stay plain text inside the quote."""
    async with open_world(tmp_path) as world:
        form = await world.press((await world.make(seed=1))[0], "Edit")
        scene = "rain @everyone **loud**\n# heading\n\n⚠️ This server is closed."
        answer = await world.asker.submit_modal(form, {"scene": scene})
        await world.outcome()
        description = card_of(answer).description
        assert "@everyone" not in description
        assert "**loud**" not in description
        assert description.startswith("> ")
        assert all(line.startswith("> ") for line in description.splitlines()), description


@pytest.mark.parametrize("permission", ["attach_files", "embed_links"])
async def test_a_missing_permission_is_said_before_anything_is_made(tmp_path: Path, permission: str) -> None:
    """Where the bot may not attach files or embed links it says so privately and queues nothing."""
    async with open_world(tmp_path) as world:
        channel = world.channel_without(permission)
        answer = await world.asker.slash(channel, "ambient generate", scene="gentle rain")
        assert "not allowed to attach files and embed links" in private_words(answer)
        assert await world.wrote_nothing()


async def test_a_permission_lost_while_it_was_made_is_said_on_the_card(tmp_path: Path) -> None:
    """If Discord refuses the files at the end, the card says where the sound waits, and history has it."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        answer = await world.ask()
        world.env.inject_error("PATCH", "/webhooks/*", status=403, code=50013, message="Missing Permissions")
        await world.finish_later()
        assert "not allowed to attach files" in card_of(answer).description
        assert shown(answer).attachments == []
        history = await world.command("history")
        again = await world.asker.select(
            shown(history).message, [(await newest(world)).id], custom_id=custom_id_of(history, "ambient:replay")
        )
        assert len(shown(again).attachments) == 2


async def newest(world: World) -> Job:
    """The asker's newest job."""
    return (await world.services.store.jobs.history(world.asker.id, limit=1))[0]


# ---------------------------------------------------------------------- the buttons


async def test_again_makes_another_take_for_who_pressed(tmp_path: Path) -> None:
    """Again asks for the same scene with a new seed, as the one who pressed, on a message of its own."""
    async with open_world(tmp_path) as world:
        answer, first = await world.make(seed=5, format="mp3")
        again = await world.press(answer, "Again", by=world.other)
        second = await world.outcome()
        assert (second.parent_job_id, second.user_id, second.file_format) == (first.id, world.other.id, "mp3")
        assert second.request == dataclasses.replace(first.request, seed=None)
        assert second.recipe.seed != first.recipe.seed
        assert shown(again).id != shown(answer).id
        assert not shown(again).ephemeral
        assert len(world.public_messages()) == 2


async def test_edit_asks_for_a_changed_scene(tmp_path: Path) -> None:
    """The form starts from the request; what is changed in it is asked for, and the first clip stays."""
    async with open_world(tmp_path) as world:
        answer, first = await world.make(seed=5, quality="draft")
        form = await world.press(answer, "Edit", by=world.other)
        assert "gentle rain" in json.dumps(form.modal)
        edited = await world.other.submit_modal(
            form, {"scene": "a campfire", "duration": "3,5", "seed": "9", "negative_prompt": "wind"}
        )
        second = await world.outcome()
        assert (second.request.description, second.request.seed, second.request.negative_prompt) == (
            "a campfire", 9, "wind",
        )  # fmt: skip
        assert (second.recipe.duration_s, second.request.quality, second.parent_job_id) == (3.5, "draft", first.id)
        assert labels_of(edited) == labels_of(answer) == RESULT_BUTTONS


async def test_info_shows_the_whole_recipe_privately(tmp_path: Path) -> None:
    """A short recipe comes as text and a long one as a file; both read back as the stored recipe."""
    async with open_world(tmp_path) as world:
        answer, job = await world.make(seed=5)
        said = private_words(await world.press(answer, "Info", by=world.other))
        assert Recipe.from_json(said.split("```json")[1].strip("`\n")) == job.recipe
        answer, job = await world.make(scene="```rain``` " + "drops " * 80, negative_prompt="n" * 300)
        info = shown(await world.press(answer, "Info"))
        assert info.ephemeral
        (file,) = info.attachments
        assert Recipe.from_json((await file.read()).decode()) == job.recipe


async def test_delete_is_the_askers_or_a_moderators(tmp_path: Path) -> None:
    """Another person is refused; the asker's press removes card, clip and picture, and so does a moderator's."""
    async with open_world(tmp_path) as world:
        for by in (world.asker, world.moderator):
            answer, job = await world.make()
            assert "or a moderator can delete it" in private_words(await world.press(answer, "Delete", by=world.other))
            assert (await world.job(job.id)).delivery_state == "delivered"
            await world.press(answer, "Delete", by=by)
            assert world.public_messages() == []
            assert list(world.services.clips.folder.iterdir()) == []
            assert (await world.job(job.id)).delivery_state == "deleted"
            assert "was deleted" in private_words(await world.command("show", id=job.id))
        assert "no sounds yet" in private_words(await world.command("history"))


async def test_cancel_is_the_askers_or_a_moderators(tmp_path: Path) -> None:
    """Another person is refused; the asker cancels a running job, a moderator a waiting one; the cards say so."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        running, _, waiting = [await world.ask() for _ in range(3)]
        assert "or a moderator can cancel it" in private_words(await world.press(running, "Cancel", by=world.other))
        await world.press(waiting, "Cancel", by=world.moderator)
        assert (await world.outcome()).status == "cancelled"
        assert card_of(waiting).description.endswith("Cancelled.")
        await world.press(running, "Cancel")
        world.engine.gate.release()
        assert (await world.outcome()).status == "cancelled"
        assert card_of(running).description.endswith("Cancelled.")
        assert labels_of(running) == labels_of(waiting) == []
        assert (await world.finish_later()).status == "done"


async def test_a_cancelled_sound_cannot_be_cancelled_again(tmp_path: Path) -> None:
    """A second press that was on its way gets a private sentence."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        answer = await world.ask()
        stale = shown(answer).message
        job = (await world.services.store.jobs.unfinished())[0]
        await world.press(answer, "Cancel")
        world.engine.gate.release()
        await world.outcome()
        assert stale.id == job.message_id
        assert "cancelled" in private_words(await world.command("show", id=job.id))


async def test_a_button_works_after_a_restart_and_commands_are_sent_once(tmp_path: Path) -> None:
    """A card of the earlier process still answers, and commands that did not change are not sent again."""
    async with open_world(tmp_path) as world:
        answer, job = await world.make(seed=5)
        client = AmbientClient()
        client.services = world.services
        await world.env.restart_bot(client)
        assert job.id in private_words(await world.press(answer, "Info"))
        assert sum(entry.method == "PUT" and "/commands" in entry.path for entry in world.env.http_requests) == 1


# ---------------------------------------------------------------------- presets


async def test_a_preset_from_save_to_delete(tmp_path: Path) -> None:
    """Saved from a card, a preset is listed, shown, suggested, used with changes, counted, and deleted."""
    async with open_world(tmp_path) as world:
        answer, first = await world.make(seed=5, quality="draft", loop=True)
        form = await world.press(answer, "Save preset")
        assert "Saved **Night rain**" in private_words(await world.asker.submit_modal(form, {"name": " Night rain "}))
        assert "Night rain" in card_of(await world.command("preset list", by=world.other)).description
        choices = await world.other.autocomplete(world.channel, "ambient generate", "preset", "NIGHT")
        # Another's preset travels by its number, as two people may use one name.
        assert [choice["name"] for choice in choices if "built in" not in choice["name"]] == ["Night rain (server)"]
        await world.command("generate", by=world.other, preset=choices[0]["value"])
        numbered = await world.outcome()
        assert (numbered.preset_id, numbered.request.description) == (1, first.request.description)

        _, used = await world.make(by=world.other, scene="heavy rain", preset="night RAIN", loop=False)
        assert (used.preset_id, used.preset_version) == (1, 1)
        changes = {"description": "heavy rain", "loop": False, "preset": "Night rain"}
        assert used.request == dataclasses.replace(first.request, **changes)
        assert used.recipe.seed == first.recipe.seed

        saved_again = await world.command("preset save", name="night rain", id=used.id)
        assert "version 2" in private_words(saved_again)
        shown_card = card_of(await world.command("preset show", by=world.other, name="night rain"))
        assert "heavy rain" in shown_card.description
        assert used.id in field_of(shown_card, "Used 2 times")

        refused = await world.command("preset delete", by=world.other, name="night rain")
        assert "or a moderator can delete it" in private_words(refused)
        assert "Deleted" in private_words(await world.command("preset delete", by=world.moderator, name="night rain"))
        assert "no preset" in private_words(await world.command("preset show", name="night rain"))
        assert "no preset" in private_words(await world.command("preset list"))
        left = await world.asker.autocomplete(world.channel, "ambient preset show", "name", "")
        assert all("built in" in choice["name"] for choice in left)


async def test_a_preset_alone_is_enough(tmp_path: Path) -> None:
    """`preset:` without a scene makes the saved one with its seed; Again keeps the preset and changes the seed."""
    async with open_world(tmp_path) as world:
        _, first = await world.make(seed=5)
        assert "Saved" in private_words(await world.command("preset save", name="rain"))
        answer = await world.command("generate", preset="rain")
        second = await world.outcome()
        assert second.recipe == first.recipe
        await world.press(answer, "Again")
        third = await world.outcome()
        assert third.preset_id == second.preset_id
        assert third.recipe.seed != second.recipe.seed


async def test_a_preset_needs_a_finished_sound_one_may_see(tmp_path: Path) -> None:
    """Without a sound of one's own there is nothing to save, and a private sound of another is not there."""
    async with open_world(tmp_path) as world:
        assert "no finished sound" in private_words(await world.command("preset save", name="x"))
        _, job = await world.make(private=True)
        said = private_words(await world.command("preset save", by=world.other, name="x", id=job.id))
        assert said == "There is no sound of that id here."
        await world.command("preset save", name="x", id=job.id)
        choices = await world.other.autocomplete(world.channel, "ambient generate", "preset", "x")
        assert [choice["name"] for choice in choices] == ["Box fan (built in)"]


async def test_a_presets_name_is_checked(tmp_path: Path) -> None:
    """A name that cannot be shown or is too long gets a private sentence and no preset."""
    async with open_world(tmp_path) as world:
        await world.make()
        world.forget_limits()
        for name in ("", "   ", "\x00\x01", "n" * 51, "\u202e"):
            assert "name" in private_words(await world.command("preset save", name=name))
        assert await world.services.store.presets.count(world.asker.id, world.guild.id) == 0


async def test_a_full_page_of_hostile_presets_can_be_listed(tmp_path: Path) -> None:
    """A page of presets of the longest names and scenes, all markdown, fits into one answer."""
    async with open_world(tmp_path) as world:
        for number in range(20):
            name = f"{number:02}" + "*" * 48
            request = SceneRequest(description="rain " + "_" * 495)
            await world.services.store.presets.save(world.other.id, world.guild.id, name, request)
        answer = await world.command("preset list")
        assert len(card_of(answer).description) <= 4096
        assert card_of(answer).footer.text.startswith("page 1 of 2 ·")


async def test_the_number_of_presets_has_an_end(tmp_path: Path) -> None:
    """Beyond the limit a save is refused with words."""
    async with open_world(tmp_path) as world:
        presets = world.services.store.presets
        await world.make()
        for number in range(MAX_PRESETS_PER_USER):
            await presets.save(world.asker.id, world.guild.id, f"p{number}", SceneRequest(description="rain"))
        assert "the most one person can have" in private_words(await world.command("preset save", name="one more"))
        answer = await world.command("preset list", page=2)
        assert card_of(answer).footer.text.startswith("page 2 of 10 ·")
        assert "no preset on that page" in private_words(await world.command("preset list", page=11))
        choices = await world.asker.autocomplete(world.channel, "ambient generate", "preset", "p")
        assert len(choices) == 25


# ---------------------------------------------------------------------- private results


async def test_a_private_sound_stays_private(tmp_path: Path) -> None:
    """Waiting and finished it is for one pair of eyes; what is pressed on it is private as well."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        answer = await world.ask(private=True, scene="secret rain")
        assert shown(answer).ephemeral
        queue = card_of(await world.command("queue", by=world.other)).description
        assert "secret" not in queue
        assert "a sound for someone" in queue
        job = await world.finish_later()
        assert (job.private, job.delivery_state) == (True, "delivered")
        assert shown(answer).ephemeral
        assert len(shown(answer).attachments) == 2
        assert world.public_messages() == []
        said = private_words(await world.command("show", by=world.other, id=job.id))
        assert said == "There is no sound of that id here."
        again = await world.press(answer, "Again")
        assert (await world.outcome()).private
        assert shown(again).ephemeral
        assert world.public_messages() == []


async def test_a_private_sound_waits_when_its_answer_can_no_longer_be_edited(tmp_path: Path) -> None:
    """After its token's death it is never posted: history marks it, and choosing it there brings it privately."""
    async with open_world(tmp_path, tokens_live=False) as world:
        answer, job = await world.make(private=True)
        assert job.delivery_state == "kept"
        assert world.public_messages() == []
        assert shown(answer).attachments == []
        history = await world.command("history")
        assert "**waits for you**" in card_of(history).description
        menu = custom_id_of(history, "ambient:replay")
        replayed = await world.asker.select(shown(history).message, [job.id], custom_id=menu)
        assert shown(replayed).ephemeral
        assert len(shown(replayed).attachments) == 2
        assert (await world.job(job.id)).delivery_state == "delivered"


async def test_a_public_sound_outlives_its_token_on_the_same_card(tmp_path: Path) -> None:
    """After its token's death a public card is edited through the channel; no second message appears."""
    async with open_world(tmp_path, tokens_live=False) as world:
        answer, job = await world.make()
        assert job.delivery_state == "delivered"
        assert [message.id for message in world.public_messages()] == [shown(answer).id]
        assert len(shown(answer).attachments) == 2
        assert labels_of(answer) == RESULT_BUTTONS


async def test_a_lost_card_is_replaced_by_a_new_message(tmp_path: Path) -> None:
    """If somebody removed the waiting card, the public sound comes as a message of its own."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        answer = await world.ask()
        await world.moderator.delete(shown(answer).message)
        job = await world.finish_later()
        assert job.delivery_state == "delivered"
        (message,) = world.public_messages()
        assert message.embeds[0].footer.text.endswith(job.id)
        assert len(message.attachments) == 2


# ---------------------------------------------------------------------- history, queue, show, help, about, ideas


async def test_history_has_pages(tmp_path: Path) -> None:
    """Eight to a page, the newest first, turned in place by buttons that end at the ends."""
    async with open_world(tmp_path) as world:
        for number in range(10):
            await world.services.store.jobs.add(old_job(world, number))
        history = await world.command("history")
        assert shown(history).ephemeral
        assert "scene 9 rain" in card_of(history).description
        assert "scene 1 rain" not in card_of(history).description
        assert card_of(history).footer.text == "page 1 of 2"
        turned = await world.press(history, "Older ▶")
        assert shown(turned).id == shown(history).id
        assert "scene 1 rain" in card_of(turned).description
        with pytest.raises(simcord.SetupError, match="disabled"):
            await world.press(turned, "Older ▶")
        assert "scene 9 rain" in card_of(await world.press(turned, "◀ Newer")).description


def old_job(world: World, number: int) -> Job:
    """A job that was asked for some minutes ago."""
    request = SceneRequest(description=f"scene {number} rain", seed=number)
    return Job(
        id=Jobs.new_id(),
        recipe=resolve(request, [world.engine.spec]),
        request=request,
        file_format="opus",
        user_id=world.asker.id,
        guild_id=world.guild.id,
        channel_id=world.channel.id,
        upload_limit_bytes=2**20,
        created_at=datetime.now(UTC) - timedelta(minutes=30 - number),
    )


async def test_show_brings_a_sound_again_by_id_or_file_name(tmp_path: Path) -> None:
    """Anybody in the channel gets a public sound again, privately; unknown ids and unfinished sounds get words."""
    async with open_world(tmp_path) as world:
        answer, job = await world.make(seed=5)
        for given in (job.id, f" {job.id.upper()} ", shown(answer).attachments[0].filename):
            again = await world.command("show", by=world.other, id=given)
            assert shown(again).ephemeral
            assert [file.filename for file in shown(again).attachments] == [
                file.filename for file in shown(answer).attachments
            ]
            assert labels_of(again) == RESULT_BUTTONS
        for unknown in ("nonesuch", "ambient-x-y.ogg", "'; DROP TABLE jobs; --", "\u202e@everyone"):
            said = private_words(await world.command("show", id=unknown))
            assert said == "There is no sound of that id here."
        waiting = old_job(world, 1)
        await world.services.store.jobs.add(waiting)
        assert "still being made" in private_words(await world.command("show", id=waiting.id))


async def test_a_sound_of_a_hidden_channel_is_not_shown_elsewhere(tmp_path: Path) -> None:
    """Who cannot read the channel of a sound does not get it by its id."""
    async with open_world(tmp_path) as world:
        hidden = world.channel_hidden_from(world.other)
        await world.asker.slash(hidden, "ambient generate", scene="gentle rain", duration=2)
        job = await world.outcome()
        said = private_words(await world.command("show", by=world.other, id=job.id))
        assert said == "There is no sound of that id here."
        assert len(shown(await world.command("show", id=job.id)).attachments) == 2


async def test_a_sound_that_is_no_longer_kept_says_so(tmp_path: Path) -> None:
    """A clip whose file made room for others is shown with words in place of the sound."""
    async with open_world(tmp_path) as world:
        _, job = await world.make()
        assert job.clip_name is not None
        await world.services.clips.remove(job.clip_name)
        again = await world.command("show", id=job.id)
        assert "not kept any more" in card_of(again).description
        assert shown(again).attachments == []


async def test_the_queue_is_shown(tmp_path: Path) -> None:
    """Empty it says so; busy it lists what runs and waits, for whom, and how the engines stand."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        empty = await world.command("queue")
        assert shown(empty).ephemeral
        assert card_of(empty).description == "Nothing is waiting."
        for by in (world.asker, world.other, world.moderator):
            await world.ask(by=by, scene=f"rain for {by.name}")
        lines = card_of(await world.command("queue")).description.splitlines()
        assert lines[0] == "🎧 rain for asker · 2 s · for you"
        assert lines[2] == f"**1.** rain for moderator · 2 s · for <@{world.moderator.id}>"
        engines = field_of(card_of(await world.command("queue")), "Engines")
        assert engines.splitlines() == ["`audioldm2` ready", "`procedural` ready"]


async def test_help_and_about_are_private_and_whole(tmp_path: Path) -> None:
    """Help names every command and what can be made; about names engines, device and license."""
    async with open_world(tmp_path) as world:
        await world.make()
        answer = await world.command("help")
        assert shown(answer).ephemeral
        assert all(name in field_of(card_of(answer), "Commands") for name in COMMANDS)
        assert scenes.what_it_makes(frozenset(VARIANTS)) in card_of(answer).description
        answer = await world.command("about")
        assert shown(answer).ephemeral
        text = json.dumps(card_of(answer).to_dict(), ensure_ascii=False)
        for words in ("audioldm2", "procedural", "ready on test", "CC BY-NC-SA 4.0", "sounds: 1 ·"):
            assert words in text


async def test_no_options_give_a_panel_of_ideas(tmp_path: Path) -> None:
    """The panel is private and starts nothing; a press on an idea makes it, in public."""
    async with open_world(tmp_path) as world:
        panel = await world.command("generate")
        assert shown(panel).ephemeral
        first, *_, more = labels_of(panel)
        assert more == "More ideas"
        await world.press(panel, more)
        assert labels_of(panel)[0] != first
        assert await world.wrote_nothing()
        first = labels_of(panel)[0]
        answer = await world.press(panel, first)
        job = await world.outcome()
        assert job.request.description == first
        assert not shown(answer).ephemeral
        assert len(shown(answer).attachments) == 2
