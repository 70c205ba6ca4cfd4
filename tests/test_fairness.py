"""Whose turn it is: shares of users and servers, newcomers, weights, recent use, and that nobody starves."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bot.fairness import HALF_LIFE_S, FairOrder, RecentUse


class _Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def an_order(clock: Callable[[], float] | None = None) -> FairOrder:
    """An empty one."""
    return FairOrder(RecentUse(clock or _Clock()))


def taken(order: FairOrder, num: int) -> list[str]:
    """The next jobs, one after the other, each of them charged with what it was thought to cost."""
    return [job_id for job_id in (order.next() for _ in range(num)) if job_id is not None]


def users_of(job_ids: list[str]) -> Counter[str]:
    """How many jobs of each user; a job's id begins with its user."""
    return Counter(job_id.split("-")[0] for job_id in job_ids)


def flood(
    order: FairOrder, user: int, num: int, *, server: int | None = 1, cost_s: float = 10.0, **options: float
) -> None:
    """Many jobs of one user."""
    for number in range(num):
        order.add(f"{user}-{number}", user, server, cost_s, **options)


def test_a_newcomer_is_next() -> None:
    """However much one person has waiting, another one's first job comes before the next of it."""
    order = an_order()
    flood(order, 1, 200)
    for user in range(2, 12):
        assert taken(order, 3)[-1].startswith("1-")
        order.add(f"{user}-0", user, 1, 10.0)
        assert order.position(f"{user}-0") == 0
        assert order.next() == f"{user}-0"


def test_newcomers_keep_their_order() -> None:
    """Who came first is first; whoever asked for many gets one, and then it is the others' turn."""
    order = an_order()
    flood(order, 1, 5)
    flood(order, 2, 2)
    order.add("3-0", 3, 1, 10.0)
    assert taken(order, 4) == ["1-0", "2-0", "3-0", "1-1"]
    assert order.order() == ["2-1", "1-2", "1-3", "1-4"]


def test_turns_are_seconds_and_not_jobs() -> None:
    """Who asks for sounds that take four times as long gets a quarter as many."""
    order = an_order()
    flood(order, 1, 100, cost_s=40.0)
    flood(order, 2, 100, cost_s=10.0)
    num = users_of(taken(order, 50))
    assert num["1"] == pytest.approx(10, abs=1)
    assert num["2"] == pytest.approx(40, abs=1)


def test_servers_share_before_users_do() -> None:
    """Twenty people of one server together get no more than one person of another; direct messages are a server."""
    order = an_order()
    for user in range(1, 21):
        flood(order, user, 10, server=1)
    flood(order, 50, 100, server=2)
    flood(order, 60, 100, server=None)
    num = users_of(taken(order, 90))
    assert num["50"] == pytest.approx(30, abs=1)
    assert num["60"] == pytest.approx(30, abs=1)
    assert sorted(num[str(user)] for user in range(1, 21)) == pytest.approx([1.5] * 20, abs=0.5)


@pytest.mark.parametrize(("weight", "share"), [(1.0, 1 / 2), (1.5, 3 / 5), (2.0, 2 / 3), (100.0, 2 / 3), (0.0, 1 / 2)])
def test_a_weight_counts_up_to_twice(weight: float, share: float) -> None:
    """A favored person gets up to two turns for another's one, whatever weight is asked for."""
    order = an_order()
    flood(order, 1, 200, weight=weight)
    flood(order, 2, 200)
    assert users_of(taken(order, 120))["1"] == pytest.approx(120 * share, abs=2)


def test_recent_use_counts_and_fades() -> None:
    """Who had an hour of work lately gets about a third of another's turns, and hours later as many."""
    clock = _Clock()
    recent = RecentUse(clock)
    recent.add(1, 3600.0)
    for passed_s, ratio in ((0.0, 2.7), (2 * HALF_LIFE_S, 2.2), (10 * HALF_LIFE_S, 1.0)):
        clock.now_s = passed_s
        order = FairOrder(recent)
        flood(order, 1, 200)
        flood(order, 2, 200)
        num = users_of(taken(order, 100))
        assert num["2"] / num["1"] == pytest.approx(ratio, abs=0.25)


