"""Hashes by which contents are recognized again."""

from __future__ import annotations

import hashlib

from setup.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def digest(data: bytes) -> str:
    """Hash one content: the SHA-256 in hexadecimal, as the state file records it."""
    return hashlib.sha256(data).hexdigest()


def fingerprint(key: bytes, contents: Iterable[bytes]) -> str:
    """Hash several contents so that without the key not even a short one can be guessed."""
    import hmac

    return hmac.digest(key, digest_all(contents).encode(), "sha256").hex()


def digest_all(contents: Iterable[bytes]) -> str:
    """Hash several contents as one, each kept apart from the next."""
    whole = hashlib.sha256()
    for data in contents:
        whole.update(hashlib.sha256(data).digest())
    return whole.hexdigest()
