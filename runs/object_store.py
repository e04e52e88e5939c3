"""The object store that instances may use, where one is configured."""

from __future__ import annotations

from typing import TypedDict

from django.conf import settings


class ObjectStore(TypedDict):
    """``s3`` of a ``start_train`` command and of an aggregator's spec (``docs/protocol.md``). It holds secrets."""

    endpoint_url: str
    bucket: str
    region: str
    access_key: str
    secret_key: str


def object_store() -> ObjectStore | None:
    """Return where the store is and how to log in, or None where there is none."""
    if not settings.S3_BUCKET:
        return None
    return {
        "endpoint_url": settings.S3_ENDPOINT_URL,
        "bucket": settings.S3_BUCKET,
        "region": settings.S3_REGION,
        "access_key": settings.S3_ACCESS_KEY,
        "secret_key": settings.S3_SECRET_KEY,
    }
