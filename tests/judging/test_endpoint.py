"""A judge behind an endpoint: what a server can do wrong is never a number and costs no more."""

from __future__ import annotations

import importlib.util
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest

from harness.core import Span
from harness.errors import JudgeError
from harness.judging import calling, spending
from harness.judging.endpoint import Endpoint, Limits, Probe, Spent, estimated_tokens
from harness.judging.rubric import Rubric, load_rubric
from harness.records import Ruling
from tests.builders import ROOT
from tests.builders.endpoint import KEY, Answer, FakeServer, Request, Response, completion, refused

needs_client = pytest.mark.skipif(
    importlib.util.find_spec("openai") is None,
    reason="openai is not installed: pip install 'adaptbench[judge]'",
)
pytestmark = needs_client

SCALE = load_rubric("helpful")
PAIR = load_rubric("pairwise")
ALL = ("schema", "logprobs", "seed", "stop", "limit")
OBLIGING = Probe("m", "fake-1", "fp_1", dict.fromkeys(ALL, True))
USUAL = Limits()
PLAIN = Probe("m", "fake-1", "fp_1", dict.fromkeys(ALL, False))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(calling, "FIRST_WAIT", 0.01)
    yield


def questions(count: int) -> list[tuple[str, tuple[Span, ...]]]:
    return [(f"row-{i}", (Span("Judge "), Span(f"this: {i}."))) for i in range(count)]


def ask(
    answer: Answer,
    count: int = 1,
    probe: Probe = PLAIN,
    limits: Limits = USUAL,
    rubric: Rubric = SCALE,
) -> tuple[list[Ruling], FakeServer, Endpoint]:
    """Rulings of a server that answers so; each has been heard once, in this thread."""
    heard: dict[int, Ruling] = {}

    def hear(place: int, ruling: Ruling) -> None:
        assert place not in heard
        assert threading.current_thread() is threading.main_thread()
        heard[place] = ruling

    with FakeServer(answer) as server:
        endpoint = Endpoint("m", limits, server.environment)
        rulings = endpoint.ask(rubric, questions(count), probe, hear)
    assert [heard[place] for place in range(count)] == rulings
    assert endpoint.spent.calls == sum(ruling.asked for ruling in rulings) == len(server.requests)
    assert KEY not in repr(rulings) + repr(endpoint)
    return rulings, server, endpoint


def in_turn(*answers: str | Response) -> Answer:
    """Answers one after the other, the last one from then on."""
    left = list(answers)
    lock = threading.Lock()

    def answer(request: Request) -> str | Response:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return answer


def number(request: Request) -> int:
    """Which question a request asks."""
    text: str = request["messages"][-1]["content"]
    return int(text.partition("this: ")[2].partition(".")[0])


# What is sent.


def test_a_question_with_a_schema() -> None:
    (ruling,), server, _ = ask(lambda request: "4", probe=OBLIGING)
    (request,) = server.requests
    assert request["messages"] == [
        {"role": "system", "content": SCALE.system},
        {"role": "user", "content": f"Judge this: 0.\n{SCALE.explain}"},
    ]
    assert (request["temperature"], request["seed"], request["max_tokens"]) == (0, 0, 400)
    fields = request["response_format"]["json_schema"]["schema"]["properties"]
    assert list(fields) == ["reason", "verdict"]
    assert fields["verdict"]["enum"] == ["0", "1", "2", "3", "4", "5"]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert (ruling.said, ruling.value, ruling.why) == ("4", 4, "Because.")
    assert json.loads(ruling.reply)["verdict"] == "4"
    assert (ruling.asked, ruling.tokens, ruling.reason) == (1, (10, 2), "")


@pytest.mark.parametrize("reply", ["4", "Verdict: 4", "It is good.\n**Verdict:** 4/5"])
def test_a_question_without_a_schema(reply: str) -> None:
    (ruling,), server, _ = ask(lambda request: reply)
    assert server.requests[0]["messages"][1]["content"] == f"Judge this: 0.\n{SCALE.reply}"
    assert "response_format" not in server.requests[0]
    assert (ruling.said, ruling.value, ruling.why, ruling.reply) == ("4", 4, "", reply)


def test_a_rubric_that_says_neither_is_asked_as_it_is() -> None:
    bare = Rubric("r", "single", "{instruction}{answer}", (("no", 0.0), ("Yes", 1.0)))
    (ruling,), server, _ = ask(lambda request: "yes", probe=OBLIGING, rubric=bare)
    assert server.requests[0]["messages"] == [{"role": "user", "content": "Judge this: 0."}]
    assert "response_format" not in server.requests[0]
    assert (ruling.said, ruling.value) == ("Yes", 1)  # as it stands on the menu


