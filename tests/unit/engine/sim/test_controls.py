"""The controls answer without generating."""

import httpx

from engine.sim.app import Simulator
from engine.sim.config import SimConfig
from engine.sim.controls import VERSION, Controls


async def test_every_control_is_routed() -> None:
    simulator = Simulator(SimConfig(models=("a", "b"), max_model_len=77))
    transport = httpx.ASGITransport(simulator)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://sim") as http:
        assert (await http.get("/version")).json() == {"version": VERSION}
        assert (await http.get("/health")).content == b""
        models = (await http.get("/v1/models")).json()["data"]
        assert [(model["id"], model["max_model_len"]) for model in models] == [("a", 77), ("b", 77)]
        assert (await http.get("/sim/stats")).json()["requests"] == 0
        assert (await http.post("/abort_requests", json={})).json() == {"status": "aborted", "aborted": 0}
    routes = Controls(simulator.config, simulator.engine, simulator.faults, simulator.traffic).routes()
    assert set(routes["/sim/faults"]) == {"GET", "POST", "DELETE"}
