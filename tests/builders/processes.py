"""``python -m`` in a process of its own: forked from one that is warm, or from cold."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.builders import ROOT
from tests.builders.commands import Outcome

SERVER = ROOT / "tests" / "fork_server.py"
LIMIT = 300  # seconds for one run
# Variables that are read when a run asks for them. Any other may have been read at import, where
# the server's value counts, so that a run with another value starts from cold.
READ_LATE = {
    "ADAPTBENCH_CACHE",
    *("AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY"),
    "CUDA_VISIBLE_DEVICES",  # read by CUDA, and where there is CUDA nothing is forked
    "GITHUB_ACTIONS",
    "GITHUB_STEP_SUMMARY",
    *("LIMIT", "MODEL", "STEPS"),  # of the examples
    *("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "PYTEST_CURRENT_TEST",
    "PYTEST_VERSION",
    "PYTHONPATH",
    "TORCHINDUCTOR_CACHE_DIR",  # which torch sets when it is imported, here and there
}


def outside_of_workers() -> dict[str, str]:
    """The environment without what tells a worker of xdist that it is one."""
    return {name: value for name, value in os.environ.items() if "PYTEST_XDIST" not in name}


def run_cold(
    module: str, *arguments: str, folder: Path = ROOT, env: Mapping[str, str] | None = None
) -> Outcome:
    """Run ``python -m MODULE`` with an interpreter that has imported nothing yet."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**outside_of_workers(), **(env or {})},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


class ForkServer:
    """Runs ``python -m MODULE`` in forks of a process that has imported the large libraries.

    Where there can be no such process, or a run needs another one, the run starts from cold.
    """

    def __init__(self) -> None:
        self.environment = outside_of_workers()
        self.process: subprocess.Popen[bytes] | None = None
        self.failed = False
        # CUDA does not survive a fork, and macOS aborts some children of a process with threads.
        self.usable = sys.platform == "linux" and not Path("/dev/nvidiactl").exists()

    def run(
        self,
        module: str,
        *arguments: str,
        folder: Path = ROOT,
        env: Mapping[str, str] | None = None,
        cold: bool = False,
    ) -> Outcome:
        """Run a module with these arguments, the environment changed by ``env``."""
        environment = {**outside_of_workers(), **(env or {})}
        changed = {
            name
            for name in {*environment, *self.environment}
            if environment.get(name) != self.environment.get(name)
        }
        if cold or self.in_need_of_cold(arguments) or changed - READ_LATE or not self.start():
            return run_cold(module, *arguments, folder=folder, env=env)
        return self.fork(module, arguments, folder, environment)

    @staticmethod
    def in_need_of_cold(arguments: Sequence[str]) -> bool:
        """Whether a run asks what is imported, or has workers, which start from cold anyway."""
        return any(name.startswith("-n") or name.endswith(".no_torch") for name in arguments)

    def start(self) -> bool:
        """Start the process unless it runs; tell whether it does."""
        if self.usable and not self.failed and self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, str(SERVER)],
                cwd=ROOT,
                # OpenBLAS would start its threads at import.
                env={**self.environment, "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that its children can be ended with it
            )
            if not self.hear():
                self.failed = True
                self.stop()
        return self.process is not None

    def fork(
        self, module: str, arguments: Sequence[str], folder: Path, environment: dict[str, str]
    ) -> Outcome:
        assert self.process is not None
        assert self.process.stdin is not None
        with tempfile.TemporaryDirectory() as place:
            out, err = Path(place, "out"), Path(place, "err")
            out.touch()
            err.touch()
            request = {
                "module": module,
                "arguments": list(arguments),
                "folder": str(folder),
                "environment": environment,
                "stdout": str(out),
                "stderr": str(err),
            }
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            if not self.hear() or not (ended := self.hear()):
                self.stop()
                said = out.read_text("utf-8") + err.read_text("utf-8")
                raise AssertionError(f"{module} {' '.join(arguments)} does not end: {said}")
            return Outcome(ended["status"], out.read_text("utf-8"), err.read_text("utf-8"))

    def hear(self) -> dict[str, Any]:
        """The process's next answer; nothing if there is none in time."""
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], LIMIT)
        line = self.process.stdout.readline() if ready else b""
        found: dict[str, Any] = json.loads(line) if line else {}
        return found

    def stop(self) -> None:
        """End the process and what runs in its forks; the next run starts another one."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        self.process = None
