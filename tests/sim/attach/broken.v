// Answers configuration requests and nothing else, with a BAR if BAR is 1; to a write of register 15 (Interrupt Line) it sends a
// memory write that ends after its header. With MUTE it never takes anything.
module broken #(parameter MUTE = 0, parameter BAR = 0) (
  input clk, input rst_n,
  input [31:0] tlp_rx_data, input tlp_rx_dws, input tlp_rx_last, input tlp_rx_valid, output tlp_rx_ready,
  output [31:0] tlp_tx_data, output tlp_tx_dws, output tlp_tx_last, output tlp_tx_valid, input tlp_tx_ready);

  reg [31:0] rx [0:63], tx [0:7], bar;
  reg [5:0] at;
  reg [2:0] sent, dws;
  wire write = rx[0][6], cfg = rx[0][4:0] == 4;
  wire [5:0] register = rx[2][31:26];
  reg taken;

  assign tlp_rx_ready = !MUTE && !taken && sent == dws;
  assign tlp_tx_valid = sent != dws;
  assign tlp_tx_data = tx[sent];
  assign tlp_tx_dws = 1;
  assign tlp_tx_last = dws == 6 ? sent == 2 || sent == 5 : sent + 1 == dws;

  always @(posedge clk) begin
    if (tlp_rx_valid && tlp_rx_ready) begin
      rx[at] <= tlp_rx_data;
      at <= tlp_rx_last ? 0 : at + 1;
      taken <= tlp_rx_last;
    end
    if (tlp_tx_valid && tlp_tx_ready) sent <= sent + 1;
    if (taken) begin
      taken <= 0;
      if (cfg) begin
        sent <= 0;
        dws <= write ? (register == 15 ? 6 : 3) : 4;
        tx[0] <= write ? 32'h0000_000a : 32'h0100_004a;
        tx[1] <= 32'h0400_0001;
        tx[2] <= {8'h00, rx[1][23:16], 16'h0000};
        tx[3] <= write ? 32'h0100_0040 : register == 0 ? 32'h0001_1234 : register == 1 ? 32'h2 : register == 4 ? bar : 0;
        tx[4] <= 32'h0f00_0001;
        tx[5] <= 32'h0000_0010;
        if (write && register == 4 && BAR) bar <= rx[3] & 32'hffff_f000;
      end
    end
    if (!rst_n) begin at <= 0; sent <= 0; dws <= 0; taken <= 0; bar <= 0; end
  end
endmodule
