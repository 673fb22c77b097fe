"""``ringnic devices``: the cards in this machine, and what is in the way of giving them to a guest."""

from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...hdl.spec.virtio import VIRTIO_ID_NET, VIRTIO_PCI_DEVICE_ID_BASE, VIRTIO_PCI_VENDOR_ID
from ..features import names
from ..results import write_json
from .checks import answers, in_the_way
from .sysfs import VFIO_PCI
from .window import Config, Unreadable, build_id, offered_features

__all__ = ["Card", "look", "run_devices", "show"]

NETWORK_CARDS = (VIRTIO_PCI_DEVICE_ID_BASE + VIRTIO_ID_NET, 0x1000)  # modern, transitional
WIDTH = 80                   # columns

NONE = ("No RingNIC and no virtio network card here: look with `lspci -nn -d 1af4:`, look again with "
        "`echo 1 > /sys/bus/pci/rescan` as root, load one with `ringnic flash`, or use the simulated one: `ringnic demo`.")


@dataclass
class Card:
    """A function as people want to know it.

    ``ringnic``: None if it cannot be told, ``unread`` says why. ``build_id``: eight hexadecimal digits. ``link``: None for
    what the kernel does not know. ``features``: names, of what driver and card agreed upon if ``driver`` is virtio_pci's,
    else of what the card offers; None if they cannot be read. ``in_the_way``: of passthrough, in sentences.
    """
    address: str
    ids: str
    ringnic: bool | None
    build_id: str | None
    unread: str | None
    answers: bool
    driver: str | None
    interfaces: list
    iommu_group: str | None
    shared_with: list
    link: dict
    msix_vectors: int | None
    reset_methods: list
    numa_node: int | None
    features: list | None
    in_the_way: list

    @property
    def link_is_down(self):
        return self.link["width"] is None and self.link["max_width"] is not None

    @property
    def link_is_less(self):
        """It could be faster or wider."""
        return (self.link["speed"], self.link["width"]) != (self.link["max_speed"], self.link["max_width"])


def look(function):
    """Return the :class:`Card` of a function, or None if it is neither a RingNIC nor a virtio network card."""
    if function.vendor_id != VIRTIO_PCI_VENDOR_ID:
        return None
    alive, build, unread, features = answers(function), None, None, function.virtio_features()
    if alive:
        try:
            build = build_id(function)
        except Unreadable as reason:
            unread = f"{reason}"
        if features is None and function.driver is None:
            try:
                features = offered_features(function)
            except Unreadable as reason:
                unread = f"{reason}"
    if function.device_id not in NETWORK_CARDS and build is None:
        return None
    speed, width, most_speed, most_width = function.link()
    return Card(
        address=function.address, ids=f"{function.vendor_id:04x}:{function.device_id:04x}",
        ringnic=True if build is not None else None if unread or not alive else False,
        build_id=None if build is None else f"{build:08x}", unread=unread, answers=alive, driver=function.driver,
        interfaces=function.interfaces(), iommu_group=function.iommu_group,
        shared_with=[f"{other} ({other.driver or 'no driver'})" for other in function.group_members()],
        link={"speed": speed, "width": width, "max_speed": most_speed, "max_width": most_width},
        msix_vectors=Config(function).msix_vectors() if alive else None, reset_methods=function.reset_methods,
        numa_node=function.numa_node, features=None if features is None else names(features), in_the_way=in_the_way(function))


def _link(card):
    speed, width, most_speed, most_width = card.link.values()
    if card.link_is_down:
        return Text("down", "red")
    if speed is None:
        return Text("not told by the kernel", "dim")
    now, most = (f"{speed.removesuffix(' PCIe')} x{width}" for speed, width in ((speed, width), (most_speed or "?", most_width)))
    return Text(f"{now}, although the card can {most}", "yellow") if card.link_is_less else Text(now)


def _features(card):
    if card.features is None:
        reason = {VFIO_PCI: "in use by vfio-pci", None: card.unread or "needs root"}.get(card.driver, "not told by the driver")
        return Text(reason, "dim")
    return Text(", ".join(card.features) + (f" (agreed with {card.driver})" if card.driver else " (offered)"))


def _way_out(card):
    if card.in_the_way:
        return Text("\n".join(card.in_the_way), "red")
    if card.driver == VFIO_PCI:
        return Text(f"ready: ringnic guest {card.address}", "green")
    return Text(f"nothing is in the way: ringnic bind {card.address}", "green")


def show(card, console):
    """Print a card, a line for each thing worth knowing."""
    kind = {True: f"RingNIC, build {card.build_id}", False: "another virtio network card",
            None: "a virtio network card" + (f"; build id: {card.unread}" if card.unread else "")}[card.ringnic]
    console.print(Text.assemble((card.address, "bold"), f"  {card.ids}  {kind}"))
    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    reset = (Text(", ".join(card.reset_methods)) if card.reset_methods else
             Text("none: what a guest leaves in the card stays there", "yellow"))
    rows = {
        "Driver": Text(", ".join((card.driver or "none", *card.interfaces))),
        "IOMMU group": Text("none" if card.iommu_group is None else
                            f"{card.iommu_group}, shared with {', '.join(card.shared_with)}" if card.shared_with else
                            f"{card.iommu_group}, alone"),
        "Link": _link(card),
        "MSI-X": Text("needs root" if card.answers else "-", "dim") if card.msix_vectors is None else
                 Text(f"{card.msix_vectors} vectors"),
        "Reset": reset,
        "NUMA node": Text("-" if card.numa_node is None else f"{card.numa_node}"),
        "Features": _features(card),
        "Passthrough": _way_out(card),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def run_devices(machine, report=None):
    """Show all cards, write ``report`` (JSON) if given; return the exit status."""
    console = Console(width=min(WIDTH, Console().width), highlight=False)
    cards = list(filter(None, map(look, machine.functions())))
    for card in cards:
        show(card, console)
    if not cards:
        console.print(NONE, markup=False)
    if report is not None:
        write_json(report, {"cards": [asdict(card) for card in cards]})
    return 0
