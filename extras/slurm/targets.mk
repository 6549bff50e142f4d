submit: env-repro  ## submit the queued experiments to SLURM, one job each (OPTIONS="--time=2:00:00 ...")
	@set -f; $(BIN)/python extras/slurm/submit.py $$OPTIONS
