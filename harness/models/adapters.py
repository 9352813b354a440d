"""Adapters: whether one fits is decided by its tensors, each of which has to find its place.

PEFT only warns of tensors without a place, and of places without a tensor, which then hold made-up
numbers. What an adapter's configuration calls its base is a name, and says little.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core import ModelSpec
from harness.errors import ModelError, OptionError, one_line
from harness.models.fingerprint import version
from harness.models.soundness import inside
from harness.results.adapter_files import ADAPTER, RECORD

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

BaseShape = Mapping[str, str | int | None]  # name in a model's config → value
# Their tokens are embeddings put before the row's: every position is another one then.
SOFT = ("PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
COPIES = (".base_layer.weight", ".original_module.weight")  # of the base, beside an adapter's own


def check_adapter(path: Path) -> None:
    """Check that ``path`` is the folder of a saved PEFT adapter.

    Raises:
        OptionError: it is not there, or a file is missing or damaged.
    """
    if not path.is_dir():
        raise OptionError(f"--adapter={path}: no such folder")
    for name in ("adapter_config.json", ADAPTER):
        if not (path / name).is_file():
            pickled = " (pickled adapters are not loaded)" if any(path.glob("*.bin")) else ""
            raise OptionError(
                f"--adapter={path}: the folder has no {name}{pickled}; expected an adapter "
                f"saved with PEFT's save_pretrained"
            )
    with (path / ADAPTER).open("rb") as file:
        if file.read(7) == b"version":
            raise OptionError(
                f"--adapter={path}: {ADAPTER} is a git-lfs pointer, not the file; install git-lfs "
                f"and run git lfs pull in {path}"
            )
    try:
        config = read_config(path)
    except ValueError:
        raise OptionError(f"--adapter={path}: adapter_config.json is not valid JSON") from None
    kind = str(config.get("peft_type"))
    if kind in SOFT:
        raise OptionError(
            f"--adapter={path}: {kind.lower().replace('_', ' ')} puts tokens of its own before "
            f"every row, which is not scored; LoRA and its kin are, and prefix tuning"
        )


def read_config(adapter: Path) -> dict[str, Any]:
    """The adapter's configuration.

    Raises:
        ValueError: it is no JSON object.
    """
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError("not an object")  # noqa: TRY004  # one kind of error for a damaged file
    return config


def brings_tokenizer(adapter: Path) -> bool:
    """Whether the adapter's folder has a whole tokenizer."""
    return any((adapter / name).is_file() for name in TOKENIZERS)


def own_template(adapter: Path) -> str | None:
    """The chat template that stands in the adapter's folder by itself."""
    path = adapter / "chat_template.jinja"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def base_shape(model: PreTrainedModel) -> BaseShape:
    """What tells one architecture from another: peft alone accepts a base with more layers."""
    config = model.config.get_text_config()
    names = ("model_type", "num_hidden_layers", "hidden_size", "vocab_size")
    return {name: getattr(config, name, None) for name in names}


def attach(model: PreTrainedModel, spec: ModelSpec, adapter: Path) -> tuple[PeftModel, list[str]]:
    """Put an adapter onto its base.

    Args:
        model: the base, with its own layers alone.
        spec: what it is called.
        adapter: the adapter's folder.

    Returns:
        The base with the adapter, and lines that a reader of its numbers has to know.

    Raises:
        ModelError: it does not fit: one line with what has no place.
    """
    from peft import PeftModel

    from harness.models.loading import quiet

    where = f"--adapter={adapter}"
    config = read_config(adapter)
    lines = [*_unknown_keys(where, config), *_other_base(where, spec, config)]
    shape = _recorded_shape(adapter)
    if shape is not None and shape != base_shape(model):
        raise ModelError(
            f"{where}: does not fit {spec.name}: it was trained on a base of another shape "
            f"({shape} against {base_shape(model)}); name that base with --model"
        )
    saved = _read(where, adapter)
    resized = _resize(where, model, adapter, saved)
    try:
        with quiet():
            adapted = PeftModel.from_pretrained(
                model, str(adapter), is_trainable=False, local_files_only=True
            )
    except Exception as error:  # peft raises what torch raises: sizes, missing modules, ...
        raise ModelError(
            f"{where}: does not fit {spec.name} ({one_line(error, 300)}); name the base that it "
            f"was trained on with --model"
        ) from None
    _check_places(where, spec, adapted, saved)
    if resized:
        _check_rows(where, adapted, saved)
    return adapted, lines


def merge(adapted: PeftModel) -> PreTrainedModel:
    """Add the adapter to the base's weights.

    An output head that shares its weights with the embeddings gets its own first, where the
    adapter changes either: merging one would change the other.
    """
    import torch

    base = adapted.get_base_model()
    given, head = (
        inside(part) for part in (base.get_input_embeddings(), base.get_output_embeddings())
    )
    wrapped = given is not base.get_input_embeddings() or head is not base.get_output_embeddings()
    if wrapped and head is not None and given.weight.data_ptr() == head.weight.data_ptr():
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        base.config.get_text_config().tie_word_embeddings = False
        base.config.tie_word_embeddings = False
    merged: PreTrainedModel = adapted.merge_and_unload()
    return merged


