"""What is said in two places is the same in both: README, Makefile, pins, changelog and the real commands."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import discord
import pytest
from bot_world import open_world

import ambientgen
from bot.client import PERMISSIONS, invite_url
from bot.cogs.about import COMMANDS

ROOT = Path(__file__).parent.parent


def text_of(name: str) -> str:
    """One of the repository's files."""
    return (ROOT / name).read_text(encoding="utf-8")


def code_in(markdown: str) -> str:
    """What stands in code blocks and between backticks."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", markdown, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", prose)])


def leaves(command: dict[str, Any], prefix: str = "/") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each command that can be typed, with its full name."""
    name = f"{prefix}{command['name']}"
    below = [option for option in command.get("options", []) if option["type"] in (1, 2)]
    if not below:
        yield name, command
    for option in below:
        yield from leaves(option, f"{name} ")


def nodes(command: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A command with all its subcommands and options."""
    yield command
    for option in command.get("options", []):
        yield from nodes(option)


@pytest.fixture
async def command(tmp_path: Path) -> dict[str, Any]:
    """`/ambient` as Discord is told it."""
    async with open_world(tmp_path) as world:
        found = world.env.backend.find_command("ambient", None)
    assert found is not None
    return found


async def test_the_help_card_names_the_commands_there_are(command: dict[str, Any]) -> None:
    """Neither more nor fewer."""
    assert set(COMMANDS) == {name for name, _ in leaves(command)}


async def test_the_readme_names_the_commands_there_are(command: dict[str, Any]) -> None:
    """In its table, and nowhere does it name one that does not exist."""
    readme = text_of("README.md")
    rows = re.findall(r"^\| `(/ambient [^`]+)` \|", readme, flags=re.MULTILINE)
    assert sorted(rows) == sorted(COMMANDS)
    # `/ambient generate scene:` names an option as well; `save|list` names several.
    named = re.findall(r"/ambient ((?:preset )?[a-z|]+)", readme)
    last_words = {word for name in named for word in name.removeprefix("preset ").split("|")}
    assert last_words <= {name.rsplit(" ", 1)[1] for name in COMMANDS}


async def test_the_readme_names_the_options_there_are(command: dict[str, Any]) -> None:
    """Every option of `/ambient generate`, in the command's order, and each format, engine and quality."""
    (generate,) = [leaf for name, leaf in leaves(command) if name == "/ambient generate"]
    options = {option["name"]: option for option in generate["options"]}
    readme = text_of("README.md")
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.*) \|$", readme, flags=re.MULTILINE))
    assert list(rows) == list(options)
    for name, option in options.items():
        for choice in option.get("choices", []):
            assert f"`{choice['value']}`" in rows[name]
        if "max_value" in option and name != "seed":
            assert f"{option['min_value']:g} to {option['max_value']:g}" in rows[name]


async def test_the_command_fits_what_discord_takes(command: dict[str, Any]) -> None:
    """8,000 characters as a whole, 25 options and choices, names of 32 and descriptions of 100 characters."""
    num_chars = 0
    for node in nodes(command):
        assert re.fullmatch(r"[a-z_-]{1,32}", node["name"])
        assert 1 <= len(node["description"]) <= 100
        assert len(node.get("options", [])) <= 25
        choices = node.get("choices", [])
        assert len(choices) <= 25
        assert all(1 <= len(str(choice["name"])) <= 100 for choice in choices)
        num_chars += len(node["name"]) + len(node["description"])
        num_chars += sum(len(str(choice["name"])) + len(str(choice["value"])) for choice in choices)
        required = [option.get("required", False) for option in node.get("options", [])]
        assert required == sorted(required, reverse=True)
    assert num_chars <= 8000


async def test_the_command_is_for_servers_and_direct_messages(command: dict[str, Any]) -> None:
    """It needs no permission of the people, and is installed to servers only."""
    assert command["contexts"] == [0, 1]
    assert command["integration_types"] == [0]
    assert command["default_member_permissions"] is None


def test_the_invite_asks_for_what_is_documented() -> None:
    """Six permissions, named in the README, and both scopes."""
    readme = " ".join(text_of("README.md").split())
    names = ("view_channel", "send_messages", "send_messages_in_threads", "embed_links", "attach_files",
             "read_message_history")  # fmt: skip
    assert discord.Permissions(**dict.fromkeys(names, True)) == PERMISSIONS
    for words in ("View Channel", "Send Messages in Threads", "Embed Links", "Attach Files", "Read Message History"):
        assert words in readme
    assert f"permissions={PERMISSIONS.value}" in invite_url(1)
    assert "scope=bot+applications.commands" in invite_url(1)


def test_every_make_target_that_is_named_exists() -> None:
    """In the README, the contributors' guide, the program's own words, and `make help`."""
    makefile = text_of("Makefile")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    sources = [
        path.read_text(encoding="utf-8") for name in ("ambientgen", "bot") for path in (ROOT / name).rglob("*.py")
    ]
    guides = [
        code_in(path.read_text(encoding="utf-8")) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    ]
    named = {name for text in guides for name in re.findall(r"^make ([a-z]+)", text, flags=re.MULTILINE)}
    named |= {name for text in sources for name in re.findall(r"`make ([a-z]+)`", text)}
    assert named
    assert named <= targets
    helped = set(re.findall(r'@echo "make ([a-z]+)', makefile))
    assert {"run", "model", "test", "check", "bench", "clean"} <= helped <= targets


def test_every_link_of_the_readme_leads_somewhere() -> None:
    """Every file or folder it points to is there."""
    links = re.findall(r"\]\(([^)#]+)\)", text_of("README.md"))
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert missing == []


def test_the_readmes_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it shows can be pasted; only the length is shortened here."""
    (example,) = re.findall(r"^```python\n(.*?)^```", text_of("README.md"), flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example.replace("seed=7)", "seed=7, duration_s=2.0)"), {})  # noqa: S102 - our own text
    assert "'duration_s': 2.0" in capsys.readouterr().out
    assert (tmp_path / "rain.ogg").exists()


def _requirements() -> list[str]:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    names = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    return sorted(names)


def _pins() -> dict[str, str]:
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;#\n]+)", text_of("constraints.txt"), flags=re.MULTILINE)
    return {_plain(name): version for name, version in pins}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", _requirements())
def test_every_requirement_is_pinned_at_what_is_tested(name: str) -> None:
    """Each has an exact pin, and the version that runs these tests is that one."""
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name), "the versions belong into constraints.txt"
    pin = _pins()[_plain(name)]
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed here")
    assert installed.partition("+")[0] == pin


def test_the_version_is_the_newest_in_the_changelog() -> None:
    """And the changelog's entries go from the newest to the oldest."""
    entries = re.findall(r"^## (\d+)\.(\d+)\.(\d+) — (\d{4}-\d{2}-\d{2})$", text_of("CHANGELOG.md"), flags=re.MULTILINE)
    assert ".".join(entries[0][:3]) == ambientgen.__version__
    assert len(entries) == len(re.findall(r"^## \d", text_of("CHANGELOG.md"), flags=re.MULTILINE))
    order = [(date, *map(int, numbers)) for *numbers, date in entries]
    assert order == sorted(order, reverse=True)


def test_the_public_names_are_there() -> None:
    """What `ambientgen` offers is what it lists."""
    assert all(hasattr(ambientgen, name) for name in ambientgen.__all__)
