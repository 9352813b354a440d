"""The reference: flags, settings, metrics, commands and public names, each from where it is made.

    python -m tools.reference            # writes docs/reference/

Nothing here is written by hand but what joins it. What has no words of its own (a flag without
help, a setting or a public name without a docstring) is an error.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import adaptbench
from harness.cli import _parser
from harness.config.decoding import BUILT_IN
from harness.config.flags import BY_FIELD, FLAGS, HELP
from harness.config.flags import described as help_of
from harness.config.help import default
from harness.config.schema import Schema, schema_of
from harness.config.tables import OTHERS
from harness.core import DecodingSpec
from harness.data.selection import StagePlan
from harness.metrics.corpus import CorpusMetric
from harness.metrics.find import GROUPS, METRICS
from harness.plugins import STRATEGIES, find
from tools import docstrings

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
GENERATED = "<!-- Written by `make docs` (tools/reference.py): change its sources, not it. -->"

# Tables of a recipe that are no strategy's, and keys that are no flags.
TABLES = {
    "decoding": "`[decoding.NAME]`: a way of writing answers, which `decode` names",
    "published": "`[published.METRIC]`: names and numbers measured elsewhere, to look at",
    "for": '`[for."MODEL"]`: tables of strategies, as far as they differ for one of the models',
    "trial": "`[trial]`: what `--limit` changes besides the number of test rows: flags and tables",
    "description": "`description`: what the recipe is, for its readers",
}


def pages() -> dict[str, str]:
    """Return every page: its file name → its text.

    Raises:
        ValueError: something has no words of its own.
    """
    made: dict[str, Callable[[], Iterable[str]]] = {
        "flags.md": flags,
        "settings.md": settings,
        "metrics.md": metrics,
        "commands.md": commands,
        "python.md": python,
    }
    found = {}
    for name, make in made.items():
        title, *blocks = make()
        found[name] = "\n\n".join([f"# {title}", GENERATED, *blocks]) + "\n"
    return found


def write(folder: Path = FOLDER) -> list[Path]:
    """Write the pages that have changed, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    for name, text in pages().items():
        path = folder / name
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, encoding="utf-8", newline="\n")
            changed.append(path)
    return changed


def flags() -> Iterator[str]:
    """Every flag under the headings of ``--help``."""
    yield "Flags"
    yield (
        "Of `pytest suites/` and `adaptbench run`. Every flag is validated once, before anything "
        "is computed; a bad value is one line on stderr and exit status 4. Lists are separated by "
        "commas and make the product."
    )
    yield (
        "A recipe and `[tool.adaptbench]` in pyproject.toml take the same names without the "
        "dashes. A relative path there starts at the file's folder; on the command line it starts "
        "where you stand. The command line wins over `--set`, which wins over the recipe, which "
        "wins over pyproject.toml."
    )
    left = {flag.name for flag in FLAGS} - {name for names in HELP.values() for name in names}
    if left:
        raise ValueError(f"flags under no heading of --help: {', '.join(sorted(left))}")
    for title, names in HELP.items():
        yield f"## {title[0].upper()}{title[1:]}"
        rows = []
        for name in names:
            flag = BY_FIELD[name.replace("-", "_")]
            if not flag.help.strip():
                raise ValueError(f"--{name}: has no help")
            value = default(flag).removeprefix(" (default: ").removesuffix(")")
            shown = f"--{name}" + (f"={flag.metavar}" if flag.metavar else "")
            rows.append((f"`{shown}`", f"`{value}`" if value else "", text(help_of(flag))))
        yield table(("flag", "default", "meaning"), rows)
    yield "## Exit status"
    yield table(
        ("status", "meaning"),
        (
            ("0", "all cells measured, and none worse than its baseline"),
            ("1", "a cell failed (its line says why, the report lists it as missing), or the gate"),
            ("2", "interrupted; finished cells are kept"),
            ("4", "a flag or a file is wrong; one line says what would be right"),
        ),
    )