def test_a_schema_that_is_ignored_midway_is_read_like_any_other_reply() -> None:
    (ruling,), _, _ = ask(
        lambda request: Response(body=completion("Verdict: b")), 1, OBLIGING, rubric=PAIR
    )
    assert (ruling.said, ruling.value, ruling.why) == ("B", 0, "")


def test_a_reason_is_kept_as_it_was_written() -> None:
    reply = '{"reason": "意思相同，文體合乎要求。", "verdict": 5}'
    (ruling,), _, _ = ask(lambda request: Response(body=completion(reply)))
    assert (ruling.value, ruling.why) == (5, "意思相同，文體合乎要求。")


@pytest.mark.parametrize(
    ("parameter", "otherwise"),
    [("max_tokens", "max_completion_tokens"), ("seed", None), ("maxLength", None)],
)
def test_a_parameter_that_a_server_does_not_know_is_sent_otherwise(
    parameter: str, otherwise: str | None
) -> None:
    with FakeServer(refuses=[parameter]) as server:
        endpoint = Endpoint("m", Limits(concurrency=1), server.environment)
        rulings = endpoint.ask(SCALE, questions(3), OBLIGING, lambda *_: None)
    assert [ruling.asked for ruling in rulings] == [2, 1, 1]
    assert all(ruling.value == 4 for ruling in rulings)
    for request in server.requests[1:]:
        assert parameter not in json.dumps({**request, "messages": []})
        assert otherwise is None or request[otherwise] == 400


# What is no number.

WRONG: list[tuple[str, Response, str]] = [
    (
        "error body",
        Response(body={"error": {"message": "overloaded"}}),
        "HTTP 200 with an error: overloaded",
    ),
    ("no choices", Response(body={"model": "fake-1", "choices": []}), "HTTP 200 without a reply"),
    (
        "null choices",
        Response(body={"model": "fake-1", "choices": None}),
        "HTTP 200 without a reply",
    ),
    ("list", Response(body="[4]"), "HTTP 200 without a JSON object"),
    (
        "truncated",
        Response(body='{"choices": [{"message": {"content": "4"}'),
        "HTTP 200 without JSON",
    ),
    ("page", Response(body="<html>4</html>"), "HTTP 200 without JSON"),
    ("nothing", Response(body=""), "HTTP 200 without JSON"),
    ("no content", Response(204), "HTTP 204"),
    ("length", Response(body=completion("4", "length")), "the reply broke off at its limit"),
    (
        "half JSON",
        Response(body=completion('{"reason": "x", "verd', "length")),
        "the reply broke off",
    ),
    ("filter", Response(body=completion("4", "content_filter")), "content filter"),
    ("tool", Response(body=completion("4", "tool_calls")), "did not end by itself"),
    ("unended", Response(body={**completion("4", None)}), "did not end by itself"),  # type: ignore[arg-type]
    ("empty", Response(body=completion("")), "the reply is empty"),
    ("null", Response(body=completion(None)), "the reply is empty"),
    ("parts", Response(body=completion([{"text": "4"}])), "the reply is no text"),  # type: ignore[arg-type]
    (
        "refusal",
        Response(body=completion("4", refusal="I cannot.")),
        "the judge refuses: I cannot.",
    ),
    (
        "model",
        Response(body=completion("4", model="fake-2")),
        "written by another model, 'fake-2', not 'fake-1'",
    ),
    ("off the menu", Response(body=completion("7")), "is not on the menu"),
    (
        "JSON off it",
        Response(body=completion('{"reason": "r", "verdict": "7"}')),
        "is not on the menu",
    ),
    (
        "twice",
        Response(body=completion('{"verdict": "4", "verdict": "5"}')),
        "not JSON: a field stands twice",
    ),
]


