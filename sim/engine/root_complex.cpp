#include "root_complex.h"
#include <algorithm>
#include <cstring>
#include <utility>

static const int FRAMING = 8;  // sequence number, LCRC and framing symbols of a TLP
static const uint32_t UNIT = 8;  // bytes that a host reads and writes at once, naturally aligned

static uint32_t unit(uint64_t addr, const uint8_t* host, uint32_t left) {
    uint32_t size = UNIT;
    while (size > left || (addr | (uintptr_t)host) & (size - 1)) size /= 2;
    return size;
}
template <class T> static void store(uint8_t* host, const uint8_t* data) {
    T value;
    memcpy(&value, data, sizeof value);
    __atomic_store_n((T*)host, value, __ATOMIC_RELEASE);
}
template <class T> static void load(uint8_t* data, const uint8_t* host) {
    T value = __atomic_load_n((const T*)host, __ATOMIC_ACQUIRE);
    memcpy(data, &value, sizeof value);
}
// Host memory changes unit by unit, in ascending order: a guest's CPU polls rings meanwhile.
static void put(uint8_t* host, uint64_t addr, const uint8_t* data, uint32_t len) {
    for (uint32_t n; len; addr += n, host += n, data += n, len -= n) {
        n = unit(addr, host, len);
        if (n == 8) store<uint64_t>(host, data);
        else if (n == 4) store<uint32_t>(host, data);
        else if (n == 2) store<uint16_t>(host, data);
        else store<uint8_t>(host, data);
    }
}
static void get(uint8_t* data, uint64_t addr, const uint8_t* host, uint32_t len) {
    for (uint32_t n; len; addr += n, host += n, data += n, len -= n) {
        n = unit(addr, host, len);
        if (n == 8) load<uint64_t>(data, host);
        else if (n == 4) load<uint32_t>(data, host);
        else if (n == 2) load<uint16_t>(data, host);
        else load<uint8_t>(data, host);
    }
}

int RootComplex::access(Tlp tlp, bool wants_answer) {
    int tag = 0;
    if (wants_answer) {
        int tries = 0;
        while (tags[next_tag] && tries++ < 256) next_tag = (next_tag + 1) & 255;
        if (tags[next_tag]) return -1;
        tag = next_tag;
        next_tag = (next_tag + 1) & 255;
        tags[tag] = WAITS;
        outstanding++;
        tlp.dw[1] = __builtin_bswap32((tlp.header(1) & ~0xff00u) | tag << 8);
    }
    if (tlp.is_memory()) stats[tlp.has_data() ? MWR_DOWN : MRD_DOWN]++; else stats[CFG_DOWN]++;
    send_down(std::move(tlp));
    return tag;
}

bool RootComplex::answered(int tag, Tlp& completion) {
    if (tags[tag] != ANSWERED) return false;
    tags[tag] = FREE;
    news = true;
    completion = std::exchange(answers[tag], Tlp());
    return true;
}

void RootComplex::abandon(int tag) {
    if (tags[tag] == WAITS) outstanding--;
    tags[tag] = tags[tag] == ANSWERED ? FREE : ABANDONED;
    answers[tag] = Tlp();
}

void RootComplex::keep(Way way, const Tlp& tlp) {
    if (!capture) return;
    Capture head{stats[CYCLES], way, (uint32_t)tlp.bytes()};
    captured.insert(captured.end(), (uint8_t*)&head, (uint8_t*)(&head + 1));
    captured.insert(captured.end(), (uint8_t*)tlp.dw.data(), (uint8_t*)tlp.dw.data() + tlp.bytes());
}

void RootComplex::reset() {
    keep(RESET, Tlp());
    down.clear();
    up.clear();
    reads = {};
    samples.clear();
    card_tags = {};
    intx = false;
    for (int tag = 0; tag < 256; tag++) {
        if (tags[tag] == ABANDONED) tags[tag] = FREE;
        if (tags[tag] != WAITS) continue;
        answers[tag] = Tlp::completion(1, 0, tag, 4, 0, 0);
        tags[tag] = ANSWERED;
        outstanding--;
    }
    news = true;
}

void RootComplex::send_down(Tlp tlp) {
    note("down", tlp);
    stats[BYTES_DOWN] += tlp.bytes() + FRAMING;
    down_free = std::max(now, down_free) + (tlp.bytes() + FRAMING) / link.bytes_per_cycle;
    down.push_back({down_free, std::move(tlp)});
}

