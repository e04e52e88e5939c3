"""The login at the registry of an image: the command's own, or the one that the device was given when it was bound."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .fields import Fields, Invalid
from .plan import ImageReference, RegistryLogin, read_registry_login


def login_for(image: ImageReference | None, registry: Mapping[str, Any] | None) -> ImageReference | None:
    """Add the device's own login to an image that came without one, where it is of that registry.

    Parameters:
        registry: `{address, username, password}` of the device's identity, or None.
    """
    if image is None or image.login is not None or registry is None:
        return image
    login = device_login(registry)
    if login is None or not image.reference.startswith(f"{registry.get('address')}/"):
        return image
    return replace(image, login=login)


def device_login(registry: Mapping[str, Any] | None) -> RegistryLogin | None:
    """The login in a device's identity; None where there is none that can be understood."""
    if registry is not None and registry.get("username"):
        with contextlib.suppress(Invalid):
            return read_registry_login(Fields(dict(registry), "registry"))
    return None
