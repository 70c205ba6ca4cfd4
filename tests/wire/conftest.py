"""Fixtures of the wire tests. They need a stand-in for Discord in the folder that AMBIENT_DISCORD_STANDIN names."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from wire.world import Bot, Place, World


@pytest.fixture(scope="session")
def standin() -> ModuleType:
    """The stand-in's client."""
    folder = os.environ.get("AMBIENT_DISCORD_STANDIN")
    if not folder:
        pytest.skip("AMBIENT_DISCORD_STANDIN names no folder with a stand-in for Discord")
    spec = importlib.util.spec_from_file_location("discord_standin_control", Path(folder) / "control.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shared_world(standin: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running bot for all tests that do it no harm; each has a server of its own in it."""
    with World(standin, tmp_path_factory.mktemp("bot"), num_places=150) as world:
        world.start()
        yield world
        assert world.bot.stop() == 0


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """The running bot, checked after the test."""
    yield shared_world
    shared_world.check()


@pytest.fixture
def place(world: World) -> Place:
    """A server of this test's own."""
    return world.new_place()


@pytest.fixture
def own_world(standin: ModuleType, tmp_path: Path) -> Iterator[World]:
    """A stand-in and a bot of this test's own; the test starts the bot."""
    with World(standin, tmp_path) as world:
        yield world
        world.check()


@pytest.fixture
def new_bot(shared_world: World, tmp_path: Path) -> Bot:
    """A bot with an empty folder that was not started yet; the Discord it finds has another one running."""
    return Bot(tmp_path, shared_world.bot.environ)
