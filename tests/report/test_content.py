"""Reports: complete, escaped, and the same bytes for the same measurements."""

from __future__ import annotations

import dataclasses
import html.parser
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from harness.config.options import parse_options
from harness.core import Example
from harness.metrics.base import Array, Effect, Metric
from harness.metrics.corpus import CorpusMetric
from harness.metrics.perplexity import Perplexity
from harness.prompts.rendering import render as prompt
from harness.records import (
    Evaluation,
    Likelihood,
    Measurement,
    StageRecord,
    TrainingRecord,
)
from harness.report import content as report
from harness.report import markdown as rendering
from harness.report.columns import columns, lines
from harness.report.formatting import visible
from harness.report.html import page
from harness.report.language import ENGLISH
from harness.report.learning import draw
from harness.report.nouns import Missing, Report, SampleRow, Written
from harness.report.publish import write
from harness.report.summary import summary
from harness.report.tables import frame, table
from harness.report.terminal import Plain, show_report
from harness.results.manifest import Control
from harness.run.describe import describe
from harness.run.plan import Plan, make_plan
from harness.statistics.uncertainty import Comparison
from tests.builders.cells import MEASUREMENT, PROVENANCE
from tests.builders.tasks import Files
from tests.builders.texts import HOSTILE

TRAINING = TrainingRecord(
    adapter="a",
    sha256="s",
    base={},
    settings={"r": 16, "learning_rate": 1e-3, "seed": 0},
    optimizer="adamw_torch",
    rows=12,
    tokens=345,
    steps=3,
    trained_rows=12,
    trained_tokens=345,
    seconds=12.5,
    trainable_parameters=99,
    losses=(3.0, 2.5, 2.25),
    evaluations=(),
    best_step=None,
    select_on=None,
    ids=tuple(f"train-{i:03d}" for i in range(12)),
    left_out=(),
    holdout_ids=(),
    stages=(),
)
WATCHED: dict[str, Any] = {
    "evaluations": (
        Evaluation(0, 3.5, 40.0),
        Evaluation(2, 2.5, 12.5),
        Evaluation(3, 2.625, 13.5),
    ),
    "best_step": 2,
    "select_on": "test",
}
METRICS = (Perplexity(),)


@pytest.fixture
def plan(files: Files, tiny_model: Path) -> Plan:
    return make_plan(
        parse_options(
            {
                "model": str(tiny_model),
                "data": str(files.test),
                "train_data": str(files.train),
                "k": "1",
                "seeds": "0,1,2",
            }
        )
    )


def measured(plan: Plan, nlls: dict[str, float] | None = None) -> dict[str, Any]:
    """One made-up measurement for every case; NLL 2 nats a token unless told otherwise."""
    stored = {}
    for number, case in enumerate(plan.cases):
        cell = dataclasses.replace(
            MEASUREMENT.cell,
            id=case.id,
            strategy=case.strategy.name,
            label=case.strategy.label,
            k=len(case.adaptation.demonstrations),
            seed=case.seed,
        )
        nll = (nlls or {}).get(case.id, 2.0 + 0.1 * number)
        scores = tuple(Likelihood(e.id, nll, 1, 2, 6, 10) for e in plan.task.examples)
        training = TRAINING if case.training else None
        stored[case.id] = (
            Measurement(cell, scores, 9.9, PROVENANCE, training),
            f"cells/{case.id}.json",
        )
    return stored


def build(
    plan: Plan,
    stored: dict[str, Any],
    computed: frozenset[str] = frozenset(),
    failures: dict[str, str] | None = None,
) -> Report:
    found = {name: (measurement.cell, file) for name, (measurement, file) in stored.items()}
    manifest = describe(plan, found, computed, failures)
    measurements = {name: measurement for name, (measurement, _) in stored.items()}
    return report.build(manifest, measurements, METRICS)


def render(template: str, content: Report, figures: Any = None) -> str:
    if template == "report.html.j2":
        return page(content, figures or {})
    return rendering.render(template, content, figures)


def pool_of(plan: Plan) -> Any:
    return describe(plan, {}).scored_pool


