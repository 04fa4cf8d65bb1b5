"""How an error reaches the client: as the whole answer, or in-band where the answer has begun."""

from engine.faults import EngineRefused
from proxy.downstream import Downstream, Headers
from proxy.errors import ApiError, Code, IdempotencyKeyReused, MethodNotAllowed
from proxy.headers import JSON, exchange_headers
from proxy.tally import Tally


async def answer_error(downstream: Downstream, error: ApiError | EngineRefused, tally: Tally) -> None:
    """Tell the client what went wrong; a stream that has begun ends with an error frame and no `[DONE]`."""
    if downstream.finished:
        return
    if isinstance(error, EngineRefused):
        await downstream.answer(error.status, [JSON, *exchange_headers(tally)], error.body)
    elif downstream.started:
        truncated = ApiError(Code.STREAM_TRUNCATED, error.message)
        await downstream.finish(b"data: " + truncated.body() + b"\n\n")
    else:
        await downstream.answer(error.status, [JSON, *error_headers(error), *exchange_headers(tally)], error.body())


def error_headers(error: ApiError) -> Headers:
    """Return the headers that belong to the error itself."""
    headers: Headers = []
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(error.retry_after_s)))
    if error.code is Code.INVALID_API_KEY:
        headers.append(("www-authenticate", "Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append(("allow", error.allow))
    if isinstance(error, IdempotencyKeyReused):
        # OpenAI's clients try a 409 again unless they are told that it does not help.
        headers += [("x-tollway-first-request-id", error.first), ("x-should-retry", "false")]
    return headers
