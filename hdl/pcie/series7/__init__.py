"""The card behind the PCI Express block of 7-series FPGAs: its streams, and the configuration that it keeps.

What the block does is as PG054 "7 Series FPGAs Integrated Block for PCI Express" describes it; where that leaves something open,
a comment says that it is our reading. Nobody has seen it on a board yet.
"""
