bench: env-repro  ## measure speed (five to ten minutes; QUICK=1: two)
	@$(BIN)/python extras/benchmarks/bench.py $${QUICK:+--quick}
