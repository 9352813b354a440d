"""GGUF files: the numbers are those of the weights in the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.conformance.tiny_models import Family, make
from harness.core import ModelSpec
from harness.errors import AdaptbenchError, ModelError, OptionError
from harness.files import CACHE_VARIABLE
from harness.models.loading import load_base
from harness.models.sources import Source, parse_source

# Names of a Qwen2's tensors in a GGUF file, by llama.cpp's convention; no tensor is permuted.
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(path: Path, model: Path, leave_out: str = "-") -> Path:
    """Write a tiny Qwen2 as llama.cpp's converter would, without quantization."""
    import gguf

    weights = load_file(model / "model.safetensors")
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(2)
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(weights["model.embed_tokens.weight"]))
    alphabet = _alphabet()
    tokens = [*alphabet, alphabet[0] + alphabet[1]]  # a list of merges may not be empty
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*tokens, "<|begin|>", "<|end|>"])
    writer.add_token_types([1] * len(tokens) + [3, 3])
    writer.add_token_merges([f"{alphabet[0]} {alphabet[1]}"])
    writer.add_bos_token_id(len(tokens))
    writer.add_eos_token_id(len(tokens) + 1)
    for name, tensor in weights.items():
        there = _renamed(name)
        if leave_out not in there:
            writer.add_tensor(there, tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _alphabet() -> list[str]:
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _renamed(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name.replace("model.layers.", "blk.")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shape = {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 259,
    }
    return make(Family("Qwen2Config", shape), tmp_path / "qwen2")


def test_a_gguf_file_is_the_model_in_it(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path = write_gguf(tmp_path / "tiny.gguf", model)
    source = parse_source(str(path))
    assert (source.kind, source.name) == ("gguf", "tiny")
    folder = source.folder()
    assert source.folder() == folder
    ids = torch.tensor([[5, 80, 140, 33, 7]])
    with torch.inference_mode():
        found, wanted = (
            load_base(ModelSpec("m", "d"), place).eval()(input_ids=ids).logits
            for place in (folder, model)
        )
    assert torch.allclose(found, wanted, atol=1e-5)
    moved = tmp_path / "moved.gguf"
    path.rename(moved)
    assert parse_source(str(moved)).digest.startswith("gguf-")


def test_a_gguf_file_that_lacks_tensors_is_refused(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path = write_gguf(tmp_path / "tiny.gguf", model, leave_out="blk.1.ffn_up")
    with pytest.raises(ModelError, match="not in the file") as caught:
        parse_source(str(path)).folder()
    assert "\n" not in str(caught.value)
    left = [one.name for one in (tmp_path / "cache" / "models").iterdir()]
    assert all(name.endswith(".lock") for name in left)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("page.gguf", b"<html>", "is no GGUF file"),
        ("pointer.gguf", b"version https://git-lfs.github.com/spec/v1", "is a git-lfs pointer"),
        ("m-00001-of-00002.gguf", b"GGUF\x03\x00\x00\x00", "is one part of several"),
        ("gone.gguf", None, "no such file"),
    ],
)
def test_what_is_no_whole_gguf_file_is_named(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((ModelError, OptionError), match=says):
        parse_source(str(tmp_path / name))


def test_a_damaged_gguf_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "short.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(40))
    with pytest.raises(AdaptbenchError) as caught:
        Source("gguf", str(path)).folder()
    assert "short.gguf: could not be converted" in str(caught.value)
    assert "\n" not in str(caught.value)
