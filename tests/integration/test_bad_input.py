"""What a user gets for a mistake: one line, the right exit status, nothing hidden."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.builders.commands import Run, summary
from tests.builders.models import make_llama
from tests.builders.tasks import Files, write_rows

BAD = {
    "unknown strategy": (["--strategy=oneshot"], "--strategy=oneshot: no such strategy"),
    "bad k": (["--k=0"], "--k=0: expected a whole number from 1 to 99"),
    "k beyond the pool": (["--k=50"], "--k=50: the training pool has only 12 rows"),
    "no data": (["--data=/nowhere.json"], "/nowhere.json: no such file"),
    "no templates": (["--templates=./nowhere"], "--templates=nowhere: no such folder"),
    "no baseline": (["--baseline=/nowhere.json"], "/nowhere.json: there is no baseline yet"),
    "no model": (["--model=./nowhere"], "--model=./nowhere: no such folder"),
    "no adapter": (["--adapter=/nowhere", "--strategy=zeroshot"], "--adapter=/nowhere: no such"),
    "adapter and training": (["--strategy=qlora", "--adapter=ADAPTER"], "cannot be combined"),
    "no prompt": (["--prompt=plane"], "did you mean 'plain'"),
    "no cuda": (["--device=cuda"], "--device=cuda: no usable CUDA device"),
    "results a file": (["--results-dir=FILE", "--strategy=zeroshot"], "cannot be written"),
}


@pytest.mark.parametrize(("flags", "says"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_and_status_4(
    suites: Run, tmp_path: Path, flags: list[str], says: str
) -> None:
    (tmp_path / "a-file").write_text("x")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_text("")
    flags = [
        flag.replace("FILE", str(tmp_path / "a-file")).replace("ADAPTER", str(adapter))
        for flag in flags
    ]
    env = {"CUDA_VISIBLE_DEVICES": ""}
    done = suites(*flags, env=env)
    assert done.status == 4, done.out + done.err
    lines = [line for line in done.err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert says in lines[0]
    assert "Traceback" not in done.out + done.err


def test_a_misspelled_flag_is_told_which_is_meant(suites: Run) -> None:
    done = suites("--strategi=zeroshot")
    assert done.status == 4
    assert "unrecognized arguments: --strategi=zeroshot" in done.err
    assert "--strategi: did you mean '--strategy'?" in done.err
    assert "did you mean" not in suites("--strategy=zeroshot", "--nonsense").err


def test_an_unreachable_hub_is_one_line(suites: Run, tmp_path: Path) -> None:
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = suites("--model=owner/some-model@abc", "--strategy=zeroshot", env=env)
    assert done.status == 4
    (line,) = [line for line in done.err.splitlines() if line.strip()]
    assert "--model=owner/some-model@abc: not in the local cache, and the hub cannot" in line


def test_an_adapter_that_does_not_fit_fails_its_cell_in_one_line(
    suites: Run, tmp_path: Path
) -> None:
    wide = make_llama(tmp_path / "wide", hidden_size=64)
    assert suites("--strategy=qlora", "--seeds=0", "--quant=none").status == 0
    (adapter,) = filter(Path.is_dir, (tmp_path / "results" / "adapters").iterdir())
    fits = suites("--strategy=zeroshot", f"--adapter={adapter}")
    assert fits.status == 0, fits.out
    assert summary(tmp_path)["cells"][0]["model"] == f"tiny-llama+{adapter.name}"
    done = suites("--strategy=zeroshot", f"--adapter={adapter}", f"--model={wide}")
    assert done.status == 1
    assert any("does not fit" in line for line in done.lines)
    assert "ModelError" not in done.out  # the line alone, not a traceback


def test_a_nonfinite_row_fails_the_cell_and_names_it(
    suites: Run, tiny_model: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(tiny_model, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["lm_head.weight"][:] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    for _ in range(2):  # computed, and from the store
        done = suites("--strategy=zeroshot", f"--model={broken}")
        assert done.status == 1
        assert "5 rows have no finite perplexity: test-000" in done.out
    assert summary(tmp_path)["cells"][0]["nonfinite"] == 5


def test_a_near_copy_is_left_out_and_reported(suites: Run, files: Files, tmp_path: Path) -> None:
    copied = {**json.loads(files.test.read_text("utf-8"))[4], "id": "sneaky"}
    write_rows(files.train, [*json.loads(files.train.read_text("utf-8")), copied])
    done = suites("--strategy=fewshot", "--k=12", "--seeds=0")
    assert done.status == 0, done.out
    assert "1 training rows left out" in done.out
    assert summary(tmp_path)["task"]["excluded"] == [["sneaky", "test-004"]]
    body = json.loads(
        (tmp_path / "results" / summary(tmp_path)["cells"][0]["file"]).read_text("utf-8")
    )
    assert "sneaky" not in body["scores"][0]["demo_ids"]
    assert "sneaky" in (tmp_path / "results" / "report.md").read_text("utf-8")


def test_fresh_does_not_report_an_old_number_for_a_failure(
    suites: Run, files: Files, tmp_path: Path
) -> None:
    (tmp_path / "failing.py").write_text(
        "import harness.scoring.score as s\nfrom harness.errors import ModelError\n"
        "def fail(*a):\n    raise ModelError('no luck')\ns.SCORERS['fast'] = fail\n"
    )
    assert suites("--strategy=zeroshot").status == 0
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = suites("--strategy=zeroshot", "--fresh", "-p", "failing", env=env)
    assert done.status == 1
    assert summary(tmp_path)["cells"] == []
    assert summary(tmp_path)["missing"][0]["reason"] == "no luck"
    # What was not asked for again is not reported as if it had been.
    flags = ("--strategy=zeroshot,fewshot", "--k=1", "--seeds=0", "--fresh", "-k", "fewshot")
    assert suites(*flags).status == 0
    assert [cell["strategy"] for cell in summary(tmp_path)["cells"]] == ["fewshot"]
