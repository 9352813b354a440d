"""The conformance and the speed suite run when they are named, and only then."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from harness.conformance.generation_rules import GENERATION_CHECKS
from harness.conformance.rules import CHECKS
from tests.builders import ROOT
from tests.builders.commands import Run

SPEED, CONFORMANCE = ROOT / "suites/test_speed.py", ROOT / "suites/test_conformance.py"


def test_a_run_of_all_suites_measures_cells_only(suites: Run) -> None:
    done = suites("--strategy=zeroshot", "--collect-only", "-q")
    assert done.status == 0, done.out
    assert [line for line in done.lines if "::" in line] == [
        "suites/test_perplexity.py::test_mean_perplexity[tiny-llama-plain-zeroshot]"
    ]


def test_the_perplexity_suite_needs_neither_room(suites: Run, tmp_path: Path) -> None:
    """Not even when every cell is measured: both rooms live with the suites that use them."""
    spy = "import sys\ndef pytest_sessionfinish(session):\n"
    spy += "    names = sorted(name for name in sys.modules if name.startswith('harness.'))\n"
    spy += f"    open({str(tmp_path / 'modules')!r}, 'w').write(chr(10).join(names))\n"
    (tmp_path / "spy.py").write_text(spy, encoding="utf-8")
    done = suites("-p", "spy", "--strategy=zeroshot", env={"PYTHONPATH": str(tmp_path)})
    assert done.status == 0, done.out
    modules = (tmp_path / "modules").read_text("utf-8").splitlines()
    assert "harness.scoring.fast" in modules
    rooms = ("harness.conformance", "harness.speed")
    assert [name for name in modules if name.startswith(rooms)] == []


def test_speed_is_reported(suites: Run, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = suites("--k=2", f"--benchmark-json={figures}", "-rs", only=SPEED)
    assert done.status == 0, done.out + done.err
    timed = {one["name"]: one for one in json.loads(figures.read_text("utf-8"))["benchmarks"]}
    contenders = ["reference", "fast"]
    if importlib.util.find_spec("lm_eval"):
        contenders += ["lm-eval"]
    else:
        assert 'lm-eval is not installed: pip install -e ".[peers]"' in done.out
    for contender in contenders:
        for k in ("00", "02"):
            one = timed[f"test_speed[k{k}-{contender}]"]
            assert one["group"] == f"k={int(k)}"
            facts = one["extra_info"]
            assert facts["rows_per_second"] == pytest.approx(5 / one["stats"]["median"])
            assert facts["flops"] > 0
            assert facts["peak_memory_bytes"] > 1e8
            assert 0 < facts["gemm_share"] < 1
            assert facts["unique_tokens_per_second"] > 0
    report = (tmp_path / "results" / "speed.md").read_text("utf-8")
    for said in (done.out, report):
        assert "of GEMM rate" in said
        assert "tiny-llama, none, float32 on cpu; 5 rows of" in said
    assert not (tmp_path / "results" / "summary.json").exists()


def test_speed_under_workers_is_skipped_with_a_reason(suites: Run) -> None:
    done = suites("-n", "2", "--k=2", "-rs", "-k", "fast or reference", only=SPEED)
    assert done.status == 0, done.out + done.err
    assert "nothing is timed under -n" in done.out


@pytest.mark.parametrize("flags", [(), ("--quant=nf4",)])
def test_conformance_of_a_users_model(suites: Run, flags: tuple[str, ...]) -> None:
    done = suites(*flags, "-q", only=CONFORMANCE)
    assert done.status == 0, done.out + done.err
    assert f"{len(CHECKS) + len(GENERATION_CHECKS)} passed" in done.out


def test_a_model_that_fails_is_told_in_one_line(suites: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from dataclasses import replace\n"
        "from harness.models.encoding import Encoder\n"
        "plain = Encoder.encode\n"
        "def encode(self, prompt):\n"
        "    row = plain(self, prompt)\n"
        "    return replace(row, answer=(*row.answer, self.eos))\n"
        "Encoder.encode = encode\n",
        encoding="utf-8",
    )
    done = suites("-p", "broken", "-k", "eos", only=CONFORMANCE, env={"PYTHONPATH": str(tmp_path)})
    assert done.status == 1
    assert "tiny-llama: the answer's tokens are" in done.out
    assert "Traceback" not in done.out + done.err
    assert "Error" not in done.out.replace("ConformanceError", "")
