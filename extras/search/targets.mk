export TRIALS ?= 20
search: env-search  ## search the space of extras/search/search.yaml until TRIALS=n have finished, WORKERS=n at a time
	@$(COUNTED); $(BIN)/python extras/search/search.py --trials="$$TRIALS" --workers="$$WORKERS" $${STORAGE:+--storage="$$STORAGE"}
