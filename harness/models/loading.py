"""Loading models: safetensors only, no remote code, adapters attached before the first forward.

bitsandbytes 0.50 repacks 4-bit weights at the first forward in eval mode on CPUs with AVX512-bf16:
from then on the layer computes in bfloat16, whatever dtype was asked for, and anything that reads
the state dict unpacks the weights wrongly, silently. The repacking is switched off here, and a base
that was used goes under another adapter only after all its tensors were seen to be what they were
(:mod:`harness.models.hand`).
"""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from harness.core import ModelSpec
from harness.errors import ModelError, OptionError, one_line
from harness.models.adapters import attach, brings_tokenizer, merge, own_template
from harness.models.checkpoint import (
    WRAPPERS,
    holds_adapter,
    stored_quantization,
    wrapped,
)
from harness.models.encoding import Encoded, Encoder
from harness.models.fingerprint import FOUR_BIT, version
from harness.models.kernels import use_exact_kernels
from harness.models.memory import is_out_of_memory
from harness.models.soundness import check_causal, check_loaded

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import (
        BitsAndBytesConfig,
        FineGrainedFP8Config,
        PreTrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
    )

_BESIDE = (
    "{}: its folder holds an adapter too (adapter_config.json), which was not applied: --model is "
    "the model in config.json, --adapter names an adapter"
)


