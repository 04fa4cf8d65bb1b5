"""What the commands share that read or write a running gateway's Redis."""

from proxy.fatal import Fatal
from proxy.identity.secret_files import redis_url
from proxy.settings import Settings
from proxy.store.connection import Connection
from proxy.store.embedded import EmbeddedRedisNotRunning, address


def connected(settings: Settings) -> Connection:
    """
    Return a connection to the config's Redis, or to the embedded one that runs now; it opens in its own block.

    Raises: Fatal.
    """
    try:
        url = redis_url(settings) or address(settings.redis.data_dir)
    except EmbeddedRedisNotRunning as error:
        raise Fatal(str(error)) from None
    return Connection(url, deadline_s=settings.redis.timeout_s)
