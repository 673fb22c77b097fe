"""What tests are built from. A unit test takes a component, drives its inputs, and compares what comes out:

    def test_pairs_are_added(stage):                             # fixture of tests/hdl: a MemoryBench with this test's seed
        bench = stage(Adder(), pause=0.3)                        # 30 % idle cycles at every stream that the bench drives
        sums = Scoreboard()
        bench.background(bench.collect_into, bench.dut.o, sums.got)  # or got = bench.collect(bench.dut.o): a list
        async def testbench(ctx):
            for a, b in PAIRS:
                sums.expect(a + b)
                await bench.send(ctx, bench.dut.i, {"a": a, "b": b})
            await bench.until(ctx, sums.empty)
        bench.run(testbench)                                     # ends with the testbench; fails if it takes too long

Every output stream of the component is watched without being asked for: an offer stays, unchanged, until it is taken. Host
memory (``bench.memory``; ``serve_reads`` and ``serve_writes`` for DMA ports) begins with random content. :mod:`.simulation` has
the simulator, :mod:`.streams` what drives and watches streams, :mod:`.memory` host memory, :mod:`.tlps` TLPs as bytes,
:mod:`.scoreboard` the comparison, and :mod:`.card` what tests of whole cards share.
"""
