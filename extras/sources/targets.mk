# The original site has answered 403, 404 and 503 for years at a time.
sources: env-repro  ## download every dataset from each of its sources
	@$(BIN)/python extras/sources/check_sources.py --may-fail http://yann.lecun.com/exdb/mnist/

weekly:: sources
