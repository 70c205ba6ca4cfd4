"""The whole bot in one process: its real client, services and store, an engine by script, and a simulated Discord."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import discord
import simcord
from scripted import ScriptedEngine
from simcord.components import walk_components

from ambientgen.engines.base import Progress
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.executor import Executor, Handle
from ambientgen.recipe import Recipe
from ambientgen.render import Output, Soundscape
from bot.client import AmbientClient
from bot.clips import Clips
from bot.delivery import Delivery
from bot.errors import words_for
from bot.jobs import JobQueue, JobView
from bot.services import Services
from bot.settings import Settings
from bot.store import Job, Store

#: Generous: what a slow machine needs at most. Nothing waits this long unless something is broken.
PATIENCE_S = 20.0
_MODERATOR = discord.Permissions(manage_messages=True)


class _TellingDelivery(Delivery):
    """Delivers as ever, and says when it is done; progress edits come only when a test advances the time."""

    env: simcord.Env

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.delivered: asyncio.Queue[Job] = asyncio.Queue()

    async def deliver(self, job: Job) -> None:
        await super().deliver(job)
        self.delivered.put_nowait(job)

    async def _follow(self, job: Job, look: Callable[[], JobView | None]) -> None:
        await self.env.external_wait(super()._follow(job, look), reason="the next progress edit")


class _DeclaringHandle:
    """A handle that tells the simulation that its result comes from outside, so that no step waits for an engine."""

    def __init__(self, handle: Handle, env: simcord.Env) -> None:
        self._handle = handle
        self._env = env
        self.cancel = handle.cancel

    @property
    def progress(self) -> Progress:
        return self._handle.progress

    @property
    def running_since_s(self) -> float | None:
        return self._handle.running_since_s

    async def result(self) -> Soundscape:
        try:
            return await self._env.external_wait(self._handle.result(), reason="the engine works")
        except simcord.SetupError:  # a job that a warmed-up engine released: no person's step waits for it
            return await self._handle.result()


class _DeclaringExecutor(Executor):
    """The real executor with handles that declare what they wait for."""

    env: simcord.Env

    def submit(self, job_id: str, recipe: Recipe, output: Output) -> Any:
        return _DeclaringHandle(super().submit(job_id, recipe, output), self.env)


@dataclass(kw_only=True)
class World:
    """A running bot with a server, a channel and three people: who asks, another one, and a moderator."""

    env: simcord.Env
    services: Services
    delivery: _TellingDelivery
    engine: ScriptedEngine
    guild: simcord.GuildHandle
    channel: simcord.ChannelHandle
    asker: simcord.MemberActor
    other: simcord.MemberActor
    moderator: simcord.MemberActor

    async def ask(self, *, by: simcord.MemberActor | None = None, **options: Any) -> simcord.InteractionResult:
        """`/ambient generate`; two seconds of rain by the scripted engine unless the options say otherwise."""
        options = {"scene": "gentle rain", "duration": 2, "engine": "audioldm2", **options}
        options = {name: value for name, value in options.items() if value is not None}
        return await (by or self.asker).slash(self.channel, "ambient generate", **options)

    async def command(
        self, command: str, /, *, by: simcord.MemberActor | None = None, **options: Any
    ) -> simcord.InteractionResult:
        """Any other command below `/ambient`."""
        return await (by or self.asker).slash(self.channel, f"ambient {command}", **options)

    async def outcome(self) -> Job:
        """Wait until the next outcome was delivered; the job as the store has it then."""
        delivered = await asyncio.wait_for(self.delivery.delivered.get(), PATIENCE_S)
        await self.env.settle()
        return await self.job(delivered.id)

    async def make(self, **options: Any) -> tuple[simcord.InteractionResult, Job]:
        """`/ambient generate` until its outcome was delivered."""
        answer = await self.ask(**options)
        return answer, await self.outcome()

    async def press(
        self, on: simcord.InteractionResult | discord.Message, label: str, *, by: simcord.MemberActor | None = None
    ) -> simcord.InteractionResult:
        """Press a button on an answer's message."""
        message = on if isinstance(on, discord.Message) else shown(on).message
        return await (by or self.asker).click(message, label=label)

    async def job(self, job_id: str) -> Job:
        """A job as the store has it."""
        job = await self.services.store.jobs.get(job_id)
        assert job is not None
        return job

    async def num_jobs(self) -> int:
        """How many requests were ever written down."""
        return (await self.services.store.jobs.usage()).num_jobs

    def channel_hidden_from(self, member: simcord.MemberActor) -> simcord.ChannelHandle:
        """A channel that one person cannot read."""
        denied = discord.PermissionOverwrite(view_channel=False)
        return self.guild.create_text_channel("hidden", overwrites={member: denied})

    async def wrote_nothing(self) -> bool:
        """True if no request was written down, none waits, and no sound was made."""
        queue = self.services.queue
        num_files = len(list(self.services.clips.folder.iterdir()))
        return await self.num_jobs() == num_files == len(queue.order()) + len(queue.running()) == 0

    def public_messages(self) -> list[discord.Message]:
        """What everybody sees in the channel."""
        return [message for message in self.channel.history() if not message.flags.ephemeral]

    async def next_step(self) -> None:
        """Let the engine take one step, and wait until it stands before the next."""
        assert self.engine.gate is not None
        assert await asyncio.to_thread(self.engine.started.wait, PATIENCE_S)
        self.engine.started.clear()
        self.engine.gate.release()
        assert await asyncio.to_thread(self.engine.started.wait, PATIENCE_S)

    async def finish_later(self) -> Job:
        """Let the engine take every step from here on, and wait for the next outcome."""
        assert self.engine.gate is not None
        self.engine.gate.release(100)
        return await self.outcome()

    def forget_limits(self) -> None:
        """From here on the people's clients check neither ranges nor choices, as a hostile one would not."""
        command = self.env.backend.find_command("ambient", self.guild.id)
        assert command is not None
        for option in _options(command):
            for limit in ("min_value", "max_value", "min_length", "max_length", "choices"):
                option.pop(limit, None)

    def channel_without(self, permission: str) -> simcord.ChannelHandle:
        """A channel in which the bot lacks a permission."""
        assert self.guild.me is not None
        denied = discord.PermissionOverwrite(**{permission: False})
        return self.guild.create_text_channel(f"without-{permission}", overwrites={self.guild.me: denied})


