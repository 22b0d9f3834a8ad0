"""Pools, roles and fallbacks as an administrator writes them."""

from __future__ import annotations

import pytest

from devkit.paths import ROOT
from shared.agents.catalogue import answering_chain, find_entry
from shared.agents.listing import entries_of
from shared.agents.parsing import AgentsConfig, parse_agents
from shared.agents.plans import is_routed
from shared.routing.settings import UNLIMITED

FLEET = """
- id: writer
  pool: gpus
  model: qwen
  key: ${secret:OWN}

- pool: gpus
  upstreams:
    - url: http://gpu1:8000/v1
      concurrency: 4
      weight: 2
    - {url: "http://gpu2:8000/v1", key: "${secret:OTHER}", model: qwen-awq}
    - url: http://user:pass@gpu2:8000/v2
  queue: {per_user: 2, deadline: {person: 60}}

- id: coder
  pool: gpus
  model: coder
  fallback: [plain, writer]

- id: plain
  url: http://one/v1
  model: m

- id: limited
  url: http://one/v1
  model: m
  concurrency: 3

- id: own
  model: m
  upstreams: [{url: http://a/v1}, {url: http://b/v1}]
  retry: {attempts: 5}

- id: role
  name: Role
  slots: {backup_1: plain, primary: writer}
  offer_slots: true

- id: shy
  slots: {primary: plain}
"""
SECRETS = "OWN=sk-own OTHER=sk-other"


@pytest.fixture(scope="module")
def fleet() -> AgentsConfig:
    config = parse_agents(FLEET, SECRETS)
    assert config.problems == ()
    return config


def chain(config: AgentsConfig, model_id: str) -> list[str]:
    return [e.agent.id for e in answering_chain(config, find_entry(config, model_id))]


def test_a_pool_may_stand_below_the_agents_that_name_it(fleet):
    assert [agent.id for agent in fleet.agents] == [
        *("writer", "coder", "plain", "limited", "own", "role", "shy")
    ]


def test_agents_of_a_pool_share_its_slots_and_rules(fleet):
    spec = fleet.plans["writer"].spec
    assert spec == fleet.plans["coder"].spec
    assert [(u.id, u.concurrency, u.weight) for u in spec.upstreams] == [
        ("gpu1:8000", 4, 2.0),
        ("gpu2:8000", 1, 1.0),
        ("gpu2:8000#2", 1, 1.0),
    ]
    assert (spec.name, spec.queue.per_user, spec.queue.deadline.person) == (
        *("gpus", 2, 60.0),
    )
    assert spec.queue.deadline.task == 60.0


def test_an_upstream_says_what_differs_and_the_agent_the_rest(fleet):
    agent, plan = fleet.find("writer"), fleet.plans["writer"]
    one, two = (plan.agent_at(agent, name) for name in ("gpu1:8000", "gpu2:8000"))
    assert (one.url, one.key.get_secret_value()) == ("http://gpu1:8000/v1", "sk-own")
    assert (two.url, two.key.get_secret_value()) == ("http://gpu2:8000/v1", "sk-other")
    assert (one.place, two.place) == ("gpu1:8000", "gpu2:8000")
    assert plan.model_at(agent, "qwen", "gpu1:8000") == "qwen"
    assert plan.model_at(agent, "qwen", "gpu2:8000") == "qwen-awq"
    assert plan.model_at(agent, "small-for-titles", "gpu2:8000") == "small-for-titles"


def test_an_agent_may_have_upstreams_or_a_limit_of_its_own(fleet):
    own, limited = fleet.plans["own"].spec, fleet.plans["limited"].spec
    assert [u.id for u in own.upstreams] == ["a", "b"]
    assert own.retry.attempts == 5
    assert [(u.id, u.concurrency) for u in limited.upstreams] == [("one", 3)]


