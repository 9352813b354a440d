"""Flags: parsed once, validated once, one line each when they are wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.config.flags import BY_FIELD, FLAGS, HELP, described
from harness.config.options import Options, parse_options
from harness.config.recipe import Layer, read_pyproject
from harness.errors import AdaptbenchError, ModelError, OptionError
from harness.models.sources import Source, parse_source
from harness.prompts.files import PROMPTS
from harness.run.plan import make_plan
from strategies.zeroshot import ZeroShot
from tests.builders.tasks import Files

UNFLAGGED = {
    *("published", "explicit", "strategies", "decoding", "per_model", "results_url", "trial"),
}


def test_defaults_are_the_dataclass_defaults() -> None:
    assert parse_options({}) == Options()
    assert {flag.field for flag in FLAGS} == (set(vars(Options())) | {"set"}) - UNFLAGGED


def test_command_line_wins_over_file_wins_over_default() -> None:
    layer = Layer("pyproject.toml: ", None, {"k": [7], "seeds": [5, 6], "prompt": "role"})
    options = parse_options({"k": "2"}, layer)
    assert options.k == (2,)
    assert options.seeds == (5, 6)
    assert options.prompt == ("role",)
    assert options.select == ("random",)
    assert options.given("k")
    assert not options.given("select")


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("k", "0", "--k=0: expected a whole number from 1 to 99"),
        ("k", "1,x", "--k=1,x: expected a whole number"),
        ("k", "1,,3", "--k=1,,3: expected a comma-separated list without empty entries"),
        ("k", "3,3", "nothing stands twice"),
        ("seeds", "0,00", "--seeds=0,00: expected a list in which nothing stands twice"),
        ("data", "\udcff.json", "valid UTF-8"),
        ("seeds", "-1", "--seeds=-1: expected a whole number from 0"),
        ("select", "randm", "(did you mean 'random'?)"),
        ("draw", "cell", "--draw=cell: expected one of run, row"),
        ("quant", "int4", "expected one of none, nf4, fp4, int8"),
        ("dtype", "fp32", "--dtype=fp32: expected one of auto, float32"),
        ("device", "tpu", "--device=tpu: expected one of auto, cpu, cuda"),
        ("limit", "0", "--limit=0: expected a whole number from 1"),
        ("data", " ", "expected a text that is not empty"),
        ("select", "fixed", "--select=fixed: needs --demo-ids"),
        ("demo_ids", "a", "only --select=fixed shows named rows"),
    ],
)
def test_bad_values_say_what_is_right(flag: str, value: str, says: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_options({flag: value})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pyproject(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    assert read_pyproject(file) is None
    file.write_text('[tool.adaptbench]\nk = [1, 2]\ndemo-ids = "a,b"\ndata = "rows.json"\n')
    values = read_pyproject(file)
    options = parse_options({"select": "fixed"}, values)
    assert options.k == (1, 2)
    assert options.demo_ids == ("a", "b")
    assert options.data == tmp_path / "rows.json"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[tool.adaptbench]\nseed = 1\n", "no key 'seed' (did you mean 'seeds'?)"),
        ("[tool.adaptbench\n", "not valid TOML"),
        ("[tool]\nadaptbench = 3\n", "must be a table"),
        ("[tool.adaptbench]\nk = [0]\n", "[tool.adaptbench] k = [0]: expected a whole number"),
        ("[tool.adaptbench]\nk = 1.5\n", "expected a whole number from 1 to 99"),
    ],
)
def test_bad_pyproject(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(content)
    with pytest.raises(OptionError) as caught:
        parse_options({}, read_pyproject(file))
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


class TestModels:
    """What --model understands, without the network."""

    def test_kinds(self, tiny_model: Path) -> None:
        assert parse_source("smollm2-135m") == Source("embedded", "smollm2-135m")
        assert parse_source("Qwen/Qwen3-4B@main") == Source("hub", "Qwen/Qwen3-4B", "main")
        assert parse_source(str(tiny_model)) == Source("folder", str(tiny_model))
        assert parse_source(str(tiny_model)).name == "tiny-llama"

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("./nowhere", "no such folder, and not a hub id"),
            ("a/b/c", "no such folder"),
            ("smollm2-135", "did you mean 'smollm2-135m'?"),
            ("smollm2-135m@main", "the embedded model has no revisions"),
            ("Qwen/Qwen3-4B@", "not a hub id"),
        ],
    )
    def test_unusable(self, text: str, says: str) -> None:
        with pytest.raises(OptionError) as caught:
            parse_source(text)
        assert says in str(caught.value)

    def test_a_file_that_is_no_model(self, tmp_path: Path) -> None:
        notes = tmp_path / "notes.txt"
        notes.write_text("")
        with pytest.raises(OptionError, match=r"notes\.txt: is a file, and no GGUF file; name the"):
            parse_source(str(notes))

    def test_folders_that_are_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=r"has no config\.json"):
            parse_source(str(tmp_path))
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "pytorch_model.bin").write_text("")
        with pytest.raises(ModelError, match=r"pickled weights only \(pytorch_model.bin\)"):
            parse_source(str(tmp_path))
        (tmp_path / "config.json").rename(tmp_path / "adapter_config.json")
        with pytest.raises(OptionError, match="this is an adapter"):
            parse_source(str(tmp_path))
        (tmp_path / "adapter_config.json").rename(tmp_path / "m.Q4_K_M.gguf")
        with pytest.raises(
            OptionError, match=r"GGUF files only; name one: --model=.*m.Q4_K_M.gguf"
        ):
            parse_source(str(tmp_path))


class TestPlan:
    """Flags become cases: the product, in an order that loads each model once."""

    @staticmethod
    def plan(files: Files, tiny: Path, **flags: Any) -> Any:
        texts = {"model": str(tiny), "data": str(files.test), "train_data": str(files.train)}
        return make_plan(parse_options(texts | flags))

    def test_ids_are_ascii_unique_and_readable(self, files: Files, tiny_model: Path) -> None:
        plan = self.plan(files, tiny_model, k="1,3", seeds="0,1", prompt="plain,role")
        ids = [case.id for case in plan.cases]
        assert len(set(ids)) == len(ids) == 2 * (1 + 4 + 2)
        assert all(name.isascii() for name in ids)
        assert "tiny-llama-role-fewshot-random-k03-s1" in ids
        assert "tiny-llama-plain-zeroshot" in ids

    def test_a_deterministic_strategy_has_one_cell(self, files: Files, tiny_model: Path) -> None:
        plan = self.plan(files, tiny_model, strategy="zeroshot", seeds="0,1,2")
        assert [case.seed for case in plan.cases] == [None]

    def test_trainings_come_last_and_models_stay_together(
        self, files: Files, tiny_model: Path
    ) -> None:
        plan = self.plan(
            files, tiny_model, strategy="qlora,zeroshot,fewshot", quant="none,nf4", seeds="0", k="1"
        )
        order = [(case.strategy.name, case.quantization) for case in plan.cases]
        assert order == [
            ("zeroshot", "none"),
            ("fewshot", "none"),
            ("zeroshot", "nf4"),
            ("fewshot", "nf4"),
            ("qlora", "none"),
            ("qlora", "nf4"),
        ]

    def test_quantization_follows_the_strategy_unless_named(
        self, files: Files, tiny_model: Path
    ) -> None:
        chosen = {
            case.strategy.name: case.quantization
            for case in self.plan(files, tiny_model, seeds="0", k="1").cases
        }
        assert chosen == {"zeroshot": "none", "fewshot": "none", "qlora": "nf4"}
        named = self.plan(files, tiny_model, seeds="0", k="1", quant="none").cases
        assert {case.quantization for case in named} == {"none"}

    def test_equal_names_are_refused_or_told_apart(
        self, files: Files, tiny_model: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(OptionError, match="--model: .* stands twice"):
            self.plan(files, tiny_model, model=f"{tiny_model},{tiny_model}/")
        twin = tmp_path / "other" / tiny_model.name
        shutil.copytree(tiny_model, twin)
        plan = self.plan(files, tiny_model, model=f"{tiny_model},{twin}", strategy="zeroshot")
        ids = [case.id for case in plan.cases]
        assert len(set(ids)) == 2

    def test_cells_of_one_name_are_refused(
        self, files: Files, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Prompt "plain-x" with label "zeroshot", and prompt "plain" with label "x-zeroshot".
        twin = type("Twin", (ZeroShot,), {"name": "twin", "label": "x-zeroshot"})
        monkeypatch.setattr("harness.run.plan.select_strategies", lambda names: [ZeroShot, twin])
        prompt = tmp_path / "plain-x.toml"
        shutil.copy(PROMPTS / "plain.toml", prompt)
        with pytest.raises(OptionError, match="cell: 'tiny-llama-plain-x-zeroshot' stands twice"):
            self.plan(files, tiny_model, prompt=f"plain,{prompt}")

    @pytest.mark.parametrize(
        ("flags", "says"),
        [
            ({"k": "13"}, "--k=13: the training pool has only 12 rows"),
            ({"strategy": "oneshot"}, "no such strategy"),
            ({"adapter": "/nowhere", "strategy": "zeroshot"}, "--adapter=/nowhere: no such folder"),
            ({"prompt": "plane"}, "did you mean 'plain'"),
            ({"data": "/nowhere.json"}, "/nowhere.json: no such file"),
        ],
    )
    def test_errors_before_anything_runs(
        self, files: Files, tiny_model: Path, flags: dict[str, str], says: str
    ) -> None:
        with pytest.raises(AdaptbenchError) as caught:
            self.plan(files, tiny_model, **flags)
        assert says in str(caught.value)


def test_an_update_in_a_file_would_switch_the_gate_off(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text('[tool.adaptbench]\nbaseline = "b.json"\nupdate-baseline = true\n')
    with pytest.raises(OptionError, match="update-baseline: stands on the command line only"):
        parse_options({}, read_pyproject(file))


def test_the_gate_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text('[tool.adaptbench]\nbaseline = "b.json"\ntolerance = 0.02\n')
    options = parse_options({"tolerance": None}, read_pyproject(file))
    assert options.baseline == tmp_path / "b.json"
    assert options.tolerance == 0.02
    assert parse_options({"tolerance": "3%"}, read_pyproject(file)).tolerance == 0.03


@pytest.mark.parametrize("text", ["5", "-1%", "nan", "100%", "much", "1e99%"])
def test_a_tolerance_is_a_share(text: str) -> None:
    with pytest.raises(OptionError, match=r"--tolerance=.*expected a share from 0 to below 1"):
        parse_options({"baseline": "b.json", "tolerance": text})


def test_help_names_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert described(BY_FIELD["strategy"]).endswith(": fewshot, qlora, zeroshot")
    (tmp_path / "strategies").mkdir()
    mine = "from strategies.zeroshot import ZeroShot\nclass Mine(ZeroShot):\n    name = 'mine'\n"
    (tmp_path / "strategies" / "mine.py").write_text(mine)
    assert described(BY_FIELD["strategy"]).endswith(": fewshot, mine, qlora, zeroshot")
    assert described(BY_FIELD["k"]) == BY_FIELD["k"].help
    # Whatever is wrong is said where a strategy is asked for, not by --help.
    monkeypatch.setattr("harness.config.flags.find", raising)
    assert described(BY_FIELD["strategy"]) == BY_FIELD["strategy"].help


def raising(kind: object) -> None:
    raise AdaptbenchError("a class is incomplete")


def test_every_flag_stands_in_one_part_of_the_help() -> None:
    named = [name for names in HELP.values() for name in names]
    assert sorted(named) == sorted(flag.name for flag in FLAGS)
