"""The gradients of an optimizer step: on CPUs, each core computes whole batches.

If every product is split over the cores, they wait for each other at each, and on a machine with
other work that is most of the time. So batches are computed in lanes, with a share of the cores
each. Their gradients are added in the order of the batches, whichever was ready first, so that an
adapter does not depend on that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from harness.scoring.changes import changes_itself
from harness.scoring.losses import mean_loss
from harness.scoring.queue import few_cores, on_each_core
from harness.training.chance import base_draws
from harness.training.collation import CPU_TOKENS, LabelledBatch

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn

    from harness.core import ModelSpec, TrainingSettings

# Of the batches that are computed at a time: their activations are what training needs memory for.
IN_FLIGHT = 2 * CPU_TOKENS


class _Found(NamedTuple):
    """The loss of a batch, and the gradient of each parameter; None where it has no part in it."""

    loss: Tensor
    gradients: tuple[Tensor | None, ...]


class Lanes:
    """What computes the gradients of a training run's steps.

    Args:
        model: a base with the adapter that is trained, in training mode.
        spec: of the base.
        settings: of the training run.
    """

    checked: ClassVar[dict[Hashable, bool]] = {}  # in this process: whether batches were as alone

    def __init__(self, model: PeftModel, spec: ModelSpec, settings: TrainingSettings) -> None:
        self._parameters = [one for one in model.parameters() if one.requires_grad]
        self._kind = spec, settings.target_modules
        # What draws numbers takes them from one generator, in the order of the batches.
        one = takes_turns(settings) or bool(base_draws(model))
        self._one = one or model.device.type != "cpu"

    def add_gradients(
        self,
        model: nn.Module,
        batches: Sequence[LabelledBatch],
        count: int,
        backward: Callable[[Tensor], object],
    ) -> Tensor:
        """Add up the gradients of a step's batches in the parameters, which have none yet.

        Args:
            model: as the Trainer hands it over.
            batches: of the step, on the model's device.
            count: the labels of all of them.
            backward: computes the gradients of a loss, where batches are computed one by one.

        Returns:
            The step's loss, nats per label.
        """
        import torch

        sizes = [batch["input_ids"].numel() for batch in batches]
        lanes = 1 if self._one else min(torch.get_num_threads(), fitting(sizes))
        if lanes > 1 and self._kind not in self.checked and changes_itself(model):
            self.checked[self._kind] = False
        if lanes == 1 or not self.checked.get(self._kind, True):
            return _in_turn(model, batches, count, backward)
        total, last = self._side_by_side(model, batches, count, lanes)
        if self._kind not in self.checked:
            with few_cores(_cores(lanes)):
                again = self._compute(model, batches[-1], count)
            self.checked[self._kind] = _equal(last, again)
        if not self.checked[self._kind]:
            # What a model keeps of a batch, where nothing sees it write, spoils another one's.
            for parameter in self._parameters:
                parameter.grad = None
            return _in_turn(model, batches, count, backward)
        return total

    def _side_by_side(
        self, model: nn.Module, batches: Sequence[LabelledBatch], count: int, lanes: int
    ) -> tuple[Tensor, _Found]:
        """The step's loss, and what was found for the last batch."""
        import torch

        waiting = deque(enumerate(batches))
        done: SimpleQueue[tuple[int, _Found] | BaseException] = SimpleQueue()

        def work() -> None:
            try:
                while waiting:
                    try:
                        number, batch = waiting.popleft()
                    except IndexError:  # another lane was faster
                        return
                    done.put((number, self._compute(model, batch, count)))
            except BaseException as error:  # handed to who waits for the gradients
                done.put(error)

        total, ready = torch.zeros(()), dict[int, _Found]()
        with on_each_core(lanes, work, _cores(lanes)):
            try:
                for number in range(len(batches)):
                    while number not in ready:
                        found = done.get()
                        if isinstance(found, BaseException):
                            raise found
                        ready[found[0]] = found[1]
                    last = ready.pop(number)
                    total += last.loss
                    self._add(last.gradients)
            finally:  # also where a lane has failed, or somebody presses Ctrl-C
                waiting.clear()
        return total, last

    def _compute(self, model: nn.Module, batch: LabelledBatch, count: int) -> _Found:
        import torch

        loss = mean_loss(model, batch["input_ids"], batch["labels"], count)
        found = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        return _Found(loss.detach(), found)

    def _add(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            if gradient is None:
                continue
            if parameter.grad is None:
                parameter.grad = gradient
            else:
                parameter.grad += gradient


def takes_turns(settings: TrainingSettings) -> bool:
    """Whether batches are computed one by one for what the settings say, whatever the model."""
    return settings.gradient_checkpointing or settings.lora_dropout > 0


def fitting(sizes: Sequence[int]) -> int:
    """How many batches of a step may be computed at a time; ``sizes`` in tokens, with padding."""
    return max(1, min(len(sizes), IN_FLIGHT // max(sizes)))


def _cores(lanes: int) -> int:
    """The cores of each lane."""
    import torch

    return max(1, int(torch.get_num_threads()) // lanes)


def _in_turn(
    model: nn.Module,
    batches: Sequence[LabelledBatch],
    count: int,
    backward: Callable[[Tensor], object],
) -> Tensor:
    import torch

    total = torch.zeros((), device=batches[0]["input_ids"].device)
    for batch in batches:
        loss = mean_loss(model, batch["input_ids"], batch["labels"], count)
        backward(loss)
        total += loss.detach()
    return total


def _equal(one: _Found, other: _Found) -> bool:
    """Whether two computations of a batch have the same bits."""
    import torch

    def same(a: Tensor | None, b: Tensor | None) -> bool:
        if a is None or b is None:
            return a is b
        return bool(torch.equal(a.nan_to_num(), b.nan_to_num()))

    return same(one.loss, other.loss) and all(
        same(a, b) for a, b in zip(one.gradients, other.gradients, strict=True)
    )
