"""Settings: the process environment, the .env file, and words for what cannot be used."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.settings import SETTINGS, Settings, SettingsError

TOKEN = "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs"  # noqa: S105 - made up
EXAMPLE = Path(__file__).parent.parent / ".env.example"
KEYS = [setting.key for setting in SETTINGS]
NO_BIG_EXAMPLES = settings(max_examples=60, deadline=None)


def load(**environ: str) -> Settings:
    """Settings of an environment alone."""
    return Settings.load(environ, None)


def load_file(folder: Path, text: str, **environ: str) -> Settings:
    """Settings of a .env file with this text."""
    path = folder / ".env"
    path.write_text(text, encoding="utf-8")
    return Settings.load(environ, path)


def refusal(**environ: str) -> str:
    """The words with which an environment is refused."""
    with pytest.raises(SettingsError) as caught:
        load(**environ)
    return str(caught.value)


def file_refusal(folder: Path, text: str) -> str:
    """The words with which a .env file is refused."""
    with pytest.raises(SettingsError) as caught:
        load_file(folder, text)
    return str(caught.value)


def test_nothing_given() -> None:
    """Without any setting, the documented defaults hold."""
    assert load() == Settings(
        discord_token=None,
        data_dir=Path("data"),
        model="cvssp/audioldm2",
        stable_audio_model=None,
        device=None,
        dtype=None,
        diffusion_loop="own",
        target_lufs=-20.0,
        max_duration_s=600.0,
        max_pending_per_user=3,
        max_pending=50,
        max_clips_mib=2048,
        max_stems_mib=1024,
        log_level="INFO",
    )


def test_everything_given(tmp_path: Path) -> None:
    """Each key of the .env file reaches its attribute."""
    text = (
        "DISCORD_TOKEN= abc.def \nAMBIENT_DATA_DIR='/srv/my sounds'\nAMBIENT_MODEL=None\nAMBIENT_DEVICE=cuda:1\n"
        "AMBIENT_DTYPE=Float16\nAMBIENT_TARGET_LUFS=-16.5\nAMBIENT_MAX_DURATION_S=30 # seconds\n"
        "AMBIENT_MAX_PENDING_PER_USER=50\nAMBIENT_MAX_PENDING=1000\nexport AMBIENT_MAX_CLIPS_MIB=50\n"
        "AMBIENT_LOG_LEVEL=debug\nAMBIENT_STABLE_AUDIO_MODEL=stabilityai/stable-audio-open-1.0\n"
        "AMBIENT_DIFFUSION_LOOP=Diffusers\n"
    )
    loaded = load_file(tmp_path, text)
    assert loaded.discord_token is not None
    assert loaded.discord_token.reveal() == "abc.def"
    assert dataclasses.replace(loaded, discord_token=None) == Settings(
        discord_token=None,
        data_dir=Path("/srv/my sounds"),
        model=None,
        stable_audio_model="stabilityai/stable-audio-open-1.0",
        device="cuda:1",
        dtype="float16",
        diffusion_loop="diffusers",
        target_lufs=-16.5,
        max_duration_s=30.0,
        max_pending_per_user=50,
        max_pending=1000,
        max_clips_mib=50,
        max_stems_mib=1024,
        log_level="DEBUG",
    )


def test_environment_wins(tmp_path: Path) -> None:
    """The process environment wins over the file, also with an empty value, which means the default."""
    text = "AMBIENT_LOG_LEVEL=ERROR\nAMBIENT_MODEL=someone/else\nAMBIENT_MAX_PENDING=7\n"
    loaded = load_file(tmp_path, text, AMBIENT_LOG_LEVEL="WARNING", AMBIENT_MODEL="")
    assert (loaded.log_level, loaded.model, loaded.max_pending) == ("WARNING", "cvssp/audioldm2", 7)


def test_missing_file(tmp_path: Path) -> None:
    """A .env file that does not exist counts as empty."""
    assert Settings.load({}, tmp_path / ".env") == load()


def test_dollar_signs_stay(tmp_path: Path) -> None:
    """A value is taken as it is written, without replacing variables."""
    assert load_file(tmp_path, "AMBIENT_MODEL=${HOME}/model\n").model == "${HOME}/model"


def test_byte_order_mark(tmp_path: Path) -> None:
    """The invisible mark that some Windows editors put first does not hide the first setting."""
    path = tmp_path / ".env"
    path.write_text("AMBIENT_MAX_PENDING=7\n", encoding="utf-8-sig")
    assert Settings.load({}, path).max_pending == 7


def test_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A data folder may begin with a tilde, which no shell has replaced in a .env file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert load(AMBIENT_DATA_DIR="~/sounds").data_dir == tmp_path / "sounds"


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("AMBIENT_DATA_DIR", ["a\0b", "~nobody-of-this-name/x"]),
        ("AMBIENT_MODEL", ["a\nb"]),
        ("AMBIENT_DEVICE", ["gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0"]),
        ("AMBIENT_DTYPE", ["float64", "fp16"]),
        ("AMBIENT_DIFFUSION_LOOP", ["plain", "true"]),
        ("AMBIENT_TARGET_LUFS", ["-41", "-9.9", "20", "nan", "-inf", "-2_0", "-20,5", "1e1", "loud"]),
        ("AMBIENT_MAX_DURATION_S", ["1.9", "600.1", "-30", "30s", "0x10"]),
        ("AMBIENT_MAX_PENDING_PER_USER", ["0", "51", "2.0", "three", "٣"]),
        ("AMBIENT_MAX_PENDING", ["0", "1001", "-1"]),
        ("AMBIENT_MAX_CLIPS_MIB", ["49", "1000001", "2GiB"]),
        ("AMBIENT_LOG_LEVEL", ["TRACE", "10"]),
    ],
)
def test_bad_values(key: str, values: list[str]) -> None:
    """A value outside what is allowed is refused in one sentence with the key, what is allowed and what was given."""
    allowed = next(setting.allowed for setting in SETTINGS if setting.key == key)
    for value in values:
        assert refusal(**{key: value}) == f"{key} must be {allowed}; it is {value!r}."


def test_long_value_is_cut() -> None:
    """A refused value of any length makes a short message."""
    assert len(refusal(AMBIENT_DEVICE="x" * 10_000)) < 200


@given(st.integers(-(10**13), 10**13))
@NO_BIG_EXAMPLES
def test_whole_numbers(number: int) -> None:
    """Exactly the whole numbers of the range are taken."""
    if 1 <= number <= 50:
        assert load(AMBIENT_MAX_PENDING_PER_USER=str(number)).max_pending_per_user == number
    else:
        assert str(number) in refusal(AMBIENT_MAX_PENDING_PER_USER=str(number))


@given(st.sampled_from(KEYS), st.text(max_size=80))
@NO_BIG_EXAMPLES
def test_any_text(key: str, text: str) -> None:
    """Whatever stands in a setting, it is taken or refused in words that name the key."""
    try:
        load(**{key: text})
    except SettingsError as error:
        assert key in str(error)  # noqa: PT017 - most texts are refused, some are not


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file(tmp_path: Path, text: str) -> None:
    """Whatever stands in the .env file, it is read or refused in words."""
    try:
        load_file(tmp_path, text)
    except SettingsError as error:
        assert str(error).endswith(".")  # noqa: PT017 - some files are fine


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("AMBIENT_MODLE=x", "The .env file has AMBIENT_MODLE, which is no setting; the nearest one is AMBIENT_MODEL."),
        ("DISCORD_TOKN=x", "The .env file has DISCORD_TOKN, which is no setting; the nearest one is DISCORD_TOKEN."),
        ("ambient_device=cpu", "has ambient_device, which is no setting; the nearest one is AMBIENT_DEVICE."),
        ("AMBIENT_MAX_PENDING_USER=2", "the nearest one is AMBIENT_MAX_PENDING_PER_USER."),
        ("\n\nAMBIENT_MODEL\n", "Line 3 of the .env file cannot be read"),
        ("FINE=1\nAMBIENT_MODEL: x\n", "Line 2 of the .env file cannot be read"),
        ('AMBIENT_MODEL="x\n', "Line 1 of the .env file cannot be read"),
    ],
)
def test_bad_lines(tmp_path: Path, text: str, words: str) -> None:
    """A misspelt key or an unreadable line in the file is refused, with the nearest key or the line's number."""
    assert words in file_refusal(tmp_path, text)


