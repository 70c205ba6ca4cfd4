"""Small plots as inline SVG: figures over a value, and figures beside scenes. Colors and fonts are the page's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

NUM_STYLES = 7

_WIDTH, _HEIGHT = 360.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 12.0, 12.0, 46.0
_ROW_HEIGHT, _LABEL_HEIGHT = 38.0, 16.0
_NUM_TICKS = 5
#: From the center: circle, square, triangle, diamond.
_SHAPES = (
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "m-3.6-3.6h7.2v7.2h-7.2z",
    "m0-5l4.8 8.4h-9.6z",
    "m0-5.2l5.2 5.2l-5.2 5.2l-5.2-5.2z",
)


@dataclass(frozen=True, slots=True)
class Point:
    """One clip in a plot.

    Attributes:
        x: a value, or the number of a scene.
        y: the figure.
        words: what a pointer that rests on it is told.
    """

    x: float
    y: float
    words: str


def line_plot(
    title: str, x_title: str, ticks: Mapping[float, str], series: Sequence[Sequence[Point]], least_span: float
) -> str:
    """Points over a value, with a line through the mean at each value.

    Args:
        title: of the figure, with its unit.
        x_title: what the values are.
        ticks: the values that have points, and their labels.
        series: the points of each, in the order of their styles.
        least_span: what the figure's axis covers at least.
    """
    ys = [point.y for points in series for point in points]
    low, high, y_ticks = _scale(ys, least_span)
    x_low, x_high = min(ticks), max(ticks)
    pad = (x_high - x_low) * 0.04 or 1.0

    def place_x(x: float) -> float:
        return _LEFT + (x - x_low + pad) / (x_high - x_low + 2 * pad) * (_WIDTH - _LEFT - _RIGHT)

    def place_y(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)

    base = _HEIGHT - _BOTTOM
    parts = [
        f'<line class="grid" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{place_y(y):.1f}" y2="{place_y(y):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 6:g}" y="{place_y(y) + 3.5:.1f}" text-anchor="end">{label}</text>'
        for y, label in y_ticks
    ]
    parts.append(f'<line class="axis" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{base:g}" y2="{base:g}"/>')
    parts += [
        f'<line class="axis" x1="{place_x(x):.1f}" x2="{place_x(x):.1f}" y1="{base:g}" y2="{base + 4:g}"/>'
        + (
            f'<text class="tick" x="{place_x(x):.1f}" y="{base + 16:g}" text-anchor="middle">{escape(label)}</text>'
            if shown
            else ""
        )
        for (x, label), shown in zip(ticks.items(), _with_room(ticks, place_x), strict=True)
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="name" x="{middle:g}" y="{_HEIGHT - 8:g}" text-anchor="middle">{escape(x_title)}</text>')
    for style, points in enumerate(series):
        means = {x: _mean([point.y for point in points if point.x == x]) for x in sorted({p.x for p in points})}
        path = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in means.items())
        parts.append(f'<polyline class="line s{style % NUM_STYLES}" points="{path}"/>')
        parts += [marker(place_x(point.x), place_y(point.y), style, point.words) for point in points]
    return _svg(_HEIGHT, title, x_title, parts)


def dot_plot(title: str, scenes: Sequence[str], series: Sequence[Sequence[Point]], least_span: float) -> str:
    """A row of points for each scene; a point's `x` is the number of its scene, its `y` lies along the row.

    Args:
        title: of the figure, with its unit.
        scenes: the rows' labels, from the top.
        series: the points of each, in the order of their styles.
        least_span: what the figure's axis covers at least.
    """
    low, high, ticks = _scale([point.y for points in series for point in points], least_span)
    height = _TOP + len(scenes) * _ROW_HEIGHT + 28.0
    left = 12.0

    def place(y: float) -> float:
        return left + 8.0 + (y - low) / (high - low) * (_WIDTH - left - _RIGHT - 16.0)

    base = _TOP + len(scenes) * _ROW_HEIGHT
    parts = [
        f'<line class="grid" x1="{place(y):.1f}" x2="{place(y):.1f}" y1="{_TOP:g}" y2="{base:g}"/>'
        f'<text class="tick" x="{place(y):.1f}" y="{base + 16:g}" text-anchor="middle">{label}</text>'
        for y, label in ticks
    ]
    parts.append(f'<line class="axis" x1="{left:g}" x2="{_WIDTH - _RIGHT:g}" y1="{base:g}" y2="{base:g}"/>')
    for number, scene in enumerate(scenes):
        row = _row_center(number)
        parts.append(
            f'<text class="row" x="{left:g}" y="{row - 10:.1f}">{escape(_shortened(scene))}</text>'
            f'<line class="rail" x1="{left:g}" x2="{_WIDTH - _RIGHT:g}" y1="{row:.1f}" y2="{row:.1f}"/>'
        )
    for style, points in enumerate(series):
        parts += [marker(place(point.y), _row_center(int(point.x)), style, point.words) for point in points]
    return _svg(height, title, "scene", parts)


def marker(x: float, y: float, style: int, words: str = "") -> str:
    """A point of a style, told apart by its shape too: not everybody sees the colors.

    Args:
        x: its center.
        y: likewise, counted downwards.
        style: its color and shape.
        words: what a pointer that rests on it is told.
    """
    title = f"<title>{escape(words)}</title>" if words else ""
    shape = _SHAPES[style % len(_SHAPES)]
    return f'<path class="mark s{style % NUM_STYLES}" d="M{x:.1f} {y:.1f}{shape}">{title}</path>'


def _row_center(number: int) -> float:
    return _TOP + number * _ROW_HEIGHT + _LABEL_HEIGHT + 8.0


def _svg(height: float, title: str, beside: str, parts: Sequence[str]) -> str:
    words = escape(f"{title} by {beside}; the figures are in the table below")
    return f'<svg viewBox="0 0 {_WIDTH:g} {height:g}" role="img" aria-label="{words}">{"".join(parts)}</svg>'


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _scale(values: Sequence[float], least_span: float) -> tuple[float, float, list[tuple[float, str]]]:
    """Ends of an axis, a little beyond the values, and round ticks between them with their labels."""
    middle = (min(values) + max(values)) / 2
    half = max(max(values) - min(values), least_span) * 0.58
    low, high = middle - half, middle + half
    rough = (high - low) / _NUM_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough)
    first = math.ceil(low / step)
    num_digits = max(0, -math.floor(math.log10(step) + 1e-9))
    numbers = range(first, math.floor(high / step) + 1)
    # A minus sign is wider than a hyphen, and a zero has none.
    labels = [f"{number * step + 0.0:.{num_digits}f}".replace("-", "−") for number in numbers]
    return low, high, [(number * step, label) for number, label in zip(numbers, labels, strict=True)]


def _with_room(ticks: Mapping[float, str], place_x: Callable[[float], float]) -> list[bool]:
    """Which labels are shown: those that do not run into the one before."""
    shown, end = [], -math.inf
    for x, label in ticks.items():
        half = 3.1 * len(label)
        fits = place_x(x) - half > end + 4.0
        shown.append(fits)
        end = place_x(x) + half if fits else end
    return shown


def _shortened(text: str) -> str:
    return text if len(text) <= 52 else text[:51].rstrip() + "…"
