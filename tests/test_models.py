"""Model weights: what is said of them, whether they are whole, and fetching them from a hub on this machine."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import pytest

from ambientgen import models
from ambientgen.errors import AmbientError, ModelMissingError, StorageError

MODEL = "someone/tiny-audioldm2"
COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """The few routes of the hub that a download uses, serving one folder as `MODEL`."""

    folder: ClassVar[Path]
    requests: ClassVar[list[str]]
    status: ClassVar[int]
    broken_file: ClassVar[str]

    def do_HEAD(self) -> None:
        """The facts of a file."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """A file, or a list."""
        self._answer(with_body=True)

    def log_message(self, *_args: object) -> None:
        """Be quiet."""

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.requests.append(path)
        if self.status != 200 or (self.broken_file and path.endswith(self.broken_file)):
            self._send(self.status if self.status != 200 else 403, b"{}")
        elif path in (f"api/models/{MODEL}", f"api/models/{MODEL}/revision/main"):
            siblings = [{"rfilename": entry["path"], "size": entry["size"]} for entry in self._tree()]
            self._send(200, json.dumps({"id": MODEL, "sha": COMMIT, "siblings": siblings}).encode())
        elif path == f"api/models/{MODEL}/tree/{COMMIT}":
            self._send(200, json.dumps(self._tree()).encode())
        elif path.startswith(f"{MODEL}/resolve/"):
            content = (self.folder / path.split("/", 4)[4]).read_bytes()
            self._send(200, content, with_body=with_body)
        else:
            self._send(404, b"{}")

    def _tree(self) -> list[dict[str, Any]]:
        return [
            {
                "type": "file",
                "path": str(path.relative_to(self.folder)),
                "size": path.stat().st_size,
                "oid": hashlib.sha256(path.read_bytes()).hexdigest()[:40],
            }
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        ]

    def _send(self, status: int, content: bytes, *, with_body: bool = True) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()[:40]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(content)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache of the test's own."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(tiny_model_path: Path, cache: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a hub with the tiny model and some files no pipeline needs."""
    assert not cache.exists()
    folder = Path(shutil.copytree(tiny_model_path, tmp_path / "served"))
    (folder / "README.md").write_text("A model card.")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a copy in the old format")
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"a copy in half precision")
    Hub.folder, Hub.requests, Hub.status, Hub.broken_file = folder, [], 200, ""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def model_copy(tiny_model_path: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_model_path, tmp_path / "copy"))


def test_the_published_model_is_described_without_asking_anyone(cache: Path) -> None:
    """An operator learns size, license and place before anything is fetched."""
    facts = models.describe("cvssp/audioldm2")
    assert facts.model == "cvssp/audioldm2"
    assert 4.4e9 < (facts.download_bytes or 0) < 4.6e9
    assert facts.license == "CC BY-NC-SA 4.0 (non-commercial)"
    assert facts.place == cache / "models--cvssp--audioldm2"
    assert not models.is_complete("cvssp/audioldm2")
    assert models.find("cvssp/audioldm2") is None


def test_an_unknown_hub_model_has_its_own_license_and_size(cache: Path) -> None:
    """Nothing is claimed of a model nobody knows."""
    facts = models.describe(MODEL)
    assert facts.place.parent == cache
    assert (facts.download_bytes, facts.license) == (None, "see the model's own license")


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HUB_CACHE": "{tmp}/a"}, "a"),
        ({"HF_HOME": "{tmp}/b"}, "b/hub"),
        ({"XDG_CACHE_HOME": "{tmp}/c"}, "c/huggingface/hub"),
        ({"HOME": "{tmp}/d"}, "d/.cache/huggingface/hub"),
    ],
)
def test_the_place_is_the_hub_librarys_own(variables: dict[str, str], place: str, tmp_path: Path) -> None:
    """The same environment variables as in the hub library decide, so that a model is never fetched twice."""
    pytest.importorskip("huggingface_hub")
    code = (
        "from huggingface_hub.constants import HF_HUB_CACHE as theirs; from ambientgen.models import describe; "
        "print(theirs); print(describe('a/b').place.parent)"
    )
    environment = {name: value.format(tmp=tmp_path) for name, value in variables.items()}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(tmp_path / place)] * 2


