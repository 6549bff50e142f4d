push: env-push  ## push the cache and the files of all runs to DVC's default remote
	@$(BIN)/python extras/push/push.py
