"""
From a file and an environment to `Settings`, or to all the faults in one `ConfigError`.

Which file: the one given, else `tollway.toml` in the current directory, else the demo config that comes with the
package. Paths in a file are taken from its folder; the demo config's from the current directory, since nobody wants
data among installed packages.
"""

import json
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from proxy.settings import faults
from proxy.settings.consistency import inconsistencies
from proxy.settings.environment import overlay
from proxy.settings.faults import ConfigError, ConfigFault
from proxy.settings.sections import Settings

DEFAULT_NAME = "tollway.toml"
_BYTES_MAX = 8 * 2**20


def load(path: Path | None, env: Mapping[str, str]) -> Settings:
    """
    Read, overlay and check a config.

    Raises: ConfigError with every fault found.
    """
    if path is None and Path(DEFAULT_NAME).is_file():
        path = Path(DEFAULT_NAME)
    source, folder = (str(path), path.parent) if path else ("demo config", Path())
    return parse(_text(path, source), env, source=source, folder=folder.absolute())


def parse(text: str, env: Mapping[str, str], *, source: str = "", folder: Path | None = None) -> Settings:
    """
    Check a config's text, with relative paths taken from `folder`.

    Raises: ConfigError with every fault found.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError([ConfigFault("", f"is not TOML: {_lowered(error)}")], source) from None
    document.setdefault("redis", {})  # so that its default paths are taken from the folder too
    origins: dict[str, str] = {}
    found = list(overlay(document, env, origins))
    settings: Settings | None = None
    try:
        # Strict JSON, since a config speaks JSON's types: a list becomes a tuple there, but "8080" no number.
        settings = Settings.model_validate_json(json.dumps(document, default=str), context=folder)
    except ValidationError as error:
        found += faults.of_validation(error)
    except RecursionError:
        found.append(ConfigFault("", "nests too deeply"))
    found += inconsistencies(document)
    if settings is None or found:
        raise ConfigError([_blame(fault, origins) for fault in faults.in_order(found)], source)
    return settings


def _blame(fault: ConfigFault, origins: Mapping[str, str]) -> ConfigFault:
    """Name the environment variables that stand behind a fault, since it is not in the file then."""
    names = [name for path, name in origins.items() if path == fault.path or path.startswith(f"{fault.path}.")]
    return ConfigFault(fault.path, f"{fault.message} (set by {', '.join(names)})") if names else fault


def _text(path: Path | None, source: str) -> str:
    try:
        if path is None:
            return files("proxy.settings").joinpath("demo.toml").read_text("utf-8")
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
        if len(content) > _BYTES_MAX:
            raise ConfigError([ConfigFault("", f"is larger than {_BYTES_MAX} bytes")], source)
        return content.decode("utf-8")
    except OSError as error:
        raise ConfigError([ConfigFault("", f"cannot be read: {error.strerror}")], source) from None
    except UnicodeDecodeError:
        raise ConfigError([ConfigFault("", "is not UTF-8 text")], source) from None


def _lowered(error: Exception) -> str:
    text = str(error)
    return text[:1].lower() + text[1:]
