"""Entries of AGENTS for agents that are programs."""

import pytest

from shared.agents.kinds.acp import AcpAgent
from shared.agents.kinds.cli import CliAgent
from shared.agents.parsing import parse_agents


def entry(text, secrets=""):
    """The one agent of an entry's lines."""
    lines = "\n".join(f"  {line}" for line in text.strip().splitlines())
    config = parse_agents(f"- id: a\n{lines}\n", secrets)
    assert config.problems == ()
    return config.agents[0]


def problem(text):
    """What is wrong with an entry."""
    lines = "\n".join(f"  {line}" for line in text.strip().splitlines())
    config = parse_agents(f"- id: a\n{lines}\n")
    [found] = config.problems
    return str(found)


def test_a_command_is_a_list_or_a_line():
    line = entry("backend: acp\ncommand: gemini --acp -m 'a b' '$(rm -rf /)'")
    listed = entry("backend: acp\ncommand: [gemini, --acp, -m, a b, $(rm -rf /)]")
    assert isinstance(line, AcpAgent)
    assert line.command == listed.command
    assert line.command == ("gemini", "--acp", "-m", "a b", "$(rm -rf /)")
    assert line.place == "gemini"


def test_secrets_go_into_the_environment_and_nowhere_else():
    agent = entry(
        "backend: cli\ncommand: echo ${secret:KEY}\nenv: {KEY: '${secret:KEY}'}",
        secrets="KEY=sk-secret",
    )
    assert isinstance(agent, CliAgent)
    assert agent.program.env == {"KEY": "sk-secret"}
    assert agent.program.command == ("echo", "${secret:KEY}")
    assert "sk-secret" not in repr(agent) + repr(agent.program)
    assert "sk-secret" not in agent.model_dump_json()


def test_another_environment_is_another_program():
    one, same, other = (
        entry(f"backend: acp\ncommand: agent\nenv: {{A: '{value}'}}").fingerprint
        for value in "112"
    )
    assert one == same != other


def test_programs_have_time():
    agent = entry("backend: acp\ncommand: agent\ntimeouts: {connect: 5}")
    assert agent.timeouts.connect == 5
    assert agent.timeouts.between_tokens == 900


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("backend: acp", "`command`: this key is missing"),
        ("backend: acp\ncommand: ''", "the command names no program"),
        ("backend: acp\ncommand: []", "the command names no program"),
        ("backend: acp\ncommand: say 'x", "a quotation mark in the command"),
        ("backend: acp\ncommand: a\nurl: http://x", "`url`: this key is not known"),
        ("backend: acp\ncommand: a\nkeep: ever", "`keep`: Input should be 'chat'"),
        ("backend: cli\ncommand: a\nnoise: ['(']", "this is no regular expression"),
        ("backend: cli\ncommand: a\ndiscover: true", "programs list no models"),
        ("backend: cli\ncommand: a\nmodel: m", "write the model into the `command`"),
        ("backend: cli\ncommand: a\nformat: xml", "`format`: Input should be"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(text, said):
    assert said in problem(text)
