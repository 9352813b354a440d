"""Asking judges: models here and endpoints elsewhere, by one question, through the log of rulings.

Equal questions are asked once, whoever's answers they hold, and what was said is logged as soon as
it is known. An endpoint is probed once by every process; what it was found to be is kept in
``endpoints/``, so that stored ratings are found without asking it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core import ModelSpec, Span, digest
from harness.errors import JudgeError
from harness.files import write_atomically
from harness.judging.client import make_client, read_address
from harness.judging.endpoint import Endpoint, Limits, Probe
from harness.judging.rubric import Rubric
from harness.judging.verdicts import VERSION
from harness.models.code import JUDGING, code_digest
from harness.models.fingerprint import libraries
from harness.naming import slug
from harness.records import Ruling
from harness.results.rulings import Rulings
from harness.results.store import SHORT, Store
from harness.run.case import Case, Judging
from harness.run.cells import Cells
from harness.run.plan import Plan

if TYPE_CHECKING:
    from harness.judging.local import Verdicts
    from harness.models.pool import ModelPool

Progress = Callable[[str, int, int, str], None]
Question = tuple[str, tuple[Span, ...]]  # the row's id, and what is asked
CHUNK = 64  # questions that a local judge is asked between two writes of the log
ALIKE = 4  # questions about one row that are worth a batch of their own
ENDPOINTS = "endpoints"


class Jurors:
    """The judges of a run.

    Args:
        plan: what is to be measured.
        cells: what models' bytes are called.
        store: where rulings are kept.
        pool: the model in hand; asking for it imports torch.
    """

    def __init__(
        self, plan: Plan, cells: Cells, store: Store, pool: Callable[[], ModelPool]
    ) -> None:
        self.plan, self.cells, self.store, self.pool = plan, cells, store, pool
        self._endpoints: dict[str, tuple[Endpoint, Probe]] = {}
        self._heard: dict[tuple[str, str], Ruling] = {}  # in this process
        self._logs: dict[str, Rulings] = {}

    # --------------------------------------------------------------- who it is

    def spec(self, case: Case, judging: Judging) -> ModelSpec | None:
        """The judge as a model; None for an endpoint that nobody has asked yet."""
        if not judging.remote:
            return ModelSpec(
                name=judging.source.name,
                digest=self.cells.model_digest(case),
                dtype=judging.dtype,
                device=case.device if case.device != "none" else "cpu",
                revision=judging.source.revision,
                gpus=self.plan.options.gpus_per_model if case.device == "cuda" else 1,
            )
        probe = self.probe(judging)
        if probe is None:
            return None
        return ModelSpec(
            name=judging.source.name,
            digest=digest([probe.model, probe.fingerprint]),
            dtype="unknown",
            device="endpoint",
            revision=f"{probe.model} {probe.fingerprint}".strip(),
        )

    def libraries(self, judging: Judging) -> tuple[tuple[str, str], ...]:
        """What else determines what the judge says: code here, settings of an endpoint."""
        if not judging.remote:
            versions = libraries(quantized=False, adapted=False)
            return (*versions, ("adaptbench", code_digest(JUDGING)))
        probe, limits = self.probe(judging), Limits()
        schema = probe is not None and probe.honours.get("schema", False)
        settings = f"temperature 0, {limits.reply_tokens} tokens, {'schema' if schema else 'line'}"
        return (("adaptbench", f"verdicts {VERSION}"), ("settings", settings))

    def probe(self, judging: Judging) -> Probe | None:
        """What an endpoint is known to be; None where it was never asked."""
        known = self._endpoints.get(judging.source.reference)
        if known is not None:
            return known[1]
        try:
            body = json.loads(self._probe_file(judging).read_text(encoding="utf-8"))
            return Probe(**body)
        except (OSError, ValueError, TypeError):
            return None

    def _probe_file(self, judging: Judging) -> Path:
        name = judging.source.reference
        # Two servers may have a model of one name; an address may hold a secret.
        where = hashlib.sha256(os.environ.get("OPENAI_BASE_URL", "").encode()).hexdigest()[:8]
        return self.store.folder / ENDPOINTS / f"{slug(name)}-{where}.json"

    def ready(self, case: Case, judging: Judging, progress: Progress) -> None:
        """Probe an endpoint that this process has not asked yet.

        Raises:
            JudgeError: it cannot be reached, or refuses what is asked.
        """
        name = judging.source.reference
        if not judging.remote or name in self._endpoints:
            return
        progress(case.short, 0, 0, "probing the judge")
        endpoint = Endpoint(name, limits_of(self.plan))
        probe = endpoint.probe(judging.rubric)
        self._endpoints[name] = endpoint, probe
        body = {**asdict(probe), "honours": dict(probe.honours)}
        write_atomically(self._probe_file(judging), json.dumps(body, indent=1) + "\n")

    # ----------------------------------------------------------------- asking

    def ask(
        self,
        case: Case,
        judging: Judging,
        questions: Sequence[Question],
        progress: Progress,
        *,
        again: bool = False,
    ) -> list[Ruling]:
        """What the judge says to each question; to equal ones, once.

        Args:
            case: whose answers are judged, for progress and for the device.
            judging: the judge and its rubric.
            questions: (row's id, what is asked).
            progress: told what is done.
            again: whether to ask whatever was said before, and to keep nothing of it.

        Raises:
            AdaptbenchError: the judge cannot be asked; what it said so far is kept.
        """
        self.ready(case, judging, progress)
        log = self._log(case, judging)
        keys = _keys(questions)
        known = {} if again else self._known(log, keys)
        places = _first(keys, known)
        total, done = len(questions), [len(questions) - len(places)]

        def heard(index: int, ruling: Ruling) -> None:
            key = keys[places[index]]
            known[key] = ruling
            if not again:
                self._heard[log.path.stem, key] = ruling
                if ruling.value is not None:
                    log.add(key, ruling)
            done[0] += 1
            progress(case.short, done[0], total, "questions judged")

        asked = [questions[place] for place in places]
        if asked and judging.remote:
            endpoint, probe = self._endpoints[judging.source.reference]
            endpoint.ask(judging.rubric, asked, probe, heard)
        elif asked:
            self._ask_here(case, judging, asked, progress, heard)
        return [known[key] for key in keys]

    def waiting(self, case: Case, judging: Judging, questions: Sequence[Question]) -> list[int]:
        """The places of questions that would have to be asked: equal ones once, none of the log."""
        keys = _keys(questions)
        asked_before = self.spec(case, judging) is not None
        return _first(keys, self._known(self._log(case, judging), keys) if asked_before else {})

    def _known(self, log: Rulings, keys: Sequence[str]) -> dict[str, Ruling]:
        """What is known of questions; with --fresh, of what this process asked alone."""
        found: dict[str, Ruling] = {}
        for key in keys:
            own = self._heard.get((log.path.stem, key))
            said = own if own is not None or self.plan.options.fresh else log.get(key)
            if said is not None:
                found[key] = said
        return found

    def _log(self, case: Case, judging: Judging) -> Rulings:
        spec = self.spec(case, judging)
        if spec is None:
            raise JudgeError(f"--judge={judging.source.name}: was not asked yet")
        name = digest([spec.determining, judging.rubric.digest, self.libraries(judging)])[:SHORT]
        return self._logs.setdefault(name, Rulings(self.store.folder, name))

    def _ask_here(
        self,
        case: Case,
        judging: Judging,
        questions: Sequence[Question],
        progress: Progress,
        heard: Callable[[int, Ruling], None],
    ) -> None:
        from harness.judging.local import judge

        spec = self.spec(case, judging)
        assert spec is not None
        progress(case.short, 0, 0, "loading the judge")
        loaded = self.pool().get(spec, self.cells.folder(case), None)
        total, before = len(questions), 0
        for places in _together([row for row, _ in questions]):

            def done(count: int, before: int = before) -> None:
                progress(case.short, before + count, total, "questions judged")

            found = judge(loaded, judging.rubric, [questions[place] for place in places], done)
            for place, verdicts in zip(places, found, strict=True):
                heard(place, _ruling(verdicts, judging.rubric))
            before += len(places)

    def name(self, judging: Judging) -> str:
        """The judge's name for readers: of an endpoint, with the id that it returned."""
        name, probe = judging.source.name, self.probe(judging) if judging.remote else None
        return name if probe is None or probe.model == name else f"{name} ({probe.model})"


def _keys(questions: Sequence[Question]) -> list[str]:
    """What each question is called in the log."""
    return [digest([[span.text, span.special] for span in spans]) for _, spans in questions]


def _first(keys: Sequence[str], known: Mapping[str, Ruling]) -> list[int]:
    """The first place of every key that is not known, in order."""
    return sorted({key: i for i, key in reversed([*enumerate(keys)]) if key not in known}.values())


def _together(rows: Sequence[str]) -> list[list[int]]:
    """The places of questions that a local judge is asked together.

    Questions about one row begin alike, with the row, which is then computed once; those of rows
    with few questions have the rubric in common.

    Args:
        rows: of each question, its row's id.
    """
    of_row: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        of_row.setdefault(row, []).append(place)
    alike = [places for places in of_row.values() if len(places) >= ALIKE]
    rest = sorted(place for places in of_row.values() if len(places) < ALIKE for place in places)
    every = [*alike, *([rest] if rest else [])]
    return [
        places[start : start + CHUNK] for places in every for start in range(0, len(places), CHUNK)
    ]


def _ruling(found: Verdicts, rubric: Rubric) -> Ruling:
    """What a local judge says: of one answer the expectation, of two the likeliest verdict."""
    likeliest = max(range(len(rubric.menu)), key=lambda place: found.probabilities[place])
    said, value = rubric.menu[likeliest]
    return Ruling(
        said=said,
        value=value if rubric.kind == "pairwise" else found.score,
        probabilities=found.probabilities,
        mass=found.mass,
        spread=found.spread,
    )


def check_endpoints(cases: Iterable[Case]) -> None:
    """See that every judge behind an endpoint has an address and a client, before it is needed.

    Raises:
        JudgeError: one has not.
    """
    remote = (case.judging for case in cases if case.judging is not None and case.judging.remote)
    for name in {judging.source.name for judging in remote}:
        make_client(read_address(name, os.environ), timeout=1.0)


def limits_of(plan: Plan) -> Limits:
    """What the flags allow an endpoint to be asked."""
    options = plan.options
    return Limits(
        concurrency=options.judge_concurrency,
        per_minute=options.judge_rate,
        calls=options.judge_calls,
        tokens=options.judge_tokens,
    )
