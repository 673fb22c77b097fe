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
