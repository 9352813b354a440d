"""The conformance suite notices every rule of writing that is broken."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.conformance.generation_rules import GENERATION_CHECKS
from harness.conformance.model_under_test import tiny
from harness.errors import ConformanceError, NotApplicableError
from harness.generation import alone, caches, engine, forward, sampling, stops, ways


def failing(folder: Path, name: str, checks: Iterable[str] = GENERATION_CHECKS) -> set[str]:
    """Which of these checks a tiny model of the family fails."""
    model, failed = tiny(name, folder / name), set()
    for check in checks:
        try:
            GENERATION_CHECKS[check](model)
        except ConformanceError:
            failed.add(check)
        except NotApplicableError:
            continue
    return failed


@pytest.mark.parametrize("family", ["llama-grouped-query", "falcon-h1-hybrid"])
def test_what_is_not_broken_passes(family: str, tmp_path: Path) -> None:
    assert not failing(tmp_path, family)


def unchecked_ways(patch: pytest.MonkeyPatch) -> None:
    """Whatever is tried counts as right; only then do mistakes get as far as the rules."""
    patch.setattr(ways, "_difference", lambda *arguments: 0.0)


def padding_is_seen(patch: pytest.MonkeyPatch) -> None:
    unchecked_ways(patch)
    made = caches.Layout.__post_init__

    def visible(self: Any) -> None:
        made(self)
        self.padding.zero_()

    patch.setattr(caches.Layout, "__post_init__", visible)


def positions_of_the_longest_row(patch: pytest.MonkeyPatch) -> None:
    unchecked_ways(patch)
    step = forward.Wave.step

    def shifted(self: Any, tokens: Any) -> Any:
        lengths = self.layout.lengths
        self.layout.lengths = [max(lengths)] * len(lengths)
        try:
            return step(self, tokens)
        finally:
            self.layout.lengths = lengths

    patch.setattr(forward.Wave, "step", shifted)


def noise_of_the_place_in_the_batch(patch: pytest.MonkeyPatch) -> None:
    gumbel = sampling.gumbel
    patch.setattr(sampling, "gumbel", lambda keys, tokens: gumbel(list(range(len(keys))), tokens))


def configuration_is_left_in(patch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    patch.setattr(alone, "neutral", lambda model: nullcontext())


def stop_strings_also_in_what_stands_before(patch: pytest.MonkeyPatch) -> None:
    find = stops.Stops.find
    patch.setattr(stops.Stops, "find", lambda self, tokens: find(self, [*b"##", *tokens]))
    patch.setattr(stops.Stops, "cut", lambda self, tokens: self.text(tokens))


def rows_leave_in_the_wrong_order(patch: pytest.MonkeyPatch) -> None:
    keep = engine.Wave.keep
    patch.setattr(engine.Wave, "keep", lambda self, rows: keep(self, rows.flip(0)))


BATCH = {"writing_one_row_or_many", "writing_with_an_adapter_then_without"}


@pytest.mark.parametrize(
    ("breaking", "family", "expected"),
    [
        (padding_is_seen, "llama-grouped-query", {*BATCH, "writing_with_padding"}),
        (positions_of_the_longest_row, "llama-grouped-query", {*BATCH, "writing_with_padding"}),
        (noise_of_the_place_in_the_batch, "llama-grouped-query", BATCH),
        (configuration_is_left_in, "falcon-h1-hybrid", {"writing_with_a_poisoned_configuration"}),
        (
            stop_strings_also_in_what_stands_before,
            "llama-grouped-query",
            {"writing_up_to_a_stop_string"},
        ),
        (rows_leave_in_the_wrong_order, "llama-grouped-query", {"writing_as_transformers_does"}),
    ],
)
def test_a_broken_rule_is_noticed(
    breaking: Any, family: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(monkeypatch)
    assert failing(tmp_path, family, expected) == expected
