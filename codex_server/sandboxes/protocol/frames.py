"""Frames between the server and the guest side: one SEQPACKET message each, one closed set of kinds.

A frame is a version byte, a kind byte and a JSON object, at most 128 KiB, with up to 16 descriptors beside it. Larger
things (code, files) travel in a memfd. INVARIANT: the reader trusts nothing: size, version, kind and shape are checked,
and descriptors that are not expected are closed.
"""

import array
import json
import os
import socket
from enum import IntEnum
from typing import Any

Body = dict[str, object]
"""The JSON object of a frame: what it means is for ``codec.decode`` to say."""
VERSION = 6
MAX_FRAME = 128 * 1024
MAX_DESCRIPTORS = 16
_DESCRIPTOR_SPACE = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
_TO_US_ALONE = int(socket.MSG_CMSG_CLOEXEC)
"""A plain number: ``|`` of two flags makes a third, which costs more than the call."""
_CUT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_render = json.JSONEncoder(separators=(",", ":")).encode


class Kind(IntEnum):
    """What a frame says."""

    LAUNCH = 1  # server -> launcher: LaunchPlan; server -> zygote: SlotSetup; server -> container: ContainerLaunch
    READY = 2  # zygote -> server: ZygoteReady; init -> server: SlotReady; container -> server: ImageContents too
    FAULT = 3  # any -> server, zygote -> init: StepFailure
    ARM = 4  # server -> zygote: ZygoteOrder; server -> init: SlotOrder, to be armed (again)
    RUN = 5  # server -> init: RunOrder; the execution is in a memfd
    STOP = 6  # server -> init: kill it and report
    RESULT = 7  # init -> server: RunReport; kept files are in a memfd
    FORK = 8  # init -> zygote: SlotOrder: a worker in my namespaces
    FORKED = 9  # zygote -> init: WorkerForked
    ENDED = 10  # zygote -> init: WorkerEnd
    PROBE = 11  # server -> container: ImageProbe
    STDOUT = 12  # container -> server: output, beside the frame
    STDERR = 13  # container -> server: error output, likewise
    STDIN = 14  # server -> container: InputPiece; the bytes are beside the frame
    STDIN_TAKEN = 15  # container -> server: InputTaken
    CELL = 16  # server -> init of a session: CellOrder; the payload is in a memfd
    CELL_INPUT = 17  # init -> server: CellInput
    CELL_STOP = 18  # server -> init: CellStop
    CELL_END = 19  # init -> server: CellReport; reply and kept files are in a memfd
    START = 20  # server -> init of a session: InterpreterOrder; it sends READY with InterpreterReady
    KEYS = 21  # server -> container: Keys; the bytes are beside the frame
    KEYS_TAKEN = 22  # container -> server: KeysTaken
    WINDOW = 23  # server -> container: Window


class BadFrame(Exception):
    """The bytes are not a frame."""


class Closed(Exception):
    """The other side is gone."""


def encode(kind: Kind, body: Body) -> bytes:
    """The bytes of a frame. Raises ``BadFrame`` when it would be too large."""
    frame = bytes((VERSION, kind)) + _render(body).encode("ascii")
    if len(frame) > MAX_FRAME:
        raise BadFrame(f"a {kind.name} frame of {len(frame)} bytes is above {MAX_FRAME}")
    return frame


def decode(frame: bytes) -> tuple[Kind, Body]:
    """The kind and body of a frame. Raises ``BadFrame`` for anything else than what ``encode`` makes."""
    if len(frame) < 4 or len(frame) > MAX_FRAME:
        raise BadFrame(f"a frame of {len(frame)} bytes")
    if frame[0] != VERSION:
        raise BadFrame(f"wire version {frame[0]}, expected {VERSION}")
    try:
        kind = Kind(frame[1])
        body = json.loads(frame[2:].decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise BadFrame(str(error)) from None
    if not isinstance(body, dict):
        raise BadFrame("the body is not an object")
    return kind, body


def send(channel: socket.socket, kind: Kind, body: Body, descriptors: tuple[int, ...] = ()) -> None:
    """Send one frame with ``descriptors`` beside it. Raises ``Closed`` when the other side is gone."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    try:
        channel.sendmsg([encode(kind, body)], ancillary, socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Closed from error


def receive(channel: socket.socket, how: int = 0) -> tuple[Kind, Body, list[int]]:
    """The next frame and its descriptors, which the caller owns. Raises ``Closed``, ``BadFrame`` or BlockingIOError.

    ``how``: flags of recv(2).
    """
    try:
        data, ancillary, flags, _ = _take(channel, how)
    except ConnectionResetError:
        # The other side closed without reading all of ours. That is reported once, before the frames that it had sent.
        try:
            data, ancillary, flags, _ = _take(channel, how)
        except ConnectionResetError as error:
            raise Closed from error
    descriptors = _descriptors(ancillary)
    try:
        if not data:
            raise Closed
        if flags & _CUT:
            raise BadFrame("a frame was cut off")
        kind, body = decode(data)
    except (Closed, BadFrame):
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return kind, body, descriptors


def _take(channel: socket.socket, how: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
    return channel.recvmsg(MAX_FRAME + 1, _DESCRIPTOR_SPACE, _TO_US_ALONE | how)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)