@pytest.mark.parametrize(("response", "reason"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_anything_but_a_verdict_is_unjudged_and_asked_again(
    response: Response, reason: str
) -> None:
    (ruling,), server, _ = ask(lambda request: response)
    assert (ruling.value, ruling.said, ruling.why) == (None, "", "")
    assert reason in ruling.reason
    assert "\n" not in ruling.reason
    assert ruling.asked == 3  # once, and twice more
    assert [request["seed"] for request in server.requests] == [0, 1, 2]
    assert {request["temperature"] for request in server.requests} == {0}


def test_what_goes_well_the_next_time_is_a_ruling() -> None:
    (ruling,), _, endpoint = ask(in_turn(Response(body=completion("?")), "4"))
    assert (ruling.value, ruling.reason, ruling.asked) == (4, "", 2)
    assert ruling.tokens == (20, 4)  # of both
    assert endpoint.spent == Spent(2, 20, 4)


def test_another_model_midway_spoils_its_own_questions_only() -> None:
    def answer(request: Request) -> Response:
        return Response(body=completion("4", model="fake-2" if number(request) == 2 else "fake-1"))

    rulings, _, _ = ask(answer, 5, limits=Limits(again=0))
    assert [ruling.value for ruling in rulings] == [4, 4, None, 4, 4]


# What is tried again.


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_what_may_pass_is_tried_again(status: int) -> None:
    (ruling,), server, _ = ask(in_turn(refused(status), refused(status), "4"))
    assert (ruling.value, ruling.asked) == (4, 3)
    assert {request["seed"] for request in server.requests} == {0}  # the same question


def test_it_is_tried_four_times() -> None:
    (ruling,), server, _ = ask(lambda request: refused(503, "busy\nas ever"))
    assert (ruling.value, ruling.reason) == (None, "HTTP 503 after 4 tries: busy as ever")
    assert len(server.requests) == 4


def test_waits_grow_where_the_server_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "FIRST_WAIT", 0.08)
    _, server, _ = ask(lambda request: refused(429))
    gaps = [b - a for a, b in itertools.pairwise(server.times)]
    assert all(gap >= 0.75 * 0.08 * 2**i for i, gap in enumerate(gaps))


@pytest.mark.parametrize(
    "wait", [lambda: "1", lambda: "0.9", lambda: formatdate(time.time() + 2, usegmt=True)]
)
def test_retry_after_is_waited_for_by_all(wait: Callable[[], str]) -> None:
    def answer(request: Request) -> str | Response:
        return refused(429, retry_after=wait()) if len(server.requests) == 1 else "4"

    with FakeServer(answer) as server:
        endpoint = Endpoint("m", Limits(concurrency=1), server.environment)
        rulings = endpoint.ask(SCALE, questions(2), PLAIN, lambda *_: None)
    assert [ruling.value for ruling in rulings] == [4, 4]
    assert server.times[1] - server.times[0] >= 0.85


def test_a_header_is_read_as_seconds_or_a_date() -> None:
    assert calling.retry_after("7") == 7
    assert calling.retry_after("-7") == 0
    assert calling.retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert calling.retry_after(formatdate(time.time() + 60, usegmt=True)) == pytest.approx(
        60, abs=2
    )
    assert [calling.retry_after(one) for one in (None, "", "soon", "nan")] == [None] * 4


def test_a_server_that_wants_hours_is_not_waited_for() -> None:
    with pytest.raises(JudgeError, match=r"HTTP 429: it wants to be asked again in 7,200 s"):
        ask(lambda request: refused(429, retry_after="7200"))


def test_a_header_cannot_have_a_refused_request_sent_again() -> None:
    """The client's own repeats would; that is why they are switched off."""
    with FakeServer(lambda request: refused(400, "no", x_should_retry="true")) as server:
        endpoint = Endpoint("m", environment=server.environment)
        with pytest.raises(JudgeError):
            endpoint.ask(SCALE, questions(1), PLAIN, lambda *_: None)
    assert len(server.requests) == 1


@pytest.mark.parametrize("broken", [Response(reset=True), Response(body='{"a', cut=50)])
def test_a_broken_connection_is_tried_again(broken: Response) -> None:
    (ruling,), _, _ = ask(in_turn(broken, "4"))
    assert (ruling.value, ruling.asked) == (4, 2)


def test_a_slow_server_is_tried_again() -> None:
    limits = Limits(timeout=0.3)
    (ruling,), _, _ = ask(in_turn(Response(body=completion("1"), delay=5), "4"), limits=limits)
    assert (ruling.value, ruling.asked) == (4, 2)


def test_connections_that_break_are_unjudged_for_a_reason() -> None:
    (ruling,), _, _ = ask(lambda request: Response(reset=True))
    assert ruling.value is None
    assert ruling.reason.startswith("connection broken after 4 tries: ")


def test_a_server_that_is_not_there_is_given_up() -> None:
    with FakeServer() as server:
        environment = server.environment
    endpoint = Endpoint("m", Limits(concurrency=2), environment)
    heard: list[int] = []
    host = environment["OPENAI_BASE_URL"][7:-3]
    with pytest.raises(JudgeError, match=f"the endpoint at {host} does not answer: ") as caught:
        endpoint.ask(SCALE, questions(100), PLAIN, lambda place, _: heard.append(place))
    assert 5 <= len(heard) <= 8
    assert "\n" not in str(caught.value)
    with pytest.raises(JudgeError, match="does not answer"):
        endpoint.probe(SCALE)


# What ends it at once.


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_ends_it_after_what_was_ruled(status: int) -> None:
    def answer(request: Request) -> str | Response:
        return "4" if number(request) < 3 else refused(status, "it is so")

    heard: dict[int, Ruling] = {}
    with FakeServer(answer) as server:
        endpoint = Endpoint("m", Limits(concurrency=1), server.environment)
        with pytest.raises(JudgeError, match=f"HTTP {status}") as caught:
            endpoint.ask(SCALE, questions(9), PLAIN, heard.__setitem__)
    assert {place: ruling.value for place, ruling in heard.items()} == {0: 4, 1: 4, 2: 4}
    assert len(server.requests) == 4
    assert "\n" not in str(caught.value)
    assert ("it is so" in str(caught.value)) == (status != 401)


def test_no_money_is_no_matter_of_waiting() -> None:
    body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    with pytest.raises(JudgeError, match="HTTP 429: You exceeded your quota"):
        ask(lambda request: Response(429, body))


def test_a_budget_of_calls() -> None:
    heard: dict[int, Ruling] = {}
    with FakeServer() as server:
        endpoint = Endpoint("m", Limits(calls=7), server.environment)
        with pytest.raises(JudgeError, match=r"--judge-calls=7 .* 7 calls .* is kept"):
            endpoint.ask(SCALE, questions(20), PLAIN, heard.__setitem__)
    assert len(server.requests) == endpoint.spent.calls == len(heard) == 7  # all that was paid for


def test_a_budget_counts_every_try() -> None:
    with FakeServer(lambda request: refused(500)) as server:
        endpoint = Endpoint("m", Limits(calls=2), server.environment)
        with pytest.raises(JudgeError, match="--judge-calls"):
            endpoint.ask(SCALE, questions(1), PLAIN, lambda *_: None)
    assert len(server.requests) == 2


def test_a_budget_of_tokens() -> None:
    def answer(request: Request) -> Response:
        return Response(body=completion("4", usage=(150, 50)))

    heard: dict[int, Ruling] = {}
    with FakeServer(answer) as server:
        endpoint = Endpoint("m", Limits(tokens=1000, concurrency=1), server.environment)
        with pytest.raises(JudgeError, match=r"--judge-tokens=1000 .* read 750 .* written 250"):
            endpoint.ask(SCALE, questions(20), PLAIN, heard.__setitem__)
    assert len(server.requests) == len(heard) == 5


def test_tokens_are_estimated_where_a_server_does_not_count_them() -> None:
    (ruling,), server, endpoint = ask(lambda request: Response(body=completion("4", usage=None)))
    texts = [turn["content"] for turn in server.requests[0]["messages"]]
    assert ruling.tokens == (sum(map(estimated_tokens, texts)), 1)
    assert endpoint.spent == Spent(1, *ruling.tokens)


def test_an_estimate() -> None:
    assert [estimated_tokens(text) for text in ("", "a", "abcd", "abcde", "學而", "學a而")] == [
        0,
        1,
        1,
        2,
        2,
        3,
    ]


# Many at once.


def test_so_many_calls_at_once_and_no_more() -> None:
    def answer(request: Request) -> Response:
        return Response(body=completion(str(number(request) % 6)), delay=0.05)

    rulings, server, _ = ask(answer, 18, limits=Limits(concurrency=3))
    assert [ruling.value for ruling in rulings] == [place % 6 for place in range(18)]
    assert server.most == 3


def test_a_ruling_is_heard_before_the_last_is_there() -> None:
    """The answer to the second question is held back until the first has been heard."""
    first = threading.Event()

    def answer(request: Request) -> str:
        assert number(request) == 0 or first.wait(20)
        return "4"

    with FakeServer(answer) as server:
        endpoint = Endpoint("m", Limits(concurrency=2), server.environment)
        rulings = endpoint.ask(SCALE, questions(2), PLAIN, lambda *_: first.set())
    assert [ruling.asked for ruling in rulings] == [1, 1]


def test_calls_per_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "MINUTE", 0.4)
    _, server, _ = ask(lambda request: "4", 7, limits=Limits(concurrency=7, per_minute=3))
    times = sorted(server.times)
    assert times[3] - times[0] >= 0.3
    assert times[6] - times[0] >= 0.7


