"""A server that speaks the OpenAI protocol on a loopback socket, and does as a test tells it to."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from harness.judging import probing

KEY = "sk-secret-4f9a7c31b2d84e60"
ESSAY = "The sea is wide and blue, and the waves come and go as they have always come and gone."
Request = dict[str, Any]


@dataclass(frozen=True)
class Response:
    """What is sent back, if anything is.

    Attributes:
        status: of HTTP.
        body: a mapping is sent as JSON, a text as it is.
        headers: more of them.
        delay: seconds before it is sent.
        reset: break the connection instead.
        cut: announce so many bytes more than are sent.
    """

    status: int = 200
    body: Mapping[str, Any] | str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    reset: bool = False
    cut: int = 0


Answer = Callable[[Request], "str | Response"]


def completion(
    text: str | None,
    finish: str = "stop",
    model: str = "fake-1",
    usage: tuple[int, int] | None = (10, 2),
    **message: Any,
) -> dict[str, Any]:
    """The body of a chat completion."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text, **message},
    }
    body = {"id": "1", "object": "chat.completion", "model": model, "choices": [choice]}
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return body


def refused(status: int, message: str = "", **headers: str) -> Response:
    """An error as such servers put it; ``retry_after="1"`` is a header."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, {"error": {"message": message, "type": "error"}}, names)


class FakeServer:
    """Answers chat completions with what ``answer`` says of the request.

    A text is answered as an obliging server would: as JSON where there is a schema, cut at a stop
    string and at the limit, with log-probabilities where they are wanted, except for what it is
    told to ignore (``schema``, ``logprobs``, ``seed``, ``stop``, ``limit``) or to refuse with 400.
    A :class:`Response` is sent as it is.

    Args:
        answer: request → text, or response.
        ignores: what it does not do, in silence.
        refuses: parameters that it does not know, and says so.
        probed: whether the questions of a probe are answered without asking ``answer``.
        model: the id that it gives itself.
    """

    def __init__(
        self,
        answer: Answer = lambda request: "4",
        ignores: Iterable[str] = (),
        refuses: Iterable[str] = (),
        probed: bool = True,
        model: str = "fake-1",
    ) -> None:
        self.answer, self.probed, self.model = answer, probed, model
        self.ignores, self.refuses = set(ignores), set(refuses)
        self.requests: list[Request] = []  # all of them, in the order in which they came
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.most = 0  # of the requests that were answered at the same time
        self._now = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: the second would wait for an answer
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                outer._serve(self)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def handle_error(self, *args: Any) -> None:
                pass  # a client that has gone

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> FakeServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def environment(self) -> dict[str, str]:
        return {"OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": KEY}

    @property
    def asked(self) -> list[Request]:
        """The requests that were no probe's."""
        return [request for request in self.requests if not is_probe(request)]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        request: Request = json.loads(handler.rfile.read(length))
        with self._lock:
            self.requests.append(request)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            self.times.append(time.monotonic())
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            response = self._respond(request)
            self._over.wait(response.delay)
        finally:
            with self._lock:
                self._now -= 1
        _send(handler, response)

    def _respond(self, request: Request) -> Response:
        for name in sorted(self.refuses):
            if name in json.dumps({**request, "messages": []}):
                return refused(400, f"Unsupported parameter: '{name}'")
        said = ESSAY if self.probed and is_probe(request) else self.answer(request)
        return said if isinstance(said, Response) else Response(body=self._obliging(request, said))

    def _obliging(self, request: Request, text: str) -> dict[str, Any]:
        finish = "stop"
        if "seed" in self.ignores:
            text = f"{len(self.requests)} {text}"
        if "response_format" in request and "schema" not in self.ignores:
            fields = request["response_format"]["json_schema"]["schema"]["properties"]
            menu = fields["verdict"]["enum"]
            text = json.dumps({"reason": "Because.", "verdict": text if text in menu else menu[0]})
        stops = [] if "stop" in self.ignores else request.get("stop", [])
        text = text[: min((text.index(one) for one in stops if one in text), default=len(text))]
        limit = request.get("max_tokens", request.get("max_completion_tokens", 1000))
        if "limit" not in self.ignores and len(text) > 4 * limit:  # four characters are a token
            text, finish = text[: 4 * limit], "length"
        body = completion(text, finish, self.model)
        if request.get("logprobs") and "logprobs" not in self.ignores:
            body["choices"][0]["logprobs"] = {"content": [{"token": text, "logprob": -0.1}]}
        return {**body, "system_fingerprint": "fp_1"}


def is_probe(request: Request) -> bool:
    """Whether a request is one of a probe's."""
    return bool(request["messages"][-1]["content"].startswith(probing.QUESTION))


def _send(handler: BaseHTTPRequestHandler, response: Response) -> None:
    if response.reset:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True
        return
    body = response.body if isinstance(response.body, str) else json.dumps(response.body)
    data = body.encode()
    handler.send_response(response.status)
    for name, value in {"Content-Type": "application/json", **response.headers}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(data) + response.cut))
    handler.end_headers()
    handler.wfile.write(data)
    handler.close_connection = bool(response.cut)
