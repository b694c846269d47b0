"""``python -m codex_server`` is the ``codex-server`` command."""

from codex_server.cli.main import main

if __name__ == "__main__":
    main()