def test_summary_has_what_it_promises(plan: Plan) -> None:
    stored = measured(plan)
    content = summary(build(plan, stored, computed=frozenset(list(stored)[:1])))
    assert content["schema_version"] == 2
    cell_fields = set(
        "task model strategy label k select seed prompt key n mean_perplexity "
        "geometric_mean_perplexity median_perplexity token_perplexity bits_per_byte nonfinite "
        "seconds cached file".split()
    )
    assert len(content["cells"]) == 7
    for cell in content["cells"]:
        assert cell_fields <= set(cell)
    assert [cell["cached"] for cell in content["cells"]] == [False] + [True] * 6
    labels = {group["label"]: group for group in content["groups"]}
    assert {name: group["n_seeds"] for name, group in labels.items()} == {
        "zeroshot": 1,
        "fewshot-random-k01": 3,
        "qlora": 3,
    }
    assert labels["zeroshot"]["std"] is None
    # exp(2.1), exp(2.2), exp(2.3): numpy.std([...], ddof=1) = 0.904382
    assert labels["fewshot-random-k01"]["std"] == pytest.approx(0.904382, rel=1e-5)
    assert labels["fewshot-random-k01"]["mean"] == pytest.approx(9.055122, rel=1e-5)
    # Against zero-shot, exp(2): 9.055122 / 7.389056 − 1
    change = labels["fewshot-random-k01"]["mean"] / labels["zeroshot"]["mean"] - 1
    assert change == pytest.approx(0.225478, rel=1e-4)
    # The geometric mean over seeds, exp(2.2), against exp(2).
    assert labels["fewshot-random-k01"]["versus"]["effect"][0] == pytest.approx(0.221403, rel=1e-5)
    json.dumps(content, allow_nan=False)


def test_one_seed_is_not_a_spread_of_zero(plan: Plan) -> None:
    stored = measured(plan)
    only = {name: value for name, value in stored.items() if not name.endswith(("s1", "s2"))}
    content = build(plan, only)
    for group in summary(content)["groups"]:
        assert group["std"] is None
    text = render("report.md.j2", content)
    assert "± n/a" in text
    assert "± 0.00" not in text
    assert "1 of 3" in text


def test_missing_cells_are_named_with_their_reason(plan: Plan) -> None:
    stored = measured(plan)
    gone = plan.cases[-1].id
    del stored[gone]
    content = build(plan, stored, failures={gone: "row 'x' does not fit"})
    assert content.missing == (Missing(gone, "row 'x' does not fit"),)
    for template in ("report.md.j2", "report.html.j2"):
        text = render(template, content)
        assert "Incomplete" in text
        assert "does not fit" in text
    assert "Incomplete" not in render("report.md.j2", build(plan, measured(plan)))


def test_nothing_measured_still_renders(plan: Plan) -> None:
    content = build(plan, {})
    for template in ("report.md.j2", "report.html.j2"):
        assert "No cell has been measured" in render(template, content)


def test_reports_say_where_the_numbers_come_from(plan: Plan) -> None:
    content = build(plan, measured(plan))
    for template in ("report.md.j2", "report.html.j2"):
        text = re.sub(r"\\(.)", r"\1", render(template, content))
        for fact in (
            "exp(NLL / scored tokens)",
            plan.task.digest,
            "12 rows",
            "prefix token BOS",
            "float32",
            "torch 2.13.0",
            "processor = test",
            "0, 1, 2",
            "learning_rate = 0.001",
            "bits per byte",
        ):
            assert fact in text, (template, fact)


def test_no_wall_clock_and_no_cache_state_in_the_reports(plan: Plan) -> None:
    slow, fast = measured(plan), measured(plan)
    for name, (measurement, file) in slow.items():
        slow[name] = dataclasses.replace(measurement, seconds=1234.5, peak_memory_bytes=7), file
    for template in ("report.md.j2", "report.html.j2"):
        one = render(template, build(plan, slow, frozenset(slow)))
        two = render(template, build(plan, fast))
        assert one == two


def test_nonfinite_cells_are_shown_as_such(plan: Plan) -> None:
    name = plan.cases[0].id
    content = summary(build(plan, measured(plan, {name: float("nan")})))
    cell = content["cells"][0]
    assert cell["nonfinite"] == 5
    assert cell["mean_perplexity"] is None
    assert content["groups"][1]["versus"] is None  # nothing to compare with
    json.dumps(content, allow_nan=False)


