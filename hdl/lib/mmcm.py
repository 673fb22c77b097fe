"""Clocks made from one clock, by an MMCM of Xilinx's 7-series FPGAs.

Ref: AMD UG472 "7 Series FPGAs Clocking Resources", "MMCMs and PLLs".
"""

from dataclasses import dataclass

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Mmcm", "Output"]

VCO_MHZ = 1000               # of 600 to 1200 for the slowest speed grade (DS181, DS182, "MMCM Specification")
OUTPUTS = 7


@dataclass(frozen=True)
class Output:
    """One clock: ``mhz`` has to divide the oscillator's 1000; ``phase`` in degrees."""
    mhz: float
    phase: float = 0


class Mmcm(wiring.Component):
    """Make clocks of ``input_mhz``, each behind a global buffer. Their phases are fixed to each other, not to the input.

    Parameters
    ----------
    input_mhz : float
        From 10 to 500, a divisor of 1000.
    outputs : {name: Output}
        Up to 7.

    Members
    -------
    i : In(1)
    o_<name> : Out(1)
    locked : Out(1)
        The clocks are what they should be.
    """
    def __init__(self, *, input_mhz, outputs):
        if not 10 <= input_mhz <= 500 or VCO_MHZ % input_mhz:
            raise ValueError(f"Input clock must be a divisor of {VCO_MHZ} MHz from 10 to 500, not {input_mhz!r}")
        if not 1 <= len(outputs) <= OUTPUTS:
            raise ValueError(f"An MMCM has 1 to {OUTPUTS} outputs, not {len(outputs)}")
        for name, output in outputs.items():
            if VCO_MHZ % output.mhz or VCO_MHZ / output.mhz > 128:
                raise ValueError(f"Output {name!r} must be a divisor of {VCO_MHZ} MHz by 1 to 128, not {output.mhz!r}")
        self.input_mhz = input_mhz
        self.outputs = dict(outputs)
        super().__init__({"i": In(1), **{f"o_{name}": Out(1) for name in outputs}, "locked": Out(1)})

    def elaborate(self, platform):
        m = Module()
        feedback = Signal()
        parameters, ports = {}, {}
        for at, (name, output) in enumerate(self.outputs.items()):
            # The first divider is one for fractions too, and has another name.
            parameters[f"p_CLKOUT{at}_DIVIDE{'_F' if at == 0 else ''}"] = (float if at == 0 else int)(VCO_MHZ / output.mhz)
            parameters[f"p_CLKOUT{at}_PHASE"] = float(output.phase)
            clock = Signal(name=f"{name}_out")
            ports[f"o_CLKOUT{at}"] = clock
            m.submodules[f"{name}_buffer"] = Instance("BUFG", i_I=clock, o_O=getattr(self, f"o_{name}"))
        m.submodules.mmcm = Instance(
            "MMCME2_ADV", p_BANDWIDTH="OPTIMIZED", p_CLKFBOUT_MULT_F=float(VCO_MHZ / self.input_mhz), p_DIVCLK_DIVIDE=1,
            p_CLKIN1_PERIOD=1000.0 / self.input_mhz, **parameters,
            i_CLKIN1=self.i, i_CLKIN2=0, i_CLKINSEL=1, i_CLKFBIN=feedback, o_CLKFBOUT=feedback, i_RST=0, i_PWRDWN=0,
            i_DADDR=C(0, 7), i_DCLK=0, i_DEN=0, i_DI=C(0, 16), i_DWE=0, i_PSCLK=0, i_PSEN=0, i_PSINCDEC=0,
            o_LOCKED=self.locked, **ports)
        return m
