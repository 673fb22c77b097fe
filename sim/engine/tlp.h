// Transaction Layer Packets as the root complex sees them. Ref: PCI Express Base 5.0, 2.2 "Transaction Layer Protocol -
// Packet Definition". Data DWs are as in memory; header DWs are byte-swapped numbers (byte 0 of the wire is lowest).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

struct Tlp {
    std::vector<uint32_t> dw;

    uint32_t header(int n) const { return __builtin_bswap32(dw[n]); }
    int fmt() const { return header(0) >> 29; }
    int type() const { return header(0) >> 24 & 31; }
    bool has_data() const { return fmt() & 2; }
    int header_dws() const { return fmt() & 1 ? 4 : 3; }
    int length_dw() const { int n = header(0) & 1023; return n ? n : 1024; }
    bool is_memory() const { return type() == 0; }
    bool is_completion() const { return type() == 10; }
    bool is_message() const { return (type() & 24) == 16; }
    int first_be() const { return header(1) & 15; }
    int last_be() const { return header(1) >> 4 & 15; }
    int tag() const { return (is_completion() ? header(2) : header(1)) >> 8 & 255; }
    int requester_id() const { return (is_completion() ? header(2) : header(1)) >> 16; }
    int completer_id() const { return header(1) >> 16; }
    uint64_t address() const { return fmt() & 1 ? (uint64_t)header(2) << 32 | (header(3) & ~3u) : header(2) & ~3u; }
    int status() const { return header(1) >> 13 & 7; }
    int byte_count() const { int n = header(1) & 4095; return n ? n : 4096; }
    int message_code() const { return header(1) & 255; }
    size_t bytes() const { return dw.size() * 4; }
    const uint32_t* data() const { return dw.data() + header_dws(); }

    void put_header(uint32_t value) { dw.push_back(__builtin_bswap32(value)); }
    static Tlp request(int fmt, int type, int length, int requester, int tag, int last_be, int first_be);
    static Tlp completion(int status, int requester, int tag, int byte_count, int lower_address, int length);
    std::string text() const;  // one line
};
