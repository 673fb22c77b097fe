"""The XML that ``ringnic serve`` prints, judged by libvirt's own schema, as its virt-xml-validate does."""

import subprocess

import pytest

from ringnic.host.guest.assets import libraries
from ringnic.host.guest.cache import cache_dir, entry
from ringnic.host.guest.debian import Archive
from ringnic.host.serve.lines import libvirt_xml

SUITE = "bookworm"


def fetch(folder):
    with Archive(cache_dir() / "apt-libvirt", (SUITE,)) as archive:
        archive.unpack_closure(["libxml2-utils"], folder)
        archive.unpack(["libvirt0"], folder)


@pytest.fixture(scope="module")
def validate():
    """Call it with XML: exit status and messages."""
    root = entry("libvirt", fetch)
    program = root / "usr/bin/xmllint"
    *found, loader = libraries(root, program)
    path = ":".join(sorted({str(library.parent) for library in found}))
    schema = root / "usr/share/libvirt/schemas/domain.rng"

    def validate(xml):
        argv = [loader, "--library-path", path, program, "--noout", "--relaxng", schema, "-"]
        done = subprocess.run(argv, input=xml, text=True, capture_output=True)
        return done.returncode, done.stderr
    return validate


def test_the_xml_is_a_domain(validate):
    assert validate(libvirt_xml("/run/ringnic/a b&c.sock")) == (0, "- validates\n")


def test_a_domain_with_a_wrong_element_is_refused(validate):
    status, errors = validate(libvirt_xml("/run/a.sock").replace("<access", "<acess"))
    assert status and "fails to validate" in errors
