"""Texts that must stay text wherever they are shown, and what English looks like."""

from __future__ import annotations

import re

ENGLISH = re.compile(r"(?:[A-Za-z’']+[ ,;:.]+){3,}[A-Za-z’']+")  # four words in a row

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "| a | b |",
    "[click](http://example.invalid)",
    "![x](http://example.invalid/x.png)",
    "`code` **bold** _it_",
    "# heading",
    "line\nbreak | cell",
    "{{ 7*7 }}{% for x in y %}",
    "{{ ''.__class__ }}",
    "\u202egnp.exe",
    "\u2066hidden\u2069",
    "zero\u200bwidth",
    "&lt;b&gt;",
    "<!-- comment",
    "\\input{/etc/passwd} $x^2$",
    "a\x00b\x1b[31m",
    "~~strike~~ <u>under</u>",
]
