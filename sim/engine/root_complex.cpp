#include "root_complex.h"
#include <algorithm>
#include <cstring>

static const int FRAMING = 8;  // sequence number, LCRC and framing symbols of a TLP

int RootComplex::access(Tlp tlp, bool wants_answer) {
    int tag = 0;
    if (wants_answer) {
        int tries = 0;
        while (tags[next_tag] && tries++ < 256) next_tag = (next_tag + 1) & 255;
        if (tags[next_tag]) return -1;
        tag = next_tag;
        next_tag = (next_tag + 1) & 255;
        tags[tag] = 1;
        outstanding++;
        tlp.dw[1] = __builtin_bswap32((tlp.header(1) & ~0xff00u) | tag << 8);
    }
    if (tlp.is_memory()) stats[tlp.has_data() ? MWR_DOWN : MRD_DOWN]++; else stats[CFG_DOWN]++;
    send_down(std::move(tlp));
    return tag;
}

bool RootComplex::answered(int tag, Tlp& completion) {
    if (tags[tag] != 2) return false;
    tags[tag] = 0;
    completion = std::move(answers[tag]);
    return true;
}

void RootComplex::send_down(Tlp tlp) {
    note("down", tlp);
    stats[BYTES_DOWN] += tlp.bytes() + FRAMING;
    down_free = std::max(now, down_free) + (tlp.bytes() + FRAMING) / link.bytes_per_cycle;
    down.push_back({down_free, std::move(tlp)});
}

void RootComplex::up_tlp(Tlp tlp) {
    note("up  ", tlp);
    stats[BYTES_UP] += tlp.bytes() + FRAMING;
    up_free = std::max(now, up_free) + (tlp.bytes() + FRAMING) / link.bytes_per_cycle;
    up.push_back({up_free, std::move(tlp)});
}

void RootComplex::tick() {
    now += 1;
    while (!up.empty() && up.front().at <= now) {
        carry_out(up.front().tlp);
        up.pop_front();
    }
    while (!reads.empty() && reads.top().at <= now && down.size() < 64) {
        complete(reads.top());
        reads.pop();
    }
}

void RootComplex::carry_out(const Tlp& tlp) {
    if (tlp.is_completion()) {
        stats[CPL_UP]++;
        int tag = tlp.tag();
        if (tags[tag] != 1) return;
        // An answer may come in parts: the data of the later ones is appended.
        Tlp& answer = answers[tag];
        bool first = answer.dw.empty();
        if (first) answer = tlp;
        else answer.dw.insert(answer.dw.end(), tlp.data(), tlp.data() + tlp.length_dw());
        int offset = tlp.header(2) & 3;
        bool whole = !tlp.has_data() || tlp.byte_count() <= tlp.length_dw() * 4 - offset;
        if (whole) { tags[tag] = 2; outstanding--; }
    } else if (tlp.is_message()) {
        stats[MSG_UP]++;
        if ((tlp.message_code() & ~7) == 0x20) {       // Assert_INTx, Deassert_INTx
            intx = !(tlp.message_code() & 4);
            intx_changed = true;
        }
    } else if (tlp.has_data()) {
        stats[MWR_UP]++;
        write_memory(tlp);
    } else {
        stats[MRD_UP]++;
        Fault fault = NO_FAULT;
        if (!read_faults.empty()) { fault = read_faults.front(); read_faults.pop_front(); }
        uint32_t extra = link.jitter ? random() % (link.jitter + 1) : 0;
        reads.push({now + link.read_latency + extra, order++, tlp, fault});
        stats[MAX_READS] = std::max<uint64_t>(stats[MAX_READS], reads.size());
    }
}

uint8_t* RootComplex::find(uint64_t addr, uint64_t len, bool write) {
    auto after = regions.upper_bound(addr);
    if (after == regions.begin()) return nullptr;
    const Region& region = std::prev(after)->second;
    if (addr - region.iova >= region.size || region.size - (addr - region.iova) < len) return nullptr;
    if (write && !region.writable) return nullptr;
    return region.host + (addr - region.iova);
}

void RootComplex::write_memory(const Tlp& tlp) {
    uint64_t addr = tlp.address();
    int dws = tlp.length_dw();
    if (addr >= msi_base && addr < msi_end) {
        interrupts.push_back({addr, tlp.data()[0], 0});
        stats[INTERRUPTS]++;
        return;
    }
    int skip = tlp.first_be() ? __builtin_ctz(tlp.first_be()) : 0;
    int last = dws == 1 ? tlp.first_be() : tlp.last_be();
    int end = 4 * dws - (last ? __builtin_clz(last << 28) : 4);
    if (end <= skip) return;
    uint32_t len = end - skip;
    if (record) accesses.push_back({addr + skip, len, 1, (uint64_t)now});
    uint8_t* host = find(addr + skip, len, true);
    if (!host) {
        faults.push_back({addr + skip, len, 1, (uint64_t)now});
        stats[DMA_FAULTS]++;
        return;
    }
    const uint8_t* data = (const uint8_t*)tlp.data() + skip;
    // Whole naturally aligned words of 2 and 4 bytes (indices) are stored at once: the guest reads them meanwhile.
    if (len == 2 && !((uintptr_t)host & 1)) { uint16_t v; memcpy(&v, data, 2); __atomic_store_n((uint16_t*)host, v, __ATOMIC_RELEASE); }
    else if (len == 4 && !((uintptr_t)host & 3)) { uint32_t v; memcpy(&v, data, 4); __atomic_store_n((uint32_t*)host, v, __ATOMIC_RELEASE); }
    else memcpy(host, data, len);
}

void RootComplex::complete(const Read& read) {
    const Tlp& tlp = read.tlp;
    int dws = tlp.length_dw(), first_be = tlp.first_be(), last_be = dws == 1 ? first_be : tlp.last_be();
    int skip = first_be ? __builtin_ctz(first_be) : 0;
    int end = first_be || dws > 1 ? 4 * dws - (last_be ? __builtin_clz(last_be << 28) : 0) : 1;
    uint64_t addr = tlp.address() + skip;
    int left = std::max(end - skip, 1);
    if (record) accesses.push_back({addr, (uint32_t)left, 0, (uint64_t)now});
    uint8_t* host = find(addr, left, false);
    if (!host) {
        faults.push_back({addr, (uint32_t)left, 0, (uint64_t)now});
        stats[DMA_FAULTS]++;
    }
    if (read.fault == FAULT_LOST) return;
    if (!host || read.fault == FAULT_UR || read.fault == FAULT_CA) {
        stats[CPL_DOWN]++;
        send_down(Tlp::completion(read.fault == FAULT_CA ? 4 : 1, tlp.requester_id(), tlp.tag(), left, addr, 0));
        return;
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    while (left > 0) {
        int unit = link.mps;
        if (link.split && random() % link.split == 0) unit = link.rcb;
        int chunk = std::min<int>(left, unit - addr % unit);
        int words = ((addr & 3) + chunk + 3) / 4;
        Tlp cpl = Tlp::completion(0, tlp.requester_id(), tlp.tag(), left, addr & 127, words);
        if (read.fault == FAULT_POISON) cpl.dw[0] |= __builtin_bswap32(1u << 14);
        size_t at = cpl.dw.size();
        cpl.dw.resize(at + words);
        memcpy((uint8_t*)(cpl.dw.data() + at) + (addr & 3), host, chunk);
        stats[CPL_DOWN]++;
        if (read.fault == FAULT_DUPLICATE) send_down(cpl);
        send_down(std::move(cpl));
        addr += chunk; host += chunk; left -= chunk;
    }
}
