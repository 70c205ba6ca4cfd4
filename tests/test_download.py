"""Fetching a model from a hub on this machine: what is said, what is kept, what is compared, what goes wrong."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from model_hub import COMMIT, WEIGHTS, ModelHub, write_pipeline

from ambientgen import models
from ambientgen.__main__ import main
from ambientgen.download import download
from ambientgen.errors import AmbientError, ModelMissingError, StorageError
from bot.model import main as bot_model

ROOT = Path(__file__).parent.parent
MODEL = "someone/tiny-audioldm2"
COMMAND = f"python -m ambientgen models download --model {MODEL}"
TEXTS = {"model_index.json", "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache of the test's own."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ambientgen.download._WAIT_S", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def hub(cache: Path, tmp_path: Path) -> Iterator[ModelHub]:
    """A hub with a tiny model, and some files beside it that no pipeline needs."""
    assert not cache.exists()
    folder = write_pipeline(tmp_path / "served")
    (folder / "README.md").write_text("A model card.")
    (folder / "model.safetensors").write_bytes(b"all of it in one file, for other programs")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a copy in the old format")
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"a copy in half precision")
    with ModelHub(folder).running() as hub:
        yield hub


def quiet(_line: str) -> None:
    """Nobody listens."""


def fetch(hub: ModelHub, say: Callable[[str], None] = quiet, report: models.ByteReport | None = None) -> Path:
    """The model from the hub."""
    return download(MODEL, say=say, endpoint=hub.url, **({} if report is None else {"report": report}))


def stop_at(num_bytes: int) -> models.ByteReport:
    """Press Ctrl-C when that much has arrived."""

    def report(stage: str, done_bytes: int, _all_bytes: int) -> None:
        if stage == "downloading" and done_bytes >= num_bytes:
            raise KeyboardInterrupt

    return report


def partial_bytes(cache: Path) -> int:
    """How much of a half-fetched file is on the disk."""
    return sum(file.stat().st_size for file in cache.glob("*/blobs/*.incomplete"))


def same_as_served(folder: Path, hub: ModelHub) -> bool:
    """True if every file that was fetched is the hub's, byte by byte."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return bool(files) and all(f.read_bytes() == (hub.folder / f.relative_to(folder)).read_bytes() for f in files)


def test_download_tells_first_then_fetches_what_is_needed(hub: ModelHub) -> None:
    """Facts come before the first request, only the pipeline's files are fetched, and only once."""
    said: list[tuple[str, int]] = []
    folder = fetch(hub, lambda line: said.append((line, len(hub.asked))))
    before_any_request = [line.split(":")[0] for line, num_requests in said if num_requests == 0]
    assert before_any_request == ["Model", "Download", "License", "Place"]
    assert said[-1][0] == "The model is complete."
    assert models.find(MODEL) == folder
    assert models.is_complete(MODEL)
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    weights = {WEIGHTS, "vae/diffusion_pytorch_model.safetensors"}
    assert names == TEXTS | weights | {"tokenizer/tokenizer_config.json", "tokenizer/spiece.model"}
    assert same_as_served(folder, hub)

    hub.asked.clear()
    assert fetch(hub) == folder
    assert hub.asked == []


def test_the_hub_library_finds_what_was_fetched(hub: ModelHub, cache: Path) -> None:
    """Other programs that use the same cache need not fetch the model again."""
    from huggingface_hub import scan_cache_dir, snapshot_download

    folder = fetch(hub)
    assert Path(snapshot_download(MODEL, cache_dir=cache, local_files_only=True)) == folder
    (repository,) = scan_cache_dir(cache).repos
    assert (repository.repo_id, repository.nb_files) == (MODEL, 7)  # of the eight, two are the same


def test_the_progress_counts_every_byte_once(hub: ModelHub) -> None:
    """The bar goes from nothing to all of it, and never back, also when a download goes on."""
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, report=stop_at(150_000))
    seen: list[tuple[str, int, int]] = []
    said: list[str] = []
    fetch(hub, said.append, report=lambda *progress: seen.append(progress))
    downloading = [(done, of) for stage, done, of in seen if stage == "downloading"]
    assert downloading == sorted(downloading)
    assert len({of for _done, of in downloading}) == 1
    assert downloading[-1][0] == downloading[-1][1] > 300_000
    assert any("are here already" in line for line in said)


