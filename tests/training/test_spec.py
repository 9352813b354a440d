"""Training runs as they are done for one model, and which rows choose its checkpoint."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from harness.config.options import Options, parse_options
from harness.core import Example, TrainingSettings, TrainingSpec
from harness.errors import DataError, OptionError
from harness.run.plan import Plan, make_plan
from harness.training.spec import EVERY_FIFTH, held_out_rows, training_spec
from tests.builders.tasks import Files, row

POOL = tuple(Example(**row(i, 5, "train")) for i in range(40))


def test_the_flag_wins_over_the_settings() -> None:
    training = TrainingSpec(POOL, TrainingSettings(r=64, seed=3, quantization="int8"))
    assert training_spec(training, Options(), None) == training
    asked = training_spec(training, Options(), "fp4").settings
    assert asked == TrainingSettings(r=64, seed=3, quantization="fp4")


def test_choosing_a_checkpoint_needs_evaluations() -> None:
    training = TrainingSpec(POOL)
    for where in ("test", "holdout"):
        chosen = training_spec(training, Options(select_on=where), None).settings
        assert chosen.eval_steps == EVERY_FIFTH
    often = TrainingSpec(POOL, TrainingSettings(eval_steps=7.0))
    assert training_spec(often, Options(select_on="test"), None).settings.eval_steps == 7
    assert training_spec(training, Options(), None).settings.eval_steps is None


def test_held_out_rows_depend_on_their_ids_alone() -> None:
    held = held_out_rows(POOL, 6)
    assert len(held) == 6
    shuffled = random.Random(1).sample(POOL, len(POOL))
    assert set(held_out_rows(shuffled, 6)) == set(held)
    assert set(held_out_rows(POOL, 4)) < set(held)
    assert len(held_out_rows(POOL, 64)) == 8  # a fifth
    assert len(held_out_rows(POOL[:3], 64)) == 1


def plan(files: Files, tiny_model: Path, **flags: Any) -> Plan:
    given = {"model": str(tiny_model), "data": str(files.test), "train_data": str(files.train)}
    return make_plan(parse_options(given | {"strategy": "qlora", "quant": "none"} | flags))


def test_rows_are_held_out_before_others_are_chosen(files: Files, tiny_model: Path) -> None:
    """So that as many are trained on as were asked for, and none of them chooses."""
    chosen = plan(
        files, tiny_model, select_on="holdout", set=["subset.top=10", "curriculum.levels=2"]
    )
    holdouts = set()
    for case in chosen.cases:
        training = case.training
        assert training is not None
        held = {example.id for example in training.holdout}
        trained = {example.id for example in training.examples}
        assert (len(held), len(trained)) == (2, 10)
        assert not held & trained
        assert {e.id for stage in training.stages for e in stage.examples} == trained
        assert training.settings.seed == case.seed
        holdouts.add(frozenset(held))
    assert len(holdouts) == 1  # the same for every seed
    said = r"subset\.top=11: the training pool has only 10 rows.*with 2 of 12 rows held out"
    with pytest.raises(OptionError, match=said):
        plan(files, tiny_model, select_on="holdout", set=["subset.top=11"])


def test_a_case_is_scored_in_every_way_that_was_asked_for(files: Files, tiny_model: Path) -> None:
    both = plan(files, tiny_model, strategy="zeroshot,qlora", score_as="trained,merged", seeds="0")
    labels = [(case.label, case.score_as) for case in both.cases]
    assert labels == [("zeroshot", "trained"), ("qlora", "trained"), ("qlora-merged", "merged")]
    assert len({case.id for case in both.cases}) == 3


def test_leaks_are_trained_on_if_the_user_insists_and_never_shown(
    files: Files, tiny_model: Path
) -> None:
    rows = json.loads(files.train.read_text("utf-8"))
    leak = json.loads(files.test.read_text("utf-8"))[0] | {"id": "leak"}
    files.train.write_text(json.dumps([*rows, leak], ensure_ascii=False), encoding="utf-8")
    with pytest.raises(DataError, match="training row 'leak' is row 'test-000'"):
        plan(files, tiny_model)
    asked = {"strategy": "fewshot,qlora", "k": "12", "allow_leakage": True}
    shown, trained = plan(files, tiny_model, seeds="0", **asked).cases
    assert "leak" not in {example.id for example in shown.adaptation.demonstrations}
    assert trained.training is not None
    assert "leak" in {example.id for example in trained.training.examples}


def test_a_model_is_loaded_alike_with_and_without_training(files: Files, tiny_model: Path) -> None:
    setting = f'for."{tiny_model}".qlora.bnb_4bit_use_double_quant=false'
    both = plan(files, tiny_model, strategy="zeroshot,qlora", quant="nf4", set=[setting])
    assert {case.settings.bnb_4bit_use_double_quant for case in both.cases} == {False}
