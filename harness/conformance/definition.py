"""A row's NLL by its definition: from full logits of the same weights in float64."""

from __future__ import annotations

import copy
from typing import Any

from harness.core import Quantization
from harness.errors import NotApplicableError
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel


def nll(logits: Any, row: Encoded) -> float:
    """NLL of a row in nats, from its full logits of shape (tokens, vocabulary)."""
    import torch

    wanted = logits[len(row.context) - 1 : len(row) - 1].double()
    picked = wanted.gather(1, torch.tensor(row.answer, device=logits.device)[:, None]).squeeze(1)
    return float((torch.logsumexp(wanted, dim=-1) - picked).sum().item())


def in_float64(loaded: LoadedModel, quantization: Quantization) -> Any:
    """A copy of the model with every weight, also 4-bit ones, as float64.

    Raises:
        NotApplicableError: it would not fit into memory, or its layers quantize what they read.
    """
    import torch

    model = loaded.model
    if quantization == "int8":
        raise NotApplicableError("int8 layers also quantize what goes into them")
    # A packed weight holds two values in a byte.
    values = sum(w.numel() * (2 if _packed(w) else 1) for w in model.parameters())
    size = 8 * values
    if size > _memory(loaded.device) / 2:
        raise NotApplicableError(f"{size / 1e9:.0f} GB of float64 weights do not fit into memory")
    exact = copy.deepcopy(model)
    if hasattr(exact, "set_experts_implementation"):
        exact.set_experts_implementation("eager")  # grouped products know no float64
    for name, module in list(exact.named_modules()):
        weight = getattr(module, "weight", None)
        if weight is not None and _packed(weight):
            from bitsandbytes.functional import dequantize_4bit

            unpacked = dequantize_4bit(weight.data, weight.quant_state).double()
            plain = torch.nn.Linear(*unpacked.T.shape, bias=module.bias is not None, device="meta")
            plain.weight = torch.nn.Parameter(unpacked, requires_grad=False)
            plain.bias = module.bias
            exact.set_submodule(name, plain)
    return exact.double().eval()


def _packed(weight: Any) -> bool:
    return type(weight).__name__ == "Params4bit"


def _memory(device: Any) -> float:
    import os

    import torch

    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
