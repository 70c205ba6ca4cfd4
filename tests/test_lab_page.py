"""The lab's page, made end to end on the tiny model: what stands in it, and what it does in a real browser."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import itertools
import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyloudnorm
import pytest
import soundfile
from scipy import signal

from ambientgen.__main__ import main
from ambientgen.audio.clip import Clip
from ambientgen.lab import command
from ambientgen.lab.experiments import EXPERIMENTS

playwright = pytest.importorskip("playwright.sync_api")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, tiny_model_path: Path) -> Path:
    """The five rain prompts on the tiny model, 2 s each, in ten steps in place of fifty: the folder of the run."""
    folder = tmp_path_factory.mktemp("lab") / "sweep"
    rain = EXPERIMENTS["rain"]
    trials = [
        dataclasses.replace(t, request=dataclasses.replace(t.request, num_inference_steps=10)) for t in rain.trials
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "EXPERIMENTS", {"rain": dataclasses.replace(rain, trials=tuple(trials))})
        assert main(["sweep", "rain", "--model", str(tiny_model_path), "--duration", "2", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory, tiny_model_path: Path) -> Path:
    """The tiny model against the procedural engine, in a scene that would like to be markup."""
    folder = tmp_path_factory.mktemp("lab") / "compare"
    scene = 'gentle rain </script><b>&amp; "wind" {{js}}'
    engines = f"audioldm2={tiny_model_path},procedural"
    assert main(["compare", "--engines", engines, scene, "--duration", "1", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser without a window; skips where none is installed."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser is installed here: none of {', '.join(BROWSERS)}")
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--autoplay-policy=no-user-gesture-required",
    ]
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, headless=True, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Opens a run's page from its file, and holds it to this: no complaint, and nothing asked of anyone."""
    context = browser.new_context(accept_downloads=True)
    complaints: list[str] = []

    def open_it(folder: Path) -> Any:
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        address = (folder / "index.html").as_uri()
        page.on(
            "request",
            lambda request: request.url.startswith((address, "data:", "blob:")) or complaints.append(request.url),
        )
        page.goto(address)
        return page

    yield open_it
    context.close()
    assert complaints == []


def text_of(folder: Path) -> str:
    """The page as it is on disk."""
    return (folder / "index.html").read_text(encoding="utf-8")


def sounds_in(page: str) -> dict[str, bytes]:
    """Each clip's file, taken out of the page."""
    found = re.findall(r'data-clip="(\w+)".*?<audio [^>]*src="data:audio/ogg;base64,([^"]+)"', page, flags=re.DOTALL)
    return {key: base64.b64decode(text) for key, text in found}


def rows_in(page: str) -> dict[str, dict[str, float]]:
    """Each clip's figures, as the table holds them."""
    lines = re.findall(r'<tr data-row="(\w+)">(.*?)</tr>', page)
    cells = re.compile(r'data-figure="(\w+)" data-value="([^"]*)"')
    return {key: {name: float(value or "nan") for name, value in cells.findall(line)} for key, line in lines}


# ---------------------------------------------------------------------- figures, recomputed in the plainest way


def recomputed(sound: bytes) -> dict[str, float]:
    """The figures of a file, by other means than the lab's."""
    samples, rate_hz = soundfile.read(io.BytesIO(sound))
    mono = samples.mean(axis=1)
    meter = pyloudnorm.Meter(rate_hz, filter_class="DeMan")
    oversampled = signal.resample_poly(samples, 4, 1, axis=0)
    spectra = [
        np.abs(np.fft.rfft(mono[start : start + 2048] * np.hanning(2048)))[3:299]  # 50 Hz to 7 kHz
        for start in range(0, len(mono) - 2047, 960)
    ]
    flatness = [math.exp(np.mean(np.log(s**2))) / np.mean(s**2) for s in spectra]
    directions = [s / math.sqrt(float(np.sum(s**2))) for s in spectra]
    flux = [float(np.sum((b - a) ** 2)) for a, b in itertools.pairwise(directions)]
    return {
        "integrated_lufs": meter.integrated_loudness(samples),
        "peak_dbtp": 20 * math.log10(np.abs(oversampled).max()),
        "crest_db": 20 * math.log10(np.abs(samples).max() / math.sqrt(np.mean(samples**2))),
        "spectral_flatness": float(np.mean(flatness)),
        "spectral_flux": float(np.mean(flux)),
        "hf_artifacts_db": max(patchiness_db(mono, 2048, 4, 32), patchiness_db(mono, 96, 64, 4)),
        "repetition": repetition(mono),
    }


