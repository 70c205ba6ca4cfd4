"""`python -m ambientgen doctor`: what is well, what is wrong and what to do, and the exit code."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sqlite3
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import discord
import numpy as np
import pytest

from ambientgen import doctor
from ambientgen.__main__ import main
from ambientgen.audio.clip import Clip
from ambientgen.errors import EncodingError, EngineError, ModelMissingError
from bot.lock import DataFolderLock
from bot.store import Store

ROOT = Path(__file__).parent.parent
TOKEN = "a.fake.token"  # noqa: S105 - it opens nothing
GIGABYTE = 1_000_000_000

Lines = dict[str, tuple[str, str]]
Doctor = Callable[..., tuple[int, Lines]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Runs the doctor in an empty folder, without a model and with these settings: its exit code and its lines."""
    for name in [name for name in os.environ if name.startswith(("AMBIENT_", "DISCORD_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path, **environ: str | Path) -> tuple[int, Lines]:
        for name, value in {"AMBIENT_MODEL": "none", **environ}.items():
            monkeypatch.setenv(name, str(value))
        code = main(["doctor", *map(str, arguments)])
        said = capsys.readouterr().out
        lines: Lines = {}
        for line in said.splitlines():
            found = re.fullmatch(r"(ok|--|!!)  (\S.*?) {2,}(\S.*)", line)
            assert found, line
            assert found[2] not in lines, said
            lines[found[2]] = (found[1], found[3])
        assert TOKEN not in said
        assert code == (1 if any(mark == "!!" for mark, _ in lines.values()) else 0)
        return code, lines

    return run


@asynccontextmanager
async def database(folder: Path) -> AsyncIterator[Path]:
    """The bot's database in a data folder, open while the block runs."""
    (folder / "data").mkdir()
    path = folder / "data" / "ambient.db"
    async with Store.open(path):
        yield path


async def closed_database(folder: Path) -> Path:
    """A database as a bot leaves it that was stopped in order."""
    async with database(folder) as path:
        pass
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_good_machine_without_a_model(run: Doctor, tmp_path: Path) -> None:
    """Everything is said in order, the exit code is 0, and nothing is left behind."""
    code, lines = run()
    assert code == 0
    assert list(lines) == [
        "python", "packages", "encoder", "procedural", "settings", "model", "data folder", "bot", "database", "discord",
    ]  # fmt: skip
    assert f"numpy {np.__version__}, " in lines["packages"][1]
    assert "(libsndfile " in lines["packages"][1]
    assert all(name in lines["encoder"][1] for name in ("opus", "mp3", "flac", "wav"))
    assert lines["procedural"][1].startswith("1.0 s of sound made in ")
    assert lines["model"] == ("--", "switched off by AMBIENT_MODEL=none")
    assert {lines["bot"][0], lines["discord"][0]} == {"--"}
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- packages


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """Pretend that these packages are not installed."""
    version = importlib.metadata.version

    def installed(name: str) -> str:
        if name in missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("importlib.metadata.version", installed)


def model_packages() -> list[str]:
    """What the model's extra asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["optional-dependencies"]["audioldm2"])


def test_a_missing_package_is_named(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it, by the Python that misses it."""
    without(monkeypatch, "soxr", "aiosqlite")
    code, lines = run()
    assert code == 1
    mark, words = lines["packages"]
    assert mark == "!!"
    assert words.startswith("aiosqlite, soxr missing: ")
    assert " -m pip install -c constraints.txt -e .`" in words


def test_a_half_installed_extra_is_a_fault(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both what is there and what is missing are named, and the model is not tried."""
    there, *missing = model_packages()
    pytest.importorskip(there)
    without(monkeypatch, *missing)
    code, lines = run(AMBIENT_MODEL="someone/model")
    assert code == 1
    mark, words = lines["model packages"]
    assert mark == "!!"
    assert words.startswith(f"{', '.join(missing)} missing beside {there}: ")
    assert '-e ".[audioldm2]"`' in words
    assert not {"device", "memory", "audioldm2"} & set(lines)


def test_an_extra_that_is_not_installed_is_no_fault(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are its weights: the procedural engine does without both."""
    without(monkeypatch, *model_packages())
    code, lines = run(AMBIENT_MODEL="cvssp/audioldm2")
    assert code == 0
    assert lines["model packages"][0] == lines["model"][0] == "--"
    assert "`make model`" in lines["model packages"][1]


def test_an_old_python_is_told_which_one_is_needed(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version that pyproject.toml asks for."""
    monkeypatch.setattr("ambientgen.doctor.sys.version_info", (3, 10, 0))
    code, lines = run()
    assert code == 1
    assert "install Python 3.11 or newer" in lines["python"][1]


# ---------------------------------------------------------------------- encoder and surprises


def test_a_format_that_cannot_be_written_is_named(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are tried all the same."""
    encode = doctor.encode

    def broken(clip: Clip, folder: Path, name: str, file_format: str, **options: Any) -> Any:
        if file_format == "mp3":
            raise EncodingError("The clip could not be encoded.")
        if file_format == "wav":
            raise ValueError("no such subtype")
        return encode(clip, folder, name, file_format, **options)

    monkeypatch.setattr("ambientgen.doctor.encode", broken)
    code, lines = run()
    assert code == 1
    mark, words = lines["encoder"]
    assert mark == "!!"
    assert words.startswith("mp3 (The clip could not be encoded.), wav (ValueError: no such subtype). ")
    assert "soundfile`" in words


@pytest.mark.parametrize("share", [(1, 0.0), (2, 1.0)], ids=["silence", "half of it"])
def test_a_format_that_reads_back_something_else_is_a_fault(
    run: Doctor, monkeypatch: pytest.MonkeyPatch, share: tuple[int, float]
) -> None:
    """A file alone is no proof: silence and a cut clip are files too."""
    decode, (parts, gain) = doctor.decode, share

    def other(path: Path) -> Clip:
        clip = decode(path)
        return Clip(clip.samples[:, : clip.num_samples // parts] * np.float32(gain), clip.sample_rate_hz)

    monkeypatch.setattr("ambientgen.doctor.decode", other)
    code, lines = run()
    assert code == 1
    assert lines["encoder"][1].count("not what was written") == 4


def test_a_check_that_breaks_is_a_line_of_its_own(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the error's type and words on one line, and the other checks go on."""

    def broken() -> str:
        raise RuntimeError("what\n  is\tthis\x1b[31m")

    monkeypatch.setattr("ambientgen.doctor.platform.platform", broken)
    code, lines = run()
    assert code == 1
    assert lines["python"] == ("!!", "RuntimeError: what is this [31m")
    assert lines["encoder"][0] == lines["database"][0] == "ok"


def test_an_error_of_ours_tells_its_cause(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others find it in a log, and here is none."""

    def broken(*_args: object) -> None:
        raise EngineError("It did not work. The log says why.") from ValueError("too loud")

    monkeypatch.setattr("ambientgen.doctor.render", broken)
    code, lines = run()
    assert code == 1
    assert lines["procedural"] == ("!!", "It did not work. The log says why. (ValueError: too loud)")


def test_a_broken_program_leaves_the_engine_to_the_library(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own checks are missing; the model is looked at as the command line would run it."""
    entry = importlib.metadata.EntryPoint("bot", "no_such_module:checks", doctor.ENTRY_POINT_GROUP)
    entry_points = importlib.metadata.entry_points
    monkeypatch.setattr(
        "ambientgen.doctor.importlib.metadata.entry_points",
        # torch has plugins too, and looks for them when it is imported.
        lambda group: [entry] if group == doctor.ENTRY_POINT_GROUP else entry_points(group=group),
    )
    code, lines = run(AMBIENT_MODEL="someone/ignored")
    assert code == 1
    assert lines["bot"] == ("!!", "ModuleNotFoundError: No module named 'no_such_module'")
    assert "cvssp/audioldm2" in lines["model"][1]


def test_the_bots_checks_are_registered() -> None:
    """What pyproject.toml names is installed and can be loaded."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entries = importlib.metadata.entry_points(group=doctor.ENTRY_POINT_GROUP)
    assert {entry.name: entry.value for entry in entries} == project["entry-points"][doctor.ENTRY_POINT_GROUP]
    assert all(callable(entry.load()) for entry in entries)


# ---------------------------------------------------------------------- the model


# diffusers' own, of numpy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("where", ["--model", "AMBIENT_MODEL"])
def test_a_whole_model_makes_a_second_of_sound(run: Doctor, tiny_model_path: Path, where: str) -> None:
    """The model of the option or of the settings is found, loaded and heard."""
    code, lines = run("--model", tiny_model_path) if where == "--model" else run(AMBIENT_MODEL=tiny_model_path)
    assert code == 0, lines
    assert lines["model"][1].startswith(f"tiny-audioldm2 is complete, in {tiny_model_path}")
    assert "float" in lines["device"][1]
    assert re.match(r"1\.0 s of sound made in \d+\.\d s on \w+.*, loading the model included", lines["audioldm2"][1])


def test_a_missing_model_is_fetched_by_the_command_that_is_told(run: Doctor) -> None:
    """A hub model's name is in it."""
    pytest.importorskip("torch")
    code, lines = run("--model", "someone/audioldm2-night")
    assert code == 1
    mark, words = lines["model"]
    assert mark == "!!"
    assert "someone/audioldm2-night is not on this machine" in words
    assert "-m ambientgen models download --model someone/audioldm2-night`" in words
    assert "audioldm2" not in lines


def test_an_incomplete_model_is_not_tried(run: Doctor, tiny_model_path: Path, tmp_path: Path) -> None:
    """The first missing file is named, and where the files belong."""
    model = Path(shutil.copytree(tiny_model_path, tmp_path / "copy"))
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    shutil.rmtree(model / "vae")
    code, lines = run(AMBIENT_MODEL=model)
    assert code == 1
    mark, words = lines["model"]
    assert mark == "!!"
    assert re.search(r"incomplete or damaged \((vae/|unet/\*\.safetensors) and 1 more\)", words)
    assert f"into {model}" in words
    assert "audioldm2" not in lines


def test_a_device_that_is_not_there(run: Doctor, tiny_model_path: Path) -> None:
    """The settings' device is the one that is asked for, and no sound is tried without it."""
    code, lines = run(AMBIENT_MODEL=tiny_model_path, AMBIENT_DEVICE="cuda:97")
    assert code == 1
    mark, words = lines["device"]
    assert mark == "!!"
    assert "`cuda:97` cannot be used" in words
    assert "AMBIENT_DEVICE=cpu" in words
    assert "audioldm2" not in lines
    assert lines["model"][0] == "ok"


def test_a_torch_that_cannot_be_imported(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why is told, and the command that mends it."""
    pytest.importorskip("torch")

    def broken() -> None:
        raise ModelMissingError("torch cannot be imported.") from ImportError("libcudart.so.13: cannot open")

    monkeypatch.setattr("ambientgen.doctor.import_torch", broken)
    code, lines = run(AMBIENT_MODEL="someone/model")
    assert code == 1
    mark, words = lines["device"]
    assert mark == "!!"
    assert words.startswith("torch cannot be imported (libcudart.so.13: cannot open): ")
    assert words.endswith(" --no-deps torch`.")


@pytest.mark.parametrize(("device", "mark"), [("auto", "!!"), ("cpu", "ok")])
def test_a_gpu_that_torch_cannot_use(run: Doctor, monkeypatch: pytest.MonkeyPatch, device: str, mark: str) -> None:
    """It is told where the CPU was not chosen on purpose."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("ambientgen.doctor.choose_device", lambda _wanted: torch.device("cpu"))
    monkeypatch.setattr("ambientgen.doctor.shutil.which", lambda name: f"/usr/bin/{name}")
    _, lines = run(AMBIENT_MODEL="cvssp/audioldm2", AMBIENT_DEVICE=device)
    assert lines["device"][0] == mark
    assert ("NVIDIA GPU" in lines["device"][1]) == (mark == "!!")


@pytest.mark.parametrize(
    ("free_gb", "dtype", "mark", "words"),
    [
        (2.0, "float16", "!!", "2.0 GB free on cuda:0, 3.0 GB needed: close other programs"),
        (3.5, "float16", "ok", "with 4.5 GB several clips are made together"),
        (3.5, "float32", "!!", "5.2 GB needed"),
        (24.0, "float16", "ok", "24.0 GB free on cuda:0, 3.0 GB needed"),
    ],
)
def test_the_gpus_memory_against_the_need(
    run: Doctor, monkeypatch: pytest.MonkeyPatch, free_gb: float, dtype: str, mark: str, words: str
) -> None:
    """By the published model's size and the number format."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("ambientgen.doctor.choose_device", lambda _wanted: torch.device("cuda:0"))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _device: "A Fine GPU")
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _device: (int(free_gb * GIGABYTE), 80 * GIGABYTE))
    code, lines = run(AMBIENT_MODEL="cvssp/audioldm2", AMBIENT_DTYPE=dtype)
    assert code == 1  # the model is not here
    assert lines["device"] == ("ok", f"cuda:0 (A Fine GPU), {dtype}")
    assert lines["memory"][0] == mark
    assert words in lines["memory"][1]


@pytest.mark.parametrize(
    ("meminfo", "mark", "words"),
    [
        ("MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n", "!!", "4.1 GB free on cpu, 6.0 GB needed"),
        ("MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\n", "ok", "8.2 GB free on cpu, 6.0 GB needed"),
        (None, "--", "cannot be told"),
    ],
)
def test_the_machines_memory_against_the_need(
    run: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, meminfo: str | None, mark: str, words: str
) -> None:
    """On a CPU; where the system does not tell, that is no fault."""
    pytest.importorskip("torch")
    monkeypatch.setattr("ambientgen.doctor._MEMINFO", tmp_path / "meminfo")
    if meminfo is not None:
        (tmp_path / "meminfo").write_text(meminfo, encoding="ascii")
    _, lines = run(AMBIENT_MODEL="cvssp/audioldm2", AMBIENT_DEVICE="cpu")
    assert lines["memory"][0] == mark
    assert words in lines["memory"][1]


def test_a_model_that_does_not_fit_is_not_tried(
    run: Doctor, monkeypatch: pytest.MonkeyPatch, tiny_model_path: Path, tmp_path: Path
) -> None:
    """Loading it could take the machine down."""
    monkeypatch.setattr("ambientgen.doctor._MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemAvailable: 1000 kB\n", encoding="ascii")
    code, lines = run(AMBIENT_MODEL=tiny_model_path, AMBIENT_DEVICE="cpu")
    assert code == 1
    assert (lines["memory"][0], lines["model"][0]) == ("!!", "ok")
    assert "audioldm2" not in lines


# ---------------------------------------------------------------------- settings, folder, database


def test_settings_come_from_the_env_file(run: Doctor, tmp_path: Path) -> None:
    """It is named, and what it says counts."""
    (tmp_path / ".env").write_text("AMBIENT_DATA_DIR=elsewhere\n", encoding="utf-8")
    code, lines = run()
    assert code == 0
    assert str(tmp_path / ".env") in lines["settings"][1]
    assert str(tmp_path / "elsewhere") in lines["data folder"][1]


def test_a_setting_that_cannot_be_used(run: Doctor, tmp_path: Path) -> None:
    """Its own words are told; the engine is looked at all the same, and a token in the file is not shown."""
    (tmp_path / ".env").write_text(f"DISCORD_TOKEN={TOKEN}\nAMBIENT_TARGET_LUFS=loud\n", encoding="utf-8")
    code, lines = run()
    assert code == 1
    assert lines["settings"][0] == "!!"
    assert "AMBIENT_TARGET_LUFS must be" in lines["settings"][1]
    assert "cvssp/audioldm2" in lines["model"][1]
    assert "database" not in lines


def test_a_data_folder_that_cannot_be(run: Doctor, tmp_path: Path) -> None:
    """A file has its name."""
    (tmp_path / "data").write_text("a file", encoding="utf-8")
    code, lines = run()
    assert code == 1
    mark, words = lines["data folder"]
    assert mark == "!!"
    assert words.startswith(f"{tmp_path / 'data'} cannot be written")
    assert (tmp_path / "data").read_text(encoding="utf-8") == "a file"


@pytest.mark.parametrize(("kept_mib", "mark"), [(0, "!!"), (60, "ok")])
def test_too_little_disk_for_the_clips(
    run: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept_mib: int, mark: str
) -> None:
    """What is free must hold what the clips may still grow by."""
    clips = tmp_path / "data" / "clips"
    clips.mkdir(parents=True)
    with (clips / "kept.ogg").open("wb") as file:
        file.truncate(kept_mib * 2**20)
    usage = shutil.disk_usage(tmp_path)._replace(free=50 * 2**20)
    monkeypatch.setattr("bot.doctor.shutil.disk_usage", lambda _place: usage)
    _, lines = run(AMBIENT_MAX_CLIPS_MIB="100")
    assert lines["data folder"][0] == mark
    assert ("AMBIENT_MAX_CLIPS_MIB" in lines["data folder"][1]) == (mark == "!!")


def test_a_running_bot_is_no_fault(run: Doctor, tmp_path: Path) -> None:
    """Its process is named, and it keeps its folder."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ambient.db").touch()
    with DataFolderLock(tmp_path / "data"):
        code, lines = run()
        assert (tmp_path / "data" / "ambient.pid").read_text(encoding="ascii") == f"{os.getpid()}\n"
    assert code == 0
    assert lines["bot"][0] == "ok"
    assert f"(process {os.getpid()})" in lines["bot"][1]


async def test_a_healthy_database_is_left_as_it_is(run: Doctor, tmp_path: Path) -> None:
    """Nothing in it or beside it changes."""
    await closed_database(tmp_path)
    before = files_in(tmp_path)
    code, lines = run()
    assert code == 0
    assert lines["database"][1].startswith("healthy, format ")
    after = files_in(tmp_path)
    after.pop("data/ambient.lock", None)
    assert after == before


async def test_a_database_in_use_is_looked_at_too(run: Doctor, tmp_path: Path) -> None:
    """What a running bot has not yet moved into the file counts, and its log of changes stays."""
    async with database(tmp_path) as path:
        with closing(sqlite3.connect(path)) as writer:
            writer.execute("PRAGMA user_version = 98")
            code, lines = run()
            assert code == 1
            assert "(format 98; " in lines["database"][1]
            assert path.with_name("ambient.db-wal").exists()


async def test_an_older_database_is_not_migrated(run: Doctor, tmp_path: Path) -> None:
    """What the next start would do is told, and not done."""
    path = await closed_database(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 0")
    before = path.read_bytes()
    code, lines = run()
    assert code == 0
    assert "format 0; the next start brings it to format " in lines["database"][1]
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*before*"))


async def test_a_newer_database_is_refused(run: Doctor, tmp_path: Path) -> None:
    """With what to do."""
    path = await closed_database(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    code, lines = run()
    assert code == 1
    assert lines["database"][0] == "!!"
    assert "Update AmbientGen" in lines["database"][1]


@pytest.mark.parametrize("content", [b"this is no database" * 500, b"SQLite format 3\x00" + b"\xff" * 9000])
def test_a_broken_database(run: Doctor, tmp_path: Path, content: bytes) -> None:
    """It is told from a good one, and left as it is."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "ambient.db"
    path.write_bytes(content)
    code, lines = run()
    assert code == 1
    assert lines["database"][0] == "!!"
    assert "damaged or is not a database" in lines["database"][1]
    assert path.read_bytes() == content


# ---------------------------------------------------------------------- Discord


def test_discord_out_of_reach(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens there; the rest of what depends on it is not said."""
    monkeypatch.setattr(discord.http.Route, "BASE", "http://127.0.0.1:9/api/v10")
    code, lines = run(DISCORD_TOKEN=TOKEN)
    assert code == 1
    mark, words = lines["discord"]
    assert mark == "!!"
    assert words.startswith("cannot be reached (ClientConnectorError)")
    assert not {"invite link", "servers"} & set(lines)


def test_a_finding_is_one_line() -> None:
    """Whatever is in its words."""
    assert str(doctor.Finding("ok", "name", "a\nb\x07  c")) == "ok  name            a b c"
