"""Run tokens."""

from __future__ import annotations

import pytest

from runs import lifecycle
from runs.lifecycle import RunReporter
from runs.models import Run
from runs.states import InstanceStatus
from runs.tests.conftest import Sent
from runs.tests.flow import flow_make, status
from runs.tokens import run_token_check, run_token_digest, run_token_make

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_token_is_good_for_its_run_and_its_reporter_alone(sent: Sent) -> None:
    flow = flow_make()
    run, other = flow.running(), flow_make().running()
    first, second = (device.pk for device in flow.devices)
    token = run_token_make(run, first)
    assert token.startswith(f"rtr_{run.pk}_{first}_")
    assert run_token_check(token) == RunReporter(run, first)
    assert run_token_check(run_token_make(run, 0)) == RunReporter(run, 0)
    secret = token.rpartition("_")[2]
    for forged in (f"rtr_{run.pk}_{second}_{secret}", f"rtr_{run.pk}_0_{secret}", f"rtr_{other.pk}_{first}_{secret}"):
        assert run_token_check(forged) is None


@pytest.mark.parametrize(
    "token",
    ["", "rtr_1_1_", "rtr_1_1_xyz", "rtd_1_" + "0" * 64, "rtr_-1_1_" + "0" * 64, "rtr_" + "9" * 30 + "_1_" + "0" * 64,
     "rtr_1_1_" + "0" * 64 + "\n", "rtr_²_1_" + "0" * 64],
)  # fmt: skip
def test_anything_else_is_no_token(token: str) -> None:
    assert run_token_check(token) is None


def test_a_token_is_good_from_its_dispatch_until_the_run_ends(sent: Sent) -> None:
    flow = flow_make(devices=1)
    run = flow.started()
    edge_id = flow.devices[0].pk
    assert run_token_check(run_token_make(run, edge_id)) is None
    run = flow_make(devices=1).running()
    edge_id = run.run_devices.get().edge_id
    token = run_token_make(run, edge_id)
    assert run_token_check(token) is not None
    lifecycle.aggregator_status_apply(run.pk, status("FAILED"))
    assert run_token_check(token) is None


def test_the_same_attempt_makes_the_same_token_and_another_attempt_another(sent: Sent) -> None:
    run = flow_make().running()
    token = run_token_make(run, 0)
    assert lifecycle.aggregator_token(run.pk) is None  # the pipeline is over
    assert run_token_make(Run.objects.get(pk=run.pk), 0) == token
    run.attempt_id = "another"
    assert run_token_make(run, 0) != token
    run.attempt_id = ""
    with pytest.raises(ValueError, match="never started"):
        run_token_make(run, 0)


def test_the_database_holds_digests_alone(sent: Sent) -> None:
    run = flow_make(devices=1).running()
    part = run.run_devices.get()
    token = run_token_make(run, part.edge_id)
    assert part.token_hash == run_token_digest(token)
    row = str(Run.objects.filter(pk=run.pk).values().get()) + str(type(part).objects.filter(pk=part.pk).values().get())
    assert token.rpartition("_")[2] not in row
    assert part.status == InstanceStatus.DISPATCHED
