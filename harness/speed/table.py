"""What is said of a contest: its table, how to read it, and ``speed.md``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import AdaptbenchError
from harness.files import write_atomically
from harness.models.fingerprint import hardware, version
from harness.report.terminal import Writer
from harness.speed.contest import OURS, PEER, PEER_KERNELS, Contest, Result
from harness.speed.peers import BATCHES
from harness.speed.writing import NEW_TOKENS, Written
from harness.speed.writing import OURS as OUR_WRITER

HEADERS = (
    "k", "contender", "seconds", "rows/s", "unique tokens/s", "TFLOP", "of GEMM rate",
    "peak memory", "fast is faster by", "worst row against reference",
)  # fmt: skip


WRITTEN = (
    "k", "contender", "seconds", "tokens/s", "peak memory", "ours is faster by", "equal texts",
)  # fmt: skip


def show(writer: Writer, contest: Contest, written: Sequence[Written] = ()) -> None:
    """Show how fast the contenders were, and write it to ``speed.md``."""
    if contest.results:
        writer.section("adaptbench: speed of scoring, the same rows in one session")
        writer.write_line(table(contest))
        writer.write_line("")
    if written:
        writer.section("adaptbench: speed of writing, the same rows in one session")
        writer.write_line(written_table(written))
        writer.write_line("")
    writer.write_line(remarks(contest))
    try:
        writer.write_line(str(write(contest, written)))
    except AdaptbenchError as error:
        writer.write_line(str(error), red=True)


def table(contest: Contest) -> str:
    """The results as text, one line per contender and k."""
    from tabulate import tabulate

    lines = [_line(contest, result) for result in contest.results.values()]
    return tabulate(lines, HEADERS, disable_numparse=True, stralign="right")


def _line(contest: Contest, result: Result) -> tuple[object, ...]:
    ours = contest.results.get((result.k, OURS))
    worst = contest.worst(result.k, result.contender)
    return (
        result.k,
        result.contender + (f" (batch {result.batch})" if result.batch else ""),
        f"{result.seconds:.2f}",
        f"{result.rows / result.seconds:.2f}",
        f"{result.tokens / result.seconds:,.0f}",
        f"{result.flops / 1e12:.2f}",
        f"{result.gemm_share:.0%}",
        f"{result.peak_memory_bytes / 1e9:.2f} GB",
        f"{result.seconds / ours.seconds:.1f}" if ours and ours is not result else "–",
        "–" if worst is None else f"{worst:.0e}",
    )


def written_table(written: Sequence[Written]) -> str:
    """How fast answers were written, one line per contender and k."""
    from tabulate import tabulate

    ours = {one.k: one for one in written if one.writer == OUR_WRITER}
    lines = [
        (
            one.k,
            one.writer + (f" (batch {one.batch})" if one.batch else ""),
            f"{one.seconds:.2f}",
            f"{one.tokens / one.seconds:,.1f}",
            f"{one.peak_memory_bytes / 1e9:.2f} GB",
            f"{one.seconds / ours[one.k].seconds:.1f}" if ours.get(one.k, one) is not one else "–",
            f"{one.same} of {one.rows}",
        )
        for one in written
    ]
    return tabulate(lines, WRITTEN, disable_numparse=True, stralign="right")


def remarks(contest: Contest) -> str:
    """What the figures were taken on and how to read them."""
    from harness.models.kernels import use_exact_kernels

    case, task = contest.cases[0], contest.bench.plan.task
    machine = hardware(case.device)
    return (
        f"{case.model_name}, {case.quantization}, {case.dtype} on {case.device}; "
        f"{len(task.examples)} rows of {task.source}; "
        f"{machine.get('gpu') or machine['processor']}, {machine['cores']} cores; "
        f"torch {version('torch')}, transformers {version('transformers')}, "
        f"lm-eval {version('lm-eval')}; GEMM rate {contest.gemm / 1e9:,.0f} GFLOP/s "
        f"({use_exact_kernels() if case.device == 'cpu' else 'torch default'}).\n"
        f"Loading, tokenizing and a warm-up, in which {OURS} also checks that it may share a "
        f"prefix, are not timed. {OURS}: the median of three; the others once. "
        f"{PEER} runs with torch's default kernels, {PEER_KERNELS} with those of {OURS}. "
        f"Answers: {NEW_TOKENS} new tokens at most, greedy, once; static-batch and lm-eval at the "
        f"best of {', '.join(map(str, BATCHES))} rows; equal texts are those of one-by-one. "
        f"Peak memory is the {'device' if case.device == 'cuda' else 'whole process'}'s."
    )


def write(contest: Contest, written: Sequence[Written] = ()) -> Path:
    """Write tables and remarks to ``speed.md`` in the results directory; return its path.

    Raises:
        StoreError: it cannot be written.
    """
    store = contest.bench.store
    path = store.folder / "speed.md"
    store.prepare()
    parts = [_part("Speed of scoring", table(contest))] if contest.results else []
    parts += [_part("Speed of writing", written_table(written))] if written else []
    write_atomically(path, "\n".join([*parts, remarks(contest)]) + "\n")
    return path


def _part(heading: str, text: str) -> str:
    indented = "\n".join(f"    {line}" for line in text.splitlines())
    return f"# {heading}\n\n{indented}\n"
