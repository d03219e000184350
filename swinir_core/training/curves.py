"""Curves of loss and score over the steps, drawn with Pillow so that training needs no plotter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 800, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 30, 30
_INK, _FAINT, _LINE = (40, 40, 40), (220, 220, 220), (20, 100, 180)

Points = Sequence[tuple[float, float]]


def draw_curves(panels: Mapping[str, Points]) -> Image.Image:
    """One panel above the other, each of (step, value) points under its title. Values that are not
    finite are left out, and so are panels without points."""
    finite = {
        title: [(step, value) for step, value in points if math.isfinite(value)]
        for title, points in panels.items()
    }
    drawn = [_panel(title, points) for title, points in finite.items() if points]
    picture = Image.new("RGB", (WIDTH, HEIGHT * max(len(drawn), 1)), "white")
    for row, panel in enumerate(drawn):
        picture.paste(panel, (0, row * HEIGHT))
    return picture


@dataclass(frozen=True)
class _Axis:
    """Values from ``low`` to ``high`` along pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: int
    end: int

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Four to ten round values inside."""
        step = 10 ** math.floor(math.log10((self.high - self.low) / 2))
        count = (self.high - self.low) / step
        step *= 1 if count <= 8 else 2 if count <= 16 else 5
        first = math.ceil(self.low / step)
        return [i * step for i in range(first, math.floor(self.high / step) + 1)]


def _axis(values: Sequence[float], start: int, end: int) -> _Axis:
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return _Axis(low - room, high + room, start, end)


def _panel(title: str, points: Points) -> Image.Image:
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default()
    across = _Axis(0, max(max(step for step, _ in points), 1), _LEFT, WIDTH - _RIGHT)
    up = _axis([value for _, value in points], HEIGHT - _BOTTOM, _TOP)
    draw.text((_LEFT, 8), title, _INK, font)
    for tick in up.ticks():
        y = up(tick)
        draw.line((_LEFT, y, WIDTH - _RIGHT, y), _FAINT)
        draw.text((_LEFT - 6, y), f"{tick:.6g}", _INK, font, anchor="rm")
    for tick in across.ticks():
        x = across(tick)
        draw.line((x, _TOP, x, HEIGHT - _BOTTOM), _FAINT)
        draw.text((x, HEIGHT - _BOTTOM + 6), f"{tick:,.0f}", _INK, font, anchor="mt")
    draw.rectangle((_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM), outline=_INK)
    line = [(across(step), up(value)) for step, value in points]
    draw.line(line, _LINE, 2)
    x, y = line[-1]
    draw.ellipse((x - 3, y - 3, x + 3, y + 3), _LINE)
    return image
