"""A pytest plugin that turns any import of torch or transformers into a failure of the run."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder


class Refuse(MetaPathFinder):
    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name.partition(".")[0] in ("torch", "transformers", "peft", "bitsandbytes"):
            raise AssertionError(f"{name} was imported")


sys.meta_path.insert(0, Refuse())
