// The Ethernet link partner on a GMII. Frames are without FCS on the outer side.
#pragma once
#include <cstdint>
#include <deque>
#include <vector>

using Frame = std::vector<uint8_t>;

inline uint32_t fcs(const uint8_t* data, size_t size) {
    static const std::vector<uint32_t> table = [] {
        std::vector<uint32_t> entries(256);
        for (uint32_t n = 0; n < 256; n++) {
            uint32_t c = n;
            for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
            entries[n] = c;
        }
        return entries;
    }();
    uint32_t crc = ~0u;
    for (size_t n = 0; n < size; n++) crc = table[(crc ^ data[n]) & 255] ^ crc >> 8;
    return ~crc;
}

class GmiiSource {                  // towards the card: one byte a clock
public:
    void start(Frame frame) {
        if (frame.size() < 60) frame.resize(60);
        uint32_t check = fcs(frame.data(), frame.size());
        bytes.assign(7, 0x55);
        bytes.push_back(0xd5);
        bytes.insert(bytes.end(), frame.begin(), frame.end());
        for (int k = 0; k < 4; k++) bytes.push_back(check >> 8 * k);
        at = 0;
        gap = 12;
    }
    bool ready() const { return at == bytes.size() && gap == 0; }
    void clock(uint8_t& rxd, uint8_t& dv) {
        dv = at < bytes.size();
        rxd = dv ? bytes[at++] : 0;
        if (!dv && gap) gap--;
    }
private:
    std::vector<uint8_t> bytes;
    size_t at = 0;
    int gap = 0;
};

class GmiiSink {                    // from the card
public:
    // True when a frame ended: ``frame`` holds it, ``good`` tells whether it was whole.
    bool clock(uint8_t txd, bool en, bool er, Frame& frame, bool& good) {
        if (en) {
            bytes.push_back(txd);
            broken |= er;
            return false;
        }
        if (bytes.empty()) return false;
        size_t start = 0;
        while (start < bytes.size() && bytes[start] == 0x55) start++;
        good = !broken && start == 7 && bytes.size() >= 8 + 64 && bytes[7] == 0xd5;
        if (good) {
            size_t size = bytes.size() - 8 - 4;
            uint32_t check = fcs(bytes.data() + 8, size);
            for (int k = 0; k < 4; k++) good &= bytes[8 + size + k] == (uint8_t)(check >> 8 * k);
            frame.assign(bytes.begin() + 8, bytes.begin() + 8 + size);
        }
        bytes.clear();
        broken = false;
        return true;
    }
    bool active() const { return !bytes.empty(); }
private:
    std::vector<uint8_t> bytes;
    bool broken = false;
};
