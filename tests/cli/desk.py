"""A server with a fake backend in a thread of its own, for the commands that are its clients."""

import asyncio
import socket
import threading

import uvicorn

from codex_server.api.protocol import guarded
from codex_server.app import create_app
from codex_server.sandboxes.testing.fake import FakeBackend, fake_languages
from codex_server.settings import Settings
from tests.waiting import until

TOKEN = "a-token-for-these-tests"
SECONDS = 60


class Desk:
    """A server in a thread of its own, and what it runs programs in."""

    def __init__(self, **settings) -> None:
        self.backend = FakeBackend()
        self.settings = Settings(api_token=TOKEN, **settings)
        app = create_app(self.settings, backend=self.backend, languages=fake_languages())
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(app, http=guarded(20.0), log_config=None, timeout_graceful_shutdown=10)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(sockets=[listener])))

    def __enter__(self) -> "Desk":
        self.thread.start()
        assert until(lambda: self.server.started, SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(SECONDS)
