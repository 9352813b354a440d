"""Recipes: one file for an experiment, --set for one value of it, and the recipe that was used."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.config.export import effective
from harness.config.options import Options, parse_options
from harness.config.recipe import RECIPES, Layer, read_pyproject, read_recipe
from harness.config.schema import schema_of
from harness.core import DecodingSpec, TrainingSettings
from harness.data.selection import Curriculum, StagePlan, Subset
from harness.errors import OptionError
from harness.report.recipes import to_toml
from harness.run.plan import make_plan
from harness.training.settings import TRAINING
from strategies.qlora import QLoRA

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPE = """
description = "what it is"
model = ["smollm2-135m"]
strategy = "zeroshot,qlora"
k = [1, 2]
seeds = 7
train-data = "rows.json"

[qlora]
r = 64
learning_rate = 1e-4
target_modules = ["q_proj", "v_proj"]
eval_steps = 100

[for."smollm2-135m".qlora]
r = 8

[decoding.short]
max_new_tokens = 40

[decoding.sample]
temperature = 0.7

[subset]
top = 10
by = {length = 0.5, score = 0.5}

[curriculum]
levels = 3
by = {score = -1}
[[curriculum.stages]]
levels = [1]
num_train_epochs = 2
[[curriculum.stages]]
levels = [2, 3]
learning_rate = 5e-5

[trial]
k = 1
qlora.max_steps = 5
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE, encoding="utf-8")
    return file


def parse(recipe: Path, *settings: str, **flags: Any) -> Options:
    return parse_options({"recipe": str(recipe), "set": list(settings), **flags})


def qlora(options: Options, model: str = "") -> QLoRA:
    """The one variant that the options ask for."""
    (settings,) = options.of(model).variants(QLoRA)
    return QLoRA(**settings)


def test_a_recipe_holds_everything(recipe: Path) -> None:
    options = parse(recipe)
    assert options.strategy == ("zeroshot", "qlora")
    assert options.k == (1, 2)
    assert options.seeds == (7,)
    assert options.train_data == recipe.parent / "rows.json"
    stages = (StagePlan((1,), num_train_epochs=2), StagePlan((2, 3), learning_rate=5e-5))
    assert qlora(options) == QLoRA(
        r=64,
        learning_rate=1e-4,
        target_modules=("q_proj", "v_proj"),
        eval_steps=100,
        subset=Subset(10, (("length", 0.5), ("score", 0.5))),
        curriculum=Curriculum(3, (("score", -1.0),), stages),
    )
    assert options.decoding == {"short": {"max_new_tokens": 40}, "sample": {"temperature": 0.7}}
    both = dataclasses.replace(options, decode="short,sample").decodings
    assert both[0] == DecodingSpec("short", max_new_tokens=40)
    assert both[1] == DecodingSpec("sample", do_sample=True, temperature=0.7)  # over the built-in
    assert options.per_model == {"smollm2-135m": {"qlora": {"r": (8,)}}}
    assert options.given("k")
    assert not options.given("prompt")


def test_a_trial_in_force_changes_decodings(recipe: Path) -> None:
    recipe.write_text(recipe.read_text("utf-8") + "decoding.short.max_new_tokens = 4\n", "utf-8")
    assert parse(recipe).decoding["short"] == {"max_new_tokens": 40}
    assert parse(recipe, limit="2").decoding["short"] == {"max_new_tokens": 4}


def test_flag_over_set_over_recipe_over_pyproject(recipe: Path, tmp_path: Path) -> None:
    below = Layer("pyproject.toml: ", None, {"seeds": [1], "k": [9]}, {"qlora": {"r": 2}})
    flags = {"recipe": str(recipe), "seeds": "3"}
    options = parse_options(flags | {"set": ["seeds=4", "k=5", "qlora.r=32"]}, below)
    assert (options.seeds, options.k, qlora(options).r) == ((3,), (5,), 32)
    assert qlora(options).learning_rate == 1e-4  # --set replaced one value, not the table
    assert qlora(parse_options(flags, below)).r == 64
    file = tmp_path / "pyproject.toml"
    file.write_text('[tool.adaptbench]\nrecipe = "recipe.toml"\n[tool.adaptbench.qlora]\nr = 2\n')
    options = parse_options({}, read_pyproject(file))
    assert (qlora(options).r, options.seeds) == (64, (7,))


