"""
What of a sound config is probably not meant: it works, and costs or opens more than its author may know.

Rule: a warning never keeps a gateway from its work; who means it leaves it as it is.
"""

from collections.abc import Callable, Iterator

from proxy.settings.faults import ConfigFault, dotted
from proxy.settings.sections import Settings

_EVERYWHERE = frozenset({"0.0.0.0", "::", "[::]", ""})


def advice(settings: Settings) -> list[ConfigFault]:
    """Return what to look at again, by path."""
    return [told for rule in _RULES for told in rule(settings)]


def _admin(settings: Settings) -> Iterator[ConfigFault]:
    if settings.admin.host in _EVERYWHERE:
        yield ConfigFault("admin.host", "is every address: who reaches it reads all metrics and reloads the config")


def _development(settings: Settings) -> Iterator[ConfigFault]:
    for index, issuer in enumerate(settings.auth.issuers):
        if issuer.development and settings.listen.host in _EVERYWHERE:
            message = "is on while listen.host is every address: who reads its key file speaks for every tenant"
            yield ConfigFault(f"auth.issuers[{index}].development", message)


def _free(settings: Settings) -> Iterator[ConfigFault]:
    priced = {price.model for price in settings.prices}
    for index, model in enumerate(settings.models):
        if priced and model.name not in priced:
            yield ConfigFault(f"models[{index}]", f"{model.name!r} has no price, and others have: it is free")


def _sizes(settings: Settings) -> Iterator[ConfigFault]:
    for index, model in enumerate(settings.models):
        for field in ("min_completion", "default_completion"):
            tokens = getattr(model, field)
            if field in model.model_fields_set and tokens > model.context_tokens:
                message = f"is {tokens}, more than context_tokens ({model.context_tokens})"
                yield ConfigFault(f"models[{index}].{field}", message)


def _unlimited(settings: Settings) -> Iterator[ConfigFault]:
    for name, plan in settings.plans.items():
        if not plan.limits:
            yield ConfigFault(dotted(["plans", name, "limits"]), "is empty: one tenant may use all that there is")


_RULES: tuple[Callable[[Settings], Iterator[ConfigFault]], ...] = (_admin, _development, _free, _sizes, _unlimited)
