"""`/ambient-admin` from a moderator's command to what another person may still do, against a simulated Discord."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from pathlib import Path
from typing import Any

import discord
import pytest
import simcord
from bot_world import World, card_of, field_of, labels_of, open_world, private_words, shown

from ambientgen.errors import EngineError
from bot import limits
from bot.cogs.admin import MAX_REASON_CHARS
from bot.store import ModeratorAct, ServerLimits

COMMANDS = ["limits", "pause", "resume", "queue", "cancel", "block", "unblock"]


def closed_gate() -> threading.Semaphore:
    """A gate at which the engine waits before its first step."""
    return threading.Semaphore(0)


def admin_of(world: World, guild: simcord.GuildHandle | None = None) -> simcord.MemberActor:
    """Somebody who may manage the server, and nothing else."""
    guild = guild or world.guild
    role = guild.create_role("Admins", permissions=discord.Permissions(manage_guild=True))
    return guild.add_member(world.env.create_user(f"admin of {guild.id}"), roles=[role])


class Desk:
    """A server's admin at work."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.admin = admin_of(world)

    async def run(self, command: str, /, **options: Any) -> simcord.InteractionResult:
        """One of the commands; its answer is private."""
        answer = await self.admin.slash(self.world.channel, f"ambient-admin {command}", **options)
        assert shown(answer).ephemeral
        return answer

    async def words(self, command: str, /, **options: Any) -> str:
        """What it answers in words."""
        return private_words(await self.run(command, **options))

    async def acts(self) -> list[ModeratorAct]:
        """What was recorded, the newest first."""
        return await self.world.services.store.servers.acts(self.world.guild.id, limit=50)

    async def limits(self) -> ServerLimits:
        """What was set."""
        return (await self.world.services.store.servers.get(self.world.guild.id)).limits


def told(world: World) -> dict[str, Any]:
    """`/ambient-admin` as Discord was told it."""
    command = world.env.backend.find_command("ambient-admin", world.guild.id)
    assert command is not None
    return command


def forget_limits(world: World) -> None:
    """From here on the moderators' clients check neither ranges nor choices."""
    for leaf in told(world)["options"]:
        for option in leaf.get("options", []):
            for limit in ("min_value", "max_value", "min_length", "max_length", "choices"):
                option.pop(limit, None)


async def test_the_commands_are_told_to_discord(tmp_path: Path) -> None:
    """For servers only, shown to who may manage the server, and within what Discord takes."""
    async with open_world(tmp_path) as world:
        command = told(world)
    assert command["contexts"] == [0]
    assert command["integration_types"] == [0]
    assert int(command["default_member_permissions"]) == discord.Permissions(manage_guild=True).value
    assert [leaf["name"] for leaf in command["options"]] == COMMANDS
    options = [option for leaf in command["options"] for option in leaf.get("options", [])]
    nodes = [command, *command["options"], *options]
    assert all(1 <= len(node["description"]) <= 100 for node in nodes)
    choices = [choice for option in options for choice in option.get("choices", [])]
    num_chars = sum(len(node["name"]) + len(node["description"]) for node in nodes)
    assert num_chars + sum(len(str(choice["name"])) + len(str(choice["value"])) for choice in choices) <= 8000


