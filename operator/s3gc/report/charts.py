"""Small charts as inline SVG, drawn here and not by a script in the reader's browser.

Each is only the marks: words and numbers stand beside them as text, so that they can be read, copied,
printed, made larger and read aloud. Colours are variables of the page's style sheet and follow its light
and dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

__all__ = ["Part", "bar", "column", "parts_of", "stacked"]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a whole as `stacked` draws it: `share` of 1, `colour` a number of the palette (c1 …)."""

    label: str
    value: float
    share: float
    colour: int
    text: str = ""


def parts_of(values: Sequence[tuple[str, float, str]], *, first_colour: int = 1) -> list[Part]:
    """Parts from (label, value, text), without the empty ones; colours follow the order given."""
    whole = sum(value for _, value, _ in values)
    return [
        Part(label, value, value / whole, first_colour + index, text)
        for index, (label, value, text) in enumerate(values)
        if value > 0
    ]


def bar(share: float, label: str, *, colour: str = "accent") -> Markup:
    """A horizontal bar; `share` is of the longest one. Anything that is there is at least a hair wide."""
    width = 0.0 if share <= 0 else min(100.0, max(0.8, 100 * share))
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{label}">'
        '<rect class="track" width="100" height="10"/>'
        '<rect width="{width:.2f}" height="10" style="fill:var(--{colour})"/></svg>'
    ).format(label=label, width=width, colour=colour)


def column(share: float, label: str, *, colour: str = "accent") -> Markup:
    """An upright bar of a histogram; `share` is of the tallest one."""
    height = 0.0 if share <= 0 else min(100.0, max(1.0, 100 * share))
    return Markup(
        '<svg class="column" viewBox="0 0 10 100" preserveAspectRatio="none" role="img" aria-label="{label}">'
        '<rect class="track" y="99" width="10" height="1"/>'
        '<rect y="{top:.2f}" width="10" height="{height:.2f}" style="fill:var(--{colour})"/></svg>'
    ).format(label=label, top=100 - height, height=height, colour=colour)


def stacked(parts: Sequence[Part], label: str) -> Markup:
    """Parts of a whole side by side. Slivers stay visible, at the cost of the widest part."""
    widths = [max(0.35, 100 * part.share) for part in parts]
    scale = 100 / sum(widths) if widths else 1
    marks: list[Markup] = []
    left = 0.0
    for part, width in zip(parts, widths, strict=True):
        marks.append(
            Markup(
                '<rect x="{left:.3f}" width="{width:.3f}" height="10" style="fill:var(--c{colour})">'
                "<title>{title}</title></rect>"
            ).format(
                left=left,
                width=max(0.1, width * scale - 0.15),
                colour=part.colour,
                title=f"{part.label}: {part.text or part.value}",
            )
        )
        left += width * scale
    return Markup(
        '<svg class="stacked" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{label}">'
        "{marks}</svg>"
    ).format(label=label, marks=Markup("").join(marks))
