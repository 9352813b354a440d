"""A model's folder: what is not a causal language model as it stands is one line, never a number."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.core import Example, ModelSpec, PromptTemplate
from harness.errors import ModelError, OptionError
from harness.models.checkpoint import check_checkpoint, stored_quantization
from harness.models.loading import LoadedModel, load, load_encoder
from harness.models.sources import parse_source
from harness.prompts.rendering import render
from harness.run.ways import as_stored
from harness.scoring.score import score
from tests.builders.models import make_llama

PLAIN = PromptTemplate("plain", "", "", "{instruction}\n")
ROWS = (Example("a", "翻譯：天地", "乾坤"), Example("b", "人", "黔首也"))
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_llama(tmp_path / "model", vocab_size=258)


def edit(folder: Path, name: str = "config.json", **changes: Any) -> None:
    path = folder / name
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | changes), encoding="utf-8")


def retensor(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = folder / "model.safetensors"
    tensors = {name: value.contiguous() for name, value in change(load_file(file)).items()}
    save_file(tensors, file, metadata={"format": "pt"})


def loaded(folder: Path, **changes: Any) -> LoadedModel:
    return load(ModelSpec("m", "digest", **changes), folder, None)


def nlls(model: LoadedModel) -> list[float]:
    rows = [model.encoder.encode(render(PLAIN, row)) for row in ROWS]
    seen, _ = score(model, rows, "reference", lambda done: None)
    return [one.nll for one in seen]


def plain_nlls(folder: Path, weights: Tensors) -> list[float]:
    """The NLLs of a model with these weights, by transformers' own loss on the same ids."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.load_state_dict(weights, strict=False)
    model.eval()
    encoder = load_encoder(ModelSpec("m", "digest"), folder)
    found = []
    for row in ROWS:
        encoded = encoder.encode(render(PLAIN, row))
        ids = torch.tensor([encoded.ids])
        labels = ids.clone()
        labels[0, : len(encoded.context)] = -100
        with torch.inference_mode():
            found.append(model(input_ids=ids, labels=labels).loss.item() * len(encoded.answer))
    return found


