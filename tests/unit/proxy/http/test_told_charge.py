"""What a client is told of the cost of its answer."""

from proxy.http.headers import JSON
from proxy.http.told_charge import tell_charge
from tests.records import RECORD
from tests.unit.proxy.played_client import PlayedClient


async def test_an_answer_in_one_piece_has_a_line_of_its_head() -> None:
    client = PlayedClient()
    downstream = client.downstream()
    downstream.head(200, JSON)
    end = tell_charge(downstream, (b"{", b"}"), RECORD._replace(charge_picos=40_000))
    await downstream.finish(*end)
    assert (client.answer, client.answer_headers["x-tollway-charge"]) == (b"{}", "0.00000004 USD")


async def test_a_stream_has_a_comment_before_its_end() -> None:
    client = PlayedClient()
    downstream = client.downstream()
    downstream.head(200, b"")
    downstream.write(b"data: 1\n\n")
    await downstream.finish(*tell_charge(downstream, (b"data: [DONE]\n\n",), RECORD))
    assert client.answer == b"data: 1\n\n: x-tollway-charge: 0.000777 USD\n\ndata: [DONE]\n\n"
    assert "x-tollway-charge" not in client.answer_headers
