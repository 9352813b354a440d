"""Finding plugins by name: strategies, metrics and tasks, ours and other people's.

A plugin is a class with a ``name``. It is looked for in the modules of folders (the shipped one,
then the folder of the same name in the working directory) and in the entry points of the group
``adaptbench.<kind>``. A module that cannot be imported stands in nobody's way: it is named where a
plugin that was asked for is not found. A user's plugin never takes the name of a shipped one.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from harness import places
from harness.core import Strategy, TaskSource
from harness.errors import AdaptbenchError, DataError, StrategyError, one_line, suggest


@dataclass(frozen=True)
class Kind:
    """What is looked for, and where.

    Attributes:
        plural: names the folders and the group of entry points, e.g. ``strategies``.
        singular: what an error line calls one.
        flag: the flag that asks for one.
        base: the class to subclass, as an error line names it.
        required: attributes that a plugin cannot do without.
        is_one: whether a class of a module is meant as a plugin of this kind.
        error: what is raised.
        shipped: the folders that come with this package; they are looked into first.
    """

    plural: str
    singular: str
    flag: str
    base: str
    required: tuple[str, ...]
    is_one: Callable[[type], bool]
    error: type[AdaptbenchError]
    shipped: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Found:
    """The plugins of one kind.

    Attributes:
        classes: by name; of two of one name the shipped, or else the first.
        clashes: name → the line that says who else carries it.
        broken: a line for every module or entry point that cannot be imported.
    """

    kind: Kind
    classes: dict[str, type[Any]] = field(default_factory=dict)
    clashes: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def get(self, name: str, where: str | None = None) -> type[Any]:
        """Return the plugin called ``name``.

        Args:
            name: as its class carries it.
            where: what an error line begins with; by default the flag and the name.

        Raises:
            AdaptbenchError: of the kind; there is none, or two carry the name.
        """
        if name in self.clashes:
            raise self.kind.error(self.clashes[name])
        if name not in self.classes:
            known = ", ".join(sorted(self.classes)) or "none"
            lines = "; ".join([f"known: {known}", *self.broken])
            raise self.kind.error(
                f"{where or f'--{self.kind.flag}={name}'}: no such {self.kind.singular}"
                f"{suggest(name, self.classes)}; {lines}"
            )
        return self.classes[name]


def _is_strategy(candidate: type) -> bool:
    named = isinstance(getattr(candidate, "name", None), str)
    return named and callable(getattr(candidate, "adapt", None))


def _is_task(candidate: type) -> bool:
    return issubclass(candidate, TaskSource) and isinstance(getattr(candidate, "name", None), str)


STRATEGIES = Kind(
    plural="strategies",
    singular="strategy",
    flag="strategy",
    base="harness.core.Strategy",
    required=("name", "variants", "label", "stochastic", "draw", "adapt"),
    is_one=_is_strategy,
    error=StrategyError,
    shipped=(places.shipped("strategies"),),
)
TASKS = Kind(
    plural="tasks",
    singular="task",
    flag="task",
    base="harness.core.TaskSource",
    required=("name", "test", "train"),
    is_one=_is_task,
    error=DataError,
)


def find(kind: Kind) -> Found:
    """Return every plugin of a kind.

    Raises:
        AdaptbenchError: of the kind; a class is incomplete, or has a name that no flag can hold.
    """
    found = Found(kind)
    for origin, candidate in (*_in_folders(kind, found.broken), *_entry_points(kind, found.broken)):
        _check(kind, origin, candidate)
        name = candidate.name
        other = found.classes.setdefault(name, candidate)
        if other is not candidate:
            found.clashes[name] = (
                f"{origin}: the name {name!r} is taken by {other.__module__}; rename one"
            )
    return found


def select(kind: Kind, names: Iterable[str], where: str | None = None) -> list[type[Any]]:
    """Return the plugins called ``names``, and warn of modules that could not be imported.

    Raises:
        AdaptbenchError: of the kind; one is unknown. The message lists the known ones, and the
            files that could not be imported.
    """
    found = find(kind)
    chosen = [found.get(name, where) for name in names]
    for line in found.broken:
        warnings.warn(line, stacklevel=2)
    return chosen


def find_strategies() -> dict[str, type[Strategy]]:
    """Return every strategy class by its name."""
    return find(STRATEGIES).classes


def select_strategies(names: Sequence[str]) -> list[type[Strategy]]:
    """Return the strategies called ``names``.

    Raises:
        StrategyError: one is unknown, or two carry its name.
    """
    return select(STRATEGIES, names)


def _check(kind: Kind, origin: str, candidate: Any) -> None:
    called = getattr(candidate, "__name__", repr(candidate))
    missing = [name for name in kind.required if not hasattr(candidate, name)]
    if missing or not isinstance(candidate, type):
        lacks = f"has no {missing[0]!r}" if missing else "is not a class"
        raise kind.error(f"{origin}: {called} {lacks}; subclass {kind.base}")
    name = candidate.name  # type: ignore[attr-defined]
    if not (isinstance(name, str) and name.isascii() and name.replace("-", "_").isidentifier()):
        raise kind.error(
            f"{origin}: {called} is named {name!r}; a name is ASCII letters, digits, - and _"
        )


def _in_folders(kind: Kind, broken: list[str]) -> Iterator[tuple[str, type]]:
    known: dict[str, bytes] = {}
    own = Path.cwd() / kind.plural
    for folder in dict.fromkeys(path.resolve() for path in (*kind.shipped, own) if path.is_dir()):
        ours = folder in [path.resolve() for path in kind.shipped]
        for info in pkgutil.iter_modules([str(folder)]):
            file = _file_of(folder, info.name)
            content = file.read_bytes()
            if ours:
                known[info.name] = content
            elif known.get(info.name) == content:
                continue  # a copy of the shipped file is the same plugin
            try:
                module = _load(folder, info.name, file, ours=ours)
            except (Exception, SystemExit) as error:  # a user's file may raise anything
                broken.append(
                    f"{kind.plural}/{info.name}.py: cannot be imported: "
                    f"{type(error).__name__}: {one_line(error)}"
                )
                continue
            for _, candidate in inspect.getmembers(module, inspect.isclass):
                if candidate.__module__ == module.__name__ and kind.is_one(candidate):
                    yield str(file), candidate


def _file_of(folder: Path, name: str) -> Path:
    package = folder / name / "__init__.py"
    return package if package.is_file() else folder / f"{name}.py"


def _load(folder: Path, name: str, file: Path, *, ours: bool) -> ModuleType:
    """Import a module under its usual name, or, where that means another file, from its path."""
    package = ".".join(folder.relative_to(places.ROOT).parts) if ours else folder.name
    if _is_package(package, folder):
        return importlib.import_module(f"{package}.{name}")
    key = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    unique = f"adaptbench_{folder.name}_{key}_{name}".replace("-", "_")
    if unique in sys.modules:
        return sys.modules[unique]
    inside = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(unique, file, submodule_search_locations=inside)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python module")
    module = sys.modules[unique] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[unique]
        raise
    return module


def _is_package(name: str, folder: Path) -> bool:
    """Whether ``folder`` is the package that Python imports as ``name``."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    places = spec.submodule_search_locations if spec is not None else None
    # Of a package in several places, another one may hold a module of the same name.
    return [Path(place).resolve() for place in places or ()] == [folder.resolve()]


def _entry_points(kind: Kind, broken: list[str]) -> Iterator[tuple[str, Any]]:
    for point in importlib.metadata.entry_points(group=f"adaptbench.{kind.plural}"):
        try:
            candidate = point.load()
        except (Exception, SystemExit) as error:
            broken.append(
                f"entry point {point.name} ({point.value}): cannot be loaded: "
                f"{type(error).__name__}: {one_line(error)}"
            )
            continue
        yield f"entry point {point.name}", candidate