def test_a_plain_agent_is_not_routed(fleet):
    routed = {agent.id for agent in fleet.agents if is_routed(agent)}
    assert routed == {"writer", "coder", "limited", "own"}
    [slots] = fleet.plans["plain"].spec.upstreams
    assert slots.concurrency == UNLIMITED


def test_who_answers_in_which_order(fleet):
    assert chain(fleet, "plain") == ["plain"]
    assert chain(fleet, "coder") == ["coder", "plain", "writer"]
    assert chain(fleet, "role") == ["writer", "plain"]
    assert chain(fleet, "role.primary") == ["writer"]
    assert chain(fleet, "role.backup_1") == ["plain"]
    assert chain(fleet, "role.backup_2") == []
    assert chain(fleet, "shy.primary") == []


async def test_slots_are_listed_where_they_are_offered(fleet):
    listed = [e.id for e in await entries_of(fleet.find("role"), {})]
    assert listed == ["role", "role.primary", "role.backup_1"]
    assert [e.id for e in await entries_of(fleet.find("shy"), {})] == ["shy"]


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("- {id: a, model: m, pool: x}", 1, "pool", "there is no pool `x`"),
        (
            "- {id: a, url: http://a, model: m, fallback: [b]}",
            *(1, "fallback", "there is no agent `b`"),
        ),
        ("- id: r\n  slots: {primary: b}", 2, "slots", "there is no agent `b`"),
        (
            "- id: r\n  slots: {second: b}",
            *(2, "slots", "the slots are `primary`, `backup_1`, `backup_2` and so on"),
        ),
        (
            "- id: r\n  url: http://a\n  slots: {primary: r}",
            *(1, "", "an entry with `slots` has no `url`"),
        ),
        ("- pool: p\n  upstreams: []", 2, "upstreams", "at least 1 item"),
        ("- pool: p\n  upstreams: [{url: gpu1}]", 2, "upstreams", "begins with http"),
        ("- pool: p\n  upstreams: [{}]", 2, "upstreams", "this key is missing"),
        (
            "- pool: p\n  upstreams: [{url: http://a}]\n"
            "- id: a\n  pool: p\n  model: m\n  queue: {per_user: 1}",
            *(3, "", "with `pool`, write `queue` there"),
        ),
        (
            "- id: a\n  url: http://a\n  model: m\n  queue: {peruser: 1}",
            *(4, "queue.peruser", "this key is not known"),
        ),
        (
            "- id: a\n  model: m\n  upstreams: [{url: http://a, key: '${secret:X}'}]",
            *(3, "upstreams", "`X` is not set in the SECRETS valve"),
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(text, line, key, message):
    [problem, *_] = parse_agents(text).problems
    assert (problem.line, problem.key) == (line, key)
    assert message in problem.message


@pytest.mark.parametrize("again", ["pool: p", "model: m\n  id: p"])
def test_a_pool_shares_its_name_with_nobody(again):
    servers = "upstreams: [{url: http://a}]"
    config = parse_agents(f"- pool: p\n  {servers}\n- {again}\n  {servers}")
    [problem] = config.problems
    assert problem.key in again
    assert (problem.line, problem.message) == (3, "`p` is used twice")
    assert config.agents == ()


def test_a_secret_in_a_pool_is_in_no_message():
    text = "- pool: p\n  upstreams: [{url: http://a, key: sk-secrét, weight: x}]"
    problems = parse_agents(text).problems
    assert problems
    assert "sk-secr" not in str(problems)


def test_the_fleet_of_the_manual_can_be_used():
    manual = (ROOT / "docs" / "routing.md").read_text("utf-8")
    yaml = manual.partition("```yaml\n")[2].partition("```")[0]
    config = parse_agents(yaml, "GPU_KEY=sk CLOUD_KEY=sk")
    assert config.problems == ()
    assert chain(config, "writer") == ["writer-gpu", "writer-cloud"]
    assert config.plans["writer-gpu"].spec == config.plans["coder"].spec
