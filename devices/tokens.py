"""Secrets of devices: enrolment codes and device tokens. The database holds their SHA-256 digests alone.

A code has 60 random bits and lives for an hour; a token's secret has 256. Neither can be guessed, so a plain digest is
enough: there is nothing for a slow hash to slow down.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

# Crockford's base 32 (https://www.crockford.com/base32.html): no I, L, O or U, which people misread.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_PREFIX = "RT"
CODE_LENGTH = 12
TOKEN_PREFIX = "rtd"  # noqa: S105 - the kind of token, not one
TOKEN_MAX_LENGTH = 200

_MISREAD = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})


def enrolment_code_new() -> tuple[str, str]:
    """Return a random code as a person types it, ``RT-XXXX-XXXX-XXXX``, and its digest."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
    code = "-".join([CODE_PREFIX, *(letters[start : start + 4] for start in range(0, CODE_LENGTH, 4))])
    return code, secret_digest(letters)


def enrolment_code_digest(code: str) -> str | None:
    """Return the digest of a code, however it was typed; None for what cannot be a code."""
    letters = code.strip().upper().translate(_MISREAD)
    if len(letters) == len(CODE_PREFIX) + CODE_LENGTH:
        letters = letters.removeprefix(CODE_PREFIX)
    if len(letters) != CODE_LENGTH or not set(letters) <= set(ALPHABET):
        return None
    return secret_digest(letters)


def device_secret_new() -> str:
    """Return the random secret of a device token."""
    return secrets.token_urlsafe(32)


def device_token(edge_id: int, secret: str) -> str:
    """Return the token that a device shows: ``rtd_<edge_id>_<secret>``."""
    return f"{TOKEN_PREFIX}_{edge_id}_{secret}"


def device_token_read(token: str) -> tuple[int, str] | None:
    """Return the edge id and the secret of a token; None for what has another form."""
    if len(token) > TOKEN_MAX_LENGTH or not token.isascii():
        return None
    prefix, _, rest = token.partition("_")
    digits, _, secret = rest.partition("_")
    if prefix != TOKEN_PREFIX or not digits.isdigit() or len(digits) > 18 or not secret:
        return None
    return int(digits), secret


def secret_digest(secret: str) -> str:
    """Return the SHA-256 digest of a secret, in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def secret_matches(secret: str, digest: str) -> bool:
    """Whether ``digest`` is that of ``secret``, compared in constant time. An empty digest matches nothing."""
    return bool(digest) and hmac.compare_digest(secret_digest(secret), digest)