def test_what_is_stronger_holds_for_a_model_s_own_settings_too(tmp_path: Path) -> None:
    """A trial, and --set, cut short the training of every model, also of one that differs."""
    file = tmp_path / "two.toml"
    file.write_text(
        "model = ['a/b', 'a/c@main']\n[qlora]\nr = 64\nmax_steps = 3500\n"
        "[for.'a/c'.qlora]\nr = 16\nmax_steps = 2000\nlora_alpha = 8\n"
        "[trial.qlora]\nmax_steps = 10\n"
    )

    def own(*settings: str, **flags: Any) -> Any:
        settings_of = parse(file, *settings, **flags).per_model["a/c"]["qlora"]
        return {name: value for name, (value,) in settings_of.items()}

    assert own() == {"r": 16, "max_steps": 2000, "lora_alpha": 8.0}
    assert own(limit="8")["max_steps"] == 10
    assert own("qlora.r=4", limit="8") == {"r": 4, "max_steps": 10, "lora_alpha": 8.0}
    only = own("for.'a/c'.qlora.max_steps=5")
    assert only == {"r": 16, "max_steps": 5, "lora_alpha": 8.0}
    options = parse(file)
    settings = [qlora(options, text) for text in options.model]
    assert [(one.r, one.max_steps) for one in settings] == [(64, 3500), (16, 2000)]


def test_paths_of_a_recipe_start_at_its_folder_and_names_are_no_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recipes"
    for name in ("models/a", "run", "qlora", "plain"):
        (folder / name).mkdir(parents=True)
    file = folder / "mine.toml"
    file.write_text(
        "model = 'models/a'\nstrategy = 'qlora'\ndraw = 'run'\nprompt = 'plain'\n"
        "[for.'models/a'.qlora]\nr = 3\n"
    )
    options = parse(file)
    here = str(folder / "models/a")
    assert (options.model, options.per_model) == ((here,), {here: {"qlora": {"r": (3,)}}})
    assert (options.strategy, options.draw, options.prompt) == (("qlora",), ("run",), ("plain",))
    monkeypatch.chdir(folder)
    assert effective(options)["prompt"] == ["plain"]
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.adaptbench]\nrecipe = "qwen3-4b"\n')
    assert qlora(parse_options({}, read_pyproject(project))).r == 64


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("qlora.learning_rate=2e-4", "learning_rate", 2e-4),
        ("qlora.lr_scheduler_type=constant", "lr_scheduler_type", "constant"),
        ('qlora.lr_scheduler_type="constant"', "lr_scheduler_type", "constant"),
        ("qlora.gradient_checkpointing=true", "gradient_checkpointing", True),
        ("qlora.eval_steps=none", "eval_steps", None),
        ("qlora.eval_steps=0.1", "eval_steps", 0.1),
        ('qlora.target_modules=["q_proj"]', "target_modules", ("q_proj",)),
        ("qlora.target_modules=q_proj,v_proj", "target_modules", ("q_proj", "v_proj")),
        ("qlora.max_steps=-1", "max_steps", -1),
    ],
)
def test_one_value_is_set(recipe: Path, setting: str, name: str, value: Any) -> None:
    assert getattr(qlora(parse(recipe, setting)), name) == value


