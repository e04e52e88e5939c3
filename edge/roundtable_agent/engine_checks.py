"""Can this device open containers? The engine, the registry's login, and the manifest of an image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checks import Finding
from .engine import Engine, EngineAway, EngineRefused, engine_address
from .image_pull import ABSENT, PulledImages, registry_host, registry_sentence
from .registry_login import device_login


def check_engine(images: Path, registry: Mapping[str, Any] | None, *, required: bool) -> list[Finding]:
    """Ask the engine what it is, and let it ask the registry.

    Parameters:
        images: the file that says which images were pulled; the manifest of the last one is looked at, not pulled.
        registry: `{address, username, password}` of the device's identity, or None.
        required: the device opens nothing but containers.
    """
    engine = Engine(engine_address())
    try:
        facts = engine.look()
    except (EngineAway, EngineRefused) as error:
        what = "start it, or name it with DOCKER_HOST" if required else "instances run as processes"
        return [Finding("docker", False, f"{error}; {what}", required)]
    gpu = ", with GPUs" if "nvidia" in (facts.get("Runtimes") or {}) else ""
    text = f"engine {facts.get('ServerVersion')} answers at {engine.address}{gpu}"
    findings = [Finding("docker", True, text, required)]
    if registry is not None:
        findings.append(_registry(engine, images, registry, required))
    return findings


def _registry(engine: Engine, images: Path, registry: Mapping[str, Any], required: bool) -> Finding:
    address = str(registry.get("address") or "")
    login = device_login(registry)
    try:
        with engine.client() as client:
            if login is not None:
                client.login(login.username, login.password, registry=registry_host(f"{address}/"), reauth=True)
            last = PulledImages(images).last(f"{address}/")
            if last:
                client.inspect_distribution(last)
    except EngineAway as error:
        return Finding("registry", False, str(error), required)
    except EngineRefused as error:
        if not ABSENT.search(str(error)) or login is None:
            return Finding("registry", False, registry_sentence(f"{address}/", str(error), login), required)
        last = ""  # that image was removed since: nothing is wrong with the registry
    who = f"accepts the login of {login.username}" if login is not None else "asks for no login"
    return Finding(
        "registry", True, f"{address} {who}" + (f", and has {last.rpartition('/')[2][:40]}" if last else ""), required
    )
