"""The registry that images are published in: its login, what it holds, and pushing to it.

The registry is asked through the engine, which knows by its own configuration which registries are spoken to by TLS
and whose certificates are good.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from django.conf import settings
from docker.errors import APIError, NotFound

from runs.pipeline.backends.engine import EngineClient, engine_said, follow
from runs.pipeline.backends.interface import StageContext, StageFailed, StageTransient

# What the engine says where a registry is there but refuses, and where it has nothing of that name.
_REFUSED = re.compile(r"unauthorized|no basic auth|denied|incorrect username|forbidden", re.IGNORECASE)
_ABSENT = re.compile(r"manifest unknown|name unknown|not found", re.IGNORECASE)


@dataclass(frozen=True)
class RegistryLogin:
    """How to log in to a registry."""

    username: str
    password: str = field(repr=False)

    def as_json(self) -> dict[str, str]:
        """Return the login as the engine's interface and the ``start_train`` command have it."""
        return {"username": self.username, "password": self.password}


def push_login() -> RegistryLogin | None:
    """Return the platform's own login, or None where the registry asks for none."""
    return RegistryLogin(settings.REGISTRY_USER, settings.REGISTRY_PASSWORD) if settings.REGISTRY_USER else None


def pull_login() -> RegistryLogin | None:
    """Return the login that devices and nodes of a swarm pull with, or None where the registry asks for none."""
    if not settings.REGISTRY_PULL_USER:
        return None
    return RegistryLogin(settings.REGISTRY_PULL_USER, settings.REGISTRY_PULL_PASSWORD)


def registry_host(repository: str) -> str:
    """Return ``host:port`` of an image's name, as the engine reads it; ``docker.io`` where the name has none."""
    first, slash, _ = repository.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def login_for(repository: str) -> dict[str, str] | None:
    """Return the login for an image's name, where that is one of the platform's own registry."""
    login = push_login()
    ours = settings.REGISTRY and registry_host(repository) == registry_host(f"{settings.REGISTRY}/x")
    return login.as_json() if login is not None and ours else None


def registry_digest(client: EngineClient, reference: str) -> str | None:
    """Return the digest of what a registry holds under a name, or None where it holds nothing.

    Args:
        client: the engine, through which the registry is asked.
        reference: ``host:port/name:tag``.

    Raises:
        StageFailed: the registry refuses the login.
        StageTransient: it does not answer.
    """
    try:
        answer = client.inspect_distribution(reference, auth_config=login_for(reference))
    except NotFound:
        return None
    except APIError as error:
        said = engine_said(error)
        if _ABSENT.search(said):
            return None
        raise registry_error(reference, said) from error
    return str(answer["Descriptor"]["digest"])


def registry_error(reference: str, said: str) -> StageFailed | StageTransient:
    """Return the error for what the engine said of a registry: a refusal stays one, everything else may pass."""
    host = registry_host(reference)
    if _REFUSED.search(said):
        user = f"the user {settings.REGISTRY_USER}" if settings.REGISTRY_USER else "requests without a login"
        return StageFailed(
            f"The registry {host} refuses {user}. Correct ROUNDTABLE_REGISTRY_USER and ROUNDTABLE_REGISTRY_PASSWORD. "
            f"It said: {said}"
        )
    return StageTransient(f"The registry {host} cannot be used: {said}")


def image_push(context: StageContext, client: EngineClient, repository: str, tag: str) -> str:
    """Push an image of the engine, with the progress of its layers, and return its digest in the registry.

    Raises:
        StageFailed: the registry refuses the login.
        StageTransient: it is away, or the push broke off.
        StageCancelled, StageTimedOut: from ``context.check``; the engine stops pushing.
    """
    layers: dict[str, tuple[int, int]] = {}
    digest = ""
    login = login_for(repository)
    context.log(f"Pushing {repository}:{tag}")
    messages = follow(
        context, client, lambda: client.push(repository, tag, stream=True, decode=True, auth_config=login)
    )
    for message in messages:
        if "error" in message:
            raise registry_error(repository, str(message["error"]).strip().rstrip(".") + ".")
        digest = (message.get("aux") or {}).get("Digest") or digest
        status, layer = str(message.get("status") or ""), message.get("id")
        if layer is None:
            continue
        detail = message.get("progressDetail") or {}
        if status == "Pushing" and detail.get("total"):
            layers[layer] = (int(detail.get("current") or 0), int(detail["total"]))
        elif status in ("Pushed", "Layer already exists") or status.startswith("Mounted from"):
            total = layers.get(layer, (0, 1))[1]
            layers[layer] = (total, total)
            context.log(f"{layer}: {status}")
        elif status.startswith("Retrying"):
            context.log(f"{layer}: the registry does not take it. {status}.", "stderr")
        else:
            layers.setdefault(layer, (0, 1))
        context.progress(_share(layers))
    if not digest:
        raise StageTransient("The engine broke the push off.")
    context.log(f"digest: {digest}")
    return digest


def _share(layers: dict[str, tuple[int, int]]) -> float:
    """Return how much of all layers is pushed, 0 to 1. A layer can turn out larger than the engine expected."""
    done = sum(min(current, total) for current, total in layers.values())
    return done / max(1, sum(total for _, total in layers.values()))
