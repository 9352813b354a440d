"""Answers as cells: which there are, what their keys hold, and that neither kind costs the other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config.export import effective
from harness.config.options import parse_options
from harness.core import Cell, Example
from harness.errors import ModelError, OptionError
from harness.generation import engine
from harness.models.pool import ModelPool
from harness.records import Measurement
from harness.run.bench import Bench
from harness.run.cells import Cells
from harness.run.plan import Plan, make_plan
from harness.scoring import score as scoring
from tests.builders.tasks import Files

Flags = dict[str, Any]


@pytest.fixture
def flags(files: Files, tiny_model: Path, tmp_path: Path) -> Flags:
    return {
        "model": str(tiny_model),
        "data": str(files.test),
        "train_data": str(files.train),
        "results_dir": str(tmp_path / "results"),
        "strategy": "zeroshot",
        "metrics": "perplexity,chrf",
        "seeds": "0,1",
        "set": ["decoding.greedy.max_new_tokens=6", "decoding.sample.max_new_tokens=6"],
    }


def plan_of(flags: Flags, **more: Any) -> Plan:
    return make_plan(parse_options({**flags, **more}))


def ids(plan: Plan) -> list[str]:
    return [case.id.removeprefix("tiny-llama-plain-") for case in plan.cases]


def test_a_seed_where_the_strategy_or_the_decoding_draws(flags: Flags) -> None:
    plan = plan_of(flags, strategy="zeroshot,fewshot", k="1", decode="greedy,sample")
    assert ids(plan) == [
        "zeroshot",
        "zeroshot-greedy",
        "zeroshot-sample-s0",
        "zeroshot-sample-s1",
        *(
            f"fewshot-random-k01{decoding}-s{seed}"
            for seed in (0, 1)
            for decoding in ("", "-greedy", "-sample")
        ),
    ]


def test_what_is_observed_follows_from_metrics_and_decode(flags: Flags) -> None:
    assert ids(plan_of(flags, metrics="perplexity")) == ["zeroshot"]
    assert ids(plan_of(flags, metrics="chrf")) == ["zeroshot-greedy"]
    both = plan_of(flags, metrics="perplexity", decode="greedy")
    assert ids(both) == ["zeroshot", "zeroshot-greedy"]


@pytest.mark.parametrize(
    ("decode", "line"),
    [
        (
            "gredy",
            "--decode=gredy: 'gredy' is no decoding; there are greedy, sample, beam (did you",
        ),
        ("greedy:temperature=0.5", "temperature means nothing where nothing is drawn"),
        ("greedy,greedy", "--decode: greedy stands twice; name each decoding once"),
        ("sample:num_beams=3", "a beam search draws nothing; leave one out"),
        ("sample:top_p=0", "top_p = 0: expected a number above 0, and up to 1"),
    ],
)
def test_an_unusable_decoding_is_one_line(flags: Flags, decode: str, line: str) -> None:
    with pytest.raises(OptionError) as caught:
        plan_of(flags, decode=decode)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_recipe_of_a_run_asks_for_the_same_again(flags: Flags, tmp_path: Path) -> None:
    import tomli_w

    options = parse_options(flags | {"decode": "greedy,sample:temperature=0.7,stop=。"})
    recipe = tmp_path / "again.toml"
    recipe.write_text(tomli_w.dumps(effective(options)), "utf-8")
    again = parse_options({"recipe": str(recipe)})
    assert again.decodings == options.decodings
    assert [one.name for one in again.decodings] == ["greedy", "sample-t0.7-stop1"]
    assert again.decodings[1].max_new_tokens == 6
    assert "decode" not in effective(parse_options({}))


def cells(plan: Plan) -> dict[str, Cell]:
    found = Cells(plan)
    return {case.observes: found.cell(case) for case in plan.cases}


def test_a_key_holds_what_determines_what_is_observed_and_nothing_else(flags: Flags) -> None:
    before = cells(plan_of(flags))
    other = cells(plan_of(flags, set=["decoding.greedy.max_new_tokens=7"]))
    assert other["likelihood"].key == before["likelihood"].key
    assert other["answer"].key != before["answer"].key
    renamed = cells(plan_of(flags, set=["decoding.mine.max_new_tokens=6"], decode="mine"))
    assert {kind: one.key for kind, one in renamed.items()} == {
        kind: one.key for kind, one in before.items()
    }
    reference = cells(plan_of(flags, scorer="reference"))
    assert reference["answer"].key == before["answer"].key
    assert reference["likelihood"].key != before["likelihood"].key


@pytest.mark.parametrize(
    ("field", "changed"), [("output", {"likelihood"}), ("instruction", {"likelihood", "answer"})]
)
def test_a_reference_determines_likelihoods_and_no_answer(
    flags: Flags, files: Files, field: str, changed: set[str]
) -> None:
    before = cells(plan_of(flags))
    rows = json.loads(files.test.read_text("utf-8"))
    rows[0][field] += "也"
    files.test.write_text(json.dumps(rows), "utf-8")
    after = cells(plan_of(flags))
    assert {kind for kind in before if before[kind].key != after[kind].key} == changed


def test_draws_of_other_seeds_are_other_cells(flags: Flags) -> None:
    found = Cells(plan := plan_of(flags, metrics="chrf", decode="sample"))
    assert len({found.cell(case).key for case in plan.cases}) == 2


def all_of(plan: Plan) -> tuple[dict[str, Measurement], list[bool]]:
    bench = Bench(plan)
    bench.store.prepare()
    results = {case.id: bench.measure(case) for case in plan.cases}
    bench.close()
    return {name: one.measurement for name, one in results.items()}, [
        one.cached for one in results.values()
    ]


def test_neither_kind_is_computed_because_of_the_other(
    flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for module, name in ((engine, "write"), (scoring, "score")):
        ours = getattr(module, name)

        def counted(*given: Any, ours: Any = ours, name: str = name) -> Any:
            calls.append(name)
            return ours(*given)

        monkeypatch.setattr(module, name, counted)
    found, _ = all_of(plan_of(flags, metrics="perplexity"))
    assert calls == ["score"]
    both, cached = all_of(plan_of(flags))
    assert (calls, cached) == (["score", "write"], [True, False])
    assert next(iter(both.values())) == next(iter(found.values()))
    # Another metric of answers writes nothing, another limit scores nothing.
    _, cached = all_of(plan_of(flags, metrics="perplexity,bleu,exact"))
    assert (calls, cached) == (["score", "write"], [True, True])
    _, cached = all_of(plan_of(flags, set=["decoding.greedy.max_new_tokens=4"]))
    assert (calls, cached) == (["score", "write", "write"], [True, False])
    answers = both["tiny-llama-plain-zeroshot-greedy"].answers
    assert [one.id for one in answers] == [f"test-{i:03d}" for i in range(5)]
    assert all(1 <= len(one.logprobs) <= 6 for one in answers)


def test_logits_that_are_not_finite_are_one_line_and_nothing_is_stored(
    flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ModelPool.get

    def broken(self: ModelPool, *given: Any) -> Any:
        loaded = ours(self, *given)
        torch.nn.init.constant_(loaded.model.get_output_embeddings().weight, float("nan"))
        return loaded

    monkeypatch.setattr(ModelPool, "get", broken)
    plan = plan_of(flags, metrics="chrf")
    with pytest.raises(ModelError, match=r"row 'test-\d+': the probability of token 1 .*nan"):
        all_of(plan)
    assert not list((plan.options.results_dir / "cells").glob("*.json"))


def test_half_precision_says_how_far_answers_depend_on_the_batch(flags: Flags) -> None:
    found, _ = all_of(plan_of(flags, metrics="chrf", dtype="bfloat16"))
    (measurement,) = found.values()
    assert measurement.writing is not None
    agreement = measurement.writing.agreement
    assert agreement is not None
    assert agreement.rows == 5
    assert (agreement.first is None) == (agreement.differing == 0)
    float32, _ = all_of(plan_of(flags, metrics="chrf"))
    (measurement,) = float32.values()
    assert measurement.writing is not None
    assert measurement.writing.agreement is None


# ------------------------------------------------------------------- choosing a decoding


def test_held_out_rows_choose_and_are_neither_shown_nor_trained_on(flags: Flags) -> None:
    plan = plan_of(
        flags, strategy="fewshot,qlora", k="1", decode="greedy,sample", choose_decoding="4"
    )
    held = {row.id for row in plan.held_out}
    assert len(held) == 4
    assert not held & {row.id for row in plan.task.pool}
    for case in plan.cases:
        assert not held & {row.id for row in case.adaptation.demonstrations}
        if case.training is not None:
            assert not held & {row.id for row in case.training.examples}
    assert [one.name for one in plan.cases[1].candidates] == ["greedy", "sample"]


def test_the_choice_is_the_best_of_the_held_out_rows(flags: Flags) -> None:
    plan = plan_of(flags, metrics="chrf", decode="greedy,sample", choose_decoding="4", seeds="0")
    bench = Bench(plan)
    bench.store.prepare()
    (case,) = plan.cases
    assert (bench.choice(case), bench.stored(case)) == (None, None)
    result = bench.measure(case)
    choice = bench.choice(case)
    assert choice is not None
    assert (choice.metric, choice.rows) == ("chrf", 4)
    assert choice.decoding.name == max(choice.values, key=lambda name: choice.values[name])
    assert result.measurement.cell.decoding == choice.decoding
    assert bench.stored(case) == result.measurement
    assert bench.measure(case).cached
    # What it wrote for the test rows is what a run with this decoding alone writes.
    alone, cached = all_of(plan_of(flags, metrics="chrf", decode=choice.decoding.name, seeds="0"))
    (measurement,) = alone.values()
    assert cached == [True]
    assert measurement.answers == result.measurement.answers


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"decode": "greedy"}, "1 decodings to choose from; name several with --decode"),
        ({"decode": "greedy,sample", "metrics": "perplexity"}, "no metric of --metrics reads"),
        ({"decode": "greedy,sample", "choose_decoding": "7"}, "has 12 rows; half of them at most"),
    ],
)
def test_nothing_to_choose_from_is_one_line(flags: Flags, more: Flags, line: str) -> None:
    with pytest.raises(OptionError, match="^--choose-decoding=") as caught:
        plan_of({**flags, "choose_decoding": "4"}, **more)
    assert line in str(caught.value)


# ------------------------------------------------------------------- files of answers


def written(path: Path, rows: tuple[Example, ...], text: str = "") -> Path:
    body = [{"id": row.id, "output": text or row.output} for row in rows]
    path.write_text(json.dumps(body), "utf-8")
    return path


def test_files_of_answers_need_no_model(
    flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = plan_of(flags).task.examples
    right, wrong = written(tmp_path / "a.json", rows), written(tmp_path / "b.json", rows, "無")
    del flags["strategy"], flags["model"], flags["train_data"]
    monkeypatch.setattr(ModelPool, "get", None)
    plan = plan_of(flags, metrics="chrf,degeneration", score_predictions=f"{right},{wrong}")
    assert [case.id for case in plan.cases] == ["predictions-a", "predictions-b"]
    assert plan.control == ("a", "a")
    # A file does not say how its answers ended.
    assert "truncated" not in [metric.name for metric in plan.metrics]
    found, _ = all_of(plan)
    chrf = plan.metrics[0]
    values = [chrf.read(one.answers, rows).aggregates["chrf"] for one in found.values()]
    assert values[0] == 100
    assert values[1] < 10


def test_a_changed_file_of_answers_is_another_cell(flags: Flags, tmp_path: Path) -> None:
    rows = plan_of(flags).task.examples
    file = written(tmp_path / "a.json", rows)
    more = {"metrics": "chrf", "score_predictions": str(file)}
    del flags["strategy"]
    first, _ = all_of(plan_of(flags, **more))
    written(file, rows, "無")
    second, cached = all_of(plan_of(flags, **more))
    assert cached == [False]
    assert first.keys() == second.keys()
    assert {one.text for one in second["predictions-a"].answers} == {"無"}


def test_files_and_strategies_stand_side_by_side_where_both_are_asked_for(
    flags: Flags, tmp_path: Path
) -> None:
    rows = plan_of(flags).task.examples
    file = written(tmp_path / "theirs.json", rows)
    plan = plan_of(flags, metrics="chrf", score_predictions=str(file))
    assert sorted(case.id for case in plan.cases) == [
        "predictions-theirs",
        "tiny-llama-plain-zeroshot-greedy",
    ]


# ------------------------------------------------------------------- rows without a reference


def test_rows_without_a_reference_are_answered(flags: Flags, files: Files) -> None:
    rows = json.loads(files.test.read_text("utf-8"))
    for row in rows:
        del row["output"]
    files.test.write_text(json.dumps(rows), "utf-8")
    plan = plan_of(flags, metrics="degeneration", decode="greedy")
    assert [row.output for row in plan.task.examples] == [""] * 5
    names = [metric.name for metric in plan.metrics]
    assert names == ["empty", "truncated", "looping", "copied", "leaked"]  # not wrong_script
    found, _ = all_of(plan)
    assert all(len(one.answers) == 5 for one in found.values())
    with pytest.raises(Exception, match="no field 'output'"):
        plan_of(flags, metrics="chrf,degeneration")


def test_predictions_need_answers(flags: Flags) -> None:
    with pytest.raises(OptionError, match="^--predictions=p.json: no answer is written; add"):
        plan_of(flags, metrics="perplexity", predictions="p.json")
    with pytest.raises(OptionError, match=r"p\.txt: predictions are written as \.json"):
        plan_of(flags, predictions="p.txt")


def test_a_case_says_what_it_observes(flags: Flags) -> None:
    likelihood, answer = plan_of(flags).cases
    assert (likelihood.observes, likelihood.decoding_name) == ("likelihood", "")
    assert (answer.observes, answer.decoding_name) == ("answer", "greedy")
    assert replace(answer, seed=3).short == "zeroshot-greedy-s3"
