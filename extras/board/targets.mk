board: env-board  ## watch runs in TensorBoard, PORT=n
	@$(BIN)/python extras/board/board.py $${PORT:+--port="$$PORT"}
