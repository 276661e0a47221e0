"""Where BE may be placed: services that are barred in different places still come by age."""

from __future__ import annotations

import numpy as np
import pytest

from tango.domain.placement_question import PlacementQuestion
from tango.domain.services import Service
from tango.domain.snapshot_assembly import pending_columns
from tests.fakes.waiting_worlds import BATCH, DEVICES, SERVICES, fleet, place


@pytest.mark.parametrize("oldest", [BATCH, DEVICES])
def test_the_service_with_the_oldest_request_is_planned_first_wherever_it_is_barred(oldest: Service) -> None:
    """There is room for one; a service that is barred somewhere would else come after all that are barred nowhere."""
    younger = DEVICES if oldest is BATCH else BATCH
    order = [SERVICES.index(oldest), SERVICES.index(younger)]
    pending = pending_columns(
        SERVICES,
        run_id=np.ones(2, np.int64),
        request_id=np.arange(2, dtype=np.int64),
        service=np.array(order, np.int32),
        entry_cluster=np.zeros(2, np.int32),
        waited_s=np.array([9.0, 1.0]),
        cpu_work_s=np.ones(2),
        memory_mib=np.full(2, 256.0),
        epoch=np.zeros(2, np.int32),
    )
    barred = np.zeros((len(SERVICES), 4), np.bool_)
    barred[SERVICES.index(BATCH), 1] = True
    full = (4000.0, 0.0, 1.0)
    snapshot = fleet(devices=(1000, 0, 0, 0), held={0: (3500.0, 0.0, 1.0), 1: full, 2: full, 3: full}, barred=barred)

    assert place(PlacementQuestion(pending=pending, snapshot=snapshot)).tolist() == [0, -1]