def test_misspelt_in_environment() -> None:
    """In the environment only the AMBIENT_ names are this bot's to check."""
    assert "The environment has AMBIENT_DEVISE" in refusal(AMBIENT_DEVISE="cpu")
    assert load(DISCORD_WEBHOOK="x", ambient_light="on", PATH="/bin") == load()
    assert load(AMBIENT_DISCORD_STANDIN="http://localhost", AMBIENT_REFERENCES="x") == load()


def test_foreign_keys_in_file(tmp_path: Path) -> None:
    """The file may hold settings of other programs."""
    assert load_file(tmp_path, "# mine\nCOMPOSE_PROJECT_NAME=ambient\n\n") == load()


def test_undecodable_file(tmp_path: Path) -> None:
    """A file in another encoding is refused with what to do."""
    path = tmp_path / ".env"
    path.write_bytes("AMBIENT_MODEL=x\n".encode("utf-16"))
    with pytest.raises(SettingsError, match=r"not UTF-8 text; save it again"):
        Settings.load({}, path)


def test_unreadable_file(tmp_path: Path) -> None:
    """A folder in the file's place is refused without its path."""
    with pytest.raises(SettingsError, match=r"cannot be read") as caught:
        Settings.load({}, tmp_path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (f"Bot {TOKEN}", 'begins with "Bot "'),
        (f"bot  {TOKEN}", 'begins with "Bot "'),
        (f'"{TOKEN}"', "quotation mark"),
        (f"'{TOKEN}", "quotation mark"),
        (f"\u201c{TOKEN}\u201d", "quotation mark"),
        (f"{TOKEN[:30]} {TOKEN[30:]}", "white space"),
        (f"{TOKEN[:30]}\n{TOKEN[30:]}", "white space"),
        (f"{TOKEN}\u00e9", "a character that no token has"),
        (f"{TOKEN}\0", "a character that no token has"),
    ],
)
def test_bad_token(value: str, words: str) -> None:
    """A token that cannot be one is refused with its own words and never shown."""
    message = refusal(DISCORD_TOKEN=value)
    assert words in message
    assert TOKEN[:30] not in message
    assert TOKEN[30:] not in message