def test_a_stopped_download_goes_on_in_the_middle_of_a_file(hub: ModelHub, cache: Path) -> None:
    """The second call asks for the rest of the file alone, and for no other file again."""
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, report=stop_at(150_000))
    arrived = partial_bytes(cache)
    assert 100_000 < arrived < 300_000
    assert not models.is_complete(MODEL)
    hub.asked.clear()
    folder = fetch(hub)
    assert hub.starts(WEIGHTS) == [arrived, arrived]  # by its name, and then where the hub sends us
    assert not any(asked.path.endswith(".json") for asked in hub.asked)
    assert same_as_served(folder, hub)
    assert partial_bytes(cache) == 0


def test_a_connection_that_breaks_is_taken_up_again_at_once(hub: ModelHub) -> None:
    """A download over a bad line needs no second command: each new request begins where the last one ended."""
    hub.break_after = 40_000  # more breaks than tries in vain are allowed
    assert same_as_served(fetch(hub), hub)
    assert sorted(set(hub.starts(WEIGHTS))) == list(range(0, 300_000, 40_000))


def test_a_hub_that_knows_no_ranges_is_no_obstacle(hub: ModelHub) -> None:
    """What it sends again is passed over."""
    hub.knows_ranges = False
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, report=stop_at(150_000))
    assert same_as_served(fetch(hub), hub)


@pytest.mark.parametrize("trouble", ["the server answers 503", "the connection brings nothing"])
def test_a_hub_that_stays_away_is_given_up_in_words(hub: ModelHub, trouble: str) -> None:
    """After five tries in vain; what arrived is kept."""
    if "503" in trouble:
        hub.refuse["/" + WEIGHTS] = (503, "")
    else:
        hub.break_after = 0
    with pytest.raises(ModelMissingError, match=f"run `{COMMAND}` again; it goes on where it stopped"):
        fetch(hub)
    assert len([asked for asked in hub.asked if asked.path.endswith(WEIGHTS)]) == 5
    assert not models.is_complete(MODEL)
    hub.refuse.clear()
    hub.break_after = None
    hub.asked.clear()
    assert same_as_served(fetch(hub), hub)
    assert not any(asked.path.endswith("model_index.json") for asked in hub.asked)


def test_wrong_bytes_are_deleted_and_named(hub: ModelHub, cache: Path) -> None:
    """A file of the right length with a wrong byte never gets its name; the next call fetches it anew."""
    hub.spoil = True
    with pytest.raises(ModelMissingError, match=f"`{WEIGHTS}` is damaged: its checksum is wrong.*`{COMMAND}`"):
        fetch(hub)
    assert not (models.find(MODEL) / WEIGHTS).exists()  # type: ignore[operator]
    assert partial_bytes(cache) == 0
    hub.spoil = False
    assert same_as_served(fetch(hub), hub)


def test_damage_to_the_half_fetched_file_is_found(hub: ModelHub, cache: Path) -> None:
    """What an earlier call left is compared too, not believed."""
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, report=stop_at(150_000))
    (partial,) = cache.glob("*/blobs/*.incomplete")
    partial.write_bytes(b"x" + partial.read_bytes()[1:])
    with pytest.raises(ModelMissingError, match="its checksum is wrong"):
        fetch(hub)
    assert same_as_served(fetch(hub), hub)


def test_small_files_have_checksums_too(hub: ModelHub) -> None:
    """Settings are compared by git's own name of them."""
    listing = hub.listing()
    (sibling,) = [sibling for sibling in listing["siblings"] if sibling["rfilename"] == "unet/config.json"]
    sibling["blobId"] = "b" * 40
    hub.listing = lambda: listing  # type: ignore[method-assign]
    with pytest.raises(ModelMissingError, match=r"`unet/config.json` is damaged"):
        fetch(hub)


@pytest.mark.parametrize("damage", ["cut short", "a flipped bit", "a link into nothing", "a lost name"])
def test_what_is_damaged_here_is_fetched_again(hub: ModelHub, damage: str) -> None:
    """The hub library alone would take all but the last for finished."""
    file = fetch(hub) / WEIGHTS
    whole = file.read_bytes()
    if damage == "cut short":
        file.write_bytes(whole[:1000])
    elif damage == "a flipped bit":
        file.write_bytes(whole[:200_000] + bytes([whole[200_000] ^ 1]) + whole[200_001:])
    elif damage == "a link into nothing":
        file.resolve().unlink()
    else:
        file.unlink()
    hub.asked.clear()
    assert same_as_served(fetch(hub), hub)
    assert file.read_bytes() == whole
    fetched = {asked.path.partition(f"{COMMIT}/")[2] for asked in hub.asked if "resolve" in asked.path}
    assert fetched == (set() if damage == "a lost name" else {WEIGHTS})


