"""Files for what a program shows on a screen that is not there: ``figure-1.png``, ``image-1.png``, ``figure-1.html``.

Installed among the data packages as ``codex_shown``; ``post_install.py`` makes pillow and plotly call it.
"""

import contextlib
import io
import os
import secrets
import sys
from typing import Any

_MOST = 50
"""Files of one kind from one program; what is beyond is not written, and said once."""
_told: set[str] = set()


def folder() -> str:
    """The program's own, for it is what comes back; of a command without a file the current one."""
    place = _of_program() or (_loaded_in if _loaded_by == os.getpid() else None)
    return place or os.getcwd()


def _of_program() -> str | None:
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.dirname(os.path.abspath(file)) if file else None


def write(stem: str, ending: str, content: bytes) -> str | None:
    """Write ``content`` to the first ``stem-N.ending`` that is not there, and return its path.

    The file appears whole or not at all, also when the program is killed meanwhile, and replaces none. None when there
    are too many.
    """
    for number in range(1, _MOST + 1):
        path = os.path.join(folder(), f"{stem}-{number}.{ending}")
        with contextlib.suppress(FileExistsError):
            if not os.path.lexists(path):
                _create(path, content)
                return path
    if stem not in _told:
        _told.add(stem)
        sys.stderr.write(f"more than {_MOST} files {stem}-N.{ending} are not kept; save yourself what you need\n")
    return None


def _create(path: str, content: bytes) -> None:
    """A file that nobody sees before it is whole; where the file system has none, one with another name meanwhile."""
    try:
        with open(os.open(os.path.dirname(path), os.O_TMPFILE | os.O_RDWR, 0o644), "wb", 0) as file:
            file.write(content)
            own = f"/proc/self/fd/{file.fileno()}"
            os.link(own, path, src_dir_fd=file.fileno(), follow_symlinks=True)  # without src_dir_fd it follows nothing
    except FileExistsError:
        raise
    except OSError:
        meanwhile = f"{path}.{secrets.token_hex(4)}.part"
        try:
            with open(meanwhile, "xb") as file:
                file.write(content)
            os.link(meanwhile, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(meanwhile)


def follow_pillow(image_show: Any) -> None:
    """Let ``Image.show()`` write a file."""

    class Viewer(image_show.Viewer):  # type: ignore[misc]
        """A window, which is a file."""

        format = "PNG"

        def show_image(self, image: Any, **options: Any) -> int:
            """Write the picture; it counts as shown."""
            content = io.BytesIO()
            image.save(content, "PNG")
            write("image", "png", content.getvalue())
            return 1

    image_show.register(Viewer, 0)


def follow_plotly(module: Any) -> None:
    """Let ``show()`` write a page, unless the program's environment names another renderer."""
    if os.environ.get("PLOTLY_RENDERER"):
        return

    class Renderer(module.ExternalRenderer):  # type: ignore[misc]
        """A browser's window, which is a file; the browser that opens it fetches plotly.js."""

        def render(self, fig: Any) -> None:
            """Write the page."""
            from plotly.io import to_html  # type: ignore[import-not-found]  # noqa: PLC0415 - it imports us

            write("figure", "html", to_html(fig, include_plotlyjs="cdn", validate=False).encode())

    module.renderers["file"] = Renderer()
    module.renderers.default = "file"


_loaded_by, _loaded_in = os.getpid(), _of_program()  # a plain interpreter forgets it before it calls what is to be last
