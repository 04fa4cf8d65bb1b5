"""How an error reaches the client: as the whole answer, or in-band where the answer has begun."""

from engine.faults import EngineRefused
from proxy.errors import ApiError, Code, LimitRefused
from proxy.exchange_state import ExchangeState
from proxy.http.downstream import Downstream
from proxy.http.headers import JSON, exchange_headers, lines


async def answer_error(downstream: Downstream, error: ApiError | EngineRefused, state: ExchangeState) -> None:
    """Tell the client what went wrong; a stream that has begun ends with an error frame and no good end."""
    if downstream.finished:
        return
    if isinstance(error, EngineRefused):
        await downstream.answer(error.status, JSON + exchange_headers(state), error.body)
    elif downstream.started:
        truncated = ApiError(Code.STREAM_TRUNCATED, error.message)
        await downstream.finish(state.protocol.error_frame(truncated))
    else:
        refused = error.statuses if isinstance(error, LimitRefused) else ()
        head = JSON + lines(error.headers()) + exchange_headers(state, refused)
        await downstream.answer(error.status, head, state.protocol.error_body(error))
