"""What a strategy does with a pool, checked, and with the flags that have a say in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.config.options import Options
from harness.core import Adaptation, Example, Quantization, Strategy, Task, TrainingSpec
from harness.errors import OptionError, StrategyError
from harness.run.variants import strategy_errors
from harness.training.spec import held_out_rows, training_spec


def adaptation_of(
    strategy: Strategy, task: Task, options: Options, quantization: Quantization | None, seed: int
) -> Adaptation:
    """Return what a strategy does with a task's pool, and how it trains, if it does.

    Raises:
        StrategyError: the strategy is at fault.
        OptionError: the flags do not go together, or leave no rows to train on.
    """
    adaptation = adapt(strategy, task.pool, seed)
    if adaptation.training is None:
        return adaptation
    if options.adapter is not None:
        raise OptionError(
            "--adapter: cannot be combined with a strategy that trains an adapter of its "
            "own; choose --strategy=zeroshot,fewshot"
        )
    training = training_spec(adaptation.training, options, quantization)
    if options.select_on == "holdout" or task.leaks:
        training = _of_another_pool(strategy, task, options.select_on, seed, training)
    return replace(adaptation, training=training)


def _of_another_pool(
    strategy: Strategy, task: Task, select_on: str | None, seed: int, training: TrainingSpec
) -> TrainingSpec:
    """Ask for the training run again, of the pool that may be trained on.

    Without the rows that choose its checkpoint, and with those of the test set where the
    user insists; neither changes what is shown.
    """
    pool = (*task.pool, *task.leaks)
    held: tuple[Example, ...] = ()
    if select_on == "holdout":
        held = held_out_rows(task.pool, training.settings.holdout_rows)
    ids = {row.id for row in held}
    rest = [row for row in pool if row.id not in ids]
    where = f"with {len(held)} of {len(pool)} rows held out ({strategy.name}.holdout_rows)"
    if not rest:
        raise OptionError(f"--select-on=holdout: {where}, none is left to train on")
    try:
        again = adapt(strategy, rest, seed).training
    except OptionError as error:
        raise OptionError(f"{error} ({where})" if held else str(error)) from None
    if again is None:
        raise StrategyError(
            f"strategy {strategy.name!r}: adapt() asks for a training run on {len(task.pool)} "
            f"rows, and for none on {len(rest)}"
        )
    return replace(training, examples=again.examples, stages=again.stages, holdout=held)


def adapt(strategy: Strategy, pool: Sequence[Example], seed: int) -> Adaptation:
    """Run a strategy and check what it returns; a third party's mistake becomes one line.

    Raises:
        StrategyError: it raised, or returned something that is not an adaptation of this pool.
    """
    where = f"strategy {strategy.name!r}: adapt()"
    with strategy_errors(where):
        adaptation = strategy.adapt(pool, seed)
    if not isinstance(adaptation, Adaptation):
        raise StrategyError(
            f"{where} returned {type(adaptation).__name__}, expected harness.core.Adaptation"
        )
    training = adaptation.training
    if training is not None and not isinstance(training, TrainingSpec):
        raise StrategyError(
            f"{where} asks for training by {type(training).__name__}, expected "
            f"harness.core.TrainingSpec"
        )
    _check_rows(where, adaptation, pool)
    if training is not None:
        stages = training.stages
        if not all((training.examples, *(stage.examples for stage in stages))):
            raise StrategyError(f"{where} asks for a training run without rows")
        ids = {example.id for example in training.examples}
        if any(example.id not in ids for stage in stages for example in stage.examples):
            raise StrategyError(f"{where} has a stage with rows that are not among its examples")
    return adaptation


def _check_rows(where: str, adaptation: Adaptation, pool: Sequence[Example]) -> None:
    parts = [adaptation.demonstrations]
    if adaptation.training is not None:
        training = adaptation.training
        parts += [training.examples, training.holdout]
        parts += [stage.examples for stage in training.stages]
    known = _by_id(pool)
    for part in parts:
        if not isinstance(part, tuple) or not all(isinstance(row, Example) for row in part):
            raise StrategyError(f"{where} returned {part!r:.80}, expected a tuple of Examples")
        for example in part:
            if known.get(example.id) != example:
                raise StrategyError(
                    f"{where} returned row {example.id!r}, which is not from the training pool; "
                    f"demonstrations and training rows must be"
                )


_LAST: list[tuple[Sequence[Example], dict[str, Example]]] = []  # the pool that was asked of last


def _by_id(pool: Sequence[Example]) -> dict[str, Example]:
    """The rows of a pool by their ids; made once where one tuple is asked of again and again."""
    if not _LAST or _LAST[0][0] is not pool or not isinstance(pool, tuple):
        _LAST[:] = [(pool, {example.id: example for example in pool})]
    return _LAST[0][1]
