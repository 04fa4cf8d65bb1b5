"""A bar chart as SVG, written by hand: a handful of bars needs no library."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
LABEL = 210
VALUE = 90
ROW = 24
HEAD = 44
INK, PALE, OURS = "#1f2933", "#9fb3c8", "#c2410c"


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure of every candidate that has it."""

    title: str
    bars: Sequence[tuple[str, float]]
    ours: str
    """The bar that stands out."""


def svg(title: str, panels: Sequence[Panel]) -> str:
    """Return the picture, one panel under the other."""
    drawn = [panel for panel in panels if panel.bars]
    height = HEAD + sum(_height(panel) for panel in drawn)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(16, 28, title, weight="bold", size=16),
    ]
    top = HEAD
    for panel in drawn:
        parts += _panel(panel, top)
        top += _height(panel)
    return "\n".join([*parts, "</svg>", ""])


def _height(panel: Panel) -> int:
    return HEAD + ROW * len(panel.bars)


def _panel(panel: Panel, top: int) -> list[str]:
    largest = max(value for _, value in panel.bars) or 1
    parts = [_text(16, top + 26, panel.title, weight="bold")]
    for row, (name, value) in enumerate(panel.bars):
        y = top + HEAD - 6 + row * ROW
        length = max(1, round((WIDTH - LABEL - VALUE) * max(value, 0) / largest))
        colour = OURS if name == panel.ours else PALE
        parts += [
            _text(LABEL - 10, y + 14, name, anchor="end"),
            f'<rect x="{LABEL}" y="{y + 2}" width="{length}" height="{ROW - 8}" fill="{colour}"/>',
            _text(LABEL + length + 8, y + 14, f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"),
        ]
    return parts


def _text(x: int, y: int, text: str, *, weight: str = "normal", anchor: str = "start", size: int = 13) -> str:
    return (
        f'<text x="{x}" y="{y}" fill="{INK}" font-weight="{weight}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(text)}</text>"
    )