def patchiness_db(mono: Array, size: int, num_frames: int, num_bins: int) -> float:
    """Arithmetic over geometric mean, patch by patch, at 48 kHz."""
    frames = [np.hanning(size) * mono[start : start + size] for start in range(0, len(mono) - size + 1, size // 2)]
    power = np.abs(np.fft.rfft(frames)) ** 2
    hz = np.arange(power.shape[1]) * 48_000 / size
    power = power[:, (hz >= 4000.0) & (hz <= 20_000.0)]
    total, weighted = 0.0, 0.0
    for top in range(0, power.shape[0] - num_frames + 1, num_frames):
        for left in range(0, power.shape[1] - num_bins + 1, num_bins):
            patch = power[top : top + num_frames, left : left + num_bins] + 1e-20
            distance_db = 10 * math.log10(patch.mean() / math.exp(np.mean(np.log(patch))))
            total += patch.mean()
            weighted += patch.mean() * (distance_db - 10 * math.log10(math.e**np.euler_gamma))
    return float(weighted / total)


def repetition(mono: Array) -> float:
    """The highest correlation of band levels at a later time, lag by lag, at 48 kHz."""
    hz = np.arange(1025) * 48_000 / 2048
    edges = 200.0 * (7000.0 / 200.0) ** (np.arange(21) / 20)
    bands = [(hz >= low) & (hz < high) for low, high in itertools.pairwise(edges)]
    levels = []
    for start in range(0, len(mono) - 2047, 480):
        power = np.abs(np.fft.rfft(mono[start : start + 2048] * np.hanning(2048))) ** 2
        levels_db = np.array([10 * math.log10(power[band].sum() + 1e-12) for band in bands])
        levels.append(levels_db - levels_db.mean())
    table = np.array(levels)
    padded = np.concatenate([table[:1].repeat(50, axis=0), table, table[-1:].repeat(50, axis=0)])
    table = table - np.array([padded[at : at + 101].mean(axis=0) for at in range(len(table))])
    table /= table.std(axis=0)
    likeness = []
    for lag in range(50, len(table) // 2 + 1):
        early, late = table[:-lag], table[lag:]
        likeness.append(np.sum(early * late) / math.sqrt(float(np.sum(early**2) * np.sum(late**2))))
    return float(max(likeness))


def test_every_figure_on_the_page_is_that_of_the_clip_beside_it(sweep: Path, tiny_model_path: Path) -> None:
    """Taken out of the page, decoded and measured anew; the CLAP score by diffusers' own copy of the model."""
    from diffusion_world import load_reference

    from ambientgen.diffusion.ranking import similarity

    page = text_of(sweep)
    sounds, rows = sounds_in(page), rows_in(page)
    prompts = dict(re.findall(r'data-clip="(\w+)".*?</strong>[^<]*<p>([^<]+)</p>', page, flags=re.DOTALL))
    pipeline = load_reference(tiny_model_path)
    assert len(sounds) == 5
    assert sounds.keys() == rows.keys()
    tolerances = {"integrated_lufs": 0.05, "peak_dbtp": 0.1}
    for key, sound in sounds.items():
        figures = dict(rows[key])
        samples, rate_hz = soundfile.read(io.BytesIO(sound), dtype="float32")
        heard = Clip(samples.mean(axis=1, dtype=np.float32)[np.newaxis], rate_hz)
        score = similarity(pipeline, heard, html.unescape(prompts[key]))
        assert figures.pop("clap_score") == pytest.approx(score, abs=1e-4)
        for name, value in recomputed(sound).items():
            assert figures.pop(name) == pytest.approx(value, abs=tolerances.get(name, 1e-3)), name
        assert figures == {}


# ---------------------------------------------------------------------- what stands in it


def test_the_head_says_whether_the_weights_were_real(sweep: Path, comparison: Path) -> None:
    """In a meta element and in words; with model, device, versions, seeds and license, and never a path."""
    page = text_of(sweep)
    label = "audioldm2 (tiny-audioldm2)"
    assert f'<meta name="ambientgen:weights" content="{label}: unknown">' in page
    assert "tiny-audioldm2 is not known to be published weights. Its clips say nothing about sound quality." in page
    assert f'content="{label}: unknown; procedural: none"' in text_of(comparison)
    assert "Made by rule, without weights." in text_of(comparison)
    for words in (
        "<dt>Seeds</dt><dd>1</dd>",
        "<dt>CLAP score by</dt><dd>tiny-audioldm2</dd>",
        "torch 2.",
        "<td>cpu</td>",
    ):
        assert words in page
    for made in (page, text_of(comparison)):
        assert str(sweep.parent) not in made
        assert "models" + "/tiny" not in made


def test_the_page_needs_nothing_outside_itself(sweep: Path, comparison: Path) -> None:
    """Every source is data, every link leads to a place in the page, every picture has words."""
    for page in (text_of(sweep), text_of(comparison)):
        assert set(re.findall(r'\b(?:src|href)=["\']([a-z]+:|#|[^"\'])', page)) <= {"data:", "#"}
        anchors = set(re.findall(r"href=[\"']#([\w-]+)", page))
        assert anchors <= set(re.findall(r'\bid="([\w-]+)"', page))
        assert (
            page.count("<img ") == len(re.findall(r'<img [^>]*alt="Waveform and spectrogram of [^"]{20,}"', page)) > 0
        )
        assert not re.search(r"\{\{\w+\}\}", page.replace("{{js}}", ""))


def test_a_scene_is_text_whatever_is_in_it(comparison: Path, open_page: Any) -> None:
    """It ends no script, starts no element, and fills no place of the template."""
    page = open_page(comparison)
    scene = 'gentle rain </script><b>&amp; "wind" {{js}}'
    assert page.locator("figure.clip figcaption p").first.inner_text() == scene
    assert page.locator("b").count() == 0
    assert json.loads(page.locator("#run-data").text_content())["pairs"][0]["scene"] == scene


# ---------------------------------------------------------------------- in a real browser


def test_a_clip_plays(sweep: Path, open_page: Any) -> None:
    """Its time moves on, it has the length it should, and a second one silences the first."""
    page = open_page(sweep)
    first, second = page.locator("figure.clip audio").nth(0), page.locator("figure.clip audio").nth(1)
    first.evaluate("audio => audio.play()")
    page.wait_for_function("audio => audio.currentTime > 0.1", arg=first.element_handle())
    assert first.evaluate("audio => audio.duration") == pytest.approx(2.0, abs=0.05)
    second.evaluate("audio => audio.play()")
    page.wait_for_function("audio => audio.paused", arg=first.element_handle())
    assert not second.evaluate("audio => audio.paused")
    assert page.locator("figure.clip img").first.evaluate("image => image.naturalWidth") == 960


def test_the_tables_sort_by_keyboard(sweep: Path, open_page: Any) -> None:
    """By number where there are numbers: up, then down, and told to those who listen to the page."""
    page = open_page(sweep)
    heading = page.get_by_role("button", name="Crest factor")
    cells = page.locator('td[data-figure="crest_db"]')
    for direction in ("ascending", "descending"):
        heading.focus()
        page.keyboard.press("Enter")
        values = [float(value) for value in cells.evaluate_all("all => all.map(cell => cell.dataset.value)")]
        assert values == sorted(values, reverse=direction == "descending")
        assert heading.locator("xpath=..").get_attribute("aria-sort") == direction
    assert len(set(values)) > 1


def test_the_plots_hold_every_clip(sweep: Path, open_page: Any) -> None:
    """A point for each, inside its plot, with words; axes have labels."""
    page = open_page(sweep)
    plots = page.locator("figure.plot svg")
    assert plots.count() == 6
    for number in range(6):
        plot = plots.nth(number)
        assert plot.locator("path.mark title").count() == 5
        assert plot.locator("text.tick").count() >= 5
        assert plot.evaluate(
            "svg => [...svg.querySelectorAll('.mark')].every(mark => { const b = mark.getBBox();"
            " return b.x >= 0 && b.y >= 0 && b.x + b.width <= 360 && b.y + b.height <= 230; })"
        )


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_fits_and_can_be_read(sweep: Path, browser: Any, width: int, scheme: str) -> None:
    """No sideways scrolling at either width, and text that stands out from its ground in either theme."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto((sweep / "index.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for selector in ("body", ".notice", ".question", ".clip figcaption", "#open-blind", "tbody th a", "thead th"):
        ink, ground = page.locator(selector).first.evaluate(
            """element => {
                const seen = (e) => { const c = getComputedStyle(e).backgroundColor;
                    return c === "rgba(0, 0, 0, 0)" && e.parentElement ? seen(e.parentElement) : c; };
                return [getComputedStyle(element).color, seen(element)];
            }"""
        )
        assert contrast(ink, ground) >= 4.5, selector
    context.close()


def contrast(ink: str, ground: str) -> float:
    """The contrast of two colors as WCAG 2 counts it."""

    def luminance(color: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(ink), luminance(ground)))
    return (high + 0.05) / (low + 0.05)


def test_a_blind_comparison_is_blind_until_its_end_and_saves(sweep: Path, open_page: Any, tmp_path: Path) -> None:
    """No label before the reveal, no choice before both were heard; the file has every pair, choice and true clip."""
    page = open_page(sweep)
    truth = dict(re.findall(r'data-clip="(\w+)".*?<strong>([^<]+)</strong>', text_of(sweep), flags=re.DOTALL))
    page.get_by_role("button", name="Compare blind").click()
    page.get_by_role("button", name="Start").click()
    given: list[tuple[str, str, str]] = []
    for number, button in enumerate(("I prefer A", "No difference", "I prefer B")):
        dialog = page.locator("#blind")
        assert dialog.locator("h2:visible").inner_text() == f"Pair {number + 1} of 10"
        assert not any(label.removeprefix("prompt ") in dialog.locator("[data-screen=pair]").inner_text()
                       for label in truth.values())  # fmt: skip
        assert page.get_by_role("button", name=button).is_disabled()
        heard = []
        for side in ("A", "B"):
            audio = page.locator(f'audio[aria-label="Clip {side}"]')
            heard.append(audio.evaluate("""audio => [...document.querySelectorAll("figure.clip")]
                .find(figure => figure.querySelector("audio").src === audio.src).dataset.clip"""))  # fmt: skip
            audio.evaluate("audio => audio.play()")
            page.wait_for_function("audio => audio.currentTime > 0.02", arg=audio.element_handle())
        page.get_by_role("button", name=button).click()
        given.append((heard[0], heard[1], ("A", "none", "B")[number]))
    page.get_by_role("button", name="Stop and reveal").click()
    assert page.get_by_text("3 of 10 pairs rated.").is_visible()
    assert page.locator("[data-part=list] tr").count() == 3
    with page.expect_download() as download:
        page.get_by_role("button", name="Save ratings as JSON").click()
    download.value.save_as(tmp_path / "ratings.json")
    saved = json.loads((tmp_path / "ratings.json").read_text(encoding="utf-8"))
    run_id = page.locator('meta[name="ambientgen:run"]').get_attribute("content")
    assert download.value.suggested_filename == f"ratings-{run_id}.json"
    assert (saved["format"], saved["run_id"], saved["num_pairs"]) == ("ambientgen-ratings", run_id, 10)
    assert saved["weights"] == {"audioldm2 (tiny-audioldm2)": "unknown"}
    assert [(r["A"]["clip"], r["B"]["clip"], r["choice"]) for r in saved["ratings"]] == given
    for rating in saved["ratings"]:
        assert all(rating[side]["label"] == truth[rating[side]["clip"]] for side in ("A", "B"))
        assert rating["preferred"] == (rating[rating["choice"]]["clip"] if rating["choice"] != "none" else None)
    page.get_by_role("button", name="Close").click()
    assert not page.locator("#blind").is_visible()


def test_unsaved_ratings_are_not_lost_by_escape(sweep: Path, open_page: Any) -> None:
    """Leaving asks first; who stays is where they were."""
    page = open_page(sweep)
    page.get_by_role("button", name="Compare blind").click()
    page.get_by_role("button", name="Start").click()
    for side in ("A", "B"):
        audio = page.locator(f'audio[aria-label="Clip {side}"]')
        audio.evaluate("audio => audio.play()")
        page.wait_for_function("audio => audio.currentTime > 0.02", arg=audio.element_handle())
    page.get_by_role("button", name="I prefer A").click()
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.get_by_role("button", name="Close").click()
    assert "not saved" in asked[0]
    assert page.locator("#blind").is_visible()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Close").click()
    assert not page.locator("#blind").is_visible()
    assert page.get_by_role("button", name="Compare blind").is_visible()
