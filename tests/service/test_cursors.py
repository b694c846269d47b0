"""``service/cursors.py``: a cursor leads back to its place, for its caller and its list alone, and shows nothing."""

import base64

import pytest

from codex_server.errors import InvalidRequest
from codex_server.service.cursors import Cursors
from codex_server.store.memory import MemoryStore

pytestmark = pytest.mark.anyio
PLACES = [0, 1, 2, 255, 10**6, 2**53]


@pytest.fixture
def store():
    return MemoryStore()


async def test_a_cursor_leads_to_its_place_also_after_a_restart(store):
    cursors, later = Cursors(store, "executions"), Cursors(store, "executions")
    for place in PLACES:
        sealed = await cursors.seal(place, "ann")
        assert await later.open(sealed, "ann") == place
        assert await later.seal(place, "ann") == sealed
    assert await cursors.seal(None, "ann") is await cursors.open(None, "ann") is None


async def test_a_cursor_does_not_show_its_place(store):
    cursors = Cursors(store, "executions")
    for place in PLACES:
        sealed = base64.urlsafe_b64decode(await cursors.seal(place, "ann") + "==")
        assert place.to_bytes(8, "big") not in sealed
    assert await cursors.seal(1, "ann") != await cursors.seal(1, "bob")


def changed(cursor):
    return ("B" if cursor[0] == "A" else "A") + cursor[1:]


@pytest.mark.parametrize("change", [changed, lambda cursor: cursor[:-4], lambda cursor: cursor + cursor])
async def test_a_cursor_that_was_not_made_here_is_refused(store, change):
    cursors = Cursors(store, "executions")
    sealed = await cursors.seal(7, "ann")
    with pytest.raises(InvalidRequest, match="send `next` of the page before"):
        await cursors.open(change(sealed), "ann")


@pytest.mark.parametrize("wrong", ["", "7", "äöü", "?", "a" * 22, "a" * 80])
async def test_what_is_no_cursor_is_refused(store, wrong):
    with pytest.raises(InvalidRequest, match="send `next` of the page before"):
        await Cursors(store, "executions").open(wrong, "ann")


async def test_a_cursor_is_of_one_caller_and_one_list(store):
    sealed = await Cursors(store, "executions").seal(7, "ann")
    for name, owner in (("executions", "bob"), ("files", "ann")):
        with pytest.raises(InvalidRequest):
            await Cursors(store, name).open(sealed, owner)
