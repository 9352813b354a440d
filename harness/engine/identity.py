"""Whether another process computes what this one would: its code and its libraries."""

from __future__ import annotations

from dataclasses import dataclass

from harness import __version__
from harness.models.code import PACKAGE, rooms_digest
from harness.models.fingerprint import version

LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "accelerate", "bitsandbytes")


@dataclass(frozen=True)
class Identity:
    """The code of all rooms, and the versions of the libraries that take part in a number."""

    code: str
    versions: tuple[tuple[str, str], ...]


def identity() -> Identity:
    """This process's."""
    versions = (("adaptbench", __version__), *((name, version(name)) for name in LIBRARIES))
    return Identity(rooms_digest(PACKAGE, (".",)), versions)


def refusal(node: str, found: Identity, expected: Identity) -> str | None:
    """Why a node cannot take part, in one line; None where it can."""
    for (name, theirs), (_, ours) in zip(found.versions, expected.versions, strict=True):
        if theirs != ours:
            return (
                f"--engine=ray: node {node} has {name} {theirs}, and this machine {ours}; install "
                f"the same there"
            )
    if found.code != expected.code:
        return (
            f"--engine=ray: node {node} has other code of adaptbench ({found.code[:12]}, this "
            f"machine {expected.code[:12]}); install the same there"
        )
    return None
