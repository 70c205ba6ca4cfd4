"""Whose turn it is. Pure data structures: no event loop, no Discord.

Deficit round robin by seconds of work, over servers, and in each server over its users: everybody's turn is a point on
a scale of seconds, the least is next, and it moves on by the work that is taken. A newcomer comes before whoever was
just served and after whoever has waited longer, so one person's many requests hold up another's first by nothing but
what already runs. Newcomers too move the scale on, so that an endless row of them cannot starve the others. Who used
much in the last hours, or has a smaller weight, moves on faster; both are bounded.
"""

from __future__ import annotations

import bisect
import dataclasses
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass

#: What was used counts half after this long.
HALF_LIFE_S = 2 * 3600.0
#: What a job's weight is bounded to: a favored person has two turns for another's one, not more.
MIN_WEIGHT, MAX_WEIGHT = 1.0, 2.0
#: Seconds of recent work after which a turn costs twice its work; it never costs three times.
_HEAVY_S = 600.0
_HARDEST = 2.0
#: Below this nothing that was used is remembered.
_NEGLIGIBLE_S = 1.0
#: A job is never free, so that turns move on, also those of somebody who cancels everything.
_LEAST_COST_S = 0.1
#: Within this time what was used hardly fades.
_ORDER_HOLDS_S = 10.0
#: So many that wait for nothing are looked through now and then, to forget them.
_MOST_IDLE = 1000

_Key = int | None


@dataclass(frozen=True, slots=True)
class _Waiting:
    job_id: str
    user_id: int
    server_id: _Key
    cost_s: float
    weight: float


@dataclass(slots=True)
class _Member:
    """One server, or one user of a server.

    Attributes:
        turn_s: the least is next.
        number: of equal turns, whoever has it for longer.
        is_new: True until it is served for the first time since it waited for nothing.
    """

    turn_s: float = 0.0
    number: int = 0
    is_new: bool = True


_Line = list[tuple[float, int, _Key]]  # turn, number, whose; the next one first


class _Ring:
    """The turns of servers, or of one server's users."""

    def __init__(self) -> None:
        self._members: dict[_Key, _Member] = {}  # also those who wait for nothing, for their turns
        self._in_line: set[_Key] = set()
        self._lines: dict[bool, _Line] = {True: [], False: []}  # newcomers, and who was served already
        self._newcomers_s = 0.0  # the turn of whoever comes now: that of the job that was taken last, or a little later
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._in_line)

    def __iter__(self) -> Iterator[_Key]:
        """Who waits, the next one first. The ring must not change meanwhile."""
        return (key for _, _, key in heapq.merge(*self._lines.values()))

    def join(self, key: _Key, behind_s: float = 0.0) -> None:
        """Wait from now on, `behind_s` after the newcomers' turn; who was served lately keeps a later one."""
        if key in self._in_line:
            return
        self._forget_idle()
        member = self._members.setdefault(key, _Member())
        member.turn_s = max(member.turn_s, self._newcomers_s + behind_s)
        self._enter(key, member, is_new=True)

    def leave(self, key: _Key) -> None:
        """Wait for nothing any more."""
        self._pull(self._members[key])
        self._in_line.discard(key)

    def take(self, key: _Key, work_s: float, share: float = 1.0) -> None:
        """Serve somebody who waits. Of two, one with twice the share is served twice as much."""
        member, amount_s, num_waiting = self._members[key], work_s / share, len(self._in_line)
        self.leave(key)
        self._newcomers_s = max(self._newcomers_s, member.turn_s)
        if member.is_new and (served := self._lines[False]):
            # Newcomers come before whoever was served, but not for ever: the more of them, the nearer they come to it.
            self._newcomers_s = max(self._newcomers_s, min(self._newcomers_s + amount_s / num_waiting, served[0][0]))
        member.turn_s += amount_s
        self._enter(key, member, is_new=False)

    def shift(self, key: _Key, by_s: float) -> None:
        """What was taken was more, or less, than it was thought to be."""
        member = self._members.get(key)
        if member is None:
            return
        if key not in self._in_line:
            member.turn_s += by_s
            return
        self._pull(member)
        # What is given back brings nobody before the next newcomer.
        shifted_s = max(member.turn_s + by_s, self._newcomers_s + _LEAST_COST_S)
        member.turn_s = shifted_s if by_s > 0 else min(member.turn_s, shifted_s)
        self._insert(key, member)

    def copy(self) -> _Ring:
        """The same turns of those who wait, to be played through."""
        ring = _Ring()
        ring._members = {key: dataclasses.replace(self._members[key]) for key in self._in_line}
        ring._in_line = set(self._in_line)
        ring._lines = {is_new: list(line) for is_new, line in self._lines.items()}
        ring._newcomers_s, ring._number = self._newcomers_s, self._number
        return ring

    def _enter(self, key: _Key, member: _Member, *, is_new: bool) -> None:
        self._number += 1
        member.number, member.is_new = self._number, is_new
        self._in_line.add(key)
        self._insert(key, member)

    def _insert(self, key: _Key, member: _Member) -> None:
        bisect.insort(self._lines[member.is_new], (member.turn_s, member.number, key), key=_place)

    def _pull(self, member: _Member) -> None:
        line = self._lines[member.is_new]
        del line[bisect.bisect_left(line, (member.turn_s, member.number), key=_place)]

    def _forget_idle(self) -> None:
        """Who waits for nothing and has no later turn than a newcomer is one."""
        if len(self._members) <= 2 * len(self._in_line) + _MOST_IDLE:
            return
        self._members = {
            key: member
            for key, member in self._members.items()
            if key in self._in_line or member.turn_s > self._newcomers_s
        }


