"""The queue is bounded and first in, first out; no place is ever lost."""

import asyncio
import itertools
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.errors import Busy
from codex_server.execution.admission import Admission
from tests.execution.virtualtime import in_virtual_time, now, settle

PATIENCE = 5.0
ORDERS = list(itertools.permutations(["leave", "cancel", "patience", "tick", "newcomer"]))


class Client:
    """One execution that asks for a place, keeps it until told to leave, and notes what became of it."""

    def __init__(self, admission: Admission, inside: list["Client"]) -> None:
        self.inside = inside
        self.admission = admission
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._come())

    async def _come(self) -> None:
        async with self.admission.place():
            self.inside.append(self)
            try:
                await self.leave.wait()
            finally:
                self.inside.remove(self)


async def end(clients: list[Client]) -> list[BaseException | None]:
    for client in clients:
        client.leave.set()
    return await asyncio.gather(*(client.task for client in clients), return_exceptions=True)


def test_executions_beyond_the_places_wait_and_enter_in_order() -> None:
    async def main() -> None:
        admission, inside = Admission(1, 10, PATIENCE), []
        clients = [Client(admission, inside) for _ in range(4)]
        await settle()
        assert (admission.running, admission.queued) == (1, 3)
        for client in clients:
            assert inside == [client]
            client.leave.set()
            await settle()
        assert (admission.running, admission.queued) == (0, 0)

    in_virtual_time(main)


def test_a_newcomer_does_not_overtake_one_who_was_handed_a_place() -> None:
    async def main() -> None:
        admission, inside = Admission(1, 10, PATIENCE), []
        first, second = Client(admission, inside), Client(admission, inside)
        await settle()
        first.leave.set()
        await first.task  # the place is the second's now, who has not woken yet
        third = Client(admission, inside)
        await settle()
        assert inside == [second]
        await end([second, third])

    in_virtual_time(main)


def test_a_full_waiting_room_refuses_at_once() -> None:
    async def main() -> None:
        admission, inside = Admission(1, 1, PATIENCE), []
        clients = [Client(admission, inside), Client(admission, inside)]
        await settle()
        began = now()
        with pytest.raises(Busy, match="queue is full; nothing was run, try again in"):
            async with admission.place():
                raise AssertionError("there was no place")
        assert now() == began
        await end(clients)

    in_virtual_time(main)


def test_without_a_waiting_room_the_second_is_refused() -> None:
    async def main() -> None:
        admission = Admission(1, 0, PATIENCE)
        async with admission.place():
            with pytest.raises(Busy):
                await admission.place().__aenter__()
        async with admission.place():
            assert admission.running == 1

    in_virtual_time(main)


def test_patience_ends_after_the_queue_seconds_and_says_so() -> None:
    async def main() -> None:
        admission = Admission(1, 5, PATIENCE)
        async with admission.place():
            with pytest.raises(Busy, match="no sandbox became free within 5 s"):
                await admission.place().__aenter__()
            assert now() == PATIENCE
            assert admission.queued == 0

    in_virtual_time(main)


def test_retry_after_follows_the_run_times_and_the_queue() -> None:
    async def main() -> None:
        admission = Admission(2, 100, PATIENCE, clock=now)
        for _ in range(100):
            async with admission.place():
                await asyncio.sleep(8)
        assert admission.retry_after == 4, "one ahead of a newcomer's place, two places, 8 s each"
        async with AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(admission.place())
            waiting = [Client(admission, []) for _ in range(5)]
            await settle()
            assert admission.retry_after == 24
            more = [Client(admission, []) for _ in range(50)]
            await settle()
            assert admission.retry_after == 60, "advice beyond a minute helps nobody"
        await end(waiting + more)

    in_virtual_time(main)


def test_retry_after_is_never_below_a_second() -> None:
    async def main() -> None:
        admission = Admission(4, 0, PATIENCE)
        for _ in range(100):
            async with admission.place():
                pass
        assert admission.retry_after == 1

    in_virtual_time(main)


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_a_place_survives_every_order_of_leaving_cancelling_and_losing_patience(order: tuple[str, ...]) -> None:
    async def main() -> None:
        admission, inside = Admission(1, 3, PATIENCE), []
        holder, waiting, next_one = (Client(admission, inside) for _ in range(3))
        clients = [holder, waiting, next_one]
        await settle()
        for step in order:
            if step == "leave":
                holder.leave.set()
            elif step == "cancel":
                waiting.task.cancel()
            elif step == "patience":
                await asyncio.sleep(PATIENCE)
            elif step == "tick":
                await asyncio.sleep(0)
            else:
                clients.append(Client(admission, inside))
            assert len(inside) <= 1
        await end(clients)
        assert (admission.running, admission.queued) == (0, 0)
        async with admission.place():
            assert admission.running == 1

    in_virtual_time(main)


steps = st.lists(
    st.tuples(st.sampled_from(["come", "leave", "cancel", "tick", "settle", "pass"]), st.integers(0, 9)), max_size=40
)


@given(steps, st.integers(1, 3), st.integers(0, 4))
def test_no_place_is_lost_or_made_whatever_happens(actions: list[tuple[str, int]], places: int, room: int) -> None:
    async def main() -> None:
        admission, inside, clients = Admission(places, room, PATIENCE), [], []
        for action, number in actions:
            if action == "come":
                clients.append(Client(admission, inside))
            elif action == "leave" and clients:
                clients[number % len(clients)].leave.set()
            elif action == "cancel" and clients:
                clients[number % len(clients)].task.cancel()
            elif action == "tick":
                await asyncio.sleep(0)
            elif action == "pass":
                await asyncio.sleep(number)
            elif action == "settle":
                await settle()
                assert admission.running == len(inside)
                assert admission.queued == 0 or admission.running == places
            assert len(inside) <= admission.running <= places
            assert admission.queued <= room
        for ended in await end(clients):
            assert ended is None or isinstance(ended, Busy | asyncio.CancelledError)
        assert (admission.running, admission.queued) == (0, 0)

    in_virtual_time(main)
