"""What `tollway up` prints when it serves: whether it is ready, where it is, and requests ready to paste."""

import shlex
import sys
from pathlib import Path

import orjson

from proxy.app import Addresses
from proxy.identity.development import NoDevelopmentIssuer, mint
from proxy.settings import Settings

_USER = "demo-user"
_TTL_S = 7 * 86_400
_MAX_TOKENS = 64


def banner(settings: Settings, addresses: Addresses) -> str:
    """Return the text; the snippets need a development issuer to sign their token."""
    replicas = "\n".join(_replica(name, url, addresses) for name, url in addresses.replica_urls.items())
    where = f"""
{_readiness(settings, addresses)}

  base URL   {addresses.public_url}/v1
  admin      {addresses.admin_url}/metrics, {addresses.admin_url}/admin/replicas
{replicas}
  data       {settings.redis.data_dir}
"""
    tenant = next(iter(settings.tenants))
    try:
        token = mint(settings, tenant=tenant, user=_USER, ttl_s=_TTL_S)
    except NoDevelopmentIssuer:
        return where
    model = settings.models[0].name
    whose = (
        f"The token speaks for {_USER} of {tenant} and lasts {_TTL_S // 86_400} days; `tollway token` signs others.\n"
    )
    return where + _snippets(addresses.public_url, token, model) + whose + "Ctrl-C stops everything.\n"


def _replica(name: str, url: str, addresses: Addresses) -> str:
    down = f"   down: {addresses.troubles[name]}" if name in addresses.troubles else ""
    return f"  {name:<10} {url}{down}"


def _readiness(settings: Settings, addresses: Addresses) -> str:
    """Say which models nobody serves; a gateway without any replica is not ready, as `/health/ready` has it."""
    unserved = [
        model.name for model in settings.models if all(each.name in addresses.troubles for each in model.replicas)
    ]
    if not unserved:
        return "Tollway is ready."
    if len(unserved) < len(settings.models):
        return f"Tollway is ready, but for {', '.join(unserved)}: no replica answers there yet."
    return "Tollway is NOT ready: it listens, and no replica answers. It takes them up as they come."


def _snippets(url: str, token: str, model: str) -> str:
    return f"""
A request with curl (with "stream": true it streams):

{_curl(url, token, model)}

The same with the openai client, streaming:

{shlex.quote(_python())} - <<'EOF'
from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="{token}")
stream = client.chat.completions.create(
    model="{model}",
    messages=[{{"role": "user", "content": "Tell me about toll roads."}}],
    max_tokens={_MAX_TOKENS},
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
EOF

"""


def _python() -> str:
    """Return this Python, as it is called from here: the one whose packages are known."""
    here = Path(sys.executable)
    return str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)


def _curl(url: str, token: str, model: str) -> str:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Tell me about toll roads."}],
        "max_tokens": _MAX_TOKENS,
        "stream": False,
    }
    lines = (
        f"curl -N {url}/v1/chat/completions",
        f'  -H "Authorization: Bearer {token}"',
        '  -H "Content-Type: application/json"',
        f"  -d '{orjson.dumps(body).decode()}'",
    )
    return " \\\n".join(lines)
