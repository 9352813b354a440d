"""What the speed suite counts, against torch's own counter and brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.conformance.tiny_models import FAMILIES, make
from harness.models.encoding import Encoded
from harness.models.kernels import TORCH, default_kernels, use_exact_kernels
from harness.models.loading import load
from harness.scoring.batches import unique_tokens
from harness.scoring.score import reference
from harness.speed.operations import FlopMeter, gemm_rate
from tests.builders.scoring import QUIET, encode, spec


@pytest.mark.parametrize(
    "name", ["llama-grouped-query", "gpt2-learned-positions", "llama-tied-head"]
)
def test_flops_are_those_that_torch_counts(name: str, tmp_path: Path) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    loaded = load(spec(name), make(FAMILIES[name], tmp_path / "m"), None)
    ids = torch.randint(0, 200, (3, 21))
    loaded.model.set_attn_implementation("eager")  # whose products torch can see
    with FlopCounterMode(display=False) as counted, torch.inference_mode():
        loaded.model(input_ids=ids)
    meter = FlopMeter(loaded.model)
    with meter.counting(), torch.inference_mode():
        loaded.model(input_ids=ids)
    # torch counts every pair of query and key, also those that causality leaves out.
    config = loaded.model.config
    unseen = 21 * 20 // 2
    heads = config.num_hidden_layers * config.num_attention_heads
    size = config.hidden_size // config.num_attention_heads
    unseen *= 4 * heads * size * len(ids)
    assert meter.flops == counted.get_total_flops() - unseen


def test_a_shared_prefix_saves_what_the_meter_says(tmp_path: Path) -> None:
    from harness.scoring.fast import fast

    loaded = load(spec(), make(FAMILIES["llama"], tmp_path / "m"), None)
    rows = encode(loaded.encoder)
    fast(loaded, rows, QUIET)  # checks the prefix on a row
    counts = []
    for score in (fast, reference):
        meter = FlopMeter(loaded.model)
        with meter.counting():
            score(loaded, rows, QUIET)
        counts.append(meter.flops)
    assert counts[0] < 0.8 * counts[1]


def test_unique_tokens() -> None:
    prompt: Any = None
    rows = [
        Encoded(prompt, context, answer)
        for context, answer in (
            ((1, 2, 3), (4, 9)),
            ((1, 2, 3), (5, 9)),
            ((1, 2), (3, 4, 9)),
            ((7,), (2, 3)),
            ((1, 2, 3), (4, 9)),
        )
    ]
    prefixes = {row.ids[:end] for row in rows for end in range(1, len(row) + 1)}
    assert unique_tokens(rows) == len(prefixes)


def test_the_rate_of_the_machine_is_one() -> None:
    import torch

    assert 1e9 < gemm_rate(torch.device("cpu"), torch.float32) < 1e15


def test_default_kernels_are_put_back() -> None:
    import torch

    if use_exact_kernels() == TORCH:
        pytest.skip("this machine has no faster exact kernels")
    matmul = torch.backends.mkldnn.matmul
    assert matmul.fp32_precision == "bf16"
    with default_kernels():
        assert matmul.fp32_precision == "none"
    assert matmul.fp32_precision == "bf16"
