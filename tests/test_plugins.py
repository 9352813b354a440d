"""Finding plugins: folders, entry points, and what stands in nobody's way."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import DataError, StrategyError
from harness.plugins import STRATEGIES, TASKS, find, find_strategies, select, select_strategies
from strategies.zeroshot import ZeroShot
from tests.builders import ROOT

MINE = """
from dataclasses import dataclass
from harness.core import Adaptation, Strategy

@dataclass(frozen=True)
class Mine(Strategy):
    name = "mine"
    def adapt(self, pool, seed):
        return Adaptation()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own ``strategies/``, in a working directory that is no checkout."""
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "strategies"
    own.mkdir()
    return own


def test_the_users_folder_is_looked_into_beside_the_shipped(folder: Path) -> None:
    (folder / "mine.py").write_text(MINE)
    found = find_strategies()
    assert {"mine", "zeroshot", "fewshot", "qlora"} <= set(found)
    assert found["zeroshot"] is ZeroShot  # the shipped module, imported by its usual name
    assert found["mine"] is find_strategies()["mine"]  # imported once
    module = sys.modules[found["mine"].__module__]
    assert module.__file__ == str((folder / "mine.py").resolve())
    assert not module.__name__.startswith("strategies")  # that package is the shipped one


def test_two_folders_of_one_name_are_two(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.py").write_text(MINE)
    first = find_strategies()["mine"]
    other = tmp_path / "other"
    (other / "strategies").mkdir(parents=True)
    (other / "strategies" / "mine.py").write_text(MINE.replace('"mine"', '"yours"'))
    monkeypatch.chdir(other)
    assert "mine" not in find_strategies()
    assert find_strategies()["yours"] is not first


def test_a_package_of_the_users_own_is_imported_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("")
    (tmp_path / "tasks" / "helpers.py").write_text("NAME = 'rhymes'\n")
    (tmp_path / "tasks" / "rhymes.py").write_text(
        "from harness.core import TaskSource\nfrom tasks.helpers import NAME\n"
        "class Rhymes(TaskSource):\n    name = NAME\n"
    )
    (task,) = select(TASKS, ["rhymes"])
    assert task.__module__ == "tasks.rhymes"
    for name in [name for name in sys.modules if name.partition(".")[0] == "tasks"]:
        monkeypatch.delitem(sys.modules, name)


def test_a_copy_of_a_shipped_file_is_the_same_plugin(folder: Path) -> None:
    shutil.copy(ROOT / "strategies" / "zeroshot.py", folder)
    assert select_strategies(("zeroshot",)) == [ZeroShot]


def test_a_users_file_never_takes_a_shipped_name(folder: Path) -> None:
    (folder / "mine.py").write_text(MINE.replace('"mine"', '"zeroshot"'))
    (folder / "fine.py").write_text(MINE.replace('"mine"', '"fine"'))
    assert [one.name for one in select_strategies(("fine", "qlora"))] == ["fine", "qlora"]
    with pytest.raises(StrategyError) as caught:
        select_strategies(("zeroshot",))
    file = (folder / "mine.py").resolve()
    assert str(caught.value) == (
        f"{file}: the name 'zeroshot' is taken by strategies.zeroshot; rename one"
    )


def test_what_cannot_be_imported_is_said_where_something_is_missing(folder: Path) -> None:
    (folder / "mine.py").write_text("import no_such_module\n")
    (folder / "quits.py").write_text("raise SystemExit(3)\n")
    with pytest.warns(UserWarning, match="cannot be imported") as warned:
        assert select_strategies(("zeroshot",)) == [ZeroShot]
    said = [str(one.message).partition(":")[0] for one in warned]
    assert said == ["strategies/mine.py", "strategies/quits.py"]
    with pytest.raises(StrategyError) as caught:
        select_strategies(("zeroshott",))
    line = str(caught.value)
    assert line.startswith("--strategy=zeroshott: no such strategy (did you mean 'zeroshot'?); ")
    assert "known: fewshot, qlora, zeroshot; strategies/mine.py: cannot be imported" in line
    assert line.endswith("strategies/quits.py: cannot be imported: SystemExit: 3")
    file = str((folder / "mine.py").resolve())
    loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    assert file not in loaded  # it is tried again, not half there


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("class Mine(Strategy)", "class Mine"), "Mine has no 'variants'; subclass harness.core.S"),
        (('"mine"', '"my strategy"'), "Mine is named 'my strategy'; a name is ASCII letters"),
    ],
)
def test_an_unusable_class_is_one_line(folder: Path, change: tuple[str, str], says: str) -> None:
    (folder / "mine.py").write_text(MINE.replace(*change))
    with pytest.raises(StrategyError) as caught:
        find_strategies()
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(folder.resolve()))


def test_classes_that_a_module_imports_are_not_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.parent / "elsewhere_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(folder.parent))
    text = "from elsewhere_mine import Mine\nclass Own(Mine):\n    name = 'own'\n"
    (folder / "own.py").write_text(text)
    assert set(find_strategies()) == {"fewshot", "own", "qlora", "zeroshot"}


def test_entry_points(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "installed_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(folder.parent))
    points = [
        importlib.metadata.EntryPoint("m", "installed_mine:Mine", "adaptbench.strategies"),
        importlib.metadata.EntryPoint("gone", "no_such_module:X", "adaptbench.strategies"),
    ]

    def installed(group: str) -> list[importlib.metadata.EntryPoint]:
        return [point for point in points if point.group == group]

    monkeypatch.setattr(importlib.metadata, "entry_points", installed)
    assert find_strategies()["mine"].__module__ == "installed_mine"
    (line,) = find(STRATEGIES).broken
    assert line.startswith("entry point gone (no_such_module:X): cannot be loaded: ModuleNotFound")
    points[1] = importlib.metadata.EntryPoint("f", "installed_mine:MINE", "adaptbench.strategies")
    (folder.parent / "installed_mine.py").write_text(MINE + "\ndef MINE(): ...\n")
    monkeypatch.delitem(sys.modules, "installed_mine")
    with pytest.raises(StrategyError, match=r"entry point f: MINE has no 'name'"):
        find_strategies()


def test_no_folder_of_the_name_is_no_tasks(folder: Path) -> None:
    with pytest.raises(DataError, match=r"--task=rhymes: no such task; known: none"):
        select(TASKS, ["rhymes"])


def test_where_the_package_is_installed(tmp_path: Path) -> None:
    """The shipped strategies are a part of adaptbench there, and other packages are nobody's."""
    site, here = tmp_path / "site", tmp_path / "here"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "harness", site / "harness", ignore=ignore)
    shutil.copytree(ROOT / "strategies", site / "adaptbench" / "strategies", ignore=ignore)
    (site / "adaptbench" / "__init__.py").write_text("")
    for name in ("tasks", "metrics"):  # of somebody else
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("raise AssertionError('imported')\n")
        (site / name / "mine.py").write_text("raise AssertionError('imported')\n")
    (here / "strategies").mkdir(parents=True)
    (here / "strategies" / "mine.py").write_text(MINE)
    code = (
        "from harness.plugins import STRATEGIES, TASKS, find\n"
        "from harness.metrics.find import METRICS\n"
        "found = find(STRATEGIES)\n"
        "print({name: one.__module__ for name, one in sorted(found.classes.items())})\n"
        "print(found.broken, find(TASKS).broken, find(METRICS).broken)\n"
    )
    for paths in ([str(site)], [str(site), str(here)]):
        script = f"import sys\nsys.path[:1] = {paths!r}\n{code}"
        done = subprocess.run(
            [sys.executable, "-E", "-c", script],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
        modules, broken = done.stdout.splitlines()
        assert "'zeroshot': 'adaptbench.strategies.zeroshot'" in modules
        assert ("'mine': 'strategies.mine'" in modules) == (len(paths) == 2)
        assert "'mine': " in modules
        assert broken == "[] [] []"
