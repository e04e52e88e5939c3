"""Brings packages to this machine: streamed, verified, kept under the name of their digest."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from .locks import locked
from .plan import RemotePackage
from .platform_http import Refused, Unreachable, open_url
from .runtime import Failed, Steps

MAX_PACKAGE_BYTES = 4 * 2**30
SPARE_DISK_BYTES = 64 * 2**20
CHUNK = 1 << 18
ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 1.0
LASTING_REFUSALS = (400, 401, 403, 404, 409, 410)


class PackageCache:
    """Packages on this machine; several agents may share the folder.

    Parameters:
        folder: where to keep them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, package: RemotePackage, steps: Steps) -> Path:
        """Bring one package here, unless it is here already.

        Returns:
            The zip file, whose digest was verified just now.

        Raises:
            Failed: the platform refuses it, cannot be reached, or sends other bytes than announced.
            Stopped: from `steps.checkpoint`.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{package.sha256}.zip"
        try:
            with locked(self._folder / f"{package.sha256}.lock", checkpoint=steps.checkpoint):
                if not self._holds(path, package.sha256):
                    self._download(package, path, steps)
                    steps.say(f"fetched the package ({path.stat().st_size} bytes)")
                os.utime(path)
        except OSError as error:
            raise Failed(f"cannot store the package: {error.strerror or error}") from None
        return path

    def _holds(self, path: Path, sha256: str) -> bool:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                return True
        path.unlink()
        return False

    def _download(self, package: RemotePackage, path: Path, steps: Steps) -> None:
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._attempt(package, path, steps)
            except Refused as error:
                if error.status in LASTING_REFUSALS or attempt == ATTEMPTS:
                    raise Failed(f"the platform refused the package: {error}") from None
                problem = str(error)
            except Unreachable as error:
                if attempt == ATTEMPTS:
                    raise Failed(f"the package could not be fetched: {error}") from None
                problem = str(error)
            steps.say(f"fetching the package: {problem}; trying again in {pause:.0f} s")
            _pause(pause, steps)
            pause *= 2
        return None

    def _attempt(self, package: RemotePackage, path: Path, steps: Steps) -> None:
        most = package.size or MAX_PACKAGE_BYTES
        if shutil.disk_usage(self._folder).free < package.size + SPARE_DISK_BYTES:
            raise Failed(f"there is no room for a package of {package.size} bytes on the agent's disk")
        digest = hashlib.sha256()
        received = 0
        with contextlib.ExitStack() as stack:
            descriptor, temporary = tempfile.mkstemp(prefix=".part-", dir=self._folder)
            stack.callback(Path(temporary).unlink, missing_ok=True)
            file = stack.enter_context(os.fdopen(descriptor, "wb"))
            answer = stack.enter_context(open_url(package.url, token=package.bearer))
            while chunk := answer.read(CHUNK):
                steps.checkpoint()
                received += len(chunk)
                if received > most:
                    raise Failed(f"the package is larger than the {most} bytes that the platform announced")
                digest.update(chunk)
                file.write(chunk)
                steps.phase("fetch", received / package.size if package.size else None)
            file.flush()
            if package.size and received < package.size:
                raise Unreachable(f"the connection broke off after {received} of {package.size} bytes")
            if digest.hexdigest() != package.sha256:
                raise Failed("the package's bytes do not match its digest: it was damaged or replaced on the way")
            Path(temporary).replace(path)


def _pause(seconds: float, steps: Steps) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        steps.checkpoint()
        time.sleep(0.1)
