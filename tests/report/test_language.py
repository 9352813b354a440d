"""Reports in other languages: what is translated, what stays, and that catalogues are whole."""

from __future__ import annotations

import ast
import json
import pickle
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.frontend import CommandLineInterface
from babel.messages.pofile import read_po

from harness.cli import PASSED, WRONG, main
from harness.gate.verdict import Terms
from harness.messages import Message, capitalized, listed, say, say_number
from harness.places import LANGUAGES, languages
from harness.report.content import build
from harness.report.html import page
from harness.report.language import ENGLISH, Language, language, read_catalogue
from harness.report.markdown import render
from harness.report.publish import Style, rebuild
from harness.report.stored import STORED
from harness.results.baseline import write_baseline
from harness.results.manifest import read_manifest, write_manifest
from harness.results.reading import metrics_of, read_run, snapshot
from tests.builders import ROOT
from tests.builders.answered import make_judged_run
from tests.builders.pages import Page
from tests.builders.runs import make_run
from tests.builders.texts import ENGLISH as ENGLISH_WORDS

ZH = "zh-TW"
PLACEHOLDER = re.compile(r"\{\w+\}|%\(\w+\)s|%%")
TAG = re.compile(r"</?\w[^>]*>|\*\*|`[^`]*`")


def texts(catalogue: Catalog) -> dict[tuple[str, ...], tuple[str, ...]]:
    """All templates of an entry → all it is in the language; a header has no template."""
    both = {}
    for one in catalogue:
        pair = [(each,) if isinstance(each, str) else tuple(each) for each in (one.id, one.string)]
        if pair[0] != ("",):
            both[pair[0]] = pair[1]
    return both


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], tuple[str, ...]]:
    """What reports say, as ``make languages`` finds it."""
    lines = (ROOT / "Makefile").read_text("utf-8").splitlines()
    (line,) = (line for line in lines if "pybabel -q extract" in line)
    made = tmp_path_factory.mktemp("pot") / "reports.pot"
    words = shlex.split(line)[:-3]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        CommandLineInterface().run([*words, "-o", str(made), "."])
    with made.open("rb") as file:
        return texts(read_po(file))


@pytest.fixture(params=sorted(set(languages()) - {"en"}))
def catalogue(request: pytest.FixtureRequest) -> dict[tuple[str, ...], tuple[str, ...]]:
    with (LANGUAGES / f"{request.param}.po").open("rb") as file:
        return texts(read_po(file, locale=request.param.replace("-", "_")))


def test_a_catalogue_has_what_reports_say_and_nothing_else(
    said: dict[tuple[str, ...], tuple[str, ...]],
    catalogue: dict[tuple[str, ...], tuple[str, ...]],
) -> None:
    assert set(catalogue) == set(said)  # otherwise: make languages
    assert [name for name, forms in catalogue.items() if not all(forms)] == []


def constants() -> Iterator[str]:
    """The first argument of every ``say`` in the modules that make messages."""
    for path in (ROOT / "harness").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        names = [one for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)]
        if not any(one.module == "harness.messages" for one in names):
            continue
        for one in ast.walk(tree):
            if isinstance(one, ast.Call) and getattr(one.func, "id", "") == "say":
                assert isinstance(one.args[0], ast.Constant), f"{path}:{one.lineno}: no constant"
                yield one.args[0].value


def test_no_message_is_one_that_babel_does_not_find(
    said: dict[tuple[str, ...], tuple[str, ...]],
) -> None:
    # Of calls within calls, Babel reads the outer one.
    assert set(constants()) - {name[0] for name in said} == set()


def test_placeholders_and_markup_are_those_of_the_template(
    catalogue: dict[tuple[str, ...], tuple[str, ...]],
) -> None:
    for templates, forms in catalogue.items():
        for form in forms:
            wanted = set(PLACEHOLDER.findall(templates[-1]))
            assert set(PLACEHOLDER.findall(form)) == wanted, templates
            assert sorted(TAG.findall(form)) == sorted(TAG.findall(templates[-1])), templates


def test_words_of_taiwan_and_full_width_punctuation() -> None:
    with (LANGUAGES / f"{ZH}.po").open("rb") as file:
        forms = [form for some in texts(read_po(file)).values() for form in some]
    for form in forms:
        found = re.search("數據|信息|默認|軟件|硬件|質量|程序|文件夾|缺省|支持|網絡", form)
        assert found is None, form
        assert not re.search("[\u4e00-\u9fff] ?[,;:?!]|[,;:?!] ?[\u4e00-\u9fff]", form), form
        form = PLACEHOLDER.sub("…", form)
        assert not re.search("[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9][\u4e00-\u9fff]", form), form


