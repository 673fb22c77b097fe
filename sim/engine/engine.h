// The Verilated NIC, its clocks, its root complex and its wire.
//
// Calls that look into the model take the lock; the model thread gives it up after a cycle when somebody waits. Frames,
// interrupts and posted writes, of which there are many, are put into a mailbox or taken from one, and stop nobody.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include "phy.h"
#include "root_complex.h"
#include "verilated.h"
#include "wire.h"

class VerilatedFstC;
class Vnic;

const uint64_t LINGER = 256;           // cycles that run on after the last work was seen

// Hidden: in a shared library nothing else can be inlined into what calls it, and a cycle is made of many calls.
class __attribute__((visibility("hidden"))) Engine {
public:
    Engine(const LinkModel& link, int ratio, const uint32_t* offered, uint64_t mac_address);
    ~Engine();

    // Time, and the model: the lock is held.
    void slice(uint64_t cycles, bool give_way = false);
    // Let time pass until something may have changed for a request that gives up after cycle ``until``.
    void pass(std::unique_lock<std::mutex>& hold, uint64_t until);
    void take_mail();
    void reset();
    void set_link(bool up);
    bool ethernet_up() const;          // of a board's card: it has found the link of its PHY
    void start_trace(const char* path, uint64_t first, uint64_t last);
    void stop_trace();

    // For anybody.
    void start();
    void stop();
    void came();                       // something was put into a mailbox

    VerilatedContext context;
    std::unique_ptr<Vnic> nic;
    RootComplex host;
    uint64_t quiet = 0, busy_ns = 0;
    int irq_fd, frame_fd;

    std::mutex mail;                   // for the mailboxes
    std::deque<Frame> frames_in, from_card;
    std::deque<Tlp> writes_in;
    std::deque<Interrupt> interrupts;
    std::atomic<size_t> rx_frames{0};  // in ``frames_in`` and ``to_card``

    // A mutex is not fair: whoever is to have it is counted, and the model thread stands back.
    std::mutex lock;
    std::atomic<int> waiting{0};
    std::condition_variable work;

private:
    void eval(bool shown = true);
    void fall(bool shown = true);
    void cycle();
    void pass_interrupts();
    void next_frame();
    void give(Frame frame);
    void loop();
    void wake();

    // What is outside: a GMII, an RGMII, frames, noise, or nothing; and the PHY of a board.
    void drive_wire();
    void sample_wire();
    bool wire_busy() const;
    void wire_in(uint8_t& rxd, uint8_t& dv);
    void wire_out(uint8_t txd, bool en, bool er);
    void gmii_low();
    void gmii_edge();
    void gmii_sample();
    void rgmii_period();
    void rgmii_sample();
    void manage_phy();
    bool phy_news() const;             // the card has not learned yet whether its PHY has a link

    int gmii_ratio;
    GmiiSource source;
    GmiiSink sink;
    Phy phy;
    bool mdc_before = false, broken_before = false, txc_before = false, tx_en = false;
    uint8_t tx_low = 0;
    std::deque<Frame> to_card;
    size_t rx_at = 0;                  // beats: bytes of the front frame already given
    Frame tx_frame;
    std::mt19937 noise;
    bool drawn = false;                // a beat of noise is there
    Tlp tx_tlp;
    size_t rx_tlp_at = 0;

    std::atomic<bool> mailed{false};   // something came in
    std::atomic<bool> asleep{false};   // and the model thread would not notice
    std::condition_variable answer;
    int sleepers = 0;                  // calls that wait for an answer of the host's while the thread runs
    uint64_t wakeups = 0, deadline = UINT64_MAX;
    std::thread thread;
    bool running = false;

#ifdef NIC_TRACE
    std::unique_ptr<VerilatedFstC> trace;
    uint64_t trace_first = 0, trace_last = 0;   // cycles, both shown
#endif
};
