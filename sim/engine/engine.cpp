// A cycle of the model, what is outside of it, and the thread that it runs in.
#include "engine.h"
#include <sys/eventfd.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cstring>
#include "Vnic.h"
#include "Vnic___024root.h"
#ifdef NIC_TRACE
#include "verilated_fst_c.h"
#else
// The whole of an evaluation for a model without ``$display`` and waveform: what Vnic::eval() adds is locks.
void Vnic___024root___eval(Vnic___024root*);
#endif

static const int LANES = NIC_WIDTH / 32;
static const int SLICE = 64;           // cycles between looks at the lock
static const size_t TX_FRAMES = 65536; // frames that wait for Python
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

Engine::Engine(const LinkModel& link, int ratio, const uint32_t* offered, uint64_t mac_address)
    : host(link), gmii_ratio(ratio), noise((uint32_t)link.seed) {
    context.traceEverOn(true);
    nic = std::make_unique<Vnic>(&context);
#ifdef NIC_MDIO
    (void)offered;                     // a board's card offers what it was built to offer
#else
    for (int k = 0; k < 4; k++) nic->offered[k] = offered[k];
#endif
#ifdef NIC_MAC_ADDRESS
    nic->mac_address = mac_address;
#else
    (void)mac_address;                 // it has another source, or none
#endif
    set_link(true);
    nic->eval();
    irq_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    frame_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}
Engine::~Engine() {
    stop();
    stop_trace();
    if (host.log) fclose(host.log);
    nic->final();
    close(irq_fd);
    close(frame_fd);
}

#ifdef NIC_TRACE
void Engine::eval(bool shown) {
    nic->eval();
    if (trace && shown && host.now >= trace_first && host.now <= trace_last) trace->dump(context.time());
    context.timeInc(1);
}
#else
void Engine::eval(bool) { Vnic___024root___eval(nic->rootp); }
#endif
// A card that nothing falling clocks is built to be clocked by every change of its clocks (build.py): no evaluation is spent
// on a clock that falls. Its outputs come from registers, so they are known before the edge.
#ifdef NIC_BOTH_EDGES
void Engine::fall(bool shown) { nic->clk = 0; eval(shown); }
static void edge(CData& clock) { clock = 1; }
#else
void Engine::fall(bool) {}
static void edge(CData& clock) { clock = !clock; }
#endif

void Engine::take_mail() {
    std::lock_guard<std::mutex> hold(mail);
    mailed = false;
    for (auto& frame : frames_in) to_card.push_back(std::move(frame));
    for (auto& tlp : writes_in) host.access(std::move(tlp), false);
    frames_in.clear();
    writes_in.clear();
}
// The model thread may be about to sleep, or asleep.
void Engine::came() {
    mailed = true;
    if (!asleep) return;
    waiting++;
    { std::lock_guard<std::mutex> hold(lock); }
    waiting--;
    work.notify_all();
}
void Engine::pass_interrupts() {
    host.intx_changed = false;
    {
        std::lock_guard<std::mutex> hold(mail);
        interrupts.insert(interrupts.end(), host.interrupts.begin(), host.interrupts.end());
    }
    host.interrupts.clear();
    eventfd_write(irq_fd, 1);
}

