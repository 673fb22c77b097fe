// The management side of a PHY that has a gigabit link, full duplex (IEEE 802.3, 22.2.4).
#pragma once
#include <cstdint>

const uint8_t LINK_SHOWN = 1 | 2 << 1 | 1 << 3;  // RGMII 2.0, 3.4.1: up, 1000 Mbit/s, full duplex

// It answers to every address. What is written stays, but for the status registers, and has no effect.
class Phy {
public:
    bool drives = false, bit = true;   // MDIO, from this rising MDC on to the next

    void link(bool up) {
        linked = up;
        if (!up) latched = false;
    }
    bool up() const { return linked; }

    // With each rising MDC: MDIO as it is on the board.
    void rise(bool mdio) {
        if (at == 0) {
            // 22.2.4.5.2, .3: at least 32 ones, then a start of 01.
            if (mdio) { ones++; return; }
            bool preamble = ones >= 32;
            ones = 0;
            if (preamble) { at = 1; word = 0; }
            return;
        }
        word = word << 1 | mdio;
        at++;
        if (at == 14) {                // start, operation and addresses are there
            reads = (word >> 10 & 3) == 2;
            reg = word & 31;
            if (reads) value = read();
        }
        if (at == 32) {
            if (!reads && reg != STATUS && reg != MASTER_SLAVE_STATUS) registers[reg] = word;
            at = 0;
            drives = false;
        } else if (reads && at >= 15) {
            // 22.2.4.5.6: a zero in the second bit of the turnaround, and then the register.
            drives = true;
            bit = at == 15 ? false : value >> (31 - at) & 1;
        }
    }

private:
    enum { CONTROL = 0, STATUS = 1, ADVERTISEMENT = 4, PARTNER = 5, MASTER_SLAVE_CONTROL = 9, MASTER_SLAVE_STATUS = 10 };

    // 22.2.4.2.13: a link that was lost is told of once.
    uint16_t read() {
        if (reg != STATUS) return registers[reg];
        uint16_t status = registers[STATUS] | (linked ? 1 << 5 : 0) | (latched ? 1 << 2 : 0);
        latched = linked;
        return status;
    }

    // Tables 22-7, 22-8 and 40-3: negotiation is on; 10, 100 and 1000 Mbit/s at both ends.
    uint16_t registers[32] = {0x1140, 0x7949, 0, 0, 0x01e1, 0xc1e1, 0, 0, 0, 0x0200, 0x0800};
    bool linked = true, latched = true, reads = false;
    int at = 0, ones = 0;              // bits of a frame that there were
    uint32_t word = 0;
    uint16_t value = 0;
    unsigned reg = 0;
};
