"""Containers from Python: `run`, `Popen`, their asyncio twins, `Sandbox`, and the launcher process behind them."""
