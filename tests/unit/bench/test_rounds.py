from tests.bench.candidates import CANDIDATES
from tests.bench.rounds import rotated


def test_nobody_is_always_the_first() -> None:
    orders = [rotated(CANDIDATES, number) for number in range(len(CANDIDATES))]
    assert {order[0].name for order in orders} == {candidate.name for candidate in CANDIDATES}
    assert all(sorted(map(id, order)) == sorted(map(id, CANDIDATES)) for order in orders)