@pytest.mark.parametrize("hang", [0, 30], ids=["answering", "hanging"])
def test_an_interrupt_begins_no_call_and_waits_for_none(hang: int) -> None:
    def answer(request: Request) -> Response:
        return Response(body=completion("4"), delay=hang if number(request) > 0 else 0)

    heard: list[int] = []

    def hear(place: int, ruling: Ruling) -> None:
        heard.append(place)
        if len(heard) == 1:
            raise KeyboardInterrupt

    begun = time.monotonic()
    with FakeServer(answer) as server:
        endpoint = Endpoint("m", Limits(concurrency=2), server.environment)
        with pytest.raises(KeyboardInterrupt):
            endpoint.ask(SCALE, questions(500), PLAIN, hear)
        assert time.monotonic() - begun < 15
        time.sleep(0.2)
        asked = len(server.requests)
        time.sleep(0.2)
        assert len(server.requests) == asked < 500
    assert len(set(heard)) == len(heard)


INTERRUPTED = """
import os, signal, sys, threading
from harness.judging.endpoint import Endpoint, Limits, Probe
from harness.judging.rubric import load_rubric
from harness.core import Span

def hear(place, ruling):
    print("HEARD", place, ruling.value, flush=True)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

endpoint = Endpoint("m", Limits(concurrency=2))
questions = [(str(i), (Span(f"Judge this: {i}."),)) for i in range(50)]
endpoint.ask(load_rubric("helpful"), questions, Probe("m", "fake-1", "", {}), hear)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signal to one process")
def test_ctrl_c_ends_the_program_although_calls_hang() -> None:
    def answer(request: Request) -> Response:
        return Response(body=completion("4"), delay=60 if number(request) > 0 else 0)

    with FakeServer(answer) as server:
        done = subprocess.run(
            [sys.executable, "-c", INTERRUPTED],
            cwd=ROOT,
            env={**os.environ, **server.environment},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
            # A shell starts background jobs with SIGINT ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    assert done.stdout.split() == ["HEARD", "0", "4.0"]
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert KEY not in done.stderr


# The probe.


def test_an_obliging_server() -> None:
    with FakeServer() as server:
        endpoint = Endpoint("mine", environment=server.environment)
        probe = endpoint.probe(SCALE)
    assert probe == Probe("mine", "fake-1", "fp_1", dict.fromkeys(ALL, True))
    assert probe.lines == ()
    assert endpoint.spent.calls == len(server.requests) == 6
    assert {request["messages"][0]["content"] for request in server.requests} == {SCALE.system}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("way", ["ignores", "refuses"])
def test_what_a_server_does_not_do_is_found(name: str, way: str) -> None:
    parameter = {"schema": "response_format", "limit": "tokens"}.get(name, name)
    if (name, way) == ("limit", "refuses"):
        return  # every request has one
    missing: dict[str, Any] = {way: [name if way == "ignores" else parameter]}
    with FakeServer(**missing) as server:
        probe = Endpoint("m", environment=server.environment).probe(SCALE)
    lacking = {one for one, honoured in probe.honours.items() if not honoured}
    assert lacking - ({"stop"} if name == "limit" else set()) == {name}
    assert len(probe.lines) == len(lacking)
    assert set(probe.honours) == set(ALL)


def test_words_that_a_judge_would_not_say_are_the_proof_of_a_schema() -> None:
    """JSON with the right fields is not: a model may write it without being held to it."""

    def answer(request: Request) -> Response | str:
        if "response_format" in request:
            return Response(body=completion('{"reason": "calm", "verdict": "5"}'))
        return "The sea."

    with FakeServer(answer, probed=False) as server:
        probe = Endpoint("m", environment=server.environment).probe(SCALE)
    assert not probe.honours["schema"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda request: refused(401), r"refuses OPENAI_API_KEY \(HTTP 401\)"),
        (lambda request: refused(404, "no model m"), "HTTP 404: no model m; has it no model of"),
        (lambda request: refused(400, "bad"), "says HTTP 400: bad"),
        (lambda request: refused(503), "says HTTP 503 after 4 tries"),
        (lambda request: Response(body="<html>"), "HTTP 200 without JSON"),
        (lambda request: Response(body={"error": "gone"}), "HTTP 200 with an error: gone"),
        (
            lambda request: Response(body=completion("x", model=str(time.monotonic()))),
            "answers as ",
        ),
    ],
)
def test_a_probe_that_fails_says_so_in_one_line(answer: Answer, words: str) -> None:
    with FakeServer(answer, probed=False) as server:
        endpoint = Endpoint("m", environment=server.environment)
        with pytest.raises(
            JudgeError, match=f"judge m: the endpoint at 127.0.0.1:.*{words}"
        ) as caught:
            endpoint.probe(SCALE)
    assert "\n" not in str(caught.value)
    assert endpoint.spent.calls == len(server.requests) > 0


# Key and address.


def all_that_is_shown(endpoint: Endpoint) -> str:
    try:
        probe = endpoint.probe(SCALE)
        return repr((probe, endpoint.ask(SCALE, questions(1), PLAIN, lambda *_: None)))
    except JudgeError as error:
        held = "" if error.__context__ is None else f"{KEY}: an error that holds the request"
        return "".join(traceback.format_exception(error)) + held


def test_a_key_that_a_server_repeats_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    near = "x" * 55 + KEY  # where a text is cut, the key is not cut in two
    said = [
        refused(400, f"bad key {KEY}"),
        refused(403, f"{near} {near * 3}"),
        refused(503, f"{KEY}", retry_after="0"),
        Response(body={"error": {"message": f"key {KEY}"}}),
        Response(body=f"{KEY} is no JSON"),
        Response(body=completion(f"Verdict: {near}")),
        Response(body=completion(f'{{"reason": "{KEY}", "verdict": "4"}}')),
        Response(body=completion(json.dumps({"reason": "r", "verdict": KEY}))),
        Response(body=completion("4", model=KEY)),
        Response(body=completion("4", refusal=KEY)),
        Response(body=completion("4", KEY)),
    ]
    for response in said:
        for probed in (True, False):
            with FakeServer(lambda request, r=response: r, probed=probed) as server:  # type: ignore[misc]
                endpoint = Endpoint("m", Limits(again=0), server.environment)
                shown = all_that_is_shown(endpoint)
            assert KEY[:12] not in shown, response
    assert KEY[:12] not in caplog.text


def test_an_address_is_shown_as_its_host() -> None:
    with FakeServer(lambda request: refused(400, "no hunter2x")) as server:
        port = server.url.partition(":")[2].partition(":")[2]
        address = f"http://me:hunter2x@127.0.0.1:{port}?version=topsecret"
        endpoint = Endpoint("m", environment={"OPENAI_BASE_URL": address})
        with pytest.raises(JudgeError) as caught:
            endpoint.ask(SCALE, questions(1), PLAIN, lambda *_: None)
    assert server.headers[0]["authorization"].startswith("Basic ")
    host = f"127.0.0.1:{port[:-3]}"
    assert str(caught.value) == f"judge m: the endpoint at {host} says HTTP 400: no ***"
    assert "topsecret" not in repr(endpoint)


def test_a_server_of_ones_own_needs_no_key() -> None:
    with FakeServer() as server:
        endpoint = Endpoint("m", environment={"OPENAI_BASE_URL": server.url})
        (ruling,) = endpoint.ask(SCALE, questions(1), PLAIN, lambda *_: None)
    assert ruling.value == 4


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "neither OPENAI_API_KEY nor OPENAI_BASE_URL is set"),
        ({"OPENAI_API_KEY": " "}, "neither OPENAI_API_KEY nor OPENAI_BASE_URL is set"),
        ({"OPENAI_BASE_URL": "localhost:8000"}, "OPENAI_BASE_URL is no address like http"),
        ({"OPENAI_BASE_URL": "http://h:port/v1"}, "OPENAI_BASE_URL is no address like http"),
        ({"OPENAI_API_KEY": "sk-\u200bsecret"}, "OPENAI_API_KEY has characters"),
    ],
)
def test_what_has_to_be_set(environment: dict[str, str], words: str) -> None:
    with pytest.raises(JudgeError, match=words) as caught:
        Endpoint("m", environment=environment)
    assert "secret" not in str(caught.value)


def test_a_client_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(JudgeError, match=r"pip install 'adaptbench\[judge\]'"):
        Endpoint("m", environment={"OPENAI_API_KEY": KEY})
