"""The page of a run: one HTML file that needs nothing outside itself, with every clip, picture and figure in it."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ambientgen.lab import measures, plots
from ambientgen.lab.experiments import Experiment, Row
from ambientgen.lab.measures import Figure
from ambientgen.lab.run import Contestant, MadeClip, Result, RunFolder

#: Every clip is brought to the same loudness under the same ceiling, so a plot of these would tell nothing.
_NOT_PLOTTED = ("integrated_lufs", "peak_dbtp")
_ON_CARDS = ("integrated_lufs", "hf_artifacts_db", "clap_score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a page is made of.

    Attributes:
        title: the heading.
        experiments: in order.
        contestants: in order.
        results: in the order of the page.
        folder: where the clips are.
        judge: whose CLAP gave the score, or None.
    """

    title: str
    experiments: Sequence[Experiment]
    contestants: Sequence[Contestant]
    results: Sequence[Result]
    folder: RunFolder
    judge: str | None

    @property
    def clips(self) -> dict[str, MadeClip]:
        """Each clip once, by key."""
        return {result.clip.key: result.clip for result in self.results if result.clip is not None}

    @property
    def run_id(self) -> str:
        """The same for the same clips: ratings of two people that carry it can be put together."""
        return hashlib.sha256(" ".join(sorted(self.clips)).encode()).hexdigest()[:12]

    @property
    def figures(self) -> list[Figure]:
        """The figures that at least one clip has."""
        return [
            f for f in measures.FIGURES if any(clip.figures.get(f.name) is not None for clip in self.clips.values())
        ]

    def label(self, row: Row) -> str:
        """What sets a clip apart within its category."""
        varies = next(e.varies for e in self.experiments if e.name == row.experiment)
        parts = [f"{varies} {row.variant}"] if row.variant else []
        if len(self.contestants) > 1 or not parts:
            parts.append(row.contestant)
        return " · ".join(parts)


def page(report: Report) -> str:
    """The page as HTML."""
    pairs = _pairs(report)
    weights = {c.label: c.provenance.kind for c in report.contestants}
    data = {"run_id": report.run_id, "title": report.title, "weights": weights, "pairs": pairs}
    values = {
        "title": escape(report.title),
        "weights": escape("; ".join(f"{label}: {kind}" for label, kind in weights.items())),
        "run_id": report.run_id,
        "css": _resource("page.css"),
        "js": _resource("page.js"),
        "notice": _notice(report),
        "contestants": _contestants(report),
        "facts": _facts(report),
        "contents": _contents(report),
        "blind_button": '<button class="button primary" id="open-blind" type="button">Compare blind</button>'
        * bool(pairs),
        "experiments": "\n".join(_experiments(report)),
        "failures": _failures(report),
        "meanings": "\n".join(_meaning(figure) for figure in report.figures),
        "blind": _blind(report, pairs) if pairs else "",
        # Inside a script element only "<" could end it.
        "data": json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
    }
    # In one go, so that nothing inside a value is taken for a place to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], _resource("page.html"))


def _resource(name: str) -> str:
    return (importlib.resources.files("ambientgen.lab") / name).read_text(encoding="utf-8")


# ---------------------------------------------------------------------- the head


def _notice(report: Report) -> str:
    unknown = [c.provenance.words for c in report.contestants if c.provenance.kind == "unknown"]
    return "".join(f'<p class="notice" role="note">{escape(words)}</p>' for words in dict.fromkeys(unknown))


def _contestants(report: Report) -> str:
    heads = "".join(
        f"<th scope=col>{name}</th>" for name in ("Engine", "Model", "Weights", "License of the weights", "Device")
    )
    lines = []
    for contestant in report.contestants:
        spec, provenance = contestant.engine.spec, contestant.provenance
        own = [r.clip for r in report.results if r.clip is not None and r.row.contestant == contestant.label]
        devices = ", ".join(dict.fromkeys(clip.device for clip in own if clip.device)) or "—"
        lines.append(
            f"<tr><th scope=row>{escape(spec.name)}, version {escape(spec.version)}</th>"
            f"<td>{escape(provenance.model or '—')}</td>"
            f'<td class="weights-{provenance.kind}">{escape(provenance.words)}</td>'
            f"<td>{escape(provenance.license)}</td><td>{escape(devices)}</td></tr>"
        )
    return _table("Who made the clips", f"<tr>{heads}</tr>", lines)


def _facts(report: Report) -> str:
    clips = report.clips.values()
    made_at = sorted(clip.made_at for clip in clips)
    packages: dict[str, list[str]] = {}
    for name, version in sorted({item for clip in clips for item in clip.packages.items()}):
        packages.setdefault(name, []).append(version)
    seeds = sorted({result.row.seed for result in report.results})
    lengths = sorted({result.row.request.duration_s or 0.0 for result in report.results})
    failed = sum(result.clip is None for result in report.results)
    facts = {
        "Made": " to ".join(dict.fromkeys(f"{at[:10]} {at[11:16]} UTC" for at in (made_at[:1] + made_at[-1:]))) or "—",
        "Clips": f"{len(report.clips)} of {', '.join(f'{length_s:g}' for length_s in lengths)} s, 48 kHz stereo, Opus"
        + f"; {failed} failed" * bool(failed),
        "Seeds": ", ".join(map(str, seeds)),
        "CLAP score by": report.judge or "none: no model with a CLAP took part",
        "Packages": ", ".join(f"{name} {' and '.join(versions)}" for name, versions in packages.items()) or "—",
        "Run": report.run_id,
    }
    return "\n".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())