def _unknown_keys(where: str, config: Mapping[str, Any]) -> list[str]:
    """Keys of the configuration that this PEFT ignores.

    Raises:
        ModelError: it does not know this kind of adapter at all.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kinds = {
        str(getattr(kind, "value", kind)): found
        for kind, found in PEFT_TYPE_TO_CONFIG_MAPPING.items()
    }
    kind = str(config.get("peft_type"))
    if kind not in kinds:
        raise ModelError(
            f"{where}: peft_type {kind!r} (adapter_config.json) is not known to PEFT "
            f"{version('peft')}; a later version may know it"
        )
    known = {one.name for one in fields(kinds[kind])} | {"runtime_config"}
    unknown = sorted(key for key, value in config.items() if key not in known)
    if not unknown:
        return []
    writer = config.get("peft_version")
    return [
        f"{where}: {', '.join(unknown)} of adapter_config.json "
        f"{'is' if len(unknown) == 1 else 'are'} not known to PEFT {version('peft')} and had no "
        f"effect{f'; PEFT {writer} wrote the file' if writer else ''}"
    ]


def _other_base(where: str, spec: ModelSpec, config: Mapping[str, Any]) -> list[str]:
    """A line where the adapter names another base, or another revision of it."""
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base:
        return []
    if base != spec.name and Path(base).name.lower() != Path(spec.name).name.lower():
        return [
            f"{where}: it names {base} as its base, and is scored on {spec.name}: its tensors fit, "
            f"whether it was trained on these weights they cannot tell"
        ]
    if revision and spec.revision and revision != spec.revision:
        return [
            f"{where}: it names revision {revision} of its base, and is scored on {spec.revision}"
        ]
    return []


def _recorded_shape(adapter: Path) -> BaseShape | None:
    try:
        record = json.loads((adapter / RECORD).read_text(encoding="utf-8"))
        return dict(record["base"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # trained elsewhere


def _read(where: str, adapter: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Tensor] = load_file(adapter / ADAPTER)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{where}: {ADAPTER} cannot be read: {one_line(error)}") from None
    return found


def _resize(where: str, model: PreTrainedModel, adapter: Path, saved: Mapping[str, Tensor]) -> bool:
    """Give the base as many embeddings as the adapter was trained with; say whether it had others.

    Raises:
        ModelError: no tokenizer beside the adapter says what the others stand for.
    """
    rows: int = model.get_input_embeddings().num_embeddings
    ends = ("embed_tokens", "lm_head", "wte", "embed_out", "embed_in")
    there = {
        int(tensor.shape[0])
        for name, tensor in saved.items()
        if tensor.ndim == 2
        and any(f".{end}." in name for end in ends)
        and "lora_" not in name
        and name.endswith(".weight")
    }
    wanted = there - {rows}
    if not wanted:
        return False
    if len(wanted) > 1 or not brings_tokenizer(adapter):
        raise ModelError(
            f"{where}: does not fit: its embeddings have {max(wanted)} rows, the model's {rows}, "
            f"and no tokenizer beside it says what they stand for; save the tokenizer that it was "
            f"trained with into its folder"
        )
    model.resize_token_embeddings(max(wanted), mean_resizing=False)
    return True


def _check_rows(where: str, adapted: PeftModel, saved: Mapping[str, Tensor]) -> None:
    """See that no embedding is left that resizing made up.

    Raises:
        ModelError: one is.
    """
    base = adapted.get_base_model()
    parts = base.get_input_embeddings(), base.get_output_embeddings()
    weights = [inside(part).weight for part in parts]
    tied = weights[0].data_ptr() == weights[1].data_ptr()
    names = [next(name for name, one in base.named_modules() if one is part) for part in parts]
    held = [
        any(f"{name}." in key and len(tensor) == len(weight) for key, tensor in saved.items())
        for name, weight in zip(names, weights, strict=True)
    ]
    if not (all(held) or (tied and any(held))):
        raise ModelError(
            f"{where}: it was trained with more embeddings than the model has, and holds those of "
            f"its input or of its output only; merge it where it was trained, and name the result "
            f"with --model"
        )


def _check_places(
    where: str, spec: ModelSpec, adapted: PeftModel, saved: Mapping[str, Tensor]
) -> None:
    """See that every tensor of the file is in the model, and every place of the adapter's filled.

    Raises:
        ModelError: one line with the counts and the first names.
    """
    from peft import get_peft_model_state_dict

    places = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    everything = {
        name.replace(".default", ""): value for name, value in adapted.state_dict().items()
    }
    lost = sorted(
        name
        for name, tensor in saved.items()
        if not any(_equal(tensor, known.get(name)) for known in (places, everything))
        and not name.endswith(COPIES)
    )
    empty = sorted(name for name in places if not _is_filled(name, saved))
    if not (lost or empty):
        return
    hint = f"name the base that it was trained on with --model; {spec.name} is another"
    if any("_orig_mod." in name or ".module." in name for name in lost):
        hint = "its names have a wrapper's prefix (_orig_mod., module.); take that off and save it"
    found = [
        f"{len(lost)} of its tensors have no place in the model ({', '.join(lost[:2])}"
        f"{', …' if len(lost) > 2 else ''})"
        if lost
        else "",
        f"{len(empty)} places have no tensor ({', '.join(empty[:2])}"
        f"{', …' if len(empty) > 2 else ''})"
        if empty
        else "",
    ]
    raise ModelError(f"{where}: does not fit: {', '.join(filter(None, found))}; {hint}")


def _is_filled(place: str, saved: Mapping[str, Tensor]) -> bool:
    inside = place.removesuffix(".weight") + ".modules_to_save.weight"
    return place in saved or inside in saved


def _equal(tensor: Tensor, other: Tensor | None) -> bool:
    import torch

    if other is None or other.shape != tensor.shape:
        return False
    return bool(torch.equal(tensor.to(other.device, other.dtype), other))
