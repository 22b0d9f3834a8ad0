"""Who runs where and who waits: examples of each rule."""

from __future__ import annotations

from itertools import count

from shared.routing.dispatcher import BUSY, CLOSED, Dispatcher
from shared.routing.settings import (
    REQUEST_CLASSES,
    AffinitySettings,
    ClassCounts,
    PoolSpec,
    QueueSettings,
    UpstreamSlots,
)
from shared.routing.tickets import Gate, Ticket

NUMBERS = count(1)


def pool(*upstreams: UpstreamSlots, **rules: object) -> Dispatcher:
    queue = QueueSettings.model_validate(rules)
    return Dispatcher(PoolSpec("pool", upstreams or (UpstreamSlots("a"),), queue))


def ticket(user: str = "ada", priority: int = 0, **more: object) -> Ticket:
    return Ticket(f"t{next(NUMBERS)}", user, "model", priority, **more)  # type: ignore[arg-type]


def served_in_order(dispatcher: Dispatcher, now: float = 1.0) -> list[str]:
    """Free one slot after another: the ids in the order in which they got it."""
    order: list[str] = []
    while dispatcher.running:
        for grant in dispatcher.leave(next(iter(dispatcher.running)), now):
            order.append(grant.ticket_id)
    return order


def enter_all(dispatcher: Dispatcher, tickets: list[Ticket], now: float = 0.0) -> None:
    for each in tickets:
        refusal, _ = dispatcher.enter(each, now)
        assert refusal == ""


def test_a_free_upstream_takes_a_request_at_once():
    dispatcher = pool()
    _, [grant] = dispatcher.enter(ticket(), 0.0)
    assert grant.upstream == "a"


def test_requests_go_where_there_is_most_room_for_its_weight():
    small, large = UpstreamSlots("small", 2), UpstreamSlots("large", 4, weight=2.0)
    dispatcher = pool(small, large)
    enter_all(dispatcher, [ticket() for _ in range(5)])
    assert dispatcher.count_running("large") == 4
    assert dispatcher.count_running("small") == 1


def test_a_users_tenth_request_waits_behind_anothers_first():
    dispatcher = pool()
    many = [ticket("ada") for _ in range(10)]
    enter_all(dispatcher, many)
    other = ticket("bob")
    enter_all(dispatcher, [other], 1.0)
    assert served_in_order(dispatcher)[:2] == [other.id, many[1].id]


def test_one_users_requests_come_in_their_order():
    dispatcher = pool()
    many = [ticket("ada") for _ in range(6)]
    enter_all(dispatcher, many)
    assert served_in_order(dispatcher) == [each.id for each in many[1:]]


def test_who_gives_up_does_not_pay_for_it():
    dispatcher = pool()
    enter_all(dispatcher, [ticket("ada"), ticket("bob")])
    for _ in range(5):
        stopped = ticket("ada")
        enter_all(dispatcher, [stopped])
        dispatcher.leave(stopped.id, 0.0)
    mine, later = ticket("ada"), ticket("bob")
    enter_all(dispatcher, [mine, later])
    assert served_in_order(dispatcher)[1:] == [mine.id, later.id]


def test_people_come_before_background_agents_and_these_before_tasks():
    dispatcher = pool()
    enter_all(dispatcher, [ticket()])
    waiting = [ticket(priority=2), ticket(priority=1), ticket(priority=0)]
    enter_all(dispatcher, waiting)
    assert served_in_order(dispatcher) == [t.id for t in reversed(waiting)]


def test_an_old_task_comes_before_a_new_person():
    dispatcher = pool(ageing=60.0)
    enter_all(dispatcher, [ticket()])
    task, soon, late = ticket(priority=2), ticket("bob"), ticket("eve")
    enter_all(dispatcher, [task], 0.0)
    enter_all(dispatcher, [soon], 119.0)
    enter_all(dispatcher, [late], 121.0)
    assert served_in_order(dispatcher, 122.0) == [soon.id, task.id, late.id]


