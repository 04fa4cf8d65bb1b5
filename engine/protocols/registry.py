"""The protocols that are spoken, by their names: what is not listed here is not forwarded."""

from engine.protocols.base import ApiProtocol
from engine.protocols.chat import CHAT
from engine.protocols.completions import COMPLETIONS
from engine.protocols.embeddings import EMBEDDINGS

_SPOKEN: tuple[ApiProtocol, ...] = (CHAT, COMPLETIONS, EMBEDDINGS)

PROTOCOLS = {protocol.name: protocol for protocol in _SPOKEN}
