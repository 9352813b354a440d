"""The client of an endpoint, from the environment, and what of it is shown nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from harness.errors import JudgeError

HIDDEN = "***"
USUAL = "https://api.openai.com/v1"


class Secrets:
    """Words that are shown nowhere: the key, and a password in the address."""

    def __init__(self, *words: str) -> None:
        forms = {form for word in words for form in (word, quote(word, safe=""))}
        self._words = sorted((form for form in forms if len(form) > 3), key=len, reverse=True)

    def __repr__(self) -> str:
        return f"Secrets({HIDDEN})"

    def scrub(self, text: str) -> str:
        """The text without them."""
        for word in self._words:
            text = text.replace(word, HIDDEN)
        return text


@dataclass(frozen=True, repr=False)
class Address:
    """Where an endpoint is, and what opens it.

    Attributes:
        host: what may be shown.
        url: without anything secret.
        key: empty where there is none.
        login: a name and a password, which stood in the address.
        query: parameters, which stood in the address.
    """

    host: str
    url: str
    key: str
    login: tuple[str, str] | None
    query: Mapping[str, str]

    @property
    def secrets(self) -> Secrets:
        """What must not be shown."""
        return Secrets(self.key, *(self.login or ())[1:], *self.query.values())


def read_address(model: str, environment: Mapping[str, str]) -> Address:
    """The address of OPENAI_BASE_URL and the key of OPENAI_API_KEY.

    Args:
        model: the judge's name, for the error.
        environment: with the two.

    Raises:
        JudgeError: both are missing, or one cannot be used.
    """
    key = environment.get("OPENAI_API_KEY", "").strip()
    address = environment.get("OPENAI_BASE_URL", "").strip()
    if not key and not address:
        raise JudgeError(
            f"judge {model}: neither OPENAI_API_KEY nor OPENAI_BASE_URL is set; the first is the "
            f"key of an endpoint, the second its address"
        )
    if not (key.isascii() and key.isprintable()):
        raise JudgeError("OPENAI_API_KEY has characters that no key has; set it anew")
    try:
        parts = urlsplit(address or USUAL)
        host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        raise JudgeError("OPENAI_BASE_URL is no address like http://localhost:8000/v1")
    url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return Address(host, url, key, login, dict(parse_qsl(parts.query)))


def make_client(address: Address, timeout: float) -> Any:
    """A client that repeats nothing by itself.

    Raises:
        JudgeError: openai is not installed.
    """
    try:
        import openai
    except ImportError:
        raise JudgeError(
            "a judge behind an endpoint needs the package openai: pip install 'adaptbench[judge]'"
        ) from None
    return openai.OpenAI(
        api_key=address.key or "none",
        base_url=address.url,
        default_query=dict(address.query),
        max_retries=0,
        timeout=openai.Timeout(timeout, connect=connecting(timeout)),
        # The transport logs whole addresses: a password is no part of it.
        http_client=openai.DefaultHttpxClient(auth=address.login) if address.login else None,
    )


def connecting(timeout: float) -> float:
    """Seconds that a connection may take."""
    return min(timeout, 10.0)
