"""Links that need no token: an id, a time at which they end, and a signature over both."""

import base64
import hashlib
import hmac
from dataclasses import dataclass

PATH = "/artifacts"
KEY_NAME = "artifact_links"
"""The name of the secret that signs links."""
_SIGNATURE_BYTES = 16
"""Nobody guesses 128 bits, and a link is short enough for a model to repeat."""


@dataclass(frozen=True, slots=True)
class SignedLinks:
    """Makes and checks links. ``base_url`` is empty where the server does not know its address: then they are paths."""

    secret: bytes
    base_url: str = ""

    def url(self, file_id: str, expires: int) -> str:
        """The link to ``file_id`` that holds until ``expires``, in seconds since the epoch."""
        return f"{self.base_url}{PATH}/{file_id}?expires={expires}&signature={self._sign(file_id, expires)}"

    def is_genuine(self, file_id: str, expires: int, signature: str) -> bool:
        """Whether this server made that link. Takes the same time for every wrong signature."""
        return hmac.compare_digest(self._sign(file_id, expires).encode(), signature.encode("utf-8", "replace"))

    def _sign(self, file_id: str, expires: int) -> str:
        digest = hmac.digest(self.secret, f"{file_id}\n{expires}".encode("utf-8", "replace"), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:_SIGNATURE_BYTES]).decode().rstrip("=")
