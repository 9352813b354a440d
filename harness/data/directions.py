"""The direction of a translation between Classical and Modern Chinese, from a request's wording.

Three kinds of wording are looked for, in this order. The first kind that is found decides; where
it names both languages, nothing does.

1. What to turn it into: 翻譯成文言文, 白話文怎麼說, 文言轉白話, "into Modern Chinese".
2. How to say it: 用文言文表達, 給出白話文翻譯, "in Classical Chinese".
3. What is there: 解釋這句文言文, 文言文翻譯, "translate this Classical Chinese line".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

CLASSICAL, MODERN = "classical", "modern"
DIRECTIONS = (CLASSICAL, MODERN)
Patterns = Sequence[tuple[str, re.Pattern[str]]]

# Simplified and variant characters of the wordings below, and of nothing else.
_TRADITIONAL = str.maketrans(
    "译为爲写转汉语现么说话体这换编达释还变请将词义传讲样当诠阐创复给时个国篇几标条应该须会进风",
    "譯為為寫轉漢語現麼說話體這換編達釋還變請將詞義傳講樣當詮闡創複給時個國篇幾標條應該須會進風",
)

_GAP = r"[^，。：；！？,.:;!?\n]"  # what may stand between two parts of a request
_OPEN, _CLOSE = r"[「『“\"'《（(\[]?", r"[」』”\"'》）)\]]?"
_HOW = rf"{_OPEN}(?:(?:(?![文語話]){_GAP}){{1,8}}的)?{_OPEN}(?:中國)?"  # 典雅的, not 英文的

_OLD = (
    r"(?:(?:古代|古典|上古|先秦|秦漢)(?:漢語|漢文|中文|文言文?)"
    r"|文言文?|古漢語|古漢文|古中文|古文|古語)"
)
_NEW = (
    r"(?:(?:現代|當代|現今|今日)的?(?:標準|規範)?"
    r"(?:白話文?|漢語|漢文|中文|國語|普通話|口語|文(?!言)|語言|語|話|說法|表達)"
    r"|現代(?![\u4e00-\u9fff])|大?白話文?|語體文?|今文|今語|普通話)"
)
_VERB = r"(?:翻譯|翻|譯|轉換|轉化|轉譯|轉寫|改寫|改編|轉)"
_TO = (
    rf"(?:(?:{_VERB}|寫|改|變換|變|換|還原|復原|改述|重寫|表述|表達|詮釋|解釋|闡釋|意譯|直譯|說|潤飾|潤色)"
    rf"(?:成|為|作|到|至|回)|{_VERB}{_GAP}{{0,16}}?(?:成|為|作))"
)
_BARE = r"(?:翻譯|轉換|轉譯|譯|轉|翻|到|至|→|->|=>)"
_SAY = (
    r"(?:中|裡|裏)?(?:應該|應當|該|要|會|可以)?(?:怎麼|怎樣|如何)"
    r"(?:說|寫|講|表達|表述|翻譯)"
)
_USE = r"(?:使用|採用|改用|用|以)"
_WRITE = (
    r"(?:的?(?:形式|方式|風格|語言|口吻|筆法|文體|句式|語氣))?(?:來|去)?(?:重新)?"
    r"(?:表達|表述|說|寫|翻譯|譯|改寫|轉寫|複述|重述|重寫|描述|敘述|講|解釋|改述|陳述)"
)
_THIS = (
    r"(?:一下)?(?:以下|下面|下列|如下|上述|上面|這|這些|此|該|給定|所給|出)*的?(?:一|幾|些)?"
    r"(?:句話|段話|句|段|篇|則|首|個|條)*的?(?:中國)?"
)
_EXPLAIN = r"(?:翻譯|解釋|譯|解讀|理解|闡釋|詮釋|說明|讀懂|講解|說說|講講)"
_MEANS = rf"{_GAP}{{0,8}}?(?:什麼意思|的意思|的含義|含義|的大意|說的是什麼|講的是什麼)"

_OLD_EN = (
    r"(?:(?:classical|literary|ancient|archaic|old)(?:[ -]style)?[ -]chinese"
    r"|wen[ -]?yan(?:[ -]?wen)?|gu[ -]?wen)\b"
)
_NEW_EN = (
    r"(?:(?:modern|contemporary|vernacular|colloquial|everyday|present-day|spoken|plain|today's)"
    r"(?:[ ,-]+(?:standard|written|vernacular|spoken))*[ -](?:chinese|mandarin)"
    r"|vernacular|bai[ -]?hua(?:[ -]?wen)?|standard mandarin)\b"
)
_WORDS = r"(?:an? |the )?(?:[a-z]+,? ){0,2}?"
_GAP_EN = r"[^.:;!?\n]{0,40}?\b"
# "Written in Classical Chinese" says what is there, not what is wanted.
_IS_IN = re.compile(
    rf"\b(?:written|composed|originally|is|are) in (?=(?:the )?(?:{_OLD_EN}|{_NEW_EN}))"
)

# Into another language altogether: what is there then says nothing.
_OTHER = re.compile(
    r"(?:成|為|作)(?:現代)?[英日法德韓俄]"
    r"|\b(?:in)?to (?:modern )?(?:english|japanese|french|german)"
)

# Kind by kind: what asks for Classical Chinese, what asks for Modern Chinese.
_KINDS = tuple(
    (re.compile(classical), re.compile(modern))
    for classical, modern in (
        (
            rf"{_TO}{_HOW}{_OLD}|{_NEW}{_GAP}{{0,2}}?{_BARE}{_OPEN}{_OLD}"
            rf"|(?:{_OLD}|古代|古時候?|古人){_SAY}|\b(?:in)?to {_WORDS}{_OLD_EN}",
            rf"{_TO}{_HOW}{_NEW}|{_OLD}{_GAP}{{0,2}}?{_BARE}{_OPEN}{_NEW}"
            rf"|(?:{_NEW}|現代|現在|如今|今天|今人){_SAY}|\b(?:in)?to {_WORDS}{_NEW_EN}"
            rf"|\bwhat do(?:es)? [^.?!\n]{{0,60}}{_OLD_EN}[^.?!\n]{{0,60}}\bmean",
        ),
        (
            rf"{_USE}{_HOW}{_OLD}{_CLOSE}{_WRITE}|\b(?:in|using) {_WORDS}{_OLD_EN}"
            rf"|\b{_OLD_EN} (?:version|rendering|translation)\b",
            rf"{_USE}{_HOW}{_NEW}{_CLOSE}{_WRITE}|\b(?:in|using) {_WORDS}{_NEW_EN}"
            rf"|\b{_NEW_EN} (?:version|rendering|translation)\b|今譯"
            rf"|(?:的|其|給出|寫出|提供|做出|進行){_NEW}的?(?:翻譯|譯文|解釋|釋義)",
        ),
        (
            rf"{_VERB}{_THIS}{_NEW}|\bfrom {_WORDS}{_NEW_EN}"
            rf"|\b(?:translate|render|convert|rewrite) {_GAP_EN}{_NEW_EN}",
            rf"{_EXPLAIN}{_THIS}{_OLD}|{_OLD}的?(?:翻譯|解釋|譯文)|{_OLD}{_MEANS}"
            rf"|\bfrom {_WORDS}{_OLD_EN}"
            rf"|\b(?:translate|render|convert|rewrite|explain|interpret|paraphrase|meaning of) "
            rf"{_GAP_EN}{_OLD_EN}",
        ),
    )
)


def direction_of(instruction: str, patterns: Patterns = ()) -> str | None:
    """Return ``classical`` or ``modern``, the language an instruction asks for, or None.

    Read from the wording of the request; simplified characters are read as traditional ones. An
    instruction that names both or neither has no recognizable direction.

    Args:
        instruction: the request, with the text that is to be translated.
        patterns: (direction, pattern) of the user's own, which go before the built-in ones.
    """
    own = {direction for direction, pattern in patterns if pattern.search(instruction)}
    if own:
        return own.pop() if len(own) == 1 else None
    text = _IS_IN.sub("from ", instruction.translate(_TRADITIONAL).lower())
    for classical, modern in _KINDS[:1] if _OTHER.search(text) else _KINDS:
        to_old, to_new = bool(classical.search(text)), bool(modern.search(text))
        if to_old or to_new:
            return None if to_old and to_new else CLASSICAL if to_old else MODERN
    return None


def parse_patterns(text: str) -> tuple[str, ...]:
    """Return the entries of ``--direction-pattern``, each checked: "classical=REGEX".

    A comma separates entries where the name of a direction and ``=`` follow; any other belongs
    to the pattern.

    Raises:
        ValueError: what would be right.
    """
    entries = tuple(re.split(rf",\s*(?=(?:{'|'.join(DIRECTIONS)})=)", text))
    for entry in entries:
        name, equals, pattern = entry.partition("=")
        if name.strip() not in DIRECTIONS or not equals or not pattern.strip():
            raise ValueError("classical=PATTERN or modern=PATTERN")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"a regular expression; {pattern!r} is none: {error}") from None
    return entries


def compiled(entries: Sequence[str]) -> Patterns:
    """Return the patterns of checked entries of ``--direction-pattern``."""
    halves = [entry.partition("=") for entry in entries]
    return [(name.strip(), re.compile(pattern)) for name, _, pattern in halves]
