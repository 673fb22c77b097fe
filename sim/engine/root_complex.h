// The host: memory, interrupts, configuration and MMIO requests, behind a link with a rate and a latency.
#pragma once
#include <array>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <vector>
#include "tlp.h"

struct LinkModel {                 // shared with Python (ctypes)
    double bytes_per_cycle;        // of TLPs with framing, each way
    uint32_t read_latency;         // core cycles from request to first completion
    uint32_t jitter;               // up to this many more, drawn for each read; completions of different tags overtake
    uint32_t mps, rcb;             // bytes
    uint32_t credits;              // bytes that the host buffers of what the card sends
    uint32_t split;                // one completion in this many is cut at an RCB; 0: never more than needed
    uint32_t tear;                 // every 8 bytes of a read are as they were at some cycle of so many; 0: all at once
    uint32_t completion;           // bytes of the longest completion
    uint64_t seed;
};

enum Stat {                        // in the order of Engine.STATS
    CYCLES, MRD_UP, MWR_UP, MSG_UP, CPL_DOWN, CFG_DOWN, MRD_DOWN, MWR_DOWN, CPL_UP, BYTES_UP, BYTES_DOWN, FRAMES_IN, FRAMES_OUT,
    FRAMES_LOST, BAD_FRAMES, INTERRUPTS, DMA_FAULTS, MAX_READS, VIOLATIONS, STAT_COUNT
};

enum Fault { NO_FAULT, FAULT_UR, FAULT_CA, FAULT_POISON, FAULT_LOST, FAULT_DUPLICATE, FAULT_COUNT };

const uint16_t CARD_ID = 0x0100;   // bus 1, device 0, function 0

struct Region { uint64_t iova, size; uint8_t* host; bool writable; };
enum AccessKind { DMA_READ, DMA_WRITE, DMA_ANSWER };    // the last completion of a read has left the host
struct Access { uint64_t addr; uint32_t len; uint32_t kind; uint64_t cycle; };
struct Store { uint64_t at; uint64_t addr; uint32_t len; uint32_t pad; uint8_t data[8]; };
enum Way { DOWN, UP, RESET };      // the card took it, the card has sent it; the card was reset
struct Capture { uint64_t cycle; uint32_t way; uint32_t bytes; };
struct Interrupt { uint64_t addr; uint32_t data; uint32_t pad; };

class RootComplex {
public:
    explicit RootComplex(const LinkModel& link) : link(link), random(link.seed) {}

    // Host side
    int access(Tlp tlp, bool answered);                 // tag, or -1 when all are in use
    bool answered(int tag, Tlp& completion);
    void abandon(int tag);                              // its answer, should it come, is nobody's
    bool full() const { return down.size() >= 64; }     // the host's own requests wait
    void map(const Region& region) { regions[region.iova] = region; }
    bool unmap(uint64_t iova) { return regions.erase(iova); }
    void store_later(const Store& store) { stores.insert({store.at, store}); }   // by a driver, while time passes

    // Link side, once a cycle
    bool down_ready() const { return !down.empty() && down.front().at <= now; }
    Tlp& down_front() { return down.front().tlp; }
    void down_pop() { news |= full(); keep(DOWN, down.front().tlp); down.pop_front(); }
    bool up_ready() const { return up_free - now < link.credits / link.bytes_per_cycle; }
    void up_tlp(Tlp tlp);                               // a whole TLP came from the card
    void tick();
    void reset();                                       // the card was reset: what is under way is forgotten
    void violation(const std::string& text);            // something that must not be was seen
    bool idle() const { return down.empty() && up.empty() && reads.empty() && outstanding == 0 && stores.empty(); }

    LinkModel link;
    double now = 0;
    std::array<uint64_t, STAT_COUNT> stats{};
    std::deque<Interrupt> interrupts;
    bool intx = false;
    bool intx_changed = false;
    bool news = false;                                  // a request got its answer, or there is room for one
    bool record = false;
    std::vector<Access> accesses;
    std::vector<Access> faults;
    std::deque<Fault> read_faults;                      // for the next reads, in turn
    std::array<uint32_t, FAULT_COUNT> fault_one_in{};   // of other reads one in so many, by chance; 0: none
    std::vector<std::string> violations;                // what no card may send, the first of them
    uint64_t msi_base = 0xfee00000, msi_end = 0xfef00000;
    FILE* log = nullptr;
    bool capture = false;
    std::vector<uint8_t> captured;                      // TLPs at the card's edge, in order: Capture, then the TLP

private:
    struct Timed { double at; Tlp tlp; };
    using Bytes = std::shared_ptr<std::vector<uint8_t>>;
    // ``addr``, ``left``: what is still to be answered of ``size`` bytes at ``start``. ``torn``: them as they were looked at.
    struct Read {
        double at; uint64_t order; Tlp tlp; Fault fault; uint64_t addr; int left; uint64_t start; int size; Bytes torn;
    };
    struct Sample { uint64_t addr; uint32_t len; uint8_t* into; Bytes torn; };
    struct Later { bool operator()(const Read& a, const Read& b) const {
        return a.at != b.at ? a.at > b.at : a.order > b.order; } };

    void send_down(Tlp tlp);
    void carry_out(const Tlp& tlp);
    void accept(const Tlp& tlp);
    void tear(Read& read);
    void answered(const Read& read);
    void complete(Read read);
    Fault draw_fault();
    void check(const Tlp& tlp);
    void violation(const char* rule, const Tlp& tlp);
    uint8_t* find(uint64_t addr, uint64_t len, bool write);
    void write_memory(const Tlp& tlp);
    void keep(Way way, const Tlp& tlp);
    void note(const char* way, const Tlp& tlp) { if (log) fprintf(log, "%10.0f %s %s\n", now, way, tlp.text().c_str()); }

    std::deque<Timed> down, up;
    double down_free = 0, up_free = 0;
    std::priority_queue<Read, std::vector<Read>, Later> reads;
    uint64_t order = 0;
    std::multimap<double, Sample> samples;
    std::multimap<uint64_t, Store> stores;
    std::map<uint64_t, Region> regions;
    enum TagState { FREE, WAITS, ANSWERED, ABANDONED };
    std::array<TagState, 256> tags{};
    std::array<bool, 256> card_tags{};                  // reads of the card that are not completed
    std::array<Tlp, 256> answers;
    int next_tag = 0, outstanding = 0;
    std::mt19937_64 random;
};
