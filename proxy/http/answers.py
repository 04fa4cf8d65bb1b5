"""How an error reaches the client: as the whole answer, or in-band where the answer has begun."""

from engine.faults import EngineRefused
from proxy.errors import ApiError, Code
from proxy.http.downstream import Downstream
from proxy.http.headers import JSON, exchange_headers, lines
from proxy.tally import Tally


async def answer_error(downstream: Downstream, error: ApiError | EngineRefused, tally: Tally) -> None:
    """Tell the client what went wrong; a stream that has begun ends with an error frame and no `[DONE]`."""
    if downstream.finished:
        return
    if isinstance(error, EngineRefused):
        await downstream.answer(error.status, JSON + exchange_headers(tally), error.body)
    elif downstream.started:
        truncated = ApiError(Code.STREAM_TRUNCATED, error.message)
        await downstream.finish(b"data: " + truncated.body() + b"\n\n")
    else:
        head = JSON + lines(error.headers()) + exchange_headers(tally)
        await downstream.answer(error.status, head, error.body())