void RootComplex::up_tlp(Tlp tlp) {
    note("up  ", tlp);
    check(tlp);
    keep(UP, tlp);
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
    while (!stores.empty() && stores.begin()->first <= now) {
        const Store& due = stores.begin()->second;
        if (uint8_t* host = find(due.addr, due.len, false)) put(host, due.addr, due.data, due.len);
        stores.erase(stores.begin());
    }
    while (!samples.empty() && samples.begin()->first <= now) {
        Sample& due = samples.begin()->second;
        if (uint8_t* host = find(due.addr, due.len, false)) get(due.into, due.addr, host, due.len);
        samples.erase(samples.begin());
    }
    while (!reads.empty() && reads.top().at <= now && down.size() < 64) {
        Read read = reads.top();
        reads.pop();
        complete(std::move(read));
    }
}

void RootComplex::carry_out(const Tlp& tlp) {
    if (tlp.is_completion()) {
        stats[CPL_UP]++;
        int tag = tlp.tag();
        if (tags[tag] == ABANDONED) tags[tag] = FREE;  // whole or not: nobody looks
        else if (tags[tag] != WAITS) violation("2.3.2: unexpected completion", tlp);
        if (tags[tag] != WAITS) return;
        // An answer may come in parts: the data of the later ones is appended.
        Tlp& answer = answers[tag];
        bool first = answer.dw.empty();
        if (first) answer = tlp;
        else answer.dw.insert(answer.dw.end(), tlp.data(), tlp.data() + tlp.length_dw());
        int offset = tlp.header(2) & 3;
        bool whole = !tlp.has_data() || tlp.byte_count() <= tlp.length_dw() * 4 - offset;
        if (whole) { tags[tag] = ANSWERED; outstanding--; news = true; }
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
        accept(tlp);
    }
}

// The bytes that a request's byte enables name, from the first to the last.
static void span(const Tlp& tlp, int& skip, int& size) {
    int dws = tlp.length_dw(), first = tlp.first_be(), last = dws == 1 ? first : tlp.last_be();
    skip = first ? __builtin_ctz(first) : 0;
    size = last ? 4 * dws - __builtin_clz((uint32_t)last << 28) - skip : 0;
}

Fault RootComplex::draw_fault() {
    if (!read_faults.empty()) {
        Fault fault = read_faults.front();
        read_faults.pop_front();
        return fault;
    }
    for (int fault = 1; fault < FAULT_COUNT; fault++)
        if (fault_one_in[fault] && random() % fault_one_in[fault] == 0) return (Fault)fault;
    return NO_FAULT;
}

void RootComplex::accept(const Tlp& tlp) {
    uint32_t extra = link.jitter ? random() % (link.jitter + 1) : 0;
    int skip, size;
    span(tlp, skip, size);
    if (card_tags[tlp.tag()]) violation("2.2.6.2: tag in use", tlp);
    card_tags[tlp.tag()] = true;
    uint64_t start = tlp.address() + skip;
    size = std::max(size, 1);          // 2.2.5: a read of no byte is answered with one DW, as if for one byte.
    Read read{now + link.read_latency + extra, order++, tlp, draw_fault(), start, size, start, size, nullptr};
    if (record) accesses.push_back({start, (uint32_t)size, DMA_READ, (uint64_t)now});
    if (link.tear) tear(read);
    reads.push(std::move(read));
    stats[MAX_READS] = std::max<uint64_t>(stats[MAX_READS], reads.size());
}

// Every unit is looked at in a cycle of its own, and the answer leaves after the last of them.
void RootComplex::tear(Read& read) {
    double first = read.at;
    read.torn = std::make_shared<std::vector<uint8_t>>(read.size);
    // By offsets: the last unit of the address space has no address behind it.
    for (uint32_t done = 0, size; done < (uint32_t)read.size; done += size) {
        uint64_t addr = read.start + done;
        size = std::min<uint32_t>(UNIT - addr % UNIT, read.size - done);
        double at = first + random() % link.tear;
        samples.insert({at, {addr, size, read.torn->data() + done, read.torn}});
        read.at = std::max(read.at, at);
    }
}

void RootComplex::answered(const Read& read) {
    if (record) accesses.push_back({read.start, (uint32_t)read.size, DMA_ANSWER, (uint64_t)now});
}