def refusal(folder: Path) -> str:
    with pytest.raises((ModelError, OptionError)) as caught:
        load(ModelSpec("m", "digest"), parse_source(str(folder)).folder(), None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_checkpoint_is_loaded(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    assert nlls(loaded(folder)) == pytest.approx(plain_nlls(folder, weights), rel=1e-5)


@pytest.mark.parametrize(
    ("drop", "says"),
    [
        ("lm_head.weight", r"1 parameters are not in the file \(lm_head.weight\).*no language-m"),
        ("model.norm.weight", r"1 parameters are not in the file \(model.norm.weight\)"),
        ("layers.1", r"9 parameters are not in the file \(model.layers.1.\S+, .*, …\)"),
    ],
)
def test_weights_are_never_made_up(folder: Path, drop: str, says: str) -> None:
    retensor(folder, lambda found: {name: t for name, t in found.items() if drop not in name})
    assert re.search(says, refusal(folder))


def test_a_layer_that_the_configuration_leaves_out_is_named(folder: Path) -> None:
    edit(folder, num_hidden_layers=1)
    assert "9 of its tensors have no place in the model (model.layers.1." in refusal(folder)


def test_another_shape_is_named(folder: Path) -> None:
    retensor(folder, lambda found: found | {"model.norm.weight": torch.ones(7)})
    assert "model.norm.weight" in refusal(folder)


def test_an_adapter_saved_into_the_model_is_named(folder: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.lora_A.default.weight"
    retensor(folder, lambda found: found | {name: torch.ones(2, 2)})
    assert "the adapter with --adapter" in refusal(folder)


def test_what_no_text_goes_through_is_left_out(folder: Path) -> None:
    """Old rotary buffers, a vision tower, layers for speculative decoding."""
    before = nlls(loaded(folder))
    more = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "vision_tower.blocks.0.weight": torch.ones(4),
        "mtp.layers.0.weight": torch.ones(4),
    }
    retensor(folder, lambda found: found | more)
    assert nlls(loaded(folder)) == before


@pytest.mark.parametrize("place", ["_orig_mod.", "model.layers.0._orig_mod.", "module."])
def test_the_names_of_a_wrapped_model_are_read(folder: Path, place: str) -> None:
    """torch.compile of the whole and of single layers, DataParallel."""
    before = nlls(loaded(folder))

    def wrap(found: Tensors) -> Tensors:
        inside = place.removesuffix("_orig_mod.").removesuffix("module.")
        return {
            (place + name[len(inside) :] if name.startswith(inside) else name): tensor
            for name, tensor in found.items()
        }

    retensor(folder, wrap)
    assert nlls(loaded(folder)) == before


def test_a_tied_model_keeps_a_head_of_its_own(tmp_path: Path) -> None:
    """config.json says tied, the file holds another head: the file is what is scored."""
    folder = make_llama(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    edit(folder, tie_word_embeddings=True)
    assert "lm_head.weight" in weights
    model = loaded(folder).model
    assert torch.equal(model.get_output_embeddings().weight, weights["lm_head.weight"])


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        ("LlamaForSequenceClassification", "has no language-model head"),
        ("LlamaModel", "has no language-model head"),
        ("Qwen2ForTokenClassification", "has no language-model head"),
        ("BertForMaskedLM", "attends in both directions"),
        ("ModernBertForMaskedLM", "attends in both directions"),
    ],
)
def test_checkpoints_of_other_tasks_are_named(folder: Path, architecture: str, says: str) -> None:
    edit(folder, architectures=[architecture])
    line = refusal(folder)
    assert architecture in line
    assert says in line


def test_an_encoder_decoder_is_named(folder: Path) -> None:
    edit(folder, is_encoder_decoder=True)
    assert "is an encoder–decoder" in refusal(folder)


def test_a_model_that_looks_ahead_is_found_by_what_it_does(tmp_path: Path) -> None:
    """A BERT that calls itself a language model: nothing in config.json says so."""
    from transformers import BertConfig, BertLMHeadModel

    folder = make_llama(tmp_path / "model")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=258,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        is_decoder=False,
    )
    BertLMHeadModel(config).save_pretrained(folder)
    assert "depends on the tokens after it" in refusal(folder)
    edit(folder, is_decoder=True)
    assert all(map(math.isfinite, nlls(loaded(folder))))


QUANTIZED = {
    "gptq": {"quant_method": "gptq", "bits": 4},
    "awq": {"quant_method": "awq", "w_bit": 4},
    "compressed-tensors": {"quant_method": "compressed-tensors", "format": "pack-quantized"},
    "bitsandbytes int8": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "mxfp4": {"quant_method": "mxfp4"},
    "fp8": {"quant_method": "fp8", "activation_scheme": "static"},  # without scales by block
    "hqq": {"quant_method": "hqq"},
}


@pytest.mark.parametrize("method", QUANTIZED)
@pytest.mark.parametrize("inside", [False, True])
def test_quantized_checkpoints_are_named(folder: Path, method: str, inside: bool) -> None:
    found = {"quantization_config": QUANTIZED[method]}
    edit(folder, **({"text_config": found} if inside else found))
    line = refusal(folder)
    assert f"stored quantized ({method}" in line
    assert "--quant=nf4" in line


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("model.layers.0.self_attn.q_proj.qweight", torch.zeros(4, 4, dtype=torch.int32)),
        ("model.layers.0.self_attn.q_proj.SCB", torch.ones(4)),
        ("model.layers.0.self_attn.q_proj.weight_scale", torch.ones(1)),
        ("model.layers.0.self_attn.q_proj.weight", torch.zeros(32, 32, dtype=torch.int8)),
        ("model.layers.0.self_attn.q_proj.weight", torch.zeros(32, 32).to(torch.float8_e4m3fn)),
    ],
)
def test_codes_without_a_configuration_are_no_weights(
    folder: Path, name: str, tensor: torch.Tensor
) -> None:
    retensor(folder, lambda found: found | {name: tensor})
    assert "hold codes of quantized weights" in refusal(folder)


