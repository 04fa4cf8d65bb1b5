"""
The configuration: one TOML file, an environment overlay, and every fault at once.

- `sections` says what may stand in the file: its docstrings are the reference (`deploy/config-reference.md`).
- `values` are the names, addresses and amounts that sections are made of.
- `consistency` says what must agree between the sections (a tenant's plan exists, a name is given once).
- `environment` lays `TOLLWAY__SECTION__FIELD` over the file.
- `loading` reads, overlays, checks and reports.

Decision: the cross checks read the raw document, not the validated one.
Because: a person who repairs a file wants all its faults in one go, and a bad number in one section must not hide an
unknown plan in another.
Instead of: validators on the root model, which pydantic runs only once everything below them is sound.

Secrets never stand in the file: a field that ends in `_file` names where one is kept. Nothing here opens a key; who
uses it does.
"""

from proxy.settings.faults import ConfigError, ConfigFault
from proxy.settings.loading import load
from proxy.settings.sections import Settings

__all__ = ["ConfigError", "ConfigFault", "Settings", "load"]
