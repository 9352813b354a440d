"""Strategies are pure functions of (pool, seed): nested, stable, and without torch."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from harness.config.options import Options, parse_options
from harness.core import Adaptation, Example
from harness.errors import OptionError, StrategyError
from harness.plugins import find_strategies, select_strategies
from harness.run.adaptations import adapt
from harness.run.plan import make_plan, row_seed
from strategies.fewshot import FewShot
from strategies.qlora import QLoRA
from strategies.zeroshot import ZeroShot
from tests.builders import ROOT
from tests.builders.tasks import Files

POOL = [
    Example(f"p{i:02d}", f"問{i}", f"答{i}", (("direction", "ab"[i % 3 == 0]),)) for i in range(30)
]


def ids(select: str, k: int, seed: int, pool: list[Example] = POOL) -> list[str]:
    return [example.id for example in FewShot(k, select).adapt(pool, seed).demonstrations]


@pytest.mark.parametrize("select", ["random", "bidirectional"])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_draws_are_nested(select: str, seed: int) -> None:
    five = ids(select, 5, seed)
    assert len(set(five)) == 5
    for k in (1, 2, 3, 4):
        assert ids(select, k, seed) == five[:k]


@pytest.mark.parametrize("select", ["random", "bidirectional"])
def test_file_order_plays_no_part(select: str) -> None:
    shuffled = random.Random(3).sample(POOL, len(POOL))
    assert ids(select, 5, 1, shuffled) == ids(select, 5, 1)


def test_other_rows_in_the_pool_leave_the_order_of_the_rest() -> None:
    drawn = ids("random", 6, 2)
    without = [example for example in POOL if example.id != drawn[1]]
    assert ids("random", 5, 2, without) == [drawn[0], *drawn[2:]]


def test_seeds_differ_and_repeat() -> None:
    draws = {tuple(ids("random", 5, seed)) for seed in range(10)}
    assert len(draws) == 10
    assert ids("random", 5, 4) == ids("random", 5, 4)


def test_every_row_is_drawn_equally_often() -> None:
    # 3,000 draws of 1 from 30: expected 100 each; 5 standard deviations of the binomial is 49.
    counts = dict.fromkeys([example.id for example in POOL], 0)
    for seed in range(3000):
        counts[ids("random", 1, seed)[0]] += 1
    assert all(abs(count - 100) < 49 for count in counts.values())


def test_bidirectional_takes_turns() -> None:
    by_id = {example.id: example.tag("direction") for example in POOL}
    leads = set()
    for seed in range(12):
        directions = [by_id[name] for name in ids("bidirectional", 5, seed)]
        assert all(a != b for a, b in zip(directions, directions[1:], strict=False))
        leads.add(directions[0])
    assert leads == {"a", "b"}


def test_fixed_shows_the_named_rows_in_order() -> None:
    named = FewShot(2, "fixed", demo_ids=("p09", "p02", "p05"))
    assert [e.id for e in named.adapt(POOL, 0).demonstrations] == ["p09", "p02"]
    assert not named.stochastic


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        (FewShot(31), "--k=31: the training pool has only 30 rows"),
        (FewShot(3, "fixed", demo_ids=("p01",)), "--demo-ids names only 1 rows"),
        (FewShot(1, "fixed", demo_ids=("nope",)), "no row 'nope' in the training pool"),
    ],
)
def test_unusable_settings(strategy: FewShot, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        strategy.adapt(POOL, 0)


def test_bidirectional_needs_two_directions() -> None:
    one_way = [example for example in POOL if example.tag("direction") == "a"]
    with pytest.raises(OptionError, match="needs training rows in two directions"):
        FewShot(1, "bidirectional").adapt(one_way, 0)
    few = [*one_way, POOL[0]]
    with pytest.raises(OptionError, match="needs 2 rows of each direction"):
        FewShot(3, "bidirectional").adapt(few, 0)


def test_labels_sort_and_say_what_they_are() -> None:
    assert FewShot(3).label == "fewshot-random-k03"
    assert FewShot(10, "bidirectional", "row").label == "fewshot-bidirectional-row-k10"
    assert ZeroShot().label == "zeroshot"
    assert not ZeroShot().stochastic
    assert QLoRA().stochastic


def test_variants_are_the_product_of_the_flags() -> None:
    options = parse_options(
        {"k": "1,3", "select": "random,fixed", "draw": "run,row", "demo_ids": "a,b,c"}
    )
    assert [variant.label for variant in FewShot.variants(options)] == [
        "fewshot-random-k01",
        "fewshot-random-k03",
        "fewshot-random-row-k01",
        "fewshot-random-row-k03",
        "fewshot-fixed-k01",
        "fewshot-fixed-k03",
    ]
    alone = parse_options({"select": "fixed", "demo_ids": "a,b,c"})
    assert [variant.label for variant in FewShot.variants(alone)] == ["fewshot-fixed-k03"]


def test_qlora_trains_on_the_pool_with_the_seed() -> None:
    training = QLoRA().adapt(POOL, 5).training
    assert training is not None
    assert training.examples == tuple(POOL)
    assert training.settings.seed == 5
    assert training.settings.quantization == "nf4"


def test_strategies_import_no_torch() -> None:
    code = (
        "import sys, harness.plugins as r; found = r.find_strategies();"
        "assert {'zeroshot', 'fewshot', 'qlora'} <= set(found);"
        "bad = {'torch', 'transformers', 'peft', 'bitsandbytes', 'pytest'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_unknown_strategy_lists_the_known() -> None:
    with pytest.raises(StrategyError, match=r"did you mean 'fewshot'\?\); known: fewshot, qlora"):
        select_strategies(("fewshots",))
    assert set(find_strategies()) >= {"zeroshot", "fewshot", "qlora"}


def test_what_a_strategy_returns_is_checked() -> None:
    class Foreign(ZeroShot):
        def adapt(self, pool: object, seed: int) -> object:  # type: ignore[override]
            return FewShot(1).adapt([Example("alien", "x", "y")], 0)

    with pytest.raises(
        StrategyError, match=r"returned row 'alien', which is not from the training pool"
    ):
        adapt(Foreign(), POOL, 0)

    class Wrong(ZeroShot):
        def adapt(self, pool: object, seed: int) -> object:  # type: ignore[override]
            return "no"

    with pytest.raises(StrategyError, match=r"returned str, expected harness\.core\.Adaptation"):
        adapt(Wrong(), POOL, 0)

    class Raising(ZeroShot):
        def adapt(self, pool: object, seed: int) -> object:  # type: ignore[override]
            raise ZeroDivisionError("oops")

    with pytest.raises(StrategyError, match=r"adapt\(\) raised ZeroDivisionError: oops"):
        adapt(Raising(), POOL, 0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"adapt": lambda self, pool, seed: Adaptation(None)}, "returned None, expected a tuple"),
        ({"adapt": lambda self, pool, seed: Adaptation(("p01",))}, "expected a tuple of Examples"),
        ({"label": "has space"}, "label 'has space' must be ASCII"),
        ({"label": None}, "label None must be ASCII"),
        ({"draw": "cell"}, "draw 'cell' must be 'run' or 'row'"),
        ({"variants": classmethod(lambda cls, options: 1 // 0)}, r"variants\(\) raised ZeroDiv"),
        ({"variants": classmethod(lambda cls, options: [])}, "has no variant for these flags"),
    ],
)
def test_a_third_partys_mistakes_are_one_line(
    files: Files, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object],
    says: str,
) -> None:  # fmt: skip
    theirs = type("Theirs", (ZeroShot,), {"name": "theirs", **changes})
    monkeypatch.setattr("harness.run.plan.select_strategies", lambda names: [theirs])
    with pytest.raises(StrategyError, match=says):
        make_plan(Options(model=(str(tiny_model),), data=files.test, train_data=files.train))


def test_draw_row_gives_each_row_its_own_seeded_demonstrations(
    files: Files, tiny_model: Path
) -> None:
    options = Options(
        strategy=("fewshot",),
        k=(2,),
        draw=("row",),
        seeds=(3,),
        model=(str(tiny_model),),
        data=files.test,
        train_data=files.train,
    )
    plan = make_plan(options)
    (case,) = plan.cases
    shown = plan.demonstrations(case)
    assert len({tuple(e.id for e in demos) for demos in shown}) > 1
    again = [
        FewShot(2).adapt(plan.task.pool, row_seed(3, example.id)).demonstrations
        for example in plan.task.examples
    ]
    assert shown == again
    # Fewer rows, the same draws.
    cut = make_plan(Options(**{**vars(options), "limit": 2}))
    assert cut.demonstrations(cut.cases[0]) == shown[:2]