void Engine::cycle() {
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
    // A host that resets the slot hears nothing: what is under way is cut, and its rest is no TLP.
    bool tx_given = nic->tlp_tx_valid && tx_room && !nic->rst;
    if (tx_given) {
        for (int k = 0; k < nic->tlp_tx_dws; k++) tx_tlp.dw.push_back(get_dw(nic->tlp_tx_data, k));
    }
    bool tx_last = nic->tlp_tx_last;
    sample_wire();
    edge(nic->clk);
    eval();
    manage_phy();
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

void Engine::next_frame() {
    to_card.pop_front();
    rx_frames--;
    host.stats[FRAMES_IN]++;
}

#ifdef NIC_MDIO
void Engine::set_link(bool up) { phy.link(up); }
bool Engine::ethernet_up() const { return nic->ethernet_up; }
bool Engine::phy_news() const { return nic->ethernet_up != phy.up(); }
void Engine::manage_phy() {
    bool mdc = nic->mdc;
    if (mdc && !mdc_before) phy.rise(nic->mdio);
    mdc_before = mdc;
    if (nic->broken && !broken_before) host.violation("the model of the block was misused, or its completion buffer ran over");
    broken_before = nic->broken;
    nic->phy_drives = phy.drives;
    nic->phy_mdio = phy.bit;
}
#else
#if defined(NIC_GMII) || defined(NIC_FRAMES)
void Engine::set_link(bool up) { nic->link_up = up; }
bool Engine::ethernet_up() const { return nic->link_up; }
#else
void Engine::set_link(bool) {}
bool Engine::ethernet_up() const { return false; }
#endif
bool Engine::phy_news() const { return false; }
void Engine::manage_phy() {}
#endif

#if defined(NIC_GMII) || defined(NIC_RGMII)
// A byte of each way in a period of the MAC's clock.
void Engine::wire_in(uint8_t& rxd, uint8_t& dv) {
    if (source.ready() && !to_card.empty()) {
        source.start(std::move(to_card.front()));
        next_frame();
    }
    source.clock(rxd, dv);
}
void Engine::wire_out(uint8_t txd, bool en, bool er) {
    Frame frame;
    bool good = false;
    if (sink.clock(txd, en, er, frame, good)) {
        if (good) give(std::move(frame)); else host.stats[BAD_FRAMES]++;
    }
}
bool Engine::wire_busy() const { return !source.ready() || !to_card.empty() || sink.active() || phy_news(); }
#endif

#ifdef NIC_GMII
void Engine::gmii_low() {
    uint8_t rxd, dv;
    wire_in(rxd, dv);
    nic->gmii_rxd = rxd;
    nic->gmii_rx_dv = dv;
    nic->gmii_rx_er = 0;
#ifdef NIC_BOTH_EDGES
    nic->gmii_rx_clk = nic->gmii_tx_clk = 0;
#endif
}
void Engine::gmii_edge() { edge(nic->gmii_rx_clk); edge(nic->gmii_tx_clk); }
void Engine::gmii_sample() {
    wire_out(nic->gmii_txd, nic->gmii_tx_en, nic->gmii_tx_er);
}
void Engine::drive_wire() {
    for (int k = 1; k < gmii_ratio; k++) {
        gmii_low();
        fall(false);               // a waveform costs time for every instant that it shows
        gmii_sample();
        gmii_edge();
        eval();
    }
    gmii_low();
}
void Engine::sample_wire() {
    gmii_sample();
    gmii_edge();
}
#elif defined(NIC_RGMII)
// A period of 125 MHz in quarters. The card delays TXC by one of them, and the PHY RXC.
void Engine::rgmii_period() {
    uint8_t rxd, dv;
    wire_in(rxd, dv);
    // RGMII 2.0, 3.4.1: between frames the PHY shows the state of the link.
    if (!dv) rxd = phy.up() ? LINK_SHOWN | LINK_SHOWN << 4 : 0;
    nic->rgmii_rx_ctl = dv;            // of both edges: there is no error
    nic->rgmii_rxd = rxd & 15;
    nic->gmii_tx_clk = 1;
    eval(false);                       // a waveform costs time for every instant that it shows
    nic->gmii_tx_90_clk = nic->rgmii_rxc = 1;
    eval(false);
    rgmii_sample();
    nic->rgmii_rxd = rxd >> 4;
    nic->gmii_tx_clk = 0;
    eval(false);
    nic->gmii_tx_90_clk = nic->rgmii_rxc = 0;
    eval(false);
    rgmii_sample();
}
// RGMII 2.0, 3.3 and 3.4: bits 0 to 3 and TX_EN with the rising TXC, bits 4 to 7 and TX_EN xor TX_ER with the falling one.
void Engine::rgmii_sample() {
    bool txc = nic->rgmii_txc;
    if (txc == txc_before) return;
    txc_before = txc;
    if (txc) {
        tx_low = nic->rgmii_txd;
        tx_en = nic->rgmii_tx_ctl;
        return;
    }
    wire_out(tx_low | nic->rgmii_txd << 4, tx_en, tx_en != nic->rgmii_tx_ctl);
}
void Engine::drive_wire() { for (int k = 0; k < gmii_ratio; k++) rgmii_period(); }
void Engine::sample_wire() {}
#elif defined(NIC_RANDOM)
// Always a beat of noise for who wants one.
void Engine::drive_wire() {
    if (!drawn) for (int k = 0; k < LANES; k++) set_dw(nic->random_data, k, noise());
    drawn = nic->random_valid = 1;
}
void Engine::sample_wire() { if (nic->random_ready) drawn = false; }
bool Engine::wire_busy() const { return false; }
#elif defined(NIC_FRAMES)
void Engine::drive_wire() {
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
void Engine::sample_wire() {
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
bool Engine::wire_busy() const { return !to_card.empty() || !tx_frame.empty(); }
#else
void Engine::drive_wire() {}
void Engine::sample_wire() {}
bool Engine::wire_busy() const { return false; }
#endif

void Engine::give(Frame frame) {
    {
        std::lock_guard<std::mutex> hold(mail);
        if (from_card.size() >= TX_FRAMES) { host.stats[FRAMES_LOST]++; return; }
        from_card.push_back(std::move(frame));
    }
    host.stats[FRAMES_OUT]++;
    eventfd_write(frame_fd, 1);
}

void Engine::slice(uint64_t cycles, bool give_way) {
    auto start = std::chrono::steady_clock::now();
    for (uint64_t k = 0; k < cycles && !(give_way && waiting.load(std::memory_order_relaxed)); k++) cycle();
    busy_ns += std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
}

void Engine::reset() {
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

void Engine::loop() {
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

void Engine::wake() {
    host.news = false;
    waiting += sleepers;
    sleepers = 0;
    deadline = UINT64_MAX;
    wakeups++;
    answer.notify_all();
}

void Engine::pass(std::unique_lock<std::mutex>& hold, uint64_t until) {
    if (!running) return slice(1);
    uint64_t seen = wakeups;
    sleepers++;
    deadline = std::min(deadline, until);
    work.notify_all();
    answer.wait(hold, [&] { return wakeups != seen; });
    waiting--;
}
void Engine::start() {
    waiting++;
    std::unique_lock<std::mutex> hold(lock);
    waiting--;
    if (running) return;
    running = true;
    thread = std::thread([this] { loop(); });
}
void Engine::stop() {
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
void Engine::start_trace(const char* path, uint64_t first, uint64_t last) {
#ifdef NIC_TRACE
    trace = std::make_unique<VerilatedFstC>();
    nic->trace(trace.get(), 99);
    trace->open(path);
    trace_first = first;
    trace_last = last;
#else
    (void)path, (void)first, (void)last;
#endif
}
void Engine::stop_trace() {
#ifdef NIC_TRACE
    if (trace) { trace->close(); trace.reset(); }
#endif
}