def settings() -> Iterator[str]:
    """The keys of a recipe."""
    yield "Settings of a recipe"
    yield (
        "A recipe is TOML. At its top level stands every [flag](flags.md), by its name without "
        "dashes; tables hold the rest. `--set TABLE.KEY=VALUE` takes any of these keys. Of a list "
        "of values each makes a variant, with cells of its own. How recipes are used: "
        "[Training](../training.md)."
    )
    unknown = {*OTHERS} - {*TABLES}
    if unknown:
        raise ValueError(f"tables of a recipe without words: {', '.join(sorted(unknown))}")
    yield "\n".join(f"- {line}" for line in TABLES.values())
    for name, strategy in sorted(find(STRATEGIES).classes.items()):
        if not strategy.__module__.startswith("strategies"):
            continue
        schema = schema_of(strategy)
        yield f"## `[{name}]`"
        yield docstrings.prose(next(docstrings.sections(strategy))[1])
        if schema.flags:
            names = ", ".join(f"`--{BY_FIELD[one].name}`" for one in schema.flags)
            yield f"Set by flags: {names}."
        yield from of_table(schema)
    yield "## `[[curriculum.stages]]`"
    yield table(HEADINGS, fields_of(StagePlan))
    yield "## `[decoding.NAME]`"
    yield docstrings.prose(next(docstrings.sections(DecodingSpec))[1])
    made = ", ".join(f"`{name}`{_changes(changed)}" for name, changed in BUILT_IN.items())
    yield f"Built in: {made}. A table of a built-in name changes that one."
    yield table(HEADINGS, fields_of(DecodingSpec, leave=("name",)))


HEADINGS = ("setting", "default", "meaning")


def of_table(schema: Schema) -> Iterator[str]:
    """The settings of a table, then those of the tables in it."""
    told = docstrings.attributes(schema.owner)
    rows = []
    for setting in schema.settings:
        if setting.name not in told:
            raise ValueError(f"{schema.owner.__name__}.{setting.name}: has no docstring")
        if setting.inside is None:
            rows.append((f"`{setting.name}`", toml(setting.default), text(told[setting.name])))
    if rows:
        yield table(HEADINGS, rows)
    for setting in schema.settings:
        if setting.inside is not None:
            yield f"### `[{setting.name}]`"
            yield f"A table of `[{schema.name}]`, which may stand on its own."
            yield docstrings.prose(next(docstrings.sections(setting.inside.owner))[1])
            yield from of_table(setting.inside)


def fields_of(owner: type[Any], leave: tuple[str, ...] = ()) -> Iterator[tuple[str, str, str]]:
    """The rows of a dataclass: its fields, defaults and docstrings."""
    told = docstrings.attributes(owner)
    for one in dataclasses.fields(owner):
        if one.name in leave:
            continue
        if one.name not in told:
            raise ValueError(f"{owner.__name__}.{one.name}: has no docstring")
        yield f"`{one.name}`", toml(one.default), text(told[one.name])


def metrics() -> Iterator[str]:
    """What each metric says of itself."""
    yield "Metrics"
    yield (
        "`--metrics` takes these names; the first is the headline. Each is read from what was "
        "measured, so that another metric computes nothing again. A metric of your own: "
        "[Extend](../extend.md#a-metric)."
    )
    classes = [
        one
        for _, one in sorted(find(METRICS).classes.items())
        if one.__module__.startswith("harness.metrics.")
    ]
    rows = [
        (f"[`{one.name}`](#{one.name})", one.title, one.better, f"{one.observes}s")
        for one in classes
    ]
    yield table(("name", "title", "better", "reads"), rows)
    for name, members in GROUPS.items():
        yield f"`{name}` stands for {', '.join(f'`{one}`' for one in members)}."
    for metric in classes:
        yield f"## {metric.name}"
        yield docstrings.prose(next(docstrings.sections(metric))[1])
        module = inspect.getmodule(metric)
        if sum(one.__module__ == metric.__module__ for one in classes) == 1:  # with its formula
            yield docstrings.prose(inspect.cleandoc(module.__doc__ or ""))
        scale = {"log": "compared by ratios", "linear": "compared by differences"}[metric.scale]
        corpus = issubclass(metric, CorpusMetric)
        whole = "made of sums over rows" if corpus else "the mean over rows"
        facts = [f"{metric.better} is better", f"rows are {scale}", f"the headline is {whole}"]
        if metric.limits and all(map(math.isfinite, metric.limits)):
            facts.append(f"from {metric.limits[0]:g} to {metric.limits[1]:g}")
        if not metric.needs_reference:
            facts.append("needs no reference")
        yield "; ".join(facts).capitalize() + "."
        numbers = {one.name: one for one in (metric.headline, *metric.more)}.values()
        yield table(
            ("number", "in tables", "definition"),
            [(f"`{one.name}`", one.title, text(one.meaning)) for one in numbers],
        )
        meanings = {one.meaning for one in numbers}
        more = {key: told for key, told in metric.definition.items() if told not in meanings}
        if more:
            yield "\n".join(f"- `{key}`: {told}" for key, told in more.items())
        yield from (metric.notes or ())