@pytest.mark.parametrize("refused", [("symlink_to",), ("symlink_to", "hardlink_to")])
def test_file_systems_without_links_will_do(
    hub: ModelHub, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...]
) -> None:
    """Windows forbids users symbolic links; some file systems know no links at all."""

    def no_right(*_args: object) -> None:
        raise OSError(errno.EPERM, "no")

    for name in refused:
        monkeypatch.setattr(f"pathlib.Path.{name}", no_right)
    folder = fetch(hub)
    assert same_as_served(folder, hub)
    assert not any(file.is_symlink() for file in folder.rglob("*"))
    hub.asked.clear()
    fetch(hub)
    assert hub.asked == []
    if "hardlink_to" not in refused:  # the checksums are still known
        with (folder / WEIGHTS).open("r+b") as stream:
            stream.seek(200_000)
            stream.write(b"\xff")
        assert models.all_faults(folder, lambda *_progress: None) == (WEIGHTS,)
        assert same_as_served(fetch(hub), hub)


@pytest.mark.parametrize(
    ("end", "status", "code", "words"),
    [
        ("", 401, "RepoNotFound", "check the name, accept the license"),
        ("model_index.json", 401, "GatedRepo", "accept the license on its page"),
        ("model_index.json", 403, "GatedRepo", "accept the license on its page"),
        ("", 403, "", "log in with `hf auth login`, and run"),
        ("", 404, "RepoNotFound", "no model `someone/"),
    ],
)
def test_a_hub_that_refuses_is_explained(hub: ModelHub, end: str, status: int, code: str, words: str) -> None:
    """A gated model and a wrong name are two things an operator can mend; nothing is asked twice."""
    hub.refuse[end] = (status, code)
    with pytest.raises(ModelMissingError, match=words):
        fetch(hub)
    assert len([asked for asked in hub.asked if asked.path.endswith(end)]) == 1
    assert not models.is_complete(MODEL)


def test_no_network_is_explained(cache: Path) -> None:
    """Nothing listens there, as on a machine without network."""
    with pytest.raises(ModelMissingError, match="could not be reached") as caught:
        download(MODEL, say=quiet, endpoint="http://127.0.0.1:9")
    assert str(cache) not in str(caught.value)


@pytest.mark.parametrize("started", [False, True])
def test_offline_nothing_is_asked(hub: ModelHub, monkeypatch: pytest.MonkeyPatch, started: bool) -> None:
    """HF_HUB_OFFLINE=1 means no request at all; what is missing is said, and the command for later."""
    if started:
        with pytest.raises(KeyboardInterrupt):
            fetch(hub, report=stop_at(150_000))
    hub.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    missing = r" \(unet/\*\.safetensors and 1 more\)" if started else ""
    with pytest.raises(ModelMissingError, match=f"not complete on this machine{missing}, and HF_HUB_OFFLINE") as caught:
        fetch(hub)
    assert COMMAND in str(caught.value)
    assert hub.asked == []


