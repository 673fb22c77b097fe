#include "tlp.h"
#include <cstdio>

Tlp Tlp::request(int fmt, int type, int length, int requester, int tag, int last_be, int first_be) {
    Tlp tlp;
    tlp.put_header((uint32_t)fmt << 29 | (uint32_t)type << 24 | (length & 1023));
    tlp.put_header((uint32_t)requester << 16 | tag << 8 | last_be << 4 | first_be);
    return tlp;
}

Tlp Tlp::completion(int status, int requester, int tag, int byte_count, int lower_address, int length) {
    Tlp tlp;
    tlp.put_header((length ? 0x4au : 0x0au) << 24 | (length & 1023));
    tlp.put_header((uint32_t)status << 13 | (byte_count & 4095));  // completer 00:00.0
    tlp.put_header((uint32_t)requester << 16 | tag << 8 | (lower_address & 127));
    return tlp;
}

std::string Tlp::text() const {
    char line[160];
    if (is_completion())
        snprintf(line, sizeof line, "%-6s tag %02x requester %04x status %d bytes %d lower %02x", has_data() ? "CplD" : "Cpl",
                 tag(), requester_id(), status(), byte_count(), header(2) & 127);
    else if (is_message())
        snprintf(line, sizeof line, "Msg    code %02x requester %04x", message_code(), requester_id());
    else if (type() == 4 || type() == 5)
        snprintf(line, sizeof line, "Cfg%s%d tag %02x register %03x be %x", has_data() ? "Wr" : "Rd", type() & 1, tag(),
                 header(2) & 0xffc, first_be());
    else
        snprintf(line, sizeof line, "%-6s tag %02x address %012llx dws %d be %x/%x", has_data() ? "MWr" : "MRd", tag(),
                 (unsigned long long)address(), length_dw(), first_be(), last_be());
    std::string all = line;
    if (has_data()) {
        all += " data";
        for (int n = 0; n < 4 && header_dws() + n < (int)dw.size(); n++) {
            snprintf(line, sizeof line, " %08x", data()[n]);
            all += line;
        }
        if (length_dw() > 4) all += " ...";
    }
    return all;
}
