"""adaptbench: which adaptation of a language model is worth it, by how much, and how surely.

The public names are those of ``__all__``; everything else, ``harness`` included, is private and may
change with any release.

Run a sweep and look at it::

    import adaptbench

    run = adaptbench.compare(strategy="zeroshot,fewshot", k=[1, 3], limit=8)
    print(run)                   # the main table; in a notebook, sentences and table
    run.conclusions              # what the numbers support, in sentences
    run.table                    # a pandas data frame, every number as it is
    run.report()                 # writes report.md and report.html, returns the latter's path

    run = adaptbench.load_run("results")    # again, without data, model or torch

* Running: :func:`compare`, :func:`load_run`, :class:`Run`.
* What a third party writes: :class:`Strategy`, :class:`Metric` with its :class:`Aggregate`,
  :class:`CorpusMetric`, :class:`TaskSource`.
* Nouns of what is asked for: :class:`Example`, :class:`Task`, :class:`PromptTemplate`,
  :class:`Adaptation`, :class:`TrainingSpec` with its :class:`Stage` and :class:`TrainingSettings`,
  :class:`DecodingSpec`, :class:`ModelSpec`, :class:`Cell`.
* Nouns of what was found: :class:`Likelihood`, :class:`Answer`, :class:`Measurement`.
* Errors, each of one line that says what would be right: :class:`AdaptbenchError` and, below it,
  :class:`DataError`, :class:`GateError`, :class:`MetricError`, :class:`ModelError`,
  :class:`OptionError`, :class:`PromptError`, :class:`StoreError`, :class:`StrategyError`,
  :class:`TrainingError`.

Importing this package imports the standard library only; a name brings what it needs when it is
first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptbench._run import Run, compare, load_run
    from harness import __version__
    from harness.core import (
        Adaptation,
        Cell,
        DecodingSpec,
        Example,
        ModelSpec,
        PromptTemplate,
        Stage,
        Strategy,
        Task,
        TaskSource,
        TrainingSettings,
        TrainingSpec,
    )
    from harness.errors import (
        AdaptbenchError,
        DataError,
        GateError,
        MetricError,
        ModelError,
        OptionError,
        PromptError,
        StoreError,
        StrategyError,
        TrainingError,
    )
    from harness.metrics.base import Aggregate, Metric
    from harness.metrics.corpus import CorpusMetric
    from harness.records import Answer, Likelihood, Measurement

__all__ = [
    "Adaptation",
    "AdaptbenchError",
    "Aggregate",
    "Answer",
    "Cell",
    "CorpusMetric",
    "DataError",
    "DecodingSpec",
    "Example",
    "GateError",
    "Likelihood",
    "Measurement",
    "Metric",
    "MetricError",
    "ModelError",
    "ModelSpec",
    "OptionError",
    "PromptError",
    "PromptTemplate",
    "Run",
    "Stage",
    "StoreError",
    "Strategy",
    "StrategyError",
    "Task",
    "TaskSource",
    "TrainingError",
    "TrainingSettings",
    "TrainingSpec",
    "__version__",
    "compare",
    "load_run",
]

_HOMES = {
    "adaptbench._run": ("Run", "compare", "load_run"),
    "harness": ("__version__",),
    "harness.metrics.base": ("Aggregate", "Metric"),
    "harness.metrics.corpus": ("CorpusMetric",),
    "harness.records": ("Answer", "Likelihood", "Measurement"),
    "harness.errors": tuple(name for name in __all__ if name.endswith("Error")),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'adaptbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME.get(name, "harness.core")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
