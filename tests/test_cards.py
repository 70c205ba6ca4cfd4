"""The cards, whatever people typed: within Discord's limits, no pings, no markdown of theirs, and every state."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from typing import Any

import discord
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedEngine

from ambientgen.engines.base import Progress
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.recipe import Layer, Recipe, SceneRequest
from bot.clips import StoredClip
from bot.jobs import JobView
from bot.store import Job
from bot.ui import cards

MODEL = ScriptedEngine().spec
SPECS = {"audioldm2": MODEL, "procedural": ProceduralEngine().spec}
FACTS = {
    "duration_s": 20.0,
    "integrated_lufs": -20.04,
    "peak_dbtp": -3.21,
    "file_format": "opus",
    "render_time_s": 2.4,
    "shrunk": False,
    "seam": None,
    "notes": [],
}
CLIP = StoredClip("ambient-abcdefghij-7.ogg", b"x" * 2048, b"png")
#: What people try: pings, links, quotes, code, headings, lists, spoilers.
HOSTILE = st.sampled_from(
    [
        "@everyone ",
        "<@123456789012345678>",
        "<@&123456789012345678>",
        "@here",
        "**",
        "```",
        "`",
        "||",
        "> ",
        "\n# ",
        "_",
    ]
)
DESCRIPTIONS = st.one_of(
    st.text(min_size=1, max_size=500),
    st.lists(st.one_of(HOSTILE, st.text(max_size=5)), min_size=1, max_size=80).map(lambda parts: "".join(parts)[:500]),
    st.sampled_from(["*" * 500, "\\" * 500, "@everyone" * 55, "`" * 500, "[a](https://b.c) " * 31]),
).filter(bool)
PROMPTS = st.one_of(st.text(min_size=1, max_size=600), st.sampled_from(["*" * 600, "_ " * 300, "@everyone" * 66]))
VIEWS = st.builds(
    JobView,
    num_ahead=st.integers(0, 1000),
    running=st.booleans(),
    eta_s=st.none() | st.floats(0, 1e7),
    progress=st.builds(
        Progress,
        stage=st.sampled_from(list(cards._STAGE_WORDS)),
        step=st.integers(0, 10_000),
        num_steps=st.integers(0, 10_000),
    ),
    warming_up=st.booleans(),
    range_s=st.none() | st.tuples(st.floats(0, 1e3), st.floats(1e3, 1e7)),
)


def a_job(description: str = "gentle rain", *layers: Layer, **changes: Any) -> Job:
    """A finished job of one layer of the model's unless told otherwise."""
    recipe = Recipe(
        layers=layers or (a_layer("gentle rain"),),
        duration_s=20.0,
        loop=changes.pop("loop", False),
        target_lufs=-20.0,
        engine_versions={"audioldm2": "1"},
    )
    options = {name: changes.pop(name) for name in list(changes) if name in SceneRequest.__dataclass_fields__}
    return Job(
        id="abcdefghij",
        recipe=recipe,
        request=SceneRequest(description=description, **options),
        file_format="opus",
        user_id=123456789012345678,
        guild_id=1,
        channel_id=2,
        upload_limit_bytes=2**20,
        status="done",
        created_at=datetime.now(UTC),
        facts={**FACTS, **changes.pop("facts", {})},
        **changes,
    )


def a_layer(prompt: str, engine: str = "audioldm2", **changes: Any) -> Layer:
    """A layer of the model's, or of the procedural engine's."""
    if engine == "procedural":
        return Layer(engine=engine, prompt=prompt, seed=7, **changes)
    options = {"negative_prompt": "music", "guidance_scale": 6.0, "num_inference_steps": 50, **changes}
    return Layer(engine=engine, prompt=prompt, seed=7, **options)


def a_view(**changes: Any) -> JobView:
    """A job that starts now."""
    plain = JobView(num_ahead=0, running=False, eta_s=None, progress=Progress("queued"), warming_up=False)
    return dataclasses.replace(plain, **changes)


def field_of(embed: discord.Embed, name: str) -> str:
    """The text of one of a card's fields, or an empty one."""
    return next((field.value or "" for field in embed.fields if field.name == name), "")


def check_limits(embed: discord.Embed) -> None:
    """What Discord takes."""
    assert 1 <= len(embed.description or "") <= 4096
    assert len(embed.title or "") <= 256
    assert len(embed.footer.text or "") <= 2048
    assert len(embed.fields) <= 25
    for field in embed.fields:
        assert 1 <= len((field.name or "").strip()) <= 256
        assert 1 <= len((field.value or "").strip()) <= 1024
    assert len(embed) <= 6000


def check_harmless(text: str) -> None:
    """No ping, and each sign of markdown behind a backslash."""
    assert not re.search(r"@(everyone|here|[!&]?[0-9]{17,20})", text)
    without_links = re.sub(r"<?https?://\S+", "", text)  # inside a bare link Discord reads no markdown
    unescaped = re.sub(r"\\.", "", without_links, flags=re.DOTALL)
    assert not re.search(r"[*_`|~]", unescaped), text
    assert not re.search(r"\[[^\]\n]+\]\(", unescaped), text


