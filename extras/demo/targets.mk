demo: env-repro  ## serve a page on which to draw digits, PORT=n (a browser elsewhere: ALLOW=host:port)
	@$(BIN)/python extras/demo/demo.py $${PORT:+--port="$$PORT"} $${ALLOW:+--allow="$$ALLOW"}