def test_by_default_all_are_old_enough_before_their_deadline():
    rules = QueueSettings()
    for priority, kind in enumerate(REQUEST_CLASSES):
        dispatcher = pool()
        enter_all(dispatcher, [ticket()])
        enter_all(dispatcher, [old := ticket("bob", priority)], 0.0)
        late = getattr(rules.deadline, kind) - 1
        enter_all(dispatcher, [new := ticket("eve")], late)
        assert served_in_order(dispatcher, late) == [old.id, new.id]


def test_past_its_bound_the_queue_says_busy():
    dispatcher = pool(max_waiting=ClassCounts(person=2, task=0))
    enter_all(dispatcher, [ticket() for _ in range(3)])
    assert dispatcher.enter(ticket(), 0.0) == (BUSY, [])
    assert dispatcher.enter(ticket(priority=2), 0.0) == (BUSY, [])
    assert len(dispatcher.waiting) == 2


def test_a_limit_of_a_user_leaves_the_slot_to_another():
    dispatcher = pool(UpstreamSlots("a", 2), per_user=1)
    first, second, other = ticket("ada"), ticket("ada"), ticket("bob")
    enter_all(dispatcher, [first, second, other])
    assert set(dispatcher.running) == {first.id, other.id}
    dispatcher.leave(other.id, 1.0)
    assert set(dispatcher.running) == {first.id}
    dispatcher.leave(first.id, 1.0)
    assert set(dispatcher.running) == {second.id}


def test_a_limit_of_a_model_leaves_the_slot_to_another():
    dispatcher = pool(UpstreamSlots("a", 2), per_model=1)
    same, other = ticket(), ticket()
    other.model = "other"
    enter_all(dispatcher, [ticket(), same, other])
    assert other.id in dispatcher.running
    assert same.id in dispatcher.waiting


def test_a_chat_stays_where_it_was():
    dispatcher = pool(UpstreamSlots("a", 4), UpstreamSlots("b", 4))
    enter_all(dispatcher, [ticket(), ticket()])
    chat = ticket(affinity="chat")
    _, [first] = dispatcher.enter(chat, 0.0)
    dispatcher.leave(chat.id, 1.0)
    enter_all(dispatcher, [ticket() for _ in range(2)], 1.0)
    _, [second] = dispatcher.enter(ticket(affinity="chat"), 1.0)
    assert (first.affinity, second.affinity) == ("new", "kept")
    assert second.upstream == first.upstream


def test_a_chat_waits_for_its_upstream_while_others_use_the_rest():
    dispatcher = pool(UpstreamSlots("a"), UpstreamSlots("b"))
    chat = ticket(affinity="chat")
    _, [was] = dispatcher.enter(chat, 0.0)
    again = ticket(affinity="chat")
    enter_all(dispatcher, [again], 1.0)
    stranger = ticket("bob")
    enter_all(dispatcher, [stranger], 1.0)
    assert dispatcher.running[stranger.id].upstream != was.upstream
    [grant] = dispatcher.leave(chat.id, 2.0)
    assert (grant.ticket_id, grant.affinity) == (again.id, "kept")


def test_loosened_it_goes_to_any_upstream_and_is_there_from_then_on():
    dispatcher = pool(UpstreamSlots("a"), UpstreamSlots("b"))
    _, [was] = dispatcher.enter(ticket(affinity="chat"), 0.0)
    again = ticket(affinity="chat")
    enter_all(dispatcher, [again], 1.0)
    [grant] = dispatcher.loosen(again.id, 6.0)
    assert grant.affinity == "moved"
    assert grant.upstream != was.upstream


def test_affinity_ends_when_it_is_not_used():
    dispatcher = pool(UpstreamSlots("a", 2))
    spec = dispatcher.spec
    dispatcher.spec = PoolSpec(
        spec.name, spec.upstreams, spec.queue, AffinitySettings(ttl=10)
    )
    kinds = []
    for now in (0.0, 9.0, 18.0, 28.0):
        each = ticket(affinity="chat")
        _, [grant] = dispatcher.enter(each, now)
        dispatcher.leave(each.id, now)
        kinds.append(grant.affinity)
    assert kinds == ["new", "kept", "kept", "new"]