@settings(max_examples=150, deadline=None)
@given(DESCRIPTIONS, VIEWS)
def test_waiting_cards_stay_within_the_limits(description: str, view: JobView) -> None:
    """A waiting, running, failed or cancelled card fits, whatever the scene says."""
    job = a_job(description)
    for embed in (cards.waiting(job, view), cards.failed(job, "words " * 100), cards.cancelled(job)):
        check_limits(embed)
    line = cards.one_line(job)
    assert len(line) <= 256
    check_harmless(line.split(" · ")[0].removeprefix("🔊 **").removesuffix("**"))


@settings(max_examples=150, deadline=None)
@given(
    DESCRIPTIONS,
    st.lists(
        st.tuples(PROMPTS, st.none() | st.text(max_size=300), st.sampled_from(list(SPECS))), min_size=1, max_size=5
    ),
    st.booleans(),
)
def test_result_cards_stay_within_the_limits(
    description: str, parts: list[tuple[str, str | None, str]], loop: bool
) -> None:
    """A finished card fits with five layers of the longest prompts, with and without its sound."""
    layers = [a_layer(prompt, engine, negative_prompt=negative) for prompt, negative, engine in parts]
    job = a_job(description, *layers, loop=loop, num_inference_steps=20, facts={"notes": ["n" * 200] * 5})
    check_limits(cards.result(job, SPECS, CLIP))
    check_limits(cards.result(job, SPECS, None, "The sound is not kept any more."))
    assert len(cards.alt_text(job)) <= 1024
    assert len(cards.picture_alt_text(job)) <= 1024


@settings(max_examples=300, deadline=None)
@given(DESCRIPTIONS)
def test_a_persons_words_ping_nobody_and_format_nothing(text: str) -> None:
    """Quoted text holds no ping and no live markdown, and is at most twice its limit."""
    for limit in (500, 60):
        shown = cards.quoted(text, limit)
        check_harmless(shown)
        assert len(shown) <= 2 * limit + text.count("@")


def test_quoted_words_stay_on_one_line() -> None:
    """Line breaks and control characters cannot leave the quote or forge lines."""
    shown = cards.quoted("rain\n\n⚠️ This server\r\nis\u2028closed\x00\x1b[31m")
    assert shown.splitlines() == [shown]
    assert not any(ord(char) < 32 for char in shown)


def test_every_masked_link_is_defused() -> None:
    """Of several masked links on a line none stays live."""
    check_harmless(cards.quoted("[one](https://a.example) and [two](https://b.example)"))


def test_a_shortened_text_says_so() -> None:
    """Text beyond its limit ends in an ellipsis."""
    assert cards.quoted("r" * 600) == "r" * 499 + "…"
    assert cards.quoted("r" * 500) == "r" * 500


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (a_view(), "Starting"),
        (a_view(num_ahead=1), "**2nd** in the queue"),
        (a_view(num_ahead=2), "**3rd** in the queue"),
        (a_view(num_ahead=3), "**4th** in the queue"),
        (a_view(num_ahead=10), "**11th** in the queue"),
        (a_view(num_ahead=20), "**21st** in the queue"),
        (a_view(num_ahead=111), "**112th** in the queue"),
        (a_view(num_ahead=1, eta_s=42.4), "about 42 s"),
        (a_view(num_ahead=1, eta_s=600), "about 10 min"),
        (a_view(num_ahead=2, eta_s=40, range_s=(35, 50)), "**3rd** in the queue · about 40 s"),
        (a_view(num_ahead=2, eta_s=60, range_s=(33, 118)), "**3rd** in the queue · 30 s to 2 min"),
        (a_view(num_ahead=2, eta_s=300, range_s=(130, 500)), "**3rd** in the queue · 2 min to 9 min"),
        (a_view(num_ahead=2, eta_s=40, range_s=(33, 71)), "**3rd** in the queue · 30 s to 75 s"),
        (a_view(num_ahead=1, eta_s=4, range_s=(2.5, 9.1)), "2 s to 10 s"),
        (a_view(num_ahead=1, eta_s=4, range_s=(0.2, 9.1)), "up to 10 s"),
        (a_view(running=True, eta_s=20, range_s=(11, 31)), "11 s to 35 s"),
        (a_view(warming_up=True), "warming up"),
        (a_view(running=True, progress=Progress("loading")), "Loading the model…"),
        (a_view(running=True, progress=Progress("denoising", 25, 50)), "`████████░░░░░░░░` 25/50"),
        (a_view(running=True, progress=Progress("denoising", 60, 50)), "`████████████████` 60/50"),
        (a_view(running=True, progress=Progress("finishing", 5, 5)), "Mixing and mastering"),
    ],
)
def test_a_waiting_card_says_how_it_stands(view: JobView, words: str) -> None:
    """Place, time, warming up and progress are on the card, under the scene."""
    description = cards.waiting(a_job(), view).description
    assert description is not None
    assert description.startswith("> gentle rain\n\n")
    assert words in description


