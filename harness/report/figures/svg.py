"""Figures as SVG text: the same data give the same bytes, in any process.

matplotlib draws, with its own font, a sentinel for what is neutral, and no text from outside: a
placeholder stands for it. Then neutral becomes ``currentColor``, so that one figure serves light
and dark, text takes the fonts of its reader, and ids begin with the figure's name.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from harness.messages import listed, say
from harness.report.figures.labels import shortened
from harness.report.formatting import visible
from harness.report.language import ENGLISH, Language

Points = list[tuple[float, float]]

NEUTRAL, PAPER, INK = "#010203", "#ffffff", "#1f2328"  # the sentinel; a figure that stands alone
# Of Okabe and Ito's palette the four with a contrast of 3 on white and on black, and its black.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), "-.", (0, (3, 1, 1, 1, 1, 1)))
STYLE = """
    font.size=9 axes.titlesize=9 axes.titlelocation=left text.color={0} xtick.color={0}
    ytick.color={0} grid.color={0} axes.labelcolor={0} axes.edgecolor={0} figure.facecolor=none
    axes.facecolor=none axes.spines.top=False axes.spines.right=False axes.spines.left=False
    ytick.major.size=0 axes.grid=True axes.grid.axis=y grid.alpha=0.16 figure.subplot.hspace=0.39
    axes.xmargin=0.015 axes.ymargin=0.2 svg.fonttype=none text.parse_math=False
    legend.frameon=False legend.borderpad=0 legend.borderaxespad=0 legend.columnspacing=1.3
    legend.labelspacing=0.8 figure.subplot.left=0.083 figure.subplot.right=0.9625 svg.hashsalt={1}
