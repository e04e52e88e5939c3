"""Credentials and commands on a real broker."""

from devices import broker as b
from tests.servers import MosquittoServer


def test_make(broker: MosquittoServer) -> None:
    c = b.device_credentials_create(1)
    d = b.device_credentials_create(1)
    print(c, d)
    b.device_credentials_revoke(1)
    b.device_credentials_revoke(1)
    print(b.aggregator_credential_create(3))
    b.aggregator_credential_revoke(3)
    b.commands_publish([(1, {"type": "x"}), (2, {})])
