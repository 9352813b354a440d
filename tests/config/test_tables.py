"""Strategies with settings: from a dataclass's fields to tables, --set, variants and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.config.export import effective
from harness.config.options import Options, parse_options
from harness.errors import AdaptbenchError, OptionError
from harness.plugins import find_strategies
from harness.report.recipes import to_toml

OWN = '''
from __future__ import annotations
from dataclasses import dataclass, field
from typing import Literal
from harness.core import Adaptation, Strategy

@dataclass(frozen=True)
class Window:
    size: int
    by: tuple[str, ...] = ("length",)
    step: float | None = None

    def __post_init__(self):
        if self.step is not None and self.step > self.size:
            raise ValueError("step is larger than size")

def even(value):
    if value % 2:
        raise ValueError("an even number")
    return value

@dataclass(frozen=True)
class Shortest(Strategy):
    """The shortest rows of the pool."""
    n: int = 2
    order: Literal["short", "long"] = "short"
    ids: tuple[str, ...] = ()
    strict: bool = False
    limit: int | None = 9
    window: Window | None = None
    pairs: int = 4
    odd: set = field(default_factory=set)
    seed: int = 0

    name = "shortest"
    checks = {"pairs": even}

    def adapt(self, pool, seed):
        rows = sorted(pool, key=lambda row: (len(row.output), row.id))
        return Adaptation(tuple(rows[: self.n]))

@dataclass(frozen=True)
class Twin(Shortest):
    name = "twin"
    start: int = 0
    need: int = field(kw_only=True)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "shortest.py").write_text(OWN)
    return tmp_path


def made(options: Options, name: str = "shortest", model: str = "") -> list[Any]:
    strategy = find_strategies()[name]
    return list(strategy.variants(options.of(model)))


def sets(*settings: str, **flags: Any) -> Options:
    return parse_options({"set": list(settings), "strategy": "shortest", **flags})


def recipe(folder: Path, text: str, *settings: str, **flags: Any) -> Options:
    file = folder / "mine.toml"
    file.write_text(text, "utf-8")
    return parse_options({"recipe": str(file), "set": list(settings), **flags})


def test_without_a_word_there_is_one_variant_of_defaults(folder: Path) -> None:
    strategy = find_strategies()["shortest"]
    assert made(parse_options({})) == [strategy()]
    assert sets("shortest.n=2", "shortest.limit=9").strategies == {}  # said, and the default


def test_a_list_makes_variants(folder: Path) -> None:
    options = recipe(folder, "[shortest]\nn = [2, 4]\norder = ['long', 'short']\n")
    assert [(one.n, one.order) for one in made(options)] == [
        (2, "long"),
        (2, "short"),
        (4, "long"),
        (4, "short"),
    ]
    assert [one.n for one in made(sets("shortest.n=[4, 8, 2]"))] == [4, 8, 2]


def test_a_tuple_takes_a_list_as_one_value(folder: Path) -> None:
    assert [one.ids for one in made(sets('shortest.ids=["a", "b"]'))] == [("a", "b")]
    assert [one.ids for one in made(sets('shortest.ids=[["a"], []]'))] == [("a",), ()]


def test_every_kind_of_value(folder: Path) -> None:
    options = sets("shortest.strict=true", "shortest.limit=none", "shortest.pairs=6")
    (one,) = made(options)
    assert (one.strict, one.limit, one.pairs) == (True, None, 6)


def test_a_dataclass_inside_is_a_table_of_its_own_or_inside(folder: Path) -> None:
    inside = recipe(folder, "strategy='shortest'\n[shortest.window]\nsize = 3\nby = ['score']\n")
    alone = recipe(folder, "strategy='shortest'\n[window]\nsize = 3\nby = ['score']\n")
    assert inside.strategies == alone.strategies
    (one,) = made(alone)
    assert (one.window.size, one.window.by, one.window.step) == (3, ("score",), None)
    both = recipe(folder, "[window]\nsize = 3\nstep = 2\n[shortest.window]\nsize = 4\n")
    (one,) = made(both)
    assert (one.window.size, one.window.step) == (4, 2.0)  # what stands inside wins
    several = made(sets("window.size=[3, 5]", "shortest.window.step=1"))
    assert [(one.window.size, one.window.step) for one in several] == [(3, 1.0), (5, 1.0)]
    assert made(sets("window.size=3", "window=none"))[0].window is None
    assert made(sets("window.size=3", "shortest.window=none", "window.size=5"))[0].window.size == 5


def test_a_table_on_its_own_is_of_the_strategies_that_are_run(folder: Path) -> None:
    text = "[window]\nsize = 3\n"
    assert set(recipe(folder, text, strategy="twin").strategies) == {"twin"}
    assert set(recipe(folder, text, strategy="twin,shortest").strategies) == {"twin", "shortest"}
    assert set(recipe(folder, text, strategy="zeroshot").strategies) == {"twin", "shortest"}
    assert set(recipe(folder, "[subset]\ntop = 3\n", strategy="shortest").strategies) == {"qlora"}


def test_stronger_layers_replace_single_values(folder: Path) -> None:
    text = "limit = 4\n[shortest]\nn = [2, 4]\npairs = 8\n[trial.shortest]\nn = 1\n"
    (one,) = made(recipe(folder, text, "shortest.pairs=2"))
    assert (one.n, one.pairs) == (1, 2)
    project = folder / "pyproject.toml"
    project.write_text("[tool.adaptbench.shortest]\nn = 7\nstrict = true\n")
    from harness.config.recipe import read_pyproject

    options = parse_options({"set": ["shortest.n=3"]}, read_pyproject(project))
    assert [(one.n, one.strict) for one in made(options)] == [(3, True)]


def test_a_model_has_settings_of_its_own(folder: Path) -> None:
    text = (
        "model = ['a/b', 'a/c@main']\nstrategy = 'shortest'\n[shortest]\nn = 4\nstrict = true\n"
        "[for.'a/c'.shortest]\nn = [2, 6]\n[for.'a/c'.window]\nsize = 3\n"
    )
    options = recipe(folder, text)
    assert [(one.n, one.window) for one in made(options, model="a/b")] == [(4, None)]
    own = made(options, model="a/c@main")
    assert [(one.n, one.strict, one.window.size) for one in own] == [(2, True, 3), (6, True, 3)]
    assert [one.n for one in made(recipe(folder, text, "shortest.n=8"), model="a/c@main")] == [8]


def test_flags_of_a_strategy_may_stand_in_its_table(folder: Path) -> None:
    text = "[fewshot]\nk = [2, 4]\ndraw = 'row'\n"
    options = recipe(folder, text)
    assert (options.k, options.draw, options.given("k")) == ((2, 4), ("row",), True)
    assert recipe(folder, text, k="7").k == (7,)
    assert recipe(folder, "k = 3\n" + text).k == (3,)
    assert recipe(folder, "k = 3\n" + text, "fewshot.k=5").k == (5,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[shortest]\nm = 1",
            "mine.toml: [shortest]: no setting 'm'; known: n, order, ids, strict",
        ),
        ("[shortest]\nordr = 'long'", "no setting 'ordr' (did you mean 'order'?)"),
        ("[shortest]\nn = 'two'", "mine.toml: [shortest]: n = 'two': expected a whole number"),
        ("[shortest]\nn = [2, 'x']", "n = [2, 'x']: expected a whole number"),
        ("[shortest]\nn = []", "n = []: expected a value, or a list of values"),
        ("[shortest]\nn = [2, 2]", "n = [2, 2]: expected a list in which nothing stands twice"),
        ("[shortest]\norder = 'shrt'", "expected one of short, long (did you mean 'short'?)"),
        ("[shortest]\nids = [1]", "ids = [1]: expected a list, each of it a text"),
        ("[shortest]\nids = [['a'], 'b']", "expected a list"),
        ("[shortest]\nlimit = 'no'", "limit = 'no': expected a whole number, or \"none\""),
        ("[shortest]\npairs = 3", "[shortest]: pairs = 3: expected an even number"),
        ("[shortest]\npairs = 'x'", "the strategy's own check can read; it raised TypeError"),
        (
            "[shortest]\nodd = 1",
            "odd = 1: expected nothing: a field annotated <class 'set'> cannot",
        ),
        ("[shortest]\nseed = 1", "seed: each cell trains with its own seed"),
        ("shortest = 3", "mine.toml: shortest = 3: expected a table"),
        ("window = 3", "mine.toml: window = 3: expected a table"),
        ("[window]\nsise = 3", "mine.toml: [window]: no setting 'sise' (did you mean 'size'?)"),
        ("[shortest.window]\nsize = 'x'", "mine.toml: [shortest.window]: size = 'x': expected"),
        ("[shortest.window]\nby = 'x'", "by = 'x': expected a list"),
        ("[window]\nby = ['x']", "[window]: needs size"),
        ("[window]\nsize = 1\nstep = 2", "[window]: step is larger than size"),
        ("[twin]\nfoo = 2", "mine.toml: [twin]: no setting 'foo'"),
        ("[trial.shortest]\nm = 1", "mine.toml: [trial] [shortest]: no setting 'm'"),
        ("[zeroshot]\nx = 1", "mine.toml: [zeroshot]: no setting 'x'; it has none"),
        ("[fewshot]\nkk = 1", "[fewshot]: no setting 'kk' (did you mean 'k'?); known: k, select"),
        ("[for.'smollm2-135m'.shortest]\nm = 1", "[for] smollm2-135m [shortest]: no setting 'm'"),
        ("[for.'smollm2-135m'.fewshot]\nk = 1", "k: is --k, a flag, and one for all models"),
        ("[for]\n'smollm2-135m' = 3", "[for] smollm2-135m: expected a table, found 3"),
        ("[shortst]\nn = 1", "mine.toml: no key 'shortst' (did you mean 'shortest'?)"),
        ("[k]\nn = 1", "expected a text, a number or a list, found dict"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, text: str, says: str) -> None:
    with pytest.raises(OptionError) as caught:
        recipe(folder, text + "\n")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_setting_without_a_default_is_asked_for_where_the_strategy_is(folder: Path) -> None:
    options = parse_options({})
    with pytest.raises(OptionError, match=r"^\[twin\]: needs need$"):
        made(options, "twin")
    assert [one.need for one in made(sets("twin.need=[1, 2]"), "twin")] == [1, 2]


def test_a_broken_file_does_not_break_a_recipe_that_does_not_use_it(folder: Path) -> None:
    (folder / "strategies" / "broken.py").write_text("import no_such_module\n")
    assert recipe(folder, "[shortest]\nn = 3\n").strategies == {"shortest": {"n": (3,)}}
    with pytest.raises(OptionError, match=r"no key 'broken'.*strategies/broken\.py: cannot be imp"):
        recipe(folder, "[broken]\nn = 3\n")


def test_an_annotation_that_cannot_be_read_breaks_only_its_own_field(folder: Path) -> None:
    own = OWN.replace("odd: set", "odd: NoSuchName").replace('"shortest"', '"odd"')
    (folder / "strategies" / "odd.py").write_text(own.replace('"twin"', '"twins"'))
    assert recipe(folder, "[shortest]\nn = 3\n").strategies == {"shortest": {"n": (3,)}}
    with pytest.raises(OptionError, match="odd = 1: expected nothing: a field annotated NoSuchNam"):
        recipe(folder, "[odd]\nodd = 1\n")


@pytest.mark.parametrize(
    "text",
    [
        "strategy = 'shortest'\n[shortest]\nn = [2, 4]\nids = [['a'], ['b', 'c']]\nlimit = 'none'\n",
        "strategy = ['shortest', 'twin']\n[window]\nsize = [3, 4]\n[twin]\nneed = 2\n",
        "strategy = ['shortest', 'twin']\n[shortest.window]\nsize = 3\n[twin]\nneed = 2\n",
        "strategy = ['shortest', 'qlora']\n[window]\nsize = 3\n[subset]\ntop = [9, 8]\n",
        "strategy = 'zeroshot'\n[qlora]\nbnb_4bit_use_double_quant = false\n[subset]\ntop = 2\n",
        "strategy = 'qlora'\n[curriculum]\n",
        "strategy = 'shortest'\n[for.'smollm2-135m'.shortest]\nn = 2\n[for.'smollm2-135m'.window]\nsize = 2\n",
        "strategy = 'fewshot'\ncontrol = 'fewshot-random-k01'\nmetrics = ['a', 'b']\n",
        "task = 'rhymes'\n",
    ],
)
def test_the_effective_recipe_asks_for_the_same(folder: Path, text: str) -> None:
    asked = recipe(folder, text)
    again = folder / "again.toml"
    again.write_text(to_toml(effective(asked)), "utf-8")
    same = replace(
        parse_options({"recipe": str(again)}),
        recipe=asked.recipe,
        results_dir=asked.results_dir,
        explicit=frozenset(),
    )
    assert same == asked
    assert effective(same) == effective(asked)


def test_the_effective_recipe_has_what_was_asked_for(folder: Path) -> None:
    plain = effective(parse_options({"strategy": "zeroshot"}))
    assert {"shortest", "twin", "window", "control", "metrics", "task"}.isdisjoint(plain)
    both = effective(recipe(folder, "strategy='shortest'\n[window]\nsize=3\n[shortest]\nn=[2,4]\n"))
    assert both["shortest"]["n"] == [2, 4]
    assert both["shortest"]["order"] == "short"
    assert both["window"] == {"size": 3, "by": ["length"], "step": "none"}
    chosen = effective(parse_options({"control": "qlora", "task": "rhymes"}))
    assert (chosen["control"], chosen["task"]) == ("qlora", "rhymes")
    assert {"data", "train-data"}.isdisjoint(chosen)


def test_4_bit_weights_are_loaded_as_to_train(folder: Path) -> None:
    text = (
        "model = ['a/b', 'a/c']\n[qlora]\nbnb_4bit_use_double_quant = [false, true]\n"
        "[for.'a/c'.qlora]\nbnb_4bit_use_double_quant = true\nbnb_4bit_compute_dtype = 'float32'\n"
    )
    options = recipe(folder, text)
    assert options.loading("a/b").bnb_4bit_use_double_quant is False
    own = options.loading("a/c")
    assert (own.bnb_4bit_use_double_quant, own.bnb_4bit_compute_dtype) == (True, "float32")


def test_a_task_brings_its_own_rows() -> None:
    assert parse_options({"task": "rhymes"}).task == "rhymes"
    for flag, name in (("data", "--data"), ("train_data", "--train-data")):
        with pytest.raises(AdaptbenchError, match=f"--task=rhymes: brings its own rows.*{name}"):
            parse_options({"task": "rhymes", flag: "rows.json"})
