"""Several queue pairs under a stock guest: its processors use one each, and it may change their number and their size."""

from contextlib import contextmanager

import pytest

from ringnic.host.guest.network import GATEWAY
from ringnic.host.guest.transfer import Transfer, serve

PAIRS = 4
FILE = bytes(range(256)) * 1024


@contextmanager
def served(data=FILE):
    """Yield the guest's command that fetches ``data`` and prints its hash, and that hash."""
    transfer = Transfer(data)
    with serve(transfer):
        yield f"wget -q -O - http://{GATEWAY}:{transfer.port}/ | sha256sum", transfer.digest


@contextmanager
def under_way(machine, command, digest):
    """Fetch again and again while the block runs; nothing of it is lost, changed, or stuck."""
    machine.run("rm -f /tmp/over /tmp/sums; mkfifo /tmp/through; "
                f"{{ until [ -e /tmp/over ]; do {command}; done >/tmp/sums; echo >/tmp/through; }} >/dev/null 2>&1 &")
    yield
    machine.run("touch /tmp/over; cat /tmp/through; rm /tmp/through")
    sums = machine.run("cat /tmp/sums")
    assert {line.split()[0] for line in sums} == {digest}


def packets(machine):
    """Packets of each pair by the driver, received and sent. (Newer kernels no longer tell ethtool.)"""
    statistics = machine.statistics()
    return [[statistics[f"{way}_queue_{pair}_packets"] for pair in range(PAIRS)] for way in ("rx", "tx")]


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_each_processor_uses_its_own_pair(boot, ring):
    machine = boot("6.1", ring=ring, cpus=PAIRS)
    machine.online()
    assert machine.pairs == PAIRS
    with served() as (command, digest):
        for cpu in range(PAIRS):
            before, interrupts = packets(machine), machine.interrupts()
            assert machine.run(f"taskset {1 << cpu:x} sh -c '{command}'")[0].split()[0] == digest
            # The stock driver sends from a processor by the queue of its number.
            received, sent = ([b - a for a, b in zip(*both)] for both in zip(before, packets(machine)))
            assert received[cpu] >= 0.9 * sum(received) and received[cpu] >= len(FILE) / 1460
            assert sent[cpu] >= 0.8 * sum(sent)
            assert machine.interrupts()[f"input.{cpu}"] > interrupts[f"input.{cpu}"]
        # All at once.
        machine.run("".join(f"taskset {1 << cpu:x} sh -c '{command}' >/tmp/{cpu} & " for cpu in range(PAIRS)) + "wait")
        assert {line.split()[0] for line in machine.run("cat /tmp/[0-9]")} == {digest}
    machine.check()


@pytest.mark.parametrize("kernel, ring", [("6.1", "packed"), ("6.12", "split")])
def test_number_of_pairs_changes_under_traffic(boot, kernel, ring):
    machine = boot(kernel, ring=ring)
    machine.online()
    assert machine.pairs == 1
    with served() as (command, digest), under_way(machine, command, digest):
        for pairs in (4, 2, 3, 1, 4, 2):
            machine.run(f"ethtool -L eth0 combined {pairs}")
            assert machine.pairs == pairs and machine.ping(20) == 0
        status, _ = machine.run("ethtool -L eth0 combined 5 2>&1", check=False)
        assert status != 0 and machine.pairs == 2
    machine.check()


@pytest.mark.parametrize("kernel, ring, cpus", [("6.1", "split", 1), ("6.12", "packed", 4)])
def test_size_of_queues_changes_under_traffic(boot, kernel, ring, cpus):
    machine = boot(kernel, ring=ring, cpus=cpus)
    machine.online()
    with served() as (command, digest), under_way(machine, command, digest):
        for size in (64, 1024, 32, 128):
            machine.run(f"ethtool -G eth0 rx {size} tx {size}")
            current = [line.split()[1] for line in machine.run("ethtool -g eth0") if line.startswith(("RX:", "TX:"))]
            assert current == ["1024", "1024", str(size), str(size)] and machine.ping(20) == 0
    # What comes while the queue is away finds no buffer.
    machine.check(drops=["rx_dropped_no_buffer"])
