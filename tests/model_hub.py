"""A small model hub on 127.0.0.1, and a pipeline's folder for it to serve.

It answers as the real one does in what a download uses: a listing with sizes and checksums, files by name, large ones
through a redirect to their bytes, parts of them by `Range`. It can be told to misbehave.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
_LARGE_SUFFIXES = (".safetensors", ".bin", ".ckpt")


def write_pipeline(folder: Path, *, pipeline: str = "AudioLDM2Pipeline") -> Path:
    """Write what a pipeline's folder holds, with 300 kB of weights in which no two bytes in a row are the same."""
    parts = {
        "unet": ("AudioLDM2UNet2DConditionModel", {"config.json": b"{}", Path(WEIGHTS).name: _safetensors(300_000)}),
        "vae": ("AutoencoderKL", {"config.json": b"{}", "diffusion_pytorch_model.safetensors": _safetensors(5_000)}),
        "scheduler": ("DDIMScheduler", {"scheduler_config.json": b'{"beta": 1}'}),
        "tokenizer": ("T5TokenizerFast", {"tokenizer_config.json": b'{"max": 77}', "spiece.model": b"pieces"}),
    }
    for name, (_kind, files) in parts.items():
        (folder / name).mkdir(parents=True)
        for file, content in files.items():
            (folder / name / file).write_bytes(content)
    index = {"_class_name": pipeline, **{name: ["a library", kind] for name, (kind, _files) in parts.items()}}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Asked:
    """One request: its path, and the first byte asked for (0: from the beginning)."""

    path: str
    start: int = 0


@dataclass
class ModelHub:
    """What the hub serves, what it was asked, and how it misbehaves.

    Attributes:
        folder: the files of its one model.
        model: that model's id.
        asked: every request, in order.
        refuse: (status, error code) for whoever asks for a path that ends so; "" matches all.
        break_after: how many bytes of the weights go out before the connection breaks; None: all.
        hold_after: after how many bytes of the weights the hub falls silent, until `released`; None: never.
        spoil: True: a byte of the weights is wrong.
        knows_ranges: False: always the whole file.
    """

    folder: Path
    model: str = "someone/tiny-audioldm2"
    asked: list[Asked] = field(default_factory=list)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    break_after: int | None = None
    hold_after: int | None = None
    released: threading.Event = field(default_factory=threading.Event)
    spoil: bool = False
    knows_ranges: bool = True
    url: str = ""

    def starts(self, name: str) -> list[int]:
        """Where each request for a file's bytes began."""
        checksum = hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
        return [asked.start for asked in self.asked if asked.path in (f"cdn/{checksum}", _resolved(self.model, name))]

    def listing(self) -> dict[str, Any]:
        """The model's facts, as the hub's `/api/models/` gives them."""
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        siblings = [_sibling(path.relative_to(self.folder).as_posix(), path.read_bytes()) for path in files]
        return {"id": self.model, "sha": COMMIT, "siblings": siblings}

    @contextmanager
    def running(self) -> Iterator[ModelHub]:
        """Serve for as long as this is open."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: ModelHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_args: object) -> None:
        """Be quiet."""

    def _answer(self) -> None:
        hub = self.hub
        path = unquote(urlsplit(self.path).path).strip("/")
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        hub.asked.append(Asked(path, start))
        refused = next((answer for end, answer in hub.refuse.items() if path.endswith(end)), None)
        if refused is not None:
            self._send(refused[0], b"{}", {"X-Error-Code": refused[1]} if refused[1] else {})
        elif path == f"api/models/{hub.model}":
            self._send(200, json.dumps(hub.listing()).encode())
        elif path.startswith("cdn/"):
            self._send_large(next(c for c in self._contents() if hashlib.sha256(c).hexdigest() == path[4:]), start)
        elif path.startswith(prefix := _resolved(hub.model, "")):
            self._send_file(path.removeprefix(prefix))
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _contents(self) -> Iterator[bytes]:
        return (path.read_bytes() for path in self.hub.folder.rglob("*") if path.is_file())

    def _send_file(self, name: str) -> None:
        content = (self.hub.folder / name).read_bytes()
        facts = {"ETag": f'"{_git_name(content)}"', "X-Repo-Commit": COMMIT}
        if name.endswith(_LARGE_SUFFIXES):
            checksum = hashlib.sha256(content).hexdigest()
            facts |= {"X-Linked-Etag": f'"{checksum}"', "X-Linked-Size": str(len(content))}
            self._send(302, b"", {**facts, "Location": f"/cdn/{checksum}"})
        else:
            self._send(200, content, facts)

    def _send_large(self, content: bytes, start: int) -> None:
        hub = self.hub
        if hub.spoil:
            content = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
        if start and hub.knows_ranges:
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            self._send(206, content[start:], headers)
        else:
            self._send(200, content)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        hub = self.hub
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        large = "/cdn/" in self.path
        if large and hub.hold_after is not None and len(content) > hub.hold_after:
            self.wfile.write(content[: hub.hold_after])
            hub.released.wait(30)
        elif large and hub.break_after is not None:
            self.wfile.write(content[: hub.break_after])  # and the connection ends before what was promised
        else:
            self.wfile.write(content)


def _resolved(model: str, name: str) -> str:
    return f"{model}/resolve/{COMMIT}/{name}"


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": _git_name(content)}
    if name.endswith(_LARGE_SUFFIXES):
        checksum = hashlib.sha256(content).hexdigest()
        facts["lfs"] = {"size": len(content), "sha256": checksum, "pointerSize": 134}
    return facts


def _git_name(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _safetensors(num_bytes: int) -> bytes:
    header = json.dumps({"weight": {"dtype": "U8", "shape": [num_bytes], "data_offsets": [0, num_bytes]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(i % 251 for i in range(num_bytes))
