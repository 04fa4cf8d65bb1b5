"""
How an error reaches the client, in the form of the protocol it speaks: as the whole answer, or in-band where the answer
has begun.
"""

from engine.faults import EngineRefused
from proxy.errors import ApiError, Code, LimitRefused
from proxy.exchange_state import ExchangeState
from proxy.http.downstream import Downstream
from proxy.http.headers import JSON, exchange_headers, lines


async def answer_error(downstream: Downstream, error: ApiError | EngineRefused, state: ExchangeState) -> None:
    """Tell the client what went wrong; a stream that has begun ends with an error frame and no good end."""
    if downstream.finished:
        return
    if downstream.started:
        await downstream.finish(_frame(error, state, delivered=downstream.delivered))
    elif isinstance(error, EngineRefused):
        await downstream.answer(error.status, JSON + exchange_headers(state), error.body)
    else:
        refused = error.statuses if isinstance(error, LimitRefused) else ()
        head = JSON + lines(error.headers()) + exchange_headers(state, refused)
        await downstream.answer(error.status, head, state.protocol.error_body(error))


def _frame(error: ApiError | EngineRefused, state: ExchangeState, *, delivered: bool) -> bytes:
    """
    Return the frame that ends a stream.

    Behind a part of the answer it can only be cut short. Where there was none yet, the client is told what would have
    been its status, and when to come back.
    """
    if isinstance(error, EngineRefused):
        return state.protocol.refusal_frame(error.status, error.body)
    if delivered:
        return state.protocol.error_frame(ApiError(Code.STREAM_TRUNCATED, error.message), early=False)
    return state.protocol.error_frame(error, early=True)
