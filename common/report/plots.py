"""SVG plots, coloured by the style sheet of the page (classes ``s0``, ``s1``, ...)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 200
LEFT, BOTTOM, EDGE = 44, 28, 10
COLOURS = 8  # number of colour classes; a ninth line has the colour of the first


def lines(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Plot scores over frames, with a cursor that the page's script moves; empty without points.

    Args:
        curves: (frame, percent) of each line by name.
    """
    frames = [frame for curve in curves.values() for frame, _ in curve]
    if not frames:
        return ""
    low, high = min(frames), max(max(frames), min(frames) + 1)
    parts = [_axes((0, 50, 100), "%", {low: "start", high: "end"})]
    for number, curve in enumerate(curves.values()):
        points = " ".join(f"{_x(frame, low, high):.1f},{_y(value, 0, 100):.1f}" for frame, value in curve)
        parts.append(f'<polyline class="s{number % COLOURS}" points="{points}"/>')
    parts.append(f'<line class="cursor" x1="{LEFT}" x2="{LEFT}" y1="{EDGE}" y2="{HEIGHT - BOTTOM}"/>')
    attributes = f'data-low="{low}" data-high="{high}" data-left="{LEFT}" data-right="{WIDTH - EDGE}"'
    return f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" {attributes}>{"".join(parts)}</svg>'


def scatter(points: Sequence[tuple[str, float, float, float | None]], number: str) -> str:
    """Plot quality in percent over frames per second (logarithmic); the area of a dot is proportional to its memory.

    Args:
        points: (name, frames per second, percent, peak memory in MB or None) of each dot.
        number: name of the metric.
    """
    if not points:
        return ""
    speeds = [math.log10(speed) for _, speed, _, _ in points]
    values = [value for _, _, value, _ in points]
    low, high = math.floor(2 * min(speeds)) / 2, math.ceil(2 * max(speeds) + 1e-9) / 2
    high = high if high > low else low + 0.5
    bottom, top = 10 * math.floor(min(values) / 10), 10 * math.ceil(max(values) / 10 + 1e-9)
    most = max((memory for *_, memory in points if memory), default=1)
    parts = [_axes(sorted({bottom, (bottom + top) / 2, top}), f"% {number}", {})]
    for tick, anchor in ((low, "start"), ((low + high) / 2, "middle"), (high, "end")):
        at = f"{10**tick:.3g}" if tick < 3 else f"{round(10**tick, -1):.0f}"
        parts.append(f'<text x="{_x(tick, low, high):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{at}</text>')
    for index, (name, speed, value, memory) in enumerate(points):
        x, y = _x(math.log10(speed), low, high), _y(value, bottom, top)
        radius = 5 + 9 * math.sqrt((memory or 0) / most)
        label = f"{name}: {value:.1f} %, {speed:.1f} frames/s" + (f", {memory:.0f} MB" if memory else "")
        dot = f'<circle class="s{index % COLOURS}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
        parts.append(f"{dot}<title>{escape(label)}</title></circle>")
    parts.append(f'<text x="{WIDTH - EDGE}" y="{HEIGHT - BOTTOM - 6}" text-anchor="end">frames/s</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


def _axes(ticks: Sequence[float], unit: str, frames: Mapping[int, str]) -> str:
    """Draw the vertical axis with its ticks, and below the horizontal one the first and last frame.

    Args:
        ticks: values of the horizontal lines, the lowest first.
        unit: label of the vertical axis.
        frames: text anchor of the first and the last frame; empty = no horizontal labels.
    """
    bottom, top = ticks[0], ticks[-1]
    parts = []
    for tick in ticks:
        y = _y(tick, bottom, top)
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - EDGE}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<text x="{LEFT + 4}" y="{EDGE + 12}">{escape(unit)}</text>')
    for frame, anchor in frames.items():
        x = _x(frame, min(frames), max(frames))
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">frame {frame}</text>')
    return "".join(parts)


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (value - low) / (high - low) * (WIDTH - EDGE - LEFT)


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (value - low) / ((high - low) or 1) * (HEIGHT - BOTTOM - EDGE)