def test_a_finished_card_has_the_facts() -> None:
    """Length, loudness, peak, format, size, engine, time, who asked, seed, id and picture."""
    embed = cards.result(a_job(), SPECS, CLIP)
    sound = field_of(embed, "Sound")
    for words in (
        "20.0 s",
        "-20.0 LUFS",
        "-3.2 dBTP",
        "opus · 2 KiB",
        "engine audioldm2",
        "2 s",
        "<@123456789012345678>",
    ):
        assert words in sound
    assert embed.footer.text == "seed 7 · abcdefghij"
    assert embed.image.url == "attachment://ambient-abcdefghij-7.png"
    assert field_of(embed, "The model reads") == "“gentle rain”\nnot: music\nguidance 6 · 50 steps"
    assert field_of(embed, "Good to know") == ""


def test_a_card_without_a_picture_names_none() -> None:
    """No picture, no image: a missing attachment would be refused."""
    assert cards.result(a_job(), SPECS, dataclasses.replace(CLIP, picture=None)).image.url is None
    assert cards.result(a_job(), SPECS, None, "gone").image.url is None


def test_failed_and_cancelled_cards_say_so() -> None:
    """The words of a failure, or “Cancelled.”, under the scene."""
    assert cards.failed(a_job(), "It broke.").description == "> gentle rain\n\n⚠️ It broke."
    assert cards.cancelled(a_job()).description == "> gentle rain\n\nCancelled."


def test_options_an_engine_cannot_use_are_named() -> None:
    """By the names people know them by, once an engine; nothing is said of options it uses."""
    job = a_job("rain", a_layer("light rain", "procedural"), num_inference_steps=20)
    assert field_of(cards.result(job, SPECS, CLIP), "Good to know") == "• not used by procedural: `steps`"
    job = a_job(
        "rain", a_layer("light rain", "procedural"), quality="high", guidance_scale=5.0, negative_prompt="x"
    )  # fmt: skip
    notes = field_of(cards.result(job, SPECS, CLIP), "Good to know")
    assert notes == "• not used by procedural: `quality`, `negative_prompt`, `guidance_scale`"
    assert field_of(cards.result(a_job(num_inference_steps=20), SPECS, CLIP), "Good to know") == ""


@pytest.mark.parametrize(("scale", "is_said"), [(7.5, False), (10.0, False), (10.1, True), (15.0, True)])
def test_a_high_guidance_is_remarked_on(scale: float, is_said: bool) -> None:
    """Above 10, and only there, the card says that it tends to sound overcooked."""
    notes = field_of(cards.result(a_job("rain", a_layer("rain", guidance_scale=scale)), SPECS, CLIP), "Good to know")
    assert ("overcooked" in notes) == is_said


def test_a_loop_is_explained() -> None:
    """The card says that the end joins the beginning, how well, and that Discord's player cannot repeat it."""
    clean = cards.result(a_job(loop=True, facts={"seam": {"clean": True}}), SPECS, CLIP)
    assert "loop" in field_of(clean, "Sound")
    assert "the end joins the beginning; download it" in field_of(clean, "Good to know")
    heard = cards.result(a_job(loop=True, facts={"seam": {"clean": False}}), SPECS, CLIP)
    assert "the end meets the beginning may be heard; download it" in field_of(heard, "Good to know")
    assert "loop" not in field_of(heard, "Sound")


def test_a_rounded_loop_is_told() -> None:
    """A model's loop is whole frames long; the card says so where that is not what was asked."""
    told = cards.result(a_job(loop=True, duration_s=19.99), SPECS, CLIP)
    assert "the loop is 20 s long, not 19.99 s" in field_of(told, "Good to know")
    for job in (a_job(loop=True, duration_s=20.0), a_job(duration_s=19.99), a_job(loop=True)):
        assert "long, not" not in field_of(cards.result(job, SPECS, CLIP), "Good to know")


def test_a_smaller_file_than_asked_is_said() -> None:
    """Whether it was shrunk when it was made or for this message."""
    for embed in (
        cards.result(a_job(facts={"shrunk": True}), SPECS, CLIP),
        cards.result(a_job(), SPECS, dataclasses.replace(CLIP, shrunk=True)),
    ):
        assert "made smaller than asked" in field_of(embed, "Good to know")


def test_notes_of_the_making_are_shown() -> None:
    """What happened on the way is on the card."""
    embed = cards.result(a_job(facts={"notes": ["the first take was broken"]}), SPECS, CLIP)
    assert field_of(embed, "Good to know") == "• the first take was broken"


def test_a_card_of_an_engine_that_is_gone_still_shows() -> None:
    """A job of an engine this bot no longer has keeps its card, and the prompt stays a person's words."""
    embed = cards.result(a_job("rain", a_layer("rain @everyone **loud**", "audioldm2")), {}, CLIP)
    check_limits(embed)
    labelled = a_layer("rain", "audioldm2", label="rain @everyone **loud**")
    embed = cards.result(a_job("rain", labelled), {}, CLIP)
    assert field_of(embed, "Made of").startswith("• rain")
    check_harmless(field_of(embed, "Made of"))
