// A driver in user space for the endpoint of tests/sim/attach/scrambler.v, through the guest's own VFIO: all BARs, DMA through
// the IOMMU, and each kind of interrupt. Says what worked, one line each; ends with a word on what did not.
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SRC, SRC_HIGH, DST, DST_HIGH, DWS, GO, DONE, KEY };    // registers, DWs in BAR 0
static const uint64_t SOURCE = 0x10000, TARGET = 0x140000000; // bus addresses, below and above 4 GiB
static const int PAGE = 4096, PATIENCE_MS = 60000;

static int device;
static volatile uint32_t *registers;
static uint32_t *source, *target;

static void die(const char *what) { perror(what); exit(1); }
static int must(int result, const char *what) { if (result < 0) die(what); return result; }

static vfio_region_info region(uint32_t index) {
    vfio_region_info info = {};
    info.argsz = sizeof info;
    info.index = index;
    must(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info), "region");
    return info;
}
static void *mapped(uint32_t index) {
    vfio_region_info info = region(index);
    void *memory = mmap(nullptr, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, info.offset);
    if (memory == MAP_FAILED) die("mmap of a BAR");
    return memory;
}

// VFIO_DEVICE_SET_IRQS for ``count`` eventfds from vector 0; none of them disables.
static void irqs(uint32_t index, uint32_t flags, uint32_t count, const int *fds) {
    char room[sizeof(vfio_irq_set) + 2 * sizeof(int)] = {};
    vfio_irq_set *set = (vfio_irq_set *)room;
    set->argsz = sizeof(vfio_irq_set) + (fds ? count * sizeof(int) : 0);
    set->flags = flags;
    set->index = index;
    set->count = count;
    if (fds) memcpy(set->data, fds, count * sizeof(int));
    must(ioctl(device, VFIO_DEVICE_SET_IRQS, set), "irqs");
}
static bool came(int fd, int patience) {
    pollfd waits = {fd, POLLIN, 0};
    uint64_t count;
    return poll(&waits, 1, patience) == 1 && read(fd, &count, sizeof count) == sizeof count;
}

// Have ``dws`` copied, with a pattern that begins with ``seed``, and wait for ``fd``.
static void copy(const char *how, uint32_t vector, uint32_t seed, uint32_t dws, int fd) {
    for (uint32_t k = 0; k < 16; k++) { source[k] = seed + k * 0x01010101; target[k] = 0; }
    registers[SRC] = (uint32_t)SOURCE;
    registers[SRC_HIGH] = SOURCE >> 32;
    registers[DST] = (uint32_t)TARGET;
    registers[DST_HIGH] = TARGET >> 32;
    registers[DWS] = dws;
    registers[GO] = vector;
    if (!came(fd, PATIENCE_MS)) { printf("%s: no interrupt\n", how); exit(1); }
    uint32_t key = registers[KEY];
    for (uint32_t k = 0; k < 16; k++)
        if (target[k] != (k < dws ? source[k] ^ key : 0)) { printf("%s: DW %u is %08x\n", how, k, target[k]); exit(1); }
    printf("%s, vector %u: %u DWs\n", how, vector, dws);
}

static void map(int container, void *memory, uint64_t iova) {
    vfio_iommu_type1_dma_map map = {sizeof map, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, (uint64_t)memory, iova,
                                    (uint64_t)PAGE};
    must(ioctl(container, VFIO_IOMMU_MAP_DMA, &map), "DMA map");
}

int main(int, char **argv) {                                  // PCI address, number of its IOMMU group
    char path[64];
    setvbuf(stdout, nullptr, _IOLBF, 0);
    snprintf(path, sizeof path, "/dev/vfio/%s", argv[2]);
    int container = must(open("/dev/vfio/vfio", O_RDWR), "container"), group = must(open(path, O_RDWR), "group");
    must(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container), "set container");
    must(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), "set IOMMU");
    device = must(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[1]), "device");
    uint16_t command = 7;                                     // I/O, memory, bus master
    must(pwrite(device, &command, 2, region(VFIO_PCI_CONFIG_REGION_INDEX).offset + 4), "command");

    registers = (volatile uint32_t *)mapped(0);
    volatile uint32_t *ram = (volatile uint32_t *)mapped(2);
    printf("BARs %llx, %llx, %llx; key %08x\n", region(0).size, region(2).size, region(4).size, registers[KEY]);
    ram[0] = 0x12345678;
    ram[4095] = 0x9abcdef0;
    ((volatile uint8_t *)ram)[1] = 0xee;
    printf("BAR 2: %08x %08x\n", ram[0], ram[4095]);
    uint32_t value = 0xcafe0001;
    must(pwrite(device, &value, 4, region(4).offset + 8), "I/O write");
    must(pread(device, &value, 4, region(4).offset + 8), "I/O read");
    printf("BAR 4: %08x, as BAR 0 has it: %08x\n", value, registers[DST]);

    void *memory = mmap(nullptr, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    source = (uint32_t *)memory;
    target = source + PAGE / 4;
    map(container, source, SOURCE);
    map(container, target, TARGET);

    const uint32_t listen = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    const uint32_t forget = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
    const int fds[] = {eventfd(0, 0), eventfd(0, 0)};
    struct { const char *how; uint32_t index; } kinds[] = {{"MSI-X", VFIO_PCI_MSIX_IRQ_INDEX}, {"MSI", VFIO_PCI_MSI_IRQ_INDEX}};
    for (auto &kind : kinds) {
        // A kernel may give MSI only one vector.
        uint32_t vectors = kind.index == VFIO_PCI_MSIX_IRQ_INDEX ? 2 : 1;
        irqs(kind.index, listen, vectors, fds);
        for (uint32_t vector = 0; vector < vectors; vector++)
            copy(kind.how, vector, 0x100 * vector + kind.index, 16, fds[vector]);
        registers[DONE] = 1;
        irqs(kind.index, forget, 0, nullptr);
    }
    irqs(VFIO_PCI_INTX_IRQ_INDEX, listen, 1, fds);
    for (uint32_t k = 1; k <= 3; k++) {
        copy("INTx", 0, 0x1000 * k, 5 * k, fds[0]);
        registers[DONE] = 1;
        (void)registers[DONE];                                // the write has arrived
        irqs(VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 1, nullptr);
        if (came(fds[0], 100)) { printf("INTx: one too many\n"); return 1; }
    }
    printf("all done\n");
}
