"""The log of what judges said: whole lines, whatever was killed in between."""

from __future__ import annotations

from pathlib import Path

from harness.records import Ruling
from harness.results.rulings import Rulings

SAID = Ruling("4", 4.0, why="it is “fine” ✓", reply='{"verdict": "4"}', tokens=(120, 9))


def test_what_was_said_is_found_by_another_process(tmp_path: Path) -> None:
    log = Rulings(tmp_path, "judge")
    assert log.get("a") is None
    log.add("a", SAID)
    local = Ruling("3", 2.75, probabilities=(0.1, 0.9), mass=0.5, spread=0.25)
    log.add("b", local)
    for one in (log, Rulings(tmp_path, "judge")):
        assert one.get("a") == SAID
        assert one.get("b") == local
        assert one.get("c") is None
    assert Rulings(tmp_path, "another").get("a") is None


def test_a_line_that_was_cut_off_costs_its_own_question_only(tmp_path: Path) -> None:
    log = Rulings(tmp_path, "judge")
    for name in "abc":
        log.add(name, SAID)
    whole = log.path.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1])):
        log.path.write_bytes(whole[:-cut])
        again = Rulings(tmp_path, "judge")
        assert (again.get("a"), again.get("b")) == (SAID, SAID)
        assert again.get("c") == (SAID if cut == 1 else None)  # only its line feed is gone
        again.add("d", SAID)
        later = Rulings(tmp_path, "judge")
        assert (later.get("b"), later.get("d")) == (SAID, SAID)


def test_a_changed_line_is_asked_again(tmp_path: Path) -> None:
    log = Rulings(tmp_path, "judge")
    log.add("a", SAID)
    log.add("b", SAID)
    text = log.path.read_text("utf-8")
    log.path.write_text(text.replace('"value": 4.0', '"value": 5.0', 1), "utf-8")
    again = Rulings(tmp_path, "judge")
    assert again.get("a") is None
    assert again.get("b") == SAID


def test_lines_of_two_writers_stand_beside_each_other(tmp_path: Path) -> None:
    one, other = Rulings(tmp_path, "judge"), Rulings(tmp_path, "judge")
    for i in range(20):
        (one if i % 2 else other).add(str(i), SAID)
    for log in (one, other, Rulings(tmp_path, "judge")):
        assert all(log.get(str(i)) == SAID for i in range(20))