def _place(entry: tuple[float, int, _Key]) -> tuple[float, int]:
    return entry[:2]


class RecentUse:
    """How much work each user had in the last hours.

    Args:
        clock: seconds that only go on.

    Attributes:
        clock: the same.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._used: dict[int, tuple[float, float]] = {}  # seconds of work, as they were at an instant
        self._enough = _MOST_IDLE  # users until those who used nothing lately are forgotten

    def add(self, user_id: int, work_s: float, ago_s: float = 0.0) -> None:
        """Remember work; what was done some time ago counts less."""
        used_s = self.seconds(user_id) + work_s * 0.5 ** (ago_s / HALF_LIFE_S)
        self._used[user_id] = used_s, self.clock()
        if len(self._used) > self._enough:
            self._used = {user: used for user, used in self._used.items() if self.seconds(user) > _NEGLIGIBLE_S}
            self._enough = 2 * len(self._used) + _MOST_IDLE

    def seconds(self, user_id: int) -> float:
        """What counts of it now."""
        used_s, at_s = self._used.get(user_id, (0.0, 0.0))
        return used_s * float(0.5 ** ((self.clock() - at_s) / HALF_LIFE_S))

    def hardship(self, user_id: int) -> float:
        """How much faster the turns of a user move on because of it: 1 to 3."""
        used_s = self.seconds(user_id)
        return 1.0 + _HARDEST * used_s / (used_s + _HEAVY_S)


class FairOrder:
    """Waiting jobs, and the order in which they come.

    Args:
        recent: what counts against whom; other orders may share it.
    """

    def __init__(self, recent: RecentUse) -> None:
        self._recent = recent
        self._servers = _Ring()
        self._users: dict[_Key, _Ring] = {}
        self._lines: dict[tuple[_Key, int], dict[str, _Waiting]] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._taken: dict[str, tuple[_Waiting, float]] = {}  # with the user's share
        self._order: list[str] | None = None  # None after a change
        self._played_at_s = 0.0
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._waiting

    def add(self, job_id: str, user_id: int, server_id: int | None, cost_s: float, weight: float = 1.0) -> None:
        """Let a job wait, behind the user's others.

        Args:
            job_id: the job; not one that waits already.
            user_id: whose it is.
            server_id: where it was asked for; None: in a direct message, all of which are one server.
            cost_s: seconds of work, as far as they are known.
            weight: of the user, bounded to `MIN_WEIGHT` and `MAX_WEIGHT`.
        """
        bounded = min(max(weight, MIN_WEIGHT), MAX_WEIGHT)
        waiting = _Waiting(job_id, user_id, server_id, max(cost_s, _LEAST_COST_S), bounded)
        line = self._lines.setdefault((server_id, user_id), {})
        self._waiting[job_id] = line[job_id] = waiting
        if len(line) == 1:
            behind_s = waiting.cost_s * (self._recent.hardship(user_id) - 1.0)
            self._users.setdefault(server_id, _Ring()).join(user_id, behind_s)
            self._servers.join(server_id)
        self._order = None

    def remove(self, job_id: str) -> bool:
        """Let a job wait no more; False if it does not."""
        waiting = self._waiting.pop(job_id, None)
        if waiting is None:
            return False
        self._drop(waiting)
        return True

    def next(self, skip: Callable[[str], bool] = lambda _job_id: False) -> str | None:
        """Take the first job that is not to be skipped; None if there is none."""
        for server_id in self._servers:
            for user_id in self._users[server_id]:
                for waiting in self._lines[server_id, user_id].values():  # type: ignore[index]
                    if not skip(waiting.job_id):
                        self._take(waiting)
                        return waiting.job_id
        return None

    def charge(self, job_id: str, actual_s: float) -> None:
        """A job that was taken has ended: it was so much work, and that is remembered for some hours."""
        taken = self._taken.pop(job_id, None)
        if taken is None:
            return
        waiting, share = taken
        more_s = max(actual_s, _LEAST_COST_S) - waiting.cost_s
        self._servers.shift(waiting.server_id, more_s)
        if waiting.server_id in self._users:
            self._users[waiting.server_id].shift(waiting.user_id, more_s / share)
        self._recent.add(waiting.user_id, actual_s)
        self._order = None

    def order(self) -> list[str]:
        """Every waiting job, as successive calls of `next` would give them."""
        self._play()
        assert self._order is not None
        return list(self._order)

    def position(self, job_id: str) -> int | None:
        """How many jobs wait before it; None if it does not wait."""
        self._play()
        return self._places.get(job_id)

    # ------------------------------------------------------------------ inside

    def _take(self, waiting: _Waiting) -> None:
        share = self._share(waiting)
        self._servers.take(waiting.server_id, waiting.cost_s)
        self._users[waiting.server_id].take(waiting.user_id, waiting.cost_s, share)
        self._taken[waiting.job_id] = waiting, share
        del self._waiting[waiting.job_id]
        self._drop(waiting)

    def _drop(self, waiting: _Waiting) -> None:
        key = waiting.server_id, waiting.user_id
        del self._lines[key][waiting.job_id]
        if not self._lines[key]:
            del self._lines[key]
            ring = self._users[waiting.server_id]
            ring.leave(waiting.user_id)
            if not ring:
                self._servers.leave(waiting.server_id)
        self._order = None

    def _share(self, waiting: _Waiting) -> float:
        return waiting.weight / self._recent.hardship(waiting.user_id)

    def _play(self) -> None:
        """Play the turns through, once after each change, and when what was used may have faded."""
        now_s = self._recent.clock()
        if self._order is not None and now_s - self._played_at_s < _ORDER_HOLDS_S:
            return
        self._played_at_s = now_s
        servers = self._servers.copy()
        users: dict[int | None, _Ring] = {}
        lines = {key: iter(list(line.values())) for key, line in self._lines.items()}
        left = {key: len(line) for key, line in self._lines.items()}
        shares: dict[tuple[int, float], float] = {}
        order: list[str] = []
        while servers:
            server_id = next(iter(servers))
            ring = users.get(server_id)
            if ring is None:
                ring = users[server_id] = self._users[server_id].copy()
            user_id = next(iter(ring))
            assert user_id is not None
            waiting = next(lines[server_id, user_id])
            share = shares.get((user_id, waiting.weight))
            if share is None:
                share = shares[user_id, waiting.weight] = self._share(waiting)
            servers.take(server_id, waiting.cost_s)
            ring.take(user_id, waiting.cost_s, share)
            order.append(waiting.job_id)
            left[server_id, user_id] -= 1
            if not left[server_id, user_id]:
                ring.leave(user_id)
                if not ring:
                    servers.leave(server_id)
        self._order = order
        self._places = {job_id: place for place, job_id in enumerate(order)}