def _options(command: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for option in command.get("options", []):
        yield option
        yield from _options(option)


def shown(result: simcord.InteractionResult) -> simcord.ResponseMessage:
    """The message that answers an interaction."""
    message = result.response or (result.followups[0] if result.followups else None)
    assert message is not None, result
    return message


def private_words(result: simcord.InteractionResult) -> str:
    """The words of a private answer."""
    message = shown(result)
    assert message.ephemeral
    return message.content


def card_of(result: simcord.InteractionResult) -> discord.Embed:
    """The one card of an answer."""
    (embed,) = shown(result).embeds
    return embed


def field_of(embed: discord.Embed, name: str) -> str:
    """The text of one of a card's fields."""
    (value,) = [field.value for field in embed.fields if field.name == name]
    assert value is not None
    return value


def labels_of(result: simcord.InteractionResult) -> list[str]:
    """The labels of the buttons under an answer."""
    return [part["label"] for part in walk_components(shown(result).components) if "label" in part]


def custom_id_of(result: simcord.InteractionResult, prefix: str) -> str:
    """The one component under an answer whose id begins so."""
    ids = [part.get("custom_id", "") for part in walk_components(shown(result).components)]
    (found,) = [custom_id for custom_id in ids if custom_id.startswith(prefix)]
    return found


@asynccontextmanager
async def open_world(
    folder: Path, *, tokens_live: bool = True, is_warm: bool = True, max_pending: int = 50, **engine_options: Any
) -> AsyncIterator[World]:
    """Start the bot on an empty folder, and take it down again.

    Args:
        folder: for its data.
        tokens_live: False: every interaction's token is dead by the time of its outcome.
        is_warm: False: do not wait for the engine.
        max_pending: unfinished jobs of everybody together.
        engine_options: of the scripted engine.
    """
    settings = Settings.load({"AMBIENT_DATA_DIR": str(folder)}, None)
    engine = ScriptedEngine(**engine_options)
    clips = Clips(folder / "clips", 2**30)
    clips.prepare()
    async with Store.open(folder / "ambient.db") as store:
        executor = _DeclaringExecutor([engine, ProceduralEngine()])
        client = AmbientClient()
        delivery = _TellingDelivery(client=client, store=store, clips=clips, specs=executor.specs)
        queue = JobQueue(
            store=store,
            executor=executor,
            clips=clips,
            presenter=delivery,
            max_pending=max_pending,
            max_pending_per_user=settings.max_pending_per_user,
        )
        client.services = Services(
            settings=settings, store=store, executor=executor, clips=clips, queue=queue, delivery=delivery
        )
        env = simcord.Env(client, check_errors=False, settle_timeout=PATIENCE_S)
        executor.env = delivery.env = env
        changed = asyncio.Event()

        def engines_changed() -> None:
            with env.time_context():
                queue.engines_changed()
            changed.set()

        executor.start(engines_changed)
        if is_warm:
            await asyncio.wait_for(changed.wait(), PATIENCE_S)
        await env.start()
        try:
            with env.time_context():
                if tokens_live:  # the simulation's clock stands at its own epoch, and tokens are dated by it
                    await env.advance_time(max(0.0, (datetime.now(UTC) - env.now()).total_seconds()))
                yield _peopled(env, client.services, delivery, engine)
        finally:
            if engine.gate is not None:
                engine.gate.release(1000)
            await queue.close(PATIENCE_S)
            await env.shutdown()
    _only_errors_with_words(env)


def _peopled(env: simcord.Env, services: Services, delivery: _TellingDelivery, engine: ScriptedEngine) -> World:
    guild = env.create_guild("Test server")
    moderators = guild.create_role("Moderators", permissions=_MODERATOR)
    return World(
        env=env,
        services=services,
        delivery=delivery,
        engine=engine,
        guild=guild,
        channel=guild.create_text_channel("sounds"),
        asker=guild.add_member(env.create_user("asker")),
        other=guild.add_member(env.create_user("other")),
        moderator=guild.add_member(env.create_user("moderator"), roles=[moderators]),
    )


def _only_errors_with_words(env: simcord.Env) -> None:
    """Whatever the bot met in a flow, it had words for."""
    causes = [
        error.original if isinstance(error, discord.app_commands.CommandInvokeError) else error for error in env.errors
    ]
    if bugs := [cause for cause in causes if words_for(cause) is None]:
        raise BaseExceptionGroup("the bot met bugs in this flow", bugs)
