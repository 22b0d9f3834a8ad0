"""The page for users names every family that the scanner knows."""

import re
from pathlib import Path

from shared.toolcalls.dialects import PAIR_DIALECTS, TAG_DIALECTS
from shared.toolcalls.families import BARE_FAMILY, FAMILIES, SEPARATORS

PAGE = Path(__file__).parents[3] / "docs/tool-call-recovery.md"


def test_the_table_lists_every_family():
    listed = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE))
    known = {family.name for family in FAMILIES}
    known |= {dialect.family for dialect in (*TAG_DIALECTS, *PAIR_DIALECTS)}
    known |= set(BARE_FAMILY.values()) | {name for name in SEPARATORS.values() if name}
    assert known <= listed
