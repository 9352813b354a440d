"""Runs with a judge behind an endpoint: real sockets, answers that stand in files, no model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.judging.probes import CANARIES
from tests.builders import ROOT
from tests.builders.commands import Outcome, Run, summary
from tests.builders.endpoint import KEY, FakeServer, refused
from tests.builders.judges import always_first, perfect, prefers_longer, texts_of
from tests.builders.tasks import row, write_rows

pytest.importorskip("openai", reason="the client of endpoints is an extra: adaptbench[judge]")

COUNT = 12


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, str]]:
    made = [row(i, 16 + i, "test") for i in range(COUNT)]
    write_rows(tmp_path / "data" / "test.json", made)
    return made


@pytest.fixture
def references(rows: list[dict[str, str]]) -> dict[str, str]:
    return {one["instruction"]: one["output"] for one in rows}


@pytest.fixture
def answers(rows: list[dict[str, str]], tmp_path: Path) -> str:
    """Two files: one of good answers, which is the control, and one of bad ones."""
    files = []
    for name, size in (("good", 14), ("bad", 4)):
        path = tmp_path / f"{name}.json"
        said = [{"id": one["id"], "output": one["output"][:size]} for one in rows]
        path.write_text(json.dumps(said, ensure_ascii=False), "utf-8")
        files.append(str(path))
    return ",".join(files)


@pytest.fixture
def server(references: dict[str, str]) -> Iterator[FakeServer]:
    with FakeServer(perfect(references)) as made:
        yield made


def judged(suites: Run, server: FakeServer, answers: str, tmp_path: Path, *more: str) -> Outcome:
    return suites(
        f"--score-predictions={answers}",
        f"--data={tmp_path / 'data' / 'test.json'}",
        "--judge=openai:fake",
        "--metrics=judge,win_rate,chrf",
        *more,
        env=server.environment,
    )


def everything(folder: Path) -> str:
    """The text of every file of a results directory."""
    return "\n".join(
        path.read_text("utf-8", "replace") for path in folder.rglob("*") if path.is_file()
    )


def test_a_judge_behind_an_endpoint_judges_scores_and_pairs(
    suites: Run, server: FakeServer, answers: str, tmp_path: Path
) -> None:
    done = judged(suites, server, answers, tmp_path)
    assert done.status == 0, done.out
    body = summary(tmp_path)
    means = {one["label"]: one["mean"] for one in body["groups"]}
    assert means["good"] > means["bad"] + 1
    (wins,) = next(one for one in body["metrics"] if one["name"] == "win_rate")["groups"]
    assert (wins["label"], wins["against"], wins["mean"]) == ("bad", "good", 0)
    assert "bad wins 0 % of rows" in "\n".join(body["conclusions"])
    assert all(judge["trusted"] for judge in body["judges"])
    assert {judge["rubric"] for judge in body["judges"]} == {"helpful", "pairwise"}
    # Nothing is asked twice: equal questions are one.
    said = [json.dumps(one["messages"]) for one in server.asked]
    repeated = len(said) - len(set(said))
    assert repeated == 2 * COUNT  # the repetitions of both examinations
    # The key is in no file and no line.
    assert KEY not in done.out + done.err + everything(tmp_path / "results")
    assert "127.0.0.1" not in everything(tmp_path / "results")


def test_what_was_judged_is_not_judged_again(
    suites: Run, server: FakeServer, answers: str, tmp_path: Path
) -> None:
    assert judged(suites, server, answers, tmp_path).status == 0
    before = len(server.asked)
    again = judged(suites, server, answers, tmp_path)
    assert again.status == 0
    # A few questions of both examinations are asked again, to see that it is the same judge.
    assert len(server.asked) - before == 2 * 2 * 4
    # Other answers are judged, and the old ones are not.
    first, second = answers.split(",")
    said = json.loads(Path(second).read_text("utf-8"))
    said[3]["output"] = "別"
    Path(second).write_text(json.dumps(said, ensure_ascii=False), "utf-8")
    before = len(server.asked)
    assert judged(suites, server, f"{first},{second}", tmp_path).status == 0
    assert len(server.asked) - before == 16 + 1 + 2  # the score of one answer, its pair twice


def test_two_workers_examine_a_judge_once(
    suites: Run, server: FakeServer, answers: str, tmp_path: Path
) -> None:
    pytest.importorskip("xdist")
    done = judged(suites, server, answers, tmp_path, "-n2")
    assert done.status == 0, done.out
    examined = [
        json.dumps(one["messages"])
        for one in server.asked
        if texts_of(one)[1:] == [CANARIES["constant"]]
    ]
    assert len(examined) == len(set(examined)) == COUNT


def test_a_drifted_judge_fails_its_cells(
    suites: Run, server: FakeServer, answers: str, tmp_path: Path
) -> None:
    assert judged(suites, server, answers, tmp_path).status == 0
    plain = server.answer
    server.answer = lambda request: "1" if len(texts_of(request)) < 3 else plain(request)
    done = judged(suites, server, answers, tmp_path)
    assert done.status == 1
    assert "it is no longer the judge that was examined" in done.out
    assert "Traceback" not in done.out


def test_another_model_behind_the_name_is_another_judge(
    suites: Run, server: FakeServer, answers: str, tmp_path: Path
) -> None:
    assert judged(suites, server, answers, tmp_path).status == 0
    server.model = "fake-2"
    before = len(server.asked)
    assert judged(suites, server, answers, tmp_path).status == 0
    assert len(server.asked) - before > 2 * COUNT * len(CANARIES)  # examined and judged anew


@pytest.mark.parametrize(("share", "status"), [("5%", 1), ("20%", 0)])
def test_answers_without_a_verdict_are_counted_and_limited(
    suites: Run, references: dict[str, str], answers: str, tmp_path: Path, share: str, status: int
) -> None:
    right = perfect(references)
    rows = json.loads((tmp_path / "data" / "test.json").read_text("utf-8"))
    silent = rows[5]["output"][:4]  # one answer of twelve gets no verdict

    def says(request: dict[str, object]) -> str:
        return "I cannot say." if texts_of(request)[1:] == [silent] else right(request)

    with FakeServer(says, ignores=("schema",)) as server:
        done = judged(suites, server, answers, tmp_path, f"--judge-unjudged={share}")
        assert done.status == status, done.out
        if status:
            assert "1 of 12 answers are unjudged, more than --judge-unjudged=5% allows" in done.out
            return
        bad = next(one for one in summary(tmp_path)["groups"] if one["label"] == "bad")
        assert bad["unjudged"] == pytest.approx(1 / 12)
        assert bad["judge_worst"] == pytest.approx(bad["mean"] * 11 / 12)
        page = (tmp_path / "results" / "report.html").read_text("utf-8")
        assert "unjudged: no line of the reply" in page or "is not on the menu" in page
        # A gate does not pass over it.
        base = f"--baseline={tmp_path / 'base.json'}"
        kept = judged(
            suites, server, answers, tmp_path, "--judge-unjudged=20%", base, "--update-baseline"
        )
        assert kept.status == 1
        assert "not written" in kept.out


def test_a_dry_run_asks_nothing(
    suites: Run, server: FakeServer, answers: str, tmp_path: Path
) -> None:
    done = judged(suites, server, answers, tmp_path, "--judge-dry-run")
    assert done.status == 0, done.out
    assert server.requests == []
    (whole,) = [line for line in done.lines if line.startswith("In all: ")]
    planned = int(whole.split()[2].replace(",", ""))
    assert judged(suites, server, answers, tmp_path).status == 0
    spent = len(server.requests)
    assert spent <= planned <= 1.4 * spent  # equal questions of cells are asked once
    body = done.out
    assert "predictions-bad-judged: 12 calls" in body
    assert "predictions-bad-vs-good: 24 calls" in body


def test_a_budget_that_does_not_suffice_is_told_before_anything_is_spent(
    suites: Run, server: FakeServer, answers: str, tmp_path: Path
) -> None:
    done = judged(suites, server, answers, tmp_path, "--judge-calls=100")
    assert done.status == 4
    assert "--judge-calls=100: judging takes about" in done.err
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (401, "refuses OPENAI_API_KEY"),
        (404, "has it no model of this name"),
        (400, "HTTP 400"),
    ],
)
def test_an_endpoint_that_refuses_is_one_line(
    suites: Run, answers: str, tmp_path: Path, rows: object, status: int, line: str
) -> None:
    with FakeServer(lambda request: refused(status, f"no, {KEY}"), probed=False) as server:
        done = judged(suites, server, answers, tmp_path)
    assert done.status == 1
    assert line in done.out
    assert "Traceback" not in done.out
    assert KEY not in done.out + done.err


def test_a_single_row_is_judged_by_a_judge_that_nobody_could_examine(
    suites: Run, server: FakeServer, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    one = tmp_path / "one.json"
    one.write_text(json.dumps([{"id": rows[0]["id"], "output": rows[0]["output"]}]), "utf-8")
    done = judged(suites, server, str(one), tmp_path, "--metrics=judge", "--limit=1")
    assert done.status == 0, done.out
    (group,) = summary(tmp_path)["groups"]
    assert group["mean"] == 5


def test_what_was_judged_counts_against_no_budget(
    suites: Run, server: FakeServer, answers: str, tmp_path: Path
) -> None:
    assert judged(suites, server, answers, tmp_path, "--metrics=judge").status == 0
    # The cells are gone, and what was said stands in the log.
    for path in (tmp_path / "results" / "cells").glob("*judged*"):
        path.unlink()
    done = judged(suites, server, answers, tmp_path, "--metrics=judge", "--judge-calls=20")
    assert done.status == 0, done.out + done.err


def test_no_address_and_no_key_is_one_line(
    suites: Run, server: FakeServer, answers: str, tmp_path: Path
) -> None:
    nowhere = {"OPENAI_BASE_URL": "", "OPENAI_API_KEY": ""}
    done = suites(
        f"--score-predictions={answers}",
        f"--data={tmp_path / 'data' / 'test.json'}",
        *("--judge=openai:fake", "--metrics=judge"),
        env=nowhere,
    )
    assert done.status == 4  # before anything is computed
    assert "neither OPENAI_API_KEY nor OPENAI_BASE_URL is set" in done.err
    assert not list((tmp_path / "results").glob("cells/*"))


def test_a_killed_run_goes_on_where_it_was(
    references: dict[str, str], answers: str, tmp_path: Path
) -> None:
    right, enough = perfect(references), threading.Event()

    def says(request: dict[str, object]) -> str:
        if len(server.asked) > 150:
            enough.set()
        time.sleep(0.01)
        return right(request)

    with FakeServer(says) as server:
        command = [
            *(sys.executable, "-m", "pytest", "suites/", "-p", "no:cacheprovider"),
            f"--score-predictions={answers}",
            f"--data={tmp_path / 'data' / 'test.json'}",
            *("--judge=openai:fake", "--metrics=judge,win_rate"),
            f"--results-dir={tmp_path / 'results'}",
        ]
        env = {**os.environ, **server.environment}
        first = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        assert enough.wait(60)
        first.send_signal(signal.SIGKILL)
        first.wait()
        log = next((tmp_path / "results" / "rulings").glob("*.jsonl"))
        kept = {json.loads(line)["question"] for line in log.read_text("utf-8").splitlines()[:-1]}
        before = len(server.asked)
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode()
        said = [json.dumps(one["messages"]) for one in server.asked]
        old, new = said[:before], said[before:]
    assert len(kept) > 100
    # At most the questions that were in flight are asked of it twice, and the repetitions.
    both = [one for one in new if one in set(old)]
    assert len(both) <= 4 + 2 * COUNT


@pytest.mark.parametrize(
    ("name", "failed", "sentence"),
    [
        ("perfect", set(), "No fixed string fools it."),
        (
            "first",
            {"test_the_order_does_not_decide[pairwise]", "test_the_reference_is_above"},
            "It follows the order: the answer that stands first wins 100 % [",
        ),
        (
            "longer",
            {"test_padding_earns_nothing[pairwise]", "test_the_reference_is_above"},
            "It prefers length: padding alone wins 100 % [",
        ),
    ],
)
def test_three_judges_are_told_apart(
    suites: Run, references: dict[str, str], answers: str, tmp_path: Path,
    name: str, failed: set[str], sentence: str,
) -> None:  # fmt: skip
    judges = {"perfect": perfect(references), "first": always_first, "longer": prefers_longer}
    with FakeServer(judges[name]) as server:
        done = suites(
            f"--score-predictions={answers}",
            f"--data={tmp_path / 'data' / 'test.json'}",
            *("--judge=openai:fake", "--rubric=pairwise", "-rf"),
            only=ROOT / "suites" / "test_judge.py",
            env=server.environment,
        )
        lines = [line for line in done.lines if line.startswith("FAILED")]
        for one in failed:
            assert any(one in line for line in lines), done.out
        assert done.status == (1 if failed else 0), done.out
        assert judged(suites, server, answers, tmp_path, "--metrics=win_rate").status == 0
    (judge,) = summary(tmp_path)["judges"]
    assert sentence in " ".join(judge["sentences"])
    assert judge["trusted"] is (name == "perfect")
    said = "\n".join(summary(tmp_path)["conclusions"])
    assert (", sure." in said) is (name == "perfect")
