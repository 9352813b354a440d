"""End to end on the real small model and the shipped rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.config.flags import SHIPPED
from harness.errors import ModelError
from harness.models.embedded import SMOLLM2, fetch
from tests.builders import ROOT

pytestmark = pytest.mark.real
LIMIT = 3


@pytest.fixture(scope="module")
def model() -> Path:
    try:
        return fetch(SMOLLM2)
    except ModelError as error:
        pytest.skip(f"the embedded model cannot be had here: {error}")


@pytest.fixture(scope="module")
def results(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    command = [
        sys.executable, "-m", "pytest", "suites/", "-p", "no:cacheprovider",
        "--strategy=zeroshot,fewshot", "--k=2", "--select=random,bidirectional", "--seeds=1",
        f"--limit={LIMIT}", f"--results-dir={folder}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def cells(results: Path) -> dict[str, Any]:
    content = json.loads((results / "summary.json").read_text("utf-8"))
    return {
        cell["id"]: json.loads((results / cell["file"]).read_text("utf-8"))
        for cell in content["cells"]
    }


def test_every_row_equals_an_independent_computation(results: Path, model: Path) -> None:
    """From the raw files, with transformers alone: no line of the harness takes part."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64).eval()
    rows = {
        row["id"]: row
        for name in ("public_test.json", "train.json")
        for row in json.loads((SHIPPED / name).read_text("utf-8"))
    }

    def tokens(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    found = cells(results)
    assert len(found) == 1 + 2
    for body in found.values():
        assert len(body["scores"]) == LIMIT
        for score in body["scores"][:1]:
            shown = [rows[name] for name in score["demo_ids"]]
            context = "".join(f"{d['instruction']}\n{d['output']}\n\n" for d in shown)
            context += rows[score["id"]]["instruction"] + "\n"
            answer = [*tokens(rows[score["id"]]["output"]), tokenizer.eos_token_id]
            ids = torch.tensor([[tokenizer.bos_token_id, *tokens(context), *answer]])
            with torch.no_grad():
                kept = network(ids, logits_to_keep=len(answer) + 1).logits[0, :-1]
            picked = kept.log_softmax(-1).gather(1, ids[0, -len(answer) :, None])
            assert score["n_tokens"] == len(answer)
            assert score["nll"] == pytest.approx(-picked.sum().item(), rel=3e-6)


def test_perplexity_is_that_of_a_language_model_that_knows_some_chinese(results: Path) -> None:
    content = json.loads((results / "summary.json").read_text("utf-8"))
    (zeroshot,) = (group for group in content["groups"] if group["label"] == "zeroshot")
    # A uniform guess over the vocabulary has 49,152; a broken layout has hundreds.
    assert 5 < zeroshot["mean"] < 60
    assert 2 < zeroshot["bits_per_byte"] < 4


def test_a_short_nf4_training_helps(model: Path, tmp_path: Path) -> None:
    from harness.core import ModelSpec, TrainingSettings, TrainingSpec
    from harness.data.rows import load_rows
    from harness.models.loading import load
    from harness.prompts.files import load_template
    from harness.prompts.rendering import render
    from harness.scoring.score import score
    from harness.training.cache import train_once
    from tests.builders import cells

    spec = ModelSpec("smollm2-135m", SMOLLM2.digest, quantization="nf4")
    template = load_template("plain")
    examples = load_rows(SHIPPED / "public_test.json")[:4]
    # Adam's steps are as long after two rows as after four.
    settings = TrainingSettings(
        max_steps=6, per_device_train_batch_size=2, gradient_accumulation_steps=1
    )
    training = TrainingSpec(tuple(load_rows(SHIPPED / "train.json")[:32]), settings)

    def perplexity(adapter: Path | None) -> float:
        loaded = load(spec, model, adapter)
        rows = [loaded.encoder.encode(render(template, example)) for example in examples]
        scores, _ = score(loaded, rows, "fast", lambda done: None)
        return cells.perplexity(scores, "geometric_mean_perplexity")

    before = perplexity(None)
    adapter = train_once(tmp_path / "a", spec, model, template, training, lambda *args: None)
    after = perplexity(adapter)
    assert after < 0.75 * before
    assert perplexity(None) == before  # bit for bit
