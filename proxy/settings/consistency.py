"""
What must agree between the sections of a config.

Works on the raw document, where anything may have any shape: what is not a table, a list or a string is passed over
here, since the sections' own types report it.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import Any

from proxy.settings.faults import ConfigFault, dotted

Document = dict[str, Any]


def inconsistencies(document: Document) -> Iterator[ConfigFault]:
    """Yield everything that contradicts something else in the document."""
    for rule in _RULES:
        yield from rule(document)


def _table(holder: Any, key: str) -> Document:
    value = holder.get(key) if isinstance(holder, dict) else None
    return value if isinstance(value, dict) else {}


def _entries(holder: Any, key: str) -> list[tuple[int, Any]]:
    value = holder.get(key) if isinstance(holder, dict) else None
    return list(enumerate(value)) if isinstance(value, list) else []


def _tables(holder: Any, key: str) -> list[tuple[int, Document]]:
    return [(index, entry) for index, entry in _entries(holder, key) if isinstance(entry, dict)]


def _texts(holder: Any, key: str) -> list[tuple[int, str]]:
    return [(index, entry) for index, entry in _entries(holder, key) if isinstance(entry, str)]


class _Seen:
    """Where each thing stood first."""

    def __init__(self) -> None:
        self._paths: dict[Hashable, str] = {}

    def again(self, thing: Hashable, path: str, label: str) -> Iterator[ConfigFault]:
        if thing is None:
            return
        first = self._paths.setdefault(thing, path)
        if first != path:
            yield ConfigFault(path, f"{label} is taken by {first}")


def _text(table: Document, key: str) -> str | None:
    value = table.get(key)
    return value if isinstance(value, str) else None


def _model_names(document: Document) -> Iterator[ConfigFault]:
    seen = _Seen()
    for index, model in _tables(document, "models"):
        yield from seen.again(_text(model, "name"), f"models[{index}].name", repr(model.get("name")))
    for index, model in _tables(document, "models"):
        for number, alias in _texts(model, "aliases"):
            yield from seen.again(alias, f"models[{index}].aliases[{number}]", repr(alias))


def _replicas(document: Document) -> Iterator[ConfigFault]:
    seen = _Seen()
    for index, model in _tables(document, "models"):
        for number, replica in _tables(model, "replicas"):
            path = f"models[{index}].replicas[{number}]"
            yield from seen.again(_text(replica, "name"), f"{path}.name", repr(replica.get("name")))
            if url := _text(replica, "url"):
                yield from seen.again((index, url.rstrip("/")), f"{path}.url", "this address")
                yield from _launched_elsewhere(model, url, f"{path}.url")
            elif "url" not in replica and "launch" not in model:
                yield ConfigFault(f"{path}.url", f"is missing, and models[{index}] has no launch table to start it by")


def _launched_elsewhere(model: Document, url: str, path: str) -> Iterator[ConfigFault]:
    if "launch" in model and not url.startswith(("http://127.0.0.1:", "http://localhost:")):
        yield ConfigFault(path, "must be http://127.0.0.1:PORT or left out: the gateway launches this replica itself")


def _certificates(document: Document) -> Iterator[ConfigFault]:
    for index, model in _tables(document, "models"):
        urls = [_text(replica, "url") or "" for _, replica in _tables(model, "replicas")]
        for key in ("ca_file", "cert_file", "key_file"):
            if key in model and urls and not any(url.startswith("https:") for url in urls):
                yield ConfigFault(f"models[{index}].{key}", "is of no use without a replica at https")


def _launched_names(document: Document) -> Iterator[ConfigFault]:
    for index, model in _tables(document, "models"):
        replicas = [(f"models[{index}].replicas[{number}]", each) for number, each in _tables(model, "replicas")]
        for place, holder in [(f"models[{index}]", model), *replicas]:
            if "launch" in model and "upstream_model" in holder:
                message = "must be left out: the gateway launches these replicas by the model's name"
                yield ConfigFault(f"{place}.upstream_model", message)


def _plans(document: Document) -> Iterator[ConfigFault]:
    known = {name for _, model in _tables(document, "models") if (name := _text(model, "name"))}
    for plan in _table(document, "plans"):
        table = _table(document["plans"], plan)
        for number, model in _texts(table, "models"):
            if model != "*" and model not in known:
                yield ConfigFault(dotted(["plans", plan, "models", number]), f"no model is named {model!r}")
        seen = _Seen()
        for number, line in _tables(table, "limits"):
            kind = tuple(_text(line, key) for key in ("scope", "unit", "per"))
            label = "-".join(filter(None, kind))
            if kind[0] and kind[1]:
                yield from seen.again(kind, dotted(["plans", plan, "limits", number]), label)


def _tenants(document: Document) -> Iterator[ConfigFault]:
    plans = _table(document, "plans")
    for tenant in _table(document, "tenants"):
        seen = _Seen()
        for number, plan in _texts(document["tenants"][tenant], "plans"):
            path = dotted(["tenants", tenant, "plans", number])
            if plan not in plans:
                yield ConfigFault(path, f"no plan is named {plan!r}")
            yield from seen.again(plan, path, repr(plan))


def _prices(document: Document) -> Iterator[ConfigFault]:
    known = {name for _, model in _tables(document, "models") if (name := _text(model, "name"))}
    seen = _Seen()
    for index, price in _tables(document, "prices"):
        model = _text(price, "model")
        if model is not None and model not in known:
            yield ConfigFault(f"prices[{index}].model", f"no model is named {model!r}")
        yield from seen.again(model, f"prices[{index}].model", f"the price of {model!r}")


def _issuers(document: Document) -> Iterator[ConfigFault]:
    names, development = _Seen(), _Seen()
    for index, issuer in _tables(_table(document, "auth"), "issuers"):
        path = f"auth.issuers[{index}]"
        yield from names.again(_text(issuer, "issuer"), f"{path}.issuer", repr(issuer.get("issuer")))
        if issuer.get("development") is True:
            yield from development.again(True, f"{path}.development", "the one development issuer")


def _listeners(document: Document) -> Iterator[ConfigFault]:
    public, admin = (_table(document, key) for key in ("listen", "admin"))
    here = (public.get("host", "127.0.0.1"), public.get("port", 8080))
    if here[1] != 0 and here == (admin.get("host", "127.0.0.1"), admin.get("port", 9090)):
        yield ConfigFault("admin.port", "is taken by listen.port")


_RULES: tuple[Callable[[Document], Iterator[ConfigFault]], ...] = (
    _listeners,
    _issuers,
    _model_names,
    _replicas,
    _certificates,
    _launched_names,
    _plans,
    _tenants,
    _prices,
)
