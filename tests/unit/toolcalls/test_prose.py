"""Whatever stands before a call is shown, and does not hide the call."""

import pytest

from tests.unit.toolcalls.families import FAMILIES
from tests.unit.toolcalls.support import assert_read, call

PROSE = [
    "Use (a) or [b].",
    'He said "hi".',
    "x < y, 5 > 3, a <- b",
    "- item:",
    "1. step",
    "**Bold:**",
    "> quote",
    "# Heading",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "$x_{i} \\in [0, 1)$",
    "Look: https://x.example/z?a=[1]",
    "see [link](url)",
    "emoji 🙂",
    "(unclosed paren",
    "[unclosed bracket",
    "{unclosed brace",
    '"unclosed quote',
    "don't",
    "<b>bold</b><br>",
    "---",
    "…",
    "好的。",
    "I'll call search",
    "search",
    "Using search:",
    "~~struck~~ a ~ b",
    "`` x ` y ``",
    "</tool_call>",
    "~~~\n```\n~~~",
    "* [ ] todo",
    "Step 1/2 —",
    "&nbsp;",
    "json",
    '{"temperature": 3}',
    "[1, 2, 3]",
    "<tool_call> and [TOOL_CALLS] are markers.",
]
SHAPES = ["hermes", "qwen3_coder_bare", "mistral_args", "llama3_json", "pythonic"]
SHAPES += ["glm4", "kimi_k2", "gpt_oss", "bare_name_json", "react"]


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("prose", PROSE)
def test_a_call_behind_prose(prose, family):
    found = call("search", query="x [1] {2}", limit=3)
    text = FAMILIES[family].write([found])
    assert_read(f"{prose}\n\n{text}", " ".join(prose.split()), found)