def f_strings(path: Path) -> Iterator[str]:
    """Every text of a module with ``{}`` where an f-string or ``format`` puts a value."""
    for one in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(one, ast.JoinedStr):
            parts = (str(p.value) if isinstance(p, ast.Constant) else "{}" for p in one.values)
            yield "".join(parts)
        elif isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value


def test_stored_lines_are_made_as_they_are_looked_for() -> None:
    made = {
        text
        for path in (ROOT / "harness").rglob("*.py")
        if path.name != "stored.py"
        for text in f_strings(path)
    }
    for template in STORED:
        assert re.sub(r"\{\w+\}", "{}", template) in made, template


def test_a_message_is_its_english_text_and_survives_copies() -> None:
    inner = say("zero-shot")
    told = say("{size} below {other} {limits}", size="5 %", other=inner, limits="[3, 7]")
    assert told == "5 % below zero-shot [3, 7]"
    assert json.loads(json.dumps({"said": told})) == {"said": "5 % below zero-shot [3, 7]"}
    again = pickle.loads(pickle.dumps(told))
    assert language(ZH).of(again) == language(ZH).of(told) == "比零樣本低 5 % [3, 7]"
    assert say("a brace { is a brace") == "a brace { is a brace"


def small(**more: object) -> Language:
    found = {
        "{x} is good": ("{x}好",),
        "one {count}": ("{count} 個",),
        ", ": ("、",),
        "word": ("詞",),
        "bad {x}": ("壞 {y}",),
        "**so far:** {x}": ("**至今：** {x}",),
        "of **{x}**": ("是**{x}**的",),
    }
    return Language("xx", found, lambda number: 0)


def test_values_are_set_as_chinese_is() -> None:
    of = small().of
    assert of(say("{x} is good", x="qlora")) == "qlora 好"
    assert of(say("{x} is good", x=say("word"))) == "詞好"
    assert of(listed(["a", say("word")])) == "a、詞"
    assert of(say("**so far:** {x}", x=4)) == "**至今：** 4"
    assert of(say("**so far:** {x}", x=say("word"))) == "**至今：** 詞"
    assert of(say("of **{x}**", x="chrF2")) == "是 **chrF2** 的"
    assert of(say("of **{x}**", x=say("word"))) == "是**詞**的"
    assert of(say_number(3, "one {count}", "many {count}")) == "3 個"
    assert say_number(3, "one {count}", "many {count}") == "many 3"
    assert capitalized(say("word")) == "Word"
    assert of(capitalized(say("word"))) == "詞"
    assert capitalized("chrF2") == "ChrF2"
    assert of(capitalized("chrF2")) == "chrF2"


def test_what_a_catalogue_lacks_is_english() -> None:
    of = small().of
    assert of(say("{x} and no more", x=say("word"))) == "詞 and no more"
    assert of(say_number(2, "{count} row", "{count} rows")) == "2 rows"
    assert of(say("bad {x}", x=1)) == "bad 1"  # a translator's slip
    assert of("word") == "word"  # a row's text is none of ours
    assert isinstance(ENGLISH.of(say("word")), Message)


