"""The main table as a data frame: CSV for programs and spreadsheets, LaTeX for papers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.report.formatting import (
    NA,
    VARYING,
    change,
    interval,
    number,
    p_value,
    plus_minus,
    visible,
)

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


def frame(content: Mapping[str, Any]) -> DataFrame:
    """One row for each group, every number as it is; what there is not is missing."""
    from pandas import DataFrame

    return DataFrame([_row(group) for group in content["groups"]])


def _row(group: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: group[name] for name in ("label", "strategy", *VARYING, "k", "select", "draw")}
    row["seeds"] = " ".join(map(str, group["seeds"]))
    row |= {name: group[name] for name in ("n", "n_seeds", "mean", "std")}
    for name in ("mean", "geometric"):
        if name == "geometric":
            row["geometric_mean"] = group["geometric_mean_perplexity"]
        for over in ("", "_seeds"):
            limits = group[f"{name}{over}_interval"] or (None, None)
            row[f"{name}{over}_low"], row[f"{name}{over}_high"] = limits
    row["median"] = group["median_perplexity"]
    row |= {name: group[name] for name in ("token_perplexity", "bits_per_byte", "nonfinite")}
    versus = group["versus"] or {}
    for name in ("ratio", "seeds_ratio", "mean_ratio"):
        limits = versus.get(name) or (None, None, None)
        column = name.replace("ratio", "vs_zeroshot")
        row[column], row[f"{column}_low"], row[f"{column}_high"] = limits
    row["p"] = versus.get("p")
    names = ("context_tokens", "training_tokens", "training_rows", "training_seconds")
    return row | {name: group[name] for name in names} | {"verdict": group["verdict"]}


def to_csv(content: Mapping[str, Any]) -> str:
    """CSV with a header; numbers in full, lines end with a line feed."""
    text: str = frame(content).to_csv(index=False, lineterminator="\n")
    return text


def to_latex(content: Mapping[str, Any]) -> str:
    """A ``tabular`` for ``booktabs``; texts are escaped, and say no more than they show."""
    from pandas import DataFrame

    varying = [name for name in VARYING if name not in content["constant"]]
    lines = [
        {
            "strategy": tex(group["label"]),
            **{name: tex(group[name]) for name in varying},
            "mean perplexity": _math(plus_minus(group["mean"], group["std"])),
            "95\\,\\%": _math(interval(group["mean_seeds_interval"] or group["mean_interval"])),
            "geometric": _math(number(group["geometric_mean_perplexity"])),
            "vs zero-shot": _math(change(group["versus"])),
            "$p$": _math(p_value(group["versus"] and group["versus"]["p"])),
            "bits/byte": _math(number(group["bits_per_byte"], 3)),
        }
        for group in content["groups"]
    ]
    width = 1 + len(varying)
    text: str = DataFrame(lines).to_latex(
        index=False, escape=False, column_format="l" * width + "r" * 6
    )
    return text


def tex(text: object) -> str:
    """Text that TeX shows as it is."""
    return "".join(_TEX.get(character, character) for character in visible(str(text)))


def _math(text: str) -> str:
    """A number as shown, with TeX's signs."""
    if text in ("–", NA):
        return "--" if text == "–" else NA
    signs = {"±": r"\pm", "%": r"\%", "−": "-", "n/a": r"\mathrm{n/a}", " ": r"\,"}
    return f"${re.sub('±|%|−|n/a| ', lambda found: signs[found[0]], text)}$"
