"""minimax_m3: every tag behind a separator, every key a tag of its own."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call, tool

BAR = "]<]minimax[>["


def tags(text: str) -> str:
    """Put the separator before every tag written as `{tag}`."""
    return text.replace("{", f"{BAR}<").replace("}", ">")


ONE = tags(
    '{tool_call}{invoke name="get_weather"}{city}Lhasa{/city}{days}5{/days}'
    "{/invoke}{/tool_call}"
)
LHASA = call("get_weather", city="Lhasa", days=5)


def test_a_plain_call():
    assert_read(ONE, LHASA)


def test_several_calls_and_no_arguments():
    assert_read(
        ONE.replace(
            tags("{/tool_call}"), tags('{invoke name="get_time"}{/invoke}{/tool_call}')
        ),
        LHASA,
        call("get_time"),
    )


def test_prose_around():
    assert_read(f"I look.{ONE}So.", "I look.", LHASA, "So.")


def test_lists():
    assert_read(
        tags(
            '{tool_call}{invoke name="search"}{query}yak butter{/query}'
            "{tags}{item}tea{/item}{item}salt{/item}{/tags}{/invoke}{/tool_call}"
        ),
        call("search", query="yak butter", tags=["tea", "salt"]),
    )


def test_nested_objects():
    place = {
        "type": "object",
        "properties": {
            "town": {"type": "string"},
            "height": {"type": "integer"},
            "names": {"type": "array", "items": {"type": "string"}},
        },
    }
    assert_read(
        tags(
            '{tool_call}{invoke name="note"}{place}{town}Shigatse{/town}'
            "{height}3840{/height}{names}{item}日喀则{/item}{/names}{/place}"
            "{/invoke}{/tool_call}"
        ),
        call("note", place={"town": "Shigatse", "height": 3840, "names": ["日喀则"]}),
        tools=[tool("note", ["place"], place=place)],
    )


def test_strings_hold_other_tags():
    assert_read(
        tags('{tool_call}{invoke name="python"}{code}')
        + "print('<b>1</b> </code>')\nx[0] < 2"
        + tags("{/code}{/invoke}{/tool_call}"),
        call("python", code="print('<b>1</b> </code>')\nx[0] < 2"),
    )


def test_white_space_between_the_tags():
    assert_read(
        ONE.replace(BAR, f"\n{BAR}").replace("Lhasa\n", "Lhasa").replace("5\n", "5"),
        LHASA,
    )


def test_a_thought_before_stays():
    assert_read(
        f"<mm:think>Lhasa.</mm:think>{ONE}", "<mm:think>Lhasa.</mm:think>", LHASA
    )


def test_missing_closer_at_the_end():
    assert_read(ONE.removesuffix(tags("{/tool_call}")), LHASA)


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_yak"))


def test_cut():
    assert_read(f"I look.{ONE[:95]}", "I look.", CUT, truncated=True)


def test_a_repeated_key_is_a_list_and_free_keys_follow_their_schema():
    labels = {"type": "object", "additionalProperties": {"type": "string"}}
    text = tags(
        '{tool_call}{invoke name="file"}{labels}{year}2024{/year}{/labels}'
        "{parts}{of}a{/of}{of}b{/of}{/parts}{/invoke}{/tool_call}"
    )
    assert_read(
        text,
        call("file", labels={"year": "2024"}, parts={"of": ["a", "b"]}),
        tools=[tool("file", labels=labels, parts="object")],
    )
