// The Verilated NIC, its clocks, its root complex and its wire, as a C interface for ctypes.
//
// Calls that look into the model take the lock; the model thread gives it up after a cycle when somebody waits. Frames,
// interrupts and posted writes, of which there are many, are put into a mailbox or taken from one, and stop nobody.
#include <sys/eventfd.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include "Vnic.h"
#include "root_complex.h"
#include "verilated.h"
#include "verilated_syms.h"
#include "wire.h"
#ifdef NIC_TRACE
#include "verilated_fst_c.h"
#endif

static const int LANES = NIC_WIDTH / 32;
static const int SLICE = 64;           // cycles between looks at the lock
static const int LINGER = 256;         // cycles that run on after the last work was seen
static const size_t RX_FRAMES = 1024;  // frames that wait for the card, at most
static const size_t TX_FRAMES = 65536; // frames that wait for Python
static const size_t POSTED = 16;       // writes in the mailbox; who writes faster waits for the model
static const int RESET_CYCLES = 8;

#if NIC_WIDTH <= 64
template <class T> static uint32_t get_dw(const T& port, int lane) { return (uint64_t)port >> 32 * lane; }
template <class T> static void set_dw(T& port, int lane, uint32_t dw) {
    uint64_t mask = 0xffffffffull << 32 * lane;
    port = ((uint64_t)port & ~mask) | (uint64_t)dw << 32 * lane;
}
#else
template <class T> static uint32_t get_dw(const T& port, int lane) { return port[lane]; }
template <class T> static void set_dw(T& port, int lane, uint32_t dw) { port[lane] = dw; }
#endif

struct Engine {
    VerilatedContext context;
    std::unique_ptr<Vnic> nic;
    RootComplex host;
    int gmii_ratio;
    GmiiSource source;
    GmiiSink sink;
    std::deque<Frame> to_card;
    size_t rx_at = 0;                  // beats: bytes of the front frame already given
    Frame tx_frame;
    Tlp tx_tlp;
    size_t rx_tlp_at = 0;
    uint64_t quiet = 0, busy_ns = 0;
    int irq_fd, frame_fd;

    std::mutex mail;                   // for the mailboxes
    std::deque<Frame> frames_in, from_card;
    std::deque<Tlp> writes_in;
    std::deque<Interrupt> interrupts;
    std::atomic<bool> mailed{false};   // something came in
    std::atomic<bool> asleep{false};   // and the model thread would not notice
    std::atomic<size_t> rx_frames{0};  // in ``frames_in`` and ``to_card``

    std::mutex lock;
    std::atomic<int> waiting{0};
    std::condition_variable work, answer;
    int sleepers = 0;                  // calls that wait for an answer of the host's while the thread runs
    uint64_t wakeups = 0, deadline = UINT64_MAX;
    std::thread thread;
    bool running = false;

#ifdef NIC_TRACE
    std::unique_ptr<VerilatedFstC> trace;
#endif

    Engine(const LinkModel& link, int ratio, const uint32_t* offered) : nic(), host(link), gmii_ratio(ratio) {
        context.traceEverOn(true);
        nic = std::make_unique<Vnic>(&context);
        for (int k = 0; k < 4; k++) nic->offered[k] = offered[k];
        set_link(true);
        nic->eval();
        irq_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        frame_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    }
    ~Engine() {
        stop();
        stop_trace();
        if (host.log) fclose(host.log);
        nic->final();
        close(irq_fd);
        close(frame_fd);
    }

    void eval(bool shown = true) {
        nic->eval();
#ifdef NIC_TRACE
        if (trace && shown) trace->dump(context.time());
#else
        (void)shown;
#endif
        context.timeInc(1);
    }

    // A card without waveform is built to be clocked by every change of its clocks (build.py): no evaluation is spent on a
    // clock that falls. Its outputs come from registers, so they are known before the edge.
#ifdef NIC_TRACE
    void fall(bool shown = true) { nic->clk = 0; eval(shown); }
    static void edge(CData& clock) { clock = 1; }
#else
    void fall(bool = true) {}
    static void edge(CData& clock) { clock = !clock; }
#endif

    void take_mail() {
        std::lock_guard<std::mutex> hold(mail);
        mailed = false;
        for (auto& frame : frames_in) to_card.push_back(std::move(frame));
        for (auto& tlp : writes_in) host.access(std::move(tlp), false);
        frames_in.clear();
        writes_in.clear();
    }
    // After something was put into a mailbox: the model thread may be about to sleep, or asleep.
    void came() {
        mailed = true;
        if (!asleep) return;
        waiting++;
        { std::lock_guard<std::mutex> hold(lock); }
        waiting--;
        work.notify_all();
    }
    void pass_interrupts() {
        host.intx_changed = false;
        {
            std::lock_guard<std::mutex> hold(mail);
            interrupts.insert(interrupts.end(), host.interrupts.begin(), host.interrupts.end());
        }
        host.interrupts.clear();
        eventfd_write(irq_fd, 1);
    }