def test_offline_a_complete_model_is_fine(hub: ModelHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to ask for."""
    folder = fetch(hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(hub) == folder


def test_a_hub_model_of_another_kind_is_refused(hub: ModelHub) -> None:
    """Not every model on the hub is a diffusers pipeline."""
    (hub.folder / "model_index.json").unlink()
    with pytest.raises(ModelMissingError, match="not a diffusers pipeline"):
        fetch(hub)


def test_an_incomplete_model_on_the_hub_is_not_called_complete(hub: ModelHub) -> None:
    """What arrived is checked, not believed."""
    (hub.folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelMissingError, match="not a whole pipeline"):
        fetch(hub)


@pytest.mark.parametrize(
    ("key", "value"), [("blobId", "../../../evil"), ("blobId", None), ("rfilename", "../evil.json")]
)
def test_a_hubs_names_stay_inside_the_cache(hub: ModelHub, cache: Path, key: str, value: str | None) -> None:
    """A hub on another address is not trusted with paths, nor believed without checksums."""
    listing = hub.listing()
    next(sibling for sibling in listing["siblings"] if sibling["rfilename"] == "unet/config.json")[key] = value
    hub.listing = lambda: listing  # type: ignore[method-assign]
    with pytest.raises(ModelMissingError):
        fetch(hub)
    assert not any("evil" in file.name for file in cache.parent.rglob("*"))


def test_too_little_disk_is_found_before_the_download(hub: ModelHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """4.5 GB into 1 MB is not tried."""
    usage = shutil.disk_usage("/")._replace(free=1_000)
    monkeypatch.setattr("ambientgen.download.shutil.disk_usage", lambda _path: usage)
    with pytest.raises(StorageError, match=r"needs 305 kB of disk, but only 1 kB are free.*HF_HOME"):
        fetch(hub)
    assert not any("/resolve/" in asked.path for asked in hub.asked)


class FullDisk(io.FileIO):
    """A file on a disk with room for 150 kB."""

    def write(self, piece: Any, /) -> int:
        """As the operating system does it: what fits, then the error."""
        room = 150_000 - os.fstat(self.fileno()).st_size
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(bytes(piece)[:room])


def test_a_disk_that_fills_up_on_the_way_is_explained(
    hub: ModelHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program may take the room meanwhile; once there is room again, the download goes on."""
    usual = Path.open

    def opened(path: Path, *how: Any, **more: Any) -> Any:
        full = path.name.endswith(".incomplete")
        return io.BufferedRandom(FullDisk(path, "a+b")) if full else usual(path, *how, **more)

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.open", opened)
        with pytest.raises(StorageError, match=f"disk is full. Make room and run `{COMMAND}` again") as caught:
            fetch(hub)
    assert str(cache) not in str(caught.value)
    assert hub.starts(WEIGHTS) == [0, 0]  # by its name, and where the hub sends us; not again and again
    assert partial_bytes(cache) == 150_000
    hub.asked.clear()
    assert same_as_served(fetch(hub), hub)
    assert hub.starts(WEIGHTS) == [150_000, 150_000]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_explained(
    hub: ModelHub, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The operator learns which of two things to do; no path is told."""

    def refusing(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr("pathlib.Path.mkdir", refusing)
    with pytest.raises(StorageError, match=r"not writable by this user.*HF_HOME to a folder where it may"):
        fetch(hub)


def test_one_download_of_a_model_at_a_time(hub: ModelHub, cache: Path) -> None:
    """Two would write into the same half-fetched file."""
    lock = cache / ".locks" / "models--someone--tiny-audioldm2" / "download.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock), pytest.raises(ModelMissingError, match="Another download of `someone/tiny-audioldm2`"):
        fetch(hub)
    assert hub.asked == []
    fetch(hub)


def test_a_local_folder_is_checked_not_fetched(tmp_path: Path) -> None:
    """A folder the operator filled is the operator's."""
    folder = write_pipeline(tmp_path / "own")
    assert download(str(folder), say=quiet) == folder
    (folder / "model_index.json").unlink()
    with pytest.raises(AmbientError, match=r"`own` is missing or incomplete \(model_index.json\)"):
        download(str(folder), say=quiet)


@pytest.mark.parametrize(
    ("model", "extra"), [("cvssp/audioldm2", "audioldm2"), ("stabilityai/stable-audio-open-1.0", "stable-audio")]
)
def test_without_the_hub_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, extra: str
) -> None:
    """The base install has no hub library."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ModelMissingError, match=f"`{extra}` extra"):
        download(model, say=quiet)


def test_a_gated_model_says_so_before_it_asks(hub: ModelHub) -> None:
    """Stable Audio Open is handed out only to those who accepted its license on the hub."""
    hub.model = "stabilityai/stable-audio-open-1.0"
    hub.refuse["model_index.json"] = (403, "GatedRepo")
    said: list[tuple[str, int]] = []
    with pytest.raises(ModelMissingError, match=r"accept the license on its page .*stabilityai/stable-audio-open-1.0"):
        download(hub.model, say=lambda line: said.append((line, len(hub.asked))), endpoint=hub.url)
    told = "\n".join(line for line, num_requests in said if num_requests == 0)
    for words in ("Stability AI Community License", "Gated:", "`hf auth login`", "about 5.3 GB"):
        assert words in told


@pytest.fixture
def run(hub: ModelHub, cache: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts `python -m ambientgen models ...` as its own process that knows the hub by HF_ENDPOINT."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AMBIENT_"))}
    environ = {**clean, "HF_ENDPOINT": hub.url, "HF_HOME": str(cache.parent / "home"), "PYTHONUTF8": "1"}

    def start(*arguments: str, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "ambientgen", "models", *arguments, "--model", MODEL]
        return subprocess.Popen(
            command, cwd=ROOT, env={**environ, **more}, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    return start


def test_the_command_goes_on_after_ctrl_c(
    hub: ModelHub, run: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The whole way as an operator goes it: the command, Ctrl-C in the middle, the same command again."""
    hub.hold_after = 150_000
    process = run("download")
    deadline_s = time.monotonic() + 30
    while partial_bytes(tmp_path / "home" / "hub") < 150_000 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, faults = process.communicate(timeout=30)
    hub.released.set()
    assert process.returncode == 130
    assert faults.splitlines()[-1] == "cancelled"
    assert "License:  see the model's own license" in said

    hub.hold_after = None
    hub.asked.clear()
    said, progress = run("download").communicate(timeout=30)
    assert said.splitlines()[-2:] == [
        "Fetching 2 files, 305 kB, of which 150 kB are here already ...",
        "The model is complete.",
    ]
    assert progress.splitlines()[-1] == "downloading 100% of 305 kB …"
    assert len(progress.splitlines()) <= 20
    assert hub.starts(WEIGHTS) == [150_000, 150_000]
    (folder,) = (tmp_path / "home" / "hub").glob(f"*/snapshots/{COMMIT}")
    assert same_as_served(folder, hub)


def test_the_command_offline(hub: ModelHub, run: Callable[..., subprocess.Popen[str]]) -> None:
    """One line of what is missing and what to run, exit code 1, and not one request."""
    process = run("download", HF_HUB_OFFLINE="1")
    _said, faults = process.communicate(timeout=30)
    assert process.returncode == 1
    assert faults.startswith("error: `someone/tiny-audioldm2` is not complete on this machine, and HF_HUB_OFFLINE")
    assert COMMAND in faults
    assert hub.asked == []


def test_check_finds_a_flipped_bit_and_names_the_command(hub: ModelHub, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 while all is right; 1 with the file and the command when one bit is not."""
    folder = fetch(hub)
    hub.asked.clear()
    assert main(["models", "check", "--model", MODEL]) == 0
    assert "complete; the checksums of 8 files are right" in capsys.readouterr().out
    with (folder / WEIGHTS).open("r+b") as stream:
        stream.seek(200_000)
        byte = stream.read(1)[0]
        stream.seek(200_000)
        stream.write(bytes([byte ^ 4]))
    assert main(["models", "check", "--model", MODEL]) == 1
    said = capsys.readouterr().out
    assert f"  {WEIGHTS}\n" in said
    assert f"To mend it: {COMMAND}\n" in said
    assert hub.asked == []
    assert main(["models", "list", "--model", MODEL]) == 0  # which reads no weights
    assert "someone/tiny-audioldm2             audioldm2     305 kB   complete" in capsys.readouterr().out


def test_list_and_check_name_what_a_broken_download_lacks(hub: ModelHub, capsys: pytest.CaptureFixture[str]) -> None:
    """The first missing file and the command that mends it."""
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, report=stop_at(150_000))
    assert main(["models", "list", "--model", MODEL]) == 0
    said = capsys.readouterr().out.partition(MODEL)[2]
    assert "incomplete" in said.splitlines()[0]
    assert "missing  unet/*.safetensors and 1 more\n" in said
    assert f"mend it  {COMMAND}\n" in said
    assert main(["models", "check", "--model", MODEL]) == 1
    assert "  vae/*.safetensors\n" in capsys.readouterr().out


def test_make_models_own_command_fetches_what_the_settings_name(
    hub: ModelHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make model` runs `python -m bot.model`."""
    fetch(hub)
    monkeypatch.setenv("AMBIENT_MODEL", MODEL)
    assert bot_model("describe") == 0
    assert f"Model:    {MODEL}" in capsys.readouterr().out
    assert bot_model("download") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "All of it is here already."
    (hub.folder / "model_index.json").write_text(json.dumps({}))
    monkeypatch.setenv("AMBIENT_MODEL", str(hub.folder))
    assert bot_model("download") == 1
    assert "The model cannot be fetched: The folder of `served`" in capsys.readouterr().err
