// What LitePCIe takes from the FPGA besides the block: buffers pass their input, the clock manager every clock as it comes.

module IBUFDS_GTE2(input CEB, I, IB, output O);
  assign O = I;
endmodule

module BUFG(input I, output O);
  assign O = I;
endmodule

module BUFGCTRL(input CE0, CE1, I0, I1, S0, S1, output O);
  assign O = I0;
endmodule

module FDCE(input C, CE, CLR, D, output reg Q);
  always @(posedge C or posedge CLR)
    if (CLR) Q <= 0;
    else if (CE) Q <= D;
endmodule

module FDPE #(parameter INIT = 1'b1)(input C, CE, PRE, D, output reg Q);
  initial Q = INIT;
  always @(posedge C or posedge PRE)
    if (PRE) Q <= 1;
    else if (CE) Q <= D;
endmodule

module MMCME2_ADV #(
    parameter BANDWIDTH = "OPTIMIZED", parameter CLKFBOUT_MULT_F = 1, parameter CLKIN1_PERIOD = 1, parameter DIVCLK_DIVIDE = 1,
    parameter REF_JITTER1 = 0, parameter CLKOUT0_DIVIDE_F = 1, parameter CLKOUT0_PHASE = 0, parameter CLKOUT1_DIVIDE = 1,
    parameter CLKOUT1_PHASE = 0, parameter CLKOUT2_DIVIDE = 1, parameter CLKOUT2_PHASE = 0, parameter CLKOUT3_DIVIDE = 1,
    parameter CLKOUT3_PHASE = 0
) (input CLKFBIN, CLKIN1, PWRDWN, RST, output CLKFBOUT, CLKOUT0, CLKOUT1, CLKOUT2, CLKOUT3, LOCKED);
  assign {CLKFBOUT, CLKOUT0, CLKOUT1, CLKOUT2, CLKOUT3} = {5{CLKIN1}};
  assign LOCKED = 1;
endmodule
