// The C interface of an engine, for ctypes (engine.py).
#include <cstdio>
#include <cstring>
#include <string>
#include "engine.h"
#include "verilated_syms.h"

static const size_t RX_FRAMES = 1024;  // frames that wait for the card, at most
static const size_t POSTED = 16;       // writes in the mailbox; who writes faster waits for the model

// Holds the lock for one call from Python.
struct Call {
    Engine& engine;
    std::unique_lock<std::mutex> hold;
    explicit Call(Engine* e) : engine(*e) {
        engine.waiting++;
        hold = std::unique_lock<std::mutex>(engine.lock);
        engine.waiting--;
    }
    ~Call() { hold.unlock(); engine.work.notify_all(); }
};

#pragma GCC visibility push(default)   // an engine is hidden, and so would be what has one for a parameter
extern "C" {

// ``offered``: 128 bits, which device features the card is to offer. ``mac_address``: for a card that has it for an input.
Engine* engine_new(const LinkModel* link, int gmii_ratio, const uint32_t* offered, uint64_t mac_address) {
    return new Engine(*link, gmii_ratio, offered, mac_address);
}
void engine_free(Engine* e) { delete e; }
void engine_start(Engine* e) { e->start(); }
void engine_stop(Engine* e) { e->stop(); }
int engine_irq_fd(Engine* e) { return e->irq_fd; }
int engine_frame_fd(Engine* e) { return e->frame_fd; }

void engine_map(Engine* e, uint64_t iova, uint64_t size, uint8_t* memory, int writable) {
    Call call(e);
    e->host.map({iova, size, memory, writable != 0});
}
int engine_unmap(Engine* e, uint64_t iova) { Call call(e); return e->host.unmap(iova); }

void engine_run(Engine* e, uint64_t cycles) { Call call(e); e->slice(cycles); }

// Run until the card has been idle for more than ``idle`` cycles (0: that is not waited for), an interrupt or a frame comes.
// Returns the cycles run, at most ``limit``.
uint64_t engine_run_until(Engine* e, uint64_t idle, int interrupt, int frame, uint64_t limit) {
    Call call(e);
    auto& stats = e->host.stats;
    uint64_t run = 0, interrupts = stats[INTERRUPTS], frames = stats[FRAMES_OUT];
    if (idle) e->quiet = 0;
    while (run < limit) {
        e->slice(1);
        run++;
        if (idle && e->quiet > idle) break;
        if (interrupt && stats[INTERRUPTS] > interrupts) break;
        if (frame && stats[FRAMES_OUT] > frames) break;
    }
    return run;
}

// A host request. Returns 0 and up to ``data_dws`` DWs for an answer, else the completion status, -1 for none in
// ``limit`` cycles.
int engine_request(Engine* e, const uint32_t* dws, int count, int answered, uint32_t* data, int data_dws, uint64_t limit) {
    Tlp tlp, completion;
    tlp.dw.assign(dws, dws + count);
    if (!answered) {
        std::unique_lock<std::mutex> hold(e->mail);
        if (e->writes_in.size() < POSTED) {
            e->writes_in.push_back(std::move(tlp));
            hold.unlock();
            e->came();
            return 0;
        }
    }
    Call call(e);
    e->take_mail();                    // what was posted before stays before
    uint64_t until = e->host.stats[CYCLES] + limit;
    int tag;
    // Posted writes wait too: who writes faster than the card takes must be slowed down.
    while (e->host.full() || (tag = e->host.access(tlp, answered)) < 0) {
        if (e->host.stats[CYCLES] > until) return -1;
        e->pass(call.hold, until);
    }
    if (!answered) return 0;
    while (!e->host.answered(tag, completion)) {
        if (e->host.stats[CYCLES] > until) { e->host.abandon(tag); return -1; }
        e->pass(call.hold, until);
    }
    if (completion.status()) return completion.status();
    for (int k = 0; k < data_dws && completion.header_dws() + k < (int)completion.dw.size(); k++) data[k] = completion.data()[k];
    return 0;
}

int engine_send_frame(Engine* e, const uint8_t* data, uint32_t size) {
    if (e->rx_frames >= RX_FRAMES) return 0;
    e->rx_frames++;
    {
        std::lock_guard<std::mutex> hold(e->mail);
        e->frames_in.emplace_back(data, data + size);
    }
    e->came();
    return 1;
}
int engine_recv_frame(Engine* e, uint8_t* data, uint32_t size) {
    std::lock_guard<std::mutex> hold(e->mail);
    if (e->from_card.empty()) return -1;
    Frame& frame = e->from_card.front();
    uint32_t n = frame.size() < size ? frame.size() : size;
    memcpy(data, frame.data(), n);
    e->from_card.pop_front();
    return n;
}
int engine_interrupts(Engine* e, Interrupt* out, int room) {
    std::lock_guard<std::mutex> hold(e->mail);
    int n = 0;
    for (; n < room && !e->interrupts.empty(); n++) {
        out[n] = e->interrupts.front();
        e->interrupts.pop_front();
    }
    return n;
}
void engine_reset(Engine* e) { Call call(e); e->reset(); }
int engine_intx(Engine* e) { Call call(e); return e->host.intx; }
void engine_link(Engine* e, int up) { Call call(e); e->set_link(up); e->quiet = 0; }
int engine_ethernet_up(Engine* e) { Call call(e); return e->ethernet_up(); }
void engine_stats(Engine* e, uint64_t* out) {
    Call call(e);
    for (int k = 0; k < STAT_COUNT; k++) out[k] = e->host.stats[k];
    out[STAT_COUNT] = e->busy_ns;
}
void engine_store_later(Engine* e, const Store* stores, int count) {
    Call call(e);
    for (int k = 0; k < count; k++) {
        Store store = stores[k];
        store.at += (uint64_t)e->host.now;
        e->host.store_later(store);
    }
    e->quiet = 0;
}
void engine_set_link(Engine* e, const LinkModel* link) { Call call(e); e->host.link = *link; }
void engine_fault_reads(Engine* e, const int* faults, int count) {
    Call call(e);
    for (int k = 0; k < count; k++) e->host.read_faults.push_back((Fault)faults[k]);
}
void engine_fault_rate(Engine* e, int fault, uint32_t one_in) { Call call(e); e->host.fault_one_in[fault] = one_in; }
int engine_violations(Engine* e, char* out, int room) {
    Call call(e);
    std::string all;
    for (auto& line : e->host.violations) all += line + "\n";
    e->host.violations.clear();
    snprintf(out, room, "%s", all.c_str());
    return all.size();
}
void engine_record(Engine* e, int on) { Call call(e); e->host.record = on; e->host.accesses.clear(); e->host.faults.clear(); }
int engine_accesses(Engine* e, int faults, Access* out, int room) {
    Call call(e);
    auto& list = faults ? e->host.faults : e->host.accesses;
    int n = (int)list.size() < room ? list.size() : room;
    memcpy(out, list.data(), n * sizeof(Access));
    list.erase(list.begin(), list.begin() + n);
    return n;
}
void engine_capture(Engine* e, int on) { Call call(e); e->host.capture = on; e->host.captured.clear(); }
// Whole TLPs are given, as many as there is room for; bytes, 0 when there are no more.
int engine_captured(Engine* e, uint8_t* out, int room) {
    Call call(e);
    auto& all = e->host.captured;
    size_t n = 0;
    while (n < all.size()) {
        Capture head;
        memcpy(&head, all.data() + n, sizeof head);
        if (n + sizeof head + head.bytes > (size_t)room) break;
        n += sizeof head + head.bytes;
    }
    memcpy(out, all.data(), n);
    all.erase(all.begin(), all.begin() + n);
    return n;
}
int engine_log(Engine* e, const char* path) { Call call(e); return (e->host.log = fopen(path, "w")) != nullptr; }
// Of the cycles from ``first`` to ``last``.
void engine_start_trace(Engine* e, const char* path, uint64_t first, uint64_t last) {
    Call call(e);
    e->start_trace(path, first, last);
}
void engine_stop_trace(Engine* e) { Call call(e); e->stop_trace(); }

// Signals by name, as Verilator names them: "scope name". Those of the top, and all of them in the build with trace.
static VerilatedVar* find_signal(Engine* e, const char* scope, const char* name) {
    const VerilatedScope* found = e->context.scopeFind(scope);
    return found ? found->varFind(name) : nullptr;
}
int engine_peek(Engine* e, const char* scope, const char* name, uint8_t* out, int room) {
    Call call(e);
    VerilatedVar* var = find_signal(e, scope, name);
    if (!var) return -1;
    int n = (int)var->entSize() < room ? var->entSize() : room;
    memcpy(out, var->datap(), n);
    return n;
}
int engine_poke(Engine* e, const char* scope, const char* name, const uint8_t* value, int size) {
    Call call(e);
    VerilatedVar* var = find_signal(e, scope, name);
    if (!var || (int)var->entSize() < size) return -1;
    memset(var->datap(), 0, var->entSize());
    memcpy(var->datap(), value, size);
    return 0;
}
void engine_names(Engine* e, void (*each)(const char* scope, const char* name, int bits)) {
    Call call(e);
    for (auto& scope : *e->context.scopeNameMap())
        if (auto* vars = scope.second->varsp())
            for (auto& var : *vars) each(scope.first, var.first, var.second.entBits());
}

}
#pragma GCC visibility pop