def test_a_local_folder_is_named_without_its_path(tiny_model_path: Path) -> None:
    """Recipes travel; where a folder lies on one machine must not."""
    facts = models.describe(str(tiny_model_path))
    assert facts.model == "tiny-audioldm2"
    assert facts.download_bytes == 0
    assert models.public_name("/no/such/place/some-model") == "some-model"


def test_a_whole_model_has_no_faults(tiny_model_path: Path) -> None:
    """The check accepts what diffusers itself wrote."""
    assert models.faults(tiny_model_path) == ()
    assert models.is_complete(str(tiny_model_path))


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("model_index.json", None, "model_index.json"),
        ("model_index.json", b"[]", "model_index.json"),
        ("model_index.json", b"{}", "model_index.json"),
        ("unet/config.json", b"{", "unet/config.json"),
        ("unet/diffusion_pytorch_model.safetensors", None, "unet/*.safetensors"),
        ("unet/diffusion_pytorch_model.safetensors", b"", "unet/diffusion_pytorch_model.safetensors"),
        ("unet/diffusion_pytorch_model.safetensors", b"\xff" * 99, "unet/diffusion_pytorch_model.safetensors"),
        ("vae/model.safetensors.index.json", b'{"weight_map": {"a": "2-of-2.safetensors"}}', "vae/2-of-2.safetensors"),
        ("scheduler/scheduler_config.json", None, "scheduler/*.json"),
    ],
)
def test_what_is_missing_or_cut_short_is_named(model_copy: Path, name: str, content: bytes | None, fault: str) -> None:
    """A broken-off download is found without loading a single weight."""
    if content is None:
        (model_copy / name).unlink()
    else:
        (model_copy / name).write_bytes(content)
    assert models.faults(model_copy) == (fault,)
    assert not models.is_complete(str(model_copy))


