"""Is what was loaded what the files say, and a causal language model? Asked of the model itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import ModelError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from harness.models.encoding import Encoded, Encoder

# Buffers that older versions of transformers saved, and computes anew.
COMPUTED = (
    "rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    "position_ids",
    ".attention.bias",
)
# Parts of a model for images, sound or speculative decoding, which no text goes through.
ASIDE = (
    *("vision_tower.", "vision_model.", "visual.", "multi_modal_projector.", "audio_tower."),
    *("embed_vision.", "embed_audio.", "image_newline", "mtp.", "vision_embed_tokens."),
)
PROBE = (5, 7, 11, 13, 17, 19)  # token ids; any would do
EXACT, COARSE = 1e-4, 2e-2  # what rounding may move, relative: float32; half precision and int8


def check_loaded(where: str, model: PreTrainedModel, info: Mapping[str, Any]) -> None:
    """See that every parameter came from the file, and every tensor of the file has its place.

    Args:
        where: what the line begins with.
        model: as it was loaded.
        info: transformers' loading information.

    Raises:
        ModelError: one line with the counts and the first names.
    """
    mismatched = sorted(str(entry[0]) for entry in info.get("mismatched_keys", ()))
    missing = sorted(map(str, info.get("missing_keys", ())))
    known = [name for name, _ in model.named_modules()]
    unexpected = sorted(
        name for name in map(str, info.get("unexpected_keys", ())) if not _is_harmless(name, known)
    )
    errors = [str(error) for error in info.get("error_msgs", ())]
    if not (mismatched or missing or unexpected or errors):
        return
    head = _head_of(model)
    found = [
        _listed("parameters are not in the file", missing),
        _listed("parameters have another shape there", mismatched),
        _listed("of its tensors have no place in the model", unexpected),
        *errors[:1],
    ]
    hint = "save the model again with save_pretrained, or mend config.json"
    if head in missing:
        hint = "the checkpoint has no language-model head; name one that has"
    elif any("lora_" in name for name in unexpected):
        hint = "name its base with --model and the adapter with --adapter"
    raise ModelError(f"{where}: {'; '.join(filter(None, found))}; {hint}")


def check_causal(where: str, model: PreTrainedModel | PeftModel, *, exact: bool) -> None:
    """See that no token sees a later one: the last token is changed, and nothing before it moves.

    Args:
        where: what the line begins with.
        model: in eval mode.
        exact: whether it computes in float32, each row of a product for itself.

    Raises:
        ModelError: the model attends in both directions.
    """
    import torch

    size = model.config.get_text_config().vocab_size
    first = torch.tensor([[token % size for token in PROBE]], device=model.device)
    other = first.clone()
    other[0, -1] = (PROBE[-1] + 1) % size
    with torch.inference_mode():
        before, after = (
            model(input_ids=ids, use_cache=False).logits[0].float() for ids in (first, other)
        )
    kept = before[:-1] - before[:-1].mean(dim=-1, keepdim=True)
    moved = (before[:-1] - after[:-1]).norm() / kept.norm().clamp_min(1e-12)
    if torch.isfinite(moved) and moved > (EXACT if exact else COARSE):
        raise ModelError(
            f"{where}: a token's prediction depends on the tokens after it: the model attends in "
            f"both directions and has no perplexity of this kind; name a causal language model"
        )


def check_ids(
    model: PreTrainedModel | PeftModel, encoder: Encoder, rows: Sequence[Encoded]
) -> None:
    """See that every token of the rows has an embedding.

    Raises:
        ModelError: one has none; the line names it and both sizes.
    """
    embeddings: int = inside(model.get_input_embeddings()).weight.shape[0]
    largest = max(max(row.ids) for row in rows)
    if largest < embeddings:
        return
    tokenizer = encoder.tokenizer
    raise ModelError(
        f"--model={encoder.model_name}: token {tokenizer.convert_ids_to_tokens(largest)!r} has id "
        f"{largest}: the tokenizer has {len(tokenizer)} entries, the model {embeddings} "
        f"embeddings; use the tokenizer that it was saved with, or resize its embeddings"
    )


def inside(layer: Any) -> Any:
    """The layer that an adapter is wrapped around, or the layer."""
    if hasattr(layer, "get_base_layer"):
        return layer.get_base_layer()
    return getattr(layer, "original_module", layer)


def _head_of(model: PreTrainedModel) -> str:
    head = model.get_output_embeddings()
    return next((f"{name}.weight" for name, part in model.named_modules() if part is head), "")


def _is_harmless(name: str, modules: Iterable[str]) -> bool:
    """Whether a tensor without a place changes no text's number."""
    if name.endswith(COMPUTED):
        return True
    aside = next((part for part in ASIDE if part in f"{name}"), None)
    return aside is not None and not any(aside in f"{module}." for module in modules)


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > 3 else ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{more})"
