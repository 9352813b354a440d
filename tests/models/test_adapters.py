"""Adapters: scored as PEFT computes them, or one line; never with made-up numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.core import Example, ModelSpec, PromptTemplate
from harness.errors import ModelError, OptionError
from harness.models.adapters import check_adapter
from harness.models.loading import LoadedModel, load, load_encoder
from harness.prompts.rendering import render
from harness.scoring.score import score
from tests.builders.models import make_llama

PLAIN = PromptTemplate("plain", "", "", "{instruction}\n")
ROWS = (Example("a", "翻譯：天地", "乾坤"), Example("b", "人", "黔首也"), Example("c", "水", "水"))
LORA: dict[str, Any] = {"r": 4, "lora_alpha": 16, "init_lora_weights": False}
LAYERS = ["q_proj", "v_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tied") / "model", tie_word_embeddings=True)


def config(kind: str, **settings: Any) -> Any:
    import peft

    return getattr(peft, f"{kind}Config")(task_type="CAUSAL_LM", **settings)


def plain_model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def make_adapter(folder: Path, base: Path, wanted: Any, rows: int | None = None) -> Path:
    """An adapter whose every trainable number is random, saved by PEFT."""
    from peft import get_peft_model

    torch.manual_seed(7)
    model = plain_model(base)
    if rows is not None:
        model.resize_token_embeddings(rows)
    adapted = get_peft_model(model, wanted)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    adapted.save_pretrained(folder)
    return folder


def loaded(base: Path, adapter: Path, **changes: Any) -> LoadedModel:
    spec = ModelSpec("model", "d", adapter=str(adapter), adapter_digest="a", **changes)
    return load(spec, base, adapter)


def nlls(model: LoadedModel, scorer: str = "fast") -> list[float]:
    rows = [model.encoder.encode(render(PLAIN, row)) for row in ROWS]
    seen, _ = score(model, rows, scorer, lambda done: None)
    return [one.nll for one in seen]


def pefts_nlls(base: Path, adapter: Path, rows: int | None = None) -> list[float]:
    """The NLLs by torch's cross-entropy over the logits of PEFT's whole forward."""
    from peft import PeftModel

    model = plain_model(base)
    if rows is not None:
        model.resize_token_embeddings(rows)
    adapted = PeftModel.from_pretrained(model, str(adapter)).eval()
    encoder = load_encoder(ModelSpec("m", "d"), base)
    found = []
    for row in ROWS:
        encoded = encoder.encode(render(PLAIN, row))
        ids = torch.tensor([encoded.ids])
        with torch.inference_mode():
            logits = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        asked = slice(len(encoded.context) - 1, -1)
        wanted = ids[0, len(encoded.context) :]
        found.append(
            torch.nn.functional.cross_entropy(logits[asked], wanted, reduction="sum").item()
        )
    return found


KINDS: dict[str, Callable[[], Any]] = {
    "lora": lambda: config("Lora", target_modules=LAYERS, **LORA),
    "dora": lambda: config("Lora", target_modules=LAYERS, use_dora=True, **LORA),
    "rslora": lambda: config("Lora", target_modules=LAYERS, use_rslora=True, **LORA),
    "lora with biases": lambda: config("Lora", target_modules=LAYERS, lora_bias=True, **LORA),
    "patterns": lambda: config("Lora", target_modules=LAYERS, rank_pattern={"q_proj": 2}, **LORA),
    "layers": lambda: config("Lora", target_modules=LAYERS, layers_to_transform=[1], **LORA),
    "replicated": lambda: config(
        "Lora", target_modules=LAYERS, layer_replication=[(0, 2), (1, 2)], **LORA
    ),
    "head": lambda: config("Lora", target_modules=["lm_head", "q_proj"], **LORA),
    "embeddings": lambda: config("Lora", target_modules=["embed_tokens", "q_proj"], **LORA),
    "saved modules": lambda: config(
        "Lora", target_modules=LAYERS, modules_to_save=["lm_head", "embed_tokens"], **LORA
    ),
    "token indices": lambda: config(
        "Lora", target_modules=LAYERS, trainable_token_indices=[3, 80], **LORA
    ),
    "adalora": lambda: config("AdaLora", target_modules=LAYERS, total_step=9),
    "loha": lambda: config("LoHa", r=4, target_modules=LAYERS, init_weights=False),
    "lokr": lambda: config("LoKr", r=4, target_modules=LAYERS, init_weights=False),
    "ia3": lambda: config(
        "IA3", target_modules=[*LAYERS, "down_proj"], feedforward_modules=["down_proj"]
    ),
    "vera": lambda: config("Vera", r=4, target_modules=["q_proj", "o_proj"]),
    "vera without projections": lambda: config(
        "Vera", r=4, target_modules=["q_proj", "o_proj"], save_projection=False
    ),
    "oft": lambda: config("OFT", oft_block_size=8, target_modules=LAYERS),
    "layer norms": lambda: config("LNTuning", target_modules=["input_layernorm"]),
    "prefix": lambda: config("PrefixTuning", num_virtual_tokens=5),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_scored_as_peft_scores_it(tmp_path: Path, base: Path, kind: str) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, KINDS[kind]())
    check_adapter(adapter)
    found = nlls(loaded(base, adapter))
    assert found == pytest.approx(pefts_nlls(base, adapter), rel=3e-6)
    bare = load(ModelSpec("m", "d"), base, None)
    assert found != pytest.approx(nlls(bare), rel=1e-4)  # it does something


@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr", "ia3", "vera", "oft", "prefix"])
def test_renamed_tensors_fit_nowhere(tmp_path: Path, base: Path, kind: str) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, KINDS[kind]())
    file = adapter / "adapter_model.safetensors"
    renamed = {
        name.replace("model.layers", "model._orig_mod.layers").replace("prompt", "_orig_mod.p"): t
        for name, t in load_file(file).items()
    }
    save_file(renamed, file)
    with pytest.raises(ModelError, match=r"does not fit") as caught:
        loaded(base, adapter)
    assert "\n" not in str(caught.value)


def test_a_tensor_that_is_missing_is_named(tmp_path: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, KINDS["lora"]())
    file = adapter / "adapter_model.safetensors"
    kept = {
        name: t for name, t in load_file(file).items() if "layers.1.self_attn.v_proj" not in name
    }
    save_file(kept, file)
    with pytest.raises(ModelError, match=r"2 places have no tensor \(.*layers.1.self_attn.v_proj"):
        loaded(base, adapter)


def test_a_base_with_fewer_layers_is_found_by_the_tensors(tmp_path: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, KINDS["dora"]())
    short = make_llama(tmp_path / "short", num_hidden_layers=1)
    with pytest.raises(ModelError, match="6 of its tensors have no place"):
        loaded(short, adapter)
    wide = make_llama(tmp_path / "wide", hidden_size=64)
    with pytest.raises(ModelError, match="size mismatch.*name the base"):
        loaded(wide, adapter)


def with_tokenizer(adapter: Path, base: Path, added: int, template: str | None = None) -> None:
    tokenizer = load_encoder(ModelSpec("m", "d"), base).tokenizer
    if added:
        names = [f"<|new{number}|>" for number in range(added)]
        tokenizer.add_special_tokens({"additional_special_tokens": names})
    if template is not None:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(adapter)


def test_added_tokens_come_with_the_adapter(tmp_path: Path, base: Path) -> None:
    rows = plain_model(base).get_input_embeddings().num_embeddings + 2
    wanted = KINDS["saved modules"]()
    adapter = make_adapter(tmp_path / "adapter", base, wanted, rows)
    with pytest.raises(ModelError, match=f"have {rows} rows, the model's {rows - 2}"):
        loaded(base, adapter)
    with_tokenizer(adapter, base, 2)
    model = loaded(base, adapter)
    assert len(model.encoder.tokenizer) == rows
    assert "another vocabulary" in model.encoder.warnings[0]
    assert nlls(model) == pytest.approx(pefts_nlls(base, adapter, rows), rel=3e-6)


def test_rows_of_a_head_that_nobody_saved_are_not_made_up(tmp_path: Path, base: Path) -> None:
    rows = plain_model(base).get_input_embeddings().num_embeddings + 2
    wanted = config("Lora", target_modules=LAYERS, modules_to_save=["embed_tokens"], **LORA)
    adapter = make_adapter(tmp_path / "adapter", base, wanted, rows)
    file = adapter / "adapter_model.safetensors"
    save_file({name: t for name, t in load_file(file).items() if "lm_head" not in name}, file)
    with_tokenizer(adapter, base, 2)
    with pytest.raises(ModelError, match="of its input or of its output only"):
        loaded(base, adapter)


def test_the_chat_template_beside_an_adapter_is_used(tmp_path: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, KINDS["lora"]())
    assert loaded(base, adapter).encoder.warnings == []
    with_tokenizer(adapter, base, 0)
    assert loaded(base, adapter).encoder.warnings == []  # the same tokenizer needs no word
    (adapter / "chat_template.jinja").write_text("{{ messages[0].content }}!", encoding="utf-8")
    encoder = loaded(base, adapter).encoder
    assert encoder.chat_template([{"role": "user", "content": "x"}]) == "x!"
    assert "another chat template" in encoder.warnings[0]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("PromptTuning", {"num_virtual_tokens": 4}),
        ("PromptEncoder", {"num_virtual_tokens": 4, "encoder_hidden_size": 32}),
    ],
)
def test_soft_prompts_are_refused_by_name(
    tmp_path: Path, base: Path, kind: str, settings: dict[str, int]
) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, config(kind, **settings))
    with pytest.raises(OptionError, match="puts tokens of its own before every row"):
        check_adapter(adapter)


def edit(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")


def test_a_base_of_another_name_is_a_warning(tmp_path: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, KINDS["lora"]())
    before = nlls(loaded(base, adapter))
    edit(adapter, base_model_name_or_path="unsloth/llama-bnb-4bit")
    model = loaded(base, adapter)
    assert nlls(model) == before
    (line,) = model.warnings
    assert "unsloth/llama-bnb-4bit" in line
    assert "scored on model" in line
    edit(adapter, base_model_name_or_path="owner/Model")
    assert loaded(base, adapter).warnings == ()
    edit(adapter, revision="abc")
    assert "names revision abc" in loaded(base, adapter, revision="def").warnings[0]


def test_keys_that_this_peft_does_not_know_are_named(tmp_path: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, KINDS["lora"]())
    edit(adapter, newer_scale=3.5, peft_version="0.99.0")
    (line,) = loaded(base, adapter).warnings
    assert "newer_scale of adapter_config.json is not known" in line
    assert "PEFT 0.99.0 wrote the file" in line
    edit(adapter, peft_type="NEWER")
    with pytest.raises(ModelError, match="peft_type 'NEWER'"):
        loaded(base, adapter)


@pytest.mark.parametrize("targets", [["lm_head"], ["embed_tokens"], ["lm_head", "q_proj"]])
def test_merging_into_tied_embeddings_changes_rounding_only(
    tmp_path: Path, tied: Path, targets: list[str]
) -> None:
    adapter = make_adapter(
        tmp_path / "adapter", tied, config("Lora", target_modules=targets, **LORA)
    )
    as_trained = nlls(loaded(tied, adapter))
    assert as_trained == pytest.approx(pefts_nlls(tied, adapter), rel=3e-6)
    assert nlls(loaded(tied, adapter, score_as="merged")) == pytest.approx(as_trained, rel=1e-5)


def test_what_is_no_adapter_is_one_line(tmp_path: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, KINDS["lora"]())
    file = adapter / "adapter_model.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    with pytest.raises(OptionError, match="is a git-lfs pointer"):
        check_adapter(adapter)
    file.rename(adapter / "adapter_model.bin")
    with pytest.raises(OptionError, match="pickled adapters are not loaded"):
        check_adapter(adapter)
