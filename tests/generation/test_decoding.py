"""From flags and tables to decodings, and one line for each mistake."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config.decoding import decoding, parse_decoding, parse_decodings
from harness.core import DecodingSpec
from harness.errors import OptionError


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("greedy", DecodingSpec("greedy")),
        ("sample", DecodingSpec("sample", do_sample=True)),
        ("beam", DecodingSpec("beam", num_beams=4)),
        (
            "sample:temperature=0.7,top_p=0.9,top_k=30",
            DecodingSpec("sample-t0.7-k30-p0.9", do_sample=True, temperature=0.7, top_k=30, top_p=0.9),
        ),
        (
            "beam:num_beams=8,early_stopping=never,length_penalty=0",
            DecodingSpec("beam-b8-lp0-earlynever", num_beams=8, length_penalty=0.0, early_stopping="never"),
        ),
        ("greedy:stop=\\n,stop=##", DecodingSpec("greedy-stop2", stop=("\n", "##"))),
        ("greedy:max_new_tokens=48", DecodingSpec("greedy-n48", max_new_tokens=48)),
        ("sample:num_return_sequences=3", DecodingSpec("sample-draws3", do_sample=True, num_return_sequences=3)),
    ],
)  # fmt: skip
def test_inline(text: str, spec: DecodingSpec) -> None:
    assert parse_decoding(text) == spec


def test_a_list_whose_settings_have_commas_too() -> None:
    found = parse_decodings("greedy,sample:temperature=0.7,top_p=0.9,beam")
    assert [one.name for one in found] == ["greedy", "sample-t0.7-p0.9", "beam"]


def test_a_table_of_a_recipe() -> None:
    tables: dict[str, dict[str, Any]] = {"careful": {"do_sample": True, "temperature": 0.3}}
    assert parse_decoding("careful", tables) == DecodingSpec(
        "careful", do_sample=True, temperature=0.3
    )
    changed = parse_decoding("careful:temperature=0.5", tables)
    assert (changed.name, changed.temperature) == ("careful-t0.5", 0.5)
    assert decoding("ends", {"stop": ["##", "\n"]}).stop == ("##", "\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gredy", "'gredy' is no decoding; there are greedy, sample, beam (did you mean 'greedy'?)"),
        ("greedy:temperature=0.7", "temperature means nothing where nothing is drawn"),
        ("beam:top_p=0.9", "top_p means nothing where nothing is drawn"),
        ("greedy:num_return_sequences=2", "num_return_sequences means nothing"),
        ("beam:min_p=0.1", "min_p means nothing"),
        ("greedy:top_k=5", "top_k means nothing"),
        ("sample:length_penalty=2", "length_penalty means nothing without beams"),
        ("greedy:early_stopping=true", "early_stopping means nothing without beams"),
        ("sample:num_beams=3", "num_beams = 3 with do_sample: a beam search draws nothing"),
        ("greedy:max_length=20,max_new_tokens=5", "max_length and max_new_tokens both say"),
        ("greedy:min_new_tokens=9,max_new_tokens=5", "min_new_tokens = 9 is above max_new_tokens = 5"),
        ("sample:temprature=1", "no setting 'temprature' (did you mean 'temperature'?)"),
        ("sample:temperature=0", "temperature = 0: expected a number above 0"),
        ("sample:temperature=nan", "temperature = nan: expected a number above 0"),
        ("sample:top_p=1.5", "top_p = 1.5: expected a number above 0, and up to 1"),
        ("sample:top_k=2.5", "top_k = 2.5: expected a whole number from 0"),
        ("sample:top_k", "expected settings such as temperature=0.7, found 'top_k'"),
        ("sample:top_k=3,top_k=4", "top_k stands twice"),
        ("greedy:stop=", "stop = ['']: expected a text that is not empty"),
        ("beam:early_stopping=maybe", "expected true, false or never"),
        ("greedy:do_sample=1", "do_sample = 1: expected true or false"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(text: str, says: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_decoding(text)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"--decode={text}: ")
    assert "\n" not in str(caught.value)


def test_a_decoding_that_stands_twice() -> None:
    with pytest.raises(OptionError, match="greedy stands twice"):
        parse_decodings("greedy,beam,greedy")


def test_a_table_is_named_in_its_mistakes() -> None:
    with pytest.raises(OptionError, match=r"^\[decoding.mine\]: temperature means nothing"):
        decoding("mine", {"temperature": 0.5})
