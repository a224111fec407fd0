"""Check weights with the BFQ scheduler, apart from the other tests, because all weights go to it while its module is
loaded.
"""

from __future__ import annotations

import os

import pytest

from tests.support.limits import run

pytestmark = pytest.mark.vm

DISK = os.stat("/").st_dev
MAJOR, MINOR = os.major(DISK), os.minor(DISK)


@pytest.fixture
def scheduler():
    """Yield the disk's scheduler, which is BFQ for this test."""
    name = os.path.basename(os.readlink(f"/sys/dev/block/{MAJOR}:{MINOR}"))
    assert run("modprobe", "bfq").returncode == 0
    with open(f"/sys/block/{name}/queue/scheduler", "w") as file:
        file.write("bfq")
    yield
    with open(f"/sys/block/{name}/queue/scheduler", "w") as file:
        file.write("none")
    assert run("rmmod", "bfq").returncode == 0


def test_weights_go_to_the_bfq_scheduler_where_it_is(scheduler, limited):
    own = [{"major": MAJOR, "minor": MINOR, "weight": 300}]
    box = limited({"blockIO": {"weight": 500, "weightDevice": own}})
    assert box.read("io.bfq.weight") == f"default 500\n{MAJOR}:{MINOR} 300"