def _contents(report: Report) -> str:
    links = [f'<li><a href="#{e.name}">{escape(e.title)}</a></li>' for e in report.experiments]
    return f"<ul>{''.join(links)}<li><a href='#figures'>What the figures mean</a></li></ul>"


# ---------------------------------------------------------------------- the experiments


def _experiments(report: Report) -> Iterable[str]:
    placed: set[str] = set()  # a clip that two experiments share is on the page once
    for experiment in report.experiments:
        results = [r for r in report.results if r.row.experiment == experiment.name and r.clip is not None]
        cards = []
        for result in results:
            assert result.clip is not None
            if result.clip.key not in placed:
                placed.add(result.clip.key)
                cards.append(_card(result.row, result.clip, report))
        body = [_plots(experiment, results, report), _figures_table(experiment, results, report)] if results else []
        listen = f'<h3>Clips</h3><div class="clips">{"".join(cards)}</div>' if cards else ""
        yield (
            f'<section aria-labelledby="{experiment.name}"><h2 id="{experiment.name}">{escape(experiment.title)}</h2>'
            f'<p class="question">{escape(experiment.question)}</p>{"".join(body)}{listen}</section>'
        )


def _card(row: Row, clip: MadeClip, report: Report) -> str:
    sound = base64.b64encode(report.folder.sound(clip.key).read_bytes()).decode("ascii")
    picture = base64.b64encode(report.folder.picture(clip.key).read_bytes()).decode("ascii")
    name = f"{row.request.description}, {report.label(row)}, seed {row.seed}"
    shown = [f for f in report.figures if f.name in _ON_CARDS and clip.figures.get(f.name) is not None]
    figures = " · ".join(_worded(clip, figure) for figure in shown)
    notes = "".join(f"<p>{escape(note)}</p>" for note in clip.notes)
    faults = f'<p><span class="fault">{escape(", ".join(clip.faults))}</span></p>' if clip.faults else ""
    return (
        f'<figure class="clip" id="clip-{clip.key}" data-clip="{clip.key}">'
        f'<img loading="lazy" width="960" height="480" alt="{escape(_described(name, clip))}" '
        f'src="data:image/png;base64,{picture}">'
        f"<figcaption><strong>{escape(report.label(row))}</strong> · seed {row.seed}"
        f"<p>{escape(row.request.description)}</p><p>{escape(figures)}</p>{faults}{notes}"
        f'<audio controls preload="none" aria-label="{escape(name)}" src="data:audio/ogg;base64,{sound}"></audio>'
        f"</figcaption></figure>"
    )


def _described(name: str, clip: MadeClip) -> str:
    """What the picture shows, in words and figures."""
    figures = ", ".join(_worded(clip, f) for f in measures.FIGURES if clip.figures.get(f.name) is not None)
    return f"Waveform and spectrogram of {name}: {figures}"


def _worded(clip: MadeClip, figure: Figure) -> str:
    return f"{figure.title} {_text(clip, figure)} {figure.unit}".strip()


def _figures_table(experiment: Experiment, results: Sequence[Result], report: Report) -> str:
    many = len(report.contestants) > 1
    heads = [("Scene", "")] + [(experiment.varies.capitalize(), "")] * bool(experiment.varies)
    heads += [("Engine", "")] * many + [("Seed", "number")]
    columns = "".join(_heading(name, kind) for name, kind in heads)
    columns += "".join(_heading(figure.title, "number", figure.unit) for figure in report.figures)
    columns += _heading("Health", "")
    lines = []
    for result in results:
        row, clip = result.row, result.clip
        assert clip is not None
        scene = escape(row.category)
        cells = f'<th scope="row" data-value="{scene}"><a href="#clip-{clip.key}">{scene}</a></th>'
        if experiment.varies:
            order = row.variant if row.value is None else f"{row.value:g}"
            cells += f'<td data-value="{escape(order)}">{escape(row.variant)}</td>'
        if many:
            cells += f'<td data-value="{escape(row.contestant)}">{escape(row.contestant)}</td>'
        cells += f'<td class="number" data-value="{row.seed}">{row.seed}</td>'
        for figure in report.figures:
            value = clip.figures.get(figure.name)
            shown = "" if value is None else f"{value}"
            cells += f'<td class="number" data-figure="{figure.name}" data-value="{shown}">{_text(clip, figure)}</td>'
        health = ", ".join(clip.faults) or "no fault"
        cells += f'<td data-value="{escape(health)}">{escape(health)}</td>'
        lines.append(f'<tr data-row="{clip.key}">{cells}</tr>')
    return _table(f"Figures: {experiment.title}", f"<tr>{columns}</tr>", lines)


