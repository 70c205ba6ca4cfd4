"""Model weights: what is said of them, and whether they are here and whole. Nothing here asks a network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from model_hub import write_pipeline

from ambientgen import models
from ambientgen.__main__ import main

MODEL = "someone/tiny-audioldm2"
STABLE_AUDIO = "stabilityai/stable-audio-open-1.0"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache of the test's own."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline's folder that a test may damage."""
    return write_pipeline(tmp_path / "own-model")


def test_the_published_model_is_described_without_asking_anyone(cache: Path) -> None:
    """An operator learns size, license and place before anything is fetched."""
    facts = models.describe("cvssp/audioldm2")
    assert facts.model == "cvssp/audioldm2"
    assert 4.4e9 < (facts.download_bytes or 0) < 4.6e9
    assert facts.license == "CC BY-NC-SA 4.0 (non-commercial)"
    assert facts.place == cache / "models--cvssp--audioldm2"
    assert not models.is_complete("cvssp/audioldm2")
    assert models.find("cvssp/audioldm2") is None


def test_stable_audio_is_known_by_its_whole_license(cache: Path) -> None:
    """Its size is that of the parts diffusers reads; its gate, and how to pass it, are told."""
    facts = models.describe(STABLE_AUDIO)
    # 4.23 GB transformer, 624 MB autoencoder, 439 MB text encoder, 2 MB projection, as the hub lists them.
    assert facts.download_bytes == pytest.approx(4.23e9 + 0.624e9 + 0.439e9, rel=0.005)
    assert facts.license == models.license_of(STABLE_AUDIO)
    assert facts.license.startswith("Stability AI Community License")
    assert (facts.engine, facts.gated) == ("stable-audio", True)
    said: list[str] = []
    models.say_facts(facts, said.append)
    assert said[3].endswith(f"https://huggingface.co/{STABLE_AUDIO}, then log in with `hf auth login`")
    models.say_facts(models.describe("cvssp/audioldm2"), said.append)
    assert len([line for line in said if line.startswith("Gated")]) == 1


def test_each_engine_has_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stable Audio needs one more than AudioLDM2; nothing is imported to find out."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name in models.PACKAGES else None)
    assert models.missing_packages() == ()
    assert models.missing_packages("stable-audio") == ("torchsde",)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert models.missing_packages() == models.PACKAGES
    assert models.missing_packages("stable-audio") == (*models.PACKAGES, "torchsde")


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


@pytest.mark.parametrize(
    ("pipeline", "engine"),
    [("AudioLDM2Pipeline", "audioldm2"), ("StableAudioPipeline", "stable-audio"), ("Other", None)],
)
def test_a_local_folder_is_named_without_its_path(tmp_path: Path, pipeline: str, engine: str | None) -> None:
    """Recipes travel; where a folder lies on one machine must not. What is in it says which engine it is for."""
    facts = models.describe(str(write_pipeline(tmp_path / "own-model", pipeline=pipeline)))
    assert (facts.model, facts.engine, facts.download_bytes) == ("own-model", engine, 0)
    assert models.public_name("/no/such/place/some-model") == "some-model"


def test_a_whole_model_has_no_faults(tiny_model_path: Path) -> None:
    """The check accepts what diffusers itself wrote."""
    assert models.faults(tiny_model_path) == ()
    assert models.all_faults(tiny_model_path, lambda *_progress: None) == ()
    assert models.is_complete(str(tiny_model_path))
    assert models.describe(str(tiny_model_path)).engine == "audioldm2"


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
def test_what_is_missing_or_cut_short_is_named(folder: Path, name: str, content: bytes | None, fault: str) -> None:
    """A broken-off download is found without loading a single weight."""
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    assert models.faults(folder) == (fault,)
    assert not models.is_complete(str(folder))


def test_the_old_weights_format_counts_too(folder: Path) -> None:
    """A part that only has a .bin file is complete if that is not empty."""
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    old = folder / "unet" / "diffusion_pytorch_model.bin"
    old.write_bytes(b"weights")
    assert models.faults(folder) == ()
    old.write_bytes(b"")
    assert models.faults(folder) == ("unet/diffusion_pytorch_model.bin",)


@pytest.mark.parametrize(
    ("num_bytes", "words"), [(4_475_000_000, "4.5 GB"), (312_400_000, "312 MB"), (7_300, "7 kB"), (0, "0 kB")]
)
def test_sizes_are_told_in_the_unit_that_fits(num_bytes: int, words: str) -> None:
    """Three digits at most."""
    assert models.in_bytes(num_bytes) == words


def test_list_shows_every_known_model_in_a_hundred_columns(
    cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Engine, size, license, place, state and the next command of the four that are published, and of a folder."""
    monkeypatch.chdir(cache.parent)
    monkeypatch.setenv("HF_HUB_CACHE", "cache")
    assert main(["models", "list", "--model", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if str(folder) not in line) <= 100
    rows = [line.split() for line in lines if not line.startswith(" ")]
    assert rows[1:] == [
        ["cvssp/audioldm2", "audioldm2", "4.5", "GB", "not", "here"],
        ["cvssp/audioldm2-large", "audioldm2", "6.0", "GB", "not", "here"],
        ["cvssp/audioldm2-music", "audioldm2", "4.5", "GB", "not", "here"],
        [STABLE_AUDIO, "stable-audio", "5.3", "GB", "not", "here"],
        ["own-model", "audioldm2", "305", "kB", "complete"],
    ]
    details = [line.strip() for line in lines if line.startswith(" ")]
    assert details[:3] == [
        "license  CC BY-NC-SA 4.0 (non-commercial)",
        "place    cache/models--cvssp--audioldm2",
        "get it   python -m ambientgen models download --model cvssp/audioldm2",
    ]
    assert "license  Stability AI Community License (free below 1 M USD of revenue a year); gated" in details


def test_a_folder_is_mended_by_its_owner(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No command fetches a folder of one's own; no checksums are claimed for it either."""
    assert main(["models", "check", "--model", str(folder)]) == 0
    assert "no checksums are known" in capsys.readouterr().out
    (folder / "unet" / "config.json").unlink()
    assert main(["models", "check", "--model", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "  unet/*.json\n" in said
    assert "put the model's files into that folder" in said
    assert main(["models", "list", "--model", str(folder)]) == 0
    assert "own-model                          audioldm2     305 kB   incomplete" in capsys.readouterr().out


def test_check_of_a_model_that_is_not_here(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The default model, and the command that fetches it."""
    assert not cache.exists()
    assert main(["models", "check"]) == 1
    said = capsys.readouterr().out
    assert said == (
        "cvssp/audioldm2 is not on this machine. "
        "To get it: python -m ambientgen models download --model cvssp/audioldm2\n"
    )


def test_list_and_check_need_neither_packages_nor_network(cache: Path, folder: Path) -> None:
    """They work in the base install, and on a machine that may not reach anything."""
    code = (
        "import socket, sys\n"
        "socket.socket.connect = socket.getaddrinfo = None\n"
        "from ambientgen.__main__ import main\n"
        "assert main(['models', 'list']) == 0\n"
        f"assert main(['models', 'check', '--model', {json.dumps(str(folder))}]) == 0\n"
        "print(*sorted({'huggingface_hub', 'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    assert not cache.exists()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