def test_the_trial_counts_with_a_limit_only(recipe: Path) -> None:
    assert qlora(parse(recipe)).max_steps == -1
    assert not parse(recipe).trial
    assert parse(recipe, limit="8").trial
    trial = parse(recipe, limit="8")
    assert (qlora(trial).max_steps, trial.k, trial.limit) == (5, (1,), 8)
    assert qlora(parse(recipe, "limit=8")).max_steps == 5
    assert qlora(parse(recipe, "qlora.max_steps=6", limit="8", k="2")).max_steps == 6
    assert parse(recipe, limit="8", k="2").k == (2,)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("kk = 1", "no key 'kk' (did you mean 'k'?)"),
        ("[qlorra]\nr = 1", "no key 'qlorra' (did you mean 'qlora'?)"),
        ("k = 0", "k = 0: expected a whole number from 1"),
        ("[qlora]\nlerning_rate = 1.0", "[qlora]: no setting 'lerning_rate' (did you mean 'learn"),
        ("[qlora]\nlearning_rate = 0", "learning_rate = 0: expected a number above 0"),
        ("[qlora]\nlearning_rate = nan", "expected a number above 0"),
        ("[qlora]\nlearning_rate = '1e-4'", "learning_rate = '1e-4': expected a number"),
        ("[qlora]\nr = 1.5", "r = 1.5: expected a whole number from 1"),
        ("[qlora]\nr = true", "expected a whole number from 1"),
        ("[qlora]\nlora_dropout = 1", "lora_dropout = 1: expected a number from 0 to below 1"),
        ("[qlora]\nlr_scheduler_type = 'cosin'", "(did you mean 'cosine'?)"),
        ("[qlora]\noptim = 'adam'", "optim = 'adam': expected one of adamw_torch"),
        ("[qlora]\nquantization = 'int4'", "expected one of none, nf4, fp4, int8"),
        ("[qlora]\nmax_steps = 0", "expected a whole number from 1, or -1"),
        ("[qlora]\neval_steps = 1.0", "expected a whole number of steps from 1, or a share"),
        ("[qlora]\ngradient_checkpointing = 1", "expected true or false"),
        ("[qlora]\ntarget_modules = []", 'expected "all-linear", or a list'),
        ("[qlora]\nseed = 1", "seed: each cell trains with its own seed; name them with seeds"),
        ("qlora = 3", "qlora = 3: expected a table"),
        ("[decoding.sample]\ntop_p = 0", "[decoding.sample]: top_p = 0: expected a number above 0"),
        ("[decoding.sample]\ntemperatur = 1", "(did you mean 'temperature'?)"),
        ("[decoding.mine]\ntemperature = 0.5", "temperature means nothing where nothing is drawn"),
        ("[decoding.'a b']\nmax_new_tokens = 5", "'a b' must be ASCII letters, digits and"),
        ("[trial.decoding.mine]\nnum_beams = 0", "num_beams = 0: expected a whole number from 1"),
        ("decoding.mine = 3", "[decoding.mine]: expected a table of settings, found 3"),
        ("[generation]\nrows = 2", "[generation]: what a model writes is asked for with --decode"),
        ("[subset]\nby = 'length'", "[subset]: needs top"),
        ("[subset]\ntop = 1\nby = 'size'", 'expected a measure ("length" or "score")'),
        ("[subset]\ntop = 1\nby = {length = 0}", "not all of them 0"),
        (
            "[curriculum]\nlevels = 2\n[[curriculum.stages]]\nlevels = [3]",
            "a stage trains on level",
        ),
        ("[curriculum]\n[[curriculum.stages]]\nepochs = 1", "stage 1: no setting 'epochs'"),
        ("[curriculum]\n[[curriculum.stages]]\nlearning_rate = 1.0", "stage 1 to have levels"),
        ("model = 'a/b'\n[for.'a/c'.qlora]\nr = 1", '[for."a/c"]: not one of the models'),
        ("[for.'a/c']\nr = 1", "expected a strategy's table, such as qlora, found r"),
        ("[trial.trial]\nk = 1", "a trial has no trial of its own"),
        ("recipe = 'qwen3-4b'", "a recipe cannot name another one"),
        ("[qlora]\nlearning_rate = 1" + "0" * 400, "expected a number above 0"),
        ("[trial]\n[trial.qlora]\nrr = 1", "[trial] [qlora]: no setting 'rr'"),
        ("k = ", "not valid TOML"),
    ],
)
def test_a_bad_recipe_says_what_is_right(tmp_path: Path, change: str, says: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(change)
    with pytest.raises(OptionError) as caught:
        parse(file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    if "needs top" not in says and "a stage trains" not in says:
        assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("qlora.lr=1", "--set [qlora]: no setting 'lr' (did you mean 'learning_rate'?)"),
        ("qlora.epochs=1", "no setting 'epochs' (did you mean 'num_train_epochs'?)"),
        (
            "learning_rate=1",
            "'learning_rate' is a setting of a strategy: write qlora.learning_rate",
        ),
        ("qlora.r", "--set qlora.r: expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("qlora..r=3", "is not a key"),
        ("set=3", "no key 'set'"),
        ("recipe=qwen3-4b", "recipe cannot be set this way"),
        ("trial.qlora.max_steps=7", "trial cannot be set this way"),
        ("#qlora.r=7", "is not one key"),
        ('for."typo".qlora.r=3', '[for."typo"]: not one of the models'),
        ("qlora.r=" + "9" * 5000, "r = "),
        ("k=" + "[" * 5000, "--set k = "),
        ("qlora.r=x", "r = 'x': expected a whole number from 1"),
    ],
)
def test_a_bad_set_says_what_is_right(recipe: Path, setting: str, says: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse(recipe, setting)
    assert says in str(caught.value)


def test_a_recipe_that_is_not_there() -> None:
    with pytest.raises(OptionError, match=r"--recipe=qwen3-4: no such file \(did you mean 'qwen3-"):
        parse_options({"recipe": "qwen3-4"})


def test_every_setting_can_be_set_and_is_checked() -> None:
    names = {field.name for field in dataclasses.fields(TrainingSettings)}
    assert set(TRAINING) == names - {"seed"}
    assert {one.key for one in schema_of(QLoRA).settings} == {*TRAINING, "subset", "curriculum"}
    defaults = TrainingSettings()
    for name, check in TRAINING.items():
        value = getattr(defaults, name)
        # Of the same type, too: an adapter's name is made of these, and 32 is not 32.0 there.
        assert repr(check("none" if value is None else value)) == repr(value)
        with pytest.raises(ValueError, match=r"."):
            check(object())


@pytest.mark.parametrize("name", ["none", "full"])
def test_the_effective_recipe_asks_for_the_same(recipe: Path, tmp_path: Path, name: str) -> None:
    asked = parse_options({}) if name == "none" else parse(recipe, "qlora.r=3", limit="8")
    file = tmp_path / "elsewhere" / "recipe.toml"
    file.parent.mkdir()
    file.write_text(to_toml(effective(asked)), encoding="utf-8")
    again = parse_options({"recipe": str(file)})
    same = dataclasses.replace(
        again,
        recipe=asked.recipe,
        results_dir=asked.results_dir,
    )
    assert same == asked
    assert effective(again) == effective(asked)


SHIPPED = sorted(RECIPES.glob("*.toml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_recipes_make_a_plan_for_their_models_and_for_the_embedded_one(file: Path) -> None:
    description = tomllib.loads(file.read_text("utf-8"))["description"]
    assert description.isascii()
    assert parse_options({"recipe": file.stem}).strategies == (
        parse_options({"recipe": str(file)}).strategies
    )
    plan = make_plan(parse_options({"recipe": str(file)}))
    assert any(case.training for case in plan.cases)
    trial = make_plan(parse_options({"recipe": str(file), "model": "smollm2-135m", "limit": "4"}))
    assert trial.cases[0].training is None  # zero-shot is always among them
    own = make_plan(parse_options({"recipe": str(file), "limit": "4"}))
    for case in (*trial.cases, *own.cases):
        if case.training is not None:
            assert 0 < case.training.settings.max_steps <= 20


def test_shipped_recipes_are_the_published_settings() -> None:
    """Against the experiments as they were published."""
    qwen = read_recipe(Path("qwen3-4b")).tables["qlora"]
    assert (qwen["r"], qwen["lora_alpha"], qwen["lora_dropout"]) == (64, 128, 0.05)
    assert (qwen["learning_rate"], qwen["lr_scheduler_type"]) == (1e-4, "cosine")
    assert qwen["per_device_train_batch_size"] * qwen["gradient_accumulation_steps"] == 16
    options = parse_options({"recipe": "gemma2-kyara"})
    plan = make_plan(options)
    trainings = [case.training for case in plan.cases if case.training is not None]
    gemma, llama = (training.settings for training in trainings)
    assert (gemma.r, gemma.lora_alpha, gemma.max_steps) == (64, 16, 3500)
    assert (llama.r, llama.lora_alpha, llama.max_steps) == (16, 16, 2000)
    assert (llama.per_device_train_batch_size, llama.gradient_accumulation_steps) == (1, 8)
    assert llama.bnb_4bit_compute_dtype == "bfloat16"
    taiwan = parse_options({"recipe": "taiwan-llm-7b"})
    assert (taiwan.k, taiwan.draw, taiwan.seeds) == ((1, 2, 3, 10), ("row",), (0, 1, 2))
    assert (qlora(taiwan).learning_rate, qlora(taiwan).num_train_epochs) == (3e-5, 3)


def test_a_recipe_of_the_users_own_never_hides_a_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "recipes"
    own.mkdir()
    (own / "mine.toml").write_text("k = 7\ntrain-data = 'rows.json'\n")
    options = parse_options({"recipe": "mine"})
    assert (options.k, options.train_data) == ((7,), own / "rows.json")
    with pytest.raises(OptionError, match=r"--recipe=mime: no such file \(did you mean 'mine'"):
        parse_options({"recipe": "mime"})
    shutil.copy(RECIPES / "qwen3-4b.toml", own)
    assert qlora(parse_options({"recipe": "qwen3-4b"})).r == 64  # a copy is the same recipe
    (own / "qwen3-4b.toml").write_text("k = 7\n")
    with pytest.raises(OptionError) as caught:
        parse_options({"recipe": "qwen3-4b"})
    ours, theirs = RECIPES / "qwen3-4b.toml", own / "qwen3-4b.toml"
    assert str(caught.value) == (
        f"--recipe=qwen3-4b: both {ours} and {theirs} are called so; give the path of one"
    )
    assert parse_options({"recipe": "recipes/qwen3-4b.toml"}).k == (7,)
