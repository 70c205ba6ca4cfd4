"""`python -m ambientgen doctor` as its own process, against a Discord on loopback."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import discord
import pytest

from bot.client import PERMISSIONS, invite_url
from wire.world import World

pytestmark = pytest.mark.wire
_WRONG_TOKEN = "another.fake.token"  # noqa: S105 - it opens nothing
_ALL = PERMISSIONS.value

Lines = list[tuple[str, str, str]]
Doctor = Callable[..., tuple[int, Lines]]


class Guilds(BaseHTTPRequestHandler):
    """The list of the bot's servers, which the stand-in does not have; everything else is the stand-in's."""

    guilds: ClassVar[list[dict[str, Any]]]
    standin: ClassVar[str]

    def do_GET(self) -> None:
        """Discord's list, at most `limit` with ids above `after`; or the stand-in's answer."""
        url = urlsplit(self.path)
        if url.path == "/api/v10/users/@me/guilds":
            query = {name: int(values[0]) for name, values in parse_qs(url.query).items()}
            later = [guild for guild in self.guilds if int(guild["id"]) > query.get("after", 0)]
            self._send(200, {"Content-Type": "application/json"}, json.dumps(later[: query["limit"]]).encode())
            return
        headers = {name: self.headers[name] for name in ("Authorization", "User-Agent")}
        request = urllib.request.Request(f"{self.standin}{self.path}", headers=headers)  # noqa: S310 - on loopback
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - likewise
                self._send(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                self._send(error.code, error.headers, error.read())

    def log_message(self, *_args: object) -> None:
        """Be quiet."""

    def _send(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name in ("Content-Type", "Via", "Retry-After") or name.startswith("X-RateLimit"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def run(own_world: World) -> Iterator[Doctor]:
    """Runs the doctor beside the bot: its exit code and its lines."""
    Guilds.guilds, Guilds.standin = [], own_world.server.info["api"].removesuffix("/api/v10")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Guilds)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()

    def run(**environ: str) -> tuple[int, Lines]:
        address = f"http://127.0.0.1:{server.server_address[1]}/api/v10"
        done = subprocess.run(
            [sys.executable, "-m", "ambientgen", "doctor"],
            cwd=own_world.bot.folder,
            env={**own_world.bot.environ, "PYTHONUTF8": "1", "DISCORD_API_BASE": address, **environ},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        assert own_world.server.info["token"] not in done.stdout
        assert _WRONG_TOKEN not in done.stdout
        found = [re.fullmatch(r"(ok|--|!!)  (\S.*?) {2,}(\S.*)", line) for line in done.stdout.splitlines()]
        assert all(found), done.stdout
        lines = [(match[1], match[2], match[3]) for match in found if match]
        assert done.returncode == (1 if any(mark == "!!" for mark, _, _ in lines) else 0)
        return done.returncode, lines

    yield run
    server.shutdown()
    thread.join()
    server.server_close()


def named(lines: Lines, name: str) -> list[tuple[str, str]]:
    """Mark and words of the lines of that name."""
    return [(mark, words) for mark, its_name, words in lines if its_name == name]


def guild(number: int, name: str, permissions: int) -> dict[str, Any]:
    """A server as Discord lists it."""
    return {"id": str(number), "name": name, "icon": None, "owner": False, "permissions": str(permissions)}


def test_a_bot_that_is_set_up(run: Doctor, own_world: World) -> None:
    """Discord is reached, the link is the bot's, and servers that give all, or are the bot's to run, are well."""
    Guilds.guilds = [guild(1, "Rain", _ALL | 1 << 40), guild(2, "Shine", discord.Permissions(administrator=True).value)]
    code, lines = run()
    assert code == 0, lines
    application_id = own_world.server.info["app_id"]
    ((mark, words),) = named(lines, "discord")
    assert mark == "ok"
    assert words.endswith(f"“ambient” ({application_id})")
    assert named(lines, "invite link") == [("ok", invite_url(application_id))]
    assert named(lines, "servers") == [("ok", "2, and no permission is missing in any")]
    assert named(lines, "intents") == [("--", "no privileged ones are needed; you can switch off: message content")]
    asked = {request["path"] for request in own_world.control.requests()}
    assert asked <= {"/users/@me", "/oauth2/applications/@me", "/applications/@me"}, "a look changes nothing"


def test_a_server_that_gives_too_little(run: Doctor) -> None:
    """It is named with what it does not give; hostile names stay on their line."""
    lacking = PERMISSIONS.value & ~discord.Permissions(view_channel=True, send_messages_in_threads=True).value
    Guilds.guilds = [
        guild(1, "Rain", _ALL),
        guild(2, "Two\nlines\x1b[2J", lacking),
        guild(3, "Shine", _ALL & ~discord.Permissions(attach_files=True).value),
    ]
    code, lines = run()
    assert code == 1
    assert named(lines, "servers") == []
    (first, second) = named(lines, "server")
    assert first[0] == second[0] == "!!"
    assert first[1].startswith("“Two lines [2J” does not give the bot View Channel, Send Messages In Threads: ")
    assert second[1].startswith("“Shine” does not give the bot Attach Files: ")


def test_more_servers_than_discord_lists_at_once(run: Doctor) -> None:
    """All pages are read."""
    Guilds.guilds = [guild(number, f"Server {number}", _ALL) for number in range(1, 402)]
    Guilds.guilds[-1]["permissions"] = "0"
    code, lines = run()
    assert code == 1
    ((_, words),) = named(lines, "server")
    assert words.startswith("“Server 401” does not give the bot ")


def test_no_server_yet(run: Doctor) -> None:
    """No fault, but something to do."""
    code, lines = run()
    assert code == 0
    assert named(lines, "servers") == [("--", "none yet: open the invite link and choose one")]


def test_a_wrong_token(run: Doctor) -> None:
    """What to do is told, and the token is not."""
    code, lines = run(DISCORD_TOKEN=_WRONG_TOKEN)
    assert code == 1
    ((mark, words),) = named(lines, "discord")
    assert mark == "!!"
    assert "does not accept DISCORD_TOKEN" in words
    assert named(lines, "invite link") == []


def test_discord_is_down(run: Doctor, own_world: World) -> None:
    """An answer that is none is not taken for a refusal of the token."""
    own_world.control.fault(match="GET /users/@me", kind="html", status=503)
    code, lines = run()
    assert code == 1
    ((mark, words),) = named(lines, "discord")
    assert mark == "!!"
    assert words.startswith("cannot be reached (DiscordServerError)")


def test_beside_a_running_bot(run: Doctor, own_world: World) -> None:
    """Its process is named, its database is looked at while it is in use, and it works on."""
    own_world.start()
    place = own_world.new_place()
    own_world.make(place.ann, place.channel)
    assert own_world.bot.process is not None
    code, lines = run()
    assert code == 0
    ((mark, words),) = named(lines, "bot")
    assert mark == "ok"
    assert f"(process {own_world.bot.process.pid})" in words
    ((mark, words),) = named(lines, "database")
    assert mark == "ok"
    own_world.make(place.ann, place.channel)
    assert own_world.bot.stop() == 0
