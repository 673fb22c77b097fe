// Primitives of Xilinx's 7-series as far as the card uses them: what UG471, UG472 and UG470 say that they do, without delays.
// Ports and parameters have the names of the libraries guide UG953.

module BUFG (input I, output O);
    assign O = I;
endmodule

// UG471, "OLOGIC Resources", SAME_EDGE: both inputs are taken with the rising edge; D1 is on the wire first.
module ODDR #(
    parameter DDR_CLK_EDGE = "OPPOSITE_EDGE", parameter INIT = 1'b0, parameter SRTYPE = "SYNC"
) (input C, input CE, input D1, input D2, input R, input S, output Q);
    reg first = INIT, second = INIT;
    always @(posedge C) if (CE) begin
        first <= D1;
        second <= D2;
    end
    assign Q = C ? first : second;
    generate if (DDR_CLK_EDGE != "SAME_EDGE") $error("ODDR: only SAME_EDGE is modelled"); endgenerate
endmodule

// UG471, "ILOGIC Resources", SAME_EDGE_PIPELINED: what came with both edges of a clock appears with its next rising edge.
module IDDR #(
    parameter DDR_CLK_EDGE = "OPPOSITE_EDGE", parameter INIT_Q1 = 1'b0, parameter INIT_Q2 = 1'b0, parameter SRTYPE = "SYNC"
) (input C, input CE, input D, input R, input S, output reg Q1, output reg Q2);
    reg rising = INIT_Q1, falling = INIT_Q2;
    initial begin
        Q1 = INIT_Q1;
        Q2 = INIT_Q2;
    end
    always @(posedge C) if (CE) begin
        rising <= D;
        Q1 <= rising;
        Q2 <= falling;
    end
    always @(negedge C) if (CE) falling <= D;
    generate if (DDR_CLK_EDGE != "SAME_EDGE_PIPELINED") $error("IDDR: only SAME_EDGE_PIPELINED is modelled"); endgenerate
endmodule

module IDELAYE2 #(
    parameter CINVCTRL_SEL = "FALSE", parameter DELAY_SRC = "IDATAIN", parameter HIGH_PERFORMANCE_MODE = "FALSE",
    parameter IDELAY_TYPE = "FIXED", parameter integer IDELAY_VALUE = 0, parameter PIPE_SEL = "FALSE",
    parameter real REFCLK_FREQUENCY = 200.0, parameter SIGNAL_PATTERN = "DATA"
) (
    input C, input CE, input CINVCTRL, input [4:0] CNTVALUEIN, input DATAIN, input IDATAIN, input INC, input LD,
    input LDPIPEEN, input REGRST, output DATAOUT, output [4:0] CNTVALUEOUT
);
    assign DATAOUT = IDATAIN;
    assign CNTVALUEOUT = IDELAY_VALUE;
endmodule

module IDELAYCTRL (input REFCLK, input RST, output reg RDY);
    initial RDY = 0;
    always @(posedge REFCLK) RDY <= !RST;
endmodule

// UG470, "Device DNA": READ loads the number, its first bit is there then; SHIFT brings the next one.
module DNA_PORT #(parameter [56:0] SIM_DNA_VALUE = 57'h123456789abcdef) (
    input CLK, input DIN, input READ, input SHIFT, output DOUT
);
    reg [56:0] number = 0;
    always @(posedge CLK)
        if (READ) number <= SIM_DNA_VALUE;
        else if (SHIFT) number <= {number[55:0], DIN};
    assign DOUT = number[56];
endmodule

module IBUFDS (input I, input IB, output O);
    assign O = I;
endmodule

module IBUFDS_GTE2 (input I, input IB, input CEB, output O, output ODIV2);
    assign O = I;
    assign ODIV2 = 0;
endmodule

module IOBUF (input I, input T, output O, inout IO);
    assign IO = T ? 1'bz : I;
    assign O = IO;
endmodule

module BUFGCTRL (
    input CE0, input CE1, input I0, input I1, input IGNORE0, input IGNORE1, input S0, input S1, output O
);
    assign O = S1 ? I1 : I0;
endmodule

// Every output is 125 MHz, as it comes from the top of the simulation, with the phase 0 or 90 degrees. So it is right for
// Ethernet; the other clocks of a card drive nothing that a model of the PCI Express block looks at.
module MMCME2_ADV #(
    parameter BANDWIDTH = "OPTIMIZED", parameter real CLKFBOUT_MULT_F = 5.0, parameter integer DIVCLK_DIVIDE = 1,
    parameter real CLKIN1_PERIOD = 0.0, parameter real CLKOUT0_DIVIDE_F = 1.0, parameter integer CLKOUT1_DIVIDE = 1,
    parameter integer CLKOUT2_DIVIDE = 1, parameter integer CLKOUT3_DIVIDE = 1, parameter real CLKOUT0_PHASE = 0.0,
    parameter real CLKOUT1_PHASE = 0.0, parameter real CLKOUT2_PHASE = 0.0, parameter real CLKOUT3_PHASE = 0.0
) (
    input CLKIN1, input CLKIN2, input CLKINSEL, input CLKFBIN, input RST, input PWRDWN, input [6:0] DADDR, input DCLK,
    input DEN, input [15:0] DI, input DWE, input PSCLK, input PSEN, input PSINCDEC,
    output CLKFBOUT, output LOCKED, output CLKOUT0, output CLKOUT1, output CLKOUT2, output CLKOUT3
);
    assign CLKFBOUT = CLKIN1;
    assign LOCKED = 1;
    assign CLKOUT0 = CLKOUT0_PHASE == 90.0 ? $root.nic.gmii_tx_90_clk : $root.nic.gmii_tx_clk;
    assign CLKOUT1 = CLKOUT1_PHASE == 90.0 ? $root.nic.gmii_tx_90_clk : $root.nic.gmii_tx_clk;
    assign CLKOUT2 = CLKOUT2_PHASE == 90.0 ? $root.nic.gmii_tx_90_clk : $root.nic.gmii_tx_clk;
    assign CLKOUT3 = CLKOUT3_PHASE == 90.0 ? $root.nic.gmii_tx_90_clk : $root.nic.gmii_tx_clk;
endmodule

// UG470, "JTAG Interface": with no cable there is no clock either.
module BSCANE2 #(parameter DISABLE_JTAG = "FALSE", parameter integer JTAG_CHAIN = 1) (
    output CAPTURE, output DRCK, output RESET, output RUNTEST, output SEL, output SHIFT, output TCK, output TDI, output TMS,
    output UPDATE, input TDO
);
    assign {CAPTURE, DRCK, RESET, RUNTEST, SEL, SHIFT, TCK, TDI, TMS, UPDATE} = 0;
endmodule
