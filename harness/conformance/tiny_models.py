"""Tiny models with random weights, one of every family that scoring knows.

They are checkpoints like any other (safetensors, a tokenizer of one token a byte) and take a tenth
of a second to make. Their weights are spread out, so that a wrong position, a missing token or a
key of another row shows in the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core import Quantization
from harness.models.loading import quiet
from harness.records import COPIED, IN_PLACE, NONE

WINDOW = 16  # tokens of a sliding window: shorter than what the rows of the tests share


@dataclass(frozen=True)
class Family:
    """How to make a tiny model of one family.

    Attributes:
        config: name of the configuration class in transformers.
        settings: what differs from ``SHAPE``.
        sharing: how its rows share a prefix on a CPU.
        bos: whether its tokenizer has a BOS.
        quantization: how its base is loaded.
    """

    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    sharing: str = IN_PLACE
    bos: bool = True
    quantization: Quantization = "none"


SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
}
LINEAR_ATTENTION = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaConfig", {"num_key_value_heads": 4}),
    "llama-grouped-query": Family("LlamaConfig"),
    "llama-tied-head": Family("LlamaConfig", {"tie_word_embeddings": True}),
    "llama-no-bos": Family("LlamaConfig", bos=False),
    "llama-nf4": Family("LlamaConfig", quantization="nf4"),
    "qwen2": Family("Qwen2Config", bos=False),
    "qwen3": Family("Qwen3Config", {"head_dim": 8}, bos=False),
    "phi3": Family("Phi3Config"),
    "phi3-long-rope": Family(
        "Phi3Config",
        {
            "original_max_position_embeddings": 120,  # between the tests' short and long rows
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10_000.0,
                "short_factor": [1.0, 1.0, 1.5, 2.0],
                "long_factor": [1.0, 2.0, 4.0, 8.0],
                "original_max_position_embeddings": 120,
            },
        },
        sharing=NONE,
    ),
    "granite-scaled-logits": Family("GraniteConfig", {"logits_scaling": 3.0}),
    "cohere-scaled-logits": Family("CohereConfig", {"logit_scale": 0.3}),
    "gpt2-learned-positions": Family("GPT2Config"),
    "gpt-neox": Family("GPTNeoXConfig"),
    "bloom-alibi": Family("BloomConfig", sharing=COPIED),
    "mistral-sliding-window": Family("MistralConfig", {"sliding_window": WINDOW}, sharing=COPIED),
    "mistral-wide-window": Family("MistralConfig", {"sliding_window": 1024}),
    "gemma2-soft-capping": Family(
        "Gemma2Config",
        {"head_dim": 8, "sliding_window": WINDOW, "final_logit_softcapping": 3.0},
        sharing=COPIED,
    ),
    "gemma3-sliding-window": Family(
        "Gemma3TextConfig",
        {
            "head_dim": 8,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "gpt-oss-sinks": Family(
        "GptOssConfig",
        {"head_dim": 8, "sliding_window": WINDOW, "num_local_experts": 4},
        sharing=COPIED,
    ),
    "mixtral-experts": Family("MixtralConfig", {"num_local_experts": 4}),
    "qwen3-moe": Family("Qwen3MoeConfig", {"head_dim": 8, **EXPERTS}),
    "qwen3-next-linear-attention": Family(
        "Qwen3NextConfig",
        {
            "head_dim": 8,
            "layer_types": ["linear_attention", "full_attention"],
            "shared_expert_intermediate_size": 16,
            **LINEAR_ATTENTION,
            **EXPERTS,
        },
    ),
    "lfm2-convolution": Family("Lfm2Config", {"layer_types": ["conv", "full_attention"]}),
    "falcon-h1-hybrid": Family(
        "FalconH1Config",
        {"head_dim": 8, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8},
        sharing=NONE,
    ),
    "mamba2-state-space": Family(
        "Mamba2Config",
        {
            "num_heads": 8,
            "head_dim": 8,
            "state_size": 8,
            "n_groups": 2,
            "num_attention_heads": None,
        },
        sharing=NONE,
    ),
    "deepseek-v3-latent-attention": Family(
        "DeepseekV3Config",
        {
            "kv_lora_rank": 16,
            "q_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 12,
            "n_routed_experts": 4,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "num_key_value_heads": 4,
            **EXPERTS,
        },
        sharing=COPIED,
    ),
}


def make(family: Family, folder: Path, seed: int = 0) -> Path:
    """Write a tiny checkpoint of the family into ``folder`` and return it.

    Raises:
        LookupError: this version of transformers does not know the family.
    """
    import torch
    import transformers

    config_class = getattr(transformers, family.config, None)
    if config_class is None:
        raise LookupError(f"transformers {transformers.__version__} has no {family.config}")
    tokenizer = make_tokenizer(family.bos)
    settings = {
        **SHAPE,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.eos_token_id,
        **family.settings,
    }
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(
        config_class(**settings), dtype=torch.float32
    )
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith(("bias", "sinks")):  # fresh ones are zero, and would hide mistakes
                weights.normal_(std=0.3)
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer(bos: bool = True) -> Any:
    """A tokenizer of one token a byte, with an EOS, a chat template and perhaps a BOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate(alphabet)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = {"eos_token": "<|end|>", "pad_token": "<|end|>"}
    if bos:
        special["bos_token"] = "<|begin|>"  # noqa: S105 (no password)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
        "{{ eos_token }}{% endfor %}<assistant>"
    )
    return tokenizer
