"""How large a model is, by its configuration and the headers of its files: without its weights.

What a forward computes follows from few numbers: 2 FLOPs for each weight of a linear layer and
token, 4 · heads · head size for each query and each key that it sees, and the head on the positions
whose logits are wanted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from harness.errors import ModelError, one_line
from harness.models.checkpoint import model_files, read_header
from harness.models.sources import HUB_FILES, Source

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "lm_head", "embed_out")
SCALES = {True: 0.13 / 8, False: 0.5 / 8}  # bytes of a 4-bit weight's scales, quantized or not


@dataclass(frozen=True)
class Shape:
    """What of a model determines its cost.

    Attributes:
        layers: of the decoder.
        hidden: size of a token's state.
        attention: heads · head size, of queries.
        keys: key heads · head size.
        vocabulary: of the head.
        linear: weights of linear layers that a token goes through, the head left out.
        stored: weights of linear layers that there are; more than ``linear`` where a token goes
            through some of the experts only.
        embedded: weights of the embedding, and of the head where it has its own.
        file: bytes of the files of its weights; None where they are not here.
        same: whether the files hold float32.
    """

    layers: int
    hidden: int
    attention: int
    keys: int
    vocabulary: int
    linear: float
    stored: float
    embedded: float
    file: int | None = None
    same: bool = False

    @property
    def head(self) -> float:
        """FLOPs of one position's logits."""
        return 2.0 * self.hidden * self.vocabulary

    @property
    def pair(self) -> float:
        """FLOPs of one query and one key that it sees, in all layers."""
        return 4.0 * self.layers * self.attention

    @property
    def token(self) -> float:
        """FLOPs of one token in all linear layers."""
        return 2.0 * self.linear

    def kept(self, dtype: str) -> float:
        """Bytes of one token's keys and values, in all layers."""
        return 2.0 * self.layers * self.keys * BYTES.get(dtype, 4)

    def weights(self, quantization: str, dtype: str, double_quant: bool = True) -> float:
        """Bytes of the weights as they are loaded."""
        each = BYTES.get(dtype, 4)
        of_linear = {
            "nf4": 0.5 + SCALES[double_quant],
            "fp4": 0.5 + SCALES[double_quant],
            "int8": 1.0,
        }.get(quantization, each)
        return self.embedded * each + self.stored * of_linear


@dataclass(frozen=True)
class Usual:
    """What the work of one way usually looks like.

    Attributes:
        folder: with the model's configuration.
        shape: of the model.
        tokens: of a batch.
        width: tokens of a row, without what is shared.
        before: shared tokens before it.
    """

    folder: Path
    shape: Shape
    tokens: float
    width: float
    before: float


def read_shape(where: str, folder: Path) -> Shape:
    """The shape of the model in a folder, whose weights may be missing.

    Args:
        where: what a line about it begins with: ``--model=NAME``.
        folder: with ``config.json``, and the files of the weights if they are here.

    Raises:
        ModelError: the configuration cannot be read, or lacks what every decoder has.
    """
    try:
        whole = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = _text(whole)
        found = _of_config(config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{where}: its config.json says too little of its size: {error}") from None
    return _of_files(where, folder, config, found)


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part that describes the decoder, where a model has other parts too."""
    for name in ("text_config", "llm_config"):
        if isinstance(config.get(name), dict):
            return {**config, **config[name]}
    return config


def _first(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        if config.get(name):
            return int(config[name])
    raise KeyError(names[0])


def _of_config(config: Mapping[str, Any]) -> Shape:
    hidden = _first(config, "hidden_size", "n_embd", "d_model")
    layers = _first(config, "num_hidden_layers", "n_layer", "num_layers")
    vocabulary = _first(config, "vocab_size")
    heads = int(config.get("num_attention_heads") or config.get("n_head") or 0)
    size = int(config.get("head_dim") or (hidden // heads if heads else 0))
    key_heads = int(config.get("num_key_value_heads") or heads)
    inner = int(config.get("intermediate_size") or config.get("n_inner") or 4 * hidden)
    gated = 3 if "silu" in str(config.get("hidden_act", "")) else 2
    linear = layers * hidden * (2.0 * (heads + key_heads) * size + gated * inner)
    tied = bool(config.get("tie_word_embeddings", True))
    embedded = float(vocabulary * hidden * (1 if tied else 2))
    return Shape(
        layers, hidden, heads * size, key_heads * size, vocabulary, linear, linear, embedded
    )


def _of_files(where: str, folder: Path, config: Mapping[str, Any], shape: Shape) -> Shape:
    """The same with the numbers of weights that the headers give, where the files are here."""
    files = model_files(folder)
    if not files:
        return shape
    linear = experts = embedded = 0.0
    types: set[str] = set()
    for path in files:
        for name, entry in read_header(where, path).items():
            size, dimensions = float(prod(entry["shape"])), len(entry["shape"])
            types.add(str(entry["dtype"]))
            if any(part in name for part in EMBEDDINGS):
                embedded += size
            elif ".experts." in name:
                experts += size
            elif dimensions > 1:
                linear += size
    if not types <= {"F64", "F32", "F16", "BF16"}:  # codes: several weights to a number
        return shape
    used = config.get("num_experts_per_tok") or config.get("num_experts_per_token") or 1
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    there = next((config[name] for name in names if config.get(name)), used)
    return Shape(
        shape.layers,
        shape.hidden,
        shape.attention,
        shape.keys,
        shape.vocabulary,
        linear + experts * used / max(there, used),
        linear + experts,
        embedded or shape.embedded,
        sum(path.stat().st_size for path in files),
        types == {"F32"},
    )


def small_folder(source: Source, whole: Callable[[], Path]) -> Path:
    """A folder with a model's configuration and tokenizer; nothing large is fetched from a hub.

    Args:
        source: of the model.
        whole: the folder with all of its files, where that is no hub's.

    Raises:
        ModelError: they cannot be had.
    """
    if source.kind != "hub":
        return whole()
    from huggingface_hub import snapshot_download

    # The commit that stands for the model's bytes: asked for once, and then known.
    commit = source.digest.rpartition("-")[2]
    small = [pattern for pattern in HUB_FILES if "safetensors" not in pattern]
    try:
        return Path(snapshot_download(source.reference, revision=commit, allow_patterns=small))
    except Exception as error:  # the hub client lets its HTTP library's errors through
        raise ModelError(f"--model={source.reference}: {one_line(error, 120)}") from None