def test_after_heavy_use_the_first_comes_later_too() -> None:
    """Somebody who used much comes back behind others who wait, but not behind everything they have waiting."""
    recent = RecentUse(_Clock())
    recent.add(1, 3600.0)
    order = FairOrder(recent)
    flood(order, 1, 1)
    flood(order, 2, 10)
    assert 1 <= order.order().index("1-0") <= 3


def test_what_was_used_is_charged() -> None:
    """A job that took longer than it was thought to is paid for with later turns, a cancelled one is paid back."""
    order = an_order()
    flood(order, 1, 3)
    flood(order, 2, 10)
    assert taken(order, 2) == ["1-0", "2-0"]
    order.charge("1-0", 50.0)
    assert order.order()[:5] == ["2-1", "2-2", "2-3", "2-4", "1-1"]
    order.charge("2-0", 0.0)
    order.charge("2-0", 1000.0)  # only once
    order.charge("unknown", 1000.0)
    assert order.order()[:6] == ["2-1", "2-2", "2-3", "2-4", "2-5", "1-1"]


def test_what_is_given_back_passes_no_newcomer() -> None:
    """Whose jobs turn out short comes no earlier than another one's first."""
    order = an_order()
    flood(order, 1, 20, cost_s=100.0)
    for job_id in taken(order, 9):
        order.charge(job_id, 1.0)
    order.add("2-0", 2, 1, 100.0)
    assert order.position("2-0") == 0


@pytest.mark.parametrize(("num_names", "at_least"), [(1000, 5), (1, 25)])
def test_a_row_of_newcomers_starves_nobody(num_names: int, at_least: int) -> None:
    """Though somebody new comes before each turn, whoever waits is one of them; asking one by one is no way around."""
    order = an_order()
    flood(order, 1, 40)
    assert order.next() == "1-0"
    served = []
    for number in range(60):
        order.add(f"new{number}-0", 1000 + number % num_names, 1, 10.0)
        served.append(order.next())
    assert users_of([job_id for job_id in served if job_id])["1"] >= at_least


def test_what_is_skipped_keeps_its_place() -> None:
    """Where a job cannot run, the next one that can is taken, also of the same person."""
    order = an_order()
    flood(order, 1, 3)
    flood(order, 2, 1)
    assert order.next(lambda job_id: job_id in {"1-0", "2-0"}) == "1-1"
    assert order.next(lambda _job_id: True) is None
    assert sorted(order.order()) == ["1-0", "1-2", "2-0"]
    assert order.next() == "2-0"


def test_an_empty_order() -> None:
    """Nothing waits, nothing is next, nothing is removed."""
    order = an_order()
    assert order.next() is None
    assert order.order() == []
    assert order.position("1-0") is None
    assert not order.remove("1-0")
    assert len(order) == 0


def test_ten_thousand_jobs_cost_few_steps() -> None:
    """Adding, taking and removing look at a few jobs each, and the order is made once for any number of looks."""
    order = an_order()
    for number in range(10_000):
        order.add(str(number), number % 700, number % 30, 10.0)
    looked_at = itertools.count()

    def skip(_job_id: str) -> bool:
        return next(looked_at) < 0

    for _ in range(100):
        assert order.next(skip) is not None
    assert next(looked_at) == 100
    whole = order.order()
    places = [order.position(job_id) for job_id in whole]
    assert places == list(range(9900))
    assert taken(order, 1000) == whole[:1000]


JOBS = st.tuples(
    st.integers(1, 6), st.sampled_from([None, 1, 2]), st.floats(0.0, 500.0), st.sampled_from([0.5, 1.0, 1.7, 2.0])
)


