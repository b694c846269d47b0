"""What the page ``/docs`` loads: Swagger UI as the package fastapi-swagger carries it, and our few lines around it.

That package (MIT, with Swagger UI's files, Apache-2.0) is a folder of files here: nothing of it is imported. A file is
read when somebody asks for it.
"""

import gzip
import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_OURS = Path(__file__).parent / "pages"
_TYPES = {".js": "text/javascript", ".css": "text/css"}
NAMES = ("docs.css", "docs.js", "swagger-ui-bundle.js", "swagger-ui.css")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page, packed: few pages are read where the network is fast."""

    packed: bytes
    media_type: str
    etag: str


@cache
def read_asset(name: str) -> Asset:
    """The file; it is kept once somebody requested it, 0.6 MB for all. Blocks: call it in a thread."""
    file = _OURS / name if name.startswith("docs.") else _of_swagger_ui(name)
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Asset(gzip.compress(content, 6), _TYPES[file.suffix], f'"{digest[:32]}"')


def _of_swagger_ui(name: str) -> Path:
    found = importlib.util.find_spec("fastapi_swagger")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("the package fastapi-swagger is not installed")
    return Path(found.submodule_search_locations[0]) / "resources" / name
