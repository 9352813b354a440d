"""The report's pictures: what the content says and nothing else, for any content."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
import os
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.metrics.base import Metric
from harness.report.conclusions import BreakEven
from harness.report.figures import select
from harness.report.figures.frame import WIDE, in_lines
from harness.report.figures.labels import apart, beside, overlap, shortened, width
from harness.report.figures.nouns import Table
from harness.report.figures.svg import standalone
from harness.results.manifest import write_manifest
from harness.results.reading import read_run
from harness.results.store import Store
from tests.builders import ROOT
from tests.builders.contents import LABELS, content, some, to_report
from tests.builders.runs import make_run, report_of
from tests.builders.svg import HOSTILE, SVG, description, marks, words


def pictures(found: dict[str, Any]) -> tuple[dict[str, tuple[str, str]], dict[str, Table]]:
    return select.pictures(to_report(found))


def break_even(found: dict[str, Any]) -> list[BreakEven]:
    return select.break_even(to_report(found))


def only(made: dict[str, Any], kind: str) -> Any:
    (name,) = (name for name in made if name.startswith(f"{kind}-"))
    return made[name]


def picture(found: dict[str, Any], kind: str) -> str:
    svg: str = only(pictures(found)[0], kind)[1]
    return svg


def column(table: Table, header: str) -> list[Any]:
    place = table.headers.index(header)
    return [row[place] for row in table.rows]


PROGRAM = """
import hashlib, sys
from tests.builders.contents import some
print(hashlib.sha256(some().encode()).hexdigest())
assert not {"torch", "matplotlib.pyplot"} & set(sys.modules)
"""


def test_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 30\npath.simplify: False\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "77"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == hashlib.sha256(some().encode()).hexdigest()


def test_a_run_on_disk_is_drawn(tmp_path: Path) -> None:
    folder = make_run(tmp_path, labels=("zeroshot", "fewshot-random-k01", "fewshot-random-k04"))
    manifest, measured = read_run(folder)
    entries = []
    store = Store(folder)
    for entry in manifest.entries:
        k = int(entry.label[-2:]) if entry.label != "zeroshot" else 0
        assert entry.cell is not None
        cell = dataclasses.replace(entry.cell, k=k)
        path = store.put(dataclasses.replace(measured[entry.id], cell=cell))
        file = str(path.relative_to(folder))
        entries.append(dataclasses.replace(entry, cell=cell, file=file))
    write_manifest(folder, dataclasses.replace(manifest, entries=tuple(entries)))
    found = report_of(folder)
    made, tables = select.pictures(found)
    assert list(made) == list(tables)
    assert list(made) == [f"{kind}-m-plain" for kind in ("k", "distribution", "rowwise", "cost")]
    table = tables["k-m-plain"]
    assert column(table, "mean perplexity") == [group.mean for group in found.headline.groups]
    assert column(table, "k") == [None, 1, 4]
    pairs = zip(found.cells, found.headline.cells, strict=True)
    by_id = {cell.id: result.aggregates["mean_perplexity"] for cell, result in pairs}
    for seed in range(3):
        ids = [f"m-plain-{label}-s{seed}" for label in column(table, "strategy")]
        assert column(table, f"seed {seed}") == [by_id.get(id_) for id_ in ids]
    for svg in (svg for _, svg in made.values()):
        ET.fromstring(svg)


def test_numbers_are_the_contents() -> None:
    found = content()
    _, tables = pictures(found)
    groups = found["groups"]
    distribution, cost = only(tables, "distribution"), only(tables, "cost")
    for header, metric in (
        ("median", "median_perplexity"),
        ("geometric mean", "geometric_mean_perplexity"),
        ("arithmetic mean", "mean"),
    ):
        assert column(distribution, header) == [group[metric] for group in groups]
    assert column(distribution, "values") == [50, 150, 150, 150, 150]
    everything = [v for cell in found["explorer"]["cells"][1:4] for v in cell["perplexity"]]
    assert column(distribution, "lowest")[1] == min(everything)
    assert column(distribution, "highest")[1] == max(everything)
    expected = statistics.quantiles(everything, n=20, method="inclusive")
    for place, header in ((0, "5 %"), (4, "25 %"), (14, "75 %"), (18, "95 %")):
        assert column(distribution, header)[1] == pytest.approx(expected[place])
    assert column(cost, "mean perplexity") == [group["mean"] for group in groups]
    assert column(cost, "prompt tokens per query") == [90, 250, 560, 870, 90]
    assert column(cost, "95 % from") == [group["mean_interval"][0] for group in groups]
    assert column(cost, "training tokens") == [None] * 4 + [40_000]


def test_row_by_row() -> None:
    found = content()
    table = only(pictures(found)[1], "rowwise")
    zero = found["explorer"]["cells"][0]["perplexity"]
    best = [cell["perplexity"] for cell in found["explorer"]["cells"][-3:]]
    over = [math.prod(row) ** (1 / 3) for row in zip(*best, strict=True)]
    assert table.headers == ["row", "zeroshot", "qlora", "ratio"]
    assert column(table, "row") == [row["id"] for row in found["explorer"]["rows"]]
    assert column(table, "zeroshot") == zero
    assert column(table, "qlora") == pytest.approx(over)
    assert column(table, "ratio") == pytest.approx([y / x for x, y in zip(zero, over, strict=True)])
    better = sum(y < x for x, y in zip(zero, over, strict=True))
    svg = picture(found, "rowwise")
    assert f"better on {better} of 50 rows" in words(svg)
    assert f"qlora is better on {better} of 50 rows, worse on {50 - better}" in description(svg)
    assert (marks(svg, "better"), marks(svg, "worse")) == (better, 50 - better)


def test_rows_that_are_the_same_are_not_better() -> None:
    found = content(labels=("zeroshot", "qlora"), scatter=0.0)
    for cell in found["explorer"]["cells"]:
        cell["perplexity"] = [2.0, 3.0, 4.0] if cell["seed"] is None else [2.0, 2.0, 5.0]
    svg = picture(found, "rowwise")
    assert {"better on 1 of 3 rows", "worse on 1, the same on 1"} <= set(words(svg))


def test_break_even_by_hand() -> None:
    # 3 · 40,000 tokens of training against 250 − 90, 560 − 90 and 870 − 90 more to read
    expected = {"fewshot-random-k01": 750, "fewshot-random-k03": 256, "fewshot-random-k05": 154}
    found = break_even(content())
    assert {entry.against: entry.queries for entry in found} == expected
    assert {(e.label, e.model, e.prompt) for e in found} == {("qlora", "m", "plain")}
    table = only(pictures(content())[1], "cost")
    assert column(table, "queries until qlora costs less") == [None, 750, 256, 154, None]
    said = description(picture(content(), "cost"))
    assert "from 750 queries on qlora has cost no more tokens than fewshot-random-k01" in said


def test_a_training_never_pays_against_prompts_that_are_not_longer() -> None:
    short = content(labels=("zeroshot", "fewshot-random-k01", "qlora"), context_tokens=90.0)
    assert break_even(short) == []
    table = only(pictures(short)[1], "cost")
    assert not [header for header in table.headers if header.startswith("queries")]
    assert (
        break_even(content({"label": "qlora-2", "context_tokens": 900.0}, labels=LABELS[:1])) == []
    )


def test_every_seed_and_mean_is_in_the_picture() -> None:
    svg = picture(content(), "k")
    assert marks(svg, "seeds-0") == 9
    assert marks(svg, "curve-0") == 3
    assert marks(svg, "seeds-2") == 3  # qlora's
    names = [word.partition("  ")[0] for word in words(svg)]
    assert {"fewshot-random", "zeroshot", "qlora", "mean perplexity"} <= set(names)
    assert {"1", "3", "5"} <= set(words(svg))


def test_without_few_shot_nothing_is_drawn_against_k() -> None:
    made, tables = pictures(content(labels=("zeroshot", "qlora")))
    assert {name.partition("-")[0] for name in made} == {"distribution", "rowwise", "cost"}
    assert set(made) == set(tables)


def test_without_zero_shot_there_is_nothing_to_compare_rows_with() -> None:
    made, _ = pictures(content(labels=LABELS[1:]))
    assert {name.partition("-")[0] for name in made} == {"k", "distribution", "cost"}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.filterwarnings("error")
def test_one_group(label: str) -> None:
    made, _ = pictures(content(labels=(label,)))
    assert ("k-m-plain" in made) == label.startswith("fewshot")
    for _, svg in made.values():
        ET.fromstring(svg)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.filterwarnings("error")
def test_one_row(n: int) -> None:
    made, _ = pictures(content(n=n, scatter=0.0))
    assert len(made) == 4
    for _, svg in made.values():
        ET.fromstring(standalone(svg))


@pytest.mark.filterwarnings("error")
def test_nothing_finite_and_nothing_at_all() -> None:
    found = content()
    for group in found["groups"]:
        group |= dict.fromkeys(
            ("mean", "median_perplexity", "geometric_mean_perplexity", "mean_interval")
        )
        group["mean_seeds_interval"] = None
    for cell in found["cells"]:
        cell["mean_perplexity"] = None
    for cell in found["explorer"]["cells"]:
        cell["perplexity"] = [None] * 50
    assert pictures(found) == ({}, {})
    assert pictures(content(labels=())) == ({}, {})
    assert break_even(content(labels=())) == []


@pytest.mark.filterwarnings("error")
def test_rows_that_are_not_finite_are_left_out() -> None:
    found = content()
    found["explorer"]["cells"][0]["perplexity"][7] = None
    found["explorer"]["cells"][-1]["perplexity"][9] = None
    found["groups"][0] |= {"mean": None, "geometric_mean_perplexity": None, "mean_interval": None}
    found["cells"][0]["mean_perplexity"] = None
    made, tables = pictures(found)
    assert column(only(tables, "distribution"), "values") == [49, 150, 150, 150, 149]
    assert column(only(tables, "distribution"), "arithmetic mean")[0] is None
    assert "2 values are not finite" in description(only(made, "distribution")[1])
    rows = column(only(tables, "rowwise"), "row")
    assert len(rows) == 48
    assert not {"r007", "r009"} & set(rows)
    assert "2 rows are not finite" in description(only(made, "rowwise")[1])
    assert column(only(tables, "k"), "strategy") == list(LABELS[1:])
    assert column(only(tables, "cost"), "strategy") == list(LABELS[1:])


@pytest.mark.parametrize(("ratio", "logarithmic"), [(4.0, False), (6.0, True)])
def test_a_wide_range_stands_on_a_logarithmic_axis(ratio: float, logarithmic: bool) -> None:
    found = content(labels=("zeroshot", "fewshot-random-k01"))
    for group, mean in zip(found["groups"], (10.0 * ratio, 10.0), strict=True):
        group |= {"mean": mean, "mean_interval": None, "mean_seeds_interval": None}
    for cell in found["cells"]:
        cell["mean_perplexity"] = 10.0 if cell["seed"] is not None else 10.0 * ratio
    for kind in ("k", "cost"):
        shown = words(picture(found, kind))
        ticks = [int(word) for word in shown if word.isdigit() and int(word) >= 10]
        ticks = [tick for tick in ticks if tick <= 60]
        steps = {b - a for a, b in zip(ticks, ticks[1:], strict=False) if b > a}
        assert (len(steps) > 1) == logarithmic, (kind, ticks)


@pytest.mark.parametrize("size", [1e-3, 1e9, 1e150, 1e250])
@pytest.mark.filterwarnings("error")
def test_numbers_of_any_size(size: float) -> None:
    found = content()
    found["groups"][1] |= {"mean": size, "mean_interval": [size, size], "mean_seeds_interval": None}
    found["explorer"]["cells"][1]["perplexity"][3] = size
    for _, svg in pictures(found)[0].values():
        ET.fromstring(svg)
        assert "nan" not in svg.lower().split("<desc")[0]


def test_text_stays_text() -> None:
    found = content(
        {"label": f"fewshot-{HOSTILE}-k05"},
        {"label": f"other {HOSTILE}"},
        model=HOSTILE,
        prompt=HOSTILE,
    )
    found["explorer"]["rows"][0]["id"] = HOSTILE
    made, tables = pictures(found)
    assert len(made) == 4
    for name, (heading, svg) in made.items():
        assert all(c.isascii() and (c.isalnum() or c in "._+-") for c in name)
        assert "\x07" not in heading
        for text in (svg, standalone(svg)):
            root = ET.fromstring(text)
            assert not [e for e in root.iter() if e.tag.endswith("script")]
            ids = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
            assert len(ids) == len(set(ids))
        title = ET.fromstring(svg).findtext(f"{SVG}title") or ""
        assert HOSTILE.replace("\x07", "‹U+0007›") in title
        assert not [word for word in words(svg) if word.startswith("text-")]
    assert column(only(tables, "rowwise"), "row")[0] == HOSTILE
    assert any("<script>" in word for word in words(only(made, "distribution")[1]))


def test_a_set_for_each_model_and_prompt() -> None:
    parts = [
        content(model=model, prompt=prompt)
        for model, prompt in (("a-b", "c"), ("a", "b-c"), ("中", "c"), ("a", "c"))
    ]
    found = copy.deepcopy(parts[0])
    for part in parts[1:]:
        found["groups"] += part["groups"]
        found["cells"] += part["cells"]
        found["explorer"]["cells"] += part["explorer"]["cells"]
    made, _ = pictures(found)
    assert len(made) == 16  # though a-b with c and a with b-c make the same name
    assert {"k-a-b-c", "k-a-c"} <= set(made)
    seen: set[str] = set()
    for _, svg in made.values():
        ids = {e.attrib["id"] for e in ET.fromstring(svg).iter() if "id" in e.attrib}
        assert not seen & ids
        seen |= ids


def test_quantizations_stand_in_one_picture_and_are_told_apart() -> None:
    more = [{"label": label, "quantization": "nf4"} for label in ("zeroshot", "qlora")]
    made, tables = pictures(content(*more, labels=LABELS[:2]))
    assert len(made) == 4
    expected = ["zeroshot", "fewshot-random-k01", "zeroshot (nf4)", "qlora (nf4)"]
    assert column(only(tables, "cost"), "strategy") == expected
    assert only(tables, "rowwise").headers[1:3] == ["zeroshot (nf4)", "qlora (nf4)"]
    half = {"label": "zeroshot", "dtype": "float16"}
    _, tables = pictures(content(half, labels=LABELS[:1]))
    expected = ["zeroshot (float32)", "zeroshot (float16)"]
    assert column(only(tables, "cost"), "strategy") == expected


def test_many_groups_and_rows_are_small_pictures() -> None:
    labels = [f"fewshot-{how}-k{k:02d}" for how in ("random", "both") for k in range(1, 9)]
    found = content(labels=("zeroshot", *labels, "qlora"), n=250)
    made, tables = pictures(found)
    for name, (_, svg) in made.items():
        assert len(svg) < 150_000, name
    shown = column(only(tables, "distribution"), "strategy")
    assert len(shown) == 12
    assert {"zeroshot", "qlora"} <= set(shown)
    left_out = sorted(set(labels) - set(shown))
    said = description(only(made, "distribution")[1]).partition("left out: ")[2]
    assert sorted(said.split(", ")) == left_out


def test_labels_do_not_cover_each_other() -> None:
    points = [(100.0 + i, 100.0) for i in range(6)]
    boxes = beside(points, [(60.0, 11.0)] * 6, [], (0, 0, 400, 300))
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert not any(overlap(a, b) for a, b in pairs)
    assert all(box[0] >= 0 and box[2] <= 400 and box[1] >= 0 and box[3] <= 300 for box in boxes)


def test_names_are_kept_apart_near_where_they_belong() -> None:
    assert apart([5, 50, 90], 10, 0, 100) == [5, 50, 90]
    assert apart([50, 50, 50], 10, 0, 100) == [40, 50, 60]
    assert apart([99, 98], 10, 0, 100) == [100, 90]
    assert apart([1, 1, 1], 100, 0, 100) == [0, 50, 100]
    assert apart([], 10, 0, 100) == []
    assert shortened("short", 100) == "short"
    cut = shortened("fewshot-bidirectional-k05", 60)
    assert width(cut) <= 60
    assert cut.startswith("fews")
    assert cut.endswith("k05")


def test_a_key_takes_as_many_lines_as_it_needs() -> None:
    names = [
        f"fewshot-{how}{row}"
        for how in ("random", "bidirectional", "other")
        for row in ("", "-row")
    ]
    labels = [f"{name}-k{k:02d}" for name in names for k in (1, 3)]
    places = in_lines([*names, "x" * 300])
    assert [line for _, line, _ in places] == [0, 0, 0, 1, 1, 1, 2]
    assert all(x + 8 + width(text) <= 72 * WIDE for text, _, x in places)
    svg = picture(content(labels=tuple(labels)), "cost")
    assert set(names) <= set(words(svg))
    assert [word for word in words(svg) if word.startswith("k = ")] == ["k = 1", "k = 3"] * 6


class Likely(Metric):
    name = "likely"
    title = "mean likelihood"
    noun = "likelihood"
    better = "higher"
    definition: ClassVar = {"likely": "likelihood"}


def of_shares(*values: float) -> dict[str, Any]:
    """Zero-shot and a better group whose rows have these likelihoods."""
    found = content(labels=("zeroshot", "qlora"), scatter=0.0)
    for cell in found["explorer"]["cells"]:
        better = cell["label"] == "qlora"
        cell["perplexity"] = [min(1.0, x + 0.25 * better) for x in values]
    found["explorer"]["rows"] = found["explorer"]["rows"][: len(values)]
    for group, mean in zip(found["groups"], (0.4, 0.6), strict=True):
        group |= {"mean": mean, "mean_interval": [mean - 0.1, mean + 0.1]}
        group["mean_seeds_interval"] = None
    return found


@pytest.mark.parametrize("values", [(0.0, 0.25, 0.5, 1.0), (0.0, 0.0, 0.0, 1.0), (0.0,) * 4])
@pytest.mark.filterwarnings("error")
def test_a_metric_on_a_linear_scale_is_drawn_in_its_own_direction(values: list[float]) -> None:
    made, tables = select.pictures(to_report(of_shares(*values), Likely()))
    assert {name.partition("-")[0] for name in made} == {"distribution", "rowwise", "cost"}
    for _, svg in made.values():
        ET.fromstring(svg)
    better = sum(x < 1 for x in values)
    svg = only(made, "rowwise")[1]
    assert f"better on {better} of 4 rows" in words(svg)
    assert only(tables, "rowwise").headers[-1] == "difference"
    assert max(column(only(tables, "rowwise"), "difference")) == 0.25
    assert "mean likelihood" in words(only(made, "cost")[1])


def test_figures_of_a_second_metric_have_its_name() -> None:
    one, two = to_report(content()), to_report(of_shares(0.0, 0.5), Likely())
    second = dataclasses.replace(two.headline, metric=Likely())
    again = dataclasses.replace(two, sections=(two.headline, second))
    explored = dataclasses.replace(
        again.explorer,
        cells=tuple(
            dataclasses.replace(cell, values=cell.values * 2) for cell in again.explorer.cells
        ),
    )
    made, _ = select.pictures(dataclasses.replace(again, explorer=explored))
    assert {"cost-m-plain", "rowwise-m-plain-likely"} <= set(made)
    assert "cost-m-plain-likely" not in made  # the headline alone has all pictures
    assert all(not name.endswith("-perplexity") for name in select.pictures(one)[0])


@pytest.mark.parametrize(("rows", "dots", "said"), [(2000, 2000, ""), (2001, 1001, "a dot for every 2 rows")])  # fmt: skip
def test_of_very_many_rows_only_some_are_dots(rows: int, dots: int, said: str) -> None:
    svg = picture(content(labels=LABELS[:2], n=rows), "rowwise")
    drawn = sum(
        len(list(group.iter(f"{SVG}use")))
        for group in ET.fromstring(svg).iter(f"{SVG}g")
        if group.get("id", "").rpartition(".")[2] in ("better", "worse")
    )
    assert drawn in (dots, dots + 1)  # of each kind, every second from the first on
    assert ("a dot for every" in svg) == bool(said)
    assert said in svg
    assert f"of {rows:,} rows" in svg
