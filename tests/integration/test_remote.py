"""Two machines that share a results directory on S3, each with ``pytest suites/``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.builders import ROOT
from tests.builders.commands import Run
from tests.builders.processes import outside_of_workers
from tests.builders.remote import Bucket
from tests.builders.tasks import Files

SWEEP = ("--strategy=zeroshot,qlora", "--seeds=0", "--quant=none", "--set", "qlora.max_steps=2")


def test_two_drivers_train_once_and_a_third_computes_nothing(
    suites: Run, files: Files, tiny_model: Path, s3: Bucket, tmp_path: Path
) -> None:
    # At once, from cold: neither has anything.
    command = [
        *(sys.executable, "-m", "pytest", "suites", "-p", "no:cacheprovider", *SWEEP),
        *(f"--model={tiny_model}", f"--data={files.test}", f"--train-data={files.train}"),
        f"--results-dir={s3.url}",
    ]
    drivers = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**outside_of_workers(), "ADAPTBENCH_CACHE": str(tmp_path / name)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("one", "other")
    ]
    for driver in drivers:
        said, _ = driver.communicate(timeout=300)
        assert driver.returncode == 0, said
        assert f"all of it is at {s3.url}" in said
    # What a training run took stands in its record: two of them would differ there.
    records = [path.read_bytes() for path in tmp_path.glob("o*/results/*/adapters/*/*ing.json")]
    assert len(records) == 2
    assert records[0] == records[1]
    there = s3.fs.find(f"{s3.name}/team")
    assert not [name for name in there if "/leases/" in name]
    assert sum("/cells/" in name for name in there) == 2
    assert {f"{s3.name}/team/{name}" for name in ("run.json", "report.html", "report.md")} <= {
        *there
    }

    third = suites(
        *SWEEP,
        f"--results-dir={s3.url}",
        env={"ADAPTBENCH_CACHE": str(tmp_path / "third"), **_aws()},
    )
    assert third.status == 0, third.out + third.err
    (summary,) = tmp_path.glob("third/results/*/summary.json")
    assert [cell["cached"] for cell in json.loads(summary.read_text("utf-8"))["cells"]] == [
        True
    ] * 2


def _aws() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
