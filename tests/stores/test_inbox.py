import asyncio
import threading

import pytest

from asgipipe.errors import UnavailableError
from asgipipe.stores.inbox import FutureTicket, Inbox, Mailbox, Ticket, WaiterTicket, settle

PATIENCE = 20.0


def ticket() -> Ticket[None]:
    return FutureTicket(lambda _: None)


def test_groups_are_bounded_and_in_order() -> None:
    """Groups hold what waits, `most` at a time; after a close the rest is given out, then an empty group."""
    inbox = Inbox(most=2, bound=10, gather=0)
    tickets = [ticket() for _ in range(3)]
    for each in tickets:
        inbox.put(each, urgent=True)
    inbox.close()
    assert [inbox.take() for _ in range(3)] == [tickets[:2], tickets[2:], []]


def test_a_full_group_is_not_waited_for() -> None:
    """As many operations as a group holds are given out although none of them is urgent."""
    inbox = Inbox(most=3, bound=10, gather=PATIENCE)
    for _ in range(3):
        inbox.put(ticket(), urgent=False)
    assert len(inbox.take()) == 3


def test_a_close_ends_the_wait_for_more() -> None:
    """A group that is waited for is given out as soon as the inbox is closed."""
    inbox = Inbox(most=3, bound=10, gather=PATIENCE)
    taken: list[list[Ticket[object]]] = []
    thread = threading.Thread(target=lambda: taken.append(inbox.take()))
    thread.start()
    inbox.put(ticket(), urgent=False)
    inbox.close()
    thread.join(PATIENCE)
    assert [len(group) for group in taken] == [1]
    with pytest.raises(UnavailableError):
        inbox.put(ticket(), urgent=True)


def test_a_loop_that_is_gone_harms_nobody() -> None:
    """An outcome for an event loop that was closed is dropped; those of others arrive."""

    async def ask() -> WaiterTicket[int]:
        return WaiterTicket(lambda _: 1, Mailbox(asyncio.get_running_loop()))

    gone = asyncio.run(ask())
    living = FutureTicket(lambda _: 2)
    settle([(gone, 1, None), (living, 2, None)])  # type: ignore[list-item]  # of any result
    assert living.future.result(0) == 2
