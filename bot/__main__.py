"""`python -m bot [backup PATH]`: builds everything, passes it on, and takes it down again in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import discord

from ambientgen import __version__
from ambientgen.diffusion.compiled import COMPILE_THREAD
from ambientgen.engines.audioldm2 import AudioLDM2Engine
from ambientgen.engines.base import Engine, EngineWithWeights
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.engines.stable_audio import StableAudioEngine
from ambientgen.errors import AmbientError, EngineError
from ambientgen.executor import Executor
from ambientgen.ideas import built_in_presets
from ambientgen.stems import StemCache
from bot import backup, welcome
from bot.client import AmbientClient, invite_url
from bot.clips import Clips
from bot.delivery import Delivery
from bot.errors import DISCORD_ERRORS
from bot.jobs import JobQueue
from bot.lock import AlreadyRunningError, DataFolderError, DataFolderLock
from bot.services import Services
from bot.settings import Settings, SettingsError
from bot.store import Store, StoreError

log = logging.getLogger("bot")

#: How long a stop waits for the running step to end.
_GRACE_S = 8.0


def main() -> int:
    """Start the bot, show what it does where there is no token yet, or back it up. The answer is the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a Windows console with an old code page cannot print every character
            stream.reconfigure(errors="replace")
    if sys.argv[1:2] == ["backup"]:
        return backup.run(sys.argv[2:])
    try:
        settings = Settings.load(os.environ, Path(".env"))
        if settings.discord_token is None:
            print(welcome.words(welcome.first_sound(settings.data_dir, settings.target_lufs)))
            return 0
        _set_up_logs(settings.log_level)
        with DataFolderLock(settings.data_dir):
            engines = _engines(settings)
            _import_packages(engines)
            built_in_presets()  # and the vocabulary: read at the first command, it would stop the loop for 0.1 s
            asyncio.run(_serve(settings, engines))
    except (SettingsError, DataFolderError, AlreadyRunningError, StoreError, AmbientError) as error:
        print(f"AmbientGen cannot start: {error}", file=sys.stderr)
        return 1
    except discord.LoginFailure:
        print(
            "AmbientGen cannot start: Discord does not accept DISCORD_TOKEN. Copy it again from your application's "
            "“Bot” page (https://discord.com/developers/applications); resetting it there makes a new one.",
            file=sys.stderr,
        )
        return 1
    except (*DISCORD_ERRORS, discord.GatewayNotFound, discord.ConnectionClosed) as error:
        log.debug("the connection failed", exc_info=True)
        print(
            f"AmbientGen cannot reach Discord ({type(error).__name__}). Check the network and try again.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def _serve(settings: Settings, engines: Sequence[Engine]) -> None:
    stop = asyncio.Event()
    _on_signal(asyncio.get_running_loop(), stop.set)
    clips = Clips(settings.data_dir / "clips", settings.max_clips_mib * 2**20)
    clips.prepare()
    async with Store.open(settings.data_dir / "ambient.db") as store, AmbientClient() as client:
        kept_stems = StemCache(settings.data_dir / "stems", settings.max_stems_mib * 2**20)
        kept_stems.prepare()
        executor = Executor(engines, kept_stems=kept_stems)
        delivery = Delivery(client=client, store=store, clips=clips, specs=executor.specs)
        queue = JobQueue(
            store=store,
            executor=executor,
            clips=clips,
            presenter=delivery,
            max_pending=settings.max_pending,
            max_pending_per_user=settings.max_pending_per_user,
        )
        client.services = Services(
            settings=settings, store=store, executor=executor, clips=clips, queue=queue, delivery=delivery
        )
        log.info("AmbientGen %s starts", __version__)
        life = asyncio.create_task(_live(client, settings, executor, queue))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({life, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                life.result()
        finally:
            log.info("stopping")
            stopping.cancel()
            await queue.close(_GRACE_S)
            await client.close()
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
            log.info("stopped")


async def _live(client: AmbientClient, settings: Settings, executor: Executor, queue: JobQueue) -> None:
    """Log in, take up what an earlier process left, and serve until the connection is closed."""
    assert settings.discord_token is not None  # main() handles its absence
    await client.login(settings.discord_token.reveal())
    # Before the gateway connects: what an earlier process left comes before anything new.
    await queue.recover()
    executor.start(queue.engines_changed)
    log.info("invite link: %s", invite_url(client.application_id or 0))
    await client.connect()


def _engines(settings: Settings) -> list[Engine]:
    """The preferred engine first."""
    engines: list[Engine] = []
    if settings.model is not None:
        engines.append(
            AudioLDM2Engine(
                settings.model,
                settings.device,
                settings.dtype,
                plain=settings.diffusion_loop == "diffusers",
                cache_dir=settings.data_dir / "compiled",
            )
        )
    if settings.stable_audio_model is not None:
        engines.append(StableAudioEngine(settings.stable_audio_model, settings.device, settings.dtype))
    engines.append(ProceduralEngine())
    return engines


def _import_packages(engines: Sequence[Engine]) -> None:
    """Before the event loop runs: torch, imported in a thread beside it, stops it for a quarter of a second."""
    for engine in engines:
        if isinstance(engine, EngineWithWeights) and engine.installed():
            log.info("importing the packages of %s ...", engine.spec.name)
            try:
                engine.import_packages()
            except EngineError:
                log.exception("the packages of %s are broken", engine.spec.name)


def _on_signal(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """Stop in order on Ctrl-C and SIGTERM. Windows' loops take no handlers: there the signal module does it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def _set_up_logs(level: str) -> None:
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S"
    )
    # At DEBUG discord.py logs the addresses of webhooks, which hold interaction tokens.
    logging.getLogger("discord").setLevel(max(logging.getLevelName(level), logging.INFO))
    # Connects, resumes and rate limits are told by their warnings.
    logging.getLogger("discord.gateway").setLevel(logging.WARNING)
    # The bot joins no voice channels, so the packages for that need not be missed.
    discord.VoiceClient.warn_nacl = False
    discord.VoiceClient.warn_dave = False


def _leave(code: int) -> NoReturn:
    """End the process, also during a compilation, which nothing can stop: Python would wait for it or abort."""
    if any(thread.name == COMPILE_THREAD for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _leave(main())
