"""A process that has imported torch and its like once, and forks for every run a test asks for.

It is a program of its own, because it must not import anything of the checkout: a child
imports ``harness``, ``strategies`` and ``suites`` afresh, as a process from cold does. Requests
come as lines of JSON on standard input; every answer is a line of JSON on standard output.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

# What the harness imports inside its functions, and what those import on first use.
LIBRARIES = (
    "accelerate",
    "jinja2",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "matplotlib.style",
    "numpy",
    "openai.types.chat",
    "pandas",
    "peft.tuners.lora.bnb",
    "pytest",
    "safetensors.torch",
    "scipy.stats",
    "torch._inductor.compile_fx",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.tokenization_utils_tokenizers",
    "transformers.trainer",
)


def main() -> None:
    """Import the libraries, then fork once for every request."""
    if "PYTHONSAFEPATH" not in os.environ:
        del sys.path[0]  # the folder of this file
    own = set(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    path = [folder for folder in sys.path if folder not in own]
    for name in LIBRARIES:
        with contextlib.suppress(ModuleNotFoundError):  # some are extras
            importlib.import_module(name)
    # pytest warns of plugins that were imported before it could rewrite their asserts. anyio is
    # one, and comes with the hub's client.
    if (anyio := sys.modules.get("anyio")) is not None:
        anyio.__doc__ = f"{anyio.__doc__}\nPYTEST_DONT_REWRITE"
    # A fork takes over no thread but the one that calls it: there must be no other, but that of
    # pyarrow's jemalloc, which knows of forks.
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    if len(names) - names.count("jemalloc_bg_thd") != 1:
        sys.exit("a library has started a thread")
    gc.collect()
    gc.freeze()
    answer({"ready": True})
    while line := readline():
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            become(request, path)
            return  # and end as any program does
        answer({"pid": child})
        _, status = os.waitpid(child, 0)
        answer({"status": os.waitstatus_to_exitcode(status)})
    os._exit(0)  # what is registered to run at exit is the children's


def answer(value: dict[str, Any]) -> None:
    # Unbuffered: what is left in a buffer at a fork would be written twice.
    os.write(1, json.dumps(value).encode() + b"\n")


def readline() -> bytes:
    """A line of standard input, read byte by byte, so that a child finds nothing in a buffer."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line


def become(request: dict[str, Any], path: list[str]) -> None:
    """Turn a child into ``python -m MODULE ARGUMENTS``."""
    for place, name in enumerate((os.devnull, request["stdout"], request["stderr"])):
        file = os.open(name, os.O_RDONLY if place == 0 else os.O_WRONLY | os.O_APPEND)
        os.dup2(file, place)
        os.close(file)
    environment: dict[str, str] = request["environment"]
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(request["folder"])
    more = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [str(Path.cwd()), *more, *path]
    importlib.invalidate_caches()
    sys.argv[:] = ["", *request["arguments"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
