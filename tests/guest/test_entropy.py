"""The entropy device under a stock guest: its hwrng is the simulator's own noise."""

import base64
from contextlib import contextmanager
from pathlib import Path
import random
import struct
import tempfile

import pytest

from ringnic.host.guest.assets import find_kernel, find_qemu
from ringnic.host.guest.card import entropy_card
from ringnic.host.guest.qemu import start_guest

SEED = 7
CURRENT = "/sys/class/misc/hw_random/rng_current"


def noise(seed, count):
    """The first 64-bit words that the simulator draws: MT19937 seeded as its authors do, 32 bits a number."""
    state = [seed]
    for k in range(1, 624):
        state.append(1812433253 * (state[-1] ^ state[-1] >> 30) + k & 0xffff_ffff)
    numbers = random.Random()
    numbers.setstate((3, (*state, 624), None))
    return [numbers.getrandbits(32) | numbers.getrandbits(32) << 32 for _ in range(count)]


@contextmanager
def booted(kernel, initramfs, features):
    with tempfile.TemporaryDirectory(prefix="ringnic-") as name:
        folder = Path(name)
        (folder / "initramfs.gz").write_bytes(initramfs(kernel, ("virtio_rng",)))
        with entropy_card(folder / "card.sock", seed=SEED, features=features) as card, start_guest(
                find_qemu(), find_kernel(kernel), folder / "initramfs.gz", card.qemu_options) as guest:
            guest.wait_ready()
            yield guest


def drawn(guest, size):
    """Bytes that a reader in the guest gets."""
    text = guest.run(f"head -c {size} /dev/hwrng >/tmp/drawn && base64 /tmp/drawn")
    return base64.b64decode("".join(text))


@pytest.mark.parametrize("kernel, ring", [("6.1", "split"), ("6.12", "packed")])
def test_stock_guest_reads_from_it(kernel, ring, initramfs, rings):
    with booted(kernel, initramfs, rings[ring]) as guest:
        [driver, pci_id, bits] = guest.run("cd /sys/bus/virtio/devices/virtio0 && readlink driver && cat ../device features")
        assert driver.endswith("/virtio_rng") and pci_id == "0x1044"
        assert (bits[34] == "1") == (ring == "packed")
        assert guest.run(f"cat {CURRENT}") == ["virtio_rng.0"]
        words = noise(SEED, 1 << 16)
        at = {word: k for k, word in enumerate(words)}
        last = -1
        for _ in range(2):
            data = drawn(guest, 1 << 16)
            assert len(data) == 1 << 16
            # The kernel takes some for itself. Nothing is repeated, made up or out of order.
            places = [at[word] for (word,) in struct.iter_unpack("<Q", data)]
            assert last < places[0] and all(a < b for a, b in zip(places, places[1:]))
            last = places[-1]
            guest.run("rmmod virtio_rng && [ ! -e /sys/bus/virtio/devices/virtio0/driver ] && insmod /modules/*virtio_rng.ko")
