"""What the engine makes of Amaranth's Verilog before Verilator sees it."""

import pytest
from amaranth.back import verilog
from amaranth.hdl import Const, Module, Signal
from amaranth.lib.memory import Memory

from ringnic.sim.engine.verilog import clocked


def converted(m, *ports):
    return verilog.convert(m, ports=ports, emit_src=False)


def test_a_register_is_written_where_it_is_decided():
    m = Module()
    go, bit, count = (Signal(width, name=name) for name, width in (("go", 1), ("bit", 1), ("count", 4)))
    state = Signal(4)
    m.d.comb += count.eq(state)
    with m.If(go):
        m.d.sync += [state.eq(state + 1), state[3].eq(bit)]
    text = clocked(converted(m, go, bit, count))
    assert """
  always @(posedge clk) begin
    if (go) begin
      count[2:0] <= \\$1 [2:0];
      count[3] <= \\bit ;
    end
    if (rst) begin
      count <= 4'h0;
    end
  end
""" in text and "always @*" not in text


@pytest.mark.parametrize("seen", ["by a wire", "by a register"])
def test_a_next_state_that_somebody_sees_stays(seen):
    source = """module top(clk, go, out);
  input clk;
  input go;
  output out;
  reg state;
  reg other;
  reg \\$1 ;
%s
  always @(posedge clk)
    state <= \\$1 ;
  always @* begin
    \\$1  = state;
    if (go) begin
      \\$1  = 1'h1;
    end
  end
endmodule
""" % {"by a wire": "  assign out = \\$1 ;", "by a register": "  always @(posedge clk)\n    other <= \\$1 ;"}[seen]
    assert clocked(source) == source


def test_zeros_of_a_memory_are_left_out_and_nothing_else():
    m = Module()
    m.submodules.memory = memory = Memory(shape=8, depth=4, init=[0, 7, 0, 16])
    port = memory.read_port()
    m.d.comb += port.en.eq(Const(1))
    text = clocked(converted(m, port.addr, port.data))
    assert "[1] = 8'h07;" in text and "[3] = 8'h10;" in text
    assert "[0] = 8'h" not in text and "[2] = 8'h" not in text


def test_modules_do_not_see_each_other():
    one = "module %s(clk);\n  input clk;\n  reg a;\n  reg \\$1 ;\n  always @(posedge clk)\n    a <= \\$1 ;\n" \
          "  always @* begin\n    \\$1  = a;\n    \\$1  = %s;\n  end\nendmodule\n"
    text = clocked(one % ("x", "1'h0") + one % ("y", "1'h1"))
    assert text.count("    a <= 1'h0;\n") == text.count("    a <= 1'h1;\n") == 1
