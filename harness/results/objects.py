"""Files under a URL, through fsspec: each whole or not there, every failure in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from harness.errors import StoreError, one_line
from harness.files import temporary

# Scheme → the package that knows it, where fsspec itself does not.
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "hf": "huggingface_hub"}
ACCESS = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, of who may use it",
    "gs": "run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or a SAS token",
    "hf": "run hf auth login, or set HF_TOKEN",
}
# What libraries call it if somebody may not do something.
DENIED = (
    *("credential", "forbidden", "unauthorized", "access denied", "accessdenied", "permission"),
    *("signature", "invalid token", "expired token", "access key", "account_name"),
)


class Objects:
    """The files below a URL, by their names: paths with ``/``, relative to it.

    Args:
        url: as ``s3://bucket/folder``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.scheme = url.partition("://")[0]
        # Each file of a Hugging Face repository is a commit: nobody can be the first to make one.
        self.exclusive = self.scheme != "hf"

    @cached_property
    def fs(self) -> Any:
        """The file system; asking for it imports what knows the scheme."""
        import fsspec

        # What others wrote a moment ago has to be seen.
        settings: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        if self.scheme == "file":
            settings["auto_mkdir"] = True
        try:
            return fsspec.filesystem(self.scheme, **settings)
        except ImportError:
            raise StoreError(
                f"{self.url}: needs {PACKAGES.get(self.scheme, 'fsspec')}, which is not installed; "
                f"pip install 'adaptbench[{self.scheme}]'"
            ) from None
        except Exception as error:  # a foreign library's, of any class
            raise self._explained("be opened", error) from None

    @cached_property
    def _root(self) -> str:
        return str(self.fs._strip_protocol(self.url)).rstrip("/")

    def place(self, name: str) -> str:
        """The URL of a file."""
        return f"{self.url}/{name}"

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None where there is none."""
        with self._asked("be read"):
            try:
                return bytes(self.fs.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all."""
        path = self._path(name)
        with self._asked("be written"):
            if self.scheme != "file":
                self.fs.pipe_file(path, data)
                return
            draft = str(temporary(Path(path)))  # an object store does the like by itself
            self.fs.pipe_file(draft, data)
            self.fs.mv(draft, path)

    def upload(self, path: Path, name: str) -> None:
        """Write a file of this machine."""
        target = self._path(name)
        with self._asked("be written"):
            if self.scheme != "file":
                self.fs.put_file(str(path), target)
                return
            draft = str(temporary(Path(target)))
            self.fs.put_file(str(path), draft)
            self.fs.mv(draft, target)

    def download(self, name: str, path: Path) -> bool:
        """Copy a file to this machine; tell whether there is one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._asked("be read"):
            try:
                self.fs.get_file(self._path(name), str(path))
            except FileNotFoundError:
                return False
            return True

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one; of several who try at once, one hears True."""
        path = self._path(name)
        with self._asked("be written"):
            try:
                if self.scheme == "file":
                    with self.fs.open(path, "xb") as file:
                        file.write(data)
                else:
                    self.fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            except NotImplementedError:  # a store that knows no conditions
                self.fs.pipe_file(path, data)
            except OSError:
                if self.fs.exists(path):  # which some stores say in words of their own
                    return False
                raise
            return True

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        with self._asked("be read"):
            return bool(self.fs.exists(self._path(name)))

    def names(self, folder: str = "") -> list[str]:
        """All files below a folder, in alphabetical order; none whose name leaves it."""
        with self._asked("be read"):
            found = self.fs.find(self._path(folder) if folder else self._root)
        start = len(self._root) + 1
        return sorted(name[start:] for name in found if is_inside(name[start:]))

    def remove(self, name: str) -> None:
        """Remove a file that may have gone."""
        with self._asked("be written"):
            try:
                self.fs.rm_file(self._path(name))
            except FileNotFoundError:
                return

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Turn whatever the file system says into one line."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:  # of botocore, aiohttp, google, azure: each has its own
            raise self._explained(what, error) from None

    def _explained(self, what: str, error: Exception) -> StoreError:
        said = one_line(error, 160)
        words = f"{type(error).__name__} {said}".lower()
        start = f"{self.url}: cannot {what}"
        if isinstance(error, FileNotFoundError) and self.scheme in PACKAGES:
            bucket = "/".join(self.url.split("/")[:3])
            return StoreError(f"{start}: there is no {bucket}; make it, or name another")
        if isinstance(error, PermissionError) or any(word in words for word in DENIED):
            return StoreError(f"{start} ({said}); {ACCESS.get(self.scheme, 'see who may')}")
        endpoint = ", and AWS_ENDPOINT_URL if it is not Amazon's" if self.scheme == "s3" else ""
        return StoreError(f"{start} ({said}); see to the network and the URL{endpoint}")


def is_inside(name: str) -> bool:
    """Whether a name that somebody else wrote stays in the folder that it belongs to."""
    path = PurePosixPath(name)
    odd = "\\" in name or "\0" in name
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not odd
