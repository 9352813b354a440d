"""Variants and their labels, the control, and a strategy with a setting from recipe to cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.config.options import Options, parse_options
from harness.core import Adaptation, Example, Strategy
from harness.errors import OptionError, StrategyError
from harness.run.bench import Bench
from harness.run.plan import Plan, make_plan
from harness.run.variants import variants_of
from strategies.fewshot import FewShot
from strategies.qlora import QLoRA
from tests.builders.tasks import Files

SHORTEST = """
from dataclasses import dataclass
from harness.core import Adaptation, Strategy

@dataclass(frozen=True)
class Shortest(Strategy):
    n: int = 2
    name = "shortest"
    def adapt(self, pool, seed):
        rows = sorted(pool, key=lambda row: (len(row.output), row.id))
        return Adaptation(tuple(rows[: self.n]))
"""


@dataclass(frozen=True)
class Inner:
    top: int = 1
    by: str = "length"


@dataclass(frozen=True)
class Own(Strategy):
    n: int = 2
    rate: float = 0.5
    names: tuple[str, ...] = ()
    on: bool = False
    most: int | None = None
    inner: Inner | None = None
    word: str = "a"

    name = "own"

    def adapt(self, pool: object, seed: int) -> Adaptation:
        return Adaptation()


def labels(strategy: type[Strategy], **settings: tuple[Any, ...]) -> list[str]:
    flat = {key.replace("__", "."): values for key, values in settings.items()}
    options = Options(strategies={strategy.name: flat})
    return [one.label for one in variants_of(strategy, options)]


def test_one_variant_is_called_as_the_strategy_is() -> None:
    assert labels(Own) == ["own"]
    assert labels(Own, n=(7,)) == ["own"]
    assert labels(QLoRA, r=(64,)) == ["qlora"]


def test_several_are_told_apart_by_what_differs() -> None:
    assert labels(Own, n=(2, 4), on=(True,)) == ["own-n02", "own-n04"]
    assert labels(Own, n=(2, 14), on=(False, True)) == [
        "own-n02-onfalse",
        "own-n02-ontrue",
        "own-n14-onfalse",
        "own-n14-ontrue",
    ]
    assert labels(Own, rate=(0.5, 1e-5)) == ["own-rate0.5", "own-rate1e-05"]
    assert labels(Own, most=(None, 3)) == ["own-mostnone", "own-most03"]
    assert labels(Own, names=(("a", "b"), ("c",))) == ["own-namesa+b", "own-namesc"]
    assert labels(Own, inner__top=(1, 20)) == ["own-inner.top01", "own-inner.top20"]
    assert labels(QLoRA, learning_rate=(1e-4, 2e-4)) == [
        "qlora-learning_rate0.0001",
        "qlora-learning_rate0.0002",
    ]
    chinese, latin = labels(Own, word=("文", "b"))
    assert chinese.isascii()
    assert latin == "own-wordb"


def test_labels_of_the_strategys_own_stay() -> None:
    options = parse_options({"k": "1,3"})
    assert [one.label for one in variants_of(FewShot, options)] == [
        "fewshot-random-k01",
        "fewshot-random-k03",
    ]


def test_titles() -> None:
    (plain,) = variants_of(Own, Options())
    assert plain.title == "own"
    several = variants_of(Own, Options(strategies={"own": {"n": (2, 4)}}))
    assert [one.title for one in several] == ["own-n02", "own-n04"]
    odd = type("Odd", (Own,), {"title": 3})
    with pytest.raises(StrategyError, match="title 3 must be a text"):
        variants_of(odd, Options())


def plan(files: Files, tiny: Path, **flags: Any) -> Plan:
    given = {"model": str(tiny), "data": str(files.test), "train_data": str(files.train)}
    return make_plan(parse_options(given | flags))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "shortest.py").write_text(SHORTEST)
    return tmp_path


def test_a_strategy_with_a_setting_from_a_recipe_to_its_cells(
    folder: Path, files: Files, tiny_model: Path
) -> None:
    (folder / "recipes").mkdir()
    (folder / "recipes" / "mine.toml").write_text(
        "strategy = ['zeroshot', 'shortest']\n[shortest]\nn = [2, 4]\n"
    )
    made = plan(files, tiny_model, recipe="mine", limit="2", results_dir=str(folder / "results"))
    assert [case.id for case in made.cases] == [
        "tiny-llama-plain-zeroshot",
        "tiny-llama-plain-shortest-n02",
        "tiny-llama-plain-shortest-n04",
    ]
    bench = Bench(made)
    measured = [bench.measure(case).measurement for case in made.cases]
    bench.close()
    assert [(one.cell.label, one.cell.strategy, one.cell.k) for one in measured] == [
        ("zeroshot", "zeroshot", 0),
        ("shortest-n02", "shortest", 2),
        ("shortest-n04", "shortest", 4),
    ]
    assert len({one.observations[0].nll for one in measured}) == 3


def test_a_model_has_variants_of_its_own(folder: Path, files: Files, tiny_model: Path) -> None:
    setting = f'for."{tiny_model}".shortest.n=[1, 3]'
    made = plan(files, tiny_model, strategy="shortest", set=["shortest.n=2", setting])
    assert [case.label for case in made.cases] == ["shortest-n01", "shortest-n03"]
    assert [len(case.adaptation.demonstrations) for case in made.cases] == [1, 3]


def test_the_control_is_chosen(folder: Path, files: Files, tiny_model: Path) -> None:
    flags: dict[str, Any] = {"strategy": "zeroshot,fewshot,shortest", "k": "1", "seeds": "0"}
    assert plan(files, tiny_model, **flags).control == ("zeroshot", "zero-shot")
    named = plan(files, tiny_model, **flags, control="fewshot-random-k01")
    assert named.control == ("fewshot-random-k01", "fewshot-random-k01")
    several = plan(files, tiny_model, **flags, control="shortest-n04", set=["shortest.n=[2,4]"])
    assert several.control == ("shortest-n04", "shortest-n04")
    merged = plan(
        files, tiny_model, strategy="qlora", seeds="0", quant="none", score_as="merged",
        control="qlora-merged",
    )  # fmt: skip
    assert merged.control == ("qlora-merged", "qlora-merged")


def test_a_control_that_is_not_there(folder: Path, files: Files, tiny_model: Path) -> None:
    fine = plan(files, tiny_model, strategy="shortest")
    assert fine.control == ("zeroshot", "zero-shot")  # the default, which nobody asked for
    with pytest.raises(OptionError) as caught:
        plan(files, tiny_model, strategy="fewshot", k="1,3", seeds="0", control="fewshot-random-k1")
    assert str(caught.value) == (
        "--control=fewshot-random-k1: nothing in this run is called so (did you mean "
        "'fewshot-random-k01'?); known: fewshot-random-k01, fewshot-random-k03"
    )


def test_a_task_by_name(folder: Path, tiny_model: Path) -> None:
    (folder / "tasks").mkdir()
    (folder / "tasks" / "sums.py").write_text(
        "from harness.core import Example, TaskSource\n"
        "class Sums(TaskSource):\n"
        "    name = 'sums'\n"
        "    def test(self): return [Example(f't{i}', f'{i} + {i} =', str(2 * i)) for i in range(9)]\n"
        "    def train(self):\n"
        "        return [Example(f'x{i}', f'what is {i} times {i}, then?', str(i * i)) for i in range(20, 30)]\n"
    )
    flags = {"model": str(tiny_model), "task": "sums", "strategy": "shortest", "limit": "3"}
    made = make_plan(parse_options(flags))
    assert (made.task.name, len(made.task.examples), len(made.task.pool)) == ("sums", 3, 10)
    (case,) = made.cases
    assert [row.id for row in case.adaptation.demonstrations] == ["x20", "x21"]


def test_training_of_another_type_is_one_line() -> None:
    from harness.run.adaptations import adapt

    odd = type("Odd", (Own,), {"adapt": lambda self, pool, seed: Adaptation(training="yes")})
    with pytest.raises(StrategyError, match=r"asks for training by str, expected harness\.core\."):
        adapt(odd(), [Example("a", "x", "y")], 0)
