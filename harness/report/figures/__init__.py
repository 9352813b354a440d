"""The report's figures as SVG, with the data behind them."""
