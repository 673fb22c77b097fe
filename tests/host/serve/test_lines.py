"""What is printed for those who attach a card."""

import json
import shlex
from xml.etree import ElementTree

from ringnic.host.serve.lines import attach_help, cloud_hypervisor_options, libvirt_xml, qemu_options

PATH = "/run/a card & more/<x>'.sock"
QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"


def test_qemu():
    *_, option, device = options = shlex.split(qemu_options(PATH))
    assert options[:-2] == ["-object", "memory-backend-memfd,id=memory,size=1024M,share=on",
                            "-machine", "q35,memory-backend=memory"]
    assert option == "-device" and json.loads(device)["socket"] == {"type": "unix", "path": PATH}


def test_libvirt():
    domain = ElementTree.fromstring(libvirt_xml(PATH))
    assert domain.find("memoryBacking/access").get("mode") == "shared"
    option, device = (arg.get("value") for arg in domain.iter(f"{QEMU}arg"))
    assert option == "-device" and json.loads(device)["socket"]["path"] == PATH
    assert domain.find("name").text == "<x>'"


def test_cloud_hypervisor():
    assert shlex.split(cloud_hypervisor_options(PATH))[-1] == f"socket={PATH}"


def test_the_lines_can_be_taken_as_they_are():
    lines = attach_help(PATH).splitlines()
    assert f"  {qemu_options(PATH)}" in lines and "cloud-hypervisor (untested):" in lines
