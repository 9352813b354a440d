"""Finding strategies: modules in ``strategies/`` and entry points of ``adaptbench.strategies``."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
import warnings
from collections.abc import Iterator
from typing import Any

from harness.core import Strategy
from harness.errors import StrategyError, one_line, suggest
from harness.places import ROOT, shipped

GROUP = "adaptbench.strategies"
REQUIRED = ("name", "variants", "label", "stochastic", "draw", "adapt")


def find_strategies(broken: list[str] | None = None) -> dict[str, type[Strategy]]:
    """Return every strategy class by its name.

    Args:
        broken: collects a line for every module or entry point that cannot be imported. They do
            not stand in the way of the others.

    Raises:
        StrategyError: a strategy is incomplete, or two carry one name.
    """
    broken = [] if broken is None else broken
    found: dict[str, type[Strategy]] = {}
    for origin, candidate in (*_in_folder(broken), *_entry_points(broken)):
        missing = [name for name in REQUIRED if not hasattr(candidate, name)]
        if missing:
            raise StrategyError(
                f"{origin}: {candidate.__name__} has no {missing[0]!r}; "
                f"subclass harness.core.Strategy"
            )
        name = candidate.name
        if not (isinstance(name, str) and name.isascii() and name.replace("-", "_").isidentifier()):
            raise StrategyError(
                f"{origin}: {candidate.__name__} is named {name!r}; a name is ASCII letters, "
                f"digits, - and _"
            )
        if name in found and found[name] is not candidate:
            raise StrategyError(
                f"{origin}: the name {name!r} is taken by {found[name].__module__}; rename one"
            )
        found[name] = candidate
    return found


def select_strategies(names: tuple[str, ...]) -> list[type[Strategy]]:
    """Return the strategies called ``names``.

    Raises:
        StrategyError: one is unknown; the message lists the known ones, and the files that
            could not be imported.
    """
    broken: list[str] = []
    known = find_strategies(broken)
    for name in names:
        if name not in known:
            raise StrategyError(
                f"--strategy={name}: no such strategy{suggest(name, known)}; "
                + "; ".join([f"known: {', '.join(sorted(known))}", *broken])
            )
    for line in broken:
        warnings.warn(line, stacklevel=2)
    return [known[name] for name in names]


def _in_folder(broken: list[str]) -> Iterator[tuple[str, Any]]:
    package = ".".join(shipped("strategies").relative_to(ROOT).parts)
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module_name = f"{package}.{info.name}"
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:  # a user's file may raise anything
            broken.append(
                f"{module_name.replace('.', '/')}.py: cannot be imported: "
                f"{type(error).__name__}: {one_line(error)}"
            )
            continue
        for _, candidate in inspect.getmembers(module, inspect.isclass):
            if candidate.__module__ == module_name and _is_strategy(candidate):
                yield str(module.__file__), candidate


def _is_strategy(candidate: type) -> bool:
    named = isinstance(getattr(candidate, "name", None), str)
    return named and callable(getattr(candidate, "adapt", None))


def _entry_points(broken: list[str]) -> Iterator[tuple[str, Any]]:
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            candidate = point.load()
        except (Exception, SystemExit) as error:
            broken.append(
                f"entry point {point.name} ({point.value}): cannot be loaded: "
                f"{type(error).__name__}: {one_line(error)}"
            )
            continue
        yield f"entry point {point.name}", candidate
