"""An endpoint in a slot of its own, served to one vfio-user client after the other."""

from contextlib import contextmanager
from itertools import islice

from ..engine.build import BuildError
from ..engine.engine import Engine, Link
from ..engine.view import save_view
from ..vfio_user.function import FunctionError
from ..vfio_user.server import EngineDevice, Server
from .rtl import AttachError

__all__ = ["LINK", "Attachment", "attached"]

# What every function may send and must take when nobody has told it of more: 128 bytes (7.5.3.4, Max_Payload_Size).
LINK = Link(gen=2, lanes=4, mps=128, jitter_ns=100)
SHOWN = 10                 # refused accesses to memory that are told one by one


class Attachment:
    """A served endpoint. ``function``: what its configuration space says, a :class:`..vfio_user.function.Function`."""
    def __init__(self, engine, function):
        self._engine = engine
        self.function = function

    def news(self):
        """Yield what the endpoint did since the last call and should not have done, a line each.

        :exc:`OSError` if a disk is too full for what is written of it.
        """
        self._engine.check_files()
        for line in self._engine.violations():
            yield f"the endpoint broke a rule of PCI Express, {line}"
        faults = self._engine.dma_faults()
        for address, size, write in islice(faults, SHOWN):
            yield f"the endpoint was refused a {'write' if write else 'read'} of {size} bytes at {address:#x}: no memory there"
        if len(faults) > SHOWN:
            yield f"and {len(faults) - SHOWN} more such accesses were refused"


@contextmanager
def attached(endpoint, path, *, wave=None, tlp=None, **server):
    """Serve an :class:`.endpoint.Endpoint` at ``path`` while the block runs; yield its :class:`Attachment`.

    ``wave``, ``tlp``: files for signals and TLPs, or None; ``server``: further keywords of
    :class:`..vfio_user.server.Server`. Raises :exc:`.rtl.AttachError` if no host could use the endpoint.
    """
    try:
        engine = Engine(nic=endpoint.design, link=LINK, trace=wave, tlp_log=tlp)
    except BuildError as error:
        raise AttachError(str(error)) from None
    with engine:
        if wave is not None:
            save_view(wave, engine.names())
        engine.reset()
        engine.start()
        try:
            device = EngineDevice(engine)
        except TimeoutError as error:
            raise AttachError(f"The endpoint does not answer configuration requests. {error}; --tlp FILE shows what it was sent "
                              f"and what it sent") from None
        except FunctionError as error:
            raise AttachError(str(error)) from None
        if not device.function.bars:
            raise AttachError("The endpoint has no base address register: a driver could reach nothing of it")
        attachment = Attachment(engine, device.function)
        with Server(str(path), device, **server):
            yield attachment
