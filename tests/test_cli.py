"""The two command lines: `python -m ambientgen make`, and `python -m bot` on a machine that has no token yet."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile

from ambientgen import __version__
from ambientgen.__main__ import main
from ambientgen.recipe import Recipe
from bot.client import PERMISSIONS

ROOT = Path(__file__).parent.parent
#: Every render here: quick, and the same on machines with and without a model.
QUICK = ("--engine", "procedural", "--duration", "3")


def make(*arguments: str | Path) -> int:
    """`python -m ambientgen make ...` in this process."""
    return main(["make", *map(str, arguments)])


def run(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command line as its own process, without the settings of whoever runs the tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AMBIENT_", "DISCORD_"))}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, encoding="utf-8", timeout=120, check=False,
        env={**clean, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **environ},
    )  # fmt: skip


def is_png(path: Path) -> bool:
    """True if a file begins like a picture."""
    return path.read_bytes().startswith(b"\x89PNG")


def test_make_writes_sound_and_picture_and_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One command gives both files; the words name scene, layers, figures, seed and paths."""
    out = tmp_path / "rain.ogg"
    assert make("gentle rain with distant thunder", *QUICK, "--seed", "7", "--out", out) == 0
    assert soundfile.info(out).frames == 3 * 48_000
    assert is_png(tmp_path / "rain.png")
    assert {path.name for path in tmp_path.iterdir()} == {"rain.ogg", "rain.png"}
    said = capsys.readouterr().out
    for words in ("gentle rain with distant thunder", "distant thunder\n", "3.00 s", "LUFS", "seed 7", str(out)):
        assert words in said
    assert "not used" not in said


def test_json_facts_are_what_the_file_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Length, size, rate, loudness and the recipe as JSON agree with the file, decoded and measured by others."""
    out = tmp_path / "rain.ogg"
    assert make("heavy rain", *QUICK, "--seed", "3", "--out", out, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    samples, rate_hz = soundfile.read(out)
    loudness = pyloudnorm.Meter(rate_hz).integrated_loudness(samples)
    assert loudness == pytest.approx(-20.0, abs=0.3)
    assert facts["integrated_lufs"] == pytest.approx(loudness, abs=0.1)
    assert facts["duration_s"] == pytest.approx(len(samples) / rate_hz) == 3.0
    assert facts["sample_rate_hz"] == rate_hz == 48_000
    assert facts["num_channels"] == samples.shape[1] == 2
    assert facts["num_bytes"] == out.stat().st_size
    assert facts["peak_dbtp"] <= -1.0
    assert (facts["path"], facts["picture_path"]) == (str(out), str(tmp_path / "rain.png"))
    assert Recipe.from_json(json.dumps(facts["recipe"])).seed == 3


def test_a_stored_recipe_gives_the_same_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recipe alone, and what `--json` printed, render the sound again bit by bit."""
    first, second, third = (tmp_path / f"{name}.flac" for name in ("first", "second", "third"))
    assert make("a campfire at night with crickets", *QUICK, "--out", first, "--json") == 0
    printed = capsys.readouterr().out
    (tmp_path / "printed.json").write_text(printed, encoding="utf-8")
    (tmp_path / "recipe.json").write_text(json.dumps(json.loads(printed)["recipe"]), encoding="utf-8")
    assert make("--recipe", tmp_path / "printed.json", "--out", second) == 0
    assert make("--recipe", tmp_path / "recipe.json", "--out", third) == 0
    samples = soundfile.read(first, dtype="int16")[0]
    assert samples.any()
    assert np.array_equal(samples, soundfile.read(second, dtype="int16")[0])
    assert np.array_equal(samples, soundfile.read(third, dtype="int16")[0])


@pytest.mark.parametrize(
    ("name", "kind"), [("a.ogg", "OGG"), ("a.flac", "FLAC"), ("a.wav", "WAV"), ("a.mp3", "MP3"), ("A.FLAC", "FLAC")]
)
def test_the_ending_decides_the_format(tmp_path: Path, name: str, kind: str) -> None:
    """Without `--format`, `--out` says what is written, whatever its case."""
    assert make("rain", "--engine", "procedural", "--duration", "1", "--out", tmp_path / name) == 0
    (written,) = [path for path in tmp_path.iterdir() if path.suffix != ".png"]
    assert written.stem == Path(name).stem
    assert soundfile.info(written).format == kind


def test_a_format_without_an_out_file_lands_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default name holds the seed and the ending of the format."""
    monkeypatch.chdir(tmp_path)
    assert make("rain", "--engine", "procedural", "--duration", "1", "--seed", "9", "--format", "flac") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"ambient-9.flac", "ambient-9.png"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rain", "--out", "x.exe"), "Endings: .ogg, .mp3, .flac, .wav"),
        (("rain", "--out", "x.wav", "--format", "mp3"), "--out ends in .wav, but the format is mp3"),
        (("rain", "--out", "no/such/folder/x.ogg"), "folder of --out does not exist"),
        (("rain", "--duration", "0"), "`duration` goes from"),
        (("rain", "--duration", "3601"), "`duration` goes from"),
        (("rain", "--duration", "nan"), "`duration` goes from"),
        (("rain", "--seed", "-1"), "`seed` goes from"),
        (("rain", "--steps", "9"), "`steps` goes from"),
        (("rain", "--guidance-scale", "99"), "`guidance_scale` goes from"),
        (("rain", "--negative-prompt", "n" * 301), "at most 300"),
        (("", ), "scene is empty"),
        (("🌧🌊",), "no words"),
        (("r" * 501,), "500 is the most"),
        (("rain", "--engine", "nope"), "no engine of that name"),
        (("--recipe", "missing.json", "--seed", "3"), "leave out --seed"),
        (("--recipe", "missing.json"), "recipe file cannot be read"),
        (("--recipe", "not.json"), "not JSON"),
        (("--recipe", "empty.json"), "no layers"),
        (("--recipe", "binary.json"), "recipe file cannot be read"),
    ],
    ids=lambda value: " ".join(value)[:30].encode("ascii", "ignore").decode() if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_bad_request_is_refused_with_words(
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, one sentence on stderr, nothing on stdout, and no file is left."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "not.json").write_text("{", encoding="utf-8")
    (tmp_path / "empty.json").write_text("{}", encoding="utf-8")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    before = set(tmp_path.iterdir())
    engine = () if {"--engine", "--recipe"} & set(arguments) else ("--engine", "procedural")
    assert make(*arguments, *engine) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert set(tmp_path.iterdir()) == before


def test_an_unknown_scene_gets_suggestions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the procedural engine cannot make is refused with scenes that work."""
    assert make("xyzzy plugh", *QUICK, "--out", tmp_path / "x.ogg") == 2
    error = capsys.readouterr().err
    assert error.count("  try: ") == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["make"], ["make", "rain", "--quality", "ultra"], ["make", "a", "b"], ["x"]])
