"""
How much of a core goes to tokens that turn out forged: checking a signature costs more than making one up.

Rules:
- What wrong signatures cost is taken from a budget of processor time, which refills; right ones are free. While there
  is any left, a token is checked at once.
- Without, it waits for its turn: in an order fair by address, and at an address by the tenant that the token claims, so
  that a flood from one address, or in one tenant's name, holds up little else. Who waited `LATE_S_MAX` is told to come
  again, and so is who comes to an address with too many waiting.
- A user verified within an hour does not wait for what others forge. Only forging in that user's own name ends that,
  for a minute; and all such names together may overdraw the budget once.

Decision: a bound on processor time, and none on how many wrong signatures an address may send.
Because behind a load balancer all clients are one address, and a few forgeries a second refused every new user there.
Instead of a bucket for each address.

Decision: who is refused is answered 429 and not 401, because nobody judged the token: an honest client tries again, as
OpenAI's do by themselves, and does not throw it away.

Bounds: `KEPT_MAX` users are remembered, by hashes; `_WAITING_MAX` tokens wait, a few times as many at many addresses.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from time import monotonic

from proxy.errors import TooManyForgeries
from proxy.identity.trusted import Claimed

US_PER_S = 100_000
"""Of processor time for wrong signatures: a tenth of a core, which is 1,000 a second with the slower algorithms."""
VERIFIED_S = 3_600.0
KEPT_MAX = 131_072
LATE_S_MAX = 2.0
_WAITING_MAX = 4_096
_SERVE_S = 0.01
"""Between two looks at what may be checked now."""
_COST_US = 100.0
"""Of a check, until it is known."""
_OF_NAME_MAX = 100
"""Wrong signatures in the name of a known user within `_OF_NAME_S`, before he waits as others do."""
_OF_NAME_S = 60.0
_AGAIN_US = 1_000_000


class Waiting:
    """
    Those who wait, by address and there by tenant; both take turns.

    Bounds: `waiting_max` at one address for one tenant, of several an equal part for each that comes.
    """

    def __init__(self, waiting_max: int = _WAITING_MAX) -> None:
        self._waiting_max = waiting_max
        self._lines: OrderedDict[str, OrderedDict[str, deque[asyncio.Future[None]]]] = OrderedDict()

    def __bool__(self) -> bool:
        """Tell whether anybody waits."""
        return bool(self._lines)

    def enter(self, address: str, tenant: str, turn: "asyncio.Future[None]") -> bool:
        """Let one wait, unless too many do at this address for this tenant."""
        lines = self._lines.get(address, OrderedDict())
        line = lines.get(tenant, deque())
        at_address = self._waiting_max // (len(self._lines) + (address not in self._lines))
        if len(line) >= at_address // (len(lines) + (tenant not in lines)):
            return False
        line.append(turn)
        lines[tenant] = line
        self._lines[address] = lines
        return True

    def next(self) -> "asyncio.Future[None] | None":
        """Return whose turn is next, and nobody's who waits no longer."""
        while self._lines:
            address, lines = self._lines.popitem(last=False)
            tenant, line = lines.popitem(last=False)
            turn = line.popleft()
            if line:
                lines[tenant] = line
            if lines:
                self._lines[address] = lines
            if not turn.done():
                return turn
        return None


class Forgeries:
    """
    Gives turns to tokens whose signature is to be checked, and is told what came of it.

    Units: `us_per_s` and costs in microseconds of processor time; `clock` in seconds.
    """

    def __init__(
        self, us_per_s: float = US_PER_S, *, late_s_max: float = LATE_S_MAX, clock: Callable[[], float] = monotonic
    ) -> None:
        self._us_per_s = us_per_s
        self._late_s_max = late_s_max
        self._clock = clock
        self._left_us: float = us_per_s
        self._at = clock()
        self._cost_us = _COST_US
        self._waiting = Waiting()
        self._serving: asyncio.TimerHandle | None = None
        self._verified: dict[int, float] = {}
        """When users were verified last, by the hash of what they claim: the latest at the end."""
        self._abused: dict[int, tuple[float, int]] = {}
        """Since when there were how many wrong signatures in their names."""

    async def turn(self, address: str, claimed: Claimed) -> None:
        """Wait until a token from this address may be checked; raise `TooManyForgeries`."""
        self._refill()
        if not (self._passes(hash(claimed)) or (self._left_us > 0 and not self._waiting)):
            await self._wait(_network(address), claimed[1])
        self._left_us -= self._cost_us

    def right(self, claimed: Claimed) -> None:
        """Note that a token was good: its check is free, and its user known."""
        self.genuine()
        user = hash(claimed)
        self._verified.pop(user, None)
        self._verified[user] = self._clock()
        if len(self._verified) > KEPT_MAX:
            del self._verified[next(iter(self._verified))]

    def genuine(self) -> None:
        """Note that a signature was right, whatever else was wrong."""
        self._left_us = min(self._us_per_s, self._left_us + self._cost_us)

    def wrong(self, claimed: Claimed, cost_us: float) -> None:
        """Note that a signature was wrong, and what that cost."""
        self._left_us += self._cost_us - cost_us
        self._cost_us += (cost_us - self._cost_us) / 16
        user = hash(claimed)
        if user in self._verified:
            since, times = self._abused.pop(user, (self._clock(), 0))
            self._abused[user] = since, times + 1
            if len(self._abused) > KEPT_MAX:
                del self._abused[next(iter(self._abused))]

    def _passes(self, user: int) -> bool:
        """Tell whether this is a user who does not wait."""
        now = self._clock()
        if now - self._verified.get(user, -VERIFIED_S) >= VERIFIED_S or self._left_us < -self._us_per_s:
            return False
        since, times = self._abused.get(user, (now, 0))
        if now - since >= _OF_NAME_S:
            del self._abused[user]
            return True
        return times < _OF_NAME_MAX

    def _refill(self) -> None:
        now = self._clock()
        self._left_us = min(self._us_per_s, self._left_us + (now - self._at) * self._us_per_s)
        self._at = now

    async def _wait(self, address: str, tenant: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        if not self._waiting.enter(address, tenant, turn):
            raise TooManyForgeries(_AGAIN_US)
        if self._serving is None:
            self._serve()
        try:
            async with asyncio.timeout(self._late_s_max):
                await turn
        except TimeoutError:
            raise TooManyForgeries(_AGAIN_US) from None
        self._left_us += self._cost_us  # which whoever gave the turn has taken

    def _serve(self) -> None:
        """Give as many turns as there is budget for, and come again while anybody waits."""
        self._serving = None
        self._refill()
        while self._left_us > 0 and (turn := self._waiting.next()) is not None:
            self._left_us -= self._cost_us
            turn.set_result(None)
        if self._waiting:
            self._serving = asyncio.get_running_loop().call_later(_SERVE_S, self._serve)


def _network(address: str) -> str:
    """Return what one sender has to himself: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    return ip.exploded[:19] if isinstance(ip, IPv6Address) else address
