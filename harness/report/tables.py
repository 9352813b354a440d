"""The main table for a terminal, as a data frame, as CSV for programs and as LaTeX for papers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.metrics.base import Effect
from harness.report.columns import Line, Value, body, columns, joined, lines
from harness.report.formatting import NA, NONE, visible
from harness.report.nouns import VARYING, Report, Section

if TYPE_CHECKING:
    from pandas import DataFrame

FORMATS = ("csv", "latex")
_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{sign: f"\\{sign}" for sign in "&%$#_"},
}


def frame(report: Report) -> DataFrame:
    """One row for each group and metric, every number as it is; what there is not is missing."""
    from pandas import DataFrame

    rows = [
        flat_group(line, named=len(report.sections) > 1)
        for section in report.sections
        for line in lines(section)
    ]
    return DataFrame(rows)


def flat_group(line: Line, *, named: bool = False) -> dict[str, Value]:
    """A group under a metric as one row of numbers.

    Args:
        line: the group.
        named: whether the row names its metric.
    """
    group, result, metric = line.group, line.result, line.section.metric
    row: dict[str, Value] = {"metric": metric.name} if named else {}
    row |= {name: getattr(group, name) for name in ("label", "strategy", *VARYING)}
    row |= {name: getattr(group, name) for name in ("k", "select", "draw")}
    row["seeds"] = " ".join(map(str, group.seeds))
    row |= {"n": group.n, "n_seeds": group.n_seeds, "mean": result.mean, "std": result.std}
    bounds = result.bounds
    row |= _limits("mean", bounds.mean) | _limits("mean_seeds", bounds.mean_seeds)
    if metric.center is not None:
        row["geometric_mean"] = result.aggregates[metric.center].mean
        row |= _limits("geometric", bounds.center) | _limits("geometric_seeds", bounds.center_seeds)
    for one in metric.more:
        if one.name != metric.center:
            row[one.name] = result.aggregates[one.name].mean
    row["nonfinite"] = result.nonfinite
    found = result.comparison
    row |= _effect("vs_control", found.effect if found else None)
    row |= _effect("seeds_vs_control", found.seeds_effect if found else None)
    if metric.scale == "log":
        row |= _effect("mean_vs_control", found.mean_effect if found else None)
    row["p"] = found.p if found else None
    names = ("context_tokens", "training_tokens", "training_rows", "training_seconds")
    return row | {name: getattr(group, name) for name in names} | {"verdict": result.verdict}


def _limits(name: str, limits: tuple[float, float] | None) -> dict[str, Value]:
    low, high = limits or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _effect(name: str, effect: Effect | None) -> dict[str, Value]:
    if effect is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {name: effect.estimate, f"{name}_low": effect.low, f"{name}_high": effect.high}


def table(report: Report, section: Section) -> str:
    """The main table for a terminal."""
    from tabulate import tabulate

    shown = columns(report, section, "terminal")
    return tabulate(
        [[joined(one) for one in row] for row in body(section, shown)],
        headers=[column.called("terminal") for column in shown],
        tablefmt="simple",
        disable_numparse=True,
        colalign=["right" if column.numeric else "left" for column in shown],
    )


def to_csv(report: Report) -> str:
    """CSV with a header; numbers in full, lines end with a line feed."""
    text: str = frame(report).to_csv(index=False, lineterminator="\n")
    return text


def to_latex(report: Report) -> str:
    """A ``tabular`` for ``booktabs``, one for each metric; texts are escaped."""
    return "\n".join(_tabular(report, section) for section in report.sections)


def _tabular(report: Report, section: Section) -> str:
    from pandas import DataFrame

    shown = columns(report, section, "latex")
    made = [
        {
            column.called("latex"): (_math(text) if column.numeric else tex(text))
            for column, one in zip(shown, row, strict=True)
            for text in [joined(one)]
        }
        for row in body(section, shown)
    ]
    alignment = "".join("r" if column.numeric else "l" for column in shown)
    text: str = DataFrame(made).to_latex(index=False, escape=False, column_format=alignment)
    return text


def tex(text: object) -> str:
    """Text that TeX shows as it is."""
    return "".join(_TEX.get(character, character) for character in visible(str(text)))


def _math(text: str) -> str:
    """A number as shown, with TeX's signs."""
    if text in (NONE, NA):
        return "--" if text == NONE else NA
    signs = {"±": r"\pm", "%": r"\%", "−": "-", "n/a": r"\mathrm{n/a}", " ": r"\,"}
    return f"${re.sub('±|%|−|n/a| ', lambda found: signs[found[0]], text)}$"
