"""
What the files that a config names hold, looked at without serving: which are not there, and which are of no use.

A file that is not there may be elsewhere, where the gateway will run; one that is there and cannot be used cannot be
used there either.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from proxy.compose.credentials import credentials
from proxy.fatal import Fatal
from proxy.identity.keys import from_file
from proxy.identity.secret_files import cache_secret, redis_access
from proxy.settings import ConfigError, ConfigFault, Settings
from proxy.settings.faults import dotted
from proxy.settings.sections import Issuer


class FilesLookedAt(NamedTuple):
    """What came of it, by the path of the field that names the file."""

    absent: tuple[ConfigFault, ...]
    useless: tuple[ConfigFault, ...]


def looked_at(settings: Settings) -> FilesLookedAt:
    """Look at every file that a config names."""
    named = dict(_named(settings, []))
    absent = {path: file for path, file in named.items() if not os.path.exists(file)}
    found = [fault for path, use in _uses(settings, absent) for fault in _faults(path, use)]
    return FilesLookedAt(
        tuple(ConfigFault(path, f"{file} is not there") for path, file in absent.items()),
        tuple(fault for fault in found if fault.path not in absent),
    )


def _uses(settings: Settings, absent: Collection[str]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is done with files at a start, and which field names them; nothing of it makes one."""
    yield "models", partial(credentials, settings)
    if settings.routing.cache_secret_file and "routing.cache_secret_file" not in absent:
        yield "routing.cache_secret_file", partial(cache_secret, settings)
    if settings.redis.url and not any(path.startswith("redis.") for path in absent):
        yield "redis", lambda: redis_access(settings).context()
    for index, issuer in enumerate(settings.auth.issuers):
        if issuer.key_file and os.path.exists(issuer.key_file):
            yield f"auth.issuers[{index}].key_file", partial(from_file, settings, index)


def _faults(path: str, use: Callable[[], object]) -> list[ConfigFault]:
    try:
        use()
    except ConfigError as error:
        return error.faults
    except Fatal as error:
        return [ConfigFault(path, str(error))]
    return []


def _named(value: Any, path: list[str | int]) -> Iterator[tuple[str, Path]]:
    """Yield every file that is named, with its field's path."""
    if isinstance(value, Path) and str(path[-1]).endswith("_file"):
        yield dotted(path), value
    for name, held in _parts(value):
        yield from _named(held, [*path, name])


def _parts(value: Any) -> Iterable[tuple[str | int, Any]]:
    match value:
        case Issuer(development=True):
            return ()  # its key is made where it is not there
        case BaseModel():
            return value
        case tuple():
            return enumerate(value)
        case dict():
            return value.items()
    return ()