def test_a_retry_goes_elsewhere_and_keeps_its_turn():
    dispatcher = pool(UpstreamSlots("a"), UpstreamSlots("b"))
    enter_all(dispatcher, [ticket(), ticket()])
    waiting = ticket("bob")
    enter_all(dispatcher, [waiting])
    again = ticket(ahead=True, excluded=frozenset({"a"}))
    enter_all(dispatcher, [again])
    running_on = {run.upstream: i for i, run in dispatcher.running.items()}
    [first] = dispatcher.leave(running_on["a"], 1.0)
    assert first.ticket_id == waiting.id
    [second] = dispatcher.leave(running_on["b"], 1.0)
    assert (second.ticket_id, second.upstream) == (again.id, "b")


def test_nothing_goes_to_a_shut_upstream():
    dispatcher = pool(UpstreamSlots("a", 5), UpstreamSlots("b", 1))
    dispatcher.shut("a", Gate(10.0, "status_5xx", False), 0.0)
    enter_all(dispatcher, [ticket(), ticket()])
    assert dispatcher.count_running("a") == 0
    assert len(dispatcher.waiting) == 1


def test_when_all_is_shut_nobody_waits():
    dispatcher = pool()
    enter_all(dispatcher, [ticket(), waiting := ticket()])
    lost = dispatcher.shut("a", Gate(10.0, "status_401", False), 0.0)
    assert lost == [waiting.id]
    assert dispatcher.enter(ticket(), 1.0) == (CLOSED, [])


def test_a_pause_is_waited_for():
    dispatcher = pool()
    assert dispatcher.shut("a", Gate(10.0, "status_429", True), 0.0) == []
    enter_all(dispatcher, [waiting := ticket()], 1.0)
    assert dispatcher.next_opening(1.0) == 10.0
    assert dispatcher.dispatch(9.9) == []
    [grant] = dispatcher.dispatch(10.0)
    assert (grant.ticket_id, grant.probe) == (waiting.id, False)


def test_of_two_reasons_the_stronger_holds():
    dispatcher = pool()
    dispatcher.shut("a", Gate(10.0, "status_401", False), 0.0)
    dispatcher.shut("a", Gate(5.0, "status_5xx", False), 1.0)
    assert dispatcher.gates["a"] == Gate(10.0, "status_401", False)
    dispatcher.shut("a", Gate(60.0, "status_429", True), 2.0)
    assert dispatcher.gates["a"] == Gate(10.0, "status_401", False)
    # Its time is over: what its trial says counts.
    dispatcher.shut("a", Gate(60.0, "status_429", True), 10.0)
    assert dispatcher.gates["a"] == Gate(60.0, "status_429", True)
    dispatcher.shut("a", Gate(20.0, "status_429", True), 11.0)
    assert dispatcher.gates["a"].until == 60.0


def test_one_request_tries_an_upstream_that_was_shut():
    dispatcher = pool(UpstreamSlots("a", 5))
    dispatcher.shut("a", Gate(10.0, "status_5xx", False), 0.0)
    _, [probe] = dispatcher.enter(ticket(), 10.0)
    assert probe.probe
    enter_all(dispatcher, [ticket(), ticket()], 10.0)
    assert len(dispatcher.running) == 1
    assert len(dispatcher.reopen(("a", "a model"), 11.0)) == 2


def test_a_probe_that_leaves_without_a_result_is_followed_by_another():
    dispatcher = pool(UpstreamSlots("a", 5))
    dispatcher.shut("a", Gate(10.0, "status_5xx", False), 0.0)
    first, second = ticket(), ticket()
    enter_all(dispatcher, [first, second], 10.0)
    [grant] = dispatcher.leave(first.id, 11.0)
    assert (grant.ticket_id, grant.probe) == (second.id, True)


