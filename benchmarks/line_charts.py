"""SVG line charts for the measurements of the scripts in this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#c8553d", "#3b6fb6", "#5b8c5a", "#8a5fa8")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 380, 240, 50, 20, 30, 40

Lines = Mapping[str, Sequence[tuple[float, float]]]


def line_charts(panels: Mapping[str, Lines], along: str) -> str:
    """Draw panels side by side, with axes from zero, the same lines in each panel and one legend below.

    Args:
        panels: by the title of the panel, the points (x, y) of each line by its name; at most four lines.
        along: label of the horizontal axis.
    """
    names = list(next(iter(panels.values())))
    whole = HEIGHT + 20 * len(names) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(panels)} {whole}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="{WIDTH * len(panels)}" height="{whole}" fill="white"/>'
    ]
    for number, (title, lines) in enumerate(panels.items()):
        parts += _panel(number * WIDTH, title, lines, along)
    for number, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        y = HEIGHT + 20 * number + 12
        parts.append(f'<circle cx="{LEFT + 5}" cy="{y - 4}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 15}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(start: int, title: str, lines: Lines, along: str) -> list[str]:
    x0, x1, y0, y1 = start + LEFT, start + WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    longest, most = (max(point[axis] for points in lines.values() for point in points) for axis in (0, 1))
    digits = ".0f" if most >= 10 else ".2g"
    parts = [f'<text x="{x0}" y="{TOP - 12}">{escape(title)}</text>']
    for tick in (0.0, 0.5, 1.0):
        y, x = y0 + tick * (y1 - y0), x0 + tick * (x1 - x0)
        parts.append(f'<line x1="{x0}" y1="{y:.1f}" x2="{x1}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end">{tick * most:{digits}}</text>')
        parts.append(f'<text x="{x:.1f}" y="{y0 + 16}" text-anchor="middle">{tick * longest:.0f}</text>')
    parts.append(f'<text x="{(x0 + x1) / 2}" y="{y0 + 32}" text-anchor="middle">{escape(along)}</text>')
    for points, colour in zip(lines.values(), COLOURS, strict=False):
        placed = [(x0 + x / longest * (x1 - x0), y0 + y / most * (y1 - y0)) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
    return parts