    void cycle() {
        if (mailed.load(std::memory_order_relaxed)) take_mail();
        // Inputs change while the clock is low; what is accepted is seen before it rises.
        bool tx_room = host.up_ready();
        if (host.down_ready()) {
            Tlp& tlp = host.down_front();
            int left = tlp.dw.size() - rx_tlp_at, n = left < LANES ? left : LANES;
            for (int k = 0; k < n; k++) set_dw(nic->tlp_rx_data, k, tlp.dw[rx_tlp_at + k]);
            nic->tlp_rx_dws = n;
            nic->tlp_rx_last = n == left;
            nic->tlp_rx_valid = 1;
        } else {
            nic->tlp_rx_valid = 0;
        }
        nic->tlp_tx_ready = tx_room;
        drive_wire();
        fall();
        bool rx_taken = nic->tlp_rx_valid && nic->tlp_rx_ready;
        bool rx_last = nic->tlp_rx_last;
        bool tx_given = nic->tlp_tx_valid && tx_room;
        if (tx_given) {
            for (int k = 0; k < nic->tlp_tx_dws; k++) tx_tlp.dw.push_back(get_dw(nic->tlp_tx_data, k));
        }
        bool tx_last = nic->tlp_tx_last;
        sample_wire();
        edge(nic->clk);
        eval();
        host.stats[CYCLES]++;
        if (rx_taken) {
            rx_tlp_at += LANES;
            if (rx_last) { host.down_pop(); rx_tlp_at = 0; }
        }
        if (tx_given && tx_last) {
            host.up_tlp(std::move(tx_tlp));
            tx_tlp = Tlp();
        }
        host.tick();
        if (!host.interrupts.empty() || host.intx_changed) pass_interrupts();
        quiet = nic->busy || !host.idle() || tx_given || wire_busy() ? 0 : quiet + 1;
    }

    void next_frame() {
        to_card.pop_front();
        rx_frames--;
        host.stats[FRAMES_IN]++;
    }

#if defined(NIC_GMII) || defined(NIC_FRAMES)
    void set_link(bool up) { nic->link_up = up; }
#else
    void set_link(bool) {}
#endif

#ifdef NIC_GMII
    void gmii_low() {
        uint8_t rxd, dv;
        if (source.ready() && !to_card.empty()) {
            source.start(std::move(to_card.front()));
            next_frame();
        }
        source.clock(rxd, dv);
        nic->gmii_rxd = rxd;
        nic->gmii_rx_dv = dv;
        nic->gmii_rx_er = 0;
#ifdef NIC_TRACE
        nic->gmii_rx_clk = nic->gmii_tx_clk = 0;
#endif
    }
    void gmii_edge() { edge(nic->gmii_rx_clk); edge(nic->gmii_tx_clk); }
    void gmii_sample() {
        Frame frame;
        bool good = false;
        if (sink.clock(nic->gmii_txd, nic->gmii_tx_en, nic->gmii_tx_er, frame, good)) {
            if (good) give(std::move(frame)); else host.stats[BAD_FRAMES]++;
        }
    }
    void drive_wire() {
        for (int k = 1; k < gmii_ratio; k++) {
            gmii_low();
            fall(false);               // a waveform costs time for every instant that it shows
            gmii_sample();
            gmii_edge();
            eval();
        }
        gmii_low();
    }
    void sample_wire() {
        gmii_sample();
        gmii_edge();
    }
    bool wire_busy() const { return !source.ready() || !to_card.empty() || sink.active(); }
#elif defined(NIC_RANDOM)
    // Always a beat of noise for who wants one.
    std::mt19937 noise{(uint32_t)host.link.seed};
    bool drawn = false;
    void drive_wire() {
        if (!drawn) for (int k = 0; k < LANES; k++) set_dw(nic->random_data, k, noise());
        drawn = nic->random_valid = 1;
    }
    void sample_wire() { if (nic->random_ready) drawn = false; }
    bool wire_busy() const { return false; }
#elif defined(NIC_FRAMES)
    void drive_wire() {
        const int bytes = NIC_WIDTH / 8;
        nic->frame_rx_valid = !to_card.empty();
        if (!to_card.empty()) {
            Frame& frame = to_card.front();
            int left = frame.size() - rx_at, n = left < bytes ? left : bytes;
            uint32_t words[LANES] = {};
            memcpy(words, frame.data() + rx_at, n);
            for (int k = 0; k < LANES; k++) set_dw(nic->frame_rx_data, k, words[k]);
            nic->frame_rx_count = n;
            nic->frame_rx_last = n == left;
            nic->frame_rx_error = 0;
        }
        nic->frame_tx_ready = 1;
    }
    void sample_wire() {
        if (nic->frame_rx_valid && nic->frame_rx_ready) {
            rx_at += NIC_WIDTH / 8;
            if (rx_at >= to_card.front().size()) { next_frame(); rx_at = 0; }
        }
        if (nic->frame_tx_valid) {
            uint32_t words[LANES];
            for (int k = 0; k < LANES; k++) words[k] = get_dw(nic->frame_tx_data, k);
            tx_frame.insert(tx_frame.end(), (uint8_t*)words, (uint8_t*)words + nic->frame_tx_count);
            if (nic->frame_tx_last) { give(std::move(tx_frame)); tx_frame = Frame(); }
        }
    }
    bool wire_busy() const { return !to_card.empty() || !tx_frame.empty(); }
#else
    void drive_wire() {}
    void sample_wire() {}
    bool wire_busy() const { return false; }
#endif