def test_a_model_that_is_not_there_shuts_no_other():
    dispatcher = pool()
    dispatcher.shut("a model", Gate(10.0, "status_404", False), 0.0)
    assert dispatcher.enter(ticket(), 1.0) == (CLOSED, [])
    other = ticket()
    other.model = "other"
    _, [grant] = dispatcher.enter(other, 1.0)
    assert grant.upstream == "a"


def test_a_place_is_told_with_the_time_to_expect():
    dispatcher = pool(UpstreamSlots("a", 2))
    first = ticket()
    enter_all(dispatcher, [first, ticket()])
    dispatcher.leave(first.id, 10.0, served=True)
    enter_all(dispatcher, [ticket(), ticket("bob"), mine := ticket("eve")], 10.0)
    standing = dispatcher.standing(mine.id, 10.0)
    assert standing is not None
    assert (standing.position, standing.total, standing.seconds) == (2, 2, 10.0)
    task = ticket(priority=2)
    enter_all(dispatcher, [task], 10.0)
    behind = dispatcher.standing(task.id, 10.0)
    assert behind is not None
    assert (behind.position, behind.total) == (3, 3)
    standing = dispatcher.standing(mine.id, 10.0)
    assert standing is not None
    assert standing.total == 2


def full_pool_with_a_chat_at_home() -> tuple[Dispatcher, str, str]:
    """Two upstreams that are busy, and the requests that run on `a` and `b`."""
    dispatcher = pool(UpstreamSlots("a"), UpstreamSlots("b"))
    chat, other = ticket("ada", affinity="chat"), ticket("bob")
    _, [first] = dispatcher.enter(chat, 0.0)
    assert first.upstream == "a"
    enter_all(dispatcher, [other])
    return dispatcher, chat.id, other.id


def test_a_chat_at_home_goes_before_those_of_the_same_round():
    dispatcher, at_a, _ = full_pool_with_a_chat_at_home()
    stranger, again = ticket("eve"), ticket("ada", affinity="chat")
    enter_all(dispatcher, [stranger, again], 1.0)
    [grant] = dispatcher.leave(at_a, 2.0)
    assert (grant.ticket_id, grant.affinity) == (again.id, "kept")


def test_but_nobody_is_overtaken_for_ever():
    dispatcher, at_a, _ = full_pool_with_a_chat_at_home()
    stranger = ticket("eve")
    enter_all(dispatcher, [stranger], 1.0)
    overtook = 0
    while stranger.id in dispatcher.waiting:
        again = ticket(f"user {overtook}", affinity="chat")
        enter_all(dispatcher, [again], 1.0)
        [grant] = dispatcher.leave(at_a, 2.0)
        at_a = grant.ticket_id
        overtook += grant.ticket_id == again.id
    assert overtook == 2


def test_a_users_next_round_waits_though_it_is_at_home():
    dispatcher, at_a, _ = full_pool_with_a_chat_at_home()
    mine = [ticket("ada", affinity="chat") for _ in range(3)]
    stranger = ticket("eve")
    enter_all(dispatcher, [*mine, stranger], 1.0)
    order: list[str] = []
    for _ in range(3):
        [grant] = dispatcher.leave(at_a, 2.0)
        at_a = grant.ticket_id
        order.append(at_a)
    assert order == [mine[0].id, stranger.id, mine[1].id]


def test_loosened_it_is_still_preferred_at_home():
    dispatcher, at_a, at_b = full_pool_with_a_chat_at_home()
    stranger, again = ticket("eve"), ticket("ada", affinity="chat")
    enter_all(dispatcher, [stranger, again], 1.0)
    assert dispatcher.loosen(again.id, 6.0) == []
    [grant] = dispatcher.leave(at_b, 7.0)
    assert grant.ticket_id == stranger.id
    [grant] = dispatcher.leave(at_a, 8.0)
    assert (grant.ticket_id, grant.affinity) == (again.id, "kept")
