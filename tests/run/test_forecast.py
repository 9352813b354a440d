"""A forecast counts what is computed; its words do not pretend to know more than it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config.options import parse_options
from harness.conformance.tiny_models import FAMILIES, Family, make
from harness.core import DecodingSpec
from harness.models.pool import ModelPool
from harness.run import forecast_lines, outlook
from harness.run.bench import Bench
from harness.run.capability import measure
from harness.run.counting import Counter
from harness.run.forecast import Counts, Job, Machine, Prices, Way, forecast, spread
from harness.run.plan import make_plan
from harness.run.shape import Shape, Usual, read_shape
from harness.scoring import fast, sharing
from harness.session import Session
from harness.training import lanes
from tests.builders.commands import SWEEP, Run
from tests.builders.tasks import Files

WAY = Way("read", "digest", "none", "float32", "cpu")


@pytest.fixture
def flags(files: Files, tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "model": str(tiny_model),
        "data": str(files.test),
        "train_data": str(files.train),
        "results_dir": str(tmp_path / "results"),
        "strategy": "zeroshot,fewshot",
        "k": "1,2",
        "seeds": "0,1",
    }


def bench_of(flags: dict[str, Any], **more: Any) -> Bench:
    return Bench(make_plan(parse_options({**flags, **more})))


def nothing(*_: object) -> bool:
    return False


# -------------------------------------------------------------------------------------- counts


@contextmanager
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """What really goes through every model that is loaded: by hooks on it and on its head."""
    found = {"calls": 0, "tokens": 0, "scored": 0}
    get = ModelPool.get

    def watched(self: ModelPool, *arguments: Any) -> Any:
        loaded = get(self, *arguments)
        if not hasattr(loaded, "seen_by_test"):
            loaded.seen_by_test = True  # type: ignore[attr-defined]
            loaded.model.register_forward_pre_hook(through, with_kwargs=True)
            loaded.model.get_output_embeddings().register_forward_hook(scored)
        return loaded

    def through(module: Any, arguments: Any, named: dict[str, Any]) -> None:
        found["calls"] += 1
        found["tokens"] += named["input_ids"].numel()

    def scored(module: Any, arguments: Any, output: torch.Tensor) -> None:
        found["scored"] += output.shape[:-1].numel()

    with monkeypatch.context() as patched:
        patched.setattr(ModelPool, "get", watched)
        yield found


def counted(bench: Bench, kind: str | None = None) -> Counts:
    jobs = [job for _, job in Counter(bench).jobs(bench.plan.cases, nothing)]
    works = [work for job in jobs for work in job.work]
    return sum((counts for way, counts in works if kind in (None, way.kind)), Counts())


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"prompt": "chat"},
        {"scorer": "reference"},
        {"strategy": "fewshot", "k": "2", "draw": "row", "seeds": "0"},
    ],
    ids=lambda more: "-".join(more) or "plain",
)
def test_scoring_computes_what_was_counted(
    flags: dict[str, Any], more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # With several cores a batch of every model is computed again, to compare; the forecast leaves
    # that out.
    for module in (fast, sharing):
        monkeypatch.setattr(module, "at_a_time", lambda *_: 1)
    before = counted(bench_of(flags, **more))
    bench = bench_of(flags, **more)
    with seen(monkeypatch) as found:
        for case in bench.plan.cases:
            bench.measure(case)
    # Prefixes go through the head at one position; of a row that is checked, too.
    assert before.tokens == pytest.approx(found["tokens"], rel=0.02)
    assert before.calls == pytest.approx(found["calls"], abs=1)
    assert before.scored == pytest.approx(found["scored"], rel=0.05)


def test_a_strategy_that_draws_rows_alike_computes_equal_cells_once(flags: dict[str, Any]) -> None:
    more = {"strategy": "fewshot", "k": "1", "select": "random,bidirectional"}
    bench = bench_of(flags, **more)
    jobs = dict(Counter(bench).jobs(bench.plan.cases, nothing))
    assert len(bench.plan.cases) == 4
    assert len(jobs) == len({bench.cell(case).key for case in bench.plan.cases}) == 2


def test_training_computes_what_was_counted(
    flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {
        "strategy": "qlora",
        "seeds": "0",
        "quant": "none",
        "set": ["qlora.max_steps=5", "qlora.r=4", "qlora.eval_steps=2"],
    }
    tokens = labels = 0
    plain = lanes.mean_loss

    def watched(model: Any, ids: torch.Tensor, wanted: torch.Tensor, count: int) -> torch.Tensor:
        nonlocal tokens, labels
        tokens += ids.numel()
        labels += int((wanted != -100).sum())
        return plain(model, ids, wanted, count)

    monkeypatch.setattr(lanes, "mean_loss", watched)
    before, read = (counted(bench_of(flags, **more), kind) for kind in ("train", "read"))
    bench = bench_of(flags, **more)
    bench.measure(bench.plan.cases[0])
    assert before == Counts(before.calls, tokens, before.pairs, labels)
    assert before.calls == 10  # two batches a step
    # Evaluated before the first step, after the second, the fourth and the last, and scored at
    # the end, with a sentinel before and after.
    rows = bench.rows(bench.plan.cases[0])
    assert read.scored == 5 * sum(len(row.answer) for row in rows) + 2 * len(rows[0].answer)


def test_a_trained_adapter_is_not_counted_again(flags: dict[str, Any]) -> None:
    more = {"strategy": "qlora", "seeds": "0", "quant": "none", "set": ["qlora.max_steps=1"]}
    bench = bench_of(flags, **more)
    bench.measure(bench.plan.cases[0])
    assert [job.training for _, job in Counter(bench_of(flags, **more)).jobs(
        bench.plan.cases, nothing
    )] == [False]  # fmt: skip


def test_answers_are_counted_up_to_their_limit(
    flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # No answer ends before its limit, so that the limit is what is written.
    settings = "max_new_tokens=6,min_new_tokens=6"
    more = {"strategy": "zeroshot", "metrics": "chrf", "decode": f"greedy:{settings}"}
    written = counted(bench_of(flags, **more), "write")
    assert written.tokens == 5 * 6
    bench = bench_of(flags, **more)
    answers = bench.measure(bench.plan.cases[0]).measurement.answers
    assert sum(len(answer.tokens) for answer in answers) == 5 * 6
    (job,) = [job for _, job in Counter(bench).jobs(bench.plan.cases, nothing)]
    assert job.bounded


# --------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("config", "changes", "active"),
    [
        ("LlamaConfig", {}, 1.0),
        ("LlamaConfig", {"tie_word_embeddings": False}, 1.0),
        ("GPT2Config", {}, 1.0),
        ("Qwen2Config", {}, 1.0),
    ],
)
def test_a_shape_has_the_weights_of_the_model(
    config: str, changes: dict[str, Any], active: float, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    folder = make(Family(config, changes), tmp_path / "model")
    shape = read_shape("--model=tiny", folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    head = model.get_output_embeddings()
    linear = [
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    ]
    # Learned positions are a table like a layer's weights; GPT-2 has them.
    positions = model.transformer.wpe.weight.numel() if config == "GPT2Config" else 0
    assert shape.linear == sum(linear) + positions
    tied = head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert shape.embedded == head.weight.numel() * (1 if tied else 2)
    every = sum(weight.numel() for weight in model.parameters())
    assert shape.weights("none", "float32") == pytest.approx(4 * every, rel=0.02)


def test_experts_that_a_token_does_not_see_are_stored_but_not_computed(tmp_path: Path) -> None:
    family = Family("MixtralConfig", {"num_local_experts": 4, "num_experts_per_tok": 1})
    shape = read_shape("--model=tiny", make(family, tmp_path / "model"))
    config = Family("MixtralConfig", {"num_local_experts": 4, "num_experts_per_tok": 4})
    whole = read_shape("--model=tiny", make(config, tmp_path / "whole"))
    assert shape.stored == whole.stored == whole.linear
    assert shape.linear < 0.6 * whole.linear


def test_a_shape_without_weights_comes_from_the_configuration(
    tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    with_files, without = read_shape("x", tiny_model), read_shape("x", tmp_path)
    assert without.linear == with_files.linear
    assert without.embedded == with_files.embedded


# ----------------------------------------------------------------------------------- arithmetic


def test_seconds_are_counts_times_prices() -> None:
    prices = Prices(call=2.0, token=0.5, pair=0.25, position=3.0, byte=0.125)
    # 2 · 2 + 10 · 0.5 + 8 · 0.25 + 3 · 3 + 16 · 0.125
    assert prices.seconds(Counts(2, 10, 8, 3, 16)) == 4 + 5 + 2 + 9 + 2


def test_loads_and_every_way_of_a_job_are_added_up() -> None:
    train = Way("train", "digest", "nf4", "float32", "cpu", rank=16)
    machine = Machine(
        {WAY: Prices(1.0, 0, 0, 0), train: Prices(10.0, 0, 0, 0, saved=100.0)},
        {WAY: 7.0},
        before=1000.0,
    )
    job = Job("a", 0, ((WAY, Counts(3)), (train, Counts(2))), ((WAY, 2),), memory=50.0, kept=4.0)
    assert machine.seconds(job) == 3 + 20 + 2 * 7
    assert machine.memory(job) == 1000 + 50 + 4 * 100


def test_memory_holds_a_batch_of_every_core_and_of_two_threads_more() -> None:
    """Those are for a machine with other work; a process with one core has none."""
    machine = Machine({WAY: Prices(1.0, 0, 0, 0)}, before=1000.0, threads=4)
    many = Job("a", 0, ((WAY, Counts(3)),), memory=50.0, each=10.0, batches=9)
    few = Job("a", 0, ((WAY, Counts(3)),), memory=50.0, each=10.0, batches=2)
    assert (machine.memory(many), machine.memory(few)) == (1000 + 50 + 6 * 10, 1000 + 50 + 2 * 10)
    assert replace(machine, threads=1).memory(many) == 1000 + 50 + 10


def test_jobs_at_a_time_take_no_less_than_the_longest() -> None:
    assert spread([4.0, 4.0, 4.0], 2) == 6.0
    assert spread([10.0, 1.0, 1.0], 4) == 10.0
    assert spread([], 3) == 0.0


# ---------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3.0, "under 10 s"),
        (42.0, "about 40 s"),
        (94.0, "about 90 s"),
        (96.0, "about 2 min"),
        (7.2 * 60, "about 7 min"),
        (22.0 * 60, "about 20 min"),
        (59.0 * 60, "about 1 h"),
        (2.6 * 3600, "about 2.5 h"),
        (30 * 3600, "about 30 h"),
        (73 * 3600, "about 3 days"),
    ],
)
def test_times_are_coarse(seconds: float, words: str) -> None:
    assert forecast_lines.about(seconds) == words


def _of_seconds(*jobs: tuple[str, int | None, int, float, bool]) -> Any:
    """A forecast of (label, seed, k, seconds, training)."""
    made = [
        Job(name, seed, ((WAY, Counts(seconds)),), k=k, training=training)
        for name, seed, k, seconds, training in jobs
    ]
    asked = [(job.name, True) for job in made if not job.training]
    return forecast(asked, made, Machine({WAY: Prices(1.0, 0, 0, 0)}))


def test_hints_say_what_is_saved_and_what_it_costs() -> None:
    found = _of_seconds(
        ("zeroshot", None, 0, 60.0, False),
        ("fewshot-random-k01", 0, 1, 120.0, False),
        ("fewshot-random-k01", 1, 1, 120.0, False),
        ("fewshot-random-k05", 0, 5, 240.0, False),
        ("fewshot-random-k05", 1, 5, 240.0, False),
        ("qlora", 0, 0, 600.0, True),
        ("qlora", 1, 0, 600.0, True),
    )
    text = "\n".join(forecast_lines.lines(found))
    assert "About 35 min for 5 cells." in text  # 1,980 s
    assert "--seeds=0: about 15 min; no ± over seeds" in text  # 60 + 120 + 240 + 600
    assert "--limit with half of the rows: about 25 min" in text  # 390 + 1,200
    assert "--k=1: about 25 min" in text  # 1,500
    assert "half of the training steps (qlora.max_steps): about 25 min" in text  # 780 + 600
    assert "4 machines like this one: about 10 min" in text  # the longest job


def test_a_short_run_gets_no_hints() -> None:
    found = _of_seconds(
        ("zeroshot", None, 0, 10.0, False), ("fewshot-random-k01", 0, 1, 20.0, False)
    )
    assert "Shorter" not in "\n".join(forecast_lines.lines(found))


# ------------------------------------------------------------------------------ the measurement


@pytest.mark.parametrize("config", ["LlamaConfig", "GPT2Config", "Gemma2Config", "MixtralConfig"])
def test_layers_of_a_family_can_be_timed(config: str, tmp_path: Path) -> None:
    folder = make(Family(config, {}), tmp_path / "model")
    shape = read_shape("--model=tiny", folder)
    usual = Usual(folder, shape, 64.0, 16.0, 32.0)
    ways = [WAY, Way("write", "digest", "none", "float32", "cpu", decoding=DecodingSpec())]
    machine = measure(dict.fromkeys(ways, usual), seconds=0.05)
    assert not machine.rough
    for way in ways:
        prices = machine.prices[way]
        assert min(prices.call, prices.token, prices.pair, prices.position) >= 0
        assert prices.seconds(Counts(1, 64, 64 * 40, 8)) > 0


def test_training_on_four_bits_can_be_timed(tiny_model: Path) -> None:
    pytest.importorskip("bitsandbytes")
    usual = Usual(tiny_model, read_shape("x", tiny_model), 64.0, 16.0, 0.0)
    way = Way("train", "digest", "nf4", "float32", "cpu", rank=4)
    machine = measure({way: usual}, seconds=0.05)
    assert not machine.rough
    assert machine.prices[way].saved > 0
    assert machine.loading[way] > 0  # quantizing


def test_where_no_layer_can_be_made_its_products_are_timed(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.run import capability

    def refuse(*_: object) -> None:
        raise RuntimeError("this family cannot be made that small")

    monkeypatch.setattr(capability, "make", refuse)
    usual = Usual(tiny_model, read_shape("x", tiny_model), 64.0, 16.0, 0.0)
    machine = measure({WAY: usual}, seconds=0.05)
    assert machine.rough
    job = Job("zeroshot", None, ((WAY, Counts(1, 64, 512, 8)),))
    text = "\n".join(forecast_lines.lines(forecast([("zeroshot", True)], [job], machine)))
    assert "that of its matrix products alone" in text


# --------------------------------------------------------------------------------- on the surface


def test_experts_with_an_update_are_timed_one_batch_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.scoring import queue

    folder = tmp_path / "experts"
    make(FAMILIES["qwen3-moe"], folder)
    usual = Usual(folder, read_shape("x", folder), 64.0, 16.0, 0.0)
    together: list[int] = []

    @contextmanager
    def noted(workers: int, work: Any) -> Iterator[None]:
        together.append(workers)
        work()
        yield

    monkeypatch.setattr(queue, "on_each_core", noted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert not measure({replace(WAY, rank=4): usual}, seconds=0.05).rough
    assert together == []
    measure({WAY: usual}, seconds=0.05)
    assert set(together) == {2}


def test_a_dry_run_computes_and_writes_nothing(suites: Run, tmp_path: Path) -> None:
    done = suites(*SWEEP, "--dry-run")
    assert done.status == 0, done.out + done.err
    assert [
        line.split()[:4] for line in done.lines if line.startswith(("zeroshot", "fewshot"))
    ] == [
        ["zeroshot", "1", "0", "1"],
        ["fewshot-random-k01", "2", "0", "2"],
        ["fewshot-random-k02", "2", "0", "2"],
    ]
    assert "so little that this machine was not measured" in done.out
    assert "Nothing was computed." in done.out
    assert not (tmp_path / "results").exists()


def test_a_dry_run_says_what_is_stored(suites: Run, tmp_path: Path) -> None:
    assert suites("--strategy=zeroshot").status == 0
    before = sorted(path for path in (tmp_path / "results").rglob("*"))
    part = suites(*SWEEP, "--dry-run")
    assert ["zeroshot", "1", "1", "0", "–"] in [line.split() for line in part.lines]
    whole = suites("--strategy=zeroshot", "--dry-run")
    assert "Nothing is left to compute: 1 cell, 1 stored." in whole.out
    fresh = suites("--strategy=zeroshot", "--dry-run", "--fresh")
    assert ["zeroshot", "1", "0", "1", "–"] in [line.split() for line in fresh.lines]
    assert sorted(path for path in (tmp_path / "results").rglob("*")) == before


def test_dry_runs_of_cells_and_of_judges_stand_beside_each_other(
    suites: Run, tiny_model: Path, tmp_path: Path
) -> None:
    judged = ("--strategy=zeroshot", "--metrics=judge", f"--judge={tiny_model}")
    done = suites(*judged, "--dry-run", "--judge-dry-run")
    assert done.status == 0, done.out + done.err
    assert "what this run would take" in done.out
    assert "what judging would take" in done.out
    # Its answers, and what a judge says of them.
    assert ["zeroshot", "2", "0", "2", "–"] in [line.split() for line in done.lines]
    assert not (tmp_path / "results").exists()


def test_a_dry_run_is_of_the_selected_cells(suites: Run) -> None:
    done = suites(*SWEEP, "--dry-run", "-k", "k02")
    assert done.status == 0
    names = [line.split()[0] for line in done.lines if line.startswith(("zeroshot", "fewshot"))]
    assert names == ["fewshot-random-k02"]


def test_a_dry_run_starts_no_workers(suites: Run, tmp_path: Path) -> None:
    done = suites(*SWEEP, "--dry-run", "-n", "2")
    assert done.status == 0, done.out + done.err
    assert "fewshot-random-k02" in done.out
    assert "workers" not in done.out
    assert not (tmp_path / "results").exists()


def test_a_baseline_is_not_compared_with_what_was_not_measured(suites: Run, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    done = suites("--strategy=zeroshot", "--dry-run", f"--baseline={baseline}", "--update-baseline")
    assert done.status == 0, done.out + done.err
    assert not baseline.exists()


def test_a_script_is_told_that_it_measures(flags: dict[str, Any], tmp_path: Path) -> None:
    from adaptbench import OptionError, compare

    with pytest.raises(
        OptionError, match=r"compare\(dry_run=…\): measures; adaptbench run --dry-run"
    ):
        compare(**flags, dry_run=True)
    assert not (tmp_path / "results").exists()


def test_a_model_that_cannot_be_had_is_one_line(suites: Run, tmp_path: Path) -> None:
    done = suites("--strategy=zeroshot", "--dry-run", "--model=nobody/nothing-at-all")
    assert done.status == 4
    (line,) = [line for line in done.err.splitlines() if line.strip()]
    assert "--model=nobody/nothing-at-all" in line


def test_a_small_run_is_not_measured(
    flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the machine was measured")

    monkeypatch.setattr(outlook, "measure", refuse)
    session = Session(make_plan(parse_options(flags)))
    assert session.estimate(session.plan.cases) == ""
    assert session.foretold(session.plan.cases)


def test_a_long_run_has_its_estimate_in_the_header(
    flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "SMALL", 0.0)
    session = Session(make_plan(parse_options(flags)))
    line = session.estimate(session.plan.cases)
    assert line.startswith("under 10 s for 5 cells, 0 stored, about ")
    assert line.endswith(" GiB of memory")


def test_what_is_left_is_told_by_what_each_cell_takes(
    flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "SMALL", 0.0)
    more = {"strategy": "zeroshot,fewshot", "k": "1", "select": "random,bidirectional"}
    session = Session(make_plan(parse_options({**flags, **more, "seeds": "0"})))
    bench, cases = session.bench, session.plan.cases
    bench.measure(cases[0])
    assert session.estimate(cases)
    session.start(cases)
    zero, first, second = (session.remaining.work[case.id] for case in cases)
    # Zero-shot is stored; both selections draw the same row, so that one cell is computed.
    assert zero == second == 0
    assert first > 0


def test_slots_share_the_time_and_the_cores(
    flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def measured(usual: Any, clock: Any) -> Machine:
        threads.append(torch.get_num_threads())
        return Machine(dict.fromkeys(usual, Prices(60.0, 0, 0, 0)))

    monkeypatch.setattr(outlook, "measure", measured)
    before = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: max(4, before))
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    bench = bench_of(flags, engine="ray", slots="2")
    found = outlook.outlook(bench, bench.plan.cases, least=0.0)
    assert found.slots == 2
    assert found.total == pytest.approx(sum(found.seconds) / 2)
    assert chosen == [max(4, before) // 2, max(4, before)]
    assert "2 jobs at a time" in "\n".join(forecast_lines.lines(found))


def test_a_shape_says_what_a_token_takes() -> None:
    shape = Shape(2, 8, 8, 4, 100, 1000.0, 1000.0, 800.0)
    assert (shape.token, shape.pair, shape.head) == (2000.0, 4 * 2 * 8, 2 * 8 * 100)
    assert shape.kept("float32") == 2 * 2 * 4 * 4
    assert shape.weights("none", "float32") == 4 * 1800
    # 4 bits and an 8-bit scale for 64 weights, themselves scaled: 0.5 + 1.016 / 64 bytes each.
    assert shape.weights("nf4", "float32") == pytest.approx(4 * 800 + 1000 * 0.516, rel=0.001)