@dataclass
class LoadedModel:
    """A model ready to be scored, with the encoder of its tokenizer.

    Attributes:
        sentinel: a row and the NLL that it had when the model was fresh.
        shared_tokens: the longest prefix that rows were seen to share rightly, for each way.
        side_by_side: whether batches computed at the same time were seen to have the numbers that
            they have one after the other; None where nobody looked yet.
        watched: whether a forward was watched for changes of the model itself.
        written: for each way of writing rows together that was seen to be right: the longest row,
            and the largest difference of a log-probability.
        warnings: lines that a reader of its numbers has to know.
    """

    spec: ModelSpec
    model: PreTrainedModel | PeftModel
    encoder: Encoder
    sentinel: tuple[Encoded, float] | None = None
    shared_tokens: dict[str, int] = field(default_factory=dict)
    side_by_side: bool | None = None
    watched: bool = False
    written: dict[str, tuple[int, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        return self.model.device


def share_cores(workers: int) -> None:
    """Leave each of ``workers`` processes its part of the cores torch would use alone."""
    if workers > 1:
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // workers))


def load(
    spec: ModelSpec,
    folder: Path,
    adapter: Path | None,
    encoder: Encoder | None = None,
    base: PreTrainedModel | None = None,
) -> LoadedModel:
    """Load the base, attach the adapter, and check that nothing is left in training mode.

    Args:
        spec: the model.
        folder: its files.
        adapter: that is put onto it.
        encoder: of its tokenizer, if it is there.
        base: the same, if it is there.

    Raises:
        ModelError: it cannot be loaded, or the adapter does not fit it.
    """
    model: PreTrainedModel | PeftModel = load_base(spec, folder) if base is None else base
    lines = [_BESIDE.format(spec.name)] if holds_adapter(folder) else []
    if adapter is not None:
        model, found = attach(model, spec, adapter)
        lines += found
        if spec.score_as == "merged":
            with quiet():
                model = merge(model)
    model.eval()
    training = [name for name, module in model.named_modules() if module.training]
    assert not training, f"modules in training mode after eval(): {training[:3]}"
    exact = spec.dtype == "float32" and spec.quantization != "int8"
    check_causal(f"--model={spec.name}", model, exact=exact)
    encoder = encoder or load_encoder(spec, folder)
    return LoadedModel(spec, model, encoder, warnings=tuple(lines))


def load_encoder(spec: ModelSpec, folder: Path) -> Encoder:
    """Load the tokenizer and the model's maximal length, without its weights.

    Raises:
        ModelError: they cannot be loaded.
    """
    from transformers import AutoConfig

    adapter = Path(spec.adapter) if spec.adapter else None
    with quiet(), _explained(f"--model={spec.name}"):
        tokenizer = _tokenizer(folder)
        lines: list[str] = []
        if adapter is not None:
            tokenizer, lines = _adapters_tokenizer(tokenizer, adapter)
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    ends = _ends(folder, config)
    encoder = Encoder(tokenizer, spec.name, limit, ends)
    encoder.warnings += lines
    return encoder


def _ends(folder: Path, config: PreTrainedConfig) -> list[int]:
    """Ids that the model's files call ends of an answer, those for generation first."""
    found: list[Any] = []
    path = folder / "generation_config.json"
    if path.is_file():
        values = json.loads(path.read_text(encoding="utf-8"))
        found.append(values.get("eos_token_id") if isinstance(values, dict) else None)
    found += [getattr(one, "eos_token_id", None) for one in (config, config.get_text_config())]
    ids = [one for ends in found for one in (ends if isinstance(ends, list) else [ends])]
    return list(dict.fromkeys(one for one in ids if isinstance(one, int)))


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    return found


def _adapters_tokenizer(
    base: PreTrainedTokenizerBase, adapter: Path
) -> tuple[PreTrainedTokenizerBase, list[str]]:
    """The tokenizer that an adapter was trained with, if its folder has one; and how it differs."""
    template = own_template(adapter)
    own = _tokenizer(adapter) if brings_tokenizer(adapter) else base
    before = base.chat_template, len(base), base.bos_token, base.eos_token
    if template is not None:
        own.chat_template = template
    after = own.chat_template, len(own), own.bos_token, own.eos_token
    names = ("chat template", "vocabulary", "BOS", "EOS")
    changed = [name for name, a, b in zip(names, before, after, strict=True) if a != b]
    if not changed:
        return own, []
    return own, [
        f"--adapter={adapter}: the tokenizer in its folder is used; the base's has another "
        f"{' and another '.join(changed)}, so that rows may be other tokens than without it"
    ]


def load_base(spec: ModelSpec, folder: Path) -> PreTrainedModel:
    """Load base weights as ``spec`` says (quantization, dtype, device), without an adapter.

    Raises:
        ModelError: they cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    check_quantization(spec.quantization)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    use_exact_kernels()
    dtype = getattr(torch, spec.dtype)
    where = f"--model={spec.name}"
    settings = _settings(spec, folder, dtype)
    with quiet(), _explained(where), _without_adapter(folder) as files:
        model, info = AutoModelForCausalLM.from_pretrained(
            files,
            dtype=dtype,
            device_map=_places(spec),
            key_mapping={WRAPPERS: ""} if wrapped(folder) else None,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
            **settings,
        )
    check_loaded(where, model, info)
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # older transformers leave capping out otherwise
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # see above
        if is_four_bit(spec) and hasattr(module, "compute_dtype"):
            # A checkpoint that is stored in 4 bits names its own.
            module.compute_dtype = _compute_dtype(spec, dtype)
    return model


def _places(spec: ModelSpec) -> str | dict[str, str]:
    """Where layers go: all to one device, or spread over the GPUs that this process sees.

    Raises:
        ModelError: it sees fewer than were asked for.
    """
    import torch

    if spec.gpus == 1:
        return {"": spec.device}
    found = torch.cuda.device_count()
    if found < spec.gpus:
        raise ModelError(
            f"--gpus-per-model={spec.gpus}: {found} GPUs are to be seen here; name fewer, or let "
            f"CUDA_VISIBLE_DEVICES show more"
        )
    return "auto"


def _settings(spec: ModelSpec, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """What of transformers' arguments quantization asks for; nothing for one that is stored so.

    Raises:
        ModelError: the weights are stored quantized, and not as ``spec`` says.
    """
    stored = stored_quantization(f"--model={spec.name}", folder)
    if stored not in ("none", spec.quantization):
        raise ModelError(
            f"--model={spec.name}: its weights are stored as {stored}; score it with "
            f"--quant={stored}"
            if stored in FOUR_BIT
            else f"--model={spec.name}: its weights are stored as {stored}; such a checkpoint is "
            f"read from a folder: name the folder"
        )
    if stored in FOUR_BIT:
        return {}
    return {"quantization_config": _quantization(spec, dtype)}


@contextmanager
def _without_adapter(folder: Path) -> Iterator[Path]:
    """The folder of a model; if it holds an adapter too, one without, made of links.

    transformers applies an adapter that lies beside a model, unasked.
    """
    if not holds_adapter(folder):
        yield folder
        return
    with TemporaryDirectory(prefix="adaptbench-") as links:
        for path in folder.iterdir():
            if not path.name.startswith("adapter_"):
                (Path(links) / path.name).symlink_to(path.resolve())
        yield Path(links)


def check_quantization(quantization: str) -> None:
    """Check that bitsandbytes is there if it is needed.

    Raises:
        OptionError: it is not installed.
    """
    if quantization not in ("none", "fp8") and version("bitsandbytes") == "none":
        raise OptionError(
            f"quantization {quantization}: needs bitsandbytes, which is not installed; "
            f"install it, or use --quant=none"
        )


def is_four_bit(spec: ModelSpec) -> bool:
    """Whether the base's weights have 4 bits."""
    return spec.quantization in FOUR_BIT


def _compute_dtype(spec: ModelSpec, dtype: torch.dtype) -> torch.dtype:
    """The arithmetic of 4-bit layers."""
    import torch

    if spec.compute_dtype == "auto":
        return dtype
    found: torch.dtype = getattr(torch, spec.compute_dtype)
    return found


def _quantization(
    spec: ModelSpec, dtype: torch.dtype
) -> BitsAndBytesConfig | FineGrainedFP8Config | None:
    from transformers import BitsAndBytesConfig, FineGrainedFP8Config

    if spec.quantization == "fp8":  # computed in dtype, with the weights that the codes stand for
        return FineGrainedFP8Config(dequantize=True)
    if spec.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    if not is_four_bit(spec):
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=spec.quantization,
        bnb_4bit_use_double_quant=spec.double_quant,
        bnb_4bit_compute_dtype=_compute_dtype(spec, dtype),
    )


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except (OptionError, ModelError):
        raise
    except ModuleNotFoundError as error:
        raise ModelError(f"{where}: needs the package {error.name!r}; install it") from None
    except ValueError as error:
        raise ModelError(f"{where}: {_reason(error)}") from None
    except Exception as error:  # transformers, safetensors and tokenizers raise all kinds
        if is_out_of_memory(error):
            raise ModelError(f"{where}: does not fit into memory; try --quant=nf4") from None
        raise ModelError(f"{where}: cannot be loaded: {one_line(error)}") from None


def _reason(error: ValueError) -> str:
    """What transformers refuses a checkpoint for, without advice for which there is no flag."""
    text = one_line(error)
    if "custom code" in text or "trust_remote_code" in text:
        return "needs code of its own (auto_map in config.json), which adaptbench never runs"
    unknown = re.search(r"model type `?'?([\w.-]+)", text)
    if "does not recognize this architecture" in text and unknown:
        return (
            f"model type {unknown[1]!r} is not known to transformers {version('transformers')}; "
            f"a later version may know it"
        )
    if "Unrecognized configuration class" in text:
        return "transformers has no causal language model of this architecture"
    return f"cannot be loaded: {text}"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' progress bars, advice and deprecation notes while loading."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
