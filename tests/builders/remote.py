"""A results directory that lies elsewhere: an S3 server on this machine, and machines that use it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.files import sha256
from harness.results.adapter_files import ADAPTER, RECORD
from harness.results.remote import Remote
from harness.results.store import Store

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def start_s3() -> tuple[Callable[[], None], str]:
    """Start moto's server; what stops it, and its address."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'adaptbench[dev]'")
    moto = pytest.importorskip("moto.server", reason="moto or flask is not installed")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return server.stop, f"http://{host}:{port}"


@dataclass(frozen=True)
class Bucket:
    """A bucket, looked at past the harness."""

    fs: Any
    name: str

    @classmethod
    def made(cls) -> Bucket:
        import s3fs

        fs = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        name = f"b-{uuid.uuid4().hex}"
        fs.mkdir(name)
        return cls(fs, name)

    @property
    def url(self) -> str:
        return f"s3://{self.name}/team"


def machine(url: str, folder: Path) -> Store:
    """The store of a machine whose copy lies in ``folder``."""
    return Store(folder, Remote(url, folder))


def fake_adapter(folder: Path, weights: bytes = b"weights") -> None:
    """Write into ``folder`` what looks like a trained adapter."""
    folder.mkdir(parents=True)
    (folder / ADAPTER).write_bytes(weights)
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    record = {"sha256": sha256(folder / ADAPTER)}
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
