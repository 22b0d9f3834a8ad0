"""The AGENTS valve: what is written there, and what is told of what cannot be used."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.agents.parsing import parse_agents

WHOLE = """
- id: scout
  name: Scout
  description: Finds things
  url: https://host:8000/v1
  model: scout-1
  api: responses
  key: sk-secret-key
  headers: {X-Team: red}
  system: Be brief.
  params: {temperature: 0.2, stop: ["\\n"]}
  timeouts: {connect: 1, first_token: 2.5, between_tokens: 3}
  session: true
  tools: execute
  unknown_tool: ignore
  max_tool_rounds: 3
  task_model: small
  files: attach
  access: public
"""


def entry(agent_id, *lines):
    """A good entry, with more lines."""
    text = f"- id: {agent_id}\n  url: http://host/v1\n  model: m\n"
    return text + "".join(f"  {line}\n" for line in lines)


def ids(config):
    return [agent.id for agent in config.agents]


def places(config):
    return [(problem.line, problem.key) for problem in config.problems]


def only_problem(text, secrets=""):
    config = parse_agents(text, secrets)
    assert config.agents == ()
    [problem] = config.problems
    return problem


def test_an_entry_with_everything():
    config = parse_agents(WHOLE)
    assert config.problems == ()
    [agent] = config.agents
    assert (agent.id, agent.label) == ("scout", "Scout")
    assert agent.url == "https://host:8000/v1"
    assert agent.key.get_secret_value() == "sk-secret-key"
    assert agent.headers["X-Team"].get_secret_value() == "red"
    assert agent.params == {"temperature": 0.2, "stop": ["\n"]}
    assert agent.timeouts.first_token == 2.5
    assert (agent.tools, agent.unknown_tool, agent.max_tool_rounds) == (
        "execute",
        "ignore",
        3,
    )


def test_the_smallest_entry():
    [agent] = parse_agents(entry("scout")).agents
    assert agent.label == "scout"
    assert (agent.api, agent.tools, agent.unknown_tool) == ("chat", "native", "error")
    assert agent.key.get_secret_value() == ""


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "[]"])
def test_nothing_is_no_problem(text):
    config = parse_agents(text)
    assert (config.agents, config.problems) == ((), ())


def test_agents_keep_their_order_and_are_found_by_id():
    config = parse_agents(entry("b") + entry("a"))
    assert ids(config) == ["b", "a"]
    assert config.find("a").id == "a"
    assert config.find("c") is None


@pytest.mark.parametrize(
    ("lines", "line", "key", "words"),
    [
        (["colour: red"], 4, "colour", "not known"),
        (["tools: maybe"], 4, "tools", "native"),
        (["max_tool_rounds: 0"], 4, "max_tool_rounds", "1"),
        (["max_tool_rounds: many"], 4, "max_tool_rounds", "integer"),
        (["timeouts:", "  connect: -1"], 5, "timeouts.connect", "greater than 0"),
        (["timeouts: {connects: 1}"], 4, "timeouts.connects", "not known"),
        (["timeouts: soon"], 4, "timeouts", ""),
        (["params: [a]"], 4, "params", "dictionary"),
        (["name: [a]"], 4, "name", "string"),
        (["discover: perhaps"], 4, "discover", "boolean"),
        (["backend: telepathy"], 4, "backend", "openai"),
        (["headers: {A: 1}"], 4, "headers", "string"),
    ],
)
def test_a_problem_names_line_and_key(lines, line, key, words):
    problem = only_problem(entry("scout", *lines))
    assert (problem.line, problem.key) == (line, key)
    assert words in problem.message
    assert str(problem) == f"line {line}, `{key}`: {problem.message}"


@pytest.mark.parametrize(
    "agent_id", ["Scout", "a b", "", "-a", "a.b", "ü", "a/b", "x" * 65]
)
def test_an_id_is_made_of_few_characters(agent_id):
    problem = only_problem(f"- url: http://host/v1\n  model: m\n  id: '{agent_id}'\n")
    assert (problem.line, problem.key) == (3, "id")
    assert "an id is made of" in problem.message


@pytest.mark.parametrize(
    "url",
    [
        "host:8000/v1",
        "ftp://host",
        "''",
        "http://127.0.0.1:99999/v1",
        "'http://[::1/v1'",
        "http://",
    ],
)
def test_an_address_is_one_that_can_be_asked(url):
    problem = only_problem(f"- id: scout\n  url: {url}\n  model: m\n")
    assert (problem.line, problem.key) == (2, "url")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("- url: http://host/v1\n  model: m\n", "id"),
        ("- id: scout\n  model: m\n", "url"),
    ],
)
def test_what_is_missing_is_named(text, key):
    problem = only_problem(text)
    assert (problem.line, problem.key) == (1, key)
    assert "missing" in problem.message


def test_an_agent_names_a_model_or_discovers():
    problem = only_problem("- id: scout\n  url: http://host/v1\n")
    assert problem.line == 1
    assert "`model`" in problem.message
    assert "`discover: true`" in problem.message
    found = parse_agents("- id: s\n  url: http://host/v1\n  discover: true\n")
    assert ids(found) == ["s"]


def test_every_problem_of_an_entry_is_told_at_once():
    config = parse_agents(entry("scout", "tools: maybe", "colour: red"))
    assert sorted(places(config)) == [(4, "tools"), (5, "colour")]


def test_an_id_may_be_used_once():
    config = parse_agents(entry("scout") + entry("scout"))
    assert ids(config) == ["scout"]
    assert places(config) == [(4, "id")]


@pytest.mark.parametrize(
    "broken",
    [
        "- id: bad\n  url: nowhere\n  model: m\n",
        "- id: bad\n  url: [\n  model: m\n",
        '- id: bad\n  name: "Bad\n  model: m\n',
        "- id: bad\n  name: a: b\n  model: m\n",
        "- id: bad\n\tmodel: m\n  url: x\n",
        "- id: bad\n  key: *nothing\n  url: x\n",
        "- id: bad\n  key: !odd x\n  url: x\n",
        "- id: bad\n  name: 2024-99-99\n  url: x\n",
        "- just words\n",
        "- [a, b]\n",
        "-\n",
        "- 5\n",
    ],
)
def test_one_broken_entry_hides_no_other(broken):
    first = entry("first")
    config = parse_agents(first + broken + entry("last"))
    assert ids(config) == ["first", "last"]
    above = first.count("\n")
    for problem in config.problems:
        assert above < problem.line <= above + broken.count("\n")
    assert config.problems


def test_a_list_that_stands_further_in_is_no_different():
    text = (entry("first") + "- id: bad\n  url: [\n" + entry("last")).replace(
        "\n", "\n  "
    )
    config = parse_agents("  " + text.rstrip(" "))
    assert ids(config) == ["first", "last"]
    assert config.problems


def test_what_stands_above_the_list_and_cannot_be_read_is_a_problem():
    config = parse_agents("agents: [\n" + entry("first") + entry("last"))
    assert config.problems


@pytest.mark.parametrize(
    "text", ["id: scout", "words", "5", "{a: b}", "id: [", "a: b: c"]
)
def test_what_is_no_list_is_told_to_be_none(text):
    assert only_problem(text).line == 1


@settings(deadline=None, max_examples=300)
@given(
    st.text(
        st.sampled_from(" -:[]{}'\"\n#&*!|>%@`a1.\t\x00\x1b\ufeff\u2028é"), max_size=30
    )
)
@example("- id: a\x1b")
@example("\x00")
@example("- name: 2024-99-99")
@example("- !!int x")
@example("- name: !!int x")
@example("- name: !!float x")
@example("- ? [a]\n  : b")
@example("- ? {a: b}\n  : b")
@example("- 1: 2")
@example("- null: 2")
@example("- <<: 5")
@example("- &a [*a]")
@example("- &a {b: *a}")
@example("--- 1\n--- 2")
@example("%YAML 9.9\n---\n- a")
def test_no_text_brings_it_down(text):
    config = parse_agents(text)
    assert all(problem.line >= 1 for problem in config.problems)


def test_an_agent_beside_a_control_character_is_still_there():
    config = parse_agents(entry("good") + entry("bad", "name: a\x1bb"))
    assert ids(config) == ["good"]
    assert config.problems


def test_a_key_from_the_environment(monkeypatch):
    monkeypatch.setenv("SCOUT_TEST_KEY", "sk-from-env")
    [agent] = parse_agents(entry("scout", "key: ${env:SCOUT_TEST_KEY}")).agents
    assert agent.key.get_secret_value() == "sk-from-env"


def test_a_key_from_the_password_valve():
    text = entry("scout", "key: ${secret:KEY}", "headers: {A: 'Bearer ${secret:B}'}")
    [agent] = parse_agents(text, "KEY=sk-1\nB=two=2  C=3").agents
    assert agent.key.get_secret_value() == "sk-1"
    assert agent.headers["A"].get_secret_value() == "Bearer two=2"


@pytest.mark.parametrize(
    ("line", "key", "place"),
    [
        ("key: ${secret:GONE}", "key", "SECRETS valve"),
        ("key: ${env:GONE_FOR_GOOD}", "key", "environment"),
        ("headers: {A: '${secret:GONE}'}", "headers", "SECRETS valve"),
    ],
)
def test_a_variable_that_is_not_set_is_named(line, key, place):
    problem = only_problem(entry("scout", line))
    assert (problem.line, problem.key) == (4, key)
    assert "`GONE" in problem.message
    assert place in problem.message


@pytest.mark.parametrize("url", ["${env:GONE_FOR_GOOD}", "${env:GONE_FOR_GOOD}/v1"])
def test_an_address_from_a_variable_that_is_not_set(url):
    problem = only_problem(f"- id: scout\n  url: {url}\n  model: m\n")
    assert (problem.line, problem.key) == (2, "url")
    assert "`GONE_FOR_GOOD` is not set" in problem.message


def test_other_keys_keep_what_looks_like_a_variable():
    [agent] = parse_agents(entry("scout", "system: 'Say ${env:HOME}'")).agents
    assert agent.system == "Say ${env:HOME}"


SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "text",
    [
        entry("scout", f"key: {SECRET}"),
        entry("scout", f"headers: {{A: {SECRET}}}"),
        entry("scout", "key: ${secret:S}"),
        "- id: scout\n  model: m\n  url: https://me:${secret:S}@host/v1\n",
    ],
)
def test_no_secret_is_in_what_a_configuration_prints(text):
    config = parse_agents(text, f"S={SECRET}")
    assert ids(config) == ["scout"]
    assert SECRET not in f"{config!r} {config} {config.agents[0]}"


@pytest.mark.parametrize(
    "lines",
    [
        [f"key: [{SECRET}]"],
        [f"key: {{a: {SECRET}}}"],
        [f"key: '{SECRET}"],
        [f"key: !{SECRET}"],
        [f"key: *{SECRET}"],
        [f"key: &{SECRET}", f"name: &{SECRET} x"],
        [f"key: {SECRET}: x"],
        [f"key: @{SECRET}"],
        [f"headers: {SECRET}"],
        [f"headers: [{SECRET}]"],
        [f"key: {SECRET}", "tools: maybe"],
    ],
)
def test_no_secret_is_in_what_is_told_of_a_broken_entry(lines):
    """The first problem is the name of a model that everybody sees."""
    config = parse_agents(entry("scout", *lines))
    assert config.problems
    assert SECRET not in "\n".join(str(problem) for problem in config.problems)


def test_a_key_that_no_header_can_hold_is_a_problem_that_does_not_tell_it():
    text = "- id: scout\n  url: http://host/v1\n  model: m\n  key: sk-abc\u2026"
    [problem] = parse_agents(text).problems
    assert (problem.line, problem.key) == (4, "key")
    assert "sk-abc" not in str(problem)


def test_a_value_that_became_a_key_is_not_told():
    text = "- {id: scout, url: http://host/v1, model: m, key:sk-supersecret1234}"
    [problem] = parse_agents(text).problems
    assert "supersecret" not in str(problem)


def test_a_session_needs_an_api_that_has_sessions():
    text = "- id: scout\n  url: http://host/v1\n  model: m\n  session: true\n"
    assert "api: responses" in only_problem(text).message
