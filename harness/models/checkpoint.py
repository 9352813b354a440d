"""What a model's folder holds, read before anything is loaded and without torch.

transformers makes up weights that a file lacks, reads the codes of a quantized checkpoint as if
they were weights, and gives a bidirectional model a causal head, each with no more than a log
line. What can be told from ``config.json`` and from the headers of the files is told here, in one
line that says what would be right. :mod:`harness.models.loading` checks the rest once the model
is there.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import ModelError

FULL = "name the checkpoint that it was made from, and --quant=nf4 or int8 quantizes that"
HEADS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForImageTextToText")
# Endings of the names of tensors that hold codes, or what codes are decoded with.
CODES = re.compile(
    r"\.(qweight|qzeros|scales|g_idx|weight_packed|weight_scale|weight_scale_inv|weight_shape"
    r"|weight_zero_point|SCB|weight_format|absmax|quant_map|nested_absmax|nested_quant_map"
    r"|quant_state\.bitsandbytes__\w+|input_scale|blocks)$"
)
CODED = ("F8", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "F4")  # beginnings of their types
# What torch.compile, FSDP, checkpointing and DataParallel put into the names of tensors.
WRAPPERS = r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.|^module\."
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
POINTER = b"version https://git-lfs"
Json = dict[str, Any]  # what json.loads makes of an object


def check_checkpoint(where: str, folder: Path) -> None:
    """See that a folder holds a causal language model that can be loaded as it is.

    Args:
        where: what the line begins with: ``--model=NAME``.
        folder: the model's files.

    Raises:
        ModelError: one line with what was found and what would be right.
    """
    _check_pointers(where, folder)
    config = _config(where, folder)
    _check_weights(where, folder)
    stored = stored_quantization(where, folder)
    _check_architecture(where, config)
    headers = dict(_headers(where, folder))
    if stored == "none":
        _check_codes(where, headers)
    _check_tokenizer(where, folder)


def model_files(folder: Path) -> list[Path]:
    """The files of a model's weights; those of an adapter beside them are not."""
    return [path for path in sorted(folder.glob("*.safetensors")) if "adapter" not in path.name]


def holds_adapter(folder: Path) -> bool:
    """Whether a model's folder holds an adapter too, which transformers would apply, unasked."""
    return (folder / "adapter_config.json").is_file()


def stored_quantization(where: str, folder: Path) -> str:
    """How a checkpoint's weights are stored: ``none``, or ``nf4``, ``fp4`` or ``fp8``.

    Raises:
        ModelError: in a way that cannot be computed right here.
    """
    found = _quantization_config(_config(where, folder))
    if not found:
        return "none"
    method = str(found.get("quant_method") or "").lower()
    if found.get("load_in_4bit"):
        return str(found.get("bnb_4bit_quant_type", "fp4"))
    if method == "fp8" and found.get("weight_block_size"):
        return "fp8"
    if method == "bitsandbytes" or found.get("load_in_8bit"):
        method = "bitsandbytes int8"
    bits = found.get("bits") or found.get("w_bit")
    called = f"{method or 'an unnamed method'}{f', {bits} bits' if bits else ''}"
    raise ModelError(
        f"{where}: its weights are stored quantized ({called}, in config.json), which is not "
        f"read; {FULL}"
    )


def stored_double_quant(where: str, folder: Path) -> bool:
    """Whether the scales of a checkpoint stored in 4 bits are quantized too."""
    found = _quantization_config(_config(where, folder))
    return bool(found.get("bnb_4bit_use_double_quant"))


def wrapped(folder: Path) -> bool:
    """Whether the names of tensors carry what wrappers (torch.compile, say) put into them."""
    return any(re.search(WRAPPERS, name) for _, name, _ in _tensors("", folder))


def _quantization_config(config: Mapping[str, Any]) -> Json:
    places = (config, config.get("text_config"), config.get("llm_config"))
    for place in places:
        if isinstance(place, dict):
            for name in ("quantization_config", "compression_config"):
                if isinstance(place.get(name), dict):
                    return dict(place[name])
    return {}


def _config(where: str, folder: Path) -> Json:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{where}: config.json cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{where}: config.json is not a JSON object")
    return config


