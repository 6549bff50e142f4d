demo: env-repro  ## serve a page on which to draw digits, PORT=n (a browser elsewhere: ALLOW=host:port)
	@$(BIN)/python extras/demo/demo.py $(if $(PORT),--port '$(PORT)') $(if $(ALLOW),--allow '$(ALLOW)')
