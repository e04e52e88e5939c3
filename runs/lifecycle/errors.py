"""What the lifecycle refuses."""

from __future__ import annotations


class RunRefused(Exception):
    """The request cannot be done; ``str(error)`` is a sentence that says why and what to do, fit for a page."""
