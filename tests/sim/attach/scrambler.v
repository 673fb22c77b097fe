// A PCI endpoint of its own kind: it copies up to 16 DWs of memory by DMA, each XORed with KEY, and then interrupts by MSI-X, MSI
// or INTx.
//
// BAR 0 (32-bit memory): SRC, SRC_HIGH, DST, DST_HIGH, DWS, GO (write: vector), DONE (write 1 to clear), KEY; the MSI-X table is at
// 0x800.
// BAR 2 (64-bit memory): a RAM of 16 KiB. BAR 4 (I/O): the first four registers again.
module scrambler #(parameter WIDTH = 64, parameter [31:0] KEY = 32'h0, parameter [15:0] DEVICE_ID = 16'h5c4a) (
  input clk, input rst,
  input [WIDTH-1:0] tlp_rx_data, input [$clog2(WIDTH/32+1)-1:0] tlp_rx_dws, input tlp_rx_last, tlp_rx_valid, output tlp_rx_ready,
  output reg [WIDTH-1:0] tlp_tx_data, output [$clog2(WIDTH/32+1)-1:0] tlp_tx_dws, output tlp_tx_last, tlp_tx_valid,
  input tlp_tx_ready, output busy);

  localparam LANES = WIDTH / 32;
  localparam TAKE = 0, ACT = 1, SEND = 2;
  localparam SRC = 0, DST = 2, DWS = 4, GO = 5, DONE = 6;

  reg [31:0] rx [0:63], tx [0:63], cfg [0:63], regs [0:7], msix [0:7], ram [0:4095], data [0:15];
  reg [1:0] state = TAKE;
  reg [6:0] rx_at = 0, tx_at = 0, tx_dws = 0;
  reg [4:0] got = 0;
  reg reading = 0, raise = 0, vector = 0, intx = 0;
  reg [15:0] id = 0;
  integer k;

  function [31:0] swap(input [31:0] x); swap = {x[7:0], x[15:8], x[23:16], x[31:24]}; endfunction
  function [31:0] merge(input [31:0] old, input [31:0] new_, input [3:0] be);
    merge = {be[3] ? new_[31:24] : old[31:24], be[2] ? new_[23:16] : old[23:16], be[1] ? new_[15:8] : old[15:8],
             be[0] ? new_[7:0] : old[7:0]};
  endfunction
  function [31:0] writable(input [5:0] dw);  // bits of configuration space
    case (dw)
      1: writable = 32'h0000_0407;                                        // Command: I/O, memory, bus master, INTx Disable
      4: writable = 32'hffff_f000;
      6: writable = 32'hffff_c000;
      7, 18: writable = 32'hffff_ffff;
      8: writable = 32'hffff_fff0;
      15: writable = 32'h0000_00ff;                                       // Interrupt Line
      16: writable = 32'h0071_0000;                                       // MSI: enable, messages
      17: writable = 32'hffff_fffc;
      19: writable = 32'h0000_ffff;
      20: writable = 32'hc000_0000;                                       // MSI-X: enable, mask
      26: writable = 32'h0000_70ff;                                       // Device Control
      default: writable = 0;
    endcase
  endfunction

  // The TLP that was taken, by its header.
  wire [31:0] h0 = swap(rx[0]), h1 = swap(rx[1]), h2 = swap(rx[2]), h3 = swap(rx[3]);
  wire [2:0] fmt = h0[31:29];
  wire [4:0] kind = h0[28:24];
  wire [31:0] low = fmt[0] ? h3 : h2, high = fmt[0] ? h2 : 0, value = fmt[0] ? rx[4] : rx[3];
  wire single = h0[9:0] == 1;
  wire config_ = kind == 4, memory = kind == 0 && cfg[1][1] && single, io = kind == 2 && cfg[1][0];
  wire bar0 = memory && high == 0 && low[31:12] == cfg[4][31:12];
  wire bar2 = memory && {high, low[31:14]} == {cfg[7], cfg[6][31:14]};
  wire bar4 = io && low[31:4] == cfg[8][31:4];
  wire in_regs = bar4 || bar0 && low[11:5] == 0, in_msix = bar0 && low[11:5] == 7'h40;
  wire waiting = regs[DONE][0] && !cfg[16][16] && !cfg[20][31];           // Interrupt Status
  wire [2:0] at = bar4 ? {1'b0, low[3:2]} : low[4:2];
  wire [31:0] found = config_ ? (low[11:8] == 0 ? cfg[low[7:2]] | (low[7:2] == 1 && waiting) << 19 : 0) : bar2 ? ram[low[13:2]] : in_msix ? msix[at] :
                      in_regs ? (at == 7 && !bar4 ? KEY : regs[at]) : 0;
  wire known = config_ || bar0 || bar2 || bar4;

  // Interrupts. A masked vector waits.
  wire use_msix = cfg[20][31], use_msi = !use_msix && cfg[16][16], master = cfg[1][2];
  wire [31:0] message = use_msix ? msix[{vector, 2'd2}] : {16'b0, cfg[19][15:0]} | (vector && cfg[16][22:20] != 0);
  wire [63:0] where = use_msix ? {msix[{vector, 2'd1}], msix[{vector, 2'd0}]} : {cfg[18], cfg[17]};
  wire send_message = raise && master && (use_msi || use_msix && !cfg[20][30] && !msix[{vector, 2'd3}][0]);
  wire level = waiting && !cfg[1][10];

  // A request: header, then (of a write) data that is already at its place. Returns nothing; sets what is sent.
  task request(input write, input [63:0] address, input [9:0] length);
    begin
      tx[0] <= swap({1'b0, write, address[63:32] != 0, 19'b0, length});
      tx[1] <= swap({id, 8'h00, length == 1 ? 4'h0 : 4'hf, 4'hf});
      if (address[63:32] != 0) begin tx[2] <= swap(address[63:32]); tx[3] <= swap(address[31:0]); end
      else tx[2] <= swap(address[31:0]);
      tx_dws <= 3 + (address[63:32] != 0) + (write ? length : 0);
      state <= SEND;
    end
  endtask

  assign tlp_rx_ready = state == TAKE;
  assign tlp_tx_valid = state == SEND;
  assign tlp_tx_dws = tx_dws - tx_at > LANES ? LANES : tx_dws - tx_at;
  assign tlp_tx_last = tx_dws - tx_at <= LANES;
  assign busy = state != TAKE || reading || send_message || level != intx;
  always @* for (k = 0; k < LANES; k = k + 1) tlp_tx_data[32*k +: 32] = tx[tx_at + k];

  always @(posedge clk) begin
    case (state)
      TAKE: if (tlp_rx_valid) begin
        for (k = 0; k < LANES; k = k + 1) rx[rx_at + k] <= tlp_rx_data[32*k +: 32];
        rx_at <= tlp_rx_last ? 0 : rx_at + LANES;
        if (tlp_rx_last) state <= ACT;
      end else if (send_message && rx_at == 0) begin
        raise <= 0;
        tx[where[63:32] != 0 ? 4 : 3] <= message;
        request(1, where, 1);
      end else if (level != intx && rx_at == 0) begin                     // Assert_INTA or Deassert_INTA
        intx <= level;
        tx[0] <= swap(32'h3400_0000); tx[1] <= swap({id, 8'h00, 8'h20 | {5'b0, !level, 2'b0}}); tx[2] <= 0; tx[3] <= 0;
        tx_dws <= 4;
        state <= SEND;
      end
      ACT: begin
        state <= TAKE;
        if (config_) id <= h2[31:16];
        if (fmt[1] && kind != 10) begin
          if (config_ && low[11:8] == 0)
            cfg[low[7:2]] <= merge(cfg[low[7:2]], value, h1[3:0]) & writable(low[7:2]) | cfg[low[7:2]] & ~writable(low[7:2]);
          if (bar2) ram[low[13:2]] <= merge(ram[low[13:2]], value, h1[3:0]);
          if (in_msix) msix[at] <= merge(msix[at], value, h1[3:0]);
          if (in_regs && at == DONE) regs[DONE] <= regs[DONE] & ~value;
          else if (in_regs && at == GO && master) begin
            vector <= value[0]; reading <= 1; got <= 0;
            request(0, {regs[SRC+1], regs[SRC]}, regs[DWS]);
          end else if (in_regs) regs[at] <= merge(regs[at], value, h1[3:0]);
        end
        if (kind == 10 && reading) begin                                  // data of ours, perhaps a part of it
          for (k = 0; k < 16; k = k + 1) if (k < h0[9:0] && got + k < 16) data[got + k] <= rx[3 + k];
          got <= got + h0[4:0];
          if (got + h0[4:0] >= regs[DWS][4:0]) begin
            for (k = 0; k < 16; k = k + 1) tx[(regs[DST+1] != 0 ? 4 : 3) + k] <= (k < got ? data[k] : rx[3 + k - got]) ^ KEY;
            request(1, {regs[DST+1], regs[DST]}, regs[DWS]);
            reading <= 0; raise <= use_msi || use_msix; regs[DONE] <= 1;
          end
        end else if (kind != 10 && (kind != 0 || !fmt[1])) begin           // all but a memory write is answered
          tx[0] <= swap({1'b0, known && !fmt[1], 1'b0, 5'd10, 14'b0, known && !fmt[1] ? 10'd1 : 10'd0});
          tx[1] <= swap({config_ ? h2[31:16] : id, known ? 3'd0 : 3'd1, 1'b0, 12'd4});
          tx[2] <= swap({h1[31:8], 1'b0, config_ || io ? 7'd0 : low[6:0]});
          tx[3] <= found;
          tx_dws <= known && !fmt[1] ? 4 : 3;
          state <= SEND;
        end
      end
      SEND: if (tlp_tx_ready) begin
        tx_at <= tlp_tx_last ? 0 : tx_at + LANES;
        if (tlp_tx_last) state <= TAKE;
      end
    endcase
    if (rst) begin
      state <= TAKE; rx_at <= 0; tx_at <= 0; reading <= 0; raise <= 0; intx <= 0;
      for (k = 0; k < 64; k = k + 1) cfg[k] <= 0;
      for (k = 0; k < 8; k = k + 1) begin regs[k] <= 0; msix[k] <= k % 4 == 3; end
      cfg[0] <= {DEVICE_ID, 16'h1234}; cfg[1] <= 32'h0010_0000; cfg[2] <= 32'hff00_0001; cfg[6] <= 32'hc; cfg[8] <= 32'h1;
      cfg[11] <= {DEVICE_ID, 16'h1234}; cfg[13] <= 32'h40; cfg[15] <= 32'h0000_0100;
      cfg[16] <= 32'h0082_5005;                                           // MSI: 64-bit, two messages
      cfg[20] <= 32'h0001_6011; cfg[21] <= 32'h800; cfg[22] <= 32'hc00;   // MSI-X: two vectors in BAR 0
      cfg[24] <= 32'h0002_0010; cfg[25] <= 32'h0000_8000;                 // PCI Express
    end
  end
endmodule
