"""RingNIC, an FPGA network card that is a virtio-net device: the importable package, whose rooms are folders of the checkout.

The file ``ringnic`` at the top of the checkout is its launcher, so the package's own file is here; ``pyproject.toml`` puts
the two together.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