"""
EM_SPACE = "\u2003"
FLUID = r"width: 100%; max-width: \d+px; height: auto; "
ROOT = """<svg xmlns="http://www.w3.org/2000/svg" width="{1:.0f}" height="{2:.0f}" \
viewBox="0 0 {3:g} {4:g}" role="img" aria-labelledby="{0}.title {0}.desc" \
style="width: 100%; max-width: {1:.0f}px; height: auto; stroke-linejoin: round; \
font-family: system-ui, -apple-system, 'Segoe UI', \
'Noto Sans', Arial, 'Noto Sans CJK TC', 'PingFang TC', 'Microsoft JhengHei', sans-serif">
<title id="{0}.title">{5}</title><desc id="{0}.desc">{6}</desc>
<text x="7" y="16" style="font-size: 10.5px; fill: currentColor"><tspan style="font-weight: 600">\
{7}</tspan><tspan {8} style="font-size: 9px">{9}</tspan></text>"""
CLEAN: Sequence[tuple[str, Any]] = (
    (r"(?s)^.*?</defs>", ""),  # the prolog, metadata, and a style sheet for the whole page
    (r' id="[^"]*_[^"]*"| transform="rotate\(-0 [^"]*"|font-family: [^;"]*;? ?', ""),
    (r"\s*\n\s*", "\n"),  # and then the style of markers once per line, not once per marker
    (r'<g( [^>]*)?>\n(<use [^>]*) (style="[^"]*")', r"<g \3\1>\n\2"),
    (r'<use xlink:(href="[^"]*" x="[^"]*" y="[^"]*")( style="[^"]*")?', r"<use \1"),
    (r'"[^"]*"', lambda value: re.sub(r"\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}", value[0])),
    (r"M (\S+) (\S+)\nL \1 (?=\S+[\n\"])", r"M\1 \2V"),
    (NEUTRAL, "currentColor"),
)


def standalone(svg: str) -> str:
    """The same figure as a file of its own: dark on white, of a size of its own."""
    svg = re.sub(r'(?<=style=")[^"]*', lambda style: style[0].replace("currentColor", INK), svg)
    svg = re.sub(FLUID, "", svg, count=1)
    paper = f'</desc><rect width="100%" height="100%" style="fill: {PAPER}"/>'
    return svg.replace("</desc>", paper, 1)


def finite(points: Iterable[tuple[float, float | None]]) -> Points:
    """Without what cannot be drawn: None, NaN, the infinities and their neighbourhood."""
    return [(x, y) for x, y in points if y is not None and abs(x) < 1e200 and abs(y) < 1e200]


def scale(axes: Any, side: str, values: Sequence[float], ratio: float = 0) -> None:
    """Plain numbers at the ticks; logarithmic where the values span more than a ratio, if any."""
    axis, low = getattr(axes, f"{side}axis"), min(values, default=0)
    span = max(values) / low if low > 0 else 0
    if span > ratio > 0:
        axes.set(**{f"{side}scale": "log"})
        steps = (1, 2, 3, 4, 6, 8) if span < 10 else (1, 2, 5) if span < 1000 else (1,)
        axis.get_major_locator().set_params(subs=steps)
        axis.minorticks_off()
    axis.set_major_formatter(lambda value, _: f"{value:,.6g}".replace("-", "−"))


def placeholder(text: str, texts: list[str]) -> str:
    """What matplotlib draws where a text from outside is to stand; ``texts`` are for figure."""
    texts.append(text)
    return f"text-{len(texts) - 1}"


def drawable_words(text: str, texts: list[str]) -> str:
    """A text of ours: itself, or a placeholder where matplotlib's font lacks its characters.

    The placeholder is about as wide, so that what stands beside it has its room.
    """
    wide = sum(character > "⺀" for character in text)
    if not wide:
        return text
    ems = wide + 0.6 * (len(text) - wide)
    return placeholder(text, texts) + EM_SPACE * max(0, round(ems - 3))


def figure(
    slug: str,
    title: str,
    note: str,
    words: list[str],
    high: float,
    draw: Any,
    *,
    wide: float = 7.2,
    head: str = "",
    texts: Sequence[str] = (),
    language: Language = ENGLISH,
) -> str:
    """Draw on a blank figure of so many inches, and clean up what was written.

    With a ``head`` the picture shows that instead of its title, and the note on a line of its own.
    ``texts`` may grow while drawing: they take the places of their placeholders.
    """
    slug = re.sub(r"[^A-Za-z0-9-]", lambda c: f"_{ord(c[0]):x}_", slug)
    svg = _drawn(slug, wide, high, draw)
    svg = re.sub(
        rf"(?<=>)text-(\d+){EM_SPACE}*(?=</)", lambda n: escape(visible(texts[int(n[1])])), svg
    )
    shown, note = visible(head or title), visible(note)
    note = shortened(note, 72 * wide - 14) if head else note[:40]
    most = int(10 * wide) - (0 if head else len(note)) - sum(c > "⺀" for c in shown[:36])
    shown = shown[:most] + "…" * (len(shown) > most)
    more = [say("and {n} more", n=len(words) - 5)][: len(words) > 5]
    told = language.of(listed([*words[:5], *more], "; "))
    named, described, shown, note = map(
        escape, (visible(title), f"{visible(title)}: {told or note}", shown, note)
    )
    size = 100 * wide, 100 * high, 72 * wide, 72 * high
    place = 'x="7" dy="13"' if head else 'dx="9"'
    return ROOT.format(slug, *size, named, described, shown, place, note) + svg


def _drawn(slug: str, wide: float, high: float, draw: Any) -> str:
    """What matplotlib writes of a figure, cleaned, without its root element."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), io.StringIO() as file:
        matplotlib.rcdefaults()
        parameters: Any = matplotlib.rcParams
        parameters.update(pair.split("=") for pair in STYLE.format(NEUTRAL, slug).split())
        canvas: Any = FigureCanvasSVG(Figure(figsize=(wide, high), dpi=72))
        canvas.figure.subplots_adjust(bottom=0.5 / high, top=1 - 0.6 / high)
        draw(canvas.figure)
        canvas.print_svg(file, metadata={"Date": None, "Creator": None})
        svg = file.getvalue()
    for pattern, new in (*CLEAN, (r'(?<= id=")|(?<=href="#)|(?<=url\(#)', f"{slug}.")):
        svg = re.sub(pattern, new, svg)
    return svg