def test_the_old_weights_format_counts_too(model_copy: Path) -> None:
    """A part that only has a .bin file is complete if that is not empty."""
    (model_copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    old = model_copy / "unet" / "diffusion_pytorch_model.bin"
    old.write_bytes(b"weights")
    assert models.faults(model_copy) == ()
    old.write_bytes(b"")
    assert models.faults(model_copy) == ("unet/diffusion_pytorch_model.bin",)


def test_download_tells_first_then_fetches_what_is_needed(hub: str) -> None:
    """Facts come before the first request, only the pipeline's files are fetched, and only once."""
    said: list[tuple[str, int]] = []
    folder = models.download(MODEL, say=lambda line: said.append((line, len(Hub.requests))), endpoint=hub)
    before_any_request = [line.split(":")[0] for line, num_requests in said if num_requests == 0]
    assert before_any_request == ["Model", "Download", "License", "Place"]
    assert said[-1][0] == "The model is complete."
    assert models.find(MODEL) == folder
    assert models.is_complete(MODEL)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    assert "unet/diffusion_pytorch_model.safetensors" in names
    assert not any(name.endswith((".bin", ".md", ".fp16.safetensors")) for name in names)

    Hub.requests.clear()
    assert models.download(MODEL, say=lambda _line: None, endpoint=hub) == folder
    assert Hub.requests == []


def test_a_download_that_broke_off_goes_on_where_it_stopped(hub: str) -> None:
    """What arrived is kept; the second call fetches the rest only."""
    Hub.broken_file = "vae/diffusion_pytorch_model.safetensors"
    with pytest.raises(ModelMissingError, match="run `make model` again"):
        models.download(MODEL, say=lambda _line: None, endpoint=hub)
    assert not models.is_complete(MODEL)
    arrived = {path.name for path in (models.find(MODEL) or Path()).rglob("*")}
    Hub.broken_file = ""
    Hub.requests.clear()
    models.download(MODEL, say=lambda _line: None, endpoint=hub)
    assert models.is_complete(MODEL)
    assert "model_index.json" in arrived
    assert not any(request.endswith("model_index.json") for request in Hub.requests)


def test_a_damaged_file_is_fetched_again(hub: str) -> None:
    """The hub library alone would take a file that was cut short later for finished."""
    folder = models.download(MODEL, say=lambda _line: None, endpoint=hub)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    assert not models.is_complete(MODEL)
    models.download(MODEL, say=lambda _line: None, endpoint=hub)
    assert weights.read_bytes() == whole


@pytest.mark.parametrize(
    ("status", "words"), [(401, "accept the license"), (403, "accept the license"), (404, "no model `someone/")]
)
def test_a_hub_that_refuses_is_explained(hub: str, status: int, words: str) -> None:
    """A gated model and a wrong name are two things an operator can mend."""
    Hub.status = status
    with pytest.raises(ModelMissingError, match=words):
        models.download(MODEL, say=lambda _line: None, endpoint=hub)


def test_no_network_is_explained(cache: Path) -> None:
    """Nothing listens there, as on a machine without network."""
    pytest.importorskip("huggingface_hub")
    with pytest.raises(ModelMissingError, match="could not be reached") as caught:
        models.download(MODEL, say=lambda _line: None, endpoint="http://127.0.0.1:9")
    assert str(cache) not in str(caught.value)


def test_a_hub_model_of_another_kind_is_refused(hub: str) -> None:
    """Not every model on the hub is a diffusers pipeline."""
    (Hub.folder / "model_index.json").unlink()
    with pytest.raises(ModelMissingError, match="not a diffusers pipeline"):
        models.download(MODEL, say=lambda _line: None, endpoint=hub)


def test_an_incomplete_model_on_the_hub_is_not_called_complete(hub: str) -> None:
    """What arrived is checked, not believed."""
    (Hub.folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelMissingError, match="not a whole pipeline"):
        models.download(MODEL, say=lambda _line: None, endpoint=hub)


def test_too_little_disk_is_found_before_the_download(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """4.5 GB into 1 MB is not tried."""
    usage = shutil.disk_usage("/")._replace(free=1_000)
    monkeypatch.setattr("ambientgen.models.shutil.disk_usage", lambda _path: usage)
    with pytest.raises(StorageError, match=r"only 0\.0 GB are free"):
        models.download(MODEL, say=lambda _line: None, endpoint=hub)
    assert not any("/resolve/" in request for request in Hub.requests)


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "not writable"), (errno.EROFS, "not writable")]
)
def test_a_disk_that_fails_on_the_way_is_explained(
    hub: str, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    """The hub library wraps what the system says; the number is found in its causes."""

    def failing(*_args: object, **_kwargs: object) -> None:
        try:
            raise OSError(number, "no")
        except OSError as error:
            raise RuntimeError("wrapped") from error

    monkeypatch.setattr("huggingface_hub.snapshot_download", failing)
    with pytest.raises(StorageError, match=words):
        models.download(MODEL, say=lambda _line: None, endpoint=hub)


def test_a_local_folder_is_checked_not_fetched(model_copy: Path) -> None:
    """A folder the operator filled is the operator's."""
    assert models.download(str(model_copy), say=lambda _line: None) == model_copy
    (model_copy / "model_index.json").unlink()
    with pytest.raises(AmbientError, match="`copy` is missing or incomplete"):
        models.download(str(model_copy), say=lambda _line: None)


def test_without_the_hub_library_the_extra_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base install has no hub library."""
    assert not cache.exists()
    monkeypatch.setattr("ambientgen.models.importlib.util.find_spec", lambda _name: None)
    assert models.missing_packages() == models.PACKAGES
    with pytest.raises(ModelMissingError, match="`audioldm2` extra"):
        models.download(MODEL, say=lambda _line: None)
