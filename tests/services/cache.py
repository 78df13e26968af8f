"""Where provisioned services live: outside the checkout, one folder a version, built once.

Knows nothing of what is provisioned. A folder that is there is complete: it is filled under
another name and renamed, with a file lock held, so that two test runs never provision at once.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import ProvisionError

CACHE_VARIABLE = "TEST_SERVICES_CACHE"


def cache_root() -> Path:
    """`$TEST_SERVICES_CACHE`, else `speechmill/test-services` in the user's cache folder."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser().resolve()
    if sys.platform == "darwin":
        user_cache = Path.home() / "Library" / "Caches"
    else:
        user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return user_cache / "speechmill" / "test-services"


def cached(name: str) -> Path | None:
    """The folder that `provide` made for `name` earlier, if it did."""
    folder = cache_root() / name
    return folder if folder.is_dir() else None


def provide(name: str, fill: Callable[[Path], None]) -> Path:
    """The cache's folder `name`; if there is none, `fill` is called with an empty one to fill.

    Waits while another process provides the same name.

    Raises:
        ProvisionError: from `fill`; then no folder is left.
    """
    final = cache_root() / name
    if final.is_dir():
        return final
    with _lock(name):
        if final.is_dir():  # another run provided it while this one waited
            return final
        partial = final.with_name(final.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        partial.mkdir()
        try:
            fill(partial)
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return final


@contextmanager
def _lock(name: str) -> Iterator[None]:
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released with the file, or by the process's death
        yield


def run_tool(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], deadline: float
) -> str:
    """Run a build tool in `folder` and return its standard output.

    Raises:
        ProvisionError: it isn't there, it failed, or it ran past `deadline` seconds; with the end
            of what it printed.
    """
    try:
        done = subprocess.run(
            list(command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=deadline,
            check=True,
        )
    except FileNotFoundError as error:
        raise ProvisionError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ProvisionError(f"{' '.join(command)}: still running after {deadline:g} s") from error
    except subprocess.CalledProcessError as error:
        printed = f"{error.stdout}\n{error.stderr}".strip()[-4_000:]
        raise ProvisionError(f"{' '.join(command)}: exit {error.returncode}\n{printed}") from error
    return done.stdout
