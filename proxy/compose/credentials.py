"""What each replica is shown and known by, read from the files that the config names; a reload reads them again."""

from collections.abc import Mapping
from dataclasses import fields

from engine.wire.credentials import CredentialFiles, Credentials, UnusableCredentials
from proxy.settings import ConfigError, ConfigFault, Settings
from proxy.settings.sections import ModelSection, ReplicaSection

_FILES = tuple(field.name for field in fields(CredentialFiles))
_SHOWN = frozenset({"api_key_file"})
"""What also who is spoken to in clear text is shown."""


def credentials(settings: Settings) -> Mapping[str, Credentials]:
    """Return the credentials of each replica, by its name; raise `ConfigError` with every file that is of no use."""
    read: dict[str, Credentials] = {}
    faults: dict[ConfigFault, None] = {}
    for index, model in enumerate(settings.models):
        for number, replica in enumerate(model.replicas):
            try:
                read[replica.name] = _files(model, replica).read()
            except UnusableCredentials as error:
                place = f"models[{index}]"
                own = f"{place}.replicas[{number}]" if getattr(replica, error.field) else place
                faults[ConfigFault(f"{own}.{error.field}", str(error))] = None
    if faults:
        raise ConfigError(faults)
    return read


def _files(model: ModelSection, replica: ReplicaSection) -> CredentialFiles:
    secured = (replica.url or "").startswith("https:")
    return CredentialFiles(
        **{name: getattr(replica, name) or getattr(model, name) for name in _FILES if secured or name in _SHOWN}
    )
