"""The ports of LitePCIe's instance of the block: ``python ports.py LANES WIDTH`` ends with a line of JSON, ``{name: [direction,
bits]}``; ``bits`` is null where a constant or nothing is connected, which has no width."""

import json
import sys

from gateware import Gateware
from litex.gen import Open
from migen import Signal


def main():
    lanes, width = map(int, sys.argv[1:])
    ports = Gateware(lanes=lanes, width=width, link={}).pcie_phy.pcie_phy_params
    print(json.dumps({name[2:]: [name[0], len(port) if isinstance(port, Signal) and not isinstance(port, Open) else None]
                      for name, port in ports.items() if name not in ("i_clk", "i_rst")}))


if __name__ == "__main__":
    main()