def test_empty_token() -> None:
    """An empty token is no token, also where only white space stands."""
    assert load(DISCORD_TOKEN="").discord_token is None
    assert load(DISCORD_TOKEN=" \t").discord_token is None  # noqa: S106 - nothing but white space


def test_token_stays_hidden(caplog: pytest.LogCaptureFixture) -> None:
    """No way of showing the settings shows the token."""
    loaded = load(DISCORD_TOKEN=f" {TOKEN}\n")
    assert loaded.discord_token is not None
    assert loaded.discord_token.reveal() == TOKEN
    caplog.set_level(logging.DEBUG)
    logging.getLogger("test").info("%s %r %s", loaded, loaded.discord_token, dataclasses.asdict(loaded))
    shown = (
        f"{loaded} {loaded!r} {loaded.discord_token} {loaded.discord_token!r} {[loaded.discord_token]} {caplog.text}"
    )
    assert TOKEN not in shown
    assert shown.count("Secret(set)") >= 5


@given(
    junk=st.text(alphabet=" \t\"'`:=#\n\\é\0-", max_size=3),
    glue=st.sampled_from(["=", " ", ":", "", "_", " = ", "='", '="', "\n", "=Bot "]),
    key=st.sampled_from(["DISCORD_TOKEN", "AMBIENT_MODLE", "discord_token", "AMBIENT_TOKEN", "export DISCORD_TOKEN"]),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mistyped_file_never_shows_the_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, junk: str, glue: str, key: str
) -> None:
    """However the line with the token is mistyped, neither the words nor the log show a part of it."""
    caplog.set_level(logging.DEBUG)
    try:
        shown = repr(load_file(tmp_path, f"{key}{glue}{junk}{TOKEN}{junk}\n"))
    except SettingsError as error:
        shown = str(error)
    assert not any(part in shown + caplog.text for part in TOKEN.split("."))


def test_example_agrees() -> None:
    """The example file has each setting once, with its default and its help, and no other."""
    text = EXAMPLE.read_text(encoding="utf-8")
    documented = re.findall(r"^# (.+)\n([A-Z_]+)=(.*)$", text, flags=re.MULTILINE)
    assert documented == [(setting.help, setting.key, setting.default) for setting in SETTINGS]
    assert list(dotenv_values(EXAMPLE, interpolate=False)) == KEYS


def test_example_loads() -> None:
    """The example file as it is gives the defaults."""
    assert Settings.load({}, EXAMPLE) == load()


def test_table_and_attributes_agree() -> None:
    """Each setting of the table is an attribute, and the other way round."""
    assert [setting.field for setting in SETTINGS] == [field.name for field in dataclasses.fields(Settings)]