def test_fp8_weights_are_decoded(folder: Path) -> None:
    """The number is that of the weights that codes and scales stand for."""
    wanted = load_file(folder / "model.safetensors")
    coded: Tensors = {}
    for name, tensor in list(wanted.items()):
        coded[name] = tensor
        if ".layers." not in name or tensor.ndim != 2:
            continue
        scale = tensor.abs().max() / 448  # the largest value of e4m3
        coded[name] = (tensor / scale).to(torch.float8_e4m3fn)
        coded[name.replace("weight", "weight_scale_inv")] = scale.reshape(1, 1)
        wanted[name] = coded[name].float() * scale
    expected = plain_nlls(folder, wanted)
    retensor(folder, lambda found: coded)
    edit(folder, quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})
    assert stored_quantization("m", folder) == "fp8"
    assert nlls(loaded(folder, quantization="fp8")) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ModelError, match="stored as fp8"):
        loaded(folder)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_weights_stored_in_four_bits_are_decoded(tmp_path: Path, kind: str) -> None:
    """The number is that of the weights as bitsandbytes decodes them, layer by layer."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    plain = make_llama(tmp_path / "plain", hidden_size=64, intermediate_size=128)
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_compute_dtype=torch.bfloat16
    )
    stored = AutoModelForCausalLM.from_pretrained(
        plain, quantization_config=config, dtype=torch.float32, device_map={"": "cpu"}
    )
    folder = tmp_path / "stored"
    shutil.copytree(plain, folder)
    stored.save_pretrained(folder)
    decoded = {
        f"{name}.weight": bitsandbytes.functional.dequantize_4bit(
            layer.weight.data, layer.weight.quant_state
        )
        for name, layer in stored.named_modules()
        if type(layer).__name__ == "Linear4bit"
    }
    expected = plain_nlls(plain, load_file(plain / "model.safetensors") | decoded)

    source = parse_source(str(folder))
    assert source.stored_quantization == kind
    assert as_stored(source, "none", asked=False) == kind
    with pytest.raises(OptionError, match=f"stored as {kind}"):
        as_stored(source, "int8", asked=True)
    model = loaded(folder, quantization=kind, double_quant=False)
    # Computed in float32 as asked for, not in the checkpoint's own bfloat16.
    assert nlls(model) == pytest.approx(expected, rel=1e-4)


def test_a_model_with_an_adapter_beside_it_is_the_model(folder: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    before = nlls(loaded(folder))
    config = LoraConfig(
        r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(folder)
    assert (folder / "adapter_model.safetensors").is_file()
    model = loaded(folder)
    assert nlls(model) == before
    assert "adapter_config.json" in model.warnings[0]


def test_a_pointer_of_git_lfs_is_named(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    (folder / "model.safetensors").write_text(text, encoding="utf-8")
    assert "is a git-lfs pointer" in refusal(folder)


def test_a_file_that_was_cut_off_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "is cut off" in refusal(folder)
    path.write_bytes(b"<html>not found</html>")
    assert "is no safetensors file" in refusal(folder)


def test_a_missing_part_is_named(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert "1 of 2 files of its weights are missing (model-00002-of" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pytorch_model.bin", "pickled weights only"),
        ("model.gguf", "--model=.*model.gguf"),
        ("tf_model.h5", "no \\*.safetensors"),
    ],
)
def test_other_weights_are_named(folder: Path, name: str, says: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    assert re.search(says, refusal(folder))


def test_a_tokenizer_that_needs_a_package_names_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    monkeypatch.setattr("harness.models.checkpoint._is_installed", lambda module: False)
    assert "pip install sentencepiece protobuf" in refusal(folder)
    monkeypatch.setattr("harness.models.checkpoint._is_installed", lambda module: True)
    check_checkpoint("m", folder)


def test_code_of_a_model_is_never_run(folder: Path) -> None:
    edit(folder, model_type="mine", auto_map={"AutoConfig": "code.Config"})
    (folder / "code.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    assert "needs code of its own" in refusal(folder)
    edit(folder, auto_map={})
    assert "model type 'mine' is not known to transformers" in refusal(folder)