def test_the_guide_names_the_commands_there_are() -> None:
    """And every option of the limits."""
    guide = (Path(__file__).parent.parent / "docs" / "admin.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"`/ambient-admin {name}" in guide
    for option in ("pending", "duration", "seconds_per_day", "server_seconds_per_day", "engines", "quality", "wait"):
        assert f"`{option}`" in guide


async def test_who_sees_the_commands(tmp_path: Path) -> None:
    """Members and channel moderators do not have them, and they are not there in direct messages."""
    async with open_world(tmp_path) as world:
        for member in (world.asker, world.moderator):
            with pytest.raises(simcord.SetupError, match="default-member-permissions"):
                await member.slash(world.channel, "ambient-admin queue")
        with pytest.raises(simcord.SetupError):
            await world.asker.user.slash("ambient-admin queue")


# ---------------------------------------------------------------------- limits


async def test_limits_are_shown_set_and_lifted(tmp_path: Path) -> None:
    """Each command changes what it names; 0 lifts a limit, reset all of them, and each change is recorded."""
    async with open_world(tmp_path) as world:
        desk = Desk(world)
        assert (
            "unfinished sounds of one person: **3** (this bot's most: 3)"
            in card_of(await desk.run("limits")).description
        )
        assert await desk.acts() == []
        card = card_of(await desk.run("limits", pending=2, duration=30, engines="procedural", quality="standard"))
        for words in (
            "one person: **2**",
            "longest sound: **30 s**",
            "engines: **procedural**",
            "quality: **standard**",
        ):
            assert words in card.description
        await desk.run("limits", seconds_per_day=300, server_seconds_per_day=3600, wait=600, duration=0)
        assert await desk.limits() == ServerLimits(
            max_pending_per_user=2,
            user_seconds_per_day=300.0,
            server_seconds_per_day=3600.0,
            engines=("procedural",),
            max_quality="standard",
            max_wait_s=600.0,
        )
        await desk.run("limits", pending=0, engines="all", quality="high", wait=0)
        assert await desk.limits() == ServerLimits(user_seconds_per_day=300.0, server_seconds_per_day=3600.0)
        await desk.run("limits", reset=True, wait=60)
        assert await desk.limits() == ServerLimits(max_wait_s=60.0)
        acts = await desk.acts()
        assert [(act.act, act.moderator_id) for act in acts] == [("limits", desk.admin.id)] * 4
        assert json.loads(acts[0].details) == {"max_wait_s": 60}


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("pending", [-1, 4, 2**53 - 1]),
        ("duration", [1, -2, 10**6]),
        ("seconds_per_day", [1, -5, 10**7]),
        ("server_seconds_per_day", [1, -5, 10**7]),
        ("wait", [-1, 10**6]),
        ("quality", ["ultra", "", "@everyone"]),
        ("engines", ["nope", "procedural;", ",", " ", "@everyone procedural"]),
    ],
)
async def test_limits_out_of_range_are_refused(tmp_path: Path, option: str, values: list[Any]) -> None:
    """A client that checks nothing gets a private sentence, and nothing is set or recorded."""
    async with open_world(tmp_path) as world:
        desk = Desk(world)
        forget_limits(world)
        for value in values:
            said = await desk.words("limits", **{option: value})
            assert f"`{option}`" in said
            assert "@everyone" not in said
        assert await desk.limits() == ServerLimits()
        assert await desk.acts() == []


async def test_engines_are_suggested(tmp_path: Path) -> None:
    """All, and each choice of some that holds what was typed; commas, spaces and capitals do not matter."""
    async with open_world(tmp_path) as world:
        desk = Desk(world)

        async def suggested(typed: str) -> list[str]:
            found = await desk.admin.autocomplete(world.channel, "ambient-admin limits", "engines", typed)
            return [choice["value"] for choice in found]

        assert await suggested("") == ["all", "audioldm2", "procedural"]
        assert await suggested("Proc") == ["procedural"]
        await desk.run("limits", engines=" PROCEDURAL,audioldm2 ")
        assert (await desk.limits()).engines == ("audioldm2", "procedural")


async def test_a_server_can_be_stricter_with_a_request(tmp_path: Path) -> None:
    """Length, engine, quality and steps beyond the limits are refused privately; what is left open keeps to them."""
    async with open_world(tmp_path) as world:
        desk = Desk(world)
        await desk.run("limits", duration=3, quality="draft")
        assert "`duration` goes from 2 to 3 seconds here" in private_words(await world.ask(duration=4))
        assert "`quality` goes up to `draft`" in private_words(await world.ask(quality="high"))
        assert "`steps` goes up to 20" in private_words(await world.ask(steps=50))
        _, job = await world.make(engine=None, duration=None, scene="a dog barks")
        assert (job.recipe.duration_s, job.request.quality) == (2.0, "standard")  # as it was asked
        assert job.recipe.layers[0].num_inference_steps == 20
        await desk.run("limits", engines="procedural")
        assert "`engine` can be `procedural`" in private_words(await world.ask(engine="audioldm2"))
        answer, job = await world.make(engine=None, duration=None)
        assert "quality" not in str(card_of(answer).to_dict())  # nobody asked for a draft, so nobody hears of it
        assert job.recipe.duration_s == 3.0  # the engine's usual 30 s are shortened
        assert {layer.engine for layer in job.recipe.layers} == {"procedural"}


async def test_what_is_pending_is_limited_in_the_server_alone(tmp_path: Path) -> None:
    """The second request of one person is refused, another person's is taken, and so is one in a direct message."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        desk = Desk(world)
        await desk.run("limits", pending=1)
        await world.ask()
        assert "1 sound in this server's queue" in private_words(await world.ask())
        assert labels_of(await world.ask(by=world.other)) == ["Cancel"]
        direct = await world.asker.user.slash("ambient generate", scene="gentle rain", duration=2, engine="audioldm2")
        assert labels_of(direct) == ["Cancel"]
        assert await world.num_jobs() == 3


async def test_a_failed_sound_is_given_back(tmp_path: Path) -> None:
    """A day's seconds are spent by what is made, and not by what failed."""
    async with open_world(tmp_path) as world:
        desk = Desk(world)
        await desk.run("limits", seconds_per_day=5)
        world.engine.results = [EngineError("It broke.")]
        assert (await world.make(duration=4))[1].status == "failed"
        assert (await world.make(duration=4))[1].status == "done"
        said = private_words(await world.ask(duration=4))
        assert "Of your 5 s of sound in 24 hours, 4 s are used" in said
        assert "There is room for this one <t:" in said
        assert (await world.make(by=world.other, duration=4))[1].status == "done"
        assert "(8 s used)" in card_of(await desk.run("limits")).description


async def test_two_at_once_do_not_slip_under_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two people who ask at the same moment where there is room for one, one is refused."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        await Desk(world).run("limits", server_seconds_per_day=3)
        jobs, second_came = world.services.store.jobs, asyncio.Event()
        seconds_since, refuse_request, num_came = jobs.seconds_since, limits.refuse_request, 0

        def counting_refuse_request(*args: Any, **options: Any) -> limits.LimitError | None:
            nonlocal num_came
            num_came += 1
            if num_came == 2:  # it goes on until it looks, or waits for its turn to look
                asyncio.get_running_loop().call_soon(second_came.set)
            return refuse_request(*args, **options)

        async def slow_look(*args: Any, **options: Any) -> float:
            seconds = await seconds_since(*args, **options)
            if not second_came.is_set():
                await world.env.external_wait(second_came.wait(), reason="the second comes")
            return seconds

        monkeypatch.setattr(limits, "refuse_request", counting_refuse_request)
        monkeypatch.setattr(jobs, "seconds_since", slow_look)
        assert not (await world.ask()).acknowledged
        assert "Of this server's 3 s" in private_words(await world.ask(by=world.other))
        assert await world.num_jobs() == 1


async def test_a_long_queue_pushes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A predicted wait beyond the limit is refused at once, with the wait and the time to come back."""
    async with open_world(tmp_path) as world:
        monkeypatch.setattr(type(world.services.queue), "predicted_wait_s", lambda *_: 720.0)
        await Desk(world).run("limits", wait=300)
        said = private_words(await world.ask())
        assert "would wait about 12 min, and 5 min is the most" in said
        assert "try again <t:" in said
        assert await world.wrote_nothing()


async def test_limits_hold_for_buttons_and_after_a_restart(tmp_path: Path) -> None:
    """Again is a request like any other, and a new process knows the same limits."""
    async with open_world(tmp_path) as world:
        answer, _ = await world.make()
        await Desk(world).run("limits", seconds_per_day=3)
        assert "2 s are used" in private_words(await world.press(answer, "Again"))
        guild_id = world.guild.id
    async with open_world(tmp_path) as world:
        server = await world.services.store.servers.get(guild_id)
        assert server.limits == ServerLimits(user_seconds_per_day=3.0)


# ---------------------------------------------------------------------- pause, block


async def test_a_paused_server_takes_nothing_new(tmp_path: Path) -> None:
    """Requests are refused with the reason, what runs goes on, and after the end of the pause all is as before."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        desk = Desk(world)
        assert "not paused" in await desk.words("resume")
        await world.ask()
        assert "Paused" in await desk.words("pause", reason="@everyone **maintenance**\n# now")
        said = private_words(await world.ask(by=world.other))
        assert "paused new sounds <t:" in said
        assert r"\*\*maintenance\*\*" in said
        assert "@everyone" not in said
        assert "\n" not in said
        assert field_of(card_of(await desk.run("limits")), "Paused").endswith(r"\*\*maintenance\*\* # now")
        assert (await world.finish_later()).status == "done"
        await world.asker.user.slash("ambient generate", scene="gentle rain", duration=2)
        assert (await world.outcome()).guild_id is None
        assert "Resumed" in await desk.words("resume")
        assert (await world.make())[1].status == "done"
        assert [act.act for act in await desk.acts()] == ["resume", "pause"]


@pytest.mark.parametrize("reason", ["r" * (MAX_REASON_CHARS + 1), "r" * 6000])
async def test_a_reason_has_an_end(tmp_path: Path, reason: str) -> None:
    """A client that checks nothing gets a private sentence, and nothing changes."""
    async with open_world(tmp_path) as world:
        desk = Desk(world)
        forget_limits(world)
        assert "at most 200 characters" in await desk.words("pause", reason=reason)
        assert "at most 200 characters" in await desk.words("block", user=world.other, reason=reason)
        assert await desk.acts() == []


async def test_characters_that_cannot_be_stored(tmp_path: Path) -> None:
    """Half of a surrogate pair and control characters are left out of a reason; nothing left is no reason."""
    async with open_world(tmp_path) as world:
        desk = Desk(world)
        await desk.run("pause", reason="a\ud800b\x00c")
        assert "“a b c”" in private_words(await world.ask())
        await desk.run("pause", reason="\x00\ud800")
        assert "They say" not in private_words(await world.ask())


async def test_a_blocked_person_asks_for_nothing_in_this_server(tmp_path: Path) -> None:
    """By command, button or idea; others can, and so can they in a direct message."""
    async with open_world(tmp_path) as world:
        desk = Desk(world)
        answer, _ = await world.make()
        ideas = await world.command("ideas")
        said = await desk.words("block", user=world.asker, reason="spam @everyone")
        assert said == f"Blocked <@{world.asker.id}>: their requests are refused in this server."
        for refused in (
            await world.ask(),
            await world.press(answer, "Again"),
            await world.press(ideas, labels_of(ideas)[0]),
        ):
            assert "moderators of this server have blocked you" in private_words(refused)
            assert "spam" not in private_words(refused)
        assert await world.num_jobs() == 1
        assert (await world.make(by=world.other))[1].status == "done"
        await world.asker.user.slash("ambient generate", scene="gentle rain", duration=2)
        assert (await world.outcome()).guild_id is None
        assert field_of(card_of(await desk.run("limits")), "Blocked") == f"<@{world.asker.id}>"
        assert "blocked already" in await desk.words("block", user=world.asker)
        assert "Unblocked" in await desk.words("unblock", user=world.asker)
        assert "not blocked" in await desk.words("unblock", user=world.asker)
        assert (await world.make())[1].status == "done"
        acts = await desk.acts()
        assert [(act.act, act.target, act.details) for act in acts] == [
            ("unblock", str(world.asker.id), None),
            ("block", str(world.asker.id), "spam @everyone"),
        ]


async def test_what_a_blocked_person_left_is_told(tmp_path: Path) -> None:
    """Blocking ends none of their sounds, but says how many there are."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        await world.ask()
        await world.ask()
        assert "They still have 2 unfinished" in await Desk(world).words("block", user=world.asker)
        assert (await world.finish_later()).status == "done"


# ---------------------------------------------------------------------- queue, cancel


async def test_the_queue_is_this_servers_alone(tmp_path: Path) -> None:
    """What runs, then what waits, in order, with nothing of other servers and no scene of a private sound."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        desk = Desk(world)
        assert "Nothing of this server" in card_of(await desk.run("queue")).description
        await world.ask(scene="gentle rain")
        await world.ask(scene="a *loud* storm @everyone", by=world.other)
        await world.ask(scene="a secret wind", by=world.other, private=True)
        await world.asker.user.slash("ambient generate", scene="ocean waves", duration=2, engine="audioldm2")
        lines = card_of(await desk.run("queue")).description.splitlines()
        assert (
            sum(1 for line in lines if line.startswith("🎧")) + sum(1 for line in lines if line.startswith("**")) == 3
        )
        text = "\n".join(lines)
        assert lines[0].startswith("🎧 “gentle rain”")
        assert r"a \*loud\* storm" in text
        assert "a private sound" in text
        assert f"<@{world.other.id}>" in text
        for hidden in ("secret", "waves", "@everyone"):
            assert hidden not in text

        choices = await desk.admin.autocomplete(world.channel, "ambient-admin cancel", "job", "")
        assert len(choices) == 3
        assert all(len(choice["name"]) <= 100 for choice in choices)
        assert not any("secret" in choice["name"] or "waves" in choice["name"] for choice in choices)
        (found,) = await desk.admin.autocomplete(world.channel, "ambient-admin cancel", "job", "STORM")
        assert found["value"] in text


async def test_a_channel_that_the_moderator_cannot_read(tmp_path: Path) -> None:
    """Its scenes stay hidden from them, as their cards are."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        desk = Desk(world)
        hidden = world.channel_hidden_from(desk.admin)
        await world.asker.slash(hidden, "ambient generate", scene="gentle rain", duration=2)
        assert "a private sound" in card_of(await desk.run("queue")).description


async def test_the_queue_has_pages(tmp_path: Path) -> None:
    """Ten a page; the buttons turn it in place, and a page that is gone is the last one."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        desk = Desk(world)
        members = [world.guild.add_member(world.env.create_user(f"member {number}")) for number in range(4)]
        answers = [await world.ask(by=member) for member in members for _ in range(3)]
        panel = await desk.run("queue")
        ids = [line.split("`")[1] for line in card_of(panel).description.splitlines()]
        assert len(ids) == 10
        assert card_of(panel).footer.text.startswith("page 1 of 2 ·")
        assert labels_of(panel) == ["◀ Back", "Next ▶"]
        turned = await desk.admin.click(shown(panel).message, label="Next ▶")
        rest = [line.split("`")[1] for line in card_of(panel).description.splitlines()]
        assert turned is not None
        assert len(rest) == 2
        assert not set(rest) & set(ids)
        assert card_of(panel).footer.text.startswith("page 2 of 2 ·")
        for answer, member in zip(answers[6:], [members[2]] * 3 + [members[3]] * 3, strict=True):
            await world.press(answer, "Cancel", by=member)
        await world.env.settle()
        await desk.admin.click(shown(panel).message, label="◀ Back")
        assert card_of(panel).footer.text.startswith("page 1 of 1 ·")


async def test_a_moderator_cancels_anything_of_their_server(tmp_path: Path) -> None:
    """Waiting or running, by command; the card says so, other jobs go on, and the act is recorded."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        desk = Desk(world)
        running = await world.ask()
        waiting = [await world.ask() for _ in range(2)]
        first, second, third = await world.services.store.jobs.unfinished()
        said = await desk.words("cancel", job=f" {third.id.upper()} ")
        assert said == f"Cancelled “gentle rain”, a sound of <@{world.asker.id}>."
        assert (await world.outcome()).id == third.id
        assert card_of(waiting[1]).description.endswith("Cancelled.")
        await desk.run("cancel", job=first.id)
        world.engine.gate.release()
        assert (await world.outcome()).id == first.id
        assert card_of(running).description.endswith("Cancelled.")
        last = await world.finish_later()
        assert (last.id, last.status) == (second.id, "done")
        assert [(act.act, act.target) for act in await desk.acts()] == [("cancel", first.id), ("cancel", third.id)]


@pytest.mark.parametrize("given", ["nosuchjob0", "@everyone", "x" * 100, "'; DROP TABLE jobs"])
async def test_there_is_no_such_sound(tmp_path: Path, given: str) -> None:
    """An id of nothing, and of whatever is elsewhere or over, is refused in the same words."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        desk = Desk(world)
        assert "No sound of that id" in await desk.words("cancel", job=given)
        await world.asker.user.slash("ambient generate", scene="gentle rain", duration=2)
        (elsewhere,) = await world.services.store.jobs.history(world.asker.id, limit=1)
        assert "No sound of that id" in await desk.words("cancel", job=elsewhere.id)
        assert await desk.acts() == []


async def test_who_manages_the_server_can_press_cancel(tmp_path: Path) -> None:
    """On another's card, with Manage Server or Manage Messages; that is recorded, and one's own cancelling is not."""
    async with open_world(tmp_path, gate=closed_gate()) as world:
        desk = Desk(world)
        answers = [await world.ask() for _ in range(3)]
        _, second, third = await world.services.store.jobs.unfinished()
        assert "or a moderator can cancel it" in private_words(await world.press(answers[2], "Cancel", by=world.other))
        await world.press(answers[2], "Cancel", by=desk.admin)
        await world.press(answers[1], "Cancel", by=world.moderator)
        await world.press(answers[0], "Cancel")
        world.engine.gate.release(100)
        for _ in range(3):
            assert (await world.outcome()).status == "cancelled"
        assert [(act.act, act.target, act.moderator_id) for act in await desk.acts()] == [
            ("cancel", second.id, world.moderator.id),
            ("cancel", third.id, desk.admin.id),
        ]


async def test_a_moderators_deletion_is_recorded(tmp_path: Path) -> None:
    """Who deletes another's sound is remembered; who deletes their own is not."""
    async with open_world(tmp_path) as world:
        for by in (world.asker, world.moderator):
            answer, job = await world.make()
            await world.press(answer, "Delete", by=by)
            assert (await world.job(job.id)).delivery_state == "deleted"
        (act,) = await Desk(world).acts()
        assert (act.act, act.target, act.moderator_id) == ("delete", job.id, world.moderator.id)


async def test_a_mix_keeps_to_the_limits(tmp_path: Path) -> None:
    """A sound made before a limit was set is not mixed anew beyond it."""
    async with open_world(tmp_path) as world:
        answer, _ = await world.make(scene="rain with a campfire", engine=None)
        await Desk(world).run("limits", engines="audioldm2")
        form = await world.press(answer, "Mix")
        said = private_words(await world.asker.submit_modal(form, {"gain0": "0", "gain1": "0"}))
        assert "made with `procedural`" in said
        assert await world.num_jobs() == 1


async def test_other_servers_see_nothing_of_it(tmp_path: Path) -> None:
    """Limits, pauses, blocks and acts of one server are not another's."""
    async with open_world(tmp_path) as world:
        desk = Desk(world)
        await desk.run("limits", duration=3)
        await desk.run("pause", reason="here")
        await desk.run("block", user=world.asker)
        other = world.env.create_guild("Other server")
        channel = other.create_text_channel("sounds")
        admin, member = admin_of(world, other), other.add_member(world.asker.user)
        card = card_of(await admin.slash(channel, "ambient-admin limits"))
        assert [field.name for field in card.fields] == []
        assert "longest sound: **3 s**" not in card.description
        await member.slash(channel, "ambient generate", scene="gentle rain", duration=4, engine="audioldm2")
        assert (await world.outcome()).guild_id == other.id
        assert await world.services.store.servers.acts(other.id, limit=5) == []


async def test_acts_are_logged_without_what_was_typed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log names server, moderator and act."""
    caplog.set_level(logging.INFO)
    async with open_world(tmp_path) as world:
        desk = Desk(world)
        await desk.run("pause", reason="a private matter")
        await desk.run("block", user=world.other, reason="a private matter")
    assert f"server {world.guild.id} was paused by {desk.admin.id}" in caplog.text
    assert "private matter" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("bot.")
    )
