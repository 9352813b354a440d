"""Ratings as cells: what their keys hold, that nothing is written or judged twice, examinations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config.options import parse_options
from harness.errors import OptionError
from harness.generation import engine
from harness.judging import local
from harness.judging.asking import neutral
from harness.judging.probes import probes
from harness.records import Measurement
from harness.report.content import build
from harness.results.manifest import write_manifest
from harness.results.reading import read_run
from harness.run.bench import Bench
from harness.run.plan import Plan, make_plan
from harness.session import Session
from tests.builders.models import make_llama
from tests.builders.tasks import Files

Flags = dict[str, Any]


@pytest.fixture
def flags(files: Files, tiny_model: Path, tmp_path: Path) -> Flags:
    return {
        "model": str(tiny_model),
        "judge": str(make_llama(tmp_path / "judge")),
        "rubric": "translation",
        "data": str(files.test),
        "train_data": str(files.train),
        "results_dir": str(tmp_path / "results"),
        "strategy": "zeroshot",
        "metrics": "judge",
        "set": ["decoding.greedy.max_new_tokens=6"],
    }


def plan_of(flags: Flags, **more: Any) -> Plan:
    return make_plan(parse_options({**flags, **more}))


def all_of(plan: Plan) -> tuple[dict[str, Measurement], list[bool]]:
    bench = Bench(plan)
    bench.store.prepare()
    results = {case.id: bench.measure(case) for case in plan.cases}
    for case in plan.cases:
        assert bench.stored(case) == results[case.id].measurement
    bench.close()
    return {name: one.measurement for name, one in results.items()}, [
        one.cached for one in results.values()
    ]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    for module, name in ((engine, "write"), (local, "judge")):
        ours = getattr(module, name)

        def counted(*given: Any, ours: Any = ours, name: str = name) -> Any:
            made.append(name)
            return ours(*given)

        monkeypatch.setattr(module, name, counted)
    return made


def test_every_answer_is_rated_and_nothing_twice(flags: Flags, calls: list[str]) -> None:
    plan = plan_of(flags)
    assert [case.id for case in plan.cases] == [
        "tiny-llama-plain-zeroshot-greedy",
        "tiny-llama-plain-zeroshot-greedy-judged",
    ]
    found, cached = all_of(plan)
    assert cached == [False, False]
    # The examination of 5 rows, each row's questions together, its repetition, and the answers.
    assert calls == ["write", *["judge"] * 7]
    answers, ratings = (one for one in found.values())
    assert [one.text for one in ratings.ratings] == [one.text for one in answers.answers]
    for one in ratings.ratings:
        assert one.value is not None
        assert 0 <= one.value <= 5
        assert one.ruling.mass is not None
        assert 0 < one.ruling.mass <= 1
        assert sum(one.ruling.probabilities) == pytest.approx(1)
    _, cached = all_of(plan_of(flags))
    assert (cached, len(calls)) == ([True, True], 8)
    # Another rubric judges again, and writes nothing.
    _, cached = all_of(plan_of(flags, rubric="helpful"))
    assert (cached, calls[8:]) == ([True, False], ["judge"] * 7)


def test_a_key_holds_what_is_asked_and_who_is(flags: Flags, files: Files, tmp_path: Path) -> None:
    def key(**more: Any) -> str:
        plan = plan_of(flags, **more)
        bench = Bench(plan)
        bench.store.prepare()
        answers, ratings = plan.cases
        found = bench.judges.cell(ratings, (bench.measure(answers).measurement, None))
        assert found is not None
        return found.key

    before = key()
    assert key() == before
    copied = tmp_path / "renamed.toml"
    copied.write_text(
        (Path("templates") / "judges" / "translation.toml").read_text("utf-8"), "utf-8"
    )
    assert key(rubric=str(copied)) == before  # the same words under another name
    assert key(rubric="helpful") != before
    assert key(judge=str(make_llama(tmp_path / "other", seed=7))) != before
    helpful = key(rubric="helpful")
    rows = json.loads(files.test.read_text("utf-8"))
    rows[0]["output"] += "也"
    files.test.write_text(json.dumps(rows), "utf-8")
    assert key() != before  # its rubric shows the reference
    assert key(rubric="helpful") == helpful


def test_equal_answers_to_a_row_are_judged_once(
    flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ours = local.judge

    def counted(loaded: Any, rubric: Any, questions: Any, progress: Any) -> Any:
        asked.append(len(questions))
        return ours(loaded, rubric, questions, progress)

    monkeypatch.setattr(local, "judge", counted)
    flags["set"] = ["decoding.greedy.num_return_sequences=1", "decoding.few.do_sample=true"]
    flags["set"] += ["decoding.few.num_return_sequences=4", "decoding.few.max_new_tokens=1"]
    found, _ = all_of(plan_of(flags, decode="few", seeds="0"))
    answers, ratings = found.values()
    assert len(ratings.ratings) == len(answers.answers) == 20
    # Nor what the examination asked already: of an empty answer, say.
    examined = probes(plan_of(flags).task.examples)
    ids = [row.id for row in plan_of(flags).task.examples]
    known = {pair for texts in examined.values() for pair in zip(ids, texts, strict=True)}
    # As they are asked: without characters that do not show.
    texts = {(one.id, neutral(one.text)) for one in answers.answers}
    assert asked[-1] == len(texts - {(name, neutral(text)) for name, text in known})
    values = {(one.id, one.text): one.value for one in ratings.ratings}
    assert all(values[one.id, one.text] == one.value for one in ratings.ratings)


@pytest.fixture
def pairs(flags: Flags) -> Flags:
    return {
        **flags,
        "metrics": "win_rate",
        "strategy": "zeroshot,fewshot",
        "k": "1,2",
        "seeds": "0,1",
    }


def ids_of(plan: Plan) -> list[str]:
    return [
        case.id.removeprefix("tiny-llama-plain-")
        for case in plan.cases
        if case.observes == "preference"
    ]


def test_every_strategy_is_compared_with_the_control_of_its_seed(pairs: Flags) -> None:
    assert ids_of(plan_of(pairs)) == [
        "fewshot-random-k01-greedy-s0-vs-zeroshot",
        "fewshot-random-k01-greedy-s1-vs-zeroshot",
        "fewshot-random-k02-greedy-s0-vs-zeroshot",
        "fewshot-random-k02-greedy-s1-vs-zeroshot",
    ]
    assert ids_of(plan_of(pairs, control="fewshot-random-k01", k="1")) == [
        "zeroshot-greedy-vs-fewshot-random-k01-s0",
        "zeroshot-greedy-vs-fewshot-random-k01-s1",
    ]
    assert ids_of(plan_of(pairs, pairs="all", seeds="0")) == [
        "fewshot-random-k01-greedy-s0-vs-zeroshot",
        "fewshot-random-k02-greedy-s0-vs-zeroshot",
        "fewshot-random-k02-greedy-s0-vs-fewshot-random-k01",
    ]
    # Decodings are not compared with one another.
    assert len(ids_of(plan_of(pairs, k="1", seeds="0", decode="greedy,beam"))) == 2


def test_a_pair_is_asked_about_in_both_orders(pairs: Flags) -> None:
    found, _ = all_of(plan_of(pairs, k="1", seeds="0"))
    zero, few, seen = (one for one in found.values())
    preferences = seen.preferences
    assert [one.text for one in preferences] == [one.text for one in few.answers]
    assert [one.other for one in preferences] == [one.text for one in zero.answers]
    for one in preferences:
        assert one.first.value in (0, 0.5, 1)
        assert one.second.value in (0, 0.5, 1)
        assert len(one.first.probabilities) == 3
        ours, theirs = one.orders
        assert theirs == 1 - one.second.value
        assert one.value == (ours if ours == theirs else 0.5)
    assert seen.cell.judge is not None
    assert seen.cell.judge.against == "zeroshot"
    _, cached = all_of(plan_of(pairs, k="1", seeds="0"))
    assert all(cached)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"judge": None}, "--metrics=judge: needs --judge=NAME, the model that judges answers"),
        ({"rubric": "helpful,translation"}, "helpful and translation are both of one answer; name"),
        ({"metrics": "win_rate"}, "compares answers of two strategies under one model"),
        ({"rubric": "transltion"}, "no such rubric (did you mean 'translation'"),
    ],
)
def test_what_cannot_be_judged_is_one_line(flags: Flags, more: Flags, line: str) -> None:
    with pytest.raises(OptionError) as caught:
        plan_of(flags, **more)
    assert line in str(caught.value)


def test_a_report_says_how_the_judge_did_and_is_sure_of_nothing(flags: Flags) -> None:
    """A model with random weights puts no reference first."""
    plan = plan_of(flags, strategy="zeroshot,fewshot", k="1", seeds="0", metrics="judge,chrf")
    session = Session(plan)
    session.start()
    for case in plan.cases:
        session.measure(case, lambda: 0)
        session.saw(case.id, "computed", None)
    session.finish()
    session.close()
    report = session.report
    assert report is not None
    (judge,) = report.judges
    assert (judge.name, judge.rubric, judge.rows) == ("judge", "translation", 5)
    assert not judge.exam.trusted
    said = report.sections[0].conclusions
    assert said
    assert not any(" sure" in one and "not sure" not in one for one in said)
    for name in ("report.md", "report.html"):
        text = (plan.options.results_dir / name).read_text("utf-8")
        assert "Nothing it says is called sure" in text
    # It can all be made again from what is stored.
    manifest, measured = read_run(plan.options.results_dir)
    again = build(manifest, measured, plan.metrics)
    assert again.judges == report.judges
    assert again.sections[0].groups == report.sections[0].groups
    write_manifest(plan.options.results_dir, manifest)
    assert read_run(plan.options.results_dir)[0].exams == manifest.exams


def test_a_damaged_examination_is_done_again(flags: Flags, calls: list[str]) -> None:
    all_of(plan_of(flags))
    (path,) = (Path(flags["results_dir"]) / "exams").glob("*.json")
    body = json.loads(path.read_text("utf-8"))
    body["scores"]["reference"][0] = 5.0
    path.write_text(json.dumps(body), "utf-8")
    bench = Bench(plan_of(flags))
    case = bench.plan.cases[1]
    assert case.judging is not None
    assert bench.examining.known(case, case.judging) is None
    calls.clear()
    assert bench.examining.examine(case, case.judging, lambda *said: None) is not None
    assert calls == ["judge"]  # the repetition alone: what was said before stands in the log
