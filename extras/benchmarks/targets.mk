bench: env-repro  ## measure speed (half an hour; QUICK=1: two to five minutes)
	@$(BIN)/python extras/benchmarks/bench.py $(if $(QUICK),--quick)