void RootComplex::violation(const std::string& text) {
    if (stats[VIOLATIONS]++ < 100) violations.push_back(text);
}
void RootComplex::violation(const char* rule, const Tlp& tlp) { violation(std::string(rule) + ": " + tlp.text()); }

void RootComplex::check(const Tlp& tlp) {
    size_t size = tlp.header_dws() + (tlp.has_data() ? tlp.length_dw() : 0);
    if (tlp.dw.size() != size) return violation("2.2.2: Length is not that of the TLP", tlp);
    bool known = tlp.is_memory() || (tlp.is_completion() && tlp.fmt() != 1 && tlp.fmt() != 3) ||
                 (tlp.is_message() && tlp.fmt() == 1);
    if (!known || tlp.fmt() > 3) return violation("2.2.1: Fmt and Type", tlp);
    if (tlp.has_data() && tlp.length_dw() * 4u > link.mps) violation("2.2.2: Max_Payload_Size", tlp);
    if (!tlp.is_memory()) return;
    if (tlp.requester_id() != CARD_ID) violation("2.2.6.2: not the card's ID", tlp);
    if (tlp.fmt() & 1 && !(tlp.address() >> 32)) violation("2.2.4.1: 64-bit format below 4 GB", tlp);
    if ((tlp.address() & 4095) + tlp.length_dw() * 4 > 4096) violation("2.2.7: crosses 4 KB", tlp);
    if (tlp.length_dw() == 1 ? tlp.last_be() != 0 : !tlp.first_be() || !tlp.last_be())
        violation("2.2.5: byte enables", tlp);
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
    if (addr >= msi_base && addr < msi_end) {
        interrupts.push_back({addr, tlp.data()[0], 0});
        stats[INTERRUPTS]++;
        return;
    }
    int skip, size;
    span(tlp, skip, size);
    if (size <= 0) return;
    uint32_t len = size;
    if (record) accesses.push_back({addr + skip, len, DMA_WRITE, (uint64_t)now});
    uint8_t* host = find(addr + skip, len, true);
    if (!host) {
        faults.push_back({addr + skip, len, DMA_WRITE, (uint64_t)now});
        stats[DMA_FAULTS]++;
        return;
    }
    put(host, addr + skip, (const uint8_t*)tlp.data() + skip, len);
}

void RootComplex::complete(Read read) {
    const Tlp& tlp = read.tlp;
    card_tags[tlp.tag()] = false;
    if (read.fault == FAULT_LOST) return;
    uint8_t* host = find(read.addr, read.left, false);
    if (!host) {
        faults.push_back({read.addr, (uint32_t)read.left, DMA_READ, (uint64_t)now});
        stats[DMA_FAULTS]++;
    }
    if (!host || read.fault == FAULT_UR || read.fault == FAULT_CA) {
        stats[CPL_DOWN]++;
        send_down(Tlp::completion(read.fault == FAULT_CA ? 4 : 1, tlp.requester_id(), tlp.tag(), read.left, read.addr, 0));
        return answered(read);
    }
    while (read.left > 0) {
        int unit = link.split && random() % link.split == 0 ? link.rcb : link.completion;
        int chunk = std::min<int>(read.left, unit - read.addr % unit);
        int words = ((read.addr & 3) + chunk + 3) / 4;
        Tlp cpl = Tlp::completion(0, tlp.requester_id(), tlp.tag(), read.left, read.addr & 127, words);
        if (read.fault == FAULT_POISON) cpl.dw[0] |= __builtin_bswap32(1u << 14);
        size_t at = cpl.dw.size();
        cpl.dw.resize(at + words);
        uint8_t* data = (uint8_t*)(cpl.dw.data() + at) + (read.addr & 3);
        if (read.torn) memcpy(data, read.torn->data() + (read.addr - read.start), chunk);
        else get(data, read.addr, host, chunk);
        stats[CPL_DOWN]++;
        if (read.fault == FAULT_DUPLICATE) send_down(cpl);
        send_down(std::move(cpl));
        read.addr += chunk; host += chunk; read.left -= chunk;
        if (link.split && read.left) {
            // The rest may come later, between completions of other reads.
            card_tags[tlp.tag()] = true;
            read.at = now + (link.jitter ? random() % (link.jitter + 1) : 0);
            read.order = order++;
            reads.push(std::move(read));
            return;
        }
    }
    answered(read);
}