def test_a_bad_usage_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What is no command line of ours ends with code 2 and the usage."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: ambientgen" in capsys.readouterr().err


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` names the program and its version."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"AmbientGen {__version__}\n"


def test_options_the_engine_cannot_use_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In words, and in the JSON, by the names the command line has for them."""
    arguments = ("rain", "--engine", "procedural", "--duration", "1", "--steps", "20", "--negative-prompt", "x")
    assert make(*arguments, "--out", tmp_path / "a.ogg") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not used by procedural: ")]
    assert set(line.replace("_", "-").partition(": ")[2].split(", ")) == {"negative-prompt", "steps"}
    assert make(*arguments, "--out", tmp_path / "b.ogg", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["not_used"]["procedural"]) == {
        "negative_prompt", "num_inference_steps",
    }  # fmt: skip


def test_a_loop_says_how_its_seam_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--loop` adds a line about the seam."""
    assert make("gentle rain", *QUICK, "--loop", "--seed", "1", "--out", tmp_path / "a.ogg") == 0
    assert re.search(r"^loop seam +(clean|may be heard)$", capsys.readouterr().out, flags=re.MULTILINE)


def test_a_folder_that_cannot_be_written_is_the_machines_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder in the sound's place gives code 1 and one sentence."""
    (tmp_path / "a.ogg").mkdir()
    assert make("rain", "--engine", "procedural", "--duration", "1", "--out", tmp_path / "a.ogg") == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.ogg"]


def test_as_a_process_progress_goes_to_stderr_line_by_line(tmp_path: Path) -> None:
    """Without a terminal each stage is one plain line on stderr, and stdout holds the JSON alone."""
    result = run(
        "-m", "ambientgen", "make", "gentle rain", *QUICK, "--seed", "7", "--out", "rain.ogg", "--json", cwd=tmp_path
    )  # fmt: skip
    assert result.returncode == 0
    assert json.loads(result.stdout)["path"] == "rain.ogg"
    assert "finishing …" in result.stderr.splitlines()
    assert all(re.fullmatch(r"[a-z]+ …", line) for line in result.stderr.splitlines())
    assert "\x1b" not in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"rain.ogg", "rain.png"}


# ---------------------------------------------------------------------- python -m bot


def test_the_bot_without_a_token_makes_a_first_sound(tmp_path: Path) -> None:
    """It writes a clip and its picture, says its figures, the three steps and the invite link, and exits with 0."""
    result = run("-m", "bot", cwd=tmp_path, AMBIENT_MODEL="none")
    assert result.returncode == 0, result.stderr
    sound, picture = tmp_path / "data" / "first-sound.ogg", tmp_path / "data" / "first-sound.png"
    assert soundfile.info(sound).duration == pytest.approx(20.0)
    assert is_png(picture)
    said = result.stdout
    for words in ("20.0 s", "LUFS", "dBTP", "no GPU", "first-sound.ogg", "first-sound.png", "DISCORD_TOKEN=..."):
        assert words in said
    assert [line.strip()[:2] for line in said.splitlines() if re.match(r"  \d\. ", line)] == ["1.", "2.", "3."]
    assert f"client_id=YOUR_APPLICATION_ID&scope=bot+applications.commands&permissions={PERMISSIONS.value}" in said
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("environ", "env_file", "words"),
    [
        ({"AMBIENT_TARGET_LUFS": "loud"}, "", "AMBIENT_TARGET_LUFS must be"),
        ({"AMBIENT_DATADIR": "x"}, "", "AMBIENT_DATA_DIR"),
        ({}, "DISCORD_TOKEN=Bot abc\n", "DISCORD_TOKEN"),
        ({"AMBIENT_DATA_DIR": "in-the-way"}, "", "AMBIENT_DATA_DIR"),
    ],
)
def test_the_bot_refuses_a_wrong_setting_with_one_sentence(
    tmp_path: Path, environ: dict[str, str], env_file: str, words: str
) -> None:
    """Exit code 1, one line that names the setting, and nothing is made."""
    (tmp_path / "in-the-way").write_text("a file", encoding="utf-8")
    (tmp_path / ".env").write_text(env_file, encoding="utf-8")
    result = run("-m", "bot", cwd=tmp_path, **environ)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("AmbientGen cannot start: ")
    assert words in line
    assert result.stdout == ""
    assert {path.name for path in tmp_path.iterdir()} == {"in-the-way", ".env"}
