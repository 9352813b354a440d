"""The conformance suite notices every rule that is broken, each by the check that is named."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.conformance import model_under_test, rules
from harness.conformance.model_under_test import tiny
from harness.conformance.rules import CHECKS
from harness.conformance.tiny_models import FAMILIES
from harness.errors import ConformanceError
from harness.models.encoding import Encoder
from harness.models.loading import LoadedModel
from harness.records import COPIED, IN_PLACE, NONE
from harness.scoring import fast, losses, prefix


def failing(
    folder: Path, name: str = "llama-grouped-query", checks: Iterable[str] = CHECKS
) -> set[str]:
    """Which of these checks a tiny model of the family fails."""
    model = tiny(name, folder / name)
    failed = set()
    for check in checks:
        try:
            CHECKS[check](model)
        except ConformanceError:
            failed.add(check)
    return failed


def test_there_is_a_family_of_every_kind_and_nothing_fails(tmp_path: Path) -> None:
    ways = {family.sharing for family in FAMILIES.values()}
    assert ways == {IN_PLACE, COPIED, NONE}
    assert not failing(tmp_path)


Break = Any


def write_into_the_shared_cache(patch: pytest.MonkeyPatch) -> None:
    """One cache object for all batches, as the model keeps it."""
    from transformers.cache_utils import DynamicLayer

    layer = prefix._read_only_layer()
    plain = layer.update

    def update(self: Any, keys: Any, values: Any, *more: Any, **named: Any) -> Any:
        result = plain(self, keys, values, *more, **named)
        if keys.shape[0] == 1 and not getattr(self, "in_place", False):
            DynamicLayer.update(self, keys, values)
        return result

    patch.setattr(layer, "update", update)


def positions_from_zero(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(prefix._read_only_layer(), "get_seq_length", lambda self: 0)


def no_positions_for_padded_rows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "_takes_positions", lambda model: False)


def _encode(patch: pytest.MonkeyPatch, change: Any) -> None:
    plain = Encoder.encode
    patch.setattr(Encoder, "encode", lambda self, prompt: change(self, plain(self, prompt)))


def two_eos(patch: pytest.MonkeyPatch) -> None:
    _encode(patch, lambda self, row: replace(row, answer=(*row.answer, self.eos)))


def no_eos(patch: pytest.MonkeyPatch) -> None:
    _encode(patch, lambda self, row: replace(row, answer=row.answer[:-1]))


def two_prefix_tokens(patch: pytest.MonkeyPatch) -> None:
    _encode(patch, lambda self, row: replace(row, context=(self.prefix, *row.context)))


def no_prefix_token(patch: pytest.MonkeyPatch) -> None:
    _encode(patch, lambda self, row: replace(row, context=row.context[1:]))


def special_tokens_from_text(patch: pytest.MonkeyPatch) -> None:
    plain = Encoder._tokens
    patch.setattr(Encoder, "_tokens", lambda self, text, special=False: plain(self, text, True))


def _losses(patch: pytest.MonkeyPatch, change: Any) -> None:
    plain = losses._token_nlls
    patch.setattr(
        losses, "_token_nlls", lambda logits, wanted, chunk: change(plain, logits, wanted, chunk)
    )


def one_position_off(patch: pytest.MonkeyPatch) -> None:
    _losses(patch, lambda plain, logits, wanted, chunk: plain(logits.roll(1, 0), wanted, chunk))


def padding_ids_not_scored(patch: pytest.MonkeyPatch) -> None:
    def skip(plain: Any, logits: Any, wanted: Any, chunk: int) -> Any:
        return plain(logits, wanted, chunk).masked_fill(wanted == 0, 0)

    _losses(patch, skip)


def batches_that_disturb_each_other(patch: pytest.MonkeyPatch) -> None:
    plain = fast.losses_if_they_fit

    def disturbed(*given: Any) -> Any:
        losses = plain(*given)
        return losses if threading.current_thread() is threading.main_thread() else losses * 1.001

    patch.setattr(fast, "losses_if_they_fit", disturbed)


def rows_in_the_order_of_their_batches(patch: pytest.MonkeyPatch) -> None:
    plain = fast.fast

    def misplaced(loaded: Any, rows: Any, *more: Any, **named: Any) -> Any:
        scored = plain(loaded, rows, *more, **named)
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        return replace(scored, nlls=[scored.nlls[index] for index in order])

    patch.setattr(model_under_test, "fast", misplaced)


def an_adapter_that_stays(patch: pytest.MonkeyPatch) -> None:
    """Every model is loaded with the last adapter that was seen."""
    from harness.models import loading, pool

    plain, seen = loading.load, []

    def load(spec: Any, folder: Any, adapter: Any, *more: Any) -> LoadedModel:
        if adapter is not None:
            seen.append(plain(spec, folder, adapter, *more).model)
        loaded = plain(spec, folder, None, *more)
        return replace(loaded, model=seen[-1]) if seen else loaded

    patch.setattr(pool, "load", load)


@pytest.mark.parametrize(
    ("broken", "noticed"),
    [
        (positions_from_zero, "prefix_shared_or_not"),
        (two_eos, "ends_with_one_scored_eos"),
        (no_eos, "ends_with_one_scored_eos"),
        (two_prefix_tokens, "begins_with_one_prefix_token"),
        (no_prefix_token, "begins_with_one_prefix_token"),
        (special_tokens_from_text, "special_tokens_spelled_in_a_row"),
        (one_position_off, "float64"),
        (padding_ids_not_scored, "padding_id_in_an_answer"),
        (rows_in_the_order_of_their_batches, "shuffled_rows"),
        (batches_that_disturb_each_other, "one_core_or_several"),
        (an_adapter_that_stays, "adapter_on_then_off"),
    ],
)
def test_a_broken_rule_is_noticed(
    broken: Break, noticed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    assert failing(tmp_path, checks=[noticed])


def test_a_cache_that_batches_write_into_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_into_the_shared_cache(monkeypatch)
    assert failing(tmp_path, "mistral-sliding-window", ["prefix_shared_or_not"])


def test_positions_that_count_the_padding_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learned positions show it; rotary ones, which are relative, cannot."""
    no_positions_for_padded_rows(monkeypatch)
    assert failing(tmp_path, "gpt2-learned-positions") == {"padding_right_or_left"}