def _heading(name: str, kind: str, unit: str = "") -> str:
    return (
        f'<th scope="col"{f" class={kind}" if kind else ""}><button type="button">{escape(name)}</button>'
        f"<small>{escape(unit)}</small></th>"
    )


def _table(caption: str, head: str, lines: Sequence[str]) -> str:
    # Wide tables scroll; the keyboard has to be able to scroll them too.
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table><thead>{head}</thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _text(clip: MadeClip, figure: Figure) -> str:
    value = clip.figures.get(figure.name)
    if value is None:
        return "–"
    # Rounding must not leave a minus before a zero.
    return f"{round(value, figure.num_digits) + 0.0:.{figure.num_digits}f}".replace("-", "−")


def _plots(experiment: Experiment, results: Sequence[Result], report: Report) -> str:
    on_axis = all(result.row.value is not None for result in results)
    scenes = list(dict.fromkeys(result.row.category for result in results))
    names = [_series_name(result.row, report, on_axis=on_axis) for result in results]
    series = list(dict.fromkeys(names))
    drawn = []
    for figure in report.figures:
        points: dict[str, list[plots.Point]] = {name: [] for name in series}
        for own, result in zip(names, results, strict=True):
            assert result.clip is not None
            value = result.clip.figures.get(figure.name)
            if value is not None:
                x = float(scenes.index(result.row.category)) if result.row.value is None else result.row.value
                name = f"{result.row.category}, {report.label(result.row)}, seed {result.row.seed}"
                words = f"{name}: {_text(result.clip, figure)}"
                points[own].append(plots.Point(x, value, words))
        title = f"{figure.title} ({figure.unit})" if figure.unit else figure.title
        if figure.name in _NOT_PLOTTED or not any(points.values()):
            continue
        if on_axis:
            ticks = {result.row.value: result.row.variant for result in results if result.row.value is not None}
            svg = plots.line_plot(
                title, experiment.varies, dict(sorted(ticks.items())), list(points.values()), figure.least_span
            )
        else:
            svg = plots.dot_plot(title, scenes, list(points.values()), figure.least_span)
        drawn.append(f'<figure class="plot"><figcaption>{escape(title)}</figcaption>{svg}</figure>')
    return f'{_legend(series)}<div class="plots">{"".join(drawn)}</div>'


def _series_name(row: Row, report: Report, *, on_axis: bool) -> str:
    if not on_axis:
        return report.label(row)
    return f"{row.category} · {row.contestant}" if len(report.contestants) > 1 else row.category


def _legend(series: Sequence[str]) -> str:
    items = (
        f'<li><svg viewBox="0 0 14 14" aria-hidden="true">{plots.marker(7, 7, style)}</svg>{escape(name)}</li>'
        for style, name in enumerate(series)
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _failures(report: Report) -> str:
    failed = [result for result in report.results if result.clip is None]
    if not failed:
        return ""
    lines = [
        f"<li>{escape(r.row.request.description)}, {escape(report.label(r.row))}, seed {r.row.seed}: "
        f"{escape(r.failure or '')}</li>"
        for r in failed
    ]
    return (
        f'<section aria-labelledby="failed"><h2 id="failed">Clips that failed</h2><ul>{"".join(lines)}</ul></section>'
    )


def _meaning(figure: Figure) -> str:
    title = f"{figure.title} ({figure.unit})" if figure.unit else figure.title
    return (
        f"<dt>{escape(title)}</dt><dd>{escape(figure.meaning)}</dd>"
        f'<dd class="source">Source: {escape(figure.source)}</dd>'
    )


# ---------------------------------------------------------------------- blind comparison


def _pairs(report: Report) -> list[dict[str, object]]:
    """Every two clips of one category and seed that differ."""
    groups: dict[tuple[str, str, int], list[Result]] = {}
    for result in report.results:
        if result.clip is not None:
            row = result.row
            groups.setdefault((row.experiment, row.category, row.seed), []).append(result)
    return [
        {"experiment": name, "scene": scene, "seed": seed, "one": _side(one, report), "other": _side(other, report)}
        for (name, scene, seed), group in groups.items()
        for one, other in itertools.combinations(group, 2)
        if one.clip is not None and other.clip is not None and one.clip.key != other.clip.key
    ]


def _side(result: Result, report: Report) -> dict[str, str]:
    assert result.clip is not None
    return {"clip": result.clip.key, "label": report.label(result.row)}


def _blind(report: Report, pairs: Sequence[Mapping[str, object]]) -> str:
    counts = {e.name: sum(pair["experiment"] == e.name for pair in pairs) for e in report.experiments}
    choices = "".join(
        f'<option value="{e.name}">{escape(e.title)}: {counts[e.name]} pairs</option>'
        for e in report.experiments
        if counts[e.name]
    )
    return _resource("blind.html").replace("{{choices}}", choices)
