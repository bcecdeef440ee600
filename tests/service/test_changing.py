"""Whatever happens to an index while it is served, each answer is right or an honest refusal."""

from tests.service.changing import change_all
from tests.service.conftest import built, running


def test_no_request_fails_but_the_honest_ones(tmp_path):
    home = tmp_path / "home"
    built(home)
    with running(home) as service:
        clients = change_all(home, service.port, clients=4, requests=12, rebuilds=1)
    assert clients.wrong == []
    served = {name: set(statuses) for name, statuses in clients.statuses.items()}
    assert served["before"] == served["back"] == {200}
    for phase in ("rebuilt 0", "deleted", "compacted", "mended manifest.json", "manifest.json is back"):
        assert 200 in served[phase], phase  # the last requests of a phase end in the next
    assert 503 in served["cut manifest.json"]
    assert served["removed"] == {404}
