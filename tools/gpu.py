"""What only a GPU can settle, measured there and written down: ``make gpu``.

Every part runs in a process of its own, within a limit of seconds, the most important first. A part
that fails is said in the page, and the others go on.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QWEN3_4B = {
    "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
}  # fmt: skip
TINY = {
    "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 4096,
}  # fmt: skip
HEAD = """# On a GPU

`make gpu` wrote this page on the machine that it names. The model has Qwen3-4B's shape and random
weights, so nothing was downloaded; its perplexities mean nothing, its seconds do.
"""


@dataclass(frozen=True)
class Part:
    """Something to measure.

    Attributes:
        title: what the page calls it.
        arguments: of ``python -m pytest``.
        limit: seconds, after which it is stopped.
        result: reads what is worth telling, once it has ended well; without it, the last line of
            its output is told.
    """

    title: str
    arguments: tuple[str, ...]
    limit: float
    result: Callable[[], str] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a part ended: its exit status, None where it was stopped, and what is to be told."""

    part: Part
    status: int | None
    seconds: float
    text: str


def parts(model: Path, small: Path, folder: Path, device: str = "cuda") -> list[Part]:
    """What is measured, the most important first.

    Args:
        model: a checkpoint of a real shape.
        small: a tiny one of the same family.
        folder: where results go.
        device: of the models.
    """
    speed = ("suites/test_speed.py", "--strategy=zeroshot,fewshot", f"--model={model}")
    on = f"--device={device}"
    sweep = (
        "suites/", "--strategy=zeroshot,qlora", "--seeds=0,1,2", "--limit=64", f"--model={model}",
        "--set", "qlora.max_steps=20", on,
    )  # fmt: skip

    def told(name: str) -> Callable[[], str]:
        return lambda: (folder / name / "speed.md").read_text("utf-8")

    def cells(name: str) -> Callable[[], str]:
        return lambda: seconds_of(folder / name)

    return [
        Part("Tests that need a GPU", ("-m", "gpu", "tests"), 180),
        Part(
            "Conformance, float32 and NF4",
            ("suites/test_conformance.py", f"--model={small}", "--quant=none,nf4",
             "--dtype=float32", on),
            120,
        ),
        Part(
            "Scoring and writing, bfloat16",
            (*speed, "--k=1,5,10", "--limit=120", f"--results-dir={folder / 'bf16'}", on),
            300,
            told("bf16"),
        ),
        Part(
            "Scoring and writing, NF4",
            (*speed, "--quant=nf4", "--k=5", "--limit=60", f"--results-dir={folder / 'nf4'}", on),
            200,
            told("nf4"),
        ),
        Part(
            "A sweep with three training runs, one after the other",
            (*sweep, f"--results-dir={folder / 'separate'}"),
            300,
            cells("separate"),
        ),
        Part(
            "The same, trained together",
            (*sweep, "--set", "qlora.together=3", f"--results-dir={folder / 'together'}"),
            300,
            cells("together"),
        ),
    ]  # fmt: skip


def seconds_of(results: Path) -> str:
    """A table of what the cells and training runs of a results directory took."""
    import json

    content = json.loads((results / "summary.json").read_text("utf-8"))
    lines = ["| cell | seconds | its training | peak memory |", "| --- | --: | --: | --: |"]
    for cell in content["cells"]:
        body = json.loads((results / cell["file"]).read_text("utf-8"))
        training, peak = body.get("training") or {}, body.get("peak_memory_bytes")
        took = f"{training['seconds']:.1f}" if "seconds" in training else "–"
        memory = "–" if peak is None else f"{peak / 1e9:.1f} GB"
        lines.append(f"| {cell['id']} | {body['seconds']:.1f} | {took} | {memory} |")
    return "\n".join(lines)


def measure(wanted: Sequence[Part]) -> list[Outcome]:
    """Run every part, whatever became of those before it."""
    return [_run(part) for part in wanted]


def _run(part: Part) -> Outcome:
    print(f"{part.title} ...", flush=True)
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *part.arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=part.limit, check=False
        )
    except subprocess.TimeoutExpired:
        return Outcome(part, None, part.limit, f"stopped after {part.limit:.0f} seconds")
    took = time.monotonic() - began
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    text = said[-1] if said else "said nothing"
    if done.returncode == 0 and part.result is not None:
        try:
            text = part.result()
        except (OSError, ValueError, KeyError) as error:
            return Outcome(part, done.returncode, took, f"its result cannot be read: {error}")
    return Outcome(part, done.returncode, took, text)


def page(machine: str, outcomes: Sequence[Outcome]) -> str:
    """The page, in Markdown.

    Args:
        machine: what it was measured on, in a sentence.
        outcomes: in the order in which they are told.
    """
    found = [HEAD, machine + "\n"]
    for one in outcomes:
        state = "stopped" if one.status is None else f"exit status {one.status}"
        ended = "" if one.status == 0 else f", **{state}**"
        found.append(f"## {one.part.title}\n\n{one.seconds:.0f} seconds{ended}.\n\n{_lower(one)}\n")
    return "\n".join(found)


def _lower(one: Outcome) -> str:
    """What is told of a part, its headings below the page's own."""
    lines = one.text.strip().splitlines()
    return "\n".join(f"##{line}" if line.startswith("# ") else line for line in lines)


def write_model(folder: Path, shape: dict[str, int], device: str) -> Path:
    """Write a random Qwen3 of a shape, in bfloat16, with a tokenizer of one token a byte."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from harness.conformance.tiny_models import make_tokenizer

    torch.manual_seed(0)
    config = Qwen3Config(tie_word_embeddings=True, max_position_embeddings=32768, **shape)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = Qwen3ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    make_tokenizer(bos=False).save_pretrained(folder)
    return folder


def machine() -> str:
    """The GPU and the libraries, in a sentence."""
    from harness.models.fingerprint import hardware, version

    found: dict[str, Any] = dict(hardware("cuda"))
    names = ("torch", "transformers", "peft", "bitsandbytes", "lm-eval")
    libraries = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{found['gpu']}, driver {_driver()}, {found['cores']} CPU cores; {libraries}."


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip().splitlines()[0]


def main(arguments: Sequence[str]) -> int:
    """Measure, and write the page that is named."""
    import torch

    (path,) = arguments
    if not torch.cuda.is_available():
        print(f"No CUDA device here: {path} stays as it is.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_model(folder / "qwen3-4b", QWEN3_4B, "cuda")
        small = write_model(folder / "qwen3-tiny", TINY, "cuda")
        torch.cuda.empty_cache()
        outcomes = measure(parts(model, small, folder))
    Path(path).write_text(page(machine(), outcomes), "utf-8")
    failed = [one.part.title for one in outcomes if one.status != 0]
    print(f"{path} is written" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