class Tags(html.parser.HTMLParser):
    """Collects tags, attributes and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_content(plan: Plan, text: str) -> Report:
    stored = measured(plan)
    for name, (measurement, file) in stored.items():
        cell = dataclasses.replace(
            measurement.cell,
            prompt=text,
            model=dataclasses.replace(measurement.cell.model, name=text, adapter=text),
        )
        stored[name] = dataclasses.replace(measurement, cell=cell), file
    content = build(plan, stored, failures={})
    training = dataclasses.replace(
        content.trainings[0], model=text, prompt=text, left_out=(text,), select_on="test"
    )
    return dataclasses.replace(
        content,
        task=dataclasses.replace(content.task, name=text, data=text, excluded=((text, text),)),
        missing=(Missing(text, text),),
        prompts=(dataclasses.replace(content.prompts[0], name=text, query=text),),
        trainings=(training, *content.trainings[1:]),
        recipe={"model": text},
        samples=(SampleRow(text, text, text, (Written("a", text, True),)),),
        warnings=(text,),
    )


def indented(markdown: str) -> list[str]:
    """Lines of code blocks, in which everything is text."""
    return [line for line in markdown.splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(plan: Plan, text: str) -> None:
    plain = Tags()
    plain.feed(render("report.html.j2", hostile_content(plan, "harmless")))
    tags = Tags()
    tags.feed(render("report.html.j2", hostile_content(plan, text)))
    assert tags.tags == plain.tags
    assert tags.attributes == plain.attributes
    assert text.replace("\x00", "\ufffd") in tags.text or visible(text) in tags.text

    markdown = render("report.md.j2", hostile_content(plan, text))
    tidy = render("report.md.j2", hostile_content(plan, "harmless"))
    assert markdown.count("\n") == tidy.count("\n")
    assert len(indented(markdown)) == len(indented(tidy))
    markdown, tidy = (
        "\n".join(line for line in some.splitlines() if not line.startswith("    "))
        for some in (markdown, tidy)
    )
    unescaped = re.sub(r"\\.", "", markdown)
    assert unescaped.count("|") == re.sub(r"\\.", "", tidy).count("|")
    assert "<" not in unescaped.replace("\n> **", "")
    assert "](http" not in unescaped
    assert "\u202e" not in markdown
    assert "\x1b" not in markdown
    # Neither in digests nor in the name of the folder that the tests run in.
    assert "49" not in re.sub(r"pytest-\d+|[0-9a-f.]{6,}", "", markdown)


def watched(plan: Plan, **changes: Any) -> dict[str, Any]:
    stored = measured(plan)
    for name, (measurement, file) in stored.items():
        if measurement.training is not None:
            training = dataclasses.replace(TRAINING, **{**WATCHED, **changes})
            stored[name] = dataclasses.replace(measurement, training=training), file
    return stored


def test_a_curve_is_in_both_reports_and_in_the_summary(plan: Plan, tmp_path: Path) -> None:
    content = build(plan, watched(plan))
    (training,) = content.trainings
    assert [run.seed for run in training.runs] == [0, 1, 2]
    # The training loss of a point is the mean since the point before: (3 + 2.5) / 2, then 2.25.
    points = training.runs[0].evaluations
    assert [point.training_loss for point in points] == [None, 2.75, 2.25]
    assert [point.best for point in points] == [False, True, False]
    figures = draw(content.trainings, pool_of(plan))
    (name,) = figures
    files = write(tmp_path, content, [(ENGLISH, figures, {})])
    assert [file.name for file in files] == ["summary.json", "report.md", "report.html"]
    assert (tmp_path / "figures" / f"{name}.svg").is_file()
    markdown, page = (tmp_path / f"report.{kind}" for kind in ("md", "html"))
    assert f"](figures/{name}.svg)" in markdown.read_text()
    assert "| 0 | 2 | 2.750 | 2.500 | 12.50 | ★ |" in markdown.read_text()
    assert "<svg" in page.read_text()
    assert [entry.label for entry in content.chosen_on_test] == ["qlora"]
    for text in (markdown.read_text(), page.read_text()):
        assert "chosen on the test set" in text
        assert "--select-on=holdout" in re.sub(r"\\(.)", r"\1", text)


def test_a_checkpoint_chosen_on_held_out_rows_needs_no_warning(plan: Plan) -> None:
    points = tuple(
        dataclasses.replace(point, holdout_perplexity=9.5) for point in WATCHED["evaluations"]
    )
    stored = watched(plan, select_on="holdout", holdout_ids=("a", "b"), evaluations=points)
    content = build(plan, stored)
    assert content.chosen_on_test == []
    for template in ("report.md.j2", "report.html.j2"):
        text = render(template, content)
        assert "chosen on 2 rows held out of the training pool" in text
        assert "flatters" not in text
        assert "held-out perplexity" in text
        assert "9.50" in text


def test_a_training_that_was_not_watched_says_what_is_scored(plan: Plan) -> None:
    content = build(plan, measured(plan))
    assert content.chosen_on_test == []
    for template in ("report.md.j2", "report.html.j2"):
        assert "The weights of the last step are scored" in render(template, content)


def test_chosen_rows_and_stages_are_shown(files: Files, plan: Plan) -> None:
    pool = tuple(dataclasses.replace(e, score=float(i)) for i, e in enumerate(plan.task.pool))
    plan = dataclasses.replace(plan, task=dataclasses.replace(plan.task, pool=pool))
    ids = tuple(example.id for example in pool[:4])
    stages = (StageRecord(2, 1e-3, 1.0, ids[:2]), StageRecord(1, 1e-4, 2.0, ids[2:]))
    content = build(plan, watched(plan, rows=4, ids=ids, stages=stages))
    (training,) = content.trainings
    assert training.ids == ids
    assert training.runs[0].boundaries == (2,)
    figures = draw(content.trainings, pool_of(plan))
    assert sorted(name.partition("-")[0] for name in figures) == ["curve", "rows"]
    for template in ("report.md.j2", "report.html.j2"):
        text = render(template, content, figures)
        assert "4 of 12 rows, 3 optimizer steps" in text
        assert "Stage 2: 2 rows, 2.0 epochs, 1 steps, peak learning rate 0.0001" in text
    # Without scores there is nothing to draw them against.
    unscored = (dataclasses.replace(pool[0], score=None), *pool[1:])
    task = dataclasses.replace(plan.task, pool=unscored)
    figures = draw(content.trainings, pool_of(dataclasses.replace(plan, task=task)))
    assert [name.partition("-")[0] for name in figures] == ["curve"]


def test_leaked_rows_are_said_to_be_there(plan: Plan) -> None:
    for leaks, says in ((plan.task.pool[:1], "although they are"), ((), "left out as copies")):
        task = dataclasses.replace(plan.task, excluded=(("a", "b"),), leaks=leaks)
        content = build(dataclasses.replace(plan, task=task), {})
        for template in ("report.md.j2", "report.html.j2"):
            assert says in render(template, content)


def test_terminal_table_shows_what_varies(plan: Plan) -> None:
    content = build(plan, measured(plan))
    text = table(content, content.headline)
    assert "fewshot-random-k01" in text
    assert "9.06 ± 0.90" in text
    assert "+22.1 %" in text  # of the geometric mean: exp(2.2) over exp(2)
    assert "model" not in text.splitlines()[0]


def test_warnings_of_rows_and_models_stand_in_every_report(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    stored = {
        name: (dataclasses.replace(measurement, warnings=("model m: cannot write 龘",)), file)
        for name, (measurement, file) in measured(plan).items()
    }
    task = dataclasses.replace(plan.task, warnings=("rows.json: 2 rows left out",))
    content = build(dataclasses.replace(plan, task=task), stored)
    lines = ["rows.json: 2 rows left out", "model m: cannot write 龘"]  # once, not once a cell
    assert summary(content)["warnings"] == lines
    for template in ("report.md.j2", "report.html.j2", "job-summary.md.j2"):
        text = render(template, content)
        assert [text.count(line) for line in lines] == [1, 1]
    stream = io.StringIO()
    show_report(Plain(stream, colours=False), content, [], tmp_path)
    assert [stream.getvalue().count(line) for line in lines] == [1, 1]


def test_a_group_is_compared_within_its_prompt(plan: Plan) -> None:
    """The same strategies under a second prompt have a control of their own."""
    stored = measured(plan)
    manifest = describe(plan, {n: (m.cell, file) for n, (m, file) in stored.items()})
    measurements = {name: measurement for name, (measurement, _) in stored.items()}
    others = tuple(
        dataclasses.replace(entry, id=f"{entry.id}-b", prompt="b") for entry in manifest.entries
    )
    for entry in others:
        first = measurements[entry.id.removesuffix("-b")]
        shift = 0.5 if entry.label == "zeroshot" else 0.0
        measurements[entry.id] = dataclasses.replace(
            first,
            cell=dataclasses.replace(first.cell, prompt="b"),
            observations=tuple(
                dataclasses.replace(seen, nll=seen.nll + shift) for seen in first.observations
            ),
        )
    manifest = dataclasses.replace(manifest, entries=(*manifest.entries, *others))
    groups = summary(report.build(manifest, measurements, METRICS))["groups"]
    effects = {
        g["prompt"]: g["versus"]["effect"][0] for g in groups if g["label"] == "fewshot-random-k01"
    }
    # exp(2.2) against exp(2), and against exp(2.5).
    assert effects["plain"] == pytest.approx(math.exp(0.2) - 1)
    assert effects["b"] == pytest.approx(math.exp(-0.3) - 1)


class Likely(Metric):
    """How likely a token is: higher is better."""

    name = "likely"
    title = "mean likelihood"
    better = "higher"
    definition: ClassVar = {"likely": "exp(−NLL / scored tokens)"}

    def row(self, seen: Likelihood, row: Example) -> float:
        return math.exp(-seen.nll / seen.n_tokens)


def test_a_second_metric_has_table_sentences_and_rows_of_its_own(plan: Plan) -> None:
    stored = measured(plan)
    found = {name: (measurement.cell, file) for name, (measurement, file) in stored.items()}
    measurements = {name: measurement for name, (measurement, _) in stored.items()}
    content = report.build(describe(plan, found), measurements, [Perplexity(), Likely()])
    few = summary(content)["metrics"][1]["groups"][1]
    # Seeds of exp(-2.1), exp(-2.2), exp(-2.3) against exp(-2), every row alike.
    expected = (math.exp(-2.1) + math.exp(-2.2) + math.exp(-2.3)) / 3
    assert few["mean"] == pytest.approx(expected)
    assert few["versus"]["effect"][0] == pytest.approx(expected - math.exp(-2))
    assert few["versus"]["mean_effect"] is None
    for template in ("report.md.j2", "report.html.j2"):
        text = render(template, content)
        assert "mean likelihood" in text
        assert "higher is better" in text.lower()
        assert "Nothing beats zeroshot, mean likelihood 0.14" in text
    assert {row["metric"] for row in frame(content).to_dict("records")} == {"perplexity", "likely"}


class Bits(CorpusMetric):
    """Bits per byte from sums over rows."""

    name = "bits"
    title = "bits per byte"
    noun = "bits per byte"
    better = "lower"
    definition: ClassVar = {"bits": "total NLL in bits / total bytes"}
    sums = ("bits", "bytes")

    def statistics(self, seen: Sequence[Likelihood], rows: Sequence[Example]) -> Array:
        return np.array([(one.nll / math.log(2), one.n_bytes) for one in seen])

    def combine(self, sums: Array) -> Array:
        found: Array = sums[..., 0] / np.maximum(sums[..., 1], 1)
        return found


def test_a_corpus_metric_has_table_sentences_and_rows_too(plan: Plan) -> None:
    stored = measured(plan)
    found = {name: (measurement.cell, file) for name, (measurement, file) in stored.items()}
    measurements = {name: measurement for name, (measurement, _) in stored.items()}
    content = report.build(describe(plan, found), measurements, [Bits(), Perplexity()])
    body = summary(content)
    # perplexity's own bits per byte: a mean over seeds of quotients of sums
    theirs = body["metrics"][1]["groups"]
    for ours, other in zip(body["groups"], theirs, strict=True):
        assert ours["mean"] == pytest.approx(other["bits_per_byte"])
        low, high = ours["mean_interval"]
        assert low <= ours["mean"] <= high
    few, zero = body["groups"][1], body["groups"][0]
    assert few["versus"]["effect"][0] == pytest.approx(few["mean"] - zero["mean"])
    assert few["versus"]["mean_effect"] is None
    for template in ("report.md.j2", "report.html.j2"):
        text = render(template, content)
        assert "bits per byte" in text
        assert f"bits per byte {min(group['mean'] for group in body['groups']):.2f}" in text
    values = content.explorer.cells[0].values[0]
    seen = next(iter(measurements.values())).observations
    assert values == pytest.approx([one.nll / math.log(2) / one.n_bytes for one in seen], rel=1e-4)


@pytest.mark.parametrize("metric", [Perplexity(), Likely()], ids=["lower", "higher"])
@pytest.mark.parametrize("rose", [True, False])
def test_a_sure_change_has_the_colour_of_its_direction(
    plan: Plan, metric: Metric, rose: bool
) -> None:
    """What is worse depends on which direction is better."""
    stored = {name: measurement for name, (measurement, _) in measured(plan).items()}
    manifest = describe(plan, {name: (m.cell, "file") for name, m in stored.items()})
    content = report.build(manifest, stored, [metric])
    sign = 1 if rose else -1
    sure = Comparison(Effect(0.2 * sign, 0.15 * sign, 0.25 * sign), None, None, 0.001)
    section = content.headline
    groups = tuple(dataclasses.replace(g, comparison=sure) for g in section.groups)
    section = dataclasses.replace(section, groups=groups)
    content = dataclasses.replace(content, sections=(section,))
    (column,) = [one for one in columns(content, section, "html") if one.name == "versus"]
    shown = column.show(lines(section)[0])
    worse = rose == (metric.better == "lower")
    assert shown.css == ("worse" if worse else "better")
    assert f'"sign":{1 if metric.better == "lower" else -1}' in page(content, {}).replace(" ", "")


def test_the_control_is_chosen(plan: Plan) -> None:
    stored = measured(plan)
    found = {name: (measurement.cell, file) for name, (measurement, file) in stored.items()}
    manifest = dataclasses.replace(
        describe(plan, found), control=Control("fewshot-random-k01", "1-shot")
    )
    measurements = {name: measurement for name, (measurement, _) in stored.items()}
    content = report.build(manifest, measurements, METRICS)
    compared = {g["label"]: g["versus"] for g in summary(content)["groups"]}
    assert compared["fewshot-random-k01"] is None
    # exp(2) against exp(2.2).
    assert compared["zeroshot"]["effect"][0] == pytest.approx(math.exp(-0.2) - 1)
    assert "vs 1-shot" in render("report.md.j2", content)
    assert "vs zero-shot" not in render("report.md.j2", content)


def test_the_explorer_shows_prompts_as_they_were_sent(plan: Plan) -> None:
    content = build(plan, measured(plan)).explorer
    case = plan.cases[1]
    shown = plan.demonstrations(case)
    cell = next(cell for cell in content.cells if cell.id == case.id)
    assert not cell.note or cell.note.startswith("Not kept")
    zero = next(cell for cell in content.cells if cell.label == "zeroshot")
    for row, own in zip(plan.task.examples, zero.own, strict=True):
        sent = prompt(case.template, row).text
        assert "".join(content.strings[text] for _, _, text in (*zero.shared, *own)) == sent
    assert len(shown) == len(plan.task.examples)


def test_how_adapters_were_trained_together_is_said(plan: Plan) -> None:
    said = {
        "; up to 3 adapters in one batch over one base": {"together": 3},
        "; each alone although several were to be trained in one batch (a reason)": {
            "apart": "a reason"
        },
    }
    for template in ("report.md.j2", "report.html.j2"):
        for words, changes in said.items():
            assert words in render(template, build(plan, watched(plan, **changes)))
        assert "in one batch" not in render(template, build(plan, watched(plan)))
