"""The errors a user can cause, each carrying one line that says what to do.

::

    AdaptbenchError
    ├── OptionError      a flag or a key of [tool.adaptbench]
    ├── DataError        a file of rows: which file, row, field; what was found
    ├── PromptError      a prompt file, or a prompt longer than the model can read
    ├── MetricError      a metric that cannot be found, or what it is made of
    ├── StrategyError    a strategy file, or what a strategy returned
    ├── ModelError       a model or adapter that cannot be found, fetched, loaded or trusted
    ├── JudgeError       a judge that cannot be asked, or whose words cannot be relied on
    ├── TrainingError    a training run that went wrong (out of memory)
    │   └── DivergenceError  its loss was not finite
    ├── ConformanceError a model that gives one row two numbers
    ├── StoreError       a results directory or baseline that cannot be written or read
    └── GateError        a baseline that a run cannot be compared with

Anything else that escapes is a defect of the harness and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AdaptbenchError(Exception):
    """A mistake or a circumstance the user can act on; ``str(error)`` is one complete line."""


class OptionError(AdaptbenchError):
    """A flag, or a key of ``[tool.adaptbench]``, has an unusable value."""


class DataError(AdaptbenchError):
    """A data file cannot be used; the message names file, row and field."""


class PromptError(AdaptbenchError):
    """A prompt file is malformed, or a rendered prompt does not fit the model."""


class StrategyError(AdaptbenchError):
    """A strategy cannot be loaded, or returned something that is not an ``Adaptation``."""


class MetricError(AdaptbenchError):
    """A metric cannot be found or loaded."""


class ModelError(AdaptbenchError):
    """A model or an adapter cannot be found, fetched or loaded, or its numbers drifted."""


class JudgeError(AdaptbenchError):
    """A judge cannot be reached or asked, is over its budget, or is not the one that it was."""


class ConformanceError(AdaptbenchError):
    """A model gives a row another number when it is computed in another way."""


class TrainingError(AdaptbenchError):
    """A training run cannot be brought to its end."""


class DivergenceError(TrainingError):
    """The loss of a training run was not finite."""


class StoreError(AdaptbenchError):
    """The results directory cannot be written, or a stored file cannot be read."""


class GateError(AdaptbenchError):
    """A run and a baseline are not about the same rows, or not about the same metric."""


class NotApplicableError(Exception):
    """A check or a contender says nothing here, and the text says why; nobody's mistake."""


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest of ``known``, or an empty string."""
    near = difflib.get_close_matches(wrong, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return the text of a foreign exception as one line of at most ``limit`` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
