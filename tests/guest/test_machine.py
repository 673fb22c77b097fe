"""What a machine may do to its network card, with a stock kernel and the RTL as that card."""

import time

import pytest

from ringnic.host.guest.network import GATEWAY

IOMMU = ("-device", "intel-iommu,intremap=on,caching-mode=on")


@pytest.mark.parametrize("ring", [pytest.param("split", marks=pytest.mark.long), "packed"])
def test_a_thousand_pings(boot, ring):
    machine = boot(ring=ring)
    machine.online()
    assert machine.ping(1000) == 0
    machine.check()


@pytest.mark.parametrize("ring, cpus", [("split", 1), ("packed", 4)])
def test_driver_comes_and_goes(boot, ring, cpus):
    machine = boot(ring=ring, cpus=cpus)
    for _ in range(10):
        machine.online()
        assert machine.ping(10) == 0
        machine.run("ip link set eth0 down && rmmod virtio_net && [ ! -e /sys/class/net/eth0 ]")
        machine.run("insmod /modules/*virtio_net.ko && for i in $(seq 50); do [ -e /sys/class/net/eth0 ] && break; "
                    "sleep 0.1; done")
    machine.online()
    assert machine.ping(10) == 0 and machine.pairs == cpus
    machine.check()


def test_guest_reboots(boot):
    machine = boot(ring="packed", cpus=4, reboots=True)
    for _ in range(3):
        machine.online()
        assert machine.ping(20) == 0
        machine.run("{ sleep 0.5; reboot -f; } >/dev/null 2>&1 &")
        machine.guest.wait_ready()
    machine.online()
    assert machine.ping(20) == 0
    machine.check()


def test_guest_without_msi_reboots(boot):
    """Also with an interrupt pending: a pin that stays masked would be silent from then on."""
    machine = boot(ring="split", reboots=True, append="pci=nomsi")
    for _ in range(2):
        machine.online()
        assert machine.ping(20) == 0
        machine.run(f"{{ ping -A {GATEWAY}; }} >/dev/null 2>&1 &")
        machine.run("{ sleep 0.5; reboot -f; } >/dev/null 2>&1 &")
        machine.guest.wait_ready()
    machine.online()
    assert machine.ping(20) == 0


def wait_for_cable(machine, there):
    """Linux reports the carrier before its queues start or stop; `ip link` shows it once they have."""
    found = f"{'! ' if there else ''}ip link show eth0 | grep -q NO-CARRIER"
    machine.run(f"for i in $(seq 600); do {found} && break; sleep 0.1; done; {found}")


def test_cable_is_pulled(boot):
    machine = boot(echo=True)
    peer = machine.network.address
    machine.run("ip link set eth0 up && ip addr add 192.168.77.2/24 dev eth0")
    # Without this, ARP requests of the ping below fail 3 s after the first, and Linux drops what waits for their answer:
    # also a ping that was sent when the cable was in place again.
    machine.run(f"arp -s {peer} {machine.network.mac}")
    for _ in range(3):
        wait_for_cable(machine, True)
        assert machine.ping(5) == 0
        machine.card.engine.set_link(False)
        wait_for_cable(machine, False)
        seen = len(machine.network.lengths)
        machine.run(f"ping -c 2 -W 1 {peer}", check=False)
        assert len(machine.network.lengths) == seen
        machine.card.engine.set_link(True)
    wait_for_cable(machine, True)
    assert machine.ping(5) == 0


@pytest.mark.parametrize("kernel, ring", [("6.1", "split"), ("6.12", "packed")])
def test_frames_of_every_length(boot, kernel, ring):
    machine = boot(kernel, ring=ring, echo=True, mtu=9000)
    machine.run("ip link set eth0 up && ip addr add 192.168.77.2/24 dev eth0")
    assert machine.run("cat /sys/class/net/eth0/mtu") == ["9000"]  # what the card says
    for payload in (0, 1, 17, 18, 19, 1472, 1473, 4000, 8971, 8972):
        assert machine.ping(3, f"-s {payload}") == 0, payload
    assert min(machine.network.lengths) == 60 and max(machine.network.lengths) == 9014
    machine.network.delays = [0, 3]  # seconds: a machine that stands still for so long has lost nothing
    assert machine.ping(2) == 0
    machine.check()


def test_ethtool(boot):
    machine = boot()
    machine.online()
    assert machine.ping(20) == 0
    info = dict(line.split(": ", 1) for line in machine.run("ethtool -i eth0") if ": " in line)
    assert info["driver"] == "virtio_net" and info["bus-info"].startswith("0000:00:")
    assert machine.run("cat /sys/class/net/eth0/mtu") == ["1500"]  # an ordinary network's
    settings = [line.strip() for line in machine.run("ethtool eth0")]
    assert "Speed: 1000Mb/s" in settings and "Duplex: Full" in settings and "Link detected: yes" in settings
    statistics = machine.statistics()
    assert statistics["rx_queue_0_packets"] >= 20 and statistics["rx_queue_0_drops"] == 0
    assert statistics["tx_queue_0_packets"] >= 20 and statistics["tx_queue_0_kicks"] >= 1
    machine.check()


@pytest.mark.parametrize("kernel, ring, cpus", [("6.1", "packed", 4), ("6.12", "split", 1)])
def test_without_msi(boot, kernel, ring, cpus):
    machine = boot(kernel, ring=ring, cpus=cpus, append="pci=nomsi")
    report = machine.steps()
    assert report.ping_lost == 0 and report.sha256_ok
    [line] = [line for line in machine.run("cat /proc/interrupts") if "virtio" in line]
    assert "IO-APIC" in line and sum(map(int, line.split()[1:1 + cpus])) > 100
    assert machine.counters()["msg_up"] > 100 and machine.counters()["interrupts"] == 0
    machine.check()


@pytest.mark.parametrize("parameters, ring, cpus", [
    ("iommu.passthrough=0 iommu.strict=1", "split", 1), ("iommu.passthrough=0 iommu.strict=1", "packed", 1),
    ("iommu.passthrough=0", "packed", 4)])
def test_behind_an_iommu(boot, parameters, ring, cpus):
    """Every buffer is mapped for the time the card has it: what it does outside is refused."""
    machine = boot(ring=ring, cpus=cpus, append=f"intel_iommu=on {parameters}", devices=IOMMU)
    report = machine.steps(1 << 18)
    assert report.ping_lost == 0 and report.sha256_ok
    groups = machine.run("ls /sys/kernel/iommu_groups/*/devices && cat /sys/kernel/iommu_groups/*/type")
    assert any(line.startswith("DMA") for line in groups) and "identity" not in groups
    machine.check()
    machine.run("rmmod virtio_net")
    time.sleep(0.2)
    machine.check()
