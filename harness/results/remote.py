"""A results directory that several machines share, and what of it lies on this one.

The folder on this machine stays what its runs read and write; :class:`Remote` brings in what
another machine has computed, and hands on what this one has. What lies there is a results directory
too: the same files under the same names, and beside an adapter's files one that says which they
are. Nothing is believed that its own digests do not confirm.
"""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import StoreError
from harness.files import write_atomically
from harness.results import adapter_files
from harness.results.adapter_files import DamagedAdapterError
from harness.results.lease import Lease
from harness.results.objects import Objects

MARK = "adaptbench-results.json"  # written first, to see whether anything can be
KEYED = ("cells", "exams")  # folders whose files are named by all that determines them
LAST = ("run.json", "summary.json", "report.")  # in this order, after everything else
KEY = re.compile(r"-[0-9a-f]{16}\.json$")
FRESH = 60.0  # seconds for which a list of names counts

Believed = Callable[[str], object]  # raises where a text is not what it should be


class RemoteWarning(UserWarning):
    """Something of a results directory elsewhere is not as it should be; the run goes on."""


class Nowhere:
    """The other place of a results directory that lies on this machine alone: there is none."""

    url: str | None = None

    def prepare(self) -> None:
        """See that it can be written.

        Raises:
            StoreError: it cannot.
        """

    def fetch(self, path: Path, believed: Believed) -> Path | None:
        """Bring a small file here that is named by its key, unless it is not believed.

        Args:
            path: where it belongs on this machine.
            believed: raises ValueError, KeyError or TypeError where its text is not what it
                should be.

        Returns:
            Where it is now, which may be under another name with the same key; None where there
            is no such file.

        Raises:
            StoreError: the place cannot be reached.
        """
        return None

    def send(self, path: Path) -> None:
        """Hand on a file of this machine; what cannot be handed on now is at the end."""

    def once(self, folder: Path, train: Callable[[], None], waiting: Callable[[str], None]) -> None:
        """Put a trained adapter into ``folder``: somebody else's, or else by calling ``train``.

        Args:
            folder: of this machine, where no adapter is.
            train: makes it.
            waiting: called with the name of a machine that is training it.

        Raises:
            StoreError: the place cannot be reached.
        """
        train()

    def publish(self) -> None:
        """Hand on all that the other place lacks, and everything a run wrote at its end.

        Raises:
            StoreError: it cannot be written.
        """


class Remote(Nowhere):
    """The other place, at a URL.

    Args:
        url: of it.
        folder: what of it lies on this machine.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url: str = url
        self.folder = folder
        self.objects = Objects(url)
        self._refused: set[str] = set()
        self._listed: dict[str, tuple[float, list[str]]] = {}

    def prepare(self) -> None:
        self.objects.write(MARK, b'{"kind": "adaptbench results"}\n')

    # ----------------------------------------------------------------- files named by their key

    def fetch(self, path: Path, believed: Believed) -> Path | None:
        for name in self._names(path):
            if name in self._refused:
                continue
            data = self.objects.read(name)
            if data is None:
                continue
            try:
                text = data.decode("utf-8")
                believed(text)
            except (ValueError, KeyError, TypeError) as error:
                self._refused.add(name)
                self._refuse(name, str(error) or type(error).__name__)
                continue
            write_atomically(self.folder / name, text)
            return self.folder / name
        return None

    def _names(self, path: Path) -> Iterator[str]:
        """The file's name, and then those of the same key: it may have had another label there."""
        own = self._name(path)
        yield own
        found = KEY.search(own)
        if found:
            alike = [name for name in self._list(path.parent.name) if name.endswith(found[0])]
            yield from (name for name in alike if name != own)

    def _list(self, folder: str) -> list[str]:
        """The names in a folder, as they were a minute ago at most."""
        when, names = self._listed.get(folder, (-FRESH, []))
        if time.monotonic() - when >= FRESH:
            names = self.objects.names(folder)
            self._listed[folder] = time.monotonic(), names
        return names

    def _refuse(self, name: str, reason: str) -> None:
        warnings.warn(
            RemoteWarning(
                f"{self.objects.place(name)} is damaged ({reason}); it is not used, and what it "
                f"should hold is computed again and put in its place"
            ),
            stacklevel=4,
        )

    def send(self, path: Path) -> None:
        name = self._name(path)
        with self._later():
            self.objects.upload(path, name)
            found = KEY.search(name)
            alike = [one for one in self._refused if found and one.endswith(found[0])]
            self._refused -= {name, *alike}
            for one in alike:
                if one != name:
                    self.objects.remove(one)

    @contextmanager
    def _later(self) -> Iterator[None]:
        """Let a run go on that cannot hand on what it has: it is safe here, and the end tries."""
        try:
            yield
        except StoreError as error:
            warnings.warn(
                RemoteWarning(f"{error}; it is kept in {self.folder} and handed on later"),
                stacklevel=4,
            )

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    # ----------------------------------------------------------------- adapters

    def once(self, folder: Path, train: Callable[[], None], waiting: Callable[[str], None]) -> None:
        damaged = False
        try:
            if adapter_files.fetch(self.objects, folder):
                return
        except DamagedAdapterError as error:
            damaged = True  # which nobody may take for done
            self._refuse(f"adapters/{folder.name}", str(error))

        def done() -> bool:
            return not damaged and adapter_files.is_there(self.objects, folder.name)

        lease = Lease(self.objects, folder.name)
        with lease.held(waiting, done) if self.objects.exclusive else _nothing():
            try:
                if adapter_files.fetch(self.objects, folder):
                    return
            except DamagedAdapterError:
                damaged = True
            train()
            if damaged or not lease.lost or not done():
                with self._later():
                    adapter_files.send(self.objects, folder)

    # ----------------------------------------------------------------- the end of a run

    def publish(self) -> None:
        there = set(self.objects.names())
        folders = [path for name in KEYED for path in (self.folder / name).glob("*.json")]
        for path in sorted(folders):
            if self._name(path) not in there:
                self.objects.upload(path, self._name(path))
        for folder in sorted((self.folder / "adapters").glob("*")):
            record = f"adapters/{folder.name}/{adapter_files.FILES}"
            if record not in there and adapter_files.is_complete(folder):
                adapter_files.send(self.objects, folder)
        written = sorted(self._written(), key=_rank)
        for path in written:
            self.objects.upload(path, self._name(path))
        kept = {self._name(path) for path in written}
        for name in there:
            if name.startswith("figures/") and name not in kept:  # of an earlier report
                self.objects.remove(name)

    def _written(self) -> list[Path]:
        """What a run writes at its end: the files of the folder itself, and figures."""
        found = [*self.folder.glob("*"), *(self.folder / "figures").glob("*")]
        return [path for path in found if path.is_file() and not path.name.startswith(".")]


def _rank(path: Path) -> tuple[int, str]:
    places = (place for place, start in enumerate(LAST) if path.name.startswith(start))
    return next(places, -1), path.name


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def remote_of(url: str | None, folder: Path) -> Nowhere:
    """What a results directory has elsewhere."""
    return Nowhere() if url is None else Remote(url, folder)


def check_sum(text: str) -> None:
    """See that a file of ours is what was written.

    Raises:
        ValueError: it is not.
    """
    from harness.core import digest

    body = json.loads(text)
    if not isinstance(body, dict) or body.pop("checksum", None) != digest(body):
        raise ValueError("its checksum does not match")
