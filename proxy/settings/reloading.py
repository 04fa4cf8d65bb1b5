"""
What of another config may come into force while the gateway runs, and what waits for its next start.

Decision: what needs a restart is left as it is and named, and the rest is taken.
Because a file in which a port waits for the next restart must not keep an operator from removing a stolen key today.
Instead of refusing all of it; then what is in force would be the whole of one file, at the price of the hour in which
that matters least.

A replica that the gateway launched is a process with a command line: what stands in that waits too. `sequences` does
not, since the gateway counts for itself; the engine's own maximum stays that of its start.
"""

from typing import Any, NamedTuple

from proxy.settings.consistency import inconsistencies
from proxy.settings.difference import Change, changes
from proxy.settings.faults import ConfigError, ConfigFault
from proxy.settings.sections import ModelSection, ReplicaSection, Settings

RELOADED = frozenset({"auth", "models", "plans", "tenants", "prices", "limits"})
"""
Sections that a reload brings into force; all others are what a start is made of.

A field of theirs takes effect where it is read from `InForce.now` for each request (as `Call.bounds` is), or handed to
what lives longer by a follower (`proxy/compose/followers.py`, entered in `proxy/app.py`). One that is read once, at the
start, would be told as changed and stay as it was.
"""


class Reloadable(NamedTuple):
    """A config as far as it may come into force."""

    settings: Settings
    changed: tuple[Change, ...]
    """What is different from the config that holds."""
    needs_restart: tuple[Change, ...]
    """What is asked for beyond that."""


def reloadable(now: Settings, wanted: Settings) -> Reloadable:
    """
    Return what of a wanted config may come into force in the place of the one that holds.

    Raises: ConfigError, where what has to wait contradicts what does not.
    """
    kept: dict[str, Any] = {name: getattr(now, name) for name in Settings.model_fields if name not in RELOADED}
    launched = {model.name: model for model in now.models}
    models = tuple(_model(launched[each.name], each) if each.name in launched else each for each in wanted.models)
    settings = wanted.model_copy(update={**kept, "models": models})
    waiting = tuple(changes(settings, wanted))
    if found := list(inconsistencies(settings.model_dump(mode="json", exclude_none=True))):
        needs = [ConfigFault(change.path, "needs a restart") for change in waiting]
        raise ConfigError([*found, *needs])
    return Reloadable(settings, tuple(changes(now, settings)), waiting)


def _model(now: ModelSection, wanted: ModelSection) -> ModelSection:
    update: dict[str, Any] = {"launch": now.launch}
    if now.launch is not None:
        running = {replica.name: replica for replica in now.replicas}
        update["context_tokens"] = now.context_tokens
        update["replicas"] = tuple(
            _running(running[each.name], each) if each.name in running else each for each in wanted.replicas
        )
    return wanted.model_copy(update=update)


def _running(now: ReplicaSection, wanted: ReplicaSection) -> ReplicaSection:
    return wanted.model_copy(update={"url": now.url})