def test_a_row_that_reads_like_a_heading_is_not_translated(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "results", shift=-0.3)
    manifest = read_manifest(folder)
    rows = (replace(manifest.rows[0], instruction="mean perplexity"), *manifest.rows[1:])
    write_manifest(folder, replace(manifest, rows=rows))
    rebuild(folder, None, Style(languages=(ZH,)))
    data = json.loads(Page((folder / "report.zh-TW.html").read_text("utf-8")).scripts[0])
    assert data["rows"][0]["instruction"] == "mean perplexity"
    assert data["metrics"][0]["title"] == "平均困惑度"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with likelihoods' and answers' metrics, judges and a failing gate, in both."""
    folder = make_judged_run(tmp_path_factory.mktemp("judged") / "results")
    rebuild(folder, None, Style(languages=("en", ZH)))
    return folder


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("gated")
    baseline = home / "baseline.json"
    write_baseline(baseline, snapshot(make_run(home / "before")))
    folder = make_run(home / "results", shift=0.3)
    rebuild(folder, Terms(baseline), Style(languages=("en", ZH)))
    return folder


def shown(folder: Path) -> Iterator[str]:
    """Every line of text that a reader of the Chinese reports meets, but for the recipe."""
    markdown = (folder / "report.zh-TW.md").read_text("utf-8")
    yield from markdown.partition("    # What this run was asked for")[0].splitlines()
    parsed = Page((folder / "report.zh-TW.html").read_text("utf-8"))
    yield from re.split(r"\n|# What this run was asked for.*", parsed.text)
    for _, attributes in parsed.tags:
        yield from (attributes.get(name) or "" for name in ("aria-label", "placeholder"))
    for path in (folder / "figures").glob("*.zh-TW.svg"):
        yield from re.sub("<[^>]*>", "\n", path.read_text("utf-8")).splitlines()


@pytest.mark.parametrize("name", ["judged", "gated"])
def test_a_chinese_report_holds_no_english_sentence(
    name: str, request: pytest.FixtureRequest
) -> None:
    lines = list(shown(request.getfixturevalue(name)))
    assert len(lines) > 100
    assert [line for line in lines if ENGLISH_WORDS.search(line)] == []


def test_both_languages_stand_beside_each_other_with_the_same_numbers(gated: Path) -> None:
    english, chinese = (
        (gated / name).read_text("utf-8") for name in ("report.md", "report.zh-TW.md")
    )
    assert "fewshot-random-k01 的平均困惑度" in chinese or "沒有策略勝過 zeroshot" in chinese
    assert "adaptbench report" in english
    for text in (english, chinese):
        assert text.count("| m-plain-fewshot-random-k01-s1 |") == 2
    rows = [re.findall(r"\d+\.\d+", text) for text in (english, chinese)]
    assert sorted(rows[0]) == sorted(rows[1])
    html = (gated / "report.zh-TW.html").read_text("utf-8")
    assert '<html lang="zh-TW">' in html
    assert '<html lang="en">' in (gated / "report.html").read_text("utf-8")
    pictures = {path.name for path in (gated / "figures").iterdir()}
    assert {f"{name[:-4]}.zh-TW.svg" for name in pictures if "zh-TW" not in name} < pictures
    assert all((gated / path).is_file() for path in re.findall(r"\]\((figures/.*?)\)", chinese))
    summary = json.loads((gated / "summary.json").read_text("utf-8"))
    assert all(ENGLISH_WORDS.search(line) for line in summary["conclusions"])


def test_one_report_in_two_languages_leaves_no_trace_in_the_next(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "results", shift=-0.3)
    manifest, measured = read_run(folder)
    report = build(manifest, measured, metrics_of(manifest, folder))
    before = page(report, {}), render("report.md.j2", report)
    chinese = page(report, {}, language=language(ZH))
    assert before == (page(report, {}), render("report.md.j2", report))
    assert page(report, {}, language=language(ZH)) == chinese != before[0]


def test_what_is_named_is_written_and_what_stands_there_is_kept_up_to_date(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "results", shift=-0.3)
    assert main(["report", str(folder), "--lang=zh-TW"]) == PASSED
    names = {path.name for path in folder.glob("report*")}
    assert names == {"report.zh-TW.html", "report.zh-TW.md"}
    (folder / "report.zh-TW.html").write_text("old", "utf-8")
    assert main(["report", str(folder)]) == PASSED
    assert {path.name for path in folder.glob("report*")} == {*names, "report.html", "report.md"}
    assert "平均困惑度" in (folder / "report.zh-TW.html").read_text("utf-8")


def test_a_language_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "results")
    assert main(["report", str(folder), "--lang=zh"]) == WRONG
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--lang=zh: expected")
    assert "zh-TW" in line


def test_a_users_template_works_in_every_language(tmp_path: Path) -> None:
    folder, own = make_run(tmp_path / "results", shift=-0.3), tmp_path / "own"
    (own / "html").mkdir(parents=True)
    (own / "html" / "head.html.j2").write_text(
        "<h1>{{ task.name | visible }}: {{ metric.title }}, {{ _('Results') }}</h1>", "utf-8"
    )
    rebuild(folder, None, Style(templates=own, languages=("en", ZH)))
    assert "<h1>task: mean perplexity, Results</h1>" in (folder / "report.html").read_text("utf-8")
    assert "<h1>task: 平均困惑度, 結果</h1>" in (folder / "report.zh-TW.html").read_text("utf-8")


def test_a_catalogue_is_read_with_its_plural_and_without_what_is_doubtful(tmp_path: Path) -> None:
    path = tmp_path / "pl.po"
    path.write_text(
        'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=utf-8\\n"\n"Plural-Forms: '
        "nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<12 || n%100>14) ? 1 : 2);"
        '\\n"\n\nmsgid "{count} cell"\nmsgid_plural "{count} cells"\nmsgstr[0] "{count} komórka"\n'
        'msgstr[1] "{count} komórki"\nmsgstr[2] "{count} komórek"\n\n#, fuzzy\nmsgid "cell"\n'
        'msgstr "telefon"\n\nmsgid "mean"\nmsgstr ""\n',
        "utf-8",
    )
    polish = read_catalogue(path, "pl")
    said = [polish.of(say_number(n, "{count} cell", "{count} cells")) for n in (1, 3, 5)]
    assert said == ["1 komórka", "3 komórki", "5 komórek"]
    assert polish.of(say("cell")) == "cell"
    assert polish.of(say("mean")) == "mean"