def commands() -> Iterator[str]:
    """Every command of the shell."""
    parser = _parser()
    yield "Commands"
    yield f"{parser.description} {parser.epilog}"
    (action,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    helps = {one.dest: one.help for one in action._choices_actions}
    for name, command in action.choices.items():
        if not helps.get(name):
            raise ValueError(f"adaptbench {name}: has no help")
        yield f"## adaptbench {name}"
        yield (command.description or f"{helps[name]}").strip().rstrip(".") + "."
        if name == "run":
            yield "Its flags: [Flags](flags.md)."
        rows = []
        for one in command._actions:
            if isinstance(one, argparse._HelpAction):
                continue
            if not one.help:
                raise ValueError(f"adaptbench {name} {one.dest}: has no help")
            metavar = one.metavar or one.dest.upper()
            shown = one.option_strings[0] if one.option_strings else str(metavar)
            if one.option_strings and one.nargs != 0:
                shown += f"={metavar}"
            value = "" if one.default in (None, False) or not one.option_strings else one.default
            rows.append((f"`{shown}`", f"`{value}`" if value else "", text(one.help % {})))
        if rows:
            yield table(("argument", "default", "meaning"), rows)


def python() -> Iterator[str]:
    """The public names."""
    yield "Python"
    yield docstrings.prose(adaptbench.__doc__ or "")
    first = ("compare", "load_run", "Run")
    others = sorted({*adaptbench.__all__} - {*first}, key=lambda one: (one.endswith("Error"), one))
    for name in (*first, *others):
        thing = getattr(adaptbench, name)
        if name.startswith("__"):
            continue
        yield f"## {name}"
        if inspect.isclass(thing) and issubclass(thing, Exception):
            base = thing.__mro__[1].__name__
            yield f"{docstrings.described(thing)} A kind of `{base}`."
            continue
        if inspect.isfunction(thing):
            yield f"```python\n{signature(name, thing)}\n```"
        elif dataclasses.is_dataclass(thing):
            lines = [f"    {field(one)}" for one in dataclasses.fields(thing)]
            yield "\n".join(["```python", f"class {name}:", *lines, "```"])
        yield docstrings.described(thing)
        if inspect.isclass(thing):
            yield from members(name, thing)


def members(name: str, owner: type) -> Iterator[str]:
    """The public methods and properties of a class that have a docstring of their own."""
    for called, one in vars(owner).items():
        function = getattr(one, "__func__", getattr(one, "func", getattr(one, "fget", one)))
        if called.startswith("_") or not inspect.isfunction(function):
            continue
        if not function.__doc__:
            if inspect.getdoc(getattr(owner, called)):  # of the class that it is made of
                continue
            raise ValueError(f"{name}.{called}: has no docstring")
        yield f"### {name}.{called}"
        if function is one or isinstance(one, classmethod):  # else a property
            yield f"```python\n{signature(called, function)}\n```"
        yield docstrings.described(function)


def signature(name: str, function: Callable[..., Any]) -> str:
    """A function as it is called, a line for each argument where there are several."""
    made = inspect.signature(function)
    arguments = [one for one in made.parameters.values() if one.name not in ("self", "cls")]
    returned = made.return_annotation
    end = "" if returned is inspect.Signature.empty else f" -> {returned}"
    told = []
    keyword = False
    for one in arguments:
        if one.kind is inspect.Parameter.KEYWORD_ONLY and not keyword:
            told.append("*")
            keyword = True
        told.append(str(one).replace("'", ""))
    line = f"{name}({', '.join(told)}){end}"
    if len(line) <= 88:
        return line
    return "\n".join([f"{name}(", *(f"    {one}," for one in told), f"){end}"])


def field(one: dataclasses.Field[Any]) -> str:
    """A field of a dataclass with its type and its default."""
    if dataclasses.is_dataclass(one.default):
        return f"{one.name}: {one.type} = {one.type}()"
    if one.default is not dataclasses.MISSING:
        value = json.dumps(one.default) if isinstance(one.default, str) else repr(one.default)
        return f"{one.name}: {one.type} = {value}"
    made = one.default_factory is not dataclasses.MISSING
    return f"{one.name}: {one.type}" + (" = ..." if made else "")


def toml(value: object) -> str:
    """A default as a recipe has it; empty where there is none."""
    if value is None or value is dataclasses.MISSING or value == ():
        return ""
    if isinstance(value, tuple) and isinstance(value[0], tuple):  # weights of measures
        ((name, _),) = value
        return f'`"{name}"`'
    return f"`{json.dumps(value)}`"


def _changes(changed: Mapping[str, Any]) -> str:
    told = ", ".join(f"`{name} = {json.dumps(value)}`" for name, value in changed.items())
    return f" ({told})" if told else ""


def text(words: str) -> str:
    """Words in a cell of a table; one sentence has no full stop there."""
    if words.endswith(".") and ". " not in words:
        words = words[:-1]
    return words.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    heads = list(headings)
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)])


def main() -> int:
    """Write the pages and say which have changed."""
    for path in write():
        print(f"written: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
