"""What a comparison found: checked, as a table for people, as JSON for programs, and as a picture."""

from dataclasses import asdict

from rich.table import Table

__all__ = ["as_dict", "outside", "plot", "table"]

# What is compared, by the name of a field of :class:`~.devices.Expected`.
COLUMNS = {"ping": "a ping", "tcp_out": "a packet, TCP out", "tcp_in": "a packet, TCP in"}
SMALLEST = 0.01  # the picture's axis is logarithmic, and a device may have none


def figures(load):
    """Return the accesses of a ping and of a packet each way, by the names of ``COLUMNS``."""
    return {"ping": load.accesses_per_ping, "tcp_out": load.tcp_out.per_packet, "tcp_in": load.tcp_in.per_packet}


def interrupts(load):
    """Return the interrupts of the same."""
    return {"ping": load.interrupts_per_ping, "tcp_out": load.tcp_out.interrupts_per_packet,
            "tcp_in": load.tcp_in.interrupts_per_packet}


def outside(device, load):
    """Return a sentence for each figure that is not as expected of the device."""
    found = []
    for name, figure in figures(load).items():
        least, most = getattr(device.expected, name)
        if not least <= figure <= most:
            found.append(f"{device.name}: {figure:.2f} accesses {COLUMNS[name]}, not {least:g} to {most:g}")
    return found


def as_dict(device, load):
    """Return one device's results as JSON-able values."""
    def counted(one):
        return {**asdict(one), "accesses": one.accesses}
    return {"name": device.name, "way": device.way, "driver": load.driver, "tso": load.tso,
            "accesses": figures(load), "interrupts": interrupts(load), "expected": asdict(device.expected),
            "pings_a_round": load.pings, "transfer_bytes": load.transfer_bytes,
            "rounds": [counted(one) for one in load.rounds],
            "tcp_out": counted(load.tcp_out), "tcp_in": counted(load.tcp_in)}


def table(found):
    """Return the rich table of all devices' results."""
    table = Table(title="Accesses that leave the guest / interrupts")
    table.add_column("Device", style="bold")
    table.add_column("Way")
    for name in COLUMNS.values():
        table.add_column(name.replace(", ", ",\n"), justify="right")
    for one in found:
        table.add_row(one["name"], one["way"],
                      *(f"{one['accesses'][name]:.2f} / {one['interrupts'][name]:.2f}" for name in COLUMNS))
    return table


def plot(path, found):
    """Draw the accesses of all devices as bars into ``path`` (PNG, SVG or PDF)."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axis = pyplot.subplots(figsize=(9, 4.5))
    width = 0.8 / len(COLUMNS)
    for at, (name, title) in enumerate(COLUMNS.items()):
        values = [one["accesses"][name] for one in found]
        places = [number + (at - (len(COLUMNS) - 1) / 2) * width for number in range(len(found))]
        axis.bar(places, [max(value, SMALLEST) for value in values], width * 0.95, label=title)
        for place, value in zip(places, values):
            axis.text(place, max(value, SMALLEST) * 1.05, f"{value:.2f}" if value else "0", ha="center", va="bottom", fontsize=7)
    axis.set_yscale("log")
    axis.set_ylim(SMALLEST, 2 * max(value for one in found for value in (1, *one["accesses"].values())))
    axis.set_xticks(range(len(found)), [f"{one['name']}\n{one['way']}" for one in found], fontsize=8)
    axis.set_ylabel("accesses that leave the guest")
    axis.grid(axis="y", alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
