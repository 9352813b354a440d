"""Several adapters trained in one batch over one frozen base, each as it is trained alone.

Every step takes from each adapter the batches of its own next step, puts them one behind the other,
and adds up the adapters' own mean losses: since no row meets another adapter's numbers
(:mod:`harness.training.grouped`), the gradient of the sum is every adapter's own gradient. Each has
its own clipping, optimizer, learning rate, dropout and checkpoints, so that they need not begin or
end together, and one whose loss is not finite ends alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from harness.errors import DivergenceError
from harness.models.adapters import BaseShape, base_shape
from harness.models.attention import short_row_attention
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel, load_encoder, quiet
from harness.training.callback import diverged, keep_if_best
from harness.training.evaluation import evaluate
from harness.training.grouped import Grouped
from harness.training.member import Member, Order, dropout_of, resume, save
from harness.training.rows_together import RowsTogether, losses_of, rows_together
from harness.training.schedule import learning_rates
from harness.training.sharing import check_sharing
from harness.training.state import Progress
from harness.training.train import (
    base_to_train,
    finish,
    give_back,
    training_rows,
    training_state,
    with_adapter,
)
from harness.training.trainer import arguments_of


def train_together(
    orders: Sequence[Order], progress: Progress, finished: Callable[[Order], None]
) -> dict[Order, DivergenceError]:
    """Train adapters in one batch, each resumed from its own last checkpoint.

    Args:
        orders: of one base, one prompt, and equal ranks on the same layers.
        progress: called with (step, steps, a short text) of the one that has most before it.
        finished: called with each order whose adapter and record stand in its draft.

    Returns:
        Those whose loss was not finite, and what each would have raised alone.

    Raises:
        OptionError: settings that do not fit the rows or the model.
        UngroupableError: the adapters of this model cannot be trained in one batch.
    """
    group = Group(orders, progress)
    while active := [member for member in group.members if member.active]:
        group.step(active)
        for member in active:
            if not member.active and member.error is None:
                group.finish(member, finished)
    give_back(orders[0].job, group.model)
    return {one.order: one.error for one in group.members if one.error is not None}


class Group:
    """Adapters that are trained together.

    Args:
        orders: as :func:`train_together` takes them.
        progress: likewise.
    """

    def __init__(self, orders: Sequence[Order], progress: Progress) -> None:
        first = orders[0].job
        encoder = load_encoder(first.spec, first.base)
        found = [training_rows(order.job, encoder) for order in orders]
        base = base_to_train(first, encoder, [row for rows, _ in found for row in rows])
        self.shape: BaseShape = base_shape(base)
        self.progress = progress
        # PEFT looks for an adapter's name inside of others' parameters: none is part of another.
        names = [f"adapter{place:04d}" for place in range(len(orders))]
        model: Any = base
        for order, name in zip(orders, names, strict=True):
            model = with_adapter(model, order.job.training.settings, name)
        self.model = model
        self.grouped = Grouped(model, names)
        self.members = [
            self._member(order, place, encoder, *found[place]) for place, order in enumerate(orders)
        ]
        if first.training.settings.gradient_checkpointing:
            with quiet():
                model.gradient_checkpointing_enable({"use_reentrant": False})
        check_sharing(
            self.grouped,
            [(one.place, one.state.adapter, one.batches()[0]) for one in self.members],
            exact=first.spec.dtype == "float32",
        )
        for member in self.members:
            if member.state.resumed_from is None and member.state.settings.eval_steps is not None:
                self._evaluate(member)

    def _member(
        self, order: Order, place: int, encoder: Any, rows: list[Encoded], left_out: list[str]
    ) -> Member:
        from transformers import Trainer

        state = training_state(order.job, order.work, self.progress, encoder, rows, self.model)
        state.adapter = f"adapter{place:04d}"
        parameters = self.grouped.parameters(place)
        with quiet():
            kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments_of(state), self.model)
        decay = {"params": parameters, "weight_decay": state.settings.weight_decay}
        counts = [sum(s.stage == i for s in state.steps) for i in range(len(state.parts))]
        member = Member(
            order=order,
            place=place,
            state=state,
            left_out=left_out,
            parameters=parameters,
            optimizer=kind([decay], **settings),
            rates=learning_rates(state.parts, counts, state.settings),
            generator=dropout_of(state),
            loaded=LoadedModel(state.spec, self.model, encoder),
        )
        resume(member)
        return member

    # ------------------------------------------------------------------------------ a step

    def step(self, active: Sequence[Member]) -> None:
        """Make the next optimizer step of every adapter that is still trained."""
        started = time.perf_counter()
        batches = [member.batches() for member in active]
        losses = self._gradients(active, batches)
        for member, loss, own in zip(active, losses, batches, strict=True):
            self._update(member, loss, [row.prompt.id for batch in own for row in batch])
        took = (time.perf_counter() - started) / len(active)
        for member in active:
            member.state.seconds += took
            if member.error is None:
                self._between(member)
        self._show(active, losses)

    def _gradients(
        self, active: Sequence[Member], batches: Sequence[list[list[Encoded]]]
    ) -> list[float]:
        """Add up the gradients of every adapter's batches; its loss, nats per label."""
        import torch

        model, device = self.model, self.model.device
        model.train()
        self.grouped.clear()
        counts = [sum(len(row.answer) for batch in own for row in batch) for own in batches]
        totals = torch.zeros(len(active), device=device)
        for number in range(max(map(len, batches))):
            # An adapter whose step has fewer batches than others' has no part in the last ones.
            here = [i for i, own in enumerate(batches) if number < len(own)]
            parts = [batches[i][number] for i in here]
            together: RowsTogether = rows_together(parts, device)
            shares = [active[i].share(part) for i, part in zip(here, parts, strict=True)]
            with (
                self.grouped.batch(shares, together.rows, together.width),
                short_row_attention(model, training=True),
            ):
                losses = losses_of(model, together, [counts[i] for i in here])
                # What is not finite has no part in the sum; its own rows alone could pass it on.
                torch.where(losses.isfinite(), losses, 0.0).sum().backward()
            totals[torch.tensor(here, device=device)] += losses.detach()
        found: list[float] = totals.tolist()
        return found

    def _update(self, member: Member, loss: float, row_ids: list[str]) -> None:
        """Make an adapter's step, as transformers' Trainer does, or end it."""
        import torch

        state, rate = member.state, member.rates[member.done]
        member.done += 1
        state.log.append({"loss": loss, "step": member.done, "learning_rate": rate})
        if not math.isfinite(loss):
            member.error = diverged(state, member.done, loss, rate, row_ids)
            return
        self.grouped.hand_out(member.place)
        if state.settings.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(member.parameters, state.settings.max_grad_norm)
        for group in member.optimizer.param_groups:
            group["lr"] = rate
        member.optimizer.step()

    def _between(self, member: Member) -> None:
        """What is due between two steps of an adapter: evaluating, saving."""
        if member.done in member.evaluate:
            self._evaluate(member)
        if member.done in member.save:
            save(member)

    def _evaluate(self, member: Member) -> None:
        started = time.perf_counter()
        state = member.state
        found = evaluate(state, member.loaded)
        point = {f"eval_{name}": value for name, value in found.items()}
        state.log.append({**point, "step": member.done})
        keep_if_best(state, member.done)
        state.seconds += time.perf_counter() - started

    def _show(self, active: Sequence[Member], losses: Sequence[float]) -> None:
        last = max(active, key=lambda member: len(member.state.steps) - member.done)
        finite = [loss for loss in losses if math.isfinite(loss)]
        mean = f"{sum(finite) / len(finite):.3f}" if finite else "nan"
        note = f"steps of {len(active)} adapters  mean loss {mean}"
        self.progress(last.done, len(last.state.steps), note)

    def finish(self, member: Member, finished: Callable[[Order], None]) -> None:
        """Write an adapter that has made its last step."""
        order = member.order
        together = len(self.members)
        finish(order.draft, member.state, member.left_out, self.shape, together=together)
        finished(order)
