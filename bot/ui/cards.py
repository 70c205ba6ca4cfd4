"""The cards: embeds for a waiting, running, finished, failed and cancelled job. Pure: from data to embeds."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import discord

from ambientgen.engines.base import Progress
from ambientgen.planning import not_made, rounded_loop, unused_options
from ambientgen.prompts import OVERCOOKED_GUIDANCE_SCALE
from ambientgen.recipe import Layer
from ambientgen.scenes import explain, plan
from ambientgen.spec import OPTION_WORDS, EngineSpec
from bot.clips import StoredClip
from bot.jobs import JobView
from bot.store import Job

COLOR = discord.Color(0x3BA7A0)
_FAILED_COLOR = discord.Color(0xC75146)
_QUIET_COLOR = discord.Color(0x7A828E)
_MAX_FIELD_CHARS = 1024
_BAR_WIDTH = 16
_MAX_WORDS_NAMED = 8
_OPEN_BRACKET = re.compile(r"(?<!\\)\[")
#: A range whose ends differ by no more than this factor is said as one number.
_SURE_UP_TO = 1.5
#: The end of a range of up to so many seconds is a whole multiple of so many.
_ROUNDED_TO_S = ((15.0, 1.0), (90.0, 5.0), (math.inf, 60.0))
_STAGE_WORDS = {
    "queued": "Starting",
    "loading": "Loading the model",
    "conditioning": "Reading the prompt",
    "denoising": "Generating",
    "rendering": "Rendering",
    "decoding": "Turning it into sound",
    "finishing": "Mixing and mastering",
}


def quoted(text: str, limit: int = 500) -> str:
    """A person's words on one line, shown as they typed them: no markdown, links or pings, at most `limit` characters.

    Escaping can double the length.
    """
    line = " ".join("".join(" " if unicodedata.category(c) in {"Cc", "Cs"} else c for c in text).split())
    shown = line if len(line) <= limit else line[: limit - 1] + "…"
    # discord.py escapes only the first of several masked links.
    escaped = _OPEN_BRACKET.sub(r"\[", discord.utils.escape_markdown(shown))
    return discord.utils.escape_mentions(escaped)


def waiting(job: Job, view: JobView) -> discord.Embed:
    """The card of a job that waits or runs."""
    if view.running:
        state = _progress_line(view.progress)
    elif view.warming_up:
        state = "⏳ The model is warming up; this starts as soon as it is ready."
    else:
        state = "⏳ Starting…" if view.num_ahead == 0 else f"⏳ **{_ordinal(view.num_ahead + 1)}** in the queue"
    if view.eta_s is not None:
        state += f" · {_until_done(view.eta_s, view.range_s)}"
    return _card(job, COLOR, state)


def result(
    job: Job, specs: Mapping[str, EngineSpec], clip: StoredClip | None, problem: str | None = None
) -> discord.Embed:
    """The card of a finished job; with `problem` in place of the sound where there is none to show."""
    embed = _card(job, COLOR, problem)
    if any(layer.label for layer in job.recipe.layers):
        made_of = "\n".join(map(_made_of, job.recipe.layers))
        embed.add_field(name="Made of", value=_fit(made_of), inline=False)
    readers = [layer for layer in job.recipe.layers if layer.engine in specs and specs[layer.engine].reads_any_text]
    if readers:
        embed.add_field(name="The model reads", value=_fit("\n".join(map(_reading, readers))), inline=False)
    embed.add_field(name="Sound", value=_facts_line(job, clip), inline=False)
    if notes := _notes(job, specs, clip):
        embed.add_field(name="Good to know", value=_fit("\n".join(f"• {note}" for note in notes)), inline=False)
    if clip is not None and clip.picture is not None:
        embed.set_image(url=f"attachment://{clip.name.rsplit('.', 1)[0]}.png")
    return embed


def failed(job: Job, words: str) -> discord.Embed:
    """The card of a job that ended without a sound."""
    return _card(job, _FAILED_COLOR, f"⚠️ {words}")


def cancelled(job: Job) -> discord.Embed:
    """The card of a cancelled job."""
    return _card(job, _QUIET_COLOR, "Cancelled.")


def alt_text(job: Job) -> str:
    """What a screen reader says of the sound."""
    return f"Ambient sound: {job.request.description}"[:1024]


def picture_alt_text(job: Job) -> str:
    """What a screen reader says of the picture."""
    lufs = (job.facts or {}).get("integrated_lufs")
    loudness = "" if lufs is None else f", {lufs:.1f} LUFS"
    length = f"{job.recipe.duration_s:.0f} s{loudness}"
    return f"Waveform and spectrogram of the ambient sound ({length}): {job.request.description}"[:1024]


def understood(job: Job) -> str:
    """Which words of the scene led to what, at most about 1,000 characters; above the recipe."""
    lines = [f"• {quoted(line, 100)}" for line in explain(plan(job.request.description))]
    heard = "What was understood of your words:\n" + _fit("\n".join(lines)) + "\n\n" if lines else ""
    return f"{heard}The recipe of `{job.id}`:"


def recipe_json(job: Job) -> str:
    """The whole recipe, indented, to copy."""
    return json.dumps(json.loads(job.recipe.to_json()), ensure_ascii=False, indent=2)


def one_line(job: Job) -> str:
    """A job in one line of a list."""
    outcome = {"done": "🔊", "failed": "⚠️", "cancelled": "✖️", "queued": "⏳", "running": "⏳"}[job.status]
    when = discord.utils.format_dt(job.created_at, "R")
    return f"{outcome} **{quoted(job.request.description, 70)}** · {job.recipe.duration_s:.0f} s · `{job.id}` · {when}"


def _card(job: Job, color: discord.Color, state: str | None) -> discord.Embed:
    scene = quoted(job.request.description)
    embed = discord.Embed(color=color, description=f"> {scene}" + (f"\n\n{state}" if state else ""))
    embed.set_author(name="Ambient soundscape")
    embed.set_footer(text=f"seed {job.recipe.seed} · {job.id}")
    return embed


def _progress_line(progress: Progress) -> str:
    words = _STAGE_WORDS[progress.stage]
    if not progress.num_steps:
        return f"🎧 {words}…"
    share = min(1.0, progress.step / progress.num_steps)
    full = round(share * _BAR_WIDTH)
    return f"🎧 {words} `{'█' * full}{'░' * (_BAR_WIDTH - full)}` {progress.step}/{progress.num_steps}"


def _made_of(layer: Layer) -> str:
    return f"• {quoted(layer.label or layer.prompt, 100)} · {layer.role} by {layer.engine}"


def _reading(layer: Layer) -> str:
    line = f"“{quoted(layer.prompt, 600)}”"
    if layer.negative_prompt:
        line += f"\nnot: {quoted(layer.negative_prompt, 300)}"
    options = [f"guidance {layer.guidance_scale:g}", f"{layer.num_inference_steps} steps"]
    return f"{line}\n{' · '.join(options)}"


def _facts_line(job: Job, clip: StoredClip | None) -> str:
    facts: Mapping[str, Any] = job.facts or {}
    size = f" · {_size(len(clip.sound))}" if clip is not None else ""
    file_format = "opus" if clip is not None and clip.shrunk else facts.get("file_format", job.file_format)
    loop = " · loop" if job.recipe.loop and _joins(job) else ""
    engines = " + ".join(dict.fromkeys(layer.engine for layer in job.recipe.layers))
    return (
        f"{facts.get('duration_s', job.recipe.duration_s):.1f} s{loop} · {facts.get('integrated_lufs', 0):.1f} LUFS · "
        f"true peak {facts.get('peak_dbtp', 0):.1f} dBTP · {file_format}{size}\n"
        f"engine {engines} · made in {_seconds(facts.get('render_time_s', 0))} for <@{job.user_id}>"
    )


def _notes(job: Job, specs: Mapping[str, EngineSpec], clip: StoredClip | None) -> Sequence[str]:
    facts: Mapping[str, Any] = job.facts or {}
    notes = []
    for name, options in unused_options(job.request, job.recipe, list(specs.values())).items():
        shown = ", ".join(f"`{OPTION_WORDS.get(option, option)}`" for option in options)
        notes.append(f"not used by {name}: {shown}")
    if left_out := not_made(job.request, job.recipe, list(specs.values()))[:_MAX_WORDS_NAMED]:
        notes.append("not made: " + ", ".join(quoted(word, 40) for word in left_out))
    if rounded := rounded_loop(job.request, job.recipe):
        notes.append(rounded)
    notes += facts.get("notes", [])
    if facts.get("shrunk") or (clip is not None and clip.shrunk):
        notes.append(f"made smaller than asked ({job.file_format}) to fit what this channel can carry")
    if any((layer.guidance_scale or 0) > OVERCOOKED_GUIDANCE_SCALE for layer in job.recipe.layers):
        notes.append(
            f"a guidance scale above {OVERCOOKED_GUIDANCE_SCALE:g} tends to sound overcooked; 5 to 7.5 is best"
        )
    if any(layer.negative_prompt and (layer.guidance_scale or 0) <= 1 for layer in job.recipe.layers):
        notes.append("at a guidance scale of 1 the model does not read the negative prompt")
    if job.recipe.loop:
        words = (
            "the end joins the beginning" if _joins(job) else "the place where the end meets the beginning may be heard"
        )
        notes.append(f"{words}; download it to repeat it (Discord's player cannot)")
    return notes


def _joins(job: Job) -> bool:
    """True unless the seam of a loop was found to stand out."""
    return bool(((job.facts or {}).get("seam") or {}).get("clean", True))


def _fit(text: str) -> str:
    return text if len(text) <= _MAX_FIELD_CHARS else text[: _MAX_FIELD_CHARS - 1] + "…"


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _until_done(eta_s: float, range_s: tuple[float, float] | None) -> str:
    """One number where it is as good as sure, and else the two that it lies between."""
    if range_s is None or range_s[1] <= _SURE_UP_TO * range_s[0]:
        return f"about {_seconds(eta_s)}"
    low_step_s, high_step_s = (next(step_s for up_to_s, step_s in _ROUNDED_TO_S if s <= up_to_s) for s in range_s)
    low_s, high_s = range_s[0] // low_step_s * low_step_s, math.ceil(range_s[1] / high_step_s) * high_step_s
    return f"{_seconds(low_s)} to {_seconds(high_s)}" if low_s else f"up to {_seconds(high_s)}"


def _seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1024:.0f} KiB" if num_bytes < 2**20 else f"{num_bytes / 2**20:.1f} MiB"
