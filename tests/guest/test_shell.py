"""What a person has in the guest of ``ringnic demo --shell``."""

from ringnic.host.guest.assets import find_shell_tools


def test_names_programs_and_files(boot, tmp_path):
    (tmp_path / "mine").write_text("a file of mine")
    machine = boot(echo=True, files={**find_shell_tools(), "/files/mine": tmp_path / "mine"})
    assert machine.run("cat /files/mine") == ["a file of mine"]
    assert "iperf 3" in machine.run("iperf3 --version")[0]
    # As with a lease.
    machine.run("ip link set eth0 up")
    machine.run("interface=eth0 ip=192.168.77.2 mask=24 router=192.168.77.1 dns=192.168.77.1 sh /etc/udhcpc.sh bound")
    # It says when it begins to listen: on a busy machine that is not at once.
    machine.run("tcpdump -i eth0 -c 4 -w /tmp/seen icmp 2>/tmp/errors & until grep -q listening /tmp/errors; do sleep 1; done")
    lines = machine.run("ping -c 3 -W 60 some.name.example")
    assert "(192.168.77.1)" in lines[0] and sum("bytes from" in line for line in lines) == 3
    assert machine.run("nslookup some.name.example 192.168.77.1 | grep -c 192.168.77.1")
    seen = machine.run("wait; cat /tmp/errors; tcpdump -nr /tmp/seen 2>&1")
    assert sum("ICMP echo" in line for line in seen) == 4, seen