def _check_pointers(where: str, folder: Path) -> None:
    """Git without git-lfs leaves a text of three lines in place of a large file."""
    for pattern in ("*.safetensors", "*.json", "*.model", "*.gguf", "*.bin"):
        for path in sorted(folder.glob(pattern)):
            with path.open("rb") as file:
                if file.read(len(POINTER)) == POINTER:
                    raise ModelError(
                        f"{where}: {path.name} is a git-lfs pointer, not the file; install "
                        f"git-lfs and run git lfs pull in {folder}"
                    )


def _check_weights(where: str, folder: Path) -> None:
    if not model_files(folder):
        pickled = [path.name for pattern in PICKLED for path in folder.glob(pattern)]
        found = f"pickled weights only ({pickled[0]}), which can run code and" if pickled else ""
        raise ModelError(
            f"{where}: the folder has {found or 'no *.safetensors; other weights'} are not "
            f"loaded; save the model again with save_pretrained"
        )
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ModelError(f"{where}: {index.name} is damaged; fetch it again") from None
        missing = sorted(str(name) for name in names if not (folder / str(name)).is_file())
        if missing:
            raise ModelError(
                f"{where}: {len(missing)} of {len(names)} files of its weights are missing "
                f"({', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}); fetch them"
            )


def _check_architecture(where: str, config: Mapping[str, Any]) -> None:
    if config.get("is_encoder_decoder"):
        raise ModelError(
            f"{where}: {config.get('model_type')} is an encoder–decoder; only causal language "
            f"models are scored"
        )
    names = config.get("architectures") or []
    name = str(names[0]) if isinstance(names, list) and names else ""
    if name.endswith("ForMaskedLM"):
        raise ModelError(
            f"{where}: {name} (in config.json) attends in both directions and has no perplexity "
            f"of this kind; name a causal language model"
        )
    if name and not name.endswith(HEADS):
        raise ModelError(
            f"{where}: {name} (in config.json) has no language-model head; name a checkpoint "
            f"that was saved as a causal language model (…ForCausalLM)"
        )


def _headers(where: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Name and data type of every tensor."""
    for _, name, entry in _tensors(where, folder):
        yield name, str(entry.get("dtype"))


def _tensors(where: str, folder: Path) -> Iterator[tuple[Path, str, Json]]:
    """Every tensor in the headers of the weights' files."""
    for path in model_files(folder):
        for name, entry in read_header(where, path).items():
            yield path, name, entry


def read_header(where: str, path: Path) -> dict[str, Json]:
    """Name → type, shape and place of each tensor of a safetensors file.

    Raises:
        ModelError: it is no such file, or was cut off.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length) if length <= size else b"")
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except OSError as error:
        raise ModelError(f"{where}: {path.name} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise ModelError(
            f"{where}: {path.name} is no safetensors file (its header cannot be read); fetch it "
            f"again"
        ) from None
    if end > size - 8 - length:
        raise ModelError(
            f"{where}: {path.name} is cut off: its header speaks of {end + 8 + length:,} bytes, "
            f"it has {size:,}; fetch it again"
        )
    return dict(header)


def _check_codes(where: str, types: Mapping[str, str]) -> None:
    """Refuse codes that no quantization_config explains."""
    coded = [
        name
        for name, kind in types.items()
        if CODES.search(name) or (name.endswith(".weight") and kind.startswith(CODED))
    ]
    if coded:
        raise ModelError(
            f"{where}: {len(coded)} of its tensors hold codes of quantized weights "
            f"({', '.join(coded[:2])}{', …' if len(coded) > 2 else ''}), and config.json does "
            f"not say how to decode them; {FULL}"
        )


def _check_tokenizer(where: str, folder: Path) -> None:
    """Say which package is missing: transformers asks for another one, which does not help."""
    if (folder / "tokenizer.json").is_file():
        return
    for name in ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model"):
        path = folder / name
        if not path.is_file() or path.read_bytes()[:1] != b"\n":  # how such a file begins
            continue
        missing = [
            package
            for package, module in (
                ("sentencepiece", "sentencepiece"),
                ("protobuf", "google.protobuf"),
            )
            if not _is_installed(module)
        ]
        if missing:
            raise ModelError(
                f"{where}: its tokenizer is a SentencePiece file ({name}), which needs the "
                f"package{'s' if len(missing) > 1 else ''} {' and '.join(missing)}; "
                f"pip install {' '.join(missing)}"
            )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False