    void give(Frame frame) {
        {
            std::lock_guard<std::mutex> hold(mail);
            if (from_card.size() >= TX_FRAMES) { host.stats[FRAMES_LOST]++; return; }
            from_card.push_back(std::move(frame));
        }
        host.stats[FRAMES_OUT]++;
        eventfd_write(frame_fd, 1);
    }

    void slice(uint64_t cycles, bool give_way = false) {
        auto start = std::chrono::steady_clock::now();
        for (uint64_t k = 0; k < cycles && !(give_way && waiting.load(std::memory_order_relaxed)); k++) cycle();
        busy_ns += std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
    }

    void reset() {
        take_mail();
        host.reset();
        rx_tlp_at = 0;
        tx_tlp = Tlp();
        nic->rst = 1;
        for (int k = 0; k < RESET_CYCLES; k++) cycle();
        host.reset();                  // and what came while the reset took hold
        tx_tlp = Tlp();
        tx_frame = Frame();
        if (rx_at) { rx_at = 0; next_frame(); }
        {
            std::lock_guard<std::mutex> hold(mail);
            interrupts.clear();
        }
        nic->rst = 0;
        quiet = 0;
    }

    void loop() {
        std::unique_lock<std::mutex> hold(lock);
        while (running) {
            if (quiet > LINGER && host.idle() && !wire_busy()) {
                asleep = true;
                if (mailed) {
                    asleep = false;
                    take_mail();
                    continue;
                }
                // Timers inside the card go on, slowly, while nothing happens.
                if (work.wait_for(hold, std::chrono::milliseconds(5)) == std::cv_status::timeout) quiet = LINGER / 2;
                else quiet = 0;
                asleep = false;
                continue;
            }
            slice(SLICE, true);
            if (host.news || host.stats[CYCLES] > deadline) wake();
            if (waiting.load()) {
                hold.unlock();
                while (waiting.load()) std::this_thread::yield();
                hold.lock();
            }
        }
    }

    // A mutex is not fair: whoever is to have it is counted, and the model thread stands back.
    void wake() {
        host.news = false;
        waiting += sleepers;
        sleepers = 0;
        deadline = UINT64_MAX;
        wakeups++;
        answer.notify_all();
    }

    // Let time pass until something may have changed for a request that gives up after cycle ``until``.
    void pass(std::unique_lock<std::mutex>& hold, uint64_t until) {
        if (!running) return slice(1);
        uint64_t seen = wakeups;
        sleepers++;
        deadline = std::min(deadline, until);
        work.notify_all();
        answer.wait(hold, [&] { return wakeups != seen; });
        waiting--;
    }
    void start() {
        waiting++;
        std::unique_lock<std::mutex> hold(lock);
        waiting--;
        if (running) return;
        running = true;
        thread = std::thread([this] { loop(); });
    }
    void stop() {
        {
            waiting++;
            std::unique_lock<std::mutex> hold(lock);
            waiting--;
            if (!running) return;
            running = false;
        }
        work.notify_all();
        thread.join();
        std::unique_lock<std::mutex> hold(lock);
        wake();                        // whoever waits turns the clock himself now
    }
    void start_trace(const char* path) {
#ifdef NIC_TRACE
        trace = std::make_unique<VerilatedFstC>();
        nic->trace(trace.get(), 99);
        trace->open(path);
#else
        (void)path;
#endif
    }
    void stop_trace() {
#ifdef NIC_TRACE
        if (trace) { trace->close(); trace.reset(); }
#endif
    }
};

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

extern "C" {

// ``offered``: 128 bits, which device features the card is to offer.
Engine* engine_new(const LinkModel* link, int gmii_ratio, const uint32_t* offered) {
    return new Engine(*link, gmii_ratio, offered);
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

// Run until the card is idle, an interrupt or a frame comes; cycles run, or ``limit`` of them.
uint64_t engine_run_until(Engine* e, int idle, int interrupt, int frame, uint64_t limit) {
    Call call(e);
    auto& stats = e->host.stats;
    uint64_t run = 0, interrupts = stats[INTERRUPTS], frames = stats[FRAMES_OUT];
    if (idle) e->quiet = 0;
    while (run < limit) {
        e->slice(1);
        run++;
        if (idle && e->quiet > LINGER) break;
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
void engine_start_trace(Engine* e, const char* path) { Call call(e); e->start_trace(path); }
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