class FairOrders(RuleBasedStateMachine):
    """Jobs come, go, run and end in any order."""

    @initialize()
    def begin(self) -> None:
        """Nothing waits."""
        self.clock = _Clock()
        self.order = FairOrder(RecentUse(self.clock))
        self.waiting: dict[str, tuple[int, int | None]] = {}
        self.running: list[str] = []
        self.num = 0

    @rule(job=JOBS)
    def add(self, job: tuple[int, int | None, float, float]) -> None:
        """Somebody asks."""
        user_id, server_id, cost_s, weight = job
        self.num += 1
        job_id = str(self.num)
        self.order.add(job_id, user_id, server_id, cost_s, weight)
        self.waiting[job_id] = user_id, server_id

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Somebody cancels, anywhere in the order."""
        job_id = data.draw(st.sampled_from([*self.waiting, "unknown"]))
        assert self.order.remove(job_id) is (job_id in self.waiting)
        self.waiting.pop(job_id, None)

    @rule(skipped=st.sets(st.integers(1, 40).map(str)))
    def take(self, skipped: set[str]) -> None:
        """There is room: as long as something can run, something is taken, the first of the order that can."""
        expected = next((job_id for job_id in self.order.order() if job_id not in skipped), None)
        job_id = self.order.next(skipped.__contains__)
        if not skipped:
            assert job_id == expected
        assert (job_id is None) is (not self.waiting.keys() - skipped)
        if job_id is not None:
            del self.waiting[job_id]
            self.running.append(job_id)

    @rule(data=st.data(), actual_s=st.floats(0.0, 1000.0))
    def end(self, data: st.DataObject, actual_s: float) -> None:
        """A job ends, and took whatever it took."""
        if self.running:
            job_id = data.draw(st.sampled_from(self.running))
            self.running.remove(job_id)
            self.order.charge(job_id, actual_s)

    @rule(hours=st.integers(1, 12))
    def wait(self, hours: int) -> None:
        """Time passes."""
        self.clock.now_s += hours * 3600.0

    @invariant()
    def holds_what_waits(self) -> None:
        """Each waiting job is in the order once, a person's own in the order of asking."""
        order = self.order.order()
        assert sorted(order) == sorted(self.waiting)
        assert len(self.order) == len(order)
        assert all(job_id in self.order for job_id in order)
        assert [self.order.position(job_id) for job_id in order] == list(range(len(order)))
        for key in set(self.waiting.values()):
            mine = [int(job_id) for job_id in order if self.waiting[job_id] == key]
            assert mine == sorted(mine)

    @invariant()
    def agrees_with_what_is_taken(self) -> None:
        """The order is what successive turns give."""
        played = copy.deepcopy(self.order)
        assert taken(played, len(self.waiting) + 1) == self.order.order()


FairOrders.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestFairOrders = FairOrders.TestCase


@settings(max_examples=100, deadline=None)
@given(
    st.lists(JOBS, min_size=1, max_size=12),
    st.lists(st.tuples(JOBS, st.floats(0.0, 2.0)), min_size=1, max_size=8),
    st.floats(0.0, 1e5),
)
def test_nobody_starves(
    first: list[tuple[int, int | None, float, float]],
    others: list[tuple[tuple[int, int | None, float, float], float]],
    used_s: float,
) -> None:
    """Whatever others keep asking for, and however much was used: who waits is served after bounded work."""
    recent = RecentUse(_Clock())
    for user_id in range(1, 7):
        recent.add(user_id, used_s)
    order = FairOrder(recent)
    for number, (user_id, server_id, cost_s, weight) in enumerate(first):
        order.add(f"first-{number}", user_id, server_id, cost_s, weight)
    left, work_s = {f"first-{number}" for number in range(len(first))}, 0.0
    costs = {f"first-{number}": cost_s for number, (_, _, cost_s, _) in enumerate(first)}
    # Everybody's turn costs at most three times its work, and a favored one half; three servers of six users each.
    bound_s = 60.0 * (sum(costs.values()) + 19 * 500.0)
    for number, ((user_id, server_id, cost_s, weight), off) in enumerate(itertools.cycle(others)):
        expected_s = max(cost_s, 10.0)
        costs[f"other-{number}"] = expected_s * off
        order.add(f"other-{number}", user_id + 6 * (number % 2), server_id, expected_s, weight)
        job_id = order.next()
        assert job_id is not None
        order.charge(job_id, costs[job_id])
        left.discard(job_id)
        work_s += max(costs[job_id], 0.1)
        if not left:
            return
        assert work_s < bound_s
